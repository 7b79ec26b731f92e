//! How far OPTIONS and TRACE may go: RFC 9110 section 7.6.2.

use bytes::Bytes;
use http::header::MAX_FORWARDS;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use weir_policy::RequestHead;
use weir_semantics::CacheStatus;

use super::call::Answer;
use super::serve::{CACHE_STATUS, with};
use crate::metrics::ResultKind;

/// The node's own answer, where the request may go no further.
pub(super) fn used_up(head: &RequestHead) -> Option<Answer> {
    if left(&head.method, &head.headers)? > 0 {
        return None;
    }
    if head.method == Method::TRACE {
        return Some(Answer::error(
            StatusCode::NOT_IMPLEMENTED,
            "max-forwards",
            "the request may go no further, and this node echoes none",
            ResultKind::Respond,
        ));
    }
    let status = CacheStatus {
        detail: Some("max-forwards"),
        ..CacheStatus::default()
    };
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_STATUS, status.to_header_value());
    Some(Answer::without_lookup(
        with(StatusCode::NO_CONTENT, headers, Bytes::new()),
        ResultKind::Respond,
    ))
}

/// One step less for a request that goes on.
pub(super) fn count_down(method: &Method, headers: &mut HeaderMap) {
    if let Some(left) = left(method, headers) {
        headers.insert(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
}

/// The steps that are left; `None` for other methods, and for what is no number.
fn left(method: &Method, headers: &HeaderMap) -> Option<u64> {
    if *method != Method::OPTIONS && *method != Method::TRACE {
        return None;
    }
    let digits = std::str::from_utf8(headers.get(MAX_FORWARDS)?.as_bytes()).ok()?;
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // More steps than fit are as good as the most that do.
    number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(method: &Method, value: &'static str) -> HeaderValue {
        let mut headers = HeaderMap::new();
        headers.insert(MAX_FORWARDS, HeaderValue::from_static(value));
        count_down(method, &mut headers);
        headers[MAX_FORWARDS].clone()
    }

    #[test]
    fn only_numbers_of_options_and_trace_are_counted_down() {
        assert_eq!(after(&Method::OPTIONS, "5"), "4");
        assert_eq!(after(&Method::TRACE, "010"), "9");
        assert_eq!(after(&Method::GET, "5"), "5");
        assert_eq!(after(&Method::OPTIONS, "-1"), "-1");
        assert_eq!(after(&Method::OPTIONS, ""), "");
        assert_eq!(
            after(&Method::OPTIONS, "99999999999999999999999"),
            "18446744073709551614"
        );
    }
}
