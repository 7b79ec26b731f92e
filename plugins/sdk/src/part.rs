//! Parts of keys, tags and origin targets.

use std::sync::Arc;

use crate::bindings::weir::policy::http as wit;

/// One part of a cache key, of a tag or of what the origin is asked: text of the policy's
/// own, or the name of an input that the host fills in.
///
/// Prefer naming an input to reading it. A decision that only names `param("id")` is the
/// same for every `id`, so the host remembers it once and no longer calls the policy; one
/// that reads the value with [`crate::Request::param`] is remembered for each value anew.
///
/// A part that is the same for every request can be made in `configure` and cloned for each
/// of them: a clone copies no list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Text of the policy's own, at most 1,024 bytes.
    Text(String),
    /// The request method.
    Method,
    /// The path as sent, percent-encoded.
    Path,
    /// A parameter of the route's path pattern, percent-decoded.
    Param(String),
    /// All values of one query parameter.
    QueryParam(String),
    /// The whole query, sorted by name, without those whose name matches one of the globs.
    Query {
        /// Globs of names that are left out.
        without: Arc<[String]>,
    },
    /// The query parameters whose name matches one of the globs, sorted by name.
    QueryOnly(Arc<[String]>),
    /// All values of one request header field.
    Header(String),
    /// All values of one cookie.
    Cookie(String),
    /// The best of these languages for Accept-Language (RFC 4647 lookup).
    Language(Arc<[String]>),
    /// The class of the client's device: `desktop`, `mobile`, `tablet`, `bot`.
    Device,
    /// A digest of the request's content.
    BodyDigest,
}

/// Text of the policy's own, at most 1,024 bytes.
pub fn text(text: impl Into<String>) -> Part {
    Part::Text(text.into())
}

/// The request method.
pub fn method() -> Part {
    Part::Method
}

/// The path as sent, percent-encoded.
pub fn path() -> Part {
    Part::Path
}

/// A parameter of the route's path pattern (`{id}`), percent-decoded.
pub fn param(name: impl Into<String>) -> Part {
    Part::Param(name.into())
}

/// The whole query, its parameters sorted by name; repeated ones keep their order.
pub fn query() -> Part {
    Part::Query {
        without: Arc::default(),
    }
}

/// As [`query`], without the parameters whose name matches one of the globs:
/// `query_without(["utm_*", "fbclid"])`.
pub fn query_without<S: Into<String>>(globs: impl IntoIterator<Item = S>) -> Part {
    Part::Query {
        without: globs.into_iter().map(Into::into).collect(),
    }
}

/// As [`query`], but only the parameters whose name matches one of the globs.
pub fn query_only<S: Into<String>>(globs: impl IntoIterator<Item = S>) -> Part {
    Part::QueryOnly(globs.into_iter().map(Into::into).collect())
}

/// All values of one query parameter, percent-decoded.
pub fn query_param(name: impl Into<String>) -> Part {
    Part::QueryParam(name.into())
}

/// All values of one request header field.
pub fn header(name: impl Into<String>) -> Part {
    Part::Header(name.into())
}

/// All values of one cookie.
pub fn cookie(name: impl Into<String>) -> Part {
    Part::Cookie(name.into())
}

/// The best of `available` for Accept-Language, the first of them when nothing fits.
pub fn language<S: Into<String>>(available: impl IntoIterator<Item = S>) -> Part {
    Part::Language(available.into_iter().map(Into::into).collect())
}

/// The class of the client's device: `desktop`, `mobile`, `tablet` or `bot`.
pub fn device() -> Part {
    Part::Device
}

/// A digest of the content of a QUERY or a POST; absent for a request without. The host adds
/// the method, Content-Type, Content-Encoding and Content-Language to a key that names it.
///
/// A POST whose key names it is looked up and stored, so it must be one that only retrieves:
/// see [`crate::Lookup`].
pub fn body_digest() -> Part {
    Part::BodyDigest
}

impl Part {
    pub(crate) fn to_host(&self) -> wit::Part {
        match self {
            Self::Text(text) => wit::Part::text(text),
            Self::Method => wit::Part::method(),
            Self::Path => wit::Part::path(),
            Self::Param(name) => wit::Part::param(name),
            Self::QueryParam(name) => wit::Part::query_param(name),
            Self::Query { without } => wit::Part::query(without),
            Self::QueryOnly(names) => wit::Part::query_only(names),
            Self::Header(name) => wit::Part::header(name),
            Self::Cookie(name) => wit::Part::cookie(name),
            Self::Language(available) => wit::Part::language(available),
            Self::Device => wit::Part::device(),
            Self::BodyDigest => wit::Part::body_digest(),
        }
    }
}

pub(crate) fn to_host(parts: &[Part]) -> Vec<wit::Part> {
    parts.iter().map(Part::to_host).collect()
}
