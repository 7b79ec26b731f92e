//! Upgraded connections: who talks through the node, how much, and how it ends. They
//! outlive generations, so a tunnel holds neither a route nor a policy.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, watch};
use weir_semantics::Timestamp;

use crate::metrics::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    protocol: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FlowLabels {
    route: String,
    to: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    route: String,
    reason: &'static str,
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both sides closed theirs in order.
    Closed,
    /// The client's connection broke.
    Client,
    /// The origin's connection broke.
    Origin,
    /// Nothing went either way for the route's `upgrade_idle_timeout`.
    Idle,
    /// An operator cut it.
    Cut,
    /// The node stopped, and the time for that was over.
    Drained,
    /// One side left before both had switched.
    Unswitched,
}

impl TunnelEnd {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Client => "client-broken",
            Self::Origin => "origin-broken",
            Self::Idle => "idle",
            Self::Cut => "cut",
            Self::Drained => "drained",
            Self::Unswitched => "unswitched",
        }
    }
}

/// Whose connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Origin,
}

/// What went one way.
#[derive(Debug)]
struct Flow {
    bytes: AtomicU64,
    total: Counter,
}

/// A connection that speaks another protocol than HTTP through the node.
#[derive(Debug)]
pub struct Tunnel {
    /// Counts up while the node lives.
    pub id: u64,
    /// The route's label.
    pub route: Arc<str>,
    /// What it was upgraded to, in lower case.
    pub protocol: Box<str>,
    /// Where the client is.
    pub client: IpAddr,
    /// The upstream's name.
    pub upstream: Box<str>,
    /// When the origin switched.
    pub since: Timestamp,
    start: Instant,
    to_client: Flow,
    to_origin: Flow,
    /// Milliseconds after `start`.
    moved_at: AtomicU64,
    broke: OnceLock<Side>,
    cut: OnceLock<TunnelEnd>,
    cutting: Notify,
}

impl Tunnel {
    /// Bytes that went to the client so far.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.to_client.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that went to the origin so far.
    #[must_use]
    pub fn bytes_to_origin(&self) -> u64 {
        self.to_origin.bytes.load(Ordering::Relaxed)
    }

    /// How long it is open.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.start.elapsed()
    }

    /// Something went to this side.
    pub(crate) fn sent(&self, to: Side, bytes: usize) {
        let flow = match to {
            Side::Client => &self.to_client,
            Side::Origin => &self.to_origin,
        };
        flow.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        flow.total.inc_by(bytes as u64);
        self.moved();
    }

    /// Something came or went.
    pub(crate) fn moved(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_at.store(now, Ordering::Relaxed);
    }

    /// This side's connection failed. The first to fail is the one that ended it.
    pub(crate) fn broke(&self, side: Side) {
        // Set already: the other side's failure follows from it.
        let _ = self.broke.set(side);
    }

    /// Why copying failed.
    pub(crate) fn failure(&self) -> TunnelEnd {
        match self.broke.get() {
            Some(Side::Client) => TunnelEnd::Client,
            Some(Side::Origin) | None => TunnelEnd::Origin,
        }
    }

    /// Completes when nothing has moved for so long.
    pub(crate) async fn idle_for(&self, timeout: Duration) {
        loop {
            let moved = Duration::from_millis(self.moved_at.load(Ordering::Relaxed));
            let idle = self.start.elapsed().saturating_sub(moved);
            let Some(left) = timeout.checked_sub(idle) else {
                return;
            };
            // A little later, since the clock counts whole milliseconds.
            tokio::time::sleep(left + Duration::from_millis(1)).await;
        }
    }

    /// Completes when it is to end, with the reason.
    pub(crate) async fn cut_off(&self) -> TunnelEnd {
        self.cutting.notified().await;
        self.cut.get().copied().unwrap_or(TunnelEnd::Cut)
    }

    fn cut(&self, why: TunnelEnd) {
        // Cut already: the first reason stands.
        let _ = self.cut.set(why);
        self.cutting.notify_one();
    }
}

/// All tunnels of a node.
#[derive(Debug)]
pub struct Tunnels {
    /// By id, so by age.
    open: Mutex<BTreeMap<u64, Arc<Tunnel>>>,
    next: AtomicU64,
    count: watch::Sender<usize>,
    live: Family<Labels, Gauge>,
    opened: Family<Labels, Counter>,
    ended: Family<EndLabels, Counter>,
    bytes: Family<FlowLabels, Counter>,
}

impl Tunnels {
    /// None yet. Adds its metrics.
    pub(crate) fn new(metrics: &Metrics) -> Arc<Self> {
        let this = Self {
            open: Mutex::default(),
            next: AtomicU64::new(1),
            count: watch::Sender::new(0),
            live: Family::default(),
            opened: Family::default(),
            ended: Family::default(),
            bytes: Family::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "upgraded_connections",
                "Open upgraded connections by route and protocol",
                this.live.clone(),
            );
            registry.register(
                "upgrades",
                "Connections upgraded, by route and protocol",
                this.opened.clone(),
            );
            registry.register(
                "upgrades_ended",
                "Upgraded connections that ended, by route and reason",
                this.ended.clone(),
            );
            registry.register(
                "upgraded_bytes",
                "Bytes through upgraded connections, by route and side they went to",
                this.bytes.clone(),
            );
        });
        Arc::new(this)
    }

    /// Enters a tunnel, until what is returned is dropped.
    pub(crate) fn enter(
        self: &Arc<Self>,
        route: &Arc<str>,
        protocol: &str,
        client: IpAddr,
        upstream: &str,
        since: Timestamp,
    ) -> Open {
        let labels = Labels {
            route: route.to_string(),
            protocol: protocol.to_owned(),
        };
        self.live.get_or_create(&labels).inc();
        self.opened.get_or_create(&labels).inc();
        let flow = |to| Flow {
            bytes: AtomicU64::new(0),
            total: self.bytes.get_or_create_owned(&FlowLabels {
                route: route.to_string(),
                to,
            }),
        };
        let tunnel = Arc::new(Tunnel {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            route: Arc::clone(route),
            protocol: protocol.into(),
            client,
            upstream: upstream.into(),
            since,
            start: Instant::now(),
            to_client: flow("client"),
            to_origin: flow("origin"),
            moved_at: AtomicU64::new(0),
            broke: OnceLock::new(),
            cut: OnceLock::new(),
            cutting: Notify::new(),
        });
        let mut open = self.open.lock();
        open.insert(tunnel.id, Arc::clone(&tunnel));
        self.count.send_replace(open.len());
        drop(open);
        Open {
            tunnel,
            tunnels: Arc::clone(self),
            end: TunnelEnd::Unswitched,
        }
    }

    /// The oldest of them.
    #[must_use]
    pub fn oldest(&self, limit: usize) -> Vec<Arc<Tunnel>> {
        self.open.lock().values().take(limit).cloned().collect()
    }

    /// How many there are, and when that changes.
    #[must_use]
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// How many there are, by route and protocol.
    #[must_use]
    pub fn by_route(&self) -> BTreeMap<Arc<str>, BTreeMap<Box<str>, u64>> {
        let mut routes: BTreeMap<Arc<str>, BTreeMap<Box<str>, u64>> = BTreeMap::new();
        for tunnel in self.open.lock().values() {
            let protocols = routes.entry(Arc::clone(&tunnel.route)).or_default();
            *protocols.entry(tunnel.protocol.clone()).or_default() += 1;
        }
        routes
    }

    /// Cuts one. Says whether it was there.
    #[must_use]
    pub fn cut(&self, id: u64) -> bool {
        let tunnel = self.open.lock().get(&id).cloned();
        tunnel
            .inspect(|tunnel| tunnel.cut(TunnelEnd::Cut))
            .is_some()
    }

    /// Completes when there is none.
    pub(crate) async fn ended(&self) {
        // The sender is ours, so it cannot fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Cuts all there are, for a node that stops.
    pub(crate) fn drain(&self) {
        for tunnel in self.open.lock().values() {
            tunnel.cut(TunnelEnd::Drained);
        }
    }
}

/// A tunnel's entry. Dropping it takes the tunnel out of the list.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) tunnel: Arc<Tunnel>,
    tunnels: Arc<Tunnels>,
    pub(crate) end: TunnelEnd,
}

impl Drop for Open {
    fn drop(&mut self) {
        let tunnel = &self.tunnel;
        let tunnels = &self.tunnels;
        let mut open = tunnels.open.lock();
        open.remove(&tunnel.id);
        tunnels.count.send_replace(open.len());
        drop(open);
        let labels = Labels {
            route: tunnel.route.to_string(),
            protocol: tunnel.protocol.to_string(),
        };
        tunnels.live.get_or_create(&labels).dec();
        let ended = EndLabels {
            route: tunnel.route.to_string(),
            reason: self.end.as_str(),
        };
        tunnels.ended.get_or_create(&ended).inc();
        let bytes = (tunnel.bytes_to_client(), tunnel.bytes_to_origin());
        match self.end {
            TunnelEnd::Closed => tracing::debug!(
                id = tunnel.id, route = %tunnel.route, client = %tunnel.client, to_client = bytes.0,
                to_origin = bytes.1, seconds = tunnel.age().as_secs_f64(), "upgraded connection ended"
            ),
            end => tracing::info!(
                id = tunnel.id, route = %tunnel.route, client = %tunnel.client, to_client = bytes.0,
                to_origin = bytes.1, seconds = tunnel.age().as_secs_f64(), reason = end.as_str(),
                upstream = %tunnel.upstream, "upgraded connection ended before both sides closed it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(tunnels: &Arc<Tunnels>, route: &str) -> Open {
        let client = IpAddr::from([127, 0, 0, 1]);
        let since = weir_store::Clock::system().now();
        tunnels.enter(&Arc::from(route), "websocket", client, "api", since)
    }

    #[tokio::test]
    async fn an_entry_is_there_while_it_is_held_and_counts_what_passes() {
        let metrics = Metrics::default();
        let tunnels = Tunnels::new(&metrics);
        let (first, second) = (enter(&tunnels, "/a"), enter(&tunnels, "/b"));
        first.tunnel.sent(Side::Client, 7);
        first.tunnel.sent(Side::Origin, 5);
        let ids: Vec<u64> = tunnels.oldest(10).iter().map(|one| one.id).collect();
        assert_eq!(ids, [first.tunnel.id, second.tunnel.id]);
        assert_eq!(tunnels.oldest(1)[0].bytes_to_client(), 7);
        assert_eq!(tunnels.by_route()["/a"]["websocket"], 1);
        drop(second);
        assert_eq!(*tunnels.count().borrow(), 1);
        drop(first);
        tunnels.ended().await;
        let text = metrics.encode().unwrap();
        for line in [
            "weir_upgraded_connections{route=\"/a\",protocol=\"websocket\"} 0",
            "weir_upgrades_total{route=\"/b\",protocol=\"websocket\"} 1",
            "weir_upgrades_ended_total{route=\"/a\",reason=\"unswitched\"} 1",
            "weir_upgraded_bytes_total{route=\"/a\",to=\"client\"} 7",
            "weir_upgraded_bytes_total{route=\"/a\",to=\"origin\"} 5",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn the_first_reason_to_cut_stands_and_is_not_missed() {
        let tunnels = Tunnels::new(&Metrics::default());
        let open = enter(&tunnels, "/a");
        assert!(!tunnels.cut(open.tunnel.id + 1));
        assert!(tunnels.cut(open.tunnel.id));
        tunnels.drain();
        // Cut before anyone waited for it.
        assert_eq!(open.tunnel.cut_off().await, TunnelEnd::Cut);
    }

    #[tokio::test]
    async fn idle_is_counted_from_the_last_that_moved() {
        let tunnels = Tunnels::new(&Metrics::default());
        let open = enter(&tunnels, "/a");
        open.tunnel.idle_for(Duration::ZERO).await;
        let hour = open.tunnel.idle_for(Duration::from_secs(3600));
        assert!(futures_util::FutureExt::now_or_never(hour).is_none());
    }
}
