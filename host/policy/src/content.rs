//! The content of a request whose key names it.

use std::fmt;

use bytes::Bytes;

/// A request's content, read whole, and its digest.
#[derive(Clone)]
pub struct Content {
    bytes: Bytes,
    digest: Box<str>,
}

impl Content {
    /// Computes the digest.
    pub fn new(bytes: Bytes) -> Self {
        let digest = blake3::hash(&bytes).to_hex().as_str().into();
        Self { bytes, digest }
    }

    /// BLAKE3, 64 hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The bytes as sent, content coding included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Without the bytes, which are a user's.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("bytes", &self.bytes.len())
            .field("digest", &self.digest)
            .finish()
    }
}
