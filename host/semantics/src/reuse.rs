//! May a stored response be served now? RFC 9111 section 4, RFC 5861.

use std::time::Duration;

use crate::{
    directives::{MaxStale, RequestDirectives},
    freshness::Freshness,
    time::Timestamp,
};

/// What to do with a stored response that matches a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Serve it.
    Fresh,
    /// Serve it though it is stale, and validate it in the background: within
    /// stale-while-revalidate, or because the client takes stale responses (`max-stale`).
    StaleWhileRevalidate,
    /// Validate it first.
    Revalidate(Why),
}

/// Why a stored response must be validated before it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its lifetime is over.
    Stale,
    /// The origin wants it validated each time (`no-cache`).
    NoCache,
    /// The client asked for it (`no-cache`, `max-age`, `min-fresh`).
    Request,
}

/// Decides on a stored response (RFC 9111 sections 4 and 5.2.1, RFC 5861 section 3).
/// `soft_since` is when a soft purge ended its lifetime. Does not allocate.
pub fn reuse(
    request: &RequestDirectives,
    freshness: &Freshness,
    soft_since: Option<Timestamp>,
    now: Timestamp,
) -> Reuse {
    if freshness.no_cache {
        return Reuse::Revalidate(Why::NoCache);
    }
    let age = freshness.age(now);
    let too_old = |longest: Duration| age > longest || longest.is_zero();
    match staleness(freshness, soft_since, now) {
        _ if request.no_cache => Reuse::Revalidate(Why::Request),
        None => {
            let left = freshness.lifetime.saturating_sub(age);
            if (!freshness.immutable && request.max_age.is_some_and(too_old))
                || request.min_fresh.is_some_and(|least| left < least)
            {
                Reuse::Revalidate(Why::Request)
            } else {
                Reuse::Fresh
            }
        }
        Some(staleness) => {
            let accepted = match request.max_stale {
                _ if freshness.must_revalidate || soft_since.is_some() => false,
                Some(MaxStale::Any) => true,
                Some(MaxStale::For(longest)) => staleness <= longest,
                None => false,
            };
            // Whoever names a limit of age or freshness takes nothing stale unless
            // max-stale is there as well (section 5.2.1.1).
            let demanding = request.min_fresh.is_some()
                || request
                    .max_age
                    .is_some_and(|longest| !accepted || too_old(longest));
            if !demanding && (accepted || staleness < freshness.stale_while_revalidate) {
                Reuse::StaleWhileRevalidate
            } else {
                Reuse::Revalidate(Why::Stale)
            }
        }
    }
}

/// May it be served because the origin cannot be reached, or answered 500, 502, 503 or
/// 504 (RFC 5861 section 4)? Not to a client that said `no-cache`, and never what must
/// always be validated. Does not allocate.
pub fn may_serve_on_error(
    freshness: &Freshness,
    soft_since: Option<Timestamp>,
    now: Timestamp,
    request: &RequestDirectives,
) -> bool {
    !freshness.no_cache
        && !request.no_cache
        && staleness(freshness, soft_since, now)
            .is_none_or(|staleness| staleness < freshness.stale_if_error)
}

/// May it be served because the origin cannot be reached at all (RFC 9111 section 4.2.4),
/// up to `window` after its lifetime? Not where the origin or the client asked for a
/// validation, and not after a soft purge. Does not allocate.
pub fn may_serve_disconnected(
    freshness: &Freshness,
    window: Duration,
    soft_since: Option<Timestamp>,
    now: Timestamp,
    request: &RequestDirectives,
) -> bool {
    !freshness.no_cache
        && !freshness.must_revalidate
        && !request.no_cache
        && soft_since.is_none()
        && staleness(freshness, None, now).is_none_or(|staleness| staleness < window)
}

/// For how long its lifetime has been over; `None` while it is fresh.
fn staleness(
    freshness: &Freshness,
    soft_since: Option<Timestamp>,
    now: Timestamp,
) -> Option<Duration> {
    let aged = freshness.age(now).checked_sub(freshness.lifetime);
    let purged = soft_since.map(|since| now.since(since));
    aged.max(purged)
}

#[cfg(test)]
mod tests;
