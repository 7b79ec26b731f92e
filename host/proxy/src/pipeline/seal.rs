//! Sealed routes: the request to the origin is made of what the key says, and of nothing
//! else. So nothing that is not in a key can change what is stored under it.
//!
//! The key of a sealed route ends with a digest of what its values do not say: what each of
//! them is a value of, what the policy changes of the origin's request, its tags, its note
//! (see [`weir_policy::Shape`]), and the inputs that those name. One key is then one request
//! by construction, whatever the policy based its decision on.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::header::{
    ACCEPT_LANGUAGE, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
};
use http::uri::PathAndQuery;
use http::{Method, Version};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_encode};
use smallvec::SmallVec;
use weir_policy::{Input, Lookup, RequestHead, Scheme, Values, percent_decode};
use weir_semantics::strip_hop_by_hop;
use weir_store::KeyBuilder;

use super::keys::{self, OF_CONTENT};
use super::origin;
use crate::generation::Route;

/// What a device class is sent as: what Varnish's devicedetect made usual.
const X_UA_DEVICE: HeaderName = HeaderName::from_static("x-ua-device");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What stands for itself in a segment of a path: RFC 3986 section 3.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// What stands for itself in a name or a value of a query.
const QUERY: &AsciiSet = &SEGMENT.remove(b'/').remove(b'?').add(b'&').add(b'=');

/// A request as its key has it.
#[derive(Debug)]
pub(super) struct Sealed {
    /// What the origin may see of it, and `on-response`.
    pub(super) head: RequestHead,
    /// Whether the key says the path.
    pub(super) says_path: bool,
}

/// Ends the key in `builder` with what it does not say yet.
pub(super) fn end_key(
    builder: &mut KeyBuilder,
    route: &Route,
    head: &RequestHead,
    lookup: &Lookup,
) {
    let shape = lookup.shape();
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(shape.digest());
    // What the request is rebuilt with besides.
    add(route.settings.path.as_bytes());
    add(route.upstream.name().as_bytes());
    add(host(route, head).as_bytes());
    for input in shape.beside() {
        match input.values(head) {
            Values::Absent => add(b"absent"),
            Values::One(value) => {
                add(b"one");
                add(&value);
            }
            Values::Many(values) => {
                add(b"many");
                add(&(values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| add(value));
            }
        }
    }
    builder.sealed(hasher.finalize().to_hex().as_str());
}

/// The request as its key has it.
pub(super) fn head(route: &Route, head: &RequestHead, lookup: &Lookup) -> Sealed {
    let inputs = || lookup.inputs();
    let content = head.content.clone().filter(|_| lookup.keys_content());
    let params = params(head, lookup);
    let path = path(route, head, lookup, &params);
    let target = path
        .as_ref()
        .and_then(|path| target(path, query(head, inputs())));
    let says_path = target.is_some();
    Sealed {
        head: RequestHead {
            method: match content {
                Some(_) => head.method.clone(),
                None => Method::GET,
            },
            scheme: match keys::is_shared(route) {
                true => Scheme::Http,
                false => head.scheme,
            },
            host: host(route, head).into(),
            target: target.unwrap_or_else(|| PathAndQuery::from_static("/")),
            headers: fields(head, inputs(), content.is_some()),
            params,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            content,
        },
        says_path,
    }
}

/// Whether requests for other paths have other keys.
pub(super) fn says_path(route: &Route, head: &RequestHead, lookup: &Lookup) -> bool {
    path(route, head, lookup, &params(head, lookup)).is_some()
}

type Params = SmallVec<[(Arc<str>, Vec<u8>); 2]>;

/// The parameters of the pattern that the key says.
fn params(head: &RequestHead, lookup: &Lookup) -> Params {
    let is_named = |name: &str| {
        lookup.inputs().any(|input| match input {
            Input::Path => true,
            Input::Param(known) => **known == *name,
            _ => false,
        })
    };
    let params = head.params.iter().filter(|(name, _)| is_named(name));
    params.cloned().collect()
}

fn path<'a>(
    route: &Route,
    head: &'a RequestHead,
    lookup: &Lookup,
    params: &Params,
) -> Option<Cow<'a, str>> {
    if lookup.inputs().any(|input| *input == Input::Path) {
        return Some(Cow::Borrowed(head.path()));
    }
    path_of(&route.settings.path, params).map(Cow::Owned)
}

/// The fields of a request that its key makes: those of the key, and the node's own.
pub(super) fn to_origin(route: &Route, sealed: &RequestHead, asked: &RequestHead) -> HeaderMap {
    let mut headers = sealed.headers.clone();
    strip_hop_by_hop(&mut headers);
    origin::strip_target(&mut headers);
    // Of the message that is sent, which is another one.
    for name in [CONTENT_LENGTH, EXPECT] {
        headers.remove(name);
    }
    if let Ok(host) = HeaderValue::from_str(&sealed.host) {
        headers.insert(HOST, host);
    }
    if !keys::is_shared(route) {
        origin::say_target(&mut headers, sealed);
    }
    origin::add_via(&mut headers, Version::HTTP_11);
    // It says which request this is, and is for the operator's eyes.
    if let Some(trace) = asked.headers.get(TRACEPARENT).filter(|it| is_trace(it))
        && !headers.contains_key(TRACEPARENT)
    {
        headers.insert(TRACEPARENT, trace.clone());
    }
    headers
}

/// W3C Trace Context, version 00: nothing but hexadecimal digits, so that it can say nothing
/// else. `tracestate` and `baggage` hold free text.
fn is_trace(value: &HeaderValue) -> bool {
    let text = value.as_bytes();
    let digits = |part: &[u8], length| {
        part.len() == length
            && part
                .iter()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
    };
    let mut parts = text.split(|&byte| byte == b'-');
    let mut next = |length| parts.next().is_some_and(|part| digits(part, length));
    text.starts_with(b"00-") && next(2) && next(32) && next(16) && next(2) && parts.next().is_none()
}

/// Which Host the origin is told. The objects of a shared route are of no host: it gets the
/// one that the route is for, or else its own.
fn host<'a>(route: &'a Route, head: &'a RequestHead) -> &'a str {
    if !keys::is_shared(route) {
        return &head.host;
    }
    let servers = &route.upstream.settings().servers;
    match &route.settings.host {
        Some(host) => host,
        None => servers.first().map_or("", String::as_str),
    }
}

/// The path that these parameters make of a route's pattern, if they are all that it has.
fn path_of(pattern: &str, params: &[(Arc<str>, Vec<u8>)]) -> Option<String> {
    let mut path = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((literal, from)) = rest.split_once('{') {
        let (name, after) = from.split_once('}')?;
        path.push_str(literal);
        let (name, is_rest) = match name.strip_prefix('*') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (_, value) = params.iter().find(|(known, _)| **known == *name)?;
        for (index, segment) in value.split(|&byte| byte == b'/' && is_rest).enumerate() {
            if index > 0 {
                path.push('/');
            }
            // Writing to a String cannot fail.
            let _ = write!(path, "{}", encoded(segment, SEGMENT));
        }
        rest = after;
    }
    path.push_str(rest);
    let dotted = path.split('/').any(|segment| matches!(segment, "." | ".."));
    // No request has such a segment, and none is to be sent.
    (!dotted).then_some(path)
}

fn encoded<'a>(bytes: &'a [u8], set: &'static AsciiSet) -> PercentEncode<'a> {
    percent_encode(bytes, set)
}

fn target(path: &str, query: Option<String>) -> Option<PathAndQuery> {
    match query {
        Some(query) => format!("{path}?{query}").parse().ok(),
        None => path.parse().ok(),
    }
}

/// The parameters that a key names, each once, sorted by name.
fn query<'a>(head: &RequestHead, inputs: impl Iterator<Item = &'a Input>) -> Option<String> {
    let mut known: Vec<(Vec<u8>, String)> = Vec::new();
    let mut is_there = false;
    for input in inputs {
        let mut found = Vec::new();
        match (input, input.values(head)) {
            (Input::Query { .. } | Input::QueryOnly(_), Values::One(text)) => {
                is_there = true;
                let text = String::from_utf8_lossy(&text);
                for one in text.split('&').filter(|one| !one.is_empty()) {
                    let name = one.split('=').next().unwrap_or_default();
                    found.push((percent_decode(name).into_owned(), one.to_owned()));
                }
            }
            (Input::QueryParam(name), values) => {
                let one = |value: &[u8]| {
                    let text = format!(
                        "{}={}",
                        encoded(name.as_bytes(), QUERY),
                        encoded(value, QUERY)
                    );
                    (name.as_bytes().to_vec(), text)
                };
                found.extend(each(&values).map(one));
            }
            _ => continue,
        }
        // What two parts name is the same: said once.
        let first = known.len();
        found.retain(|(name, _)| known[..first].iter().all(|(other, _)| other != name));
        known.extend(found);
    }
    if known.is_empty() {
        return is_there.then(String::new);
    }
    known.sort_by(|(a, _), (b, _)| a.cmp(b));
    let texts: Vec<String> = known.into_iter().map(|(_, text)| text).collect();
    Some(texts.join("&"))
}

/// The header fields that a key names, as it has them.
fn fields<'a>(
    head: &RequestHead,
    inputs: impl Iterator<Item = &'a Input> + Clone,
    keys_content: bool,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut whole = |name: &HeaderName| {
        if !headers.contains_key(name) {
            for value in head.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
    };
    for input in inputs.clone() {
        if let Input::Header(name) = input {
            whole(name);
        }
    }
    if keys_content {
        OF_CONTENT.iter().for_each(whole);
    }
    let mut cookies: Vec<Vec<u8>> = Vec::new();
    let mut insert = |name: HeaderName, value: &[u8]| {
        if let Ok(value) = HeaderValue::from_bytes(value)
            && !value.is_empty()
        {
            headers.entry(name).or_insert(value);
        }
    };
    for input in inputs {
        let values = input.values(head);
        match (input, &values) {
            (Input::Cookie(name), values) => {
                let pairs = each(values).map(|value| [name.as_bytes(), b"=", value].concat());
                let pairs: Vec<_> = pairs.collect();
                if !pairs.iter().all(|pair| cookies.contains(pair)) {
                    cookies.extend(pairs);
                }
            }
            (Input::Language(_), Values::One(tag)) => insert(ACCEPT_LANGUAGE, tag),
            (Input::Device, Values::One(class)) => insert(X_UA_DEVICE, class),
            _ => {}
        }
    }
    insert(COOKIE, &cookies.join(&b"; "[..]));
    headers
}

fn each<'a>(values: &'a Values<'_>) -> impl Iterator<Item = &'a [u8]> {
    let (one, many) = match values {
        Values::Absent => (None, &[][..]),
        Values::One(value) => (Some(&**value), &[][..]),
        Values::Many(values) => (None, &values[..]),
    };
    one.into_iter().chain(many.iter().map(|value| &**value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_policy::Globs;

    fn param(name: &str, value: &str) -> (Arc<str>, Vec<u8>) {
        (Arc::from(name), value.as_bytes().to_vec())
    }

    #[test]
    fn a_path_is_made_of_its_pattern_and_all_its_parameters() {
        for (pattern, params, path) in [
            ("/a", vec![], Some("/a")),
            ("/a/{id}", vec![param("id", "x y")], Some("/a/x%20y")),
            ("/a/{id}", vec![param("id", "x/y:z@")], Some("/a/x%2Fy:z@")),
            (
                "/a/{id}.json",
                vec![param("id", "\u{e4}%")],
                Some("/a/%C3%A4%25.json"),
            ),
            ("/{*rest}", vec![param("rest", "x/y z")], Some("/x/y%20z")),
            (
                "/{a}/{b}",
                vec![param("a", "1"), param("b", "2")],
                Some("/1/2"),
            ),
            ("/{a}/{b}", vec![param("a", "1")], None),
            ("/{*rest}", vec![param("rest", "x/../y")], None),
            ("/a/{id}", vec![param("id", "..")], None),
        ] {
            assert_eq!(path_of(pattern, &params).as_deref(), path, "{pattern}");
        }
    }

    fn asked(target: &str) -> RequestHead {
        RequestHead {
            method: Method::GET,
            scheme: Scheme::Http,
            host: "h".into(),
            target: target.parse().unwrap(),
            headers: HeaderMap::new(),
            params: SmallVec::new(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            content: None,
        }
    }

    #[test]
    fn a_query_says_each_named_parameter_once() {
        let only = |globs: &[&str]| Input::QueryOnly(Globs::compile(globs).unwrap());
        let one = |name: &str| Input::QueryParam(name.into());
        for (target, inputs, query) in [
            ("/", vec![only(&["a"])], None),
            ("/?b=1", vec![only(&["a"]), one("a")], None),
            ("/?b=%31&a=1", vec![only(&["*"])], Some("a=1&b=%31")),
            (
                "/?b=%31&a=1&a=2",
                vec![one("b"), one("a")],
                Some("a=1&a=2&b=1"),
            ),
            ("/?b=%31&a=1", vec![one("b"), only(&["*"])], Some("a=1&b=1")),
            ("/?a=x+y&a=%26%3D", vec![one("a")], Some("a=x+y&a=%26%3D")),
            ("/?a", vec![one("a")], Some("a=")),
        ] {
            let made = super::query(&asked(target), inputs.iter());
            assert_eq!(made.as_deref(), query, "{target} {inputs:?}");
        }
    }
}
