//! The request that goes to an origin.

use std::fmt::Write;

use bytes::Bytes;
use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use http::{Method, Version};
use weir_policy::RequestHead;
use weir_semantics::{
    conditional_headers, normalise_accept_encoding, strip_conditions, strip_hop_by_hop,
};
use weir_store::Object;

use super::plan::Plan;
use super::{max_forwards, seal};
use crate::generation::Route;
use crate::upstream::OriginRequest;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields by which a client may say another target, host or scheme than its request has.
/// No key contains them, so an origin that heeds one would let a client choose what
/// everybody gets; and what is true of them the node says itself.
const OF_THE_TARGET: [HeaderName; 12] = [
    FORWARDED,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-host-override"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// The same of the method. A request that is not looked up keeps them: its response is for
/// nobody else.
const OF_THE_METHOD: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// Whether the node writes this field itself, so that the client's says nothing of what
/// the origin saw.
pub(crate) fn is_ours(name: &HeaderName) -> bool {
    [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, VIA].contains(name)
}

/// The request as the client made it, for a response that nobody else will see.
pub(crate) fn forwarded(head: &RequestHead, plan: Option<&Plan>) -> OriginRequest {
    let mut headers = end_to_end(head);
    let target = edit(head, plan, &mut headers);
    OriginRequest {
        method: head.method.clone(),
        target,
        headers,
        content: content_of(head),
    }
}

/// The request whose response may be stored: a GET for the whole representation, made
/// conditional when there is one to confirm; or what the client sent, where its content is
/// in the key. A POST is never conditional, since its conditions are about what it would
/// change (RFC 9110 section 13.2.1). Of Accept-Encoding it says no more than the key of the
/// variant will. On a sealed route it is what the key says.
pub(crate) fn fetch(
    route: &Route,
    asked: &RequestHead,
    plan: &Plan,
    base: Option<&Object>,
) -> OriginRequest {
    let (head, mut headers) = match &plan.sealed {
        Some(sealed) => (&**sealed, seal::to_origin(route, sealed, asked)),
        None => (asked, end_to_end(asked)),
    };
    strip_conditions(&mut headers);
    normalise_accept_encoding(&mut headers);
    for name in &OF_THE_METHOD {
        headers.remove(name);
    }
    if let Some(base) = base
        && head.method != Method::POST
    {
        headers.extend(conditional_headers(&base.headers.to_header_map()));
    }
    let target = edit(head, Some(plan), &mut headers);
    OriginRequest {
        method: match head.content {
            Some(_) => head.method.clone(),
            None => Method::GET,
        },
        target,
        headers,
        content: content_of(head),
    }
}

/// What was read because the key names it. All else is streamed.
fn content_of(head: &RequestHead) -> Bytes {
    match &head.content {
        Some(content) => content.bytes().clone(),
        None => Bytes::new(),
    }
}

fn end_to_end(head: &RequestHead) -> HeaderMap {
    let mut headers = head.headers.clone();
    strip_hop_by_hop(&mut headers);
    max_forwards::count_down(&head.method, &mut headers);
    if let Ok(host) = HeaderValue::from_str(&head.host) {
        headers.insert(HOST, host);
    }
    strip_target(&mut headers);
    append_list(&mut headers, X_FORWARDED_FOR, &head.client.to_string());
    say_target(&mut headers, head);
    add_via(&mut headers, Version::HTTP_11);
    headers
}

/// Takes out what says another target than the request has.
pub(super) fn strip_target(headers: &mut HeaderMap) {
    for name in &OF_THE_TARGET {
        headers.remove(name);
    }
}

/// Says by which scheme and host the client came.
pub(super) fn say_target(headers: &mut HeaderMap, head: &RequestHead) {
    headers.insert(
        X_FORWARDED_PROTO,
        HeaderValue::from_static(head.scheme.as_str()),
    );
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// RFC 9110 section 7.6.3.
pub(crate) fn add_via(headers: &mut HeaderMap, received: Version) {
    let hop = match received {
        Version::HTTP_2 => "2 weir",
        Version::HTTP_10 => "1.0 weir",
        _ => "1.1 weir",
    };
    append_list(headers, VIA, hop);
}

fn append_list(headers: &mut HeaderMap, name: HeaderName, member: &str) {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(member.as_bytes());
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(list)) {
        headers.insert(name, value);
    }
}

fn edit(
    head: &RequestHead,
    plan: Option<&Plan>,
    headers: &mut HeaderMap,
) -> http::uri::PathAndQuery {
    let Some(plan) = plan else {
        return head.target.clone();
    };
    for (name, value) in &plan.origin_headers {
        match value {
            Some(value) => {
                headers.insert(name.clone(), value.clone());
            }
            None => {
                headers.remove(name);
            }
        }
    }
    plan.origin_target
        .clone()
        .unwrap_or_else(|| head.target.clone())
}

/// A path and query from text that may hold any byte: what a target cannot hold is
/// percent-encoded.
///
/// An empty query goes with its `?`: a policy that writes path, `?` and a named query means no query
/// where there is none.
pub(crate) fn target_from(text: &str) -> Option<http::uri::PathAndQuery> {
    let text = match text.strip_suffix('?') {
        Some(path) if !path.contains('?') => path,
        _ => text,
    };
    let mut target = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!' | b'#'..=b'~'
                if !matches!(
                    byte,
                    b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#'
                ) =>
            {
                target.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => drop(write!(target, "%{byte:02X}")),
        }
    }
    if !target.starts_with('/') {
        return None;
    }
    target.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_made_safe_and_must_begin_with_a_slash() {
        assert_eq!(target_from("/a b?x=ä").unwrap().as_str(), "/a%20b?x=%C3%A4");
        assert_eq!(
            target_from("/a\r\nX: y").unwrap().as_str(),
            "/a%0D%0AX:%20y"
        );
        assert!(target_from("a").is_none());
        assert_eq!(target_from("/a?").unwrap().as_str(), "/a");
        assert_eq!(target_from("/a?b=?").unwrap().as_str(), "/a?b=?");
        assert_eq!(target_from("/a%2Fb#c").unwrap().as_str(), "/a%2Fb%23c");
    }

    #[test]
    fn lists_grow_at_the_end() {
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.0 first"));
        headers.append(VIA, HeaderValue::from_static("1.1 second"));
        add_via(&mut headers, Version::HTTP_2);
        assert_eq!(headers[VIA], "1.0 first, 1.1 second, 2 weir");
        assert_eq!(headers.get_all(VIA).iter().count(), 1);
    }
}
