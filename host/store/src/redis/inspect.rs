//! What Redis holds under one key, for a person who asks. No request comes here.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use redis::{cmd, pipe};
use weir_semantics::VaryKey;

use super::client::Patience;
use super::{CallError, Redis, variants};
use crate::Object;
use crate::record::{self, Chunks, Decoded, RecordError};

/// What stands under one key in Redis. Purged objects are among it.
#[derive(Debug, Default)]
pub struct Inspected {
    /// The fields that select variants, by which Redis finds them; empty for an object
    /// without Vary, and where there is nothing.
    pub selected_by: Vec<String>,
    /// Whether the list of variants could be read.
    pub damaged_index: bool,
    /// The object, or those of its variants that were looked for.
    pub records: Vec<InspectedRecord>,
}

/// One record.
#[derive(Debug)]
pub struct InspectedRecord {
    /// Its key in Redis.
    pub name: String,
    /// Its length there, in bytes.
    pub bytes: usize,
    /// How long Redis will keep it; absent if for ever, which no node asks for.
    pub ttl: Option<Duration>,
    /// The object, or why the record is none.
    pub object: Result<Box<Object>, RecordError>,
    /// Where the body is that the object lacks here, if it is beside the record.
    pub chunks: Option<InspectedChunks>,
}

/// A body in chunks, which are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedChunks {
    /// What the record says of them.
    pub told: Chunks,
    /// How many of them are there; with one missing, the object is not found.
    pub there: u64,
}

/// What one key holds: its value and its TTL in milliseconds.
type Held = (Option<Bytes>, i64);

impl Redis {
    /// Reads what stands under a key ([`Key::as_str`](crate::Key::as_str)), valid or not,
    /// and deletes nothing. Redis names a variant by what selects it, and cannot list
    /// them: those that a request with one of `requests`, or a variant in `known`,
    /// selects are found.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn inspect(
        &self,
        key: &str,
        requests: &[HeaderMap],
        known: &[VaryKey],
    ) -> Result<Inspected, CallError> {
        let base = self.keys().object(key);
        let mut inspected = Inspected::default();
        let Some((Some(value), ttl)) = self.held(std::slice::from_ref(&base)).await?.pop() else {
            return Ok(inspected);
        };
        if !variants::is_index(&value) {
            let record = self.look_at(base, &value, ttl, key).await?;
            inspected.records.push(record);
            return Ok(inspected);
        }
        let Some(lines) = variants::lines(&value) else {
            inspected.damaged_index = true;
            return Ok(inspected);
        };
        inspected.selected_by = lines;
        let selected = requests
            .iter()
            .filter_map(|request| variants::candidates(&value, request))
            .flatten();
        let mut names: Vec<String> = known
            .iter()
            .cloned()
            .chain(selected)
            .map(|vary| self.keys().variant(key, variants::hash(&vary)))
            .collect();
        names.sort_unstable();
        names.dedup();
        let held = self.held(&names).await?;
        for (name, (value, ttl)) in names.into_iter().zip(held) {
            if let Some(value) = value {
                let record = self.look_at(name, &value, ttl, key).await?;
                inspected.records.push(record);
            }
        }
        Ok(inspected)
    }

    async fn look_at(
        &self,
        name: String,
        value: &Bytes,
        ttl: i64,
        key: &str,
    ) -> Result<InspectedRecord, CallError> {
        let (object, told) = match record::read(value, key) {
            Ok(Decoded::Whole(object)) => (Ok(object), None),
            Ok(Decoded::InChunks(object, chunks)) => (Ok(object), Some(chunks)),
            Err(error) => (Err(error), None),
        };
        let chunks = match told {
            Some(told) => Some(InspectedChunks {
                told,
                there: self.there(key, told).await?,
            }),
            None => None,
        };
        Ok(InspectedRecord {
            name,
            bytes: value.len(),
            ttl: u64::try_from(ttl).ok().map(Duration::from_millis),
            object,
            chunks,
        })
    }

    /// How many of these chunks there are.
    async fn there(&self, key: &str, chunks: Chunks) -> Result<u64, CallError> {
        let mut call = cmd("EXISTS");
        for number in 0..chunks.count() {
            call.arg(self.keys().chunk(key, chunks.fill, number));
        }
        self.client().command(&call, Patience::Background).await
    }

    async fn held(&self, names: &[String]) -> Result<Vec<Held>, CallError> {
        let mut held = Vec::with_capacity(names.len());
        for name in names {
            let mut both = pipe();
            both.add_command(cmd("GET").arg(name).clone())
                .add_command(cmd("PTTL").arg(name).clone());
            held.push(self.client().pipeline(&both, Patience::Background).await?);
        }
        Ok(held)
    }
}
