//! A stored part of a representation: what a 206 (Partial Content) brought.

use std::sync::Arc;

use weir_semantics::Part;

use crate::object::Object;

/// A stored 206. Only memory holds them: a part is cheap to fetch again.
#[derive(Debug)]
pub struct Partial {
    /// The response, with the bytes of the part as its body.
    pub object: Object,
    /// The Range that it answers, letter for letter.
    pub range: Box<[u8]>,
    /// Which bytes it has. Absent when the response does not say that credibly; it then
    /// answers nothing but the very same Range.
    pub part: Option<Part>,
}

impl Partial {
    /// What it costs in memory, in bytes.
    pub(crate) fn weight(&self) -> u32 {
        let range = u32::try_from(self.range.len()).unwrap_or(u32::MAX);
        self.object.weight().saturating_add(range)
    }

    /// Does `newer` answer all that this one does?
    pub(crate) fn is_superseded_by(&self, newer: &Self) -> bool {
        if self.object.vary() != newer.object.vary() {
            return false;
        }
        match (&self.part, &newer.part) {
            (Some(own), Some(other)) => {
                other.span.start <= own.span.start && own.span.end <= other.span.end
            }
            _ => self.range == newer.range,
        }
    }
}

/// Parts of one key, newest first.
pub(crate) type Parts = Box<[Arc<Partial>]>;
