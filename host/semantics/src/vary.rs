//! Which of the stored variants answers a request: RFC 9110 section 12.5.5, RFC 9111
//! section 4.1.

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY},
};
use smallvec::SmallVec;

use crate::encoding::{AcceptEncoding, content_codings};

mod languages;
mod normal;

use normal::Normal;

/// A Vary with more names than this counts as `*`.
const MOST_FIELDS: usize = 32;

/// Stands in a [`VaryKey`] for "the request takes these codings". No field is called so: a
/// Vary that names it counts as `*`.
const CODINGS: HeaderName = HeaderName::from_static("weir-content-codings");

/// What a response says about the requests it can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaryRule {
    /// `*`, or a Vary that cannot be read: it answers no other request.
    Star,
    /// These request fields select it.
    Fields(VaryFields),
}

/// The names in a Vary: lower case, sorted, each once. Empty when there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaryFields {
    names: SmallVec<[HeaderName; 2]>,
    /// The codings that whoever gets the response must take, joined by commas.
    codings: Box<str>,
    /// The language of the response, where that may select it.
    language: Option<Box<[u8]>>,
}

impl VaryRule {
    /// Reads the Vary fields of a response, its Content-Encoding and Content-Language.
    pub fn parse(response: &HeaderMap) -> Self {
        let mut names = SmallVec::new();
        for line in response.get_all(VARY) {
            for name in line.as_bytes().split(|&byte| byte == b',') {
                let name = name.trim_ascii();
                if name.is_empty() {
                    continue;
                }
                match HeaderName::from_bytes(name) {
                    Ok(name) if name != "*" && name != CODINGS && names.len() < MOST_FIELDS => {
                        names.push(name);
                    }
                    _ => return Self::Star,
                }
            }
        }
        names.sort_unstable_by(|a: &HeaderName, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let language = match names.contains(&ACCEPT_LANGUAGE) {
            true => languages::of_response(response),
            false => None,
        };
        Self::Fields(VaryFields {
            names,
            codings: content_codings(response).into(),
            language,
        })
    }

    /// Without the language of the response: for one that is no representation of its
    /// target (an error, a redirect), whose language says nothing of what another client
    /// would get.
    #[must_use]
    pub fn without_language(mut self) -> Self {
        if let Self::Fields(fields) = &mut self {
            fields.language = None;
        }
        self
    }

    /// Without the fields: for one that was made of nothing but its key, so that it is the
    /// same for all requests with that key. Its codings still count.
    #[must_use]
    pub fn without_fields(self) -> Self {
        match self {
            Self::Star => Self::Star,
            Self::Fields(fields) => Self::Fields(VaryFields {
                codings: fields.codings,
                ..VaryFields::default()
            }),
        }
    }

    /// The values by which `request` selected this response; `None` for [`VaryRule::Star`].
    pub fn select(&self, request: &HeaderMap) -> Option<VaryKey> {
        match self {
            Self::Star => None,
            Self::Fields(fields) => Some(fields.select(request)),
        }
    }
}

impl VaryFields {
    /// The names, sorted.
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// The values by which `request` selected this response.
    pub fn select(&self, request: &HeaderMap) -> VaryKey {
        let value = |name: &HeaderName| {
            let normal = Normal::of(name, request)?;
            let mut bytes = Vec::new();
            normal.write(&mut |part| {
                bytes.extend_from_slice(part);
                true
            });
            if let Some(language) = self.language.as_deref()
                && *name == ACCEPT_LANGUAGE
            {
                languages::mark(&mut bytes, language);
            }
            Some(bytes.into_boxed_slice())
        };
        let selecting = self.names.iter().map(|name| (name.clone(), value(name)));
        if self.codings.is_empty() || self.implies_codings(request) {
            return VaryKey(selecting.collect());
        }
        let codings = (CODINGS, Some(self.codings.as_bytes().into()));
        VaryKey::from_parts(selecting.chain([codings]))
    }

    /// Does whoever selects this variant take its codings, because of what Vary names?
    fn implies_codings(&self, request: &HeaderMap) -> bool {
        self.names.contains(&ACCEPT_ENCODING)
            && AcceptEncoding::parse(request)
                .is_none_or(|accepted| self.codings.split(',').all(|coding| accepted.tells(coding)))
    }
}

/// The normalised request values that selected a stored response, sorted by field name.
/// Empty for a response without Vary, which matches every request.
///
/// Values are normalised so that requests which mean the same are one variant: members of
/// a list are trimmed and joined by `", "`, Accept-Encoding is the sorted set of the
/// codings that count, Accept-Language the sorted set of its weighted ranges; Authorization
/// and Cookie are left as they are. A field that is absent differs from an empty one.
///
/// A response that varies by Accept-Language and says which one language it is in also
/// answers every request that prefers just this language to all others. One with a
/// Content-Encoding matches only requests that take it, whether or not its Vary says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VaryKey(Box<[Selecting]>);

/// The name of a request field and its normalised value.
type Selecting = (HeaderName, Option<Box<[u8]>>);

impl VaryKey {
    /// Does `request` select the same response? Does not allocate.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.0.iter().all(|(name, stored)| {
            if *name == CODINGS {
                let codings = stored.as_deref().unwrap_or_default();
                return AcceptEncoding::parse(request).is_none_or(|it| it.takes(codings));
            }
            match (Normal::of(name, request), stored) {
                (None, None) => true,
                (Some(Normal::Languages(wanted)), Some(stored)) => {
                    let (set, language) = languages::marked(stored);
                    language.is_some_and(|language| wanted.prefers(language))
                        || equals(|sink| wanted.write(sink), set)
                }
                (Some(normal), Some(stored)) => {
                    let stored = match *name {
                        ACCEPT_LANGUAGE => languages::marked(stored).0,
                        _ => stored,
                    };
                    equals(|sink| normal.write(sink), stored)
                }
                _ => false,
            }
        })
    }

    /// Did the response have no Vary?
    pub fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }

    /// The names of its Vary.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0
            .iter()
            .map(|(name, _)| name)
            .filter(|name| **name != CODINGS)
    }

    /// The codings that a request must take beyond what it selects by, as a
    /// Content-Encoding has them.
    pub fn codings(&self) -> Option<&[u8]> {
        let (_, codings) = self.0.iter().find(|(name, _)| *name == CODINGS)?;
        codings.as_deref()
    }

    /// Names and normalised values, `None` for a field that was absent: what a record
    /// keeps.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (name, value.as_deref()))
    }

    /// The same of the request alone, without the language that a response says: what names
    /// the variant to one who has not read it yet.
    pub fn selecting(&self) -> impl Iterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.iter().map(|(name, value)| match *name {
            ACCEPT_LANGUAGE => (name, value.map(|value| languages::marked(value).0)),
            _ => (name, value),
        })
    }

    /// The key with these names and normalised values, as [`VaryKey::iter`] gave them.
    pub fn from_parts(parts: impl IntoIterator<Item = (HeaderName, Option<Box<[u8]>>)>) -> Self {
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        Self(parts.into_boxed_slice())
    }

    /// Roughly what it takes in memory, in bytes.
    pub fn weight(&self) -> usize {
        let heap = |(name, value): &Selecting| {
            size_of_val(name)
                + size_of_val(value)
                + name.as_str().len()
                + value.as_ref().map_or(0, |value| value.len())
        };
        self.0.iter().map(heap).sum()
    }
}

/// Compares without building the normalised value.
fn equals(write: impl FnOnce(&mut dyn FnMut(&[u8]) -> bool) -> bool, stored: &[u8]) -> bool {
    let mut rest = Some(stored);
    write(&mut |part| {
        rest = rest.and_then(|rest| rest.strip_prefix(part));
        rest.is_some()
    });
    rest.is_some_and(<[u8]>::is_empty)
}

#[cfg(test)]
mod tests;
