//! What the assembly hands to the data plane: plain values, already validated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use rustls::pki_types::CertificateDer;
pub use weir_semantics::Overrides;
use weir_semantics::{Coding, MediaTypes};

/// Where a node listens, and how patient it is with clients.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Cleartext addresses of the data plane, HTTP/1.1 and HTTP/2 on each.
    pub listen: Vec<SocketAddr>,
    /// From a connection's start, or the end of its last response, to the end of the next
    /// request's header section: so also how long a connection may be idle.
    pub header_timeout: Duration,
    /// The most header fields a request may have.
    pub max_headers: usize,
    /// The most bytes a request's header section may have.
    pub max_header_size: usize,
    /// The most bytes a request target may have, as far as `max_header_size` leaves room.
    pub max_uri_size: usize,
    /// Between two pieces of a request's body, while it is wanted.
    pub body_timeout: Duration,
    /// How long a client may read nothing of what is to be written to it.
    pub write_timeout: Duration,
    /// How long running requests may take to end after SIGTERM.
    pub drain_timeout: Duration,
}

/// What a request line and a Host may need besides the target.
const AROUND_TARGET: usize = 256;

impl ServerSettings {
    /// The most bytes a request target may have, so that a longer one is told from a
    /// header section that is too large.
    pub(crate) fn longest_target(&self) -> usize {
        let room = self.max_header_size.saturating_sub(AROUND_TARGET);
        self.max_uri_size.min(room)
    }
}

/// A group of origin servers with the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Its name in the configuration.
    pub name: String,
    /// `host:port` of each server.
    pub servers: Vec<String>,
    /// Present when they are reached by TLS.
    pub tls: Option<UpstreamTls>,
    /// How long a connection may take, TLS included.
    pub connect_timeout: Duration,
    /// From the last piece of the request that was sent to the response's header section.
    pub response_timeout: Duration,
    /// Between two pieces of a response's body.
    pub body_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// How many unused connections are kept for each server.
    pub max_idle: usize,
    /// How many other servers are tried after a failed connection.
    pub retries: u32,
}

/// How the servers of an upstream show that they are those meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The certificate authorities that are trusted; absent: those of the system.
    pub authorities: Option<Arc<[CertificateDer<'static>]>>,
    /// The name that is asked for and verified; absent: each server's own.
    pub server_name: Option<String>,
    /// Whether the certificate is looked at at all.
    pub verify: bool,
}

/// What a request gets whose policy failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPolicyError {
    /// Forwarded, nothing looked up or stored.
    Pass,
    /// Cached by RFC 9111 alone, in a key space of its own.
    Rfc9111,
    /// Decided by the generation of the policy before this one.
    LastGood,
    /// 503 (Service Unavailable).
    Unavailable,
}

/// What a route does while Redis is configured and out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisDown {
    /// Memory alone, each object trusted for `coherence_window` after it was fetched.
    MemoryOnly,
    /// Memory alone, trusted for the whole lifetime: purges made elsewhere are not seen.
    Stale,
    /// Every request goes to the origin.
    Bypass,
    /// As `MemoryOnly`, and 503 for requests above a number of concurrent fetches.
    Shed,
}

/// One `[[routes]]` entry.
#[derive(Debug, Clone)]
pub struct RouteSettings {
    /// The authority it serves; absent: every one.
    pub host: Option<String>,
    /// The path pattern: `/users/{id}`, `/{*rest}`.
    pub path: String,
    /// The upstream's name.
    pub upstream: String,
    /// The policy's name; absent: RFC 9111 alone.
    pub policy: Option<String>,
    /// What happens when the policy fails.
    pub on_policy_error: OnPolicyError,
    /// What happens while Redis is away.
    pub redis_down: RedisDown,
    /// Concurrent fetches above which `RedisDown::Shed` answers 503.
    pub shed_above: usize,
    /// One object for all hosts of the route.
    pub shared: bool,
    /// The origin sees of a request that is looked up only what its key says.
    pub sealed: bool,
    /// A response with Set-Cookie may be stored when it is explicitly fresh.
    pub store_set_cookie: bool,
    /// Protocols that connections may be upgraded to, whatever their case.
    pub upgrades: Vec<String>,
    /// How long an upgraded connection may be still.
    pub upgrade_idle_timeout: Duration,
    /// Lifetimes of errors that say nothing of their own.
    pub negative: Vec<(StatusCode, Duration)>,
    /// What protects users and a lifetime of the policy's overrides nevertheless.
    pub may_override: Overrides,
    /// What the node compresses; absent: nothing.
    pub compress: Option<CompressSettings>,
}

/// What is compressed on a route.
#[derive(Debug, Clone)]
pub struct CompressSettings {
    /// In which codings, the favourite first; none twice.
    pub codings: Vec<Coding>,
    /// The least size of a body, in bytes.
    pub min: u64,
    /// Of which types.
    pub types: MediaTypes,
}

/// Bounds of the cache as a whole.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// No object lives longer, stale windows included.
    pub longest_life: Duration,
    /// Bodies above this many bytes are streamed and not stored.
    pub max_object: u64,
    /// Requests with more content than this many bytes are not looked up by it.
    pub max_keyed_body: u64,
    /// How long a key is remembered as uncacheable.
    pub uncacheable_for: Duration,
    /// For how long after its lifetime an object may stand in for an origin that cannot be
    /// reached.
    pub disconnected: Duration,
    /// Whether what is asked for often is fetched anew shortly before it expires.
    pub early_refresh: bool,
    /// Targeted fields, most specific first (RFC 9213).
    pub targeted: Vec<HeaderName>,
    /// Whether each request is logged.
    pub access_log: bool,
}

/// The name a route goes by in metrics, logs and explanations: its host and pattern.
#[must_use]
pub fn route_label(host: Option<&str>, path: &str) -> Arc<str> {
    match host {
        Some(host) => Arc::from(format!("{host}{path}")),
        None => Arc::from(path),
    }
}
