//! Why a call to Redis did not answer.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a call to Redis did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Redis counts as down; the call was not tried.
    #[error("Redis is down; calls to it are not tried until it answers a PING again")]
    Down,
    /// The deadline passed.
    #[error("Redis did not answer within {0:?}; see redis.deadline, and what keeps Redis busy")]
    Deadline(Duration),
    /// There is no connection, or it broke.
    #[error(
        "the connection to Redis failed: {0}; check that it runs there, and the address in [redis]"
    )]
    Connection(RedisError),
    /// Redis answers, but cannot serve now: it loads, or is no master.
    #[error(
        "Redis cannot serve now: {0}; it loads its data set, is not the master, or its cluster has none for these keys"
    )]
    NotReady(RedisError),
    /// It cannot serve as things are set up; says which key of the configuration to change.
    #[error("{0}")]
    Setup(String),
    /// Redis refused this call.
    #[error("Redis refused: {0}")]
    Refused(RedisError),
}

impl CallError {
    /// Whether it says that Redis is in trouble, rather than this one call.
    pub(super) fn counts_against_redis(&self) -> bool {
        match self {
            Self::Deadline(_) | Self::Connection(_) | Self::NotReady(_) | Self::Setup(_) => true,
            Self::Down | Self::Refused(_) => false,
        }
    }
}

impl CallError {
    /// The same of a sentinel, which has keys of its own in the configuration.
    pub(super) fn of_sentinel(self) -> Self {
        let Self::Setup(text) = self else { return self };
        let text = text
            .replace("Redis refused", "a sentinel refused")
            .replace("Redis asks", "a sentinel asks")
            .replace("with Redis", "with a sentinel")
            .replace("redis.username", "redis.sentinel.username")
            .replace("redis.password_file", "redis.sentinel.password_file")
            .replace("redis.url", "redis.sentinel.servers");
        Self::Setup(text)
    }
}

impl From<RedisError> for CallError {
    fn from(error: RedisError) -> Self {
        use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly};
        if let Some(setup) = setup(&error) {
            return Self::Setup(setup);
        }
        match error.kind() {
            ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly) => {
                Self::NotReady(error)
            }
            ErrorKind::Io | ErrorKind::AuthenticationFailed => Self::Connection(error),
            _ if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() => {
                Self::Connection(error)
            }
            _ if error.is_unrecoverable_error() => Self::Connection(error),
            _ => Self::Refused(error),
        }
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        RedisError::from(error).into()
    }
}

/// What of the configuration an error speaks of, and what to do about it.
fn setup(error: &RedisError) -> Option<String> {
    let text = error.to_string();
    // RESP2 and RESP3 put the server's words in different places.
    let says = |word: &str| text.contains(word) || error.code() == Some(word);
    if error.kind() == ErrorKind::AuthenticationFailed || says("WRONGPASS") {
        return Some(format!(
            "Redis refused the password ({text}); check redis.username and redis.password_file"
        ));
    }
    if says("NOAUTH") {
        return Some(
            "Redis asks for a password; name its file with redis.password_file".to_owned(),
        );
    }
    if says("switch database") && says("no permissions") {
        return Some(format!(
            "Redis does not let the user choose a database ({text}); give it +select, or use \
             database 0"
        ));
    }
    if says("switch database") || says("DB index") {
        return Some(format!(
            "Redis has no database of that number ({text}); check the number at the end of \
             redis.url, or redis.database"
        ));
    }
    if says("MOVED") {
        return Some(
            "the server is a node of a Redis Cluster; write redis.cluster = true, and some of \
             its nodes into redis.urls"
                .to_owned(),
        );
    }
    if says("cluster support disabled") {
        return Some(
            "redis.cluster is true, but the server is not a node of a cluster; remove that \
             line, and write redis.url"
                .to_owned(),
        );
    }
    tls(error)
}

/// What went wrong in the TLS handshake.
fn tls(error: &RedisError) -> Option<String> {
    use rustls::{AlertDescription, CertificateError, Error};
    let found = rustls_error(error)?;
    let hint = match found {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "check the host in redis.url, or name the certificate's with redis.tls.server_name",
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => {
            "name the authority of its certificate with redis.tls.ca_file"
        }
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::HandshakeFailure
            | AlertDescription::UnknownCA,
        ) => "it may ask for a certificate: see redis.tls.cert_file and redis.tls.key_file",
        Error::InvalidMessage(_) => {
            "it may not speak TLS on that port: write redis:// instead of rediss://"
        }
        _ => "see redis.tls",
    };
    Some(format!("TLS with Redis failed: {found}; {hint}"))
}

/// The error of TLS in this one, if that is what it is.
fn rustls_error(error: &RedisError) -> Option<&rustls::Error> {
    let mut next = cause(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An io::Error's source is the source of what it wraps, not what it wraps.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// What an error of the library was made of.
pub(super) fn cause(error: &RedisError) -> Option<&(dyn Error + 'static)> {
    let source = error.source()?;
    // It stands behind a pointer, which is an error of its own.
    let pointer = source.downcast_ref::<Arc<dyn Error + Send + Sync>>();
    Some(pointer.map_or(source, |pointer| &**pointer))
}
