//! What the fuzz targets reach of what is read from Redis; for them alone.

use ::redis::Value;
use ::redis::streams::StreamId;
use http::HeaderMap;
use weir_semantics::{Timestamp, VaryKey};

use super::{follower, variants};
use crate::log::{Entry, EntryMark, Raise, Raised, Snapshot};

/// Reads an index of variants: for each, its line and what names its key.
#[must_use]
pub fn candidates(index: &[u8], request: &HeaderMap) -> Option<Vec<(VaryKey, String, u128)>> {
    let found = variants::candidates(index, request)?;
    let described = found.into_iter().map(|vary| {
        let (line, hash) = (variants::line(&vary), variants::hash(&vary));
        (vary, line, hash)
    });
    Some(described.collect())
}

/// Reads an entry of the log's stream from its fields.
#[must_use]
pub fn entry<'a>(id: &str, fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Entry {
    let fields = fields.into_iter();
    let value = |(name, value): (&str, &[u8])| (name.to_owned(), Value::BulkString(value.into()));
    follower::read(&StreamId {
        id: id.to_owned(),
        map: fields.map(value).collect(),
        ..StreamId::default()
    })
}

/// A page of counters whose names Redis has.
#[must_use]
pub fn snapshot<'a>(
    (epoch, sequence): (u64, u64),
    last: Option<EntryMark>,
    counters: impl IntoIterator<Item = (&'a str, u64)>,
    floors: Vec<(usize, u64)>,
) -> Snapshot {
    let raised = |(member, sequence)| Raised {
        raise: Raise::parse(member).unwrap_or_else(Raise::everything),
        sequence,
        at: Timestamp::from_millis(sequence),
    };
    Snapshot {
        epoch,
        sequence,
        last,
        counters: counters.into_iter().map(raised).collect(),
        floors,
        next: None,
    }
}
