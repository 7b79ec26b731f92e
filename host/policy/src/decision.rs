//! What policies decide, as the proxy receives it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::input::{Input, Part};
use crate::shape::{Shape, ShapeCell};

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Look it up, and store what the origin answers.
    Lookup(Arc<Lookup>),
    /// Forward only.
    Pass(Pass),
    /// Answer at the edge.
    Respond(Arc<Reply>),
}

impl Decision {
    /// About how many bytes it holds on the heap.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Pass(pass) => pass.reason.len() + pass.note.len(),
            Self::Respond(reply) => {
                let fields = reply.headers.iter();
                let fields = fields.map(|(name, value)| 64 + name.as_str().len() + value.len());
                reply.body.len() + fields.sum::<usize>()
            }
            Self::Lookup(lookup) => lookup.weight(),
        }
    }
}

/// Look the object up under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// One of the policy's namespaces.
    pub namespace: String,
    /// The parts of the key, at most 64.
    pub key: Vec<Part>,
    /// Tags, at most 128; each the concatenation of its parts, whose own texts are at
    /// most 1,024 bytes together (inputs may make it longer: drop such a tag's object).
    pub tags: Vec<Vec<Part>>,
    /// For `on-response` of the same request, at most 64 KiB.
    pub note: Bytes,
    /// Path and query for the origin instead of the client's; begins with the path or
    /// with text that begins with `/`.
    pub origin_target: Option<Vec<Part>>,
    /// Header fields of the request to the origin, at most 64: replaced by one value,
    /// or removed.
    pub origin_headers: Vec<(HeaderName, Option<Vec<Part>>)>,
    pub(crate) shape: ShapeCell,
}

impl Lookup {
    /// One without parts.
    pub(crate) fn new(namespace: String) -> Self {
        Self {
            namespace,
            key: Vec::new(),
            tags: Vec::new(),
            note: Bytes::new(),
            origin_target: None,
            origin_headers: Vec::new(),
            shape: ShapeCell::default(),
        }
    }

    /// About how many bytes it holds on the heap.
    pub(crate) fn weight(&self) -> usize {
        let parts = |parts: &[Part]| {
            let text = |part: &Part| match part {
                Part::Text(text) => text.len(),
                Part::Input(input) => input.weight(),
            };
            parts.iter().map(|part| 48 + text(part)).sum::<usize>()
        };
        let headers = self.origin_headers.iter();
        parts(&self.key)
            + self.tags.iter().map(|tag| parts(tag)).sum::<usize>()
            + self.origin_target.as_deref().map_or(0, parts)
            + headers
                .map(|(name, value)| 64 + name.as_str().len() + value.as_deref().map_or(0, parts))
                .sum::<usize>()
            + self.note.len()
    }

    /// About how many bytes the globs that it names are compiled to. Lookups that name the same
    /// share them, and this counts them for each.
    pub(crate) fn weight_of_globs(&self) -> usize {
        let parts = self.key.iter().chain(self.tags.iter().flatten());
        let weights = parts.chain(self.origin_parts()).map(|part| match part {
            Part::Input(Input::Query { without: globs } | Input::QueryOnly(globs)) => {
                globs.weight()
            }
            _ => 0,
        });
        weights.sum()
    }

    /// Whether the key names the digest of the request's content.
    pub fn keys_content(&self) -> bool {
        self.key.contains(&Part::Input(Input::BodyDigest))
    }

    /// The inputs that the key names.
    pub fn inputs(&self) -> impl Iterator<Item = &Input> + Clone {
        self.key.iter().filter_map(|part| match part {
            Part::Input(input) => Some(input),
            Part::Text(_) => None,
        })
    }

    /// The parts that the changes of the origin's request are made of.
    pub fn origin_parts(&self) -> impl Iterator<Item = &Part> {
        let headers = self.origin_headers.iter();
        let values = headers.filter_map(|(_, value)| value.as_ref()).flatten();
        self.origin_target.iter().flatten().chain(values)
    }

    /// All that it says besides the values in its key.
    pub fn shape(&self) -> &Shape {
        self.shape.of(self)
    }
}

/// Forward without looking up or storing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// 1 to 100 bytes of printable ASCII.
    pub reason: String,
    /// For `on-response` of the same request, at most 64 KiB.
    pub note: Bytes,
}

/// A response made at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub status: StatusCode,
    /// At most 64 fields, none of them framing or hop-by-hop.
    pub headers: HeaderMap,
    /// At most 1 MiB.
    pub body: Bytes,
}

/// The origin's response as `on-response` sees it.
#[derive(Debug, Clone)]
pub struct ResponseInfo {
    /// The status code.
    pub status: StatusCode,
    /// The header fields.
    pub headers: Arc<HeaderMap>,
    /// What `on-request` left in its note.
    pub note: Bytes,
    /// The freshness lifetime from now by RFC 9111 section 4.2; absent when it may not
    /// be stored.
    pub suggested_lifetime: Option<Duration>,
    /// Why RFC 9111 does not let it be stored.
    pub refusal: Option<Cow<'static, str>>,
}

/// What `on-response` changes. Everything absent stays as RFC 9111 says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adjustment {
    /// The freshness lifetime.
    pub lifetime: Option<Lifetime>,
    /// RFC 5861 section 3.
    pub stale_while_revalidate: Option<Duration>,
    /// RFC 5861 section 4.
    pub stale_if_error: Option<Duration>,
    /// The longest time in memory.
    pub memory_lifetime: Option<Duration>,
    /// Whether it goes to the shared tier.
    pub shared: Option<bool>,
    /// Further tags, at most 128 of at most 1,024 bytes.
    pub tags: Vec<String>,
    /// Do not store. Wins over `lifetime`, whichever was said last.
    pub store: Option<DoNotStore>,
    /// What becomes invalid, at most 128.
    pub invalidate: Vec<Selector>,
    /// Store this response to an unsafe method as what a GET would have returned.
    pub write_through: bool,
}

/// A freshness lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// From now.
    For(Duration),
    /// Until this many seconds since the Unix epoch.
    Until(u64),
}

/// Do not store, and remember that for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoNotStore(pub Duration);

/// What to invalidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Which objects.
    pub target: Target,
    /// Only those of this authority (lower case).
    pub host: Option<String>,
    /// End the lifetime, but leave what may be served stale.
    pub soft: bool,
}

/// Which objects a selector means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One URL: absolute (`http://`, `https://`), or beginning with `/`. At most 8 KiB.
    Url(String),
    /// The object under one key. In a selector of `on-event` only text parts.
    Key {
        /// One of the policy's namespaces.
        namespace: String,
        /// At most 64.
        parts: Vec<Part>,
    },
    /// Everything with this tag, 1 to 1,024 bytes.
    Tag(String),
    /// Everything in one of the policy's namespaces.
    Namespace(String),
    /// Every key that begins with `namespace:prefix`.
    Prefix {
        /// One of the policy's namespaces.
        namespace: String,
        /// At most 1,024 bytes.
        prefix: String,
    },
    /// Everything in all of the policy's namespaces.
    All,
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn names_and_values_of_fields_weigh_something() {
        let name = HeaderName::from_bytes(&[b'x'; 200]).unwrap();
        let mut lookup = Lookup::new("user".to_owned());
        lookup.origin_headers = vec![(name.clone(), None)];
        assert!(lookup.weight() >= 200);
        let mut reply = Reply {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        };
        let value = HeaderValue::from_bytes(&[b'v'; 300]).unwrap();
        reply.headers.insert(name, value);
        assert!(Decision::Respond(Arc::new(reply)).weight() >= 500);
    }
}
