//! What the cache holds and how it is used, by namespace: memory's counts beside the data
//! plane's.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_proxy::{NamespaceMetrics, Node, ResultKind};
use weir_store::{AgeCounts, NamespaceUsage};

/// One namespace, or the sum of all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// `-` for objects of routes without a policy.
    pub(crate) namespace: String,
    /// Objects in memory, variants and parts included.
    pub(crate) objects: u64,
    /// What they weigh.
    pub(crate) bytes: u64,
    /// Lookups by how they ended, those that there were.
    pub(crate) lookups: BTreeMap<String, u64>,
    /// Lookups answered by what was stored, without the origin.
    pub(crate) hits: u64,
    /// All other lookups: they asked the origin, or were refused.
    pub(crate) misses: u64,
    /// Hits among all lookups; absent when there were none.
    pub(crate) hit_ratio: Option<f64>,
    /// Objects driven out of memory for lack of room.
    pub(crate) evictions: u64,
    /// Objects whose time in memory was over.
    pub(crate) expired: u64,
    /// How old what was served was.
    pub(crate) hit_age: Age,
    /// How old what was driven out was.
    pub(crate) eviction_age: Age,
}

/// Ages, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Age {
    /// How many there are.
    pub(crate) count: u64,
    /// Their mean; absent when there are none.
    pub(crate) mean: Option<f64>,
    /// Half of them are at most so old, as far as they are told apart; absent when there
    /// are none, or they are older than a month.
    pub(crate) median_at_most: Option<f64>,
}

/// What `GET /v1/stats` answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AllStats {
    /// By name.
    pub(crate) namespaces: Vec<Stats>,
    /// All of them together.
    pub(crate) total: Stats,
}

/// Both sides of a namespace; either may be missing.
type Sides = (Option<NamespaceUsage>, Option<Arc<NamespaceMetrics>>);

/// Of every namespace that a route or memory knows.
pub(crate) fn of(node: &Node) -> AllStats {
    let mut sides = BTreeMap::<String, Sides>::new();
    for usage in node.memory().namespaces() {
        let name = usage.namespace.to_string();
        sides.entry(name).or_default().0 = Some(usage);
    }
    for metrics in node.metrics().namespaces() {
        let name = metrics.namespace.to_string();
        sides.entry(name).or_default().1 = Some(metrics);
    }
    let mut total = Sum::default();
    let mut namespaces = Vec::with_capacity(sides.len());
    for (namespace, (usage, metrics)) in sides {
        let mut one = Sum::default();
        one.add(usage.as_ref(), metrics.as_deref());
        total.add(usage.as_ref(), metrics.as_deref());
        namespaces.push(one.read(namespace));
    }
    AllStats {
        namespaces,
        total: total.read("all".to_owned()),
    }
}

#[derive(Debug, Default)]
struct Sum {
    stats: Stats,
    hit_ages: AgeCounts,
    eviction_ages: AgeCounts,
}

impl Sum {
    fn add(&mut self, usage: Option<&NamespaceUsage>, metrics: Option<&NamespaceMetrics>) {
        let stats = &mut self.stats;
        if let Some(usage) = usage {
            stats.objects += usage.objects;
            stats.bytes += usage.bytes;
            stats.evictions += usage.evictions;
            stats.expired += usage.expired;
            self.eviction_ages.add(&usage.eviction_ages);
        }
        let Some(metrics) = metrics else { return };
        self.hit_ages.add(&metrics.hit_ages());
        for (kind, lookups) in ResultKind::ALL.into_iter().zip(metrics.lookups()) {
            if lookups > 0 {
                *stats.lookups.entry(kind.as_str().to_owned()).or_default() += lookups;
            }
            match kind {
                ResultKind::Hit | ResultKind::Stale => stats.hits += lookups,
                _ => stats.misses += lookups,
            }
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio of counts, for a person"
    )]
    fn read(self, namespace: String) -> Stats {
        let lookups = self.stats.hits + self.stats.misses;
        Stats {
            namespace,
            hit_ratio: (lookups > 0).then(|| self.stats.hits as f64 / lookups as f64),
            hit_age: age(&self.hit_ages),
            eviction_age: age(&self.eviction_ages),
            ..self.stats
        }
    }
}

fn age(counts: &AgeCounts) -> Age {
    Age {
        count: counts.count(),
        mean: counts.mean().map(|mean| mean.as_secs_f64()),
        median_at_most: counts.median_at_most().map(|age| age.as_secs_f64()),
    }
}
