//! The request as a policy sees it. The proxy builds one for each request.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{ACCEPT_LANGUAGE, COOKIE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::content::Content;
use crate::device::{self, DeviceClass};
use crate::{cookie, language, query};

const MOBILE: HeaderName = HeaderName::from_static("sec-ch-ua-mobile");

/// The scheme by which the client reached the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Everything of a request that a policy can see.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method as sent.
    pub method: Method,
    /// The scheme by which the client reached the node.
    pub scheme: Scheme,
    /// The normalised authority: lower case, without a default port.
    pub host: Box<str>,
    /// Path and query, percent-encoded as they were sent.
    pub target: PathAndQuery,
    /// All header fields, as received.
    pub headers: HeaderMap,
    /// The parameters of the route's path pattern, percent-*decoded* (see
    /// [`crate::percent_decode`]).
    pub params: SmallVec<[(Arc<str>, Vec<u8>); 2]>,
    /// The client's address.
    pub client: IpAddr,
    /// Its content, once that has been read because the key names its digest. No policy
    /// sees it.
    pub content: Option<Content>,
}

impl RequestHead {
    /// The path, percent-encoded as it was sent.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The query as it was sent, without `?`; empty differs from absent.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// The values of one header field, one for each field line.
    pub fn header<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let values = self.headers.get_all(name).into_iter();
        values.map(HeaderValue::as_bytes)
    }

    /// The same of a field whose name is known.
    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let values = self.headers.get_all(name).into_iter();
        values.map(HeaderValue::as_bytes)
    }

    /// The percent-decoded values of one query parameter, in order.
    pub fn query_param<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
        query::values(self.query().unwrap_or_default(), name)
    }

    /// The values of one cookie, in order.
    pub fn cookie<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        cookie::values(self.values(&COOKIE), name)
    }

    /// One parameter of the route's path pattern.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.params.iter().find(|(known, _)| **known == *name)?;
        Some(value)
    }

    /// The best of `available` for Accept-Language: RFC 4647 section 3.4. The first of
    /// `available` when nothing fits, and the empty text when it is empty.
    pub fn language<'a>(&self, available: &'a Arc<[String]>) -> &'a str {
        let found = self.language_at(available);
        available.get(found).map_or("", String::as_str)
    }

    /// Where the same stands in `available`; 0 too where that is empty.
    pub(crate) fn language_at(&self, available: &Arc<[String]>) -> usize {
        language::lookup(self.values(&ACCEPT_LANGUAGE), available)
    }

    /// The class of device that the client says it is.
    pub fn device(&self) -> DeviceClass {
        let agent = self.values(&USER_AGENT).next();
        device::classify(agent, || self.values(&MOBILE).next())
    }

    /// Which of `candidates` the header field equals after trimming, ignoring ASCII
    /// case. A repeated field equals none of them.
    pub fn header_one_of<S: AsRef<str>>(&self, name: &str, candidates: &[S]) -> Option<u32> {
        let mut values = self.header(name);
        let value = values.next()?.trim_ascii();
        if values.next().is_some() {
            return None;
        }
        let found = candidates.iter().position(|c| {
            c.as_ref()
                .trim_ascii()
                .as_bytes()
                .eq_ignore_ascii_case(value)
        })?;
        u32::try_from(found).ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    /// A GET request for `target` with these header fields and the parameter `id` = 42.
    pub(crate) fn head(target: &str, headers: &[(&str, &str)]) -> RequestHead {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        RequestHead {
            method: Method::GET,
            scheme: Scheme::Https,
            host: "api.example.org".into(),
            target: target.parse().unwrap(),
            headers: map,
            params: [(Arc::from("id"), b"42".to_vec())].into_iter().collect(),
            client: IpAddr::from([192, 0, 2, 7]),
            content: None,
        }
    }

    #[test]
    fn one_of_trims_and_ignores_case_but_not_repetition() {
        let request = head("/", &[("x-plan", " Gold "), ("x-two", "a"), ("x-two", "a")]);
        assert_eq!(request.header_one_of("X-Plan", &["free", "gold"]), Some(1));
        assert_eq!(request.header_one_of("x-plan", &["free"]), None);
        assert_eq!(request.header_one_of("x-two", &["a"]), None);
        assert_eq!(request.header_one_of("x-none", &[""]), None);
    }

    #[test]
    fn an_invalid_header_name_is_an_absent_header() {
        assert_eq!(head("/", &[]).header("no such name").count(), 0);
    }

    #[test]
    fn empty_query_differs_from_absent() {
        assert_eq!(head("/a?", &[]).query(), Some(""));
        assert_eq!(head("/a", &[]).query(), None);
    }
}
