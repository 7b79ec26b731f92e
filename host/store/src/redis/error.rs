//! Why a call to Redis did not answer.

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
    #[error("the connection to Redis failed: {0}; check redis.url, and that Redis runs there")]
    Connection(RedisError),
    /// Redis answers, but cannot serve now: it loads, or is no master.
    #[error("Redis cannot serve now: {0}; it loads its data set or is not the master")]
    NotReady(RedisError),
    /// Redis refused this call.
    #[error("Redis refused: {0}")]
    Refused(RedisError),
}

impl CallError {
    /// Whether it says that Redis is in trouble, rather than this one call.
    pub(super) fn counts_against_redis(&self) -> bool {
        matches!(
            self,
            Self::Deadline(_) | Self::Connection(_) | Self::NotReady(_)
        )
    }

    /// Whether the connection that it came over must not be used again.
    pub(super) fn breaks_connection(&self) -> bool {
        matches!(
            self,
            Self::Deadline(_) | Self::Connection(_) | Self::NotReady(_)
        )
    }
}

impl From<RedisError> for CallError {
    fn from(error: RedisError) -> Self {
        use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly, TryAgain};
        match error.kind() {
            ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain) => {
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
