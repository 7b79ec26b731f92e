//! What the data plane counts. Families live as long as the node; a generation looks its
//! own counters up once, and what every request adds to is a [`Tally`](weir_tally::Tally).

mod tallied;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub(crate) use self::tallied::Counted;
pub use self::tallied::{NamespaceMetrics, PolicyMetrics, RouteMetrics};
use self::tallied::{Scraped, Tallied};
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
struct PolicyErrorLabels {
    policy: String,
    hook: String,
    reason: String,
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
    tallied: Arc<Tallied>,
    origin_requests: Counter,
    early_refreshes: Counter,
    origin_results: Family<UpstreamLabels, Counter>,
    connections: Gauge,
    tls_failures: Counter,
    certificates: Family<CertificateLabel, Gauge>,
    generations: Gauge,
    policy_errors: Family<PolicyErrorLabels, Counter>,
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
            tallied: Arc::default(),
            origin_requests: Counter::default(),
            early_refreshes: Counter::default(),
            origin_results: Family::default(),
            connections: Gauge::default(),
            tls_failures: Counter::default(),
            certificates: Family::default(),
            generations: Gauge::default(),
            policy_errors: Family::default(),
            not_stored: Family::default(),
            unkeyed: Family::default(),
            refused: Family::default(),
            invalidations: Counter::default(),
            fills: Gauge::default(),
            body_bytes: Counter::default(),
            registry: Mutex::new(Registry::default()),
        };
        let scraped = Scraped(Arc::clone(&this.tallied));
        registry.register_collector(Box::new(scraped));
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
            "policy_errors",
            "Failed calls of policies by hook and reason",
            this.policy_errors.clone(),
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
        self.tallied.route(route)
    }

    /// The counters of a namespace, the same ones in every generation.
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Arc<NamespaceMetrics> {
        self.tallied.namespace(namespace)
    }

    /// The counters of every namespace so far.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Arc<NamespaceMetrics>> {
        self.tallied.namespaces()
    }

    /// The counters of a policy.
    #[must_use]
    pub fn policy(&self, policy: &str) -> PolicyMetrics {
        self.tallied.policy(policy)
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
