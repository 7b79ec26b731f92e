//! What the disk holds under one key, for a person who asks.

use std::sync::Arc;
use std::time::Duration;

use weir_semantics::Timestamp;

use super::DiskTier;
use super::config::ReadError;
use super::segments::Segments;
use super::value::{self, Value};
use crate::record::{self, RecordError};
use crate::{Inspected, InspectedRecord, variants};

/// A person waits longer than a request, but not for ever.
const PATIENCE: Duration = Duration::from_secs(2);

impl DiskTier {
    /// Reads what stands under a key ([`Key::as_str`](crate::Key::as_str)), valid or not,
    /// all variants of it, and deletes nothing.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn inspect(&self, key: &str) -> Result<Inspected, ReadError> {
        let Some(segments) = self.shared.segments.read().clone() else {
            return Err(ReadError::Opening);
        };
        let (key, shared) = (key.to_owned(), Arc::clone(&self.shared));
        let looking =
            tokio::task::spawn_blocking(move || look_at(&segments, &key, shared.clock.now()));
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(Ok(looked)) => looked.map_err(|error| ReadError::Failed(error.to_string())),
            Ok(Err(_)) => Err(ReadError::Failed("the thread that read has died".into())),
            Err(_) => Err(ReadError::Deadline(PATIENCE)),
        }
    }
}

fn look_at(segments: &Segments, key: &str, now: Timestamp) -> fjall::Result<Inspected> {
    let mut inspected = Inspected::default();
    let base = key.as_bytes();
    let mut names = segments.names(&value::variants_of(key))?;
    if let Some(stored) = segments.get(base)? {
        match Value::decode(base, &stored.value) {
            Some(value) if value.is_index() => match variants::lines(&value.body) {
                Some(lines) => inspected.selected_by = lines,
                None => inspected.damaged_index = true,
            },
            _ => {
                names.insert(base.to_vec());
            }
        }
    }
    for name in names {
        let Some(stored) = segments.get(&name)? else {
            continue;
        };
        let value = Value::decode(&name, &stored.value);
        inspected.records.push(InspectedRecord {
            name: shown(key, &name),
            bytes: stored.value.len(),
            ttl: value.as_ref().map(|value| value.ends.since(now)),
            object: match value {
                None => Err(RecordError::Checksum),
                Some(value) => record::decode(&value.body, key).map(|mut object| {
                    object.set_node_sequence(value.node);
                    Box::new(object)
                }),
            },
            chunks: None,
        });
    }
    Ok(inspected)
}

/// The name as a person can read it: the key, and the hash of a variant as hexadecimal
/// digits.
fn shown(key: &str, name: &[u8]) -> String {
    let hash = &name[value::variants_of(key).len().min(name.len())..];
    match hash.is_empty() {
        true => key.to_owned(),
        false => hash
            .iter()
            .fold(format!("{key} "), |text, byte| format!("{text}{byte:02x}")),
    }
}
