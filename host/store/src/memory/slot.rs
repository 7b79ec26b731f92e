//! The variants of one key.

use std::sync::Arc;

use http::HeaderMap;
use smallvec::{SmallVec, smallvec};
use weir_semantics::{Timestamp, VaryKey};

use crate::object::Object;

/// The most variants of one key; the oldest makes room. A Vary on User-Agent would
/// otherwise fill memory with one page.
const MAX_VARIANTS: usize = 32;

/// The variants of one key, newest first.
#[derive(Debug)]
pub(super) struct Slot {
    variants: SmallVec<[Arc<Object>; 1]>,
}

impl Slot {
    /// The slot `old` with `object` in it, within `capacity` bytes. Absent if `old` has
    /// something newer in its place.
    pub(super) fn with(
        old: Option<&Self>,
        object: Arc<Object>,
        now: Timestamp,
        capacity: u64,
    ) -> Option<Self> {
        let mut room = capacity.saturating_sub(u64::from(object.weight()));
        let mut others = SmallVec::<[_; 1]>::new();
        for other in old.map_or(&[][..], |old| &old.variants) {
            // Whatever the new one is selected by, the other one is too: it could only
            // ever answer for requests that the new one says it does not fit.
            if implies(&object.vary, &other.vary) {
                if object.vary == other.vary && is_later(other, &object) {
                    return None;
                }
                continue;
            }
            let weight = u64::from(other.weight());
            if other.leaves_memory_at() > now && others.len() + 1 < MAX_VARIANTS && weight <= room {
                room -= weight;
                others.push(other.clone());
            }
        }
        let mut variants = smallvec![object];
        variants.append(&mut others);
        Some(Self { variants })
    }

    pub(super) fn find(&self, request_headers: &HeaderMap, now: Timestamp) -> Option<Arc<Object>> {
        self.variants
            .iter()
            .find(|object| object.vary.matches(request_headers) && object.leaves_memory_at() > now)
            .cloned()
    }

    pub(super) fn weight(&self) -> u32 {
        self.variants
            .iter()
            .fold(0, |sum, object| sum.saturating_add(object.weight()))
    }

    pub(super) fn leaves_at(&self) -> Timestamp {
        self.variants
            .iter()
            .map(|object| object.leaves_memory_at())
            .max()
            .unwrap_or_default()
    }
}

/// Does every request that matches `a` match `b` too?
fn implies(a: &VaryKey, b: &VaryKey) -> bool {
    b.iter().all(|wanted| a.iter().any(|field| field == wanted))
}

/// Did `a` begin after `b`? By the log, since its positions cannot be set like a clock;
/// by the time of arrival only where the log did not move between them.
fn is_later(a: &Object, b: &Object) -> bool {
    let (p, q) = (a.position, b.position);
    if p.epoch != q.epoch || q.fleet > p.fleet || q.node > p.node {
        return false;
    }
    p != q || a.freshness.received > b.freshness.received
}
