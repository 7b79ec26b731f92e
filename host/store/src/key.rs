//! Cache keys: what the policy cannot choose, and after it what it chose.
//!
//! A key reads `ORIGIN|namespace:part:part` or, by plain RFC 9111, `ORIGIN|/path?query`;
//! on a shared route `ORIGIN|` is left out. No two different lists of inputs give the
//! same text (the property tests hold that), so comparing texts compares inputs.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

mod builder;
pub use builder::KeyBuilder;

/// The longest key, in bytes. A request whose key would be longer is not cached.
pub const MAX_KEY_BYTES: usize = 32 * 1024;

/// The longest namespace, in bytes.
pub const MAX_NAMESPACE_BYTES: usize = 64;

/// Why a key could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The namespace does not match `[a-z0-9][a-z0-9_-]{0,63}`.
    #[error(
        "a namespace is 1 to 64 of a-z, 0-9, '_' and '-', and begins with a letter or a digit; \
         rename it in the policy's `namespaces`"
    )]
    Namespace,
    /// The scheme or the authority has a byte that none may have.
    #[error(
        "the origin is not `scheme://host` or `scheme://host:port`; correct the request's Host"
    )]
    Origin,
    /// A plain key's target does not begin with `/`.
    #[error("the target of a plain key must begin with '/'; use the path and query as sent")]
    Target,
    /// The key is longer than [`MAX_KEY_BYTES`].
    #[error(
        "the key is longer than {MAX_KEY_BYTES} bytes; shorten or hash its parts in the policy"
    )]
    TooLong,
    /// The text is not what [`KeyBuilder`] writes.
    #[error("the text is not a key that this version writes; treat the record as lost")]
    Malformed,
}

/// The key of an object. Cheap to clone; hashes and compares as its text, so that a
/// map of keys is asked with a `&str`.
#[derive(Clone)]
pub struct Key {
    text: Arc<str>,
}

impl Key {
    /// Reads a key back from its text.
    ///
    /// # Errors
    /// [`KeyError::TooLong`], or [`KeyError::Malformed`] if [`KeyBuilder`] cannot have
    /// written it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong);
        }
        let name_at = match text.split_once('|') {
            Some((origin, _)) if builder::is_origin(origin) => origin.len() + 1,
            Some(_) => return Err(KeyError::Malformed),
            None => 0,
        };
        if !builder::is_name(&text[name_at..]) {
            return Err(KeyError::Malformed);
        }
        Ok(Self::from_checked(text))
    }

    fn from_checked(text: &str) -> Self {
        Self {
            text: Arc::from(text),
        }
    }

    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `scheme://authority`; absent on a shared route.
    pub fn origin(&self) -> Option<&str> {
        self.split().0
    }

    /// What follows `ORIGIN|`: what keys and prefixes of selectors name.
    pub fn name(&self) -> &str {
        self.split().1
    }

    /// The name as the policy knows it: without the digest that a sealed route adds. A purge
    /// of it means all keys that differ in nothing else.
    pub fn unsealed_name(&self) -> &str {
        let name = self.name();
        match name.rsplit_once(builder::SEAL) {
            Some((unsealed, _)) if !name.starts_with('/') => unsealed,
            _ => name,
        }
    }

    /// Origin and name. What stands in a name is escaped: the first `|` is the one between.
    fn split(&self) -> (Option<&str>, &str) {
        match self.text.split_once('|') {
            Some((origin, name)) => (Some(origin), name),
            None => (None, &self.text),
        }
    }

    /// The policy's namespace; absent in a plain key.
    pub fn namespace(&self) -> Option<&str> {
        let name = self.name();
        (!name.starts_with('/')).then(|| name.split(':').next().unwrap_or(name))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.as_str())
    }
}

#[cfg(test)]
mod tests;
