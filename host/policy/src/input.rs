//! Named inputs: what a key part, a tag or an origin target is made of.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::HeaderName;

use crate::globs::Globs;
use crate::query::{self, Keep};
use crate::request::RequestHead;

/// One part of a key, a tag, an origin target or a header value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// Text of the policy's own, at most 1,024 bytes.
    Text(String),
    /// An input that the host fills in.
    Input(Input),
}

/// An input that the host reads from the request by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// The method.
    Method,
    /// The path as sent.
    Path,
    /// A parameter of the route's path pattern.
    Param(Box<str>),
    /// All values of one query parameter.
    QueryParam(Box<str>),
    /// The query sorted by name, without what these globs match.
    Query {
        /// Globs over parameter names.
        without: Globs,
    },
    /// The query sorted by name, only what these globs match.
    QueryOnly(Globs),
    /// All values of a header field.
    Header(HeaderName),
    /// All values of a cookie.
    Cookie(Box<str>),
    /// The best of these for Accept-Language.
    Language(Arc<[String]>),
    /// The class of device.
    Device,
    /// The digest of the content; absent until the content was read.
    BodyDigest,
}

/// What an input is in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values<'a> {
    /// Not there.
    Absent,
    /// There once; possibly empty.
    One(Cow<'a, [u8]>),
    /// There more than once, in order.
    Many(Vec<Cow<'a, [u8]>>),
}

impl<'a> Values<'a> {
    /// All of them, in order.
    pub(crate) fn as_slice(&self) -> &[Cow<'a, [u8]>] {
        match self {
            Self::Absent => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    pub(crate) fn option(value: Option<Cow<'a, [u8]>>) -> Self {
        value.map_or(Self::Absent, Self::One)
    }

    pub(crate) fn text(value: &'a str) -> Self {
        Self::One(Cow::Borrowed(value.as_bytes()))
    }

    pub(crate) fn of(mut values: impl Iterator<Item = Cow<'a, [u8]>>) -> Self {
        let Some(first) = values.next() else {
            return Self::Absent;
        };
        let Some(second) = values.next() else {
            return Self::One(first);
        };
        Self::Many([first, second].into_iter().chain(values).collect())
    }
}

impl Input {
    /// About how many bytes it holds on the heap.
    pub(crate) fn weight(&self) -> usize {
        let list = |texts: &[String]| texts.iter().map(|text| 24 + text.len()).sum();
        match self {
            Self::Param(name) | Self::QueryParam(name) | Self::Cookie(name) => name.len(),
            Self::Header(name) => name.as_str().len(),
            // What they are compiled to is mostly shared.
            Self::Query { without: globs } | Self::QueryOnly(globs) => list(globs.patterns()),
            Self::Language(available) => list(available),
            Self::Method | Self::Path | Self::Device | Self::BodyDigest => 0,
        }
    }

    /// The value of this input in `head`, if any, of those that are text and never several, as most
    /// parts of keys: to write it costs less so than by way of [`Input::values`]. Nothing of the
    /// others.
    #[inline]
    pub fn text<'a>(&'a self, head: &'a RequestHead) -> Option<Option<Cow<'a, str>>> {
        let one = |text: &'a str| Some(Cow::Borrowed(text));
        Some(match self {
            Self::Method => one(head.method.as_str()),
            Self::Path => one(head.path()),
            Self::Language(available) => one(head.language(available)),
            Self::Device => one(head.device().as_str()),
            Self::Query { without } => query::sorted(head.query(), Keep::Without(without)),
            Self::QueryOnly(names) => query::sorted(head.query(), Keep::Only(names)),
            Self::Param(_)
            | Self::QueryParam(_)
            | Self::Header(_)
            | Self::Cookie(_)
            | Self::BodyDigest => return None,
        })
    }

    /// The values of this input in `head`.
    pub fn values<'a>(&'a self, head: &'a RequestHead) -> Values<'a> {
        match self {
            Self::Method
            | Self::Path
            | Self::Language(_)
            | Self::Device
            | Self::Query { .. }
            | Self::QueryOnly(_) => match self.text(head).flatten() {
                Some(Cow::Borrowed(text)) => Values::text(text),
                Some(Cow::Owned(text)) => Values::One(Cow::Owned(text.into_bytes())),
                None => Values::Absent,
            },
            Self::Param(name) => match head.param(name) {
                Some(value) => Values::One(Cow::Borrowed(value)),
                None => Values::Absent,
            },
            Self::QueryParam(name) => Values::of(head.query_param(name)),
            Self::Header(name) => Values::of(
                head.headers
                    .get_all(name)
                    .into_iter()
                    .map(|value| Cow::Borrowed(value.as_bytes())),
            ),
            Self::Cookie(name) => Values::of(head.cookie(name).map(Cow::Borrowed)),
            Self::BodyDigest => match &head.content {
                Some(content) => Values::text(content.digest()),
                None => Values::Absent,
            },
        }
    }
}

/// As an explanation names it: `header accept-language`, `query without utm_*`.
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("method"),
            Self::Path => f.write_str("path"),
            Self::Param(name) => write!(f, "param {name}"),
            Self::QueryParam(name) => write!(f, "query {name}"),
            Self::Query { without } if without.patterns().is_empty() => f.write_str("query"),
            Self::Query { without } => write!(f, "query without {}", without.patterns().join(" ")),
            Self::QueryOnly(names) => write!(f, "query only {}", names.patterns().join(" ")),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Language(available) => write!(f, "language of {}", available.join(" ")),
            Self::Device => f.write_str("device"),
            Self::BodyDigest => f.write_str("body digest"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;
    use crate::request::tests::head;

    fn one(text: &str) -> Values<'_> {
        Values::text(text)
    }

    fn two() -> Values<'static> {
        let values = ["1", "2"].into_iter();
        Values::Many(values.map(|v| Cow::Borrowed(v.as_bytes())).collect())
    }

    #[test]
    fn absent_empty_and_repeated_differ() {
        let request = head("/a?x=&y=1&y=2", &[("x-a", ""), ("x-b", "1"), ("x-b", "2")]);
        let header = |name| Input::Header(HeaderName::from_static(name));
        assert_eq!(header("x-none").values(&request), Values::Absent);
        assert_eq!(header("x-a").values(&request), one(""));
        assert_eq!(header("x-b").values(&request), two());
        assert_eq!(Input::QueryParam("x".into()).values(&request), one(""));
        assert_eq!(Input::QueryParam("y".into()).values(&request), two());
        assert_eq!(
            Input::QueryParam("z".into()).values(&request),
            Values::Absent
        );
    }

    #[test]
    fn every_input_reads_its_own() {
        let request = head(
            "/a/b?p=2&utm_x=1",
            &[
                ("cookie", "s=7"),
                ("accept-language", "de"),
                ("sec-ch-ua-mobile", "?1"),
            ],
        );
        let without = Globs::compile(&["utm_*"]).unwrap();
        let available: Arc<[String]> = ["en".to_owned(), "de".to_owned()].into();
        for (input, value, name) in [
            (Input::Method, "GET", "method"),
            (Input::Path, "/a/b", "path"),
            (Input::Param("id".into()), "42", "param id"),
            (
                Input::Query {
                    without: without.clone(),
                },
                "p=2",
                "query without utm_*",
            ),
            (Input::QueryOnly(without), "utm_x=1", "query only utm_*"),
            (Input::Cookie("s".into()), "7", "cookie s"),
            (Input::Language(available), "de", "language of en de"),
            (Input::Device, "mobile", "device"),
        ] {
            assert_eq!(input.values(&request), one(value), "{name}");
            assert_eq!(input.to_string(), name);
        }
        assert_eq!(Input::Param("none".into()).values(&request), Values::Absent);
    }

    #[test]
    fn no_content_and_empty_content_differ() {
        let mut request = head("/", &[]);
        assert_eq!(Input::BodyDigest.values(&request), Values::Absent);
        let mut digests = Vec::new();
        for content in ["", "a", "b"] {
            request.content = Some(Content::new(content.into()));
            let Values::One(digest) = Input::BodyDigest.values(&request) else {
                panic!("no digest of {content:?}");
            };
            assert_eq!(digest.len(), 64);
            digests.push(digest.into_owned());
        }
        digests.dedup();
        assert_eq!(digests.len(), 3);
    }
}
