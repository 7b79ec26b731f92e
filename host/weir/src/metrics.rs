//! What the tiers, the log and the policies count, read anew at each scrape.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use weir_proxy::Node;
use weir_store::redis::{Redis, RedisState, RedisStats};

/// Adds the metrics of a node's parts to those of its data plane.
pub(crate) fn register(node: &Arc<Node>) {
    let collector = Box::new(Parts(Arc::downgrade(node)));
    node.metrics()
        .register(|registry| registry.register_collector(collector));
}

/// Held weakly: the node holds the registry that holds this.
#[derive(Debug)]
struct Parts(std::sync::Weak<Node>);

impl Collector for Parts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(node) = self.0.upgrade() else {
            return Ok(());
        };
        let mut out = Out(encoder);
        let memory = node.memory().stats();
        out.gauge("memory_keys", "Keys in memory, about", memory.entries)?;
        out.bytes("memory", "Bytes of objects in memory, about", memory.bytes)?;
        out.counter(
            "memory_evictions",
            "Keys driven out for lack of room",
            memory.evictions,
        )?;
        let log = node.log();
        let position = log.position();
        out.gauge(
            "log_sequence",
            "Last purge of the fleet that this node applied",
            position.fleet,
        )?;
        out.gauge(
            "log_counters",
            "Counters and prefixes kept",
            log.counters() as u64,
        )?;
        out.gauge(
            "log_pending",
            "Purges that wait for Redis",
            log.pending() as u64,
        )?;
        out.counter(
            "log_unwritten",
            "Times that purges could not be written to data_dir",
            log.unwritten(),
        )?;
        match node.redis() {
            Some(redis) => out.redis(redis),
            None => Ok(()),
        }
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> std::fmt::Result {
        self.put(name, help, None, &ConstGauge::new(as_gauge(value)))
    }

    fn bytes(&mut self, name: &str, help: &str, value: u64) -> std::fmt::Result {
        self.put(
            name,
            help,
            Some(&Unit::Bytes),
            &ConstGauge::new(as_gauge(value)),
        )
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> std::fmt::Result {
        self.put(name, help, None, &ConstCounter::new(value))
    }

    fn put(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        metric: &impl EncodeMetric,
    ) -> std::fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn redis(&mut self, redis: &Redis) -> std::fmt::Result {
        let up = u64::from(matches!(redis.state(), RedisState::Up));
        self.gauge("redis_up", "1 while Redis answers", up)?;
        let pool = redis.pool();
        self.gauge(
            "redis_connections",
            "Connections of the pool",
            u64::from(pool.connections),
        )?;
        self.gauge(
            "redis_connections_idle",
            "Connections that no call uses",
            u64::from(pool.idle),
        )?;
        let RedisStats {
            hits,
            misses,
            failed_reads,
            skipped,
            timeouts,
            connection_errors,
            not_ready,
            refused,
            corrupt,
            written,
            dropped_full,
            dropped_large,
            dropped_dead,
            dropped_failed,
            opened,
            synchronised,
            replayed,
        } = redis.stats();
        for (name, help, count) in [
            (
                "redis_hits",
                "Objects found in Redis that may be used",
                hits,
            ),
            (
                "redis_misses",
                "Lookups in Redis that found none, or a purged one",
                misses,
            ),
            (
                "redis_failed_reads",
                "Lookups in Redis that failed",
                failed_reads,
            ),
            (
                "redis_skipped",
                "Calls not tried because Redis is down",
                skipped,
            ),
            (
                "redis_timeouts",
                "Calls that missed their deadline",
                timeouts,
            ),
            (
                "redis_connection_errors",
                "Calls that failed with the connection",
                connection_errors,
            ),
            (
                "redis_not_ready",
                "Calls that Redis could not serve yet",
                not_ready,
            ),
            ("redis_refused", "Calls that Redis refused", refused),
            (
                "redis_corrupt",
                "Records that could not be read, and were deleted",
                corrupt,
            ),
            ("redis_written", "Objects written", written),
            (
                "redis_dropped_full",
                "Objects not written: the queue was full",
                dropped_full,
            ),
            (
                "redis_dropped_large",
                "Objects not written: too large",
                dropped_large,
            ),
            (
                "redis_dropped_dead",
                "Objects not written: purged or ended meanwhile",
                dropped_dead,
            ),
            (
                "redis_dropped_failed",
                "Objects not written: Redis did not take them",
                dropped_failed,
            ),
            (
                "redis_breaker_opened",
                "How often Redis was given up for down",
                opened,
            ),
            (
                "log_synchronised",
                "How often counters were read since entries were missing",
                synchronised,
            ),
            (
                "log_replayed",
                "Purges kept while Redis was away, and sent",
                replayed,
            ),
        ] {
            self.counter(name, help, count.get())?;
        }
        Ok(())
    }
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
