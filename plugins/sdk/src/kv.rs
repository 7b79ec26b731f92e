//! Small shared state: in Redis when the node has one, else in the node's memory. Needs the
//! grant `kv`; a decision that used it is not remembered. Every operation is atomic.

use std::fmt;
use std::time::Duration;

use crate::bindings::weir::policy::kv as wit;
#[cfg(target_arch = "wasm32")]
use crate::response::millis;

/// Why an operation did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The store did not answer within its deadline.
    Unavailable,
    /// The namespace is not the policy's, or a size or time is out of bounds.
    Refused(String),
    /// The key holds another kind of value.
    WrongKind,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => f.write_str("the key-value store did not answer in time"),
            Self::Refused(why) => write!(f, "the key-value store refused: {why}"),
            Self::WrongKind => f.write_str("the key holds a value of another kind"),
        }
    }
}

impl std::error::Error for Error {}

impl From<wit::Error> for Error {
    fn from(error: wit::Error) -> Self {
        match error {
            wit::Error::Unavailable => Self::Unavailable,
            wit::Error::Refused(why) => Self::Refused(why),
            wit::Error::WrongKind => Self::WrongKind,
        }
    }
}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

/// The keys of one of the policy's namespaces. Times to live lie between 1 ms and 30 days;
/// values hold at most 1 MiB.
///
/// In native tests every operation is [`Error::Unavailable`], or happens in the store that
/// [`crate::testing::set_kv`] begins.
#[derive(Clone, Debug)]
pub struct Store {
    namespace: String,
}

/// The keys of `namespace`, one that the configuration gives this policy.
pub fn open(namespace: impl Into<String>) -> Store {
    Store {
        namespace: namespace.into(),
    }
}

#[cfg(not(target_arch = "wasm32"))]
use crate::testing::kv as double;

/// Calls the host, or in native tests the double of its store.
macro_rules! host {
    ($store:ident.$operation:ident($($argument:expr),*; ttl $ttl:expr)) => {{
        #[cfg(target_arch = "wasm32")]
        {
            wit::$operation(&$store.namespace, $($argument,)* millis($ttl)).map_err(Error::from)
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            double::$operation(&$store.namespace, $($argument,)* $ttl)
        }
    }};
    ($store:ident.$operation:ident($($argument:expr),*)) => {{
        #[cfg(target_arch = "wasm32")]
        {
            wit::$operation(&$store.namespace $(, $argument)*).map_err(Error::from)
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            double::$operation(&$store.namespace $(, $argument)*)
        }
    }};
}

impl Store {
    /// The value under a key.
    ///
    /// # Errors
    /// Those of [`Error`], as for all operations here.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        host!(self.get(key))
    }

    /// Stores a value for `ttl`.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
        host!(self.set(key, value; ttl ttl))
    }

    /// Removes a key of any kind; says whether there was one.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn delete(&self, key: &str) -> Result<bool, Error> {
        host!(self.delete(key))
    }

    /// Adds to a counter and returns its new value. The time to live is set when the
    /// counter is made, in the same step, and not moved afterwards.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn increment(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64, Error> {
        host!(self.increment(key, delta; ttl ttl))
    }

    /// Stores `value` if the key holds `expected` (`None`: if there is no such key); says
    /// whether it did.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, Error> {
        host!(self.compare_and_set(key, expected, value; ttl ttl))
    }

    /// Adds a member to a set and renews the set's time to live; says whether it is new.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn set_add(&self, key: &str, member: &[u8], ttl: Duration) -> Result<bool, Error> {
        host!(self.set_add(key, member; ttl ttl))
    }

    /// Removes a member from a set; says whether it was there.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn set_remove(&self, key: &str, member: &[u8]) -> Result<bool, Error> {
        host!(self.set_remove(key, member))
    }

    /// Is it a member?
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn set_contains(&self, key: &str, member: &[u8]) -> Result<bool, Error> {
        host!(self.set_contains(key, member))
    }

    /// Appends to a queue, dropping its oldest entries beyond `max_length`, and renews its
    /// time to live; returns its length.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn queue_push(
        &self,
        key: &str,
        value: &[u8],
        max_length: u32,
        ttl: Duration,
    ) -> Result<u32, Error> {
        host!(self.queue_push(key, value, max_length; ttl ttl))
    }

    /// Takes the oldest entry off a queue.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn queue_pop(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        host!(self.queue_pop(key))
    }
}
