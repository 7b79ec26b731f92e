//! Objects as bytes: what Redis holds.
//!
//! A record is `WEIR`, the version (2 bytes), the length of what follows the checksum
//! (8), the checksum (8), and then the fields in the order of [`encode`]; integers are
//! little-endian, texts and lists carry their length in front. The full key is inside
//! and is compared when the record is read. A long body stands in chunks beside its
//! record, each under a name of its own, and is checked when they are put together.
//!
//! Rules for versions: a released version is never changed; a change of any field is a
//! new version; what a node cannot read is a miss, so that old and new nodes share one
//! Redis during an upgrade. The bytes of each version stay in `tests/fixtures`.
//!
//! The checksum is XXH3 with 64 bits: it guards against cut and damaged records, and
//! reads bodies at memory speed. It does not guard against someone who can write to
//! Redis, and neither would an unkeyed cryptographic hash at many times the cost.
//! Whatever a record says is therefore validated as if a stranger had sent it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use weir_semantics::{Freshness, Timestamp, VaryKey};
use xxhash_rust::xxh3::Xxh3Default;

use crate::headers::{Packer, StoredHeaders};
use crate::key::Key;
use crate::object::{Object, ObjectParts};
use crate::position::Position;
use crate::tags::Tags;

mod body;
mod wire;
use body::Description;
pub use body::{CHUNK_BYTES, Chunks, PEEK_BYTES, Packed};
use wire::{Input, Output};

const MAGIC: &[u8; 4] = b"WEIR";

/// The version that [`encode`] writes.
pub const VERSION: u16 = 2;

/// Without a form of the body and the time that its fetch took.
const VERSION_1: u16 = 1;

/// Magic, version, length and checksum.
const HEADER_BYTES: usize = 4 + 2 + 8 + 8;

const MUST_REVALIDATE: u8 = 1;
const NO_CACHE: u8 = 1 << 1;
const IMMUTABLE: u8 = 1 << 2;
const HEURISTIC: u8 = 1 << 3;
const FLAGS: u8 = MUST_REVALIDATE | NO_CACHE | IMMUTABLE | HEURISTIC;

/// Why bytes are not a usable record. To the reader each of these is a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It does not begin as a record does.
    #[error("this is no record of Weir's; does another program write under the same Redis prefix?")]
    Magic,
    /// Another version of Weir wrote it.
    #[error(
        "the record has version {0}, this node reads up to {VERSION}; it is replaced when its object is fetched again"
    )]
    Version(u16),
    /// It is shorter or longer than it says.
    #[error(
        "the record was cut or overwritten in part; it is replaced when its object is fetched again"
    )]
    Length,
    /// Its bytes have changed since it was written.
    #[error(
        "the record's checksum does not fit its bytes; it was damaged, check the memory and disk of the Redis server, or of this machine"
    )]
    Checksum,
    /// It is the record of another key.
    #[error(
        "the record belongs to another key; does another program write under the same Redis prefix?"
    )]
    Key,
    /// A field holds what it may not hold.
    #[error(
        "the record's {0} cannot be what a node wrote; does another program write under the same Redis prefix?"
    )]
    Field(&'static str),
}

/// What a record holds.
#[derive(Debug)]
pub enum Decoded {
    /// The object.
    Whole(Box<Object>),
    /// The object without its body, and where that is.
    InChunks(Box<Object>, Chunks),
}

/// The bytes of an object, its body in them and as it is.
///
/// The node sequence of its position is left out: it counts on one node only. Left out
/// are `shared`, which is true of what is in Redis, `validated`, and the coded forms of
/// the body, which each node makes when they are wanted there.
pub fn encode(object: &Object) -> Bytes {
    encode_packed(object, &Packed::plain(&object.body))
}

/// The bytes of an object with this form of its body in them.
pub fn encode_packed(object: &Object, body: &Packed) -> Bytes {
    let mut out = begin(object, body, None, body.bytes().len());
    out.bytes(body.bytes());
    seal(out.into_vec())
}

/// The bytes of an object but its body, whose chunks are named by `fill`.
pub fn encode_beside_chunks(object: &Object, body: &Packed, fill: u64) -> Bytes {
    seal(begin(object, body, Some(fill), 0).into_vec())
}

fn begin(object: &Object, body: &Packed, fill: Option<u64>, body_bytes: usize) -> Output {
    let headers = object.headers.weight() + object.headers.len() * 32;
    let mut out = Output::with_capacity(
        HEADER_BYTES + 512 + headers + object.tags.weight() * 2 + object.url().len() + body_bytes,
    );
    out.raw(&[0; HEADER_BYTES]);
    body.describe(&mut out, fill);
    out.bytes(object.key.as_str().as_bytes());
    out.bytes(object.url().as_bytes());
    out.u16(object.status.as_u16());
    out.u64(object.position().epoch);
    out.u64(object.position().fleet);
    encode_freshness(&mut out, &object.freshness());
    out.u64(
        object
            .fetch_took()
            .as_millis()
            .try_into()
            .unwrap_or(u64::MAX),
    );
    out.optional(object.memory_until(), |out, until| {
        out.u64(until.as_millis());
    });
    out.optional(object.policy(), |out, policy| {
        out.bytes(policy.as_bytes());
    });
    out.count(object.vary().iter().len());
    for (name, value) in object.vary().iter() {
        out.bytes(name.as_str().as_bytes());
        out.optional(value, Output::bytes);
    }
    out.count(object.tags.iter().count());
    for tag in &object.tags {
        out.bytes(tag.as_bytes());
    }
    encode_headers(&mut out, &object.headers);
    out.optional(object.trailers(), encode_headers);
    out
}

/// Reads the record of `key` back, where it is known to hold its body.
///
/// # Errors
/// As of [`read`]; [`RecordError::Field`] if the body is in chunks.
pub fn decode(record: &Bytes, key: &str) -> Result<Object, RecordError> {
    match read(record, key)? {
        Decoded::Whole(object) => Ok(*object),
        Decoded::InChunks(..) => Err(RecordError::Field("body")),
    }
}

/// Reads the record of `key` back. A large body is not copied but shares `record`.
///
/// The node sequence of its position is 0: nothing that this node invalidated by itself
/// is known to have been invalidated before the record was written.
///
/// # Errors
/// [`RecordError`]; never panics, and allocates in proportion to the length of the record
/// and of its body.
pub fn read(record: &Bytes, key: &str) -> Result<Decoded, RecordError> {
    let (version, payload) = payload(record)?;
    let mut input = Input::new(payload);
    let form = match version {
        VERSION_1 => Description::default(),
        _ => Description::read(&mut input)?,
    };
    if input.bytes()? != key.as_bytes() {
        return Err(RecordError::Key);
    }
    let key = Key::parse(key).map_err(|_| RecordError::Field("key"))?;
    let url = input.text("URL")?.into();
    let status = StatusCode::from_u16(input.u16()?).map_err(|_| RecordError::Field("status"))?;
    let position = Position {
        epoch: input.u64()?,
        fleet: input.u64()?,
        node: 0,
        // Another node fetched it, by another clock.
        at: Timestamp::default(),
    };
    let freshness = decode_freshness(&mut input)?;
    let fetch_took = match version {
        VERSION_1 => Duration::ZERO,
        _ => Duration::from_millis(input.u64()?),
    };
    let memory_until = input.optional(|input| input.u64().map(Timestamp::from_millis))?;
    let policy = input.optional(|input| input.text("policy").map(Arc::from))?;
    let vary = decode_vary(&mut input)?;
    let tags = decode_tags(&mut input)?;
    let headers = decode_headers(&mut input)?;
    let trailers = input.optional(decode_headers)?;
    let body = match form.chunks {
        None => form.unpack(input.bytes()?, record)?,
        Some(_) => Bytes::new(),
    };
    if !input.is_empty() {
        return Err(RecordError::Length);
    }
    let object = Box::new(Object::new(ObjectParts {
        key,
        url,
        status,
        headers,
        body,
        trailers,
        vary,
        tags,
        freshness,
        fetch_took,
        memory_until,
        shared: true,
        position,
        policy,
    }));
    Ok(match form.chunks {
        None => Decoded::Whole(object),
        Some(chunks) => Decoded::InChunks(object, chunks),
    })
}

/// The key of a record, for whoever lists records; [`decode`] compares it by itself.
///
/// # Errors
/// [`RecordError`] if it is not an intact record.
pub fn key_of(record: &[u8]) -> Result<Key, RecordError> {
    let (version, payload) = payload(record)?;
    let mut input = Input::new(payload);
    if version != VERSION_1 {
        Description::read(&mut input)?;
    }
    let text = input.text("key")?;
    Key::parse(text).map_err(|_| RecordError::Field("key"))
}

fn seal(mut record: Vec<u8>) -> Bytes {
    let length = (record.len() - HEADER_BYTES) as u64;
    let sum = checksum(VERSION, &record[HEADER_BYTES..]);
    record[..4].copy_from_slice(MAGIC);
    record[4..6].copy_from_slice(&VERSION.to_le_bytes());
    record[6..14].copy_from_slice(&length.to_le_bytes());
    record[14..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    Bytes::from(record)
}

/// Any bytes behind an intact header, for fuzzing: few of them find the checksum.
#[doc(hidden)]
pub fn sealed(payload: &[u8]) -> Bytes {
    let mut record = vec![0; HEADER_BYTES];
    record.extend_from_slice(payload);
    seal(record)
}

/// The version of an intact record, and what follows its header.
fn payload(record: &[u8]) -> Result<(u16, &[u8]), RecordError> {
    let mut input = Input::new(record);
    if input.take(4).map_err(|_| RecordError::Magic)? != MAGIC {
        return Err(RecordError::Magic);
    }
    let version = input.u16()?;
    if !(VERSION_1..=VERSION).contains(&version) {
        return Err(RecordError::Version(version));
    }
    let (length, sum) = (input.u64()?, input.u64()?);
    let payload = input.rest();
    if payload.len() as u64 != length {
        return Err(RecordError::Length);
    }
    if checksum(version, payload) != sum {
        return Err(RecordError::Checksum);
    }
    Ok((version, payload))
}

/// Covers the version and the length too, so that no damaged header passes.
fn checksum(version: u16, payload: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(&version.to_le_bytes());
    hasher.update(&(payload.len() as u64).to_le_bytes());
    hasher.update(payload);
    hasher.digest()
}

fn encode_freshness(out: &mut Output, freshness: &Freshness) {
    out.u64(freshness.received.as_millis());
    for duration in [
        freshness.initial_age,
        freshness.lifetime,
        freshness.stale_while_revalidate,
        freshness.stale_if_error,
        freshness.keep,
    ] {
        out.u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    }
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.raw(&[flag(freshness.must_revalidate, MUST_REVALIDATE)
        | flag(freshness.no_cache, NO_CACHE)
        | flag(freshness.immutable, IMMUTABLE)
        | flag(freshness.heuristic, HEURISTIC)]);
}

fn decode_freshness(input: &mut Input<'_>) -> Result<Freshness, RecordError> {
    let received = Timestamp::from_millis(input.u64()?);
    let initial_age = Duration::from_millis(input.u64()?);
    let lifetime = Duration::from_millis(input.u64()?);
    let stale_while_revalidate = Duration::from_millis(input.u64()?);
    let stale_if_error = Duration::from_millis(input.u64()?);
    let keep = Duration::from_millis(input.u64()?);
    let flags = input.u8()?;
    // A flag of the future might forbid what this version would do.
    if flags & !FLAGS != 0 {
        return Err(RecordError::Field("flags"));
    }
    Ok(Freshness {
        received,
        initial_age,
        lifetime,
        stale_while_revalidate,
        stale_if_error,
        keep,
        must_revalidate: flags & MUST_REVALIDATE != 0,
        no_cache: flags & NO_CACHE != 0,
        immutable: flags & IMMUTABLE != 0,
        heuristic: flags & HEURISTIC != 0,
    })
}

fn encode_headers(out: &mut Output, headers: &StoredHeaders) {
    out.count(headers.len());
    for line in headers {
        out.bytes(line.name.as_bytes());
        out.bytes(line.value);
    }
}

fn decode_headers(input: &mut Input<'_>) -> Result<StoredHeaders, RecordError> {
    let mut packer = Packer::default();
    for _ in 0..input.count()? {
        let name = decode_name(input)?;
        let value = HeaderValue::from_bytes(input.bytes()?)
            .map_err(|_| RecordError::Field("header value"))?;
        packer.push(&name, &value);
    }
    Ok(packer.finish())
}

fn decode_name(input: &mut Input<'_>) -> Result<HeaderName, RecordError> {
    HeaderName::from_lowercase(input.bytes()?).map_err(|_| RecordError::Field("header name"))
}

fn decode_vary(input: &mut Input<'_>) -> Result<VaryKey, RecordError> {
    let mut parts = Vec::new();
    for _ in 0..input.count()? {
        let name = decode_name(input)?;
        parts.push((name, input.optional(|input| input.bytes().map(Box::from))?));
    }
    Ok(VaryKey::from_parts(parts))
}

fn decode_tags(input: &mut Input<'_>) -> Result<Tags, RecordError> {
    let mut tags = Vec::new();
    for _ in 0..input.count()? {
        tags.push(input.text("tag")?);
    }
    Tags::new(tags).map_err(|_| RecordError::Field("tags"))
}

#[cfg(test)]
mod tests;
