//! What Redis holds under one key, for a person who asks. No request comes here.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use redis::{cmd, pipe};
use weir_semantics::VaryKey;

use super::client::Patience;
use super::{CallError, Redis, variants};
use crate::Object;
use crate::record::{self, Decoded, RecordError};

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
            inspected.records.push(read(base, &value, ttl, key));
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
                inspected.records.push(read(name, &value, ttl, key));
            }
        }
        Ok(inspected)
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

fn read(name: String, value: &Bytes, ttl: i64, key: &str) -> InspectedRecord {
    InspectedRecord {
        name,
        bytes: value.len(),
        ttl: u64::try_from(ttl).ok().map(Duration::from_millis),
        object: record::read(value, key).map(|decoded| match decoded {
            // A body in chunks is left where it is.
            Decoded::Whole(object) | Decoded::InChunks(object, _) => object,
        }),
    }
}
