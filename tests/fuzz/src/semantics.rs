//! Header fields of requests and responses.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use weir_semantics::{
    Exchange, Part, Range, RequestDirectives, Reuse, Rules, Timestamp, VaryRule, assess,
    cache_groups, conditional_headers, evaluate, freshen, groups_to_invalidate, head_agrees,
    may_serve_disconnected, may_serve_on_error, range, response_tags, reuse, same_representation,
    strip_conditions, strip_hop_by_hop, uris_to_invalidate, validates,
};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A status, the fields of a request and those of a response, in lines: what may be stored,
/// served, validated and purged.
pub fn exchange(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let status = lines
        .next()
        .and_then(|line| StatusCode::from_bytes(line).ok());
    let mut lines = lines.peekable();
    let request = fields(&mut lines);
    let response = fields(&mut lines);
    let status = status.unwrap_or(StatusCode::OK);
    let rules = Rules {
        store_set_cookie: false,
        longest_life: Duration::from_secs(30 * 86_400),
        targeted: vec![HeaderName::from_static("cdn-cache-control")],
        negative: vec![(StatusCode::NOT_FOUND, Duration::from_secs(10))],
        disconnected: Duration::from_secs(60),
    };
    let assessment = assess(
        &Exchange {
            method: &Method::GET,
            request_headers: &request,
            status,
            response_headers: &response,
            request_time: NOW - Duration::from_secs(1),
            response_time: NOW,
        },
        &rules,
    );
    let freshness = assessment.freshness;
    assert!(freshness.retain_until() <= NOW + rules.longest_life);
    if assessment.refusal.is_none() {
        assert!(!response.contains_key("set-cookie"));
        let rule = VaryRule::parse(&response);
        let key = rule
            .select(&request)
            .expect("what varies by * is not stored");
        // An origin may send a coding that its client does not take: that variant answers
        // nobody like it.
        let coded = response.contains_key("content-encoding");
        assert!(
            coded || key.matches(&request),
            "a request selects its own variant"
        );
    }
    let directives = RequestDirectives::parse(&request);
    for later in [0, 1, 59, 3600, 1 << 40] {
        let now = NOW + Duration::from_secs(later);
        let fresh = reuse(&directives, &freshness, None, now) == Reuse::Fresh;
        assert!(!fresh || freshness.ttl_secs(now) >= 0);
        may_serve_on_error(&freshness, Some(NOW), now, &directives);
        may_serve_disconnected(&freshness, rules.disconnected, None, now, &directives);
    }
    evaluate(&request, status, &response);
    let _ = response_tags(&response);
    cache_groups(&response);
    groups_to_invalidate(&response);
    let target = "http://a.test/b/c?d".parse().expect("a URI");
    for uri in uris_to_invalidate(&target, status, &response) {
        assert_eq!(uri.authority(), target.authority());
        assert_eq!(uri.scheme(), target.scheme());
    }
    head_agrees(&response, &request, 5);
    if validates(&response, &request) {
        let fresh = freshen(&response, &request);
        assert_eq!(
            fresh.contains_key("set-cookie"),
            response.contains_key("set-cookie")
        );
    }
    conditional_headers(&response);
    let mut stripped = request;
    strip_conditions(&mut stripped);
    assert!(!stripped.contains_key("range") && !stripped.contains_key("if-none-match"));
    strip_hop_by_hop(&mut stripped);
    assert!(!stripped.contains_key("connection"));
}

/// The length of a body, a Range, and the fields of two partial responses.
pub fn ranges(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n').peekable();
    let len = lines
        .next()
        .and_then(|line| std::str::from_utf8(line).ok()?.parse().ok())
        .unwrap_or(10);
    let request = fields(&mut lines);
    let one = fields(&mut lines);
    let other = fields(&mut lines);
    let spans = match range(&request, &one, len) {
        Range::Satisfiable(span) => vec![span],
        Range::Several(spans) => spans,
        Range::Unsatisfiable | Range::Ignore => Vec::new(),
    };
    let total: u64 = spans.iter().map(|span| span.end - span.start).sum();
    assert!(total <= len, "more than there is");
    assert!(
        spans
            .iter()
            .all(|span| span.start < span.end && span.end <= len)
    );
    let (Some(first), Some(second)) = (Part::parse(&one, len), Part::parse(&other, len)) else {
        return;
    };
    if let Some(within) = first.answers(&request, &one) {
        assert!(within.start < within.end && within.end <= len);
    }
    if let Some(joined) = first.joined(&second) {
        assert!(joined.span.end <= joined.complete);
        assert!(joined.span.end - joined.span.start <= 2 * len);
    }
    same_representation(&one, &other);
}

/// Fields up to an empty line.
pub(crate) fn fields<'a>(lines: &mut impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()).take(64) {
        let mut halves = line.splitn(2, |&byte| byte == b':');
        let name = halves.next().map(HeaderName::from_bytes);
        let value = halves
            .next()
            .map(|value| HeaderValue::from_bytes(value.trim_ascii()));
        if let (Some(Ok(name)), Some(Ok(value))) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
