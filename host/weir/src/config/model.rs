//! The configuration as resolved: defaults filled in, paths joined to the
//! folder of the file, values parsed, references checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, StatusCode};
pub(crate) use weir_proxy::{Coding, MediaTypes};
pub(crate) use weir_store::redis::Endpoint;

use super::compound::Choice;
use super::errors::Problem;
use super::pattern::PathPattern;
use super::secret::{Secret, SecretError, read_secret};
use crate::registry::Image;
use crate::signing::PublicKey;

/// A node's configuration, valid as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file it was read from.
    pub(crate) file: PathBuf,
    /// Where clients connect in cleartext; none twice. Empty only where there is TLS.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where clients connect with TLS.
    pub(crate) tls: Option<Tls>,
    /// Folder for compiled policies, the disk tier and its purges; not created yet.
    pub(crate) data_dir: Option<PathBuf>,
    /// Worker threads, 1 to 1024.
    pub(crate) threads: usize,
    /// Limits on clients.
    pub(crate) limits: Limits,
    /// The admin listener, if any.
    pub(crate) admin: Option<Admin>,
    /// Keys by one of which a component must be signed that does not come from its file;
    /// none where signatures are not asked for.
    pub(crate) trusted_keys: Vec<PublicKey>,
    /// What is logged.
    pub(crate) log: Log,
    /// The memory tier.
    pub(crate) memory: Memory,
    /// What is stored.
    pub(crate) cache: Cache,
    /// The Redis tier, if any.
    pub(crate) redis: Option<Redis>,
    /// The disk tier, if any; then there is a `data_dir`, and no Redis.
    pub(crate) disk: Option<Disk>,
    /// By name.
    pub(crate) upstreams: BTreeMap<String, Upstream>,
    /// By name.
    pub(crate) policies: BTreeMap<String, Policy>,
    /// In the order of the file; at least one. Hosts and paths do not collide.
    pub(crate) routes: Vec<Route>,
    /// What is probably not meant as written.
    pub(crate) warnings: Vec<Problem>,
}

/// The disk tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Its folder.
    pub(crate) path: PathBuf,
    /// Bytes on disk.
    pub(crate) capacity: u64,
    /// Bytes that are left free on it.
    pub(crate) min_free: u64,
    /// Largest body that is written, in bytes.
    pub(crate) max_object: u64,
    /// For each lookup. Not zero.
    pub(crate) deadline: Duration,
    /// Bytes that may wait to be written; no less than `max_object`.
    pub(crate) queue: u64,
}

/// Limits on clients, and how the node stops.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Time for a client to send the header of a request, idle time before it included.
    /// Not zero.
    pub(crate) header_timeout: Duration,
    /// Most header fields in a request, 1 to 10,000.
    pub(crate) max_headers: usize,
    /// Most bytes in the header of a request, 8 KiB to 1 MiB.
    pub(crate) max_header_size: usize,
    /// Most bytes in the target of a request, 256 B to 60 KiB.
    pub(crate) max_uri_size: usize,
    /// Longest time between two pieces of a request's body.
    pub(crate) body_timeout: Duration,
    /// Longest time that a client may read nothing of a response.
    pub(crate) write_timeout: Duration,
    /// Time that requests in flight have to finish after SIGTERM.
    pub(crate) drain_timeout: Duration,
}

/// Listeners with TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// At least one.
    pub(crate) listen: Vec<SocketAddr>,
    /// Time for a client to finish the handshake. Not zero.
    pub(crate) handshake_timeout: Duration,
    /// At least one.
    pub(crate) certificates: Vec<CertificateFiles>,
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The certificate and those between it and its authority.
    pub(crate) chain: PathBuf,
    /// The private key.
    pub(crate) key: PathBuf,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    /// Loopback unless there is a token file.
    pub(crate) listen: SocketAddr,
    /// The file with the token; see [`Admin::token`].
    pub(crate) token_file: Option<PathBuf>,
}

impl Admin {
    /// Reads the token that requests must carry. None when no file is named.
    ///
    /// # Errors
    /// When the file cannot be read, or is not one line of visible ASCII.
    pub(crate) fn token(&self) -> Result<Option<Secret>, SecretError> {
        self.token_file.as_deref().map(read_secret).transpose()
    }
}

/// What is logged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    /// How a line looks.
    pub(crate) format: LogFormat,
    /// The least important messages that are written.
    pub(crate) level: LogLevel,
    /// Whether each request is written.
    pub(crate) access: bool,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// How important a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// Something failed.
    Error,
    /// Something is degraded.
    Warn,
    /// Something an operator wants to know.
    Info,
    /// For finding out why.
    Debug,
    /// Everything.
    Trace,
}

/// The memory tier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// In bytes, at least 1 MiB.
    pub(crate) capacity: u64,
}

/// What is stored, on all routes.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    /// Longest life of an object: lifetime and stale windows together.
    pub(crate) longest_life: Duration,
    /// Largest body that is stored, in bytes; at most the memory's capacity.
    pub(crate) max_object: u64,
    /// Largest content of a request that stands in a key, in bytes.
    pub(crate) max_keyed_body: u64,
    /// How long it is remembered that a response could not be stored.
    pub(crate) uncacheable_for: Duration,
    /// For how long a stale object may stand in for an origin that cannot be reached.
    pub(crate) disconnected: Duration,
    /// Whether what is asked for often is fetched anew shortly before it expires.
    pub(crate) early_refresh: bool,
    /// Targeted fields, most specific first.
    pub(crate) targeted: Vec<HeaderName>,
}

/// The Redis tier.
#[derive(Clone, Debug)]
pub(crate) struct Redis {
    /// Where it is.
    pub(crate) servers: RedisServers,
    /// Number of the database; 0 for a cluster.
    pub(crate) database: u32,
    /// User name (ACL).
    pub(crate) username: Option<String>,
    /// From the URL or the key `password`; see [`Redis::password`].
    pub(crate) given_password: Option<Secret>,
    /// The file with the password; see [`Redis::password`].
    pub(crate) password_file: Option<PathBuf>,
    /// Present when the servers are reached by TLS, or their sentinels.
    pub(crate) tls: Option<RedisTls>,
    /// The protocol.
    pub(crate) protocol: RedisProtocol,
    /// First part of the name of every key; without `{` and `}`.
    pub(crate) prefix: String,
    /// Most connections to a server, 1 to 1000.
    pub(crate) pool_size: u32,
    /// Idle connections kept open, at most `pool_size`.
    pub(crate) min_idle: u32,
    /// Longest time for each call. Not zero.
    pub(crate) deadline: Duration,
    /// Longest time that a purge may take to reach the other nodes.
    pub(crate) coherence_window: Duration,
    /// Largest body that is written to Redis, in bytes; at most `queue`.
    pub(crate) max_object: u64,
    /// Bytes that may wait to be written.
    pub(crate) queue: u64,
    /// Bodies from this size on, in bytes, are compressed.
    pub(crate) compress_above: Option<u64>,
    /// How long a node waits for another one's fetch; zero: not at all.
    pub(crate) lease: Duration,
    /// How long the number of upgraded connections stands in Redis; zero: it is not told.
    pub(crate) connections_ttl: Duration,
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RedisServers {
    /// One server.
    Single(Endpoint),
    /// Nodes of a cluster, at least one.
    Cluster(Vec<Endpoint>),
    /// Known to sentinels.
    Sentinel(RedisSentinel),
}

/// The sentinels of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisSentinel {
    /// At least one.
    pub(crate) servers: Vec<Endpoint>,
    /// What they call the master.
    pub(crate) service: String,
    /// User name (ACL) at the sentinels.
    pub(crate) username: Option<String>,
    /// The file with their password.
    pub(crate) password_file: Option<PathBuf>,
    /// Whether they are reached by TLS.
    pub(crate) tls: bool,
    /// Whether the master is.
    pub(crate) master_tls: bool,
}

/// TLS with Redis.
#[derive(Clone, Debug, Default)]
pub(crate) struct RedisTls {
    /// The authorities to trust; none: those of the system.
    pub(crate) ca_file: Option<PathBuf>,
    /// The certificate that this node shows.
    pub(crate) certificate: Option<CertificateFiles>,
    /// A DNS name or an IP address.
    pub(crate) server_name: Option<String>,
}

/// The protocol that Redis is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedisProtocol {
    /// RESP2.
    Resp2,
    /// RESP3 where the server knows it.
    Resp3,
}

impl Redis {
    /// The password, read anew from its file where it has one.
    ///
    /// # Errors
    /// When the file cannot be read or is empty.
    pub(crate) fn password(&self) -> Result<Option<Secret>, SecretError> {
        match &self.password_file {
            Some(file) => read_secret(file).map(Some),
            None => Ok(self.given_password.clone()),
        }
    }
}

impl RedisSentinel {
    /// The sentinels' password, read anew.
    ///
    /// # Errors
    /// When the file cannot be read or is empty.
    pub(crate) fn password(&self) -> Result<Option<Secret>, SecretError> {
        self.password_file.as_deref().map(read_secret).transpose()
    }
}

/// Servers that answer alike.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    /// At least one.
    pub(crate) servers: Vec<Server>,
    /// Present when they are reached by TLS.
    pub(crate) tls: Option<UpstreamTls>,
    /// Time to open a connection, TLS included. Not zero.
    pub(crate) connect_timeout: Duration,
    /// Time from the request to the head of the response. Not zero.
    pub(crate) response_timeout: Duration,
    /// Longest time between two pieces of a response's body. Not zero.
    pub(crate) body_timeout: Duration,
    /// Time that an idle connection is kept. Not zero.
    pub(crate) idle_timeout: Duration,
    /// Idle connections kept to each server.
    pub(crate) max_idle: usize,
    /// How many other servers are tried when a connection fails.
    pub(crate) retries: u32,
}

/// How the servers of an upstream are verified.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamTls {
    /// The authorities to trust; none: those of the system.
    pub(crate) ca_file: Option<PathBuf>,
    /// A DNS name or an IP address.
    pub(crate) server_name: Option<String>,
    /// Whether they are verified at all.
    pub(crate) verify: bool,
}

/// A server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Name or IP address, as in a URL: IPv6 in brackets, names in lower case.
    pub(crate) host: String,
    /// 80 or 443 where the URL names none.
    pub(crate) port: u16,
}

impl Server {
    /// `host:port`, always with the port.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Where a component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    /// A file, which is watched.
    File(PathBuf),
    /// In a registry, under a digest.
    Registry(Image),
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Registry(image) => write!(f, "{image}"),
        }
    }
}

/// A policy: a component, what it may use, and its limits.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Where its component is.
    pub(crate) component: Component,
    /// The line in the configuration that names it, for messages.
    pub(crate) line: usize,
    /// Cases that a version must pass.
    pub(crate) cases: Option<PathBuf>,
    /// At least one; no other policy has any of them.
    pub(crate) namespaces: Vec<String>,
    /// Capabilities that the component may import.
    pub(crate) grants: Grants,
    /// Given to `configure`; always an object.
    pub(crate) config: serde_json::Value,
    /// CPU time for each call.
    pub(crate) cpu_limit: Duration,
    /// Bytes of memory for an instance.
    pub(crate) memory_limit: u64,
    /// Bytes of memory for all of them.
    pub(crate) total_memory: u64,
    /// Most instances at once. Not zero.
    pub(crate) max_instances: usize,
    /// Calls after which an instance is replaced. Not zero.
    pub(crate) reuse: u32,
    /// Whether decisions are remembered.
    pub(crate) memo: bool,
    /// When a version is taken back by itself.
    pub(crate) guard: Guard,
}

/// Bounds that a version of a policy must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    /// Percent of its calls that may fail.
    pub(crate) failures: u64,
    /// Calls below which nothing is concluded.
    pub(crate) min_calls: u64,
    /// The time that is looked back.
    pub(crate) window: Duration,
    /// Mean time of a call.
    pub(crate) cpu: Option<Duration>,
    /// Points that the hit ratio may fall.
    pub(crate) hit_ratio: Option<u64>,
    /// Points that the share of 5xx may rise.
    pub(crate) origin_errors: Option<u64>,
    /// When it is tried again.
    pub(crate) retry_after: Duration,
}

/// The capabilities granted to a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    /// Stored values.
    pub(crate) kv: bool,
    /// Rate limits.
    pub(crate) rate_limit: bool,
    /// Messages to the log.
    pub(crate) log: bool,
    /// The time.
    pub(crate) clock: bool,
}

/// A capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Stored values.
    Kv,
    /// Rate limits.
    RateLimit,
    /// Messages to the log.
    Log,
    /// The time.
    Clock,
}

/// Which requests go where, and how they are cached.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// An authority in lower case, without a default port; none for any host.
    /// Without a port it is that host on every port.
    pub(crate) host: Option<String>,
    /// The paths.
    pub(crate) path: PathPattern,
    /// A key of [`Config::upstreams`].
    pub(crate) upstream: String,
    /// A key of [`Config::policies`]; none: plain RFC 9111.
    pub(crate) policy: Option<String>,
    /// What happens when the policy fails.
    pub(crate) on_policy_error: OnPolicyError,
    /// What happens while Redis is down.
    pub(crate) redis_down: RedisDown,
    /// Concurrent origin fetches with [`RedisDown::Shed`]. Not zero.
    pub(crate) shed_above: usize,
    /// Whether all hosts of the route share one object.
    pub(crate) shared: bool,
    /// Whether the origin sees only what is in the key. It has a policy then.
    pub(crate) sealed: bool,
    /// Whether an explicitly fresh response with Set-Cookie may be stored.
    pub(crate) store_set_cookie: bool,
    /// What connections may be upgraded to: none is HTTP or TLS.
    pub(crate) upgrades: Vec<String>,
    /// How long an upgraded connection may be still. Not zero.
    pub(crate) upgrade_idle_timeout: Duration,
    /// For how long errors are kept that say nothing of their lifetime.
    pub(crate) negative: Vec<(StatusCode, Duration)>,
    /// What protects users and the policy may override.
    pub(crate) may_override: Vec<Protection>,
    /// What to warn of unless the policy's key is seen to tell users apart. Present where
    /// responses for one user may be stored.
    pub(crate) sharing_doubt: Option<Problem>,
    /// What the node compresses, if anything.
    pub(crate) compress: Option<Compress>,
}

/// What is compressed on a route.
#[derive(Clone, Debug)]
pub(crate) struct Compress {
    /// The favourite first; at least one, none twice.
    pub(crate) codings: Vec<Coding>,
    /// Least size of a body, in bytes.
    pub(crate) min: u64,
    /// Of which types.
    pub(crate) types: MediaTypes,
}

/// What keeps a response from being stored, to protect a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// `Cache-Control: private`.
    Private,
    /// It answers a request with Authorization.
    Authorization,
    /// It has Set-Cookie.
    SetCookie,
}

/// What happens to a request when its policy fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnPolicyError {
    /// It goes to the origin; nothing is stored.
    Pass,
    /// RFC 9111 decides, under keys of its own.
    Rfc9111,
    /// The last version that worked decides.
    LastGood,
    /// It is answered 503.
    Unavailable503,
}

/// What happens while Redis is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RedisDown {
    /// Memory alone, trusted for `coherence_window`.
    MemoryOnly,
    /// Memory alone, trusted for the whole lifetime.
    Stale,
    /// All requests go to the origin.
    Bypass,
    /// As `MemoryOnly`, and 503 above `shed_above` fetches at once.
    Shed,
}

impl Choice for LogFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Choice for LogLevel {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Choice for Grant {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("kv", Self::Kv),
        ("rate-limit", Self::RateLimit),
        ("log", Self::Log),
        ("clock", Self::Clock),
    ];
}

impl Choice for Protection {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("private", Self::Private),
        ("authorization", Self::Authorization),
        ("set-cookie", Self::SetCookie),
    ];
}

impl Choice for Coding {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("zstd", Self::Zstd),
        ("br", Self::Brotli),
        ("gzip", Self::Gzip),
    ];
}

impl Choice for OnPolicyError {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("pass", Self::Pass),
        ("rfc9111", Self::Rfc9111),
        ("last-good", Self::LastGood),
        ("503", Self::Unavailable503),
    ];
}

impl Choice for RedisProtocol {
    const NAMES: &'static [(&'static str, Self)] =
        &[("resp2", Self::Resp2), ("resp3", Self::Resp3)];
}

impl Choice for RedisDown {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("memory-only", Self::MemoryOnly),
        ("stale", Self::Stale),
        ("bypass", Self::Bypass),
        ("shed", Self::Shed),
    ];
}
