//! From a client's request to the head that routes, policies and keys are made from: one
//! authority, whatever form it came in, or a refusal.

use std::net::IpAddr;

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use smallvec::SmallVec;
use weir_policy::{RequestHead, Scheme};
use weir_semantics::strip_hop_by_hop;

use crate::path;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// RFC 9112 section 3.2: a request must have exactly one Host.
    #[error("the request has no Host; send exactly one")]
    NoHost,
    /// Two Host fields: which one an origin heeds is anyone's guess.
    #[error("the request has more than one Host; send exactly one")]
    ManyHosts,
    /// The authority is not `host` or `host:port`.
    #[error("the request's host is not of the form host or host:port")]
    BadHost,
    /// The request target names one host and the Host field another.
    #[error("the request target and the Host field name different hosts")]
    HostMismatch,
    /// `*` or a target without a path.
    #[error("the request target must be a path")]
    BadTarget,
    /// The request target has another scheme than the connection.
    #[error("the request is for another scheme than that of its connection")]
    SchemeMismatch,
}

impl Malformed {
    /// 421 (Misdirected Request) for what belongs on another connection (RFC 9110 section
    /// 7.4), 400 for the rest.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::SchemeMismatch => StatusCode::MISDIRECTED_REQUEST,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Makes the head of a request. Its parameters are still empty: they come from the route.
pub(crate) fn head(parts: Parts, client: IpAddr, scheme: Scheme) -> Result<RequestHead, Malformed> {
    check_scheme(&parts, scheme)?;
    let host = authority(&parts.uri, &parts.headers, scheme)?;
    let mut headers = parts.headers;
    // Before anything looks at them: a field that Connection names does not reach the
    // origin, so it must not count in keys and variants either.
    strip_hop_by_hop(&mut headers);
    let target = target(&parts.uri).ok_or(Malformed::BadTarget)?;
    let target = path::normal(&target).unwrap_or(target);
    Ok(RequestHead {
        method: parts.method,
        scheme,
        host,
        target,
        headers,
        params: SmallVec::new(),
        client,
        content: None,
    })
}

/// The head of a request that nobody sent: for explanations and purges.
pub(crate) fn synthetic(
    method: Method,
    url: &Uri,
    mut headers: HeaderMap,
    client: IpAddr,
) -> Result<RequestHead, Malformed> {
    headers.remove(HOST);
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = method;
    parts.uri = match url.path_and_query() {
        Some(_) => url.clone(),
        None => return Err(Malformed::BadTarget),
    };
    parts.headers = headers;
    let scheme = match url.scheme_str() {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    head(parts, client, scheme)
}

/// Path and query, which begin with `/` also where an absolute form has no path
/// (`http://a?b`): RFC 9112 section 3.2.1.
pub(crate) fn target(uri: &Uri) -> Option<PathAndQuery> {
    let target = uri.path_and_query()?;
    match target.as_str().as_bytes().first() {
        Some(b'/') => Some(target.clone()),
        // Its text has the slash that `as_str` lacks.
        Some(b'?') => target.to_string().parse().ok(),
        _ => None,
    }
}

/// The connection decides the scheme; a request that names another one was meant for
/// another connection. Except on cleartext HTTP/2: a gateway that ended TLS in front may
/// leave the client's `:scheme` as it was.
fn check_scheme(parts: &Parts, scheme: Scheme) -> Result<(), Malformed> {
    let Some(named) = parts.uri.scheme_str() else {
        return Ok(());
    };
    let of_gateway = scheme == Scheme::Http
        && parts.version == Version::HTTP_2
        && named.eq_ignore_ascii_case("https");
    match of_gateway || named.eq_ignore_ascii_case(scheme.as_str()) {
        true => Ok(()),
        false => Err(Malformed::SchemeMismatch),
    }
}

/// The normalised authority: lower case, the default port left out.
fn authority(uri: &Uri, headers: &HeaderMap, scheme: Scheme) -> Result<Box<str>, Malformed> {
    let mut hosts = headers.get_all(HOST).iter();
    let field = hosts.next();
    if hosts.next().is_some() {
        return Err(Malformed::ManyHosts);
    }
    let field = field
        .map(|value| {
            let text = std::str::from_utf8(value.as_bytes()).map_err(|_| Malformed::BadHost)?;
            normalise(text, scheme)
        })
        .transpose()?;
    let target = uri
        .authority()
        .map(|authority| normalise(authority.as_str(), scheme))
        .transpose()?;
    match (target, field) {
        (Some(target), Some(field)) if target != field => Err(Malformed::HostMismatch),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(Malformed::NoHost),
    }
}

/// Lower-cases an authority, writes its port as a plain number, and leaves out the scheme's
/// default port, without which it is the same origin.
pub(crate) fn normalise(text: &str, scheme: Scheme) -> Result<Box<str>, Malformed> {
    if is_normal(text, scheme) {
        return Ok(text.into());
    }
    let parsed: Authority = text.parse().map_err(|_| Malformed::BadHost)?;
    let host = parsed.host();
    if host.is_empty() || text.contains('@') {
        return Err(Malformed::BadHost);
    }
    let rest = &text[host.len()..];
    if matches!(rest, "" | ":") {
        return Ok(host.to_ascii_lowercase().into_boxed_str());
    }
    // Checked here: an `Authority` has any text for a port.
    let digits = rest.strip_prefix(':').ok_or(Malformed::BadHost)?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Malformed::BadHost);
    }
    let port: u16 = digits.parse().map_err(|_| Malformed::BadHost)?;
    let normal = if port == default_port(scheme) {
        host.to_ascii_lowercase()
    } else if digits.starts_with('0') {
        format!("{}:{port}", host.to_ascii_lowercase())
    } else {
        text.to_ascii_lowercase()
    };
    Ok(normal.into_boxed_str())
}

fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

/// Is it one that [`normalise`] would leave as it is? Of most it is told so for less than by
/// parsing them; the others count as no.
fn is_normal(authority: &str, scheme: Scheme) -> bool {
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let is_other_port = |digits: &str| {
        // No zero in front, and no sign, which a number may have too.
        digits.starts_with(|first| matches!(first, '1'..='9'))
            && digits
                .parse()
                .is_ok_and(|port: u16| port != default_port(scheme))
    };
    !host.is_empty() && host.bytes().all(is_plain) && port.is_none_or(is_other_port)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn host_of(request: http::request::Builder) -> Result<String, Malformed> {
        host_on(Scheme::Http, request)
    }

    fn host_on(scheme: Scheme, request: http::request::Builder) -> Result<String, Malformed> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        head(parts, IpAddr::from([127, 0, 0, 1]), scheme).map(|head| head.host.to_string())
    }

    #[test]
    fn one_normalised_authority() {
        let request = || Request::get("/x");
        assert_eq!(
            host_of(request().header(HOST, "A.Example")).unwrap(),
            "a.example"
        );
        assert_eq!(
            host_of(request().header(HOST, "a.example:80")).unwrap(),
            "a.example"
        );
        assert_eq!(
            host_of(request().header(HOST, "a.example:8080")).unwrap(),
            "a.example:8080"
        );
        assert_eq!(
            host_of(Request::get("http://a.example/x")).unwrap(),
            "a.example"
        );
        assert_eq!(
            host_of(request().header(HOST, "[::1]:80")).unwrap(),
            "[::1]"
        );
        for (sent, normal) in [("a:", "a"), ("a:0080", "a"), ("[::1]:0081", "[::1]:81")] {
            assert_eq!(host_of(request().header(HOST, sent)).unwrap(), normal);
        }
    }

    proptest! {
        /// What is taken for normal at once is what parsing leaves as it is.
        #[test]
        fn what_looks_normal_is(
            authority in "[a-z0-9.\\-]{1,6}(:[0-9]{1,6})?|[aA0.:@\\[\\]_ ]{0,6}|(80|443|0|65535|65536)?:(80|443|0|080|65535|65536|99999)",
        ) {
            for scheme in [Scheme::Http, Scheme::Https] {
                if is_normal(&authority, scheme) {
                    let upper = authority.to_ascii_uppercase();
                    // Nothing in upper case looks normal, so this one is parsed.
                    let prefixed = normalise(&format!("A{upper}"), scheme).unwrap();
                    prop_assert_eq!(&prefixed[1..], &authority);
                }
            }
        }
    }

    #[test]
    fn a_target_without_a_path_is_that_of_the_root() {
        let target_of = |uri: &str| {
            let (parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
            let head = head(parts, IpAddr::from([127, 0, 0, 1]), Scheme::Http).unwrap();
            head.target.as_str().to_owned()
        };
        assert_eq!(target_of("http://a?b"), "/?b");
        assert_eq!(target_of("http://a"), "/");
        assert_eq!(target_of("http://a/b?c"), "/b?c");
    }

    #[test]
    fn the_connection_decides_the_scheme() {
        let (http, https) = (Scheme::Http, Scheme::Https);
        let to = |url| Request::get(url);
        for (scheme, host, normalised) in [
            (https, "a:443", "a"),
            (https, "a:80", "a:80"),
            (http, "a:443", "a:443"),
        ] {
            let request = to("/x").header(HOST, host);
            assert_eq!(host_on(scheme, request).unwrap(), normalised);
        }
        assert_eq!(host_on(https, to("https://a:443/x")).unwrap(), "a");
        let refused = Err(Malformed::SchemeMismatch);
        assert_eq!(host_on(https, to("http://a/x")), refused);
        assert_eq!(host_on(http, to("https://a/x")), refused);
        assert_eq!(host_on(http, to("ftp://a/x")), refused);
        let http2 = |url| to(url).version(Version::HTTP_2);
        assert_eq!(host_on(http, http2("https://a/x")).unwrap(), "a");
        assert_eq!(host_on(https, http2("http://a/x")), refused);
    }

    #[test]
    fn refuses_what_two_parsers_could_read_in_two_ways() {
        let request = || Request::get("/x");
        assert_eq!(host_of(request()), Err(Malformed::NoHost));
        assert_eq!(
            host_of(request().header(HOST, "a").header(HOST, "b")),
            Err(Malformed::ManyHosts)
        );
        assert_eq!(
            host_of(request().header(HOST, "a b")),
            Err(Malformed::BadHost)
        );
        for strange in ["user@a", "a@a", "a:8x", "a:+80", "a:65536", "[::1]a", ":80"] {
            assert_eq!(
                host_of(request().header(HOST, strange)),
                Err(Malformed::BadHost),
                "{strange}"
            );
        }
        assert_eq!(
            host_of(Request::get("http://a/x").header(HOST, "b")),
            Err(Malformed::HostMismatch)
        );
        assert_eq!(
            host_of(Request::options("*").header(HOST, "a")),
            Err(Malformed::BadTarget)
        );
    }
}
