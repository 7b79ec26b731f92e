//! The variants of one key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use weir_semantics::{Timestamp, VaryKey};

use crate::coded::Coded;
use crate::object::Object;
use crate::partial::{Partial, Parts};

/// The most variants of one key; the oldest makes room. A Vary on User-Agent would
/// otherwise fill memory with one page.
const MAX_VARIANTS: usize = 32;

/// The most parts of one key; the oldest makes room.
const MAX_PARTS: usize = 16;

/// What memory holds under one key.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    /// One object and nothing else, as under most keys: without an allocation of its own.
    One(Arc<Object>),
    Many(Arc<Many>),
}

/// The variants of one key, newest first, and parts of representations that are not here
/// as a whole.
#[derive(Debug)]
pub(super) struct Many {
    variants: Vec<Arc<Object>>,
    parts: Parts,
    /// What it is counted as in its namespace: objects in the upper half, bytes in the
    /// lower one. A slot can grow while it is in memory, by codings of its bodies.
    counted: AtomicU64,
}

impl Slot {
    fn of(mut variants: Vec<Arc<Object>>, parts: Vec<Arc<Partial>>) -> Self {
        if parts.is_empty() && variants.len() == 1 {
            // Checked: there is one.
            if let Some(object) = variants.pop() {
                return Self::One(object);
            }
        }
        variants.shrink_to_fit();
        Self::Many(Arc::new(Many {
            variants,
            parts: parts.into_boxed_slice(),
            counted: AtomicU64::new(0),
        }))
    }

    fn variants(&self) -> &[Arc<Object>] {
        match self {
            Self::One(object) => std::slice::from_ref(object),
            Self::Many(many) => &many.variants,
        }
    }

    fn partials(&self) -> &[Arc<Partial>] {
        match self {
            Self::One(_) => &[],
            Self::Many(many) => &many.parts,
        }
    }

    /// The slot `old` with `object` in it, within `capacity` bytes. Absent if `old` has
    /// something newer in its place.
    pub(super) fn with(
        old: Option<&Self>,
        object: Arc<Object>,
        now: Timestamp,
        capacity: u64,
    ) -> Option<Self> {
        let mut room = capacity.saturating_sub(u64::from(object.weight()));
        let mut variants = vec![object];
        for other in old.map_or(&[][..], Self::variants) {
            let object = &variants[0];
            // Whatever the new one is selected by, the other one is too: it could only
            // ever answer for requests that the new one says it does not fit.
            if implies(object.vary(), other.vary()) {
                if object.vary() == other.vary() && is_later(other, object) {
                    return None;
                }
                continue;
            }
            let weight = u64::from(other.weight());
            if other.leaves_memory_at() > now && variants.len() < MAX_VARIANTS && weight <= room {
                room -= weight;
                variants.push(other.clone());
            }
        }
        // A whole makes its parts superfluous.
        let object = &variants[0];
        let superfluous = |part: &Partial| {
            object.status == StatusCode::OK && implies(object.vary(), part.object.vary())
        };
        let parts = kept(old, now, &mut room, |part| !superfluous(part));
        Some(Self::of(variants, parts))
    }

    /// The slot `old` with `part` in it, within `capacity` bytes.
    pub(super) fn with_part(
        old: Option<&Self>,
        part: Arc<Partial>,
        now: Timestamp,
        capacity: u64,
    ) -> Option<Self> {
        let variants = old.map_or_else(Vec::new, |old| old.variants().to_vec());
        let whole = variants
            .iter()
            .fold(0, |sum, object| sum + u64::from(object.weight()));
        let mut room = capacity.checked_sub(whole + u64::from(part.weight()))?;
        let mut parts = kept(old, now, &mut room, |other| !other.is_superseded_by(&part));
        parts.truncate(MAX_PARTS - 1);
        parts.insert(0, part);
        Some(Self::of(variants, parts))
    }

    /// The parts whose variant suits the request.
    pub(super) fn parts(&self, request_headers: &HeaderMap, now: Timestamp) -> Vec<Arc<Partial>> {
        let suits = |part: &&Arc<Partial>| {
            part.object.suits(request_headers) && part.object.leaves_memory_at() > now
        };
        self.partials().iter().filter(suits).cloned().collect()
    }

    pub(super) fn all_parts(&self) -> Vec<Arc<Partial>> {
        self.partials().to_vec()
    }

    pub(super) fn find(self, request_headers: &HeaderMap, now: Timestamp) -> Option<Arc<Object>> {
        let suits =
            |object: &Object| object.suits(request_headers) && object.leaves_memory_at() > now;
        match self {
            // Given away, not counted once more: other threads count on the same line.
            Self::One(object) => suits(&object).then_some(object),
            Self::Many(many) => many.variants.iter().find(|it| suits(it)).cloned(),
        }
    }

    /// Do these codings belong to one of its variants?
    pub(super) fn has(&self, coded: &Arc<Coded>) -> bool {
        let mut variants = self.variants().iter();
        variants.any(|object| object.coded().is_some_and(|own| Arc::ptr_eq(own, coded)))
    }

    pub(super) fn any(&self, now: Timestamp, mut test: impl FnMut(&Object) -> bool) -> bool {
        self.variants()
            .iter()
            .any(|object| object.leaves_memory_at() > now && test(object))
    }

    pub(super) fn weight(&self) -> u32 {
        let variants = self.variants().iter().map(|object| object.weight());
        let parts = self.partials().iter().map(|part| part.weight());
        variants.chain(parts).fold(0, u32::saturating_add)
    }

    /// How many objects it holds, parts included.
    pub(super) fn objects(&self) -> u32 {
        u32::try_from(self.variants().len() + self.partials().len()).unwrap_or(u32::MAX)
    }

    /// Notes what it is counted as from now on; returns what it was counted as.
    pub(super) fn count(&self, objects: u32, bytes: u32) -> (u32, u32) {
        match self {
            // Nothing weighs nothing: one object, or none.
            Self::One(object) => {
                let before = object.counted.swap(bytes, Ordering::Relaxed);
                (u32::from(before > 0), before)
            }
            Self::Many(many) => {
                let counted = u64::from(objects) << 32 | u64::from(bytes);
                let before = many.counted.swap(counted, Ordering::Relaxed);
                #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
                ((before >> 32) as u32, before as u32)
            }
        }
    }

    /// The age of its newest variant.
    pub(super) fn age(&self, now: Timestamp) -> Option<Duration> {
        Some(self.variants().first()?.freshness().age(now))
    }

    /// All variants that memory has not let go of, newest first.
    pub(super) fn all(&self, now: Timestamp) -> Vec<Arc<Object>> {
        let here = |object: &&Arc<Object>| object.leaves_memory_at() > now;
        self.variants().iter().filter(here).cloned().collect()
    }

    pub(super) fn leaves_at(&self) -> Timestamp {
        let parts = self.partials().iter().map(|part| &part.object);
        self.variants()
            .iter()
            .map(AsRef::as_ref)
            .chain(parts)
            .map(Object::leaves_memory_at)
            .max()
            .unwrap_or_default()
    }
}

/// Those parts of `old` that are wanted, alive and fit into `room`, which they take.
fn kept(
    old: Option<&Slot>,
    now: Timestamp,
    room: &mut u64,
    wanted: impl Fn(&Partial) -> bool,
) -> Vec<Arc<Partial>> {
    let mut fits = |part: &&Arc<Partial>| {
        let weight = u64::from(part.weight());
        let fits = weight <= *room && part.object.leaves_memory_at() > now && wanted(part);
        if fits {
            *room -= weight;
        }
        fits
    };
    let parts = old.map_or(&[][..], Slot::partials);
    parts.iter().filter(|part| fits(part)).cloned().collect()
}

/// Does every request that matches `a` match `b` too?
fn implies(a: &VaryKey, b: &VaryKey) -> bool {
    b.iter().all(|wanted| a.iter().any(|field| field == wanted))
}

/// Did `a` begin after `b`? By the log, since its positions cannot be set like a clock;
/// by the time of arrival only where the log did not move between them.
fn is_later(a: &Object, b: &Object) -> bool {
    let (p, q) = (a.position(), b.position());
    if p.epoch != q.epoch || q.fleet > p.fleet || q.node > p.node {
        return false;
    }
    !p.is_at(q) || a.received() > b.received()
}
