//! What the tests of this crate build objects with.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue, VARY};
use weir_semantics::{Freshness, Timestamp, VaryKey, VaryRule};

use crate::headers::StoredHeaders;
use crate::key::Key;
use crate::object::{Object, ObjectParts};
use crate::position::Position;
use crate::tags::Tags;

/// The present of most tests.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A map of these fields.
pub(crate) fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

/// What a request with these fields selects from a response with this Vary.
pub(crate) fn vary(names: &str, request: &[(&str, &str)]) -> VaryKey {
    let mut response = HeaderMap::new();
    response.insert(VARY, HeaderValue::from_bytes(names.as_bytes()).unwrap());
    VaryRule::parse(&response)
        .select(&headers(request))
        .unwrap()
}

/// Fresh for so long from [`NOW`].
pub(crate) fn fresh_for(lifetime: Duration) -> Freshness {
    Freshness {
        received: NOW,
        initial_age: Duration::ZERO,
        lifetime,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        keep: Duration::ZERO,
        must_revalidate: false,
        no_cache: false,
        immutable: false,
        heuristic: false,
    }
}

/// A small object, fresh for an hour from [`NOW`].
pub(crate) fn object(key: &str, body: &'static str) -> Object {
    Object::new(parts(key, body))
}

/// What [`object`] is made of.
pub(crate) fn parts(key: &str, body: &'static str) -> ObjectParts {
    ObjectParts {
        key: Key::parse(key).unwrap(),
        url: "http://example.org/x".into(),
        status: StatusCode::OK,
        headers: StoredHeaders::from_map(&headers(&[("content-type", "text/plain")])),
        body: Bytes::from_static(body.as_bytes()),
        trailers: None,
        vary: VaryKey::default(),
        tags: Tags::none(),
        freshness: fresh_for(Duration::from_secs(3600)),
        fetch_took: Duration::ZERO,
        memory_until: None,
        shared: true,
        position: Position::default(),
        policy: None,
    }
}
