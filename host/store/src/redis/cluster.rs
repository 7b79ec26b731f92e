//! A Redis Cluster: which node has which slot, and whoever asks for that.
//!
//! Each master has a breaker and connections of its own, so that one that is down fails
//! the calls for its own slots at once, and no others. What the log says is needed for all
//! objects: while its slot has no master, Redis as a whole counts as down.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::{ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value, cmd};
use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::breaker::Backoff;
use super::client::{Client, Inner};
use super::config::{Endpoint, RedisConfig};
use super::connect::Connector;
use super::error::CallError;
use super::node::{Node, Place, Request};
use super::pool::Lane;
use super::slots::SLOTS;
use super::state::RedisState;
use crate::Clock;

/// How often the map is asked for while all is well: redirections tell of most changes.
const REFRESH: Duration = Duration::from_secs(5);

/// The shortest time from one map to the next.
const AT_MOST: Duration = Duration::from_millis(50);

/// What stands for no owner in the map.
const NOBODY: u16 = u16::MAX;

/// The nodes of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    seeds: Vec<Endpoint>,
    connector: Connector,
    config: RedisConfig,
    clock: Clock,
    client: Weak<Inner>,
    map: ArcSwap<Map>,
    /// Held by whoever changes the map.
    changing: Mutex<()>,
    doubted: Arc<Notify>,
    /// Why there is no map, while there is none.
    trouble: Mutex<RedisState>,
}

#[derive(Debug)]
struct Map {
    /// For each slot its place among the nodes.
    owners: Box<[u16]>,
    nodes: Vec<Arc<Node>>,
}

/// A stretch of slots, and its master.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: Endpoint,
}

impl Cluster {
    pub(super) fn start(
        seeds: &[Endpoint],
        config: &RedisConfig,
        clock: Clock,
        client: &Weak<Inner>,
    ) -> Arc<Self> {
        let login = &config.login;
        let cluster = Arc::new(Self {
            seeds: seeds.to_vec(),
            connector: Connector::new(login, 0, config.tls.as_ref(), config.protocol),
            config: config.clone(),
            client: Weak::clone(client),
            map: ArcSwap::from_pointee(Map::empty()),
            changing: Mutex::new(()),
            doubted: Arc::default(),
            trouble: Mutex::new(RedisState::Down {
                since: clock.now(),
                reason: "no node of the cluster has answered yet".into(),
            }),
            clock,
        });
        tokio::spawn(follow(Arc::downgrade(&cluster)));
        cluster
    }

    /// The master of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        let map = self.map.load();
        let at = *map.owners.get(usize::from(slot))?;
        map.nodes.get(usize::from(at)).cloned()
    }

    /// All masters.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.map.load().nodes.clone()
    }

    /// Why a slot has no master.
    pub(super) fn trouble(&self) -> RedisState {
        self.trouble.lock().clone()
    }

    /// The map is asked for at once.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Where a reply sends the one who asked, and whether only for this one call.
    pub(super) fn redirected(&self, reply: &Value) -> Option<(Arc<Node>, bool)> {
        let Value::ServerError(error) = reply else {
            return None;
        };
        let ask = match error.kind() {
            Some(ServerErrorKind::Ask) => true,
            Some(ServerErrorKind::Moved) => false,
            _ => return None,
        };
        let error = RedisError::from(error.clone());
        let (address, slot) = error.redirect_node()?;
        let endpoint = Endpoint::parse(address)?;
        // Behind an address translator a node may say no host: then the map tells.
        if matches!(&endpoint, Endpoint::Tcp { host, .. } if host.is_empty()) {
            self.doubt();
            return None;
        }
        if !ask {
            self.doubt();
        }
        Some((self.node(&endpoint, (!ask).then_some(slot)), ask))
    }

    /// The node at an endpoint, which from now on owns `slot`.
    fn node(&self, endpoint: &Endpoint, slot: Option<u16>) -> Arc<Node> {
        let changing = self.changing.lock();
        let map = self.map.load();
        let known = map
            .nodes
            .iter()
            .position(|it| it.endpoint() == Some(endpoint));
        let mut next = Map {
            owners: map.owners.clone(),
            nodes: map.nodes.clone(),
        };
        let at = known.unwrap_or_else(|| {
            next.nodes.push(self.begin(endpoint));
            next.nodes.len() - 1
        });
        let node = Arc::clone(&next.nodes[at]);
        if let Some(owner) = slot.and_then(|slot| next.owners.get_mut(usize::from(slot))) {
            *owner = u16::try_from(at).unwrap_or(NOBODY);
        }
        if slot.is_some() || known.is_none() {
            self.map.store(Arc::new(next));
        }
        drop(changing);
        if let Some(client) = Client::upgrade(&self.client) {
            client.reckon();
        }
        node
    }

    fn begin(&self, endpoint: &Endpoint) -> Arc<Node> {
        Node::start(
            Place::Cluster(endpoint.clone()),
            self.connector.clone(),
            &self.config,
            self.clock.clone(),
            &self.client,
        )
    }

    /// Asks for the map, and takes it. Whether every slot has a master that is well.
    async fn refresh(&self) -> bool {
        match self.ask().await {
            Ok(ranges) => self.take(&ranges),
            Err(error) => {
                let reason = error.to_string();
                if self.troubled(reason.clone()) {
                    tracing::warn!(reason, "the nodes of the cluster cannot be found out");
                }
                return false;
            }
        }
        let map = self.map.load();
        !map.owners.contains(&NOBODY) && map.nodes.iter().all(|it| it.guard.enter().is_some())
    }

    /// Keeps the reason why there is no master. Whether it is another one than before.
    fn troubled(&self, reason: String) -> bool {
        let mut trouble = self.trouble.lock();
        let same = matches!(&*trouble, RedisState::Down { reason: known, .. } if *known == reason);
        if !same {
            let since = self.clock.now();
            *trouble = RedisState::Down { since, reason };
        }
        !same
    }

    fn take(&self, ranges: &[Range]) {
        let changing = self.changing.lock();
        let old = self.map.load();
        let mut next = Map::empty();
        let mut places: HashMap<&Endpoint, u16> = HashMap::new();
        for range in ranges {
            let at = *places.entry(&range.master).or_insert_with(|| {
                let known = old
                    .nodes
                    .iter()
                    .find(|it| it.endpoint() == Some(&range.master));
                let node = known.map_or_else(|| self.begin(&range.master), Arc::clone);
                next.nodes.push(node);
                u16::try_from(next.nodes.len() - 1).unwrap_or(NOBODY)
            });
            let slots = usize::from(range.first)..=usize::from(range.last);
            if let Some(owners) = next.owners.get_mut(slots) {
                owners.fill(at);
            }
        }
        for node in &old.nodes {
            if !next.nodes.iter().any(|kept| Arc::ptr_eq(kept, node)) {
                node.leave();
            }
        }
        let same = next.owners == old.owners && next.nodes.len() == old.nodes.len();
        if !same {
            tracing::info!(masters = next.nodes.len(), "the cluster's slots are known");
        }
        self.map.store(Arc::new(next));
        drop(changing);
        self.troubled("the slot of the log has no master; see CLUSTER SLOTS".into());
        if let Some(client) = Client::upgrade(&self.client) {
            client.reckon();
        }
    }

    /// The map, from whoever answers: first the masters that are well, one by one, since
    /// connections to them are there; then all nodes that were ever named, at once.
    async fn ask(&self) -> Result<Vec<Range>, CallError> {
        let mut slots = cmd("CLUSTER");
        slots.arg("SLOTS");
        let limit = self.config.background_deadline;
        let nodes = self.nodes();
        let mut failed = None;
        for node in nodes.iter().filter(|node| node.guard.enter().is_some()) {
            let end = Instant::now() + limit;
            let request = Request::Command(&slots);
            let answer = node.exchange(request, Lane::Background, (end, limit)).await;
            match answer.and_then(|value| ranges(value, node.endpoint())) {
                Ok(ranges) => return Ok(ranges),
                Err(error) => failed = Some(error),
            }
        }
        let known = nodes.iter().filter_map(|node| node.endpoint());
        let mut asked: FuturesUnordered<_> = known
            .chain(&self.seeds)
            .map(|endpoint| async {
                let link = self.connector.open(endpoint).await?;
                let mut connection = link.connection();
                let answer = timeout(limit, connection.send_packed_command(&slots)).await;
                let answer = answer.map_err(|_| CallError::Deadline(limit))?;
                ranges(answer?, Some(endpoint))
            })
            .collect();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(ranges) => return Ok(ranges),
                // What says how to mend it is worth more than that someone is away.
                Err(error) if matches!(failed, Some(CallError::Setup(_))) => drop(error),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or(CallError::Down))
    }
}

impl Map {
    fn empty() -> Self {
        Self {
            owners: vec![NOBODY; usize::from(SLOTS)].into(),
            nodes: Vec::new(),
        }
    }
}

/// Keeps the map up to date while the cluster is in use.
async fn follow(cluster: Weak<Cluster>) {
    let mut backoff = Backoff::new();
    loop {
        let Some(this) = cluster.upgrade() else {
            return;
        };
        let well = this.refresh().await;
        let doubted = Arc::clone(&this.doubted);
        drop(this);
        let pause = if well {
            backoff = Backoff::new();
            REFRESH
        } else {
            backoff.next()
        };
        tokio::time::sleep(AT_MOST).await;
        // That nobody doubts it is no error.
        let _ = timeout(pause, doubted.notified()).await;
    }
}

/// Reads what CLUSTER SLOTS answers: for each stretch the first slot, the last, and nodes,
/// the master first, as host, port and more.
fn ranges(reply: Value, asked: Option<&Endpoint>) -> Result<Vec<Range>, CallError> {
    let reply = reply.extract_error().map_err(CallError::from)?;
    let unreadable = || {
        CallError::Refused(RedisError::from((
            ErrorKind::UnexpectedReturnType,
            "CLUSTER SLOTS has an answer of another form",
        )))
    };
    let Value::Array(stretches) = reply else {
        return Err(unreadable());
    };
    let read = |stretch| {
        let Value::Array(parts) = stretch else {
            return None;
        };
        let mut parts = parts.into_iter();
        let first = u16::from_redis_value(parts.next()?).ok()?;
        let last = u16::from_redis_value(parts.next()?).ok()?;
        let Value::Array(master) = parts.next()? else {
            return None;
        };
        let mut master = master.into_iter();
        let host = Option::<String>::from_redis_value(master.next()?).ok()?;
        let port = u16::from_redis_value(master.next()?).ok()?;
        let master = match (host.filter(|it| !matches!(it.as_str(), "" | "?")), asked) {
            (Some(host), _) => Endpoint::tcp(host, port),
            // It does not know its own address: it is where it was found.
            (None, Some(Endpoint::Tcp { host, .. })) => Endpoint::tcp(Arc::clone(host), port),
            (None, _) => return None,
        };
        Some(Range {
            first,
            last,
            master,
        })
    };
    let stretches = stretches.into_iter().map(read);
    stretches.collect::<Option<_>>().ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_and_a_node_without_an_address_is_where_it_was_found() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let stretch = |first, last, host, port| {
            Value::Array(vec![
                Value::Int(first),
                Value::Int(last),
                Value::Array(vec![host, Value::Int(port), text("id")]),
            ])
        };
        let reply = Value::Array(vec![
            stretch(0, 99, text("10.0.0.1"), 7_000),
            stretch(100, 16_383, Value::Nil, 7_001),
        ]);
        let asked = Endpoint::tcp("redis.example", 1);
        let read = ranges(reply, Some(&asked)).unwrap();
        assert_eq!((read[0].first, read[0].last), (0, 99));
        assert_eq!(read[0].master, Endpoint::tcp("10.0.0.1", 7_000));
        assert_eq!(read[1].master, Endpoint::tcp("redis.example", 7_001));
        assert!(ranges(Value::Array(vec![Value::Int(1)]), None).is_err());
    }
}
