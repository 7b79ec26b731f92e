//! What a tier holds under one key, for a person who asks. No request comes here.

use std::time::Duration;

use crate::Object;
use crate::record::{Chunks, RecordError};

/// What stands under one key in the tier behind memory. Purged objects are among it.
#[derive(Debug, Default)]
pub struct Inspected {
    /// The fields that select variants, by which the tier finds them; empty for an object
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
    /// Its name in the tier.
    pub name: String,
    /// Its length there, in bytes.
    pub bytes: usize,
    /// How long the tier will keep it; absent if for ever, which no node asks for.
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
