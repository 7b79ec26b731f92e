//! How Redis is reached and used.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Redis's own port.
const PORT: u16 = 6_379;

/// Settings of the Redis tier. Every field has a default but the servers.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where it is.
    pub servers: Servers,
    /// Who this node is to the servers.
    pub login: Login,
    /// The number of the database; 0 for a cluster, which has no other.
    pub database: u32,
    /// Present where the servers are reached by TLS.
    pub tls: Option<Tls>,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// What every key begins with, up to the first `:`. One fleet, one prefix.
    pub prefix: String,
    /// The most connections to a server; one more follows the log. Calls share them.
    pub pool_size: u32,
    /// How many of them are kept open when idle; at most `pool_size`.
    pub min_idle: u32,
    /// For each call on a request's way, waiting for a connection included.
    pub deadline: Duration,
    /// For each call that no request waits for: writing objects, following the log, and
    /// for purges.
    pub background_deadline: Duration,
    /// After so many failures in a row a server counts as down; at least 1.
    pub failures: u32,
    /// Larger objects, as records, stay out of Redis, in bytes.
    pub max_object: usize,
    /// Bodies from this length on, in bytes, are compressed with zstd where that saves
    /// something and the origin has not done it. Absent: none are.
    pub compress_above: Option<usize>,
    /// How long one node waits for an object that another one fetches; zero: not at all.
    pub lease: Duration,
    /// How many objects wait to be written, at most.
    pub queue_objects: usize,
    /// How many bytes of objects wait to be written, at most.
    pub queue_bytes: usize,
    /// How many entries the log's stream keeps, about. A node that has been away for
    /// more purges than this cannot tell that nothing was lost, and begins a new epoch.
    pub stream_entries: usize,
    /// Where purges are kept that Redis did not take; absent: in memory.
    pub journal: Option<PathBuf>,
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// One server, or something that stands for it.
    Single(Endpoint),
    /// A master that sentinels know, and replace by a replica of it when it fails.
    Sentinel(SentinelConfig),
    /// A Redis Cluster; some of its nodes, to ask for the others.
    Cluster(Vec<Endpoint>),
}

/// The sentinels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelConfig {
    /// Some or all of them.
    pub servers: Vec<Endpoint>,
    /// What they call the master.
    pub service: String,
    /// Who this node is to them, which is another matter than who it is to the master.
    pub login: Login,
    /// Present where they are reached by TLS.
    pub tls: Option<Tls>,
}

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP port. An IPv6 address has no brackets here.
    Tcp {
        /// Name or IP address; a name is looked up for each connection.
        host: Arc<str>,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// A TCP port.
    pub fn tcp(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self::Tcp {
            host: host.into(),
            port,
        }
    }

    /// Reads `HOST:PORT`, as Redis writes it: without brackets around IPv6.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self::tcp(host, port.parse().ok()?))
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::tcp("127.0.0.1", PORT)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A user of Redis (ACL), or of Sentinel.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// None: `default`.
    pub username: Option<String>,
    /// None: nothing is asked for.
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("Login")
            .field("username", &self.username)
            .field("password", &password)
            .finish()
    }
}

/// How a server shows that it is the one meant, and this node too.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What is trusted and shown.
    pub config: Arc<rustls::ClientConfig>,
    /// The name to ask for and to verify; none: the host that is connected to.
    pub server_name: Option<String>,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.server_name == other.server_name
    }
}

impl Eq for Tls {}

/// The version of Redis's protocol.
///
/// What is used of RESP3: its `HELLO`, which greets and logs in at once, and its replies
/// in types of their own. No messages are pushed to this node, and client tracking is not
/// used: it says nothing when it has lost a key, and the log says more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Every server speaks it.
    Resp2,
    /// Spoken since Redis 6; where a server refuses it, RESP2 is.
    #[default]
    Resp3,
}

impl RedisConfig {
    /// The defaults.
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            login: Login::default(),
            database: 0,
            tls: None,
            protocol: Protocol::default(),
            prefix: "weir".into(),
            pool_size: 10,
            min_idle: 5,
            deadline: Duration::from_millis(20),
            background_deadline: Duration::from_millis(500),
            failures: 5,
            max_object: 8 * 1_024 * 1_024,
            compress_above: None,
            lease: Duration::from_secs(3),
            queue_objects: 1_024,
            queue_bytes: 64 * 1_024 * 1_024,
            stream_entries: 32_768,
            journal: None,
        }
    }

    /// # Errors
    /// [`ConfigError`] for a setting that cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let prefix_ok = !self.prefix.is_empty()
            && self
                .prefix
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"{}".contains(&byte));
        if !prefix_ok {
            return Err(ConfigError::Prefix(self.prefix.clone()));
        }
        if self.pool_size == 0 || self.min_idle > self.pool_size {
            return Err(ConfigError::Pool {
                pool_size: self.pool_size,
                min_idle: self.min_idle,
            });
        }
        if self.deadline.is_zero() || self.background_deadline.is_zero() {
            return Err(ConfigError::Deadline);
        }
        match &self.servers {
            Servers::Single(_) => Ok(()),
            Servers::Cluster(seeds) if seeds.is_empty() => Err(ConfigError::NoServers("urls")),
            Servers::Sentinel(sentinel) if sentinel.servers.is_empty() => {
                Err(ConfigError::NoServers("sentinel.servers"))
            }
            Servers::Cluster(_) if self.database != 0 => Err(ConfigError::Database(self.database)),
            Servers::Cluster(_) | Servers::Sentinel(_) => Ok(()),
        }
    }
}

/// A setting of `[redis]` that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The prefix would make keys ambiguous.
    #[error(
        "redis.prefix {0:?} must be printable ASCII without '{{', '}}' and spaces, and not empty"
    )]
    Prefix(String),
    /// The pool's sizes contradict each other.
    #[error(
        "redis.pool_size is {pool_size} and redis.min_idle is {min_idle}; \
         pool_size must be at least 1 and at least min_idle"
    )]
    Pool {
        /// `redis.pool_size`.
        pool_size: u32,
        /// `redis.min_idle`.
        min_idle: u32,
    },
    /// A deadline is zero.
    #[error("redis.deadline must be longer than zero; 20ms is usual")]
    Deadline,
    /// The journal cannot be used: a [`JournalError`](crate::log::JournalError).
    #[error("{0}")]
    Journal(String),
    /// A list is empty.
    #[error("redis.{0} is empty; name at least one server")]
    NoServers(&'static str),
    /// A cluster has one database.
    #[error("redis.database is {0}, but a cluster has database 0 alone; remove the line")]
    Database(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let message = |change: fn(&mut RedisConfig)| {
            let mut config = RedisConfig::new(Servers::Single(Endpoint::default()));
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(message(|config| config.prefix = "a{b".into()).contains("redis.prefix"));
        assert!(message(|config| config.min_idle = 11).contains("redis.min_idle is 11"));
        assert!(message(|config| config.deadline = Duration::ZERO).contains("redis.deadline"));
        let none = |config: &mut RedisConfig| config.servers = Servers::Cluster(Vec::new());
        assert!(message(none).contains("redis.urls"));
        let numbered = |config: &mut RedisConfig| {
            config.servers = Servers::Cluster(vec![Endpoint::default()]);
            config.database = 3;
        };
        assert!(message(numbered).contains("redis.database is 3"));
    }

    #[test]
    fn debug_does_not_show_the_password() {
        let mut config = RedisConfig::new(Servers::Single(Endpoint::default()));
        config.login.password = Some("secret".into());
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn an_address_reads_back() {
        for text in ["127.0.0.1:6379", "redis.example:1"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        let v6 = Endpoint::parse("::1:6379").unwrap();
        assert_eq!(
            (v6.to_string().as_str(), v6),
            ("[::1]:6379", Endpoint::tcp("::1", 6_379))
        );
        assert_eq!(Endpoint::parse("no port"), None);
    }
}
