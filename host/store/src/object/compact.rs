//! Times as objects keep them: in four bytes each.

use std::time::Duration;

use weir_semantics::{Freshness, Timestamp};

/// The bit that says "seconds".
const SECONDS: u32 = 1 << 31;

/// A duration: up to 24 days in milliseconds, beyond that in seconds, up to 68 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(u32);

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        let fits = |number: u32| Some(number).filter(|number| number & SECONDS == 0);
        let milliseconds = u32::try_from(duration.as_millis()).ok().and_then(fits);
        let seconds = u32::try_from(duration.as_secs()).ok().and_then(fits);
        Self(milliseconds.unwrap_or_else(|| SECONDS | seconds.unwrap_or(SECONDS - 1)))
    }
}

impl From<Span> for Duration {
    fn from(Span(number): Span) -> Self {
        match number & SECONDS {
            0 => Self::from_millis(number.into()),
            _ => Self::from_secs((number & !SECONDS).into()),
        }
    }
}

/// A [`Freshness`] in 32 bytes instead of 96.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompactFreshness {
    pub(super) received: Timestamp,
    initial_age: Span,
    lifetime: Span,
    stale_while_revalidate: Span,
    stale_if_error: Span,
    keep: Span,
    must_revalidate: bool,
    no_cache: bool,
    immutable: bool,
    heuristic: bool,
}

impl From<Freshness> for CompactFreshness {
    fn from(whole: Freshness) -> Self {
        Self {
            received: whole.received,
            initial_age: whole.initial_age.into(),
            lifetime: whole.lifetime.into(),
            stale_while_revalidate: whole.stale_while_revalidate.into(),
            stale_if_error: whole.stale_if_error.into(),
            keep: whole.keep.into(),
            must_revalidate: whole.must_revalidate,
            no_cache: whole.no_cache,
            immutable: whole.immutable,
            heuristic: whole.heuristic,
        }
    }
}

impl From<CompactFreshness> for Freshness {
    fn from(compact: CompactFreshness) -> Self {
        Self {
            received: compact.received,
            initial_age: compact.initial_age.into(),
            lifetime: compact.lifetime.into(),
            stale_while_revalidate: compact.stale_while_revalidate.into(),
            stale_if_error: compact.stale_if_error.into(),
            keep: compact.keep.into(),
            must_revalidate: compact.must_revalidate,
            no_cache: compact.no_cache,
            immutable: compact.immutable,
            heuristic: compact.heuristic,
        }
    }
}
