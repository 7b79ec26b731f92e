//! What every request adds to, by [`Tally`]: one for a route, a namespace and a policy, read anew at
//! each scrape.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use weir_store::{AgeCounts, Ages};
use weir_tally::Tally;

use super::ResultKind;

/// The kinds of results.
const RESULTS: usize = ResultKind::ALL.len();
/// The upper ends of the classes of times, in microseconds; one more is for what took longer.
const ENDS: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
/// Where the sum of times stands of a route, behind results and classes, in nanoseconds.
const SUM: usize = RESULTS + ENDS.len() + 1;

type RouteTally = Tally<{ SUM + 1 }>;
type PolicyTally = Tally<{ Counted::ALL.len() }>;

/// Counters of one route, looked up once for each generation.
#[derive(Debug)]
pub struct RouteMetrics(Arc<RouteTally>);

impl RouteMetrics {
    /// Counts a request whose response header section went out after `took`.
    pub fn finished(&self, result: ResultKind, took: Duration) {
        // What took more than 584 years is counted as these.
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // Most are in the first class: found out before the others are looked at.
        let class = match nanoseconds <= ENDS[0] * 1_000 {
            true => 0,
            false => ENDS.partition_point(|end| end * 1_000 < nanoseconds),
        };
        self.0.add([
            (result as usize, 1),
            (RESULTS + class, 1),
            (SUM, nanoseconds),
        ]);
    }
}

/// Hits and misses of one namespace.
#[derive(Debug)]
pub struct NamespaceMetrics {
    /// The namespace; `-` for objects without a policy.
    pub namespace: Arc<str>,
    results: Tally<RESULTS>,
    hit_ages: Ages,
}

impl NamespaceMetrics {
    /// Counts one lookup by how it ended; for a stored response, with its age.
    pub fn looked_up(&self, result: ResultKind, age: Option<Duration>) {
        self.results.add([(result as usize, 1)]);
        if let Some(age) = age {
            self.hit_ages.note(age);
        }
    }

    /// How many lookups ended so, in the order of [`ResultKind::ALL`].
    pub fn lookups(&self) -> [u64; RESULTS] {
        self.results.sums()
    }

    /// How old what was served from a tier was.
    pub fn hit_ages(&self) -> AgeCounts {
        self.hit_ages.counts()
    }
}

/// What is counted of a policy.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counted {
    /// A decision that was remembered.
    Recalled,
    /// A call because nothing was remembered.
    OnRequest,
    /// A call of a policy whose decisions are not remembered any more.
    WithoutMemo,
    OnResponse,
    OnEvent,
    Answer,
    ServerError,
}

impl Counted {
    const ALL: [Self; 7] = [
        Self::Recalled,
        Self::OnRequest,
        Self::WithoutMemo,
        Self::OnResponse,
        Self::OnEvent,
        Self::Answer,
        Self::ServerError,
    ];

    /// The hook of a call, and whether the memo answered.
    fn call(self) -> Option<[(&'static str, &'static str); 2]> {
        let (hook, memo) = match self {
            Self::Recalled => ("on-request", "hit"),
            Self::OnRequest => ("on-request", "miss"),
            Self::WithoutMemo => ("on-request", "off"),
            Self::OnResponse => ("on-response", "off"),
            Self::OnEvent => ("on-event", "off"),
            Self::Answer | Self::ServerError => return None,
        };
        Some([("hook", hook), ("memo", memo)])
    }

    /// The class of an answer.
    fn class(self) -> Option<&'static str> {
        match self {
            Self::Answer => Some("other"),
            Self::ServerError => Some("5xx"),
            _ => None,
        }
    }
}

/// Calls of one policy's hooks, whatever version of it is in force.
#[derive(Debug)]
pub struct PolicyMetrics(Arc<PolicyTally>);

impl PolicyMetrics {
    pub(crate) fn count(&self, what: Counted) {
        self.0.add([(what as usize, 1)]);
    }

    /// Counts an answer on one of the policy's routes.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        self.count(match status.is_server_error() {
            true => Counted::ServerError,
            false => Counted::Answer,
        });
    }
}

/// All that there have been in some generation, by their names.
#[derive(Debug, Default)]
pub(super) struct Tallied {
    routes: Mutex<BTreeMap<String, Arc<RouteTally>>>,
    namespaces: Mutex<Vec<Arc<NamespaceMetrics>>>,
    policies: Mutex<BTreeMap<String, Arc<PolicyTally>>>,
}

impl Tallied {
    pub(super) fn route(&self, route: &str) -> RouteMetrics {
        let mut known = self.routes.lock();
        RouteMetrics(Arc::clone(known.entry(route.to_owned()).or_default()))
    }

    pub(super) fn policy(&self, policy: &str) -> PolicyMetrics {
        let mut known = self.policies.lock();
        PolicyMetrics(Arc::clone(known.entry(policy.to_owned()).or_default()))
    }

    pub(super) fn namespace(&self, namespace: &str) -> Arc<NamespaceMetrics> {
        let mut known = self.namespaces.lock();
        if let Some(known) = known.iter().find(|known| &*known.namespace == namespace) {
            return Arc::clone(known);
        }
        let made = Arc::new(NamespaceMetrics {
            namespace: Arc::from(namespace),
            results: Tally::default(),
            hit_ages: Ages::default(),
        });
        known.push(Arc::clone(&made));
        made
    }

    pub(super) fn namespaces(&self) -> Vec<Arc<NamespaceMetrics>> {
        self.namespaces.lock().clone()
    }
}

/// Writes them down.
#[derive(Debug)]
pub(super) struct Scraped(pub(super) Arc<Tallied>);

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let routes = sums(&self.0.routes);
        let ended = routes.iter().flat_map(|(route, sums)| {
            let kinds = ResultKind::ALL.into_iter().zip(sums);
            kinds.map(|(kind, count)| ([("route", &**route), ("result", kind.as_str())], *count))
        });
        let help = "Requests by route and how they ended";
        counters(&mut encoder, "requests", help, ended)?;
        let help = "From a request's header section to the response's, by route";
        let name = "request_duration_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (route, sums) in &routes {
            let (sum, classes) = times(sums);
            let count = classes.iter().map(|(_, count)| count).sum();
            family
                .encode_family(&[("route", &**route)])?
                .encode_histogram::<NoLabelSet>(sum, count, &classes, None)?;
        }
        let namespaces = self.0.namespaces();
        let lookups = namespaces.iter().flat_map(|one| {
            let kinds = ResultKind::ALL.into_iter().zip(one.lookups());
            let namespace = ("namespace", &*one.namespace);
            kinds.map(move |(kind, count)| ([namespace, ("result", kind.as_str())], count))
        });
        let help = "Lookups by namespace and how they ended";
        counters(&mut encoder, "cache_lookups", help, lookups)?;
        let policies = sums(&self.0.policies);
        let counted = || {
            policies.iter().flat_map(|(policy, sums)| {
                let all = Counted::ALL.into_iter().zip(sums);
                all.map(|(what, count)| (("policy", &**policy), what, *count))
            })
        };
        let calls = counted().filter_map(|(policy, what, count)| {
            let [hook, memo] = what.call()?;
            Some(([policy, hook, memo], count))
        });
        let help = "Calls of policies by hook, and whether the memo answered";
        counters(&mut encoder, "policy_calls", help, calls)?;
        let answers = counted().filter_map(|(policy, what, count)| {
            let class = ("class", what.class()?);
            Some(([policy, class], count))
        });
        let help = "Answers on the routes of a policy, by whether they were 5xx";
        counters(&mut encoder, "policy_answers", help, answers)
    }
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: impl Iterator<Item = (impl EncodeLabelSet, u64)>,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in counts {
        family
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    Ok(())
}

fn sums<const N: usize>(all: &Mutex<BTreeMap<String, Arc<Tally<N>>>>) -> Vec<(String, [u64; N])> {
    let all = all.lock();
    all.iter()
        .map(|(name, tally)| (name.clone(), tally.sums()))
        .collect()
}

/// The sum of a route's times, and how many were in each class, which ends at so many seconds.
#[expect(clippy::cast_precision_loss, reason = "shown in seconds, by 16 digits")]
fn times(sums: &[u64; SUM + 1]) -> (f64, Vec<(f64, u64)>) {
    let ends = ENDS.iter().map(|end| *end as f64 / 1e6);
    let counts = sums.iter().skip(RESULTS).copied();
    let classes = ends.chain([f64::INFINITY]).zip(counts);
    (sums[SUM] as f64 / 1e9, classes.collect())
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn they_read_as_counters_and_histograms_do() {
        let tallied = Arc::new(Tallied::default());
        let mut registry = Registry::with_prefix("weir");
        registry.register_collector(Box::new(Scraped(Arc::clone(&tallied))));
        let route = tallied.route("/a");
        for micros in [0, 100, 101, 30_000_000, 30_000_001] {
            route.finished(ResultKind::Hit, Duration::from_micros(micros));
        }
        tallied
            .route("/a")
            .finished(ResultKind::Refused, Duration::ZERO);
        let namespace = tallied.namespace("n");
        namespace.looked_up(ResultKind::Miss, None);
        let policy = tallied.policy("p");
        for (at, what) in Counted::ALL.into_iter().enumerate() {
            (0..=at).for_each(|_| policy.count(what));
        }
        policy.answered(http::StatusCode::BAD_GATEWAY);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE weir_requests counter",
            "weir_requests_total{route=\"/a\",result=\"hit\"} 5",
            "weir_requests_total{route=\"/a\",result=\"stale\"} 0",
            "weir_requests_total{route=\"/a\",result=\"refused\"} 1",
            "# TYPE weir_request_duration_seconds histogram",
            "weir_request_duration_seconds_sum{route=\"/a\"} 60.000202",
            "weir_request_duration_seconds_count{route=\"/a\"} 6",
            "weir_request_duration_seconds_bucket{le=\"0.0001\",route=\"/a\"} 3",
            "weir_request_duration_seconds_bucket{le=\"0.00025\",route=\"/a\"} 4",
            "weir_request_duration_seconds_bucket{le=\"10.0\",route=\"/a\"} 4",
            "weir_request_duration_seconds_bucket{le=\"30.0\",route=\"/a\"} 5",
            "weir_request_duration_seconds_bucket{le=\"+Inf\",route=\"/a\"} 6",
            "weir_cache_lookups_total{namespace=\"n\",result=\"miss\"} 1",
            "weir_policy_calls_total{policy=\"p\",hook=\"on-request\",memo=\"hit\"} 1",
            "weir_policy_calls_total{policy=\"p\",hook=\"on-request\",memo=\"miss\"} 2",
            "weir_policy_calls_total{policy=\"p\",hook=\"on-request\",memo=\"off\"} 3",
            "weir_policy_calls_total{policy=\"p\",hook=\"on-response\",memo=\"off\"} 4",
            "weir_policy_calls_total{policy=\"p\",hook=\"on-event\",memo=\"off\"} 5",
            "weir_policy_answers_total{policy=\"p\",class=\"other\"} 6",
            "weir_policy_answers_total{policy=\"p\",class=\"5xx\"} 8",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }
}
