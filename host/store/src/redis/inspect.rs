//! What Redis holds under one key, for a person who asks. No request comes here.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use redis::{cmd, pipe};
use weir_semantics::VaryKey;

use super::client::Patience;
use super::{CallError, Redis, variants};
use crate::record::{self, Chunks, Decoded};
use crate::{Inspected, InspectedChunks, InspectedRecord};

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
