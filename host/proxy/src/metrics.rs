//! What the data plane counts. Families live as long as the node; a generation looks its
//! own counters up once, so that a request touches only atomics.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use weir_store::{AgeCounts, Ages};

use crate::tls::Certificate;

/// How a request ended, as the `result` label has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResultKind {
    /// Served from a tier while fresh.
    Hit,
    /// Served from a tier past its lifetime.
    Stale,
    /// Served from a tier after the origin confirmed it.
    Revalidated,
    /// Fetched, by this request or by one it joined.
    Miss,
    /// Forwarded because nothing may be or was to be stored.
    Pass,
    /// Answered by the policy.
    Respond,
    /// The policy failed and the route's fallback was an error.
    PolicyError,
    /// The origin failed and nothing stale could stand in.
    OriginError,
    /// Refused by the node: malformed, no route, overload.
    Refused,
}

impl ResultKind {
    /// Every kind, in the order of its index.
    pub const ALL: [Self; 9] = [
        Self::Hit,
        Self::Stale,
        Self::Revalidated,
        Self::Miss,
        Self::Pass,
        Self::Respond,
        Self::PolicyError,
        Self::OriginError,
        Self::Refused,
    ];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Pass => "pass",
            Self::Respond => "respond",
            Self::PolicyError => "policy-error",
            Self::OriginError => "origin-error",
            Self::Refused => "refused",
        }
    }
}

impl EncodeLabelValue for ResultKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    result: ResultKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    namespace: String,
    result: ResultKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: String,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabel {
    chain: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnkeyedLabels {
    route: String,
    check: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyCallLabels {
    policy: String,
    hook: String,
    memo: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyAnswerLabels {
    policy: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyErrorLabels {
    policy: String,
    hook: String,
    reason: String,
}

fn durations() -> Histogram {
    Histogram::new([
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
        5.0, 10.0, 30.0,
    ])
}

/// Counters of one route, looked up once for each generation.
#[derive(Debug)]
pub struct RouteMetrics {
    results: [Counter; ResultKind::ALL.len()],
    seconds: Histogram,
}

impl RouteMetrics {
    /// Counts a request whose response header section went out after `took`.
    pub fn finished(&self, result: ResultKind, took: Duration) {
        self.results[result as usize].inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Hits and misses of one namespace.
#[derive(Debug)]
pub struct NamespaceMetrics {
    /// The namespace; `-` for objects without a policy.
    pub namespace: Arc<str>,
    results: [Counter; ResultKind::ALL.len()],
    hit_ages: Ages,
}

impl NamespaceMetrics {
    /// Counts one lookup by how it ended; for a stored response, with its age.
    pub fn looked_up(&self, result: ResultKind, age: Option<Duration>) {
        self.results[result as usize].inc();
        if let Some(age) = age {
            self.hit_ages.note(age);
        }
    }

    /// How many lookups ended so.
    pub fn lookups(&self, result: ResultKind) -> u64 {
        self.results[result as usize].get()
    }

    /// How old what was served from a tier was.
    pub fn hit_ages(&self) -> AgeCounts {
        self.hit_ages.counts()
    }
}

/// Calls of one policy's hooks, whatever version of it is in force.
#[derive(Debug)]
pub struct PolicyMetrics {
    /// Decisions that were remembered.
    pub(crate) recalled: Counter,
    /// Calls because nothing was remembered.
    pub(crate) on_request: Counter,
    /// Calls of a policy whose decisions are not remembered any more.
    pub(crate) without_memo: Counter,
    pub(crate) on_response: Counter,
    pub(crate) on_event: Counter,
    answers: Counter,
    server_errors: Counter,
}

impl PolicyMetrics {
    /// Counts an answer on one of the policy's routes.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        match status.is_server_error() {
            true => self.server_errors.inc(),
            false => self.answers.inc(),
        };
    }
}

/// Counts down when dropped.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// All metrics of the data plane.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
    lookups: Family<LookupLabels, Counter>,
    /// Every namespace that some generation has had.
    namespaces: Mutex<Vec<Arc<NamespaceMetrics>>>,
    origin_requests: Counter,
    early_refreshes: Counter,
    origin_results: Family<UpstreamLabels, Counter>,
    connections: Gauge,
    tls_failures: Counter,
    certificates: Family<CertificateLabel, Gauge>,
    generations: Gauge,
    policy_calls: Family<PolicyCallLabels, Counter>,
    policy_errors: Family<PolicyErrorLabels, Counter>,
    policy_answers: Family<PolicyAnswerLabels, Counter>,
    not_stored: Family<ReasonLabel, Counter>,
    unkeyed: Family<UnkeyedLabels, Counter>,
    refused: Family<ReasonLabel, Counter>,
    invalidations: Counter,
    fills: Gauge<i64, std::sync::atomic::AtomicI64>,
    body_bytes: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("weir");
        let this = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(durations as fn() -> Histogram),
            lookups: Family::default(),
            namespaces: Mutex::default(),
            origin_requests: Counter::default(),
            early_refreshes: Counter::default(),
            origin_results: Family::default(),
            connections: Gauge::default(),
            tls_failures: Counter::default(),
            certificates: Family::default(),
            generations: Gauge::default(),
            policy_calls: Family::default(),
            policy_errors: Family::default(),
            policy_answers: Family::default(),
            not_stored: Family::default(),
            unkeyed: Family::default(),
            refused: Family::default(),
            invalidations: Counter::default(),
            fills: Gauge::default(),
            body_bytes: Counter::default(),
            registry: Mutex::new(Registry::default()),
        };
        registry.register(
            "requests",
            "Requests by route and how they ended",
            this.requests.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "From a request's header section to the response's, by route",
            this.seconds.clone(),
        );
        registry.register(
            "cache_lookups",
            "Lookups by namespace and how they ended",
            this.lookups.clone(),
        );
        registry.register(
            "origin_requests",
            "Requests sent to origins",
            this.origin_requests.clone(),
        );
        registry.register(
            "early_refreshes",
            "Fetches of objects that were asked for often and about to expire",
            this.early_refreshes.clone(),
        );
        registry.register(
            "origin_results",
            "Origins' answers: the status class, or why there was none",
            this.origin_results.clone(),
        );
        registry.register(
            "connections",
            "Open client connections",
            this.connections.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "Client connections that ended before TLS was agreed",
            this.tls_failures.clone(),
        );
        registry.register(
            "tls_certificate_expires_seconds",
            "When the certificate in force expires, since 1970, by the chain's file",
            this.certificates.clone(),
        );
        registry.register(
            "generations_alive",
            "Generations of routes and policies that a request still holds; 1 at rest",
            this.generations.clone(),
        );
        registry.register(
            "policy_calls",
            "Calls of policies by hook, and whether the memo answered",
            this.policy_calls.clone(),
        );
        registry.register(
            "policy_errors",
            "Failed calls of policies by hook and reason",
            this.policy_errors.clone(),
        );
        registry.register(
            "policy_answers",
            "Answers on the routes of a policy, by whether they were 5xx",
            this.policy_answers.clone(),
        );
        registry.register(
            "not_stored",
            "Responses that were to be stored and were not, by reason",
            this.not_stored.clone(),
        );
        registry.register(
            "unkeyed_inputs",
            "Stored responses that may vary with something that neither key nor Vary names",
            this.unkeyed.clone(),
        );
        registry.register(
            "refused",
            "Requests that were refused as they stand, by reason",
            this.refused.clone(),
        );
        registry.register(
            "invalidations",
            "Purges this node acknowledged",
            this.invalidations.clone(),
        );
        registry.register(
            "fills",
            "Origin fetches under way that others can join",
            this.fills.clone(),
        );
        registry.register(
            "stored_body_bytes",
            "Bytes of bodies put into memory",
            this.body_bytes.clone(),
        );
        *this.registry.lock() = registry;
        this
    }
}

impl Metrics {
    /// Lets another part of the node add metrics of its own.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// When a label cannot be written, which the types rule out.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock())?;
        Ok(text)
    }

    /// Counts a connection on which TLS came to nothing.
    pub(crate) fn handshake_failed(&self) {
        self.tls_failures.inc();
    }

    /// Shows when the certificates in force expire.
    pub fn certificates(&self, in_force: &[Certificate]) {
        self.certificates.clear();
        for certificate in in_force {
            let labels = CertificateLabel {
                chain: certificate.chain().display().to_string(),
            };
            let expires = i64::try_from(certificate.expires().as_secs()).unwrap_or(i64::MAX);
            self.certificates.get_or_create_owned(&labels).set(expires);
        }
    }

    /// The counters of a route.
    #[must_use]
    pub fn route(&self, route: &str) -> RouteMetrics {
        let labels = |result| RequestLabels {
            route: route.to_owned(),
            result,
        };
        RouteMetrics {
            results: ResultKind::ALL.map(|kind| self.requests.get_or_create_owned(&labels(kind))),
            seconds: self.seconds.get_or_create_owned(&RouteLabel {
                route: route.to_owned(),
            }),
        }
    }

    /// The counters of a namespace, the same ones in every generation.
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Arc<NamespaceMetrics> {
        let mut known = self.namespaces.lock();
        if let Some(known) = known.iter().find(|known| &*known.namespace == namespace) {
            return Arc::clone(known);
        }
        let labels = |result| LookupLabels {
            namespace: namespace.to_owned(),
            result,
        };
        let made = Arc::new(NamespaceMetrics {
            namespace: Arc::from(namespace),
            results: ResultKind::ALL.map(|kind| self.lookups.get_or_create_owned(&labels(kind))),
            hit_ages: Ages::default(),
        });
        known.push(Arc::clone(&made));
        made
    }

    /// The counters of every namespace so far.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Arc<NamespaceMetrics>> {
        self.namespaces.lock().clone()
    }

    /// The counters of a policy.
    #[must_use]
    pub fn policy(&self, policy: &str) -> PolicyMetrics {
        let calls = |hook: &str, memo: &str| {
            self.policy_calls.get_or_create_owned(&PolicyCallLabels {
                policy: policy.to_owned(),
                hook: hook.to_owned(),
                memo: memo.to_owned(),
            })
        };
        let answers = |class| {
            let policy = policy.to_owned();
            let labels = PolicyAnswerLabels { policy, class };
            self.policy_answers.get_or_create_owned(&labels)
        };
        PolicyMetrics {
            recalled: calls("on-request", "hit"),
            on_request: calls("on-request", "miss"),
            without_memo: calls("on-request", "off"),
            on_response: calls("on-response", "off"),
            on_event: calls("on-event", "off"),
            answers: answers("other"),
            server_errors: answers("5xx"),
        }
    }

    /// Counts an open connection until the guard is dropped.
    #[must_use]
    pub fn connection_opened(&self) -> GaugeGuard {
        self.connections.inc();
        GaugeGuard(self.connections.clone())
    }

    /// Counts a live generation until the guard is dropped.
    #[must_use]
    pub fn generation_born(&self) -> GaugeGuard {
        self.generations.inc();
        GaugeGuard(self.generations.clone())
    }

    /// Counts a running fill until the guard is dropped.
    #[must_use]
    pub fn fill_started(&self) -> GaugeGuard {
        self.fills.inc();
        GaugeGuard(self.fills.clone())
    }

    /// Counts a request to an origin.
    pub fn origin_request(&self) {
        self.origin_requests.inc();
    }

    /// Counts a fetch of something fresh.
    pub fn refreshed_early(&self) {
        self.early_refreshes.inc();
    }

    /// Counts an origin's answer: `2xx` or the token of an error.
    pub fn origin_result(&self, upstream: &str, result: &str) {
        self.origin_results
            .get_or_create(&UpstreamLabels {
                upstream: upstream.to_owned(),
                result: result.to_owned(),
            })
            .inc();
    }

    /// Counts a failed policy call.
    pub fn policy_error(&self, policy: &str, hook: &str, reason: &str) {
        self.policy_errors
            .get_or_create(&PolicyErrorLabels {
                policy: policy.to_owned(),
                hook: hook.to_owned(),
                reason: reason.to_owned(),
            })
            .inc();
    }

    /// Counts a response that was not stored.
    pub fn not_stored(&self, reason: &str) {
        self.not_stored
            .get_or_create(&ReasonLabel {
                reason: reason.to_owned(),
            })
            .inc();
    }

    /// Counts something that a stored response may vary with and no key says.
    pub(crate) fn unkeyed(&self, route: &str, check: &'static str) {
        self.unkeyed
            .get_or_create(&UnkeyedLabels {
                route: route.to_owned(),
                check,
            })
            .inc();
    }

    /// Counts a request that was refused as it stands.
    pub fn refused(&self, reason: &str) {
        self.refused
            .get_or_create(&ReasonLabel {
                reason: reason.to_owned(),
            })
            .inc();
    }

    /// Counts an acknowledged purge.
    pub fn invalidated(&self) {
        self.invalidations.inc();
    }

    /// Counts what went into memory.
    pub fn stored(&self, bytes: usize) {
        self.body_bytes.inc_by(bytes as u64);
    }
}

/// The status class of a response, as metrics have it.
#[must_use]
pub(crate) fn status_class(status: http::StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}
