//! Conditional requests: RFC 9110 section 13, RFC 9111 section 4.3.

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{
        AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
        ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
        LAST_MODIFIED, RANGE, SET_COOKIE, TRANSFER_ENCODING, VARY,
    },
};

use crate::{freshness::single_date, hop, time::Timestamp};

mod etag;

pub(crate) use etag::strong_match;

/// What a client's conditions say about a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Send all of it.
    Full,
    /// The client has it already: send a 304 (Not Modified).
    NotModified,
    /// If-Match or If-Unmodified-Since excludes it. Those are meant for the origin, which
    /// may hold something newer: let it answer.
    PreconditionFailed,
}

/// Evaluates the conditions of a GET or HEAD request against a stored response, in the
/// order of RFC 9110 section 13.2.2. If-Range is the business of [`range`](crate::range()).
pub fn evaluate(request: &HeaderMap, status: StatusCode, stored: &HeaderMap) -> Condition {
    if !status.is_success() || !is_conditional(request) {
        return Condition::Full;
    }
    let etag = stored.get(ETAG).map(|etag| etag.as_bytes());
    // Read only where the request has a date to compare it with.
    let modified = || single_date(stored, LAST_MODIFIED);
    if request.contains_key(IF_MATCH) {
        if !etag::any(request, IF_MATCH, |given| strong_match(given, etag)) {
            return Condition::PreconditionFailed;
        }
    } else if let Some(limit) = single_date(request, IF_UNMODIFIED_SINCE)
        && modified().is_some_and(|modified| modified > limit)
    {
        return Condition::PreconditionFailed;
    }
    let unchanged = if request.contains_key(IF_NONE_MATCH) {
        etag::any(request, IF_NONE_MATCH, |given| {
            etag::weak_match(given, etag)
        })
    } else {
        single_date(request, IF_MODIFIED_SINCE).is_some_and(|since| {
            // Date stands in for a missing Last-Modified (RFC 9111 section 4.3.2).
            let changed = modified().or_else(|| single_date(stored, DATE));
            changed.is_some_and(|changed| changed <= since)
        })
    };
    if unchanged {
        Condition::NotModified
    } else {
        Condition::Full
    }
}

/// Most requests have no condition at all, and one look at the names costs less than to look
/// each of them up: this is the hit path.
fn is_conditional(request: &HeaderMap) -> bool {
    request.keys().any(|name| {
        matches!(
            *name,
            IF_MATCH | IF_NONE_MATCH | IF_MODIFIED_SINCE | IF_UNMODIFIED_SINCE
        )
    })
}

/// Removes the conditions and the range of a client from a request whose response is to
/// be stored.
pub fn strip_conditions(request: &mut HeaderMap) {
    const CONDITIONS: [HeaderName; 6] = [
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
        RANGE,
    ];
    for name in CONDITIONS {
        request.remove(name);
    }
}

/// The fields that make a request validate `stored` (RFC 9111 section 4.3.1): both
/// If-None-Match and If-Modified-Since where there is something to say. Empty when it has
/// no validator. To be added after [`strip_conditions`].
pub fn conditional_headers(stored: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(etag) = stored.get(ETAG).filter(|etag| !etag.is_empty()) {
        headers.insert(IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = stored.get(LAST_MODIFIED)
        && single_date(stored, LAST_MODIFIED).is_some()
    {
        headers.insert(IF_MODIFIED_SINCE, modified.clone());
    }
    headers
}

/// Is this 304 about `stored`? Not when it names another entity tag, or without one
/// another Last-Modified; then it must not be used, and the whole response be fetched
/// (RFC 9111 section 4.3.4).
pub fn validates(stored: &HeaderMap, not_modified: &HeaderMap) -> bool {
    match (stored.get(ETAG), not_modified.get(ETAG)) {
        (Some(stored), Some(new)) => etag::weak_match(new.as_bytes(), Some(stored.as_bytes())),
        (None, Some(_)) => false,
        (_, None) => match (
            single_date(stored, LAST_MODIFIED),
            single_date(not_modified, LAST_MODIFIED),
        ) {
            (Some(stored), Some(new)) => stored == new,
            _ => true,
        },
    }
}

/// Does a 200 to HEAD still describe `stored`, whose body has `len` bytes? If so it may
/// freshen it, else what is stored is outdated (RFC 9111 section 4.3.5).
pub fn head_agrees(stored: &HeaderMap, head: &HeaderMap, len: u64) -> bool {
    let same_len = head
        .get(CONTENT_LENGTH)
        .is_none_or(|length| length.as_bytes() == len.to_string().as_bytes());
    let has = |name: HeaderName| head.contains_key(name);
    same_len && (has(ETAG) || has(LAST_MODIFIED)) && validates(stored, head)
}

/// The stored fields as a 304 (or a 200 to HEAD) updates them: RFC 9111 section 3.2.
///
/// Vary grows: what a 304 adds to it counts, what it leaves out stays.
///
/// Not taken over: what belongs to the connection; what describes the stored bytes
/// (length, coding, range, type); validators that contradict the stored ones; and
/// Set-Cookie, which is for the client that the origin saw. Age and Date are those of the
/// update or none, so that an old age does not count twice.
pub fn freshen(stored: &HeaderMap, not_modified: &HeaderMap) -> HeaderMap {
    let mut update = not_modified.clone();
    hop::strip_hop_by_hop(&mut update);
    let mut fresh = stored.clone();
    fresh.remove(AGE);
    fresh.remove(DATE);
    for name in update.keys() {
        if keeps_stored(name, stored) {
            continue;
        }
        // What selected the stored body still does: a Vary that says less would hand one
        // client's variant to others.
        if *name != VARY {
            fresh.remove(name);
        }
        for value in update.get_all(name) {
            // Or it would grow with each 304.
            let known = *name == VARY && fresh.get_all(VARY).iter().any(|line| line == value);
            if !known {
                fresh.append(name, value.clone());
            }
        }
    }
    fresh
}

fn keeps_stored(name: &HeaderName, stored: &HeaderMap) -> bool {
    match *name {
        CONTENT_LENGTH | CONTENT_ENCODING | CONTENT_RANGE | CONTENT_TYPE | TRANSFER_ENCODING
        | SET_COOKIE => true,
        ETAG | LAST_MODIFIED => stored.contains_key(name),
        _ => hop::is_hop_by_hop(name),
    }
}

/// Removes from the fields of a stored response what a 304 does not carry: all that
/// describes content that is not sent (RFC 9110 section 15.4.5).
pub fn strip_content_fields(headers: &mut HeaderMap) {
    for name in [
        CONTENT_LENGTH,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_RANGE,
        CONTENT_TYPE,
    ] {
        headers.remove(name);
    }
}

/// Is `date` a strong validator of `stored`: the very Last-Modified, and older than the
/// response by at least a second (RFC 9110 sections 8.8.2.2 and 13.1.5)?
pub(crate) fn is_strong_date(stored: &HeaderMap, date: Timestamp) -> bool {
    single_date(stored, LAST_MODIFIED) == Some(date)
        && single_date(stored, DATE).is_some_and(|sent| sent > date)
}

#[cfg(test)]
mod tests;
