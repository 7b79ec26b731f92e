//! A stored object as a response: conditional requests, ranges, HEAD, Age and
//! Cache-Status. The hit path; it copies no body and no field value.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE,
    CONTENT_TYPE, DATE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    IF_UNMODIFIED_SINCE, RANGE, VARY,
};
use http::{Method, Response, StatusCode};
use weir_policy::RequestHead;
use weir_semantics::{
    CacheStatus, Condition, Freshness, Range, Timestamp, content_range, evaluate, range,
    unsatisfied_range,
};
use weir_store::Object;

use crate::body::Body;
use crate::compress;
use crate::pieces::Pieces;

/// The name of RFC 9211's field.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What a 304 carries besides Age and Cache-Status (RFC 9110 section 15.4.5).
const NOT_MODIFIED_FIELDS: [HeaderName; 6] =
    [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY];

/// Does the request make sure of the origin's present state? No stored object can say.
pub(crate) fn has_preconditions(headers: &HeaderMap) -> bool {
    let mut names = headers.keys();
    names.any(|name| matches!(*name, IF_MATCH | IF_UNMODIFIED_SINCE))
}

/// Makes the response to `head` from `object`.
pub(crate) fn from_object(
    object: &Arc<Object>,
    head: &RequestHead,
    now: Timestamp,
    status: &CacheStatus<'_>,
) -> Response<Body> {
    let stored = object.lent_headers();
    let mut response = shape(object, stored, head);
    stamp(response.headers_mut(), &object.freshness(), now, status);
    response
}

/// Says how old a response is and how it came about.
pub(super) fn stamp(
    headers: &mut HeaderMap,
    freshness: &Freshness,
    now: Timestamp,
    status: &CacheStatus<'_>,
) {
    headers.insert(AGE, number(freshness.age(now).as_secs()));
    // Ours goes after those of caches nearer to the origin (RFC 9211 section 2).
    headers.append(CACHE_STATUS, status.to_header_value());
}

/// A number as a field value, in one allocation where the library makes two.
fn number(number: u64) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    let digits = HeaderValue::from_str(digits.format(number));
    digits.unwrap_or_else(|_| HeaderValue::from(number))
}

fn shape(object: &Arc<Object>, mut stored: HeaderMap, head: &RequestHead) -> Response<Body> {
    let chosen = compress::represent(object, head, &mut stored);
    if evaluate(&head.headers, object.status, &stored) == Condition::NotModified {
        return not_modified(&stored);
    }
    let complete = chosen.as_ref().unwrap_or(&object.body).len() as u64;
    if head.method == Method::HEAD {
        let allowed = object.status != StatusCode::NO_CONTENT;
        if allowed && !stored.contains_key(CONTENT_LENGTH) {
            stored.insert(CONTENT_LENGTH, HeaderValue::from(complete));
        }
        return with(object.status, stored, Bytes::new());
    }
    let whole = chosen.unwrap_or_else(|| object.lent_body());
    if object.status != StatusCode::OK
        || !head.headers.keys().any(|name| *name == RANGE)
        || !compress::may_be_cut(object, head)
    {
        return entire(object, stored, whole);
    }
    match range(&head.headers, &stored, complete) {
        Range::Satisfiable(span) => {
            // The span lies within the body, whose length is a usize.
            let body = whole.slice(span.start as usize..span.end as usize);
            stored.insert(CONTENT_LENGTH, HeaderValue::from(span.end - span.start));
            stored.insert(CONTENT_RANGE, content_range(&span, complete));
            with(StatusCode::PARTIAL_CONTENT, stored, body)
        }
        Range::Several(spans) => {
            let (pieces, kind) = Pieces::multipart(&object.body, &spans, &stored);
            stored.insert(CONTENT_LENGTH, HeaderValue::from(pieces.left()));
            stored.insert(CONTENT_TYPE, kind);
            let mut response = with(StatusCode::PARTIAL_CONTENT, stored, Bytes::new());
            *response.body_mut() = Body::Pieces(Box::new(pieces));
            response
        }
        Range::Unsatisfiable => {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, unsatisfied_range(complete));
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            with(StatusCode::RANGE_NOT_SATISFIABLE, headers, Bytes::new())
        }
        Range::Ignore => entire(object, stored, whole),
    }
}

fn entire(object: &Object, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let Some(trailers) = object.trailers() else {
        return with(object.status, headers, body);
    };
    let trailing = (body, Some(trailers.to_header_map()));
    let mut response = with(object.status, headers, Bytes::new());
    *response.body_mut() = Body::Trailing(Box::new(trailing));
    response
}

pub(super) fn not_modified(stored: &HeaderMap) -> Response<Body> {
    let mut headers = HeaderMap::with_capacity(NOT_MODIFIED_FIELDS.len() + 2);
    for name in NOT_MODIFIED_FIELDS {
        for value in stored.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    with(StatusCode::NOT_MODIFIED, headers, Bytes::new())
}

pub(crate) fn with(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Full(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
