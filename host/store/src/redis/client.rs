//! Calls to Redis: on shared connections, each with a deadline, none while it is down.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::{
    Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture, ScriptInvocation, ServerErrorKind,
    Value, pipe,
};
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;
use weir_semantics::Timestamp;

use super::cluster::Cluster;
use super::config::{ConfigError, RedisConfig, Servers};
use super::connect::Connector;
use super::error::CallError;
use super::link::Link;
use super::node::{Node, Place, Request};
use super::pool::Lane;
use super::sentinel::{self, Sentinels};
use super::slots;
use super::state::RedisState;
use super::stats::{PoolState, RedisStats};
use crate::Clock;

/// How often a call follows the nodes of a cluster from one to the next.
const REDIRECTIONS: usize = 3;

/// The servers, their breakers and the counters. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    /// Set once, at the start: the servers' tasks know the client.
    servers: OnceLock<Reach>,
    /// Where in a cluster the log is.
    log_slot: u16,
    stats: RedisStats,
    clock: Clock,
    deadline: Duration,
    background: Duration,
    /// Whether the log can be reached: what waits for Redis watches it.
    up: watch::Sender<bool>,
    /// Changes when the log is to be looked for anew, though a connection to it may stand.
    home: watch::Sender<u64>,
}

#[derive(Debug)]
enum Reach {
    One(Arc<Node>),
    Cluster(Arc<Cluster>),
}

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A request waits for it.
    Request,
    /// Nobody does, or somebody who rather waits than is told no.
    Background,
}

/// Until when a call may last, and how long that was.
#[derive(Clone, Copy, Debug)]
struct Limit {
    lane: Lane,
    end: Instant,
    limit: Duration,
}

impl Client {
    /// Connects in the background; works, without Redis, at once. `log` is one of the
    /// log's keys.
    pub(super) fn start(
        config: &RedisConfig,
        log: &str,
        clock: &Clock,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let client = Self(Arc::new(Inner {
            servers: OnceLock::new(),
            log_slot: slots::slot(log.as_bytes()),
            stats: RedisStats::default(),
            clock: clock.clone(),
            deadline: config.deadline,
            background: config.background_deadline,
            up: watch::Sender::new(false),
            home: watch::Sender::new(0),
        }));
        let one = |place| {
            let tls = config.tls.as_ref();
            let connector = Connector::new(&config.login, config.database, tls, config.protocol);
            let weak = client.downgrade();
            Reach::One(Node::start(place, connector, config, clock.clone(), &weak))
        };
        let reach = match &config.servers {
            Servers::Single(endpoint) => one(Place::Fixed(endpoint.clone())),
            Servers::Sentinel(sentinel) => {
                let sentinels = Arc::new(Sentinels::new(sentinel));
                client.watch_sentinels(&sentinels);
                one(Place::Sentinels(sentinels))
            }
            Servers::Cluster(seeds) => {
                let weak = client.downgrade();
                Reach::Cluster(Cluster::start(seeds, config, clock.clone(), &weak))
            }
        };
        // Nobody else sets it.
        let _ = client.0.servers.set(reach);
        client.reckon();
        Ok(client)
    }

    /// Leaves a master that the sentinels have replaced.
    fn watch_sentinels(&self, sentinels: &Arc<Sentinels>) {
        let client = self.downgrade();
        let told = move |changed| {
            let Some(client) = Self::upgrade(&client) else {
                return false;
            };
            if let (true, Some(Reach::One(node))) = (changed, client.0.servers.get()) {
                tracing::info!(server = node.name(), "the sentinels name another master");
                node.pool.discard_all();
                client.rehome();
            }
            true
        };
        tokio::spawn(sentinel::watch(Arc::clone(sentinels), told));
    }

    pub(super) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    pub(super) fn upgrade(inner: &Weak<Inner>) -> Option<Self> {
        inner.upgrade().map(Self)
    }

    pub(crate) fn stats(&self) -> &RedisStats {
        &self.0.stats
    }

    /// Whether the log can be reached.
    pub(super) fn state(&self) -> RedisState {
        match (self.home(), self.0.servers.get()) {
            (Some(home), _) => home.state(),
            (None, Some(Reach::Cluster(cluster))) => cluster.trouble(),
            (None, _) => RedisState::Down {
                since: self.now(),
                reason: "it has not been looked for yet".into(),
            },
        }
    }

    pub(super) fn pool_state(&self) -> PoolState {
        let nodes = match self.0.servers.get() {
            Some(Reach::One(node)) => vec![Arc::clone(node)],
            Some(Reach::Cluster(cluster)) => cluster.nodes(),
            None => Vec::new(),
        };
        let mut sum = PoolState {
            connections: 0,
            idle: 0,
        };
        for node in nodes {
            let state = node.pool.state();
            sum.connections += state.connections;
            sum.idle += state.idle;
        }
        sum
    }

    /// Tells whether the log can be reached, and when that changes.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.0.up.subscribe()
    }

    /// Tells when the log is to be looked for anew.
    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.0.home.subscribe()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// How long a request waits for one call.
    pub(super) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    /// How long anything else does.
    pub(super) fn background(&self) -> Duration {
        self.0.background
    }

    /// Whether different keys can be on different servers: then no pipeline reads one
    /// before the other.
    pub(super) fn scattered(&self) -> bool {
        matches!(self.0.servers.get(), Some(Reach::Cluster(_)))
    }

    /// A connection of one's own to where the log is, for blocking reads.
    pub(super) async fn dedicated(&self) -> Result<Link, CallError> {
        let home = self.home().ok_or(CallError::Down)?;
        let opened = home.open().await;
        if opened.is_err() {
            self.doubt();
        }
        opened
    }

    /// The server that has the log.
    fn home(&self) -> Option<Arc<Node>> {
        match self.0.servers.get()? {
            Reach::One(node) => Some(Arc::clone(node)),
            Reach::Cluster(cluster) => cluster.owner(self.0.log_slot),
        }
    }

    /// Finds out again whether the log can be reached, and where.
    pub(super) fn reckon(&self) {
        settle(&self.0.up, || {
            let home = self.home();
            home.is_some_and(|home| home.guard.enter().is_some())
        });
    }

    /// A server is well again.
    pub(super) fn back(&self, node: &Arc<Node>) {
        self.reckon();
        if self.home().is_some_and(|home| Arc::ptr_eq(&home, node)) {
            self.rehome();
        }
    }

    fn rehome(&self) {
        self.0.home.send_modify(|moves| *moves += 1);
    }

    /// Something is wrong with where the servers are thought to be.
    pub(super) fn doubt(&self) {
        if let Some(Reach::Cluster(cluster)) = self.0.servers.get() {
            cluster.doubt();
        }
    }

    pub(crate) async fn command<T: FromRedisValue>(
        &self,
        command: &Cmd,
        patience: Patience,
    ) -> Result<T, CallError> {
        let answer = match self.owner(slots::key(command)) {
            Ok(node) => self.follow(node, command, self.limit(patience)).await,
            Err(error) => Err(error),
        };
        self.counted(answer.and_then(|(value, _)| {
            let value = value.extract_error()?;
            ::redis::from_redis_value(value).map_err(|error| RedisError::from(error).into())
        }))
    }

    /// In a cluster the commands may go to several nodes, each with its own in order.
    pub(crate) async fn pipeline<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
        patience: Patience,
    ) -> Result<T, CallError> {
        let mut stand_in = self.stand_in(patience);
        let answer = pipeline.query_async(&mut stand_in).await;
        self.counted(answer.map_err(|error| stand_in.failed.unwrap_or_else(|| error.into())))
    }

    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
        patience: Patience,
    ) -> Result<T, CallError> {
        let mut stand_in = self.stand_in(patience);
        let answer = script.invoke_async(&mut stand_in).await;
        self.counted(answer.map_err(|error| stand_in.failed.unwrap_or_else(|| error.into())))
    }

    fn limit(&self, patience: Patience) -> Limit {
        let (lane, limit) = match patience {
            Patience::Request => (Lane::Request, self.0.deadline),
            Patience::Background => (Lane::Background, self.0.background),
        };
        Limit {
            lane,
            end: Instant::now() + limit,
            limit,
        }
    }

    fn stand_in(&self, patience: Patience) -> StandIn<'_> {
        StandIn {
            client: self,
            limit: self.limit(patience),
            node: None,
            failed: None,
        }
    }

    /// The server for a key; the one that has the log where there is no key.
    fn owner(&self, key: Option<&[u8]>) -> Result<Arc<Node>, CallError> {
        let owner = match (self.0.servers.get(), key) {
            (Some(Reach::Cluster(cluster)), Some(key)) => cluster.owner(slots::slot(key)),
            _ => self.home(),
        };
        owner.ok_or(CallError::Down)
    }

    /// One command, wherever the nodes send it. Also says which one answered.
    async fn follow(
        &self,
        mut node: Arc<Node>,
        command: &Cmd,
        limit: Limit,
    ) -> Result<(Value, Arc<Node>), CallError> {
        let mut request = Request::Command(command);
        let mut redirections = 0;
        loop {
            let value = self.exchange(&node, request, limit).await?;
            let Some((next, ask)) = self.redirected(&value) else {
                return Ok((value, node));
            };
            if redirections == REDIRECTIONS {
                return Ok((value, node));
            }
            redirections += 1;
            node = next;
            request = match ask {
                true => Request::Asking(command),
                false => Request::Command(command),
            };
        }
    }

    fn redirected(&self, value: &Value) -> Option<(Arc<Node>, bool)> {
        match self.0.servers.get() {
            Some(Reach::Cluster(cluster)) => cluster.redirected(value),
            _ => None,
        }
    }

    /// Many commands, each node's together.
    async fn spread(&self, pipeline: &Pipeline, limit: Limit) -> Result<Vec<Value>, CallError> {
        if !self.scattered() {
            let home = self.owner(None)?;
            let replies = self
                .exchange(&home, Request::Pipeline(pipeline), limit)
                .await?;
            return Ok(listed(replies));
        }
        let mut parts: Vec<(Arc<Node>, Pipeline, Vec<usize>)> = Vec::new();
        for (at, command) in pipeline.cmd_iter().enumerate() {
            let node = self.owner(slots::key(command))?;
            let known = parts
                .iter()
                .position(|(other, ..)| Arc::ptr_eq(other, &node));
            let part = known.unwrap_or_else(|| {
                parts.push((node, pipe(), Vec::new()));
                parts.len() - 1
            });
            parts[part].1.add_command(command.clone());
            parts[part].2.push(at);
        }
        let answers = join_all(
            parts
                .iter()
                .map(|(node, part, _)| self.exchange(node, Request::Pipeline(part), limit)),
        );
        let mut replies = vec![Value::Nil; pipeline.len()];
        for (answer, (_, part, places)) in answers.await.into_iter().zip(&parts) {
            let answers = listed(answer?).into_iter();
            for ((reply, command), at) in answers.zip(part.cmd_iter()).zip(places) {
                // Those that were sent elsewhere are asked again, and they alone.
                replies[*at] = match self.redirected(&reply) {
                    None => reply,
                    Some((next, false)) => self.follow(next, command, limit).await?.0,
                    Some((next, true)) => {
                        self.exchange(&next, Request::Asking(command), limit)
                            .await?
                    }
                };
            }
        }
        Ok(replies)
    }

    /// One exchange with one server, if its breaker lets it pass.
    async fn exchange(
        &self,
        node: &Arc<Node>,
        request: Request<'_>,
        limit: Limit,
    ) -> Result<Value, CallError> {
        let ticket = node.guard.enter().ok_or(CallError::Down)?;
        let within = (limit.end, limit.limit);
        let answer = node.exchange(request, limit.lane, within).await;
        let trouble = match &answer {
            Ok(value) => self.trouble(value),
            Err(error) => error.counts_against_redis().then(|| error.clone()),
        };
        let Some(error) = trouble else {
            node.guard.succeeded();
            return answer;
        };
        self.doubt();
        node.failed(ticket, &error, self);
        Err(error)
    }

    /// What a reply says of its server, rather than of the call.
    fn trouble(&self, reply: &Value) -> Option<CallError> {
        let error = match reply {
            Value::ServerError(error) => error,
            Value::Array(replies) => return replies.iter().find_map(|it| self.trouble(it)),
            _ => return None,
        };
        let redirects = matches!(
            error.kind(),
            Some(ServerErrorKind::Moved | ServerErrorKind::Ask)
        );
        if redirects && self.scattered() {
            return None;
        }
        let error = CallError::from(RedisError::from(error.clone()));
        error.counts_against_redis().then_some(error)
    }

    fn counted<T>(&self, answer: Result<T, CallError>) -> Result<T, CallError> {
        if let Err(error) = &answer {
            let stats = &self.0.stats;
            match error {
                CallError::Down => stats.skipped.one(),
                CallError::Deadline(_) => stats.timeouts.one(),
                CallError::Connection(_) => stats.connection_errors.one(),
                CallError::NotReady(_) => stats.not_ready.one(),
                CallError::Setup(_) | CallError::Refused(_) => stats.refused.one(),
            }
        }
        answer
    }
}

/// Tells what holds now. Of several who ask at the same time the last one is told last:
/// asked outside of the lock, an answer from before would be told after it, and stay.
fn settle(told: &watch::Sender<bool>, holds: impl FnOnce() -> bool) {
    told.send_if_modified(|was| {
        let now = holds();
        std::mem::replace(was, now) != now
    });
}

/// The replies of a pipeline.
fn listed(replies: Value) -> Vec<Value> {
    match replies {
        Value::Array(replies) => replies,
        other => vec![other],
    }
}

/// Stands in for a connection where the library asks for one.
struct StandIn<'a> {
    client: &'a Client,
    limit: Limit,
    /// The server that answered last: a script is loaded where it was missing.
    node: Option<Arc<Node>>,
    /// The library has errors of its own.
    failed: Option<CallError>,
}

impl StandIn<'_> {
    fn failed(&mut self, error: CallError) -> RedisError {
        self.failed = Some(error);
        RedisError::from(std::io::Error::other("the call failed"))
    }
}

impl ConnectionLike for StandIn<'_> {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let node = match (slots::key(command), &self.node) {
                (None, Some(node)) => Ok(Arc::clone(node)),
                (key, _) => self.client.owner(key),
            };
            let answer = match node {
                Ok(node) => self.client.follow(node, command, self.limit).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok((value, node)) => {
                    self.node = Some(node);
                    Ok(value)
                }
                Err(error) => Err(self.failed(error)),
            }
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let replies = self.client.spread(pipeline, self.limit).await;
            replies.map_err(|error| self.failed(error))
        })
    }

    fn get_db(&self) -> i64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// A node once waited for ever for a Redis that answered: at its start one had asked
    /// just before, and told just after.
    #[test]
    fn what_holds_last_is_told_last() {
        let (told, holds) = (watch::Sender::new(false), AtomicBool::new(false));
        let (asked, wait) = mpsc::channel();
        let (overtook, overtaken) = mpsc::channel();
        thread::scope(|scope| {
            let (told, holds) = (&told, &holds);
            scope.spawn(move || {
                wait.recv().expect("the other asks");
                holds.store(true, Ordering::Release);
                settle(told, || holds.load(Ordering::Acquire));
                // The other may be gone.
                let _ = overtook.send(());
            });
            settle(told, || {
                let before = holds.load(Ordering::Acquire);
                asked.send(()).expect("the other waits");
                // Time to overtake, for who can.
                let _ = overtaken.recv_timeout(Duration::from_millis(50));
                before
            });
        });
        assert!(*told.borrow());
    }
}
