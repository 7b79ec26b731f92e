//! Field names that a response often has, by a number from 1 on.
//!
//! The numbers live in memory only (records spell names out), so the list may change.

use std::collections::HashMap;
use std::sync::LazyLock;

use http::header::{self, HeaderName};

static NAMES: [HeaderName; 72] = [
    header::ACCEPT_RANGES,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::AGE,
    header::ALLOW,
    header::ALT_SVC,
    header::CACHE_CONTROL,
    header::CACHE_STATUS,
    header::CDN_CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LINK,
    header::LOCATION,
    header::PRAGMA,
    header::REFERRER_POLICY,
    header::REFRESH,
    header::RETRY_AFTER,
    header::SERVER,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::VARY,
    header::VIA,
    header::WARNING,
    header::WWW_AUTHENTICATE,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_DNS_PREFETCH_CONTROL,
    header::X_FRAME_OPTIONS,
    header::X_XSS_PROTECTION,
    HeaderName::from_static("accept-ch"),
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("cross-origin-embedder-policy"),
    HeaderName::from_static("cross-origin-opener-policy"),
    HeaderName::from_static("cross-origin-resource-policy"),
    HeaderName::from_static("deprecation"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("no-vary-search"),
    HeaderName::from_static("origin-agent-cluster"),
    HeaderName::from_static("permissions-policy"),
    HeaderName::from_static("priority"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("reporting-endpoints"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("sourcemap"),
    HeaderName::from_static("speculation-rules"),
    HeaderName::from_static("sunset"),
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("timing-allow-origin"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-correlation-id"),
    HeaderName::from_static("x-permitted-cross-domain-policies"),
    HeaderName::from_static("x-powered-by"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-robots-tag"),
    HeaderName::from_static("x-runtime"),
];

static NUMBERS: LazyLock<HashMap<&'static str, u8, ahash::RandomState>> =
    LazyLock::new(|| NAMES.iter().map(HeaderName::as_str).zip(1..).collect());

/// The number of a name, if it has one.
pub(super) fn number(name: &HeaderName) -> Option<u8> {
    NUMBERS.get(name.as_str()).copied()
}

/// The name of a number; 0 has none.
pub(super) fn get(number: u8) -> Option<&'static HeaderName> {
    NAMES.get(usize::from(number).checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        assert_eq!(NUMBERS.len(), NAMES.len(), "a name stands twice");
        for name in &NAMES {
            assert_eq!(number(name).and_then(get), Some(name));
        }
        assert_eq!(get(0), None);
        assert_eq!(get(u8::MAX), None);
    }
}
