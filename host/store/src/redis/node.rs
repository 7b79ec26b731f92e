//! One server: its connections, its breaker, and the one who asks whether it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ServerErrorKind, Value, cmd, pipe,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::breaker::{Backoff, Guard};
use super::client::{Client, Inner};
use super::config::{Endpoint, RedisConfig};
use super::connect::Connector;
use super::error::CallError;
use super::link::Link;
use super::pool::{Lane, Pool};
use super::sentinel::Sentinels;
use super::state::RedisState;
use crate::Clock;

/// How often a server's connections are looked after.
const TEND: Duration = Duration::from_secs(1);

/// A server that calls go to.
#[derive(Debug)]
pub(super) struct Node {
    place: Place,
    connector: Connector,
    pub(super) pool: Pool,
    pub(super) guard: Guard,
    clock: Clock,
    deadline: Duration,
    /// It is no part of the cluster any more.
    gone: AtomicBool,
}

/// Where the server is found.
#[derive(Debug)]
pub(super) enum Place {
    Fixed(Endpoint),
    /// Where the sentinels say.
    Sentinels(Arc<Sentinels>),
    /// A master of a cluster.
    Cluster(Endpoint),
}

/// What is sent in one go.
#[derive(Clone, Copy)]
pub(super) enum Request<'a> {
    Command(&'a Cmd),
    /// All replies, errors among them, as an array.
    Pipeline(&'a Pipeline),
    /// A command to a node that is taking its slot over.
    Asking(&'a Cmd),
}

impl Node {
    /// Its breaker is open until the prober has found it well.
    pub(super) fn start(
        place: Place,
        connector: Connector,
        config: &RedisConfig,
        clock: Clock,
        client: &Weak<Inner>,
    ) -> Arc<Self> {
        let node = Arc::new(Self {
            place,
            connector,
            pool: Pool::new(config.pool_size, config.min_idle),
            guard: Guard::new(config.failures, clock.now()),
            clock,
            deadline: config.deadline,
            gone: AtomicBool::new(false),
        });
        tokio::spawn(keep(Arc::downgrade(&node)));
        node.probe(client);
        node
    }

    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        match &self.place {
            Place::Fixed(endpoint) | Place::Cluster(endpoint) => Some(endpoint),
            Place::Sentinels(_) => None,
        }
    }

    /// Its tasks end; calls under way may still be answered.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Release);
        self.pool.discard_all();
    }

    pub(super) fn state(&self) -> RedisState {
        self.guard.state()
    }

    /// A connection outside the pool.
    pub(super) async fn open(&self) -> Result<Link, CallError> {
        match &self.place {
            Place::Fixed(endpoint) | Place::Cluster(endpoint) => {
                self.connector.open(endpoint).await
            }
            Place::Sentinels(sentinels) => {
                let endpoint = sentinels.master().await?;
                let opened = self.connector.open(&endpoint).await;
                if opened.is_err() {
                    sentinels.doubt();
                }
                opened
            }
        }
    }

    /// One exchange, the wait for a connection included. A connection on which nothing at
    /// all was answered meanwhile counts as hung; else it is this one answer that is late.
    pub(super) async fn exchange(
        &self,
        request: Request<'_>,
        lane: Lane,
        (end, limit): (Instant, Duration),
    ) -> Result<Value, CallError> {
        let late = || CallError::Deadline(limit);
        let link = timeout_at(end, self.pool.take(lane)).await;
        let link = link.map_err(|_| late())??;
        let began = Instant::now();
        let using = link.enter();
        let sent = timeout_at(end, send(&link, request)).await;
        drop(using);
        match sent {
            Ok(Ok(value)) => {
                link.answered();
                Ok(value)
            }
            Ok(Err(error)) => {
                self.pool.discard(&link);
                Err(error.into())
            }
            Err(_) => {
                if !link.answered_since(began) {
                    self.pool.discard(&link);
                }
                Err(late())
            }
        }
    }

    /// Counts a failure. The breaker may open, and then the prober starts.
    pub(super) fn failed(self: &Arc<Self>, ticket: u64, error: &CallError, client: &Client) {
        if let (CallError::NotReady(_), Place::Sentinels(sentinels)) = (error, &self.place) {
            // It is another one's turn to be master.
            sentinels.doubt();
            self.pool.discard_all();
        }
        if !self
            .guard
            .failed(ticket, self.clock.now(), &error.to_string())
        {
            return;
        }
        tracing::warn!(%error, server = self.name(), "Redis counts as down");
        client.stats().opened.one();
        client.reckon();
        self.probe(&client.downgrade());
    }

    pub(super) fn name(&self) -> String {
        match &self.place {
            Place::Fixed(endpoint) | Place::Cluster(endpoint) => endpoint.to_string(),
            Place::Sentinels(sentinels) => sentinels.name(),
        }
    }

    /// Asks until the server is well, then closes the breaker.
    fn probe(self: &Arc<Self>, client: &Weak<Inner>) {
        let (node, client) = (Arc::clone(self), Weak::clone(client));
        tokio::spawn(async move {
            let mut backoff = Backoff::new();
            let mut told = String::new();
            loop {
                node.guard.probing();
                match node.ask().await {
                    Ok(link) => {
                        // Connections from before may hang, or wait for answers that
                        // nobody wants.
                        node.pool.discard_all();
                        node.pool.add(Ok(link));
                        node.pool.want();
                        node.guard.close();
                        tracing::info!(server = node.name(), "Redis answers");
                        if let Some(client) = Client::upgrade(&client) {
                            client.back(&node);
                        }
                        return;
                    }
                    Err(error) => {
                        let reason = error.to_string();
                        if reason != told {
                            tracing::warn!(server = node.name(), reason, "Redis cannot be used");
                            told.clone_from(&reason);
                        }
                        node.guard.probe_failed(reason);
                    }
                }
                // Nobody is left to ask for.
                let Some(client) = Client::upgrade(&client) else {
                    return;
                };
                if node.gone.load(Ordering::Acquire) {
                    return;
                }
                client.doubt();
                drop(client);
                tokio::time::sleep(backoff.next()).await;
            }
        });
    }

    /// Whether the server is well: answered on a connection of its own, within the
    /// deadlines that calls have.
    async fn ask(&self) -> Result<Link, CallError> {
        if let Place::Sentinels(sentinels) = &self.place {
            sentinels.doubt();
        }
        let link = self.open().await?;
        let mut ask = pipe();
        ask.cmd("PING").cmd("ROLE").cmd("INFO").arg("cluster");
        if matches!(self.place, Place::Cluster(_)) {
            ask.cmd("CLUSTER").arg("INFO");
        }
        let answers = timeout(self.deadline, send(&link, Request::Pipeline(&ask))).await;
        let answers = answers.map_err(|_| CallError::Deadline(self.deadline))??;
        link.answered();
        let Value::Array(answers) = answers else {
            return Ok(link);
        };
        self.judge(answers)?;
        Ok(link)
    }

    fn judge(&self, answers: Vec<Value>) -> Result<(), CallError> {
        let mut answers = answers.into_iter().map(Value::extract_error);
        answers.next().transpose()?;
        // Not every user or service may ask the rest; then nothing is known.
        let role = answers.next().and_then(Result::ok);
        let role = role.and_then(|role| Vec::<Value>::from_redis_value(role).ok());
        let role = role.and_then(|role| role.into_iter().next());
        let role = role.and_then(|role| String::from_redis_value(role).ok());
        let text = |answer: Option<Result<Value, RedisError>>| {
            String::from_redis_value(answer?.ok()?).ok()
        };
        let (info, cluster) = (text(answers.next()), text(answers.next()));
        match &self.place {
            _ if role.is_none_or(|role| role == "master") => {}
            Place::Fixed(endpoint) => {
                return Err(CallError::Setup(format!(
                    "Redis at {endpoint} is a replica; the log is written at the master, name \
                     that one with redis.url, or the sentinels with redis.sentinel"
                )));
            }
            Place::Sentinels(_) | Place::Cluster(_) => return Err(not_master()),
        }
        let in_cluster = info.is_some_and(|info| info.contains("cluster_enabled:1"));
        if in_cluster && !matches!(self.place, Place::Cluster(_)) {
            return Err(
                RedisError::from((ErrorKind::Server(ServerErrorKind::Moved), "MOVED")).into(),
            );
        }
        if cluster.is_some_and(|info| !info.contains("cluster_state:ok")) {
            return Err(CallError::NotReady(RedisError::from((
                ErrorKind::Server(ServerErrorKind::ClusterDown),
                "the cluster is not well: see CLUSTER INFO",
            ))));
        }
        Ok(())
    }
}

fn not_master() -> CallError {
    CallError::NotReady(RedisError::from((
        ErrorKind::Server(ServerErrorKind::ReadOnly),
        "the server is a replica now",
    )))
}

/// Opens connections when they are wanted, and closes them when they are not, while the
/// node is there.
async fn keep(node: Weak<Node>) {
    loop {
        let Some(this) = node.upgrade().filter(|it| !it.gone.load(Ordering::Acquire)) else {
            return;
        };
        while this.guard.enter().is_some() && this.pool.tend() {
            let opened = this.open().await;
            let failed = opened.is_err();
            this.pool.add(opened);
            if failed {
                break;
            }
        }
        let wanted = this.pool.wanted();
        drop(this);
        // Nothing wanted for a while is no error.
        let _ = timeout(TEND, wanted.notified()).await;
    }
}

async fn send(link: &Link, request: Request<'_>) -> Result<Value, RedisError> {
    let mut connection = link.connection();
    match request {
        Request::Command(command) => connection.send_packed_command(command).await,
        Request::Pipeline(pipeline) => {
            let replies = connection.send_packed_commands(pipeline, 0, pipeline.len());
            replies.await.map(Value::Array)
        }
        Request::Asking(command) => {
            let mut pipeline = pipe();
            pipeline
                .add_command(cmd("ASKING"))
                .add_command(command.clone());
            let replies = connection.send_packed_commands(&pipeline, 0, 2).await?;
            Ok(replies.into_iter().next_back().unwrap_or(Value::Nil))
        }
    }
}
