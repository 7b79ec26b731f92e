//! What stands under a name on disk: a record or an index of variants, and before it what
//! neither holds.
//!
//! | bytes | |
//! |---|---|
//! | 8 | the node sequence of the object's position; 0 for an index |
//! | 8 | when it ends, in milliseconds since the Unix epoch |
//! | 8 | XXH3 of both, the name, and the first bytes of what follows |
//! | | the record or the index |
//!
//! A record begins with its own checksum, so that the one here covers which record it is.

use bytes::Bytes;
use weir_semantics::Timestamp;
use xxhash_rust::xxh3::Xxh3Default;

use crate::variants;

const HEADER_BYTES: usize = 24;

/// How much of what follows the checksum covers: more than the head of a record.
const COVERED: usize = 64;

/// Between a key and the hash of a variant: no key has it.
const SEPARATOR: u8 = 0;

/// The name under which a segment notes when its last object ends: no key is like it.
pub(super) const ENDS: &[u8] = b"\0ends";

/// A value, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// The node sequence of the object's position.
    pub(super) node: u64,
    /// When it may be forgotten.
    pub(super) ends: Timestamp,
    /// The record or the index.
    pub(super) body: Bytes,
}

/// The name of a variant of a key.
pub(super) fn variant(key: &str, hash: u128) -> Vec<u8> {
    let mut name = variants_of(key);
    name.extend_from_slice(&hash.to_be_bytes());
    name
}

/// How the names of all variants of a key begin.
pub(super) fn variants_of(key: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len() + 1 + size_of::<u128>());
    name.extend_from_slice(key.as_bytes());
    name.push(SEPARATOR);
    name
}

impl Value {
    pub(super) fn is_index(&self) -> bool {
        variants::is_index(&self.body)
    }

    pub(super) fn encode(name: &[u8], node: u64, ends: Timestamp, body: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(HEADER_BYTES + body.len());
        value.extend_from_slice(&node.to_le_bytes());
        value.extend_from_slice(&ends.as_millis().to_le_bytes());
        value.extend_from_slice(&checksum(name, &value, body).to_le_bytes());
        value.extend_from_slice(body);
        value
    }

    /// Absent for what no node wrote under this name.
    pub(super) fn decode(name: &[u8], value: &Bytes) -> Option<Self> {
        let (head, rest) = value.split_at_checked(16)?;
        let (sum, body) = rest.split_first_chunk::<8>()?;
        if checksum(name, head, body) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (node, ends) = head.split_first_chunk::<8>()?;
        Some(Self {
            node: u64::from_le_bytes(*node),
            ends: Timestamp::from_millis(u64::from_le_bytes(ends.try_into().ok()?)),
            body: value.slice(HEADER_BYTES..),
        })
    }
}

fn checksum(name: &[u8], head: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name);
    hasher.update(head);
    hasher.update(&(body.len() as u64).to_le_bytes());
    hasher.update(&body[..body.len().min(COVERED)]);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flipped_byte_of_the_head_and_no_other_name_is_taken() {
        let ends = Timestamp::from_secs(5);
        let value = Value::encode(b"a", 7, ends, b"a record");
        let decoded = Value::decode(b"a", &value.clone().into()).unwrap();
        assert_eq!(
            (decoded.node, decoded.ends, &decoded.body[..]),
            (7, ends, &b"a record"[..])
        );
        assert_eq!(Value::decode(b"b", &value.clone().into()), None);
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 1;
            assert_eq!(Value::decode(b"a", &damaged.into()), None, "{at}");
            assert_eq!(
                Value::decode(b"a", &Bytes::copy_from_slice(&value[..at])),
                None,
                "{at}"
            );
        }
    }
}
