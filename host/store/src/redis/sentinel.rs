//! The sentinels: asked who the master is.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{RedisError, cmd};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::config::{Endpoint, Protocol, SentinelConfig};
use super::connect::Connector;
use super::error::CallError;
use super::link::Link;

/// How long one sentinel may take to answer.
const ANSWER: Duration = Duration::from_millis(300);

/// The sentinels, and who they last said is the master.
#[derive(Debug)]
pub(super) struct Sentinels {
    sentinels: Vec<Sentinel>,
    service: String,
    connector: Connector,
    master: Mutex<Option<Endpoint>>,
}

#[derive(Debug)]
struct Sentinel {
    endpoint: Endpoint,
    /// Kept: they are asked often.
    link: tokio::sync::Mutex<Option<Link>>,
}

impl Sentinels {
    pub(super) fn new(config: &SentinelConfig) -> Self {
        let sentinel = |endpoint: &Endpoint| Sentinel {
            endpoint: endpoint.clone(),
            link: tokio::sync::Mutex::new(None),
        };
        Self {
            sentinels: config.servers.iter().map(sentinel).collect(),
            service: config.service.clone(),
            // They know little of RESP3, and it has nothing that helps here.
            connector: Connector::new(&config.login, 0, config.tls.as_ref(), Protocol::Resp2),
            master: Mutex::default(),
        }
    }

    /// Names the master, for messages.
    pub(super) fn name(&self) -> String {
        match &*self.master.lock() {
            Some(master) => format!("{} ({master})", self.service),
            None => self.service.clone(),
        }
    }

    /// The master, as known, or as they say now.
    pub(super) async fn master(&self) -> Result<Endpoint, CallError> {
        let known = self.master.lock().clone();
        match known {
            Some(known) => Ok(known),
            None => {
                let named = self.ask().await?;
                *self.master.lock() = Some(named.clone());
                Ok(named)
            }
        }
    }

    /// They are asked before the master is used again.
    pub(super) fn doubt(&self) {
        *self.master.lock() = None;
    }

    /// Asks them. Whether they name another master than the one that is known.
    pub(super) async fn changed(&self) -> bool {
        let Ok(named) = self.ask().await else {
            return false;
        };
        let mut known = self.master.lock();
        // Without one the next connection asks.
        let changed = known.as_ref().is_some_and(|known| *known != named);
        if changed {
            *known = Some(named);
        }
        changed
    }

    /// Asks all of them at once, and believes what most say: one that was cut off may
    /// still name a master of before.
    async fn ask(&self) -> Result<Endpoint, CallError> {
        let mut asked: FuturesUnordered<_> =
            self.sentinels.iter().map(|one| self.ask_one(one)).collect();
        let mut votes: Vec<(Endpoint, usize)> = Vec::new();
        let (mut unknown, mut failed) = (None, None);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(Some(master)) => {
                    let at = votes.iter().position(|(named, _)| *named == master);
                    let at = at.unwrap_or_else(|| {
                        votes.push((master, 0));
                        votes.len() - 1
                    });
                    votes[at].1 += 1;
                    if votes[at].1 * 2 > self.sentinels.len() {
                        break;
                    }
                }
                Ok(None) => unknown = Some(self.unknown()),
                Err(error) => failed = Some(error),
            }
        }
        let most = votes.into_iter().max_by_key(|(_, count)| *count);
        match most {
            Some((master, _)) => Ok(master),
            None => Err(unknown.or(failed).unwrap_or_else(|| self.unknown())),
        }
    }

    fn unknown(&self) -> CallError {
        CallError::Setup(format!(
            "no sentinel knows a master called {:?}; check redis.sentinel.service",
            self.service
        ))
    }

    async fn ask_one(&self, sentinel: &Sentinel) -> Result<Option<Endpoint>, CallError> {
        let mut kept = sentinel.link.lock().await;
        let link = match kept.take().filter(|link| !link.closed()) {
            Some(link) => link,
            None => {
                let opened = timeout(ANSWER, self.connector.open(&sentinel.endpoint)).await;
                opened
                    .map_err(|_| CallError::Deadline(ANSWER))?
                    .map_err(CallError::of_sentinel)?
            }
        };
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let mut connection = link.connection();
        let answer = timeout(ANSWER, command.query_async(&mut connection)).await;
        let answer: Result<Option<(String, u16)>, RedisError> =
            answer.map_err(|_| CallError::Deadline(ANSWER))?;
        match answer {
            Ok(named) => {
                *kept = Some(link);
                Ok(named.map(|(host, port)| Endpoint::tcp(host, port)))
            }
            Err(error) if error.to_string().contains("unknown command") => {
                Err(CallError::Setup(format!(
                    "{} is not a sentinel; check redis.sentinel.servers",
                    sentinel.endpoint
                )))
            }
            Err(error) => Err(CallError::from(error).of_sentinel()),
        }
    }
}

/// How often they are asked while all is well: a master that was cut off, and replaced,
/// still answers, but what it takes is lost.
pub(super) const WATCH: Duration = Duration::from_secs(1);

/// Asks again and again, while there is anyone to tell.
pub(super) async fn watch(sentinels: Arc<Sentinels>, mut changed: impl FnMut(bool) -> bool) {
    loop {
        tokio::time::sleep(WATCH.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        let differs = sentinels.changed().await;
        if !changed(differs) {
            return;
        }
    }
}
