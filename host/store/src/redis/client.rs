//! Calls to Redis: pooled, each with a deadline, none while Redis is down.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, FromRedisValue, Pipeline, RedisError, ScriptInvocation, Value};
use tokio::sync::watch;
use tokio::time::timeout;
use weir_semantics::Timestamp;

use super::breaker::{Backoff, Guard};
use super::config::{ConfigError, RedisConfig};
use super::error::CallError;
use super::pool::{Connection, Manager};
use super::state::RedisState;
use super::stats::{PoolState, RedisStats};
use crate::Clock;

/// The pool, its breaker and its counters. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: bb8::Pool<Manager>,
    manager: Manager,
    guard: Guard,
    stats: RedisStats,
    clock: Clock,
    deadline: Duration,
    background: Duration,
}

/// What is sent in one go.
#[derive(Clone, Copy)]
enum Request<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
    Script(&'a ScriptInvocation<'a>),
}

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A request waits for it.
    Request,
    /// Nobody does, or somebody who rather waits than is told no.
    Background,
}

impl Client {
    /// Connects in the background; works, without Redis, at once.
    pub(super) fn start(config: &RedisConfig, clock: Clock) -> Result<Self, ConfigError> {
        let manager = Manager::new(config.client()?);
        let pool = bb8::Pool::builder()
            .max_size(config.pool_size)
            .min_idle(config.min_idle)
            .test_on_check_out(false)
            // Whoever waits has a deadline of its own; the prober waits for Redis.
            .retry_connection(false)
            .connection_timeout(config.background_deadline)
            .build_unchecked(manager.clone());
        let client = Self(Arc::new(Inner {
            pool,
            manager,
            guard: Guard::new(config.failures, clock.now()),
            stats: RedisStats::default(),
            clock,
            deadline: config.deadline,
            background: config.background_deadline,
        }));
        tokio::spawn(client.clone().probe());
        Ok(client)
    }

    pub(crate) fn stats(&self) -> &RedisStats {
        &self.0.stats
    }

    pub(super) fn state(&self) -> RedisState {
        self.0.guard.state()
    }

    pub(super) fn pool_state(&self) -> PoolState {
        let state = self.0.pool.state();
        PoolState {
            connections: state.connections,
            idle: state.idle_connections,
        }
    }

    /// Tells whether calls are tried, and when that changes.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.0.guard.watch()
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

    /// A connection outside the pool, for blocking reads.
    pub(super) async fn dedicated(&self) -> Result<MultiplexedConnection, CallError> {
        Ok(self.0.manager.dedicated().await?)
    }

    pub(crate) async fn command<T: FromRedisValue>(
        &self,
        command: &Cmd,
        patience: Patience,
    ) -> Result<T, CallError> {
        self.call(Request::Command(command), patience).await
    }

    pub(crate) async fn pipeline<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
        patience: Patience,
    ) -> Result<T, CallError> {
        self.call(Request::Pipeline(pipeline), patience).await
    }

    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
        patience: Patience,
    ) -> Result<T, CallError> {
        self.call(Request::Script(script), patience).await
    }

    async fn call<T: FromRedisValue>(
        &self,
        request: Request<'_>,
        patience: Patience,
    ) -> Result<T, CallError> {
        let Some(ticket) = self.0.guard.enter() else {
            self.0.stats.skipped.one();
            return Err(CallError::Down);
        };
        let limit = match patience {
            Patience::Request => self.0.deadline,
            Patience::Background => self.0.background,
        };
        let answer = self.exchange(request, limit).await.and_then(|value| {
            ::redis::from_redis_value(value).map_err(|e| RedisError::from(e).into())
        });
        match &answer {
            Ok(_) | Err(CallError::Refused(_)) => self.0.guard.succeeded(),
            Err(_) => {}
        }
        if let Err(error) = &answer {
            self.count(error);
            if error.counts_against_redis()
                && self.0.guard.failed(ticket, self.now(), &error.to_string())
            {
                tracing::warn!(%error, "Redis counts as down");
                self.0.stats.opened.one();
                tokio::spawn(self.clone().probe());
            }
        }
        answer
    }

    /// One exchange, the wait for a connection included.
    async fn exchange(&self, request: Request<'_>, limit: Duration) -> Result<Value, CallError> {
        let end = tokio::time::Instant::now() + limit;
        let late = |_| CallError::Deadline(limit);
        let mut connection = loop {
            let connection = match tokio::time::timeout_at(end, self.0.pool.get()).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(bb8::RunError::User(error))) => return Err(error.into()),
                Ok(Err(bb8::RunError::TimedOut)) | Err(_) => {
                    return Err(CallError::Deadline(limit));
                }
            };
            // Dropping it here lets the pool see that it is outdated, and close it.
            if !self.0.manager.outdated(&connection) {
                break connection;
            }
        };
        let answer = tokio::time::timeout_at(end, send(&mut connection, request)).await;
        let answer = answer
            .map_err(late)
            .and_then(|sent| sent.map_err(CallError::from));
        if let Err(error) = &answer
            && error.breaks_connection()
        {
            connection.discard();
            if matches!(error, CallError::Connection(_)) {
                self.0.manager.outdate_with(&connection);
            }
        }
        answer
    }

    fn count(&self, error: &CallError) {
        let stats = &self.0.stats;
        match error {
            CallError::Down => stats.skipped.one(),
            CallError::Deadline(_) => stats.timeouts.one(),
            CallError::Connection(_) => stats.connection_errors.one(),
            CallError::NotReady(_) => stats.not_ready.one(),
            CallError::Refused(_) => stats.refused.one(),
        }
    }

    /// Asks until Redis answers in time, then closes the breaker.
    async fn probe(self) {
        let mut backoff = Backoff::new();
        loop {
            self.0.guard.probing();
            match self.ping().await {
                Ok(()) => break,
                Err(error) => self.0.guard.probe_failed(error.to_string()),
            }
            // Nobody is left to ask for, but this task.
            if Arc::strong_count(&self.0) == 1 {
                return;
            }
            tokio::time::sleep(backoff.next()).await;
        }
        // Connections from before may hang, or wait for answers that nobody wants.
        self.0.manager.outdate_all();
        self.0.guard.close();
        tracing::info!("Redis answers");
    }

    /// A PING on a connection of its own, both within the deadlines that calls have.
    async fn ping(&self) -> Result<(), CallError> {
        let mut link = timeout(self.0.background, self.dedicated())
            .await
            .map_err(|_| CallError::Deadline(self.0.background))??;
        let ping = ::redis::cmd("PING");
        let answer: Result<Result<Value, RedisError>, _> =
            timeout(self.0.deadline, ping.query_async(&mut link)).await;
        answer.map_err(|_| CallError::Deadline(self.0.deadline))??;
        Ok(())
    }
}

async fn send(connection: &mut Connection, request: Request<'_>) -> Result<Value, RedisError> {
    let link = &mut connection.link;
    match request {
        Request::Command(command) => command.query_async(link).await,
        Request::Pipeline(pipeline) => pipeline.query_async(link).await,
        Request::Script(script) => script.invoke_async(link).await,
    }
}
