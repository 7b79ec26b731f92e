//! What the tiers, the log and the policies count, read anew at each scrape.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use weir_policy::Hook;
use weir_proxy::Node;
use weir_store::SecondTier;
use weir_store::disk::{DiskState, DiskStats, DiskTier};
use weir_store::rate_limit::RateLimiter;
use weir_store::redis::{Redis, RedisState, RedisStats};
use weir_store::roster::LiveNodes;
use weir_store::{AGE_CLASSES, AgeCounts, NamespaceUsage};

use crate::app::App;

/// Adds the metrics of a node's parts to those of its data plane.
pub(crate) fn register(app: &App) {
    let collector = Box::new(Parts {
        node: Arc::downgrade(&app.node),
        nodes: app.nodes.clone(),
        limiter: Arc::clone(&app.limiter),
        behind: Arc::clone(&app.behind),
    });
    app.node
        .metrics()
        .register(|registry| registry.register_collector(collector));
}

/// Held weakly: the node holds the registry that holds this.
#[derive(Debug)]
struct Parts {
    node: std::sync::Weak<Node>,
    nodes: LiveNodes,
    limiter: Arc<RateLimiter>,
    behind: Arc<AtomicU64>,
}

impl Collector for Parts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(node) = self.node.upgrade() else {
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
        out.namespaces(&node)?;
        out.policies(&node)?;
        out.trials(&node)?;
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
        out.counter(
            "log_synchronised",
            "How often counters were read since entries were missing",
            log.synchronised(),
        )?;
        out.gauge(
            "nodes",
            "Nodes of the fleet as last heard of, this one included",
            u64::from(self.nodes.count()),
        )?;
        out.gauge(
            "policies_behind",
            "Policies whose last release this node could not take",
            self.behind.load(Ordering::Relaxed),
        )?;
        out.counter(
            "rate_limit_alone",
            "Checks of rate limits that Redis did not answer",
            self.limiter.by_share(),
        )?;
        match node.second() {
            Some(SecondTier::Redis(redis)) => out.redis(redis),
            Some(SecondTier::Disk(disk)) => out.disk(disk),
            None => Ok(()),
        }
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    /// What the versions in force cost, since they were loaded.
    fn policies(&mut self, node: &Node) -> std::fmt::Result {
        let generation = node.generation();
        let policies: Vec<_> = generation
            .policies()
            .iter()
            .map(|slot| &slot.current)
            .collect();
        let help =
            "What calls of the version in force took: CPU time, and waiting for kv and rate-limit";
        let mut family = self.family(
            "policy_call",
            help,
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        for policy in &policies {
            for hook in Hook::ALL {
                let labels = [("policy", policy.name()), ("hook", hook.name())];
                let seconds = policy.stats().hook(hook).total_time().as_secs_f64();
                ConstCounter::new(seconds).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "What this share of the calls of the version in force did not exceed";
        let mut family = self.family(
            "policy_call_quantile",
            help,
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for policy in &policies {
            for hook in Hook::ALL {
                for (label, share) in [("0.5", 0.5), ("0.99", 0.99)] {
                    let Some(span) = policy.stats().hook(hook).quantile(share) else {
                        continue;
                    };
                    let labels = [
                        ("policy", policy.name()),
                        ("hook", hook.name()),
                        ("quantile", label),
                    ];
                    ConstGauge::new(span.as_secs_f64()).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let help = "Memory of all instances of the version in force";
        let mut family =
            self.family("policy_memory", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        for policy in &policies {
            ConstGauge::new(as_gauge(policy.memory() as u64))
                .encode(family.encode_family(&[("policy", policy.name())])?)?;
        }
        let help = "Instances of the version in force, idle or called";
        let mut family = self.family("policy_instances", help, None, MetricType::Gauge)?;
        for policy in &policies {
            let count = policy.idle_instances() + policy.calls_in_flight();
            ConstGauge::new(as_gauge(count as u64))
                .encode(family.encode_family(&[("policy", policy.name())])?)?;
        }
        Ok(())
    }

    /// What versions on trial came to; a series ends with its trial.
    fn trials(&mut self, node: &Node) -> std::fmt::Result {
        let generation = node.generation();
        let trials: Vec<_> = generation
            .policies()
            .iter()
            .filter_map(|slot| slot.trial.as_ref())
            .map(|trial| (trial, trial.report()))
            .collect();
        let help = "Answers of a version on trial";
        let mut family = self.family("policy_trial", help, None, MetricType::Counter)?;
        for (trial, report) in &trials {
            for (result, count) in [
                ("same", report.same),
                ("different", report.different),
                ("decided", report.decided),
                ("failed", report.failed),
                ("skipped", report.skipped),
            ] {
                let labels = [
                    ("policy", trial.policy.name()),
                    ("version", trial.policy.version()),
                    ("mode", trial.mode.as_str()),
                    ("result", result),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Differences of a version on trial from the one in force, by kind";
        let mut family = self.family("policy_differences", help, None, MetricType::Counter)?;
        for (trial, report) in &trials {
            for (kind, count) in &report.kinds {
                let labels = [
                    ("policy", trial.policy.name()),
                    ("version", trial.policy.version()),
                    ("kind", kind.as_str()),
                ];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn namespaces(&mut self, node: &Node) -> std::fmt::Result {
        let memory = node.memory().namespaces();
        let gauge = MetricType::Gauge;
        let help = "Objects in memory by namespace, variants and parts included";
        let mut family = self.family("namespace_objects", help, None, gauge)?;
        for one in &memory {
            ConstGauge::new(as_gauge(one.objects))
                .encode(family.encode_family(&[("namespace", &*one.namespace)])?)?;
        }
        let help = "What they weigh";
        let mut family = self.family("namespace", help, Some(&Unit::Bytes), gauge)?;
        for one in &memory {
            ConstGauge::new(as_gauge(one.bytes))
                .encode(family.encode_family(&[("namespace", &*one.namespace)])?)?;
        }
        for (name, help, count) in [
            (
                "namespace_evictions",
                "Objects driven out of memory for lack of room, by namespace",
                (|one| one.evictions) as fn(&NamespaceUsage) -> u64,
            ),
            (
                "namespace_expired",
                "Objects whose time in memory was over, by namespace",
                |one| one.expired,
            ),
        ] {
            let mut family = self.family(name, help, None, MetricType::Counter)?;
            for one in &memory {
                ConstCounter::new(count(one))
                    .encode(family.encode_family(&[("namespace", &*one.namespace)])?)?;
            }
        }
        let hits = node.metrics().namespaces();
        self.ages(
            "namespace_hit_age",
            "Age of what was served from a tier, by namespace",
            hits.iter().map(|one| (&*one.namespace, one.hit_ages())),
        )?;
        let evicted = memory.iter();
        self.ages(
            "namespace_eviction_age",
            "Age of what was driven out of memory, by namespace; one for each key",
            evicted.map(|one| (&*one.namespace, one.eviction_ages.clone())),
        )
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of classes and sums, far below 2^53"
    )]
    fn ages<'n>(
        &mut self,
        name: &str,
        help: &str,
        counts: impl Iterator<Item = (&'n str, AgeCounts)>,
    ) -> std::fmt::Result {
        let mut family = self.family(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (namespace, counts) in counts {
            let ends = AGE_CLASSES.iter().map(|end| *end as f64);
            let buckets: Vec<(f64, u64)> =
                ends.chain([f64::INFINITY]).zip(counts.classes).collect();
            family
                .encode_family(&[("namespace", namespace)])?
                .encode_histogram::<[(&str, &str); 0]>(
                    counts.sum_ms as f64 / 1_000.0,
                    counts.count(),
                    &buckets,
                    None,
                )?;
        }
        Ok(())
    }

    fn family<'a>(
        &'a mut self,
        name: &'a str,
        help: &str,
        unit: Option<&'a Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'a>, std::fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

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

    fn disk(&mut self, disk: &DiskTier) -> std::fmt::Result {
        let space = disk.space();
        self.gauge(
            "disk_up",
            "1 while the disk tier is open",
            u64::from(disk.state() != DiskState::Opening),
        )?;
        self.gauge("disk_entries", "Values on disk, about", space.entries)?;
        self.bytes("disk", "Bytes on disk, the journal included", space.bytes)?;
        self.gauge("disk_segments", "Segments on disk", space.segments)?;
        let DiskStats {
            hits,
            misses,
            failed_reads,
            timeouts,
            skipped,
            corrupt,
            written,
            renewed,
            dropped_full,
            dropped_large,
            dropped_dead,
            dropped_failed,
            evicted,
            emptied,
        } = disk.stats();
        for (name, help, count) in [
            ("disk_hits", "Objects found on disk that may be used", hits),
            (
                "disk_misses",
                "Lookups on disk that found none, or a purged one",
                misses,
            ),
            (
                "disk_failed_reads",
                "Lookups on disk that failed",
                failed_reads,
            ),
            (
                "disk_timeouts",
                "Lookups on disk that missed their deadline",
                timeouts,
            ),
            (
                "disk_skipped",
                "Lookups on disk not tried: being opened, or late too often",
                skipped,
            ),
            (
                "disk_corrupt",
                "Values that could not be read, and were deleted",
                corrupt,
            ),
            ("disk_written", "Objects written", written),
            (
                "disk_renewed",
                "Objects in use that were written again, to be kept",
                renewed,
            ),
            (
                "disk_dropped_full",
                "Objects not written: the queue was full",
                dropped_full,
            ),
            (
                "disk_dropped_large",
                "Objects not written: too large",
                dropped_large,
            ),
            (
                "disk_dropped_dead",
                "Objects not written: purged or ended meanwhile",
                dropped_dead,
            ),
            (
                "disk_dropped_failed",
                "Objects not written: the disk did not take them",
                dropped_failed,
            ),
            (
                "disk_evictions",
                "Values that went with their segment, about",
                evicted,
            ),
            (
                "disk_emptied",
                "How often the folder was emptied since it was damaged",
                emptied,
            ),
        ] {
            self.counter(name, help, count.get())?;
        }
        Ok(())
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
