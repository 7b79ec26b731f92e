//! The decision to look an object up.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::bindings::weir::policy::http as wit;
use crate::part::{Part, to_host};

/// The decision to look an object up, and to store what the origin answers.
///
/// For an unsafe method it names the object that the request changes: the request goes to
/// the origin, and [`crate::Policy::on_response`] says what becomes invalid. Except for a
/// POST whose key names [`body_digest`](crate::body_digest): with that the policy says that
/// it only retrieves, like a QUERY; it is looked up and stored, and makes nothing invalid.
///
/// ```
/// use weir_sdk::{Decision, Lookup, param, text};
///
/// let decision: Decision = Lookup::new("user")
///     .key(text("profile"))
///     .key(param("id"))
///     .tag([text("user:"), param("id")])
///     .into();
/// # assert!(matches!(decision, Decision::Lookup(_)));
/// ```
///
/// One that is the same for many requests is best made in [`crate::Policy::configure`] and
/// cloned for each of them: the host knows it from the second time on, so that a decision
/// takes one call of the host in place of one for each part. What is added to a clone is
/// added to that alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup(Arc<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    namespace: String,
    key: Vec<Part>,
    tags: Vec<Vec<Part>>,
    note: Vec<u8>,
    origin_target: Option<Vec<Part>>,
    origin_headers: Vec<(String, Option<Vec<Part>>)>,
    prepared: Prepared,
}

/// What the host knows a lookup by, once it was asked to; `None` where it had no room.
/// Follows from the rest, so it makes no difference between two, and no copy has it.
#[derive(Default)]
struct Prepared(OnceLock<Option<wit::PreparedLookup>>);

impl Clone for Prepared {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Prepared {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Prepared {}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared")
    }
}

impl Lookup {
    /// A lookup in `namespace`, which must be one that the configuration gives this policy.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            namespace: namespace.into(),
            key: Vec::new(),
            tags: Vec::new(),
            note: Vec::new(),
            origin_target: None,
            origin_headers: Vec::new(),
            prepared: Prepared::default(),
        }))
    }

    /// To be changed: without what the host knows it by.
    fn change(&mut self) -> &mut Inner {
        let inner = Arc::make_mut(&mut self.0);
        inner.prepared = Prepared::default();
        inner
    }

    /// Adds a part to the key, which reads `namespace:part:part`.
    #[must_use]
    pub fn key(mut self, part: Part) -> Self {
        self.change().key.push(part);
        self
    }

    /// Adds several parts to the key.
    #[must_use]
    pub fn keys(mut self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.change().key.extend(parts);
        self
    }

    /// Adds a tag made of the concatenation of these parts.
    #[must_use]
    pub fn tag(mut self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.change().tags.push(parts.into_iter().collect());
        self
    }

    /// Bytes handed to `on_response` of the same request, at most 64 KiB. The hooks of one
    /// request may run on different instances, and a remembered `on_request` runs on none:
    /// what `on_response` needs to know travels here.
    #[must_use]
    pub fn note(mut self, note: impl Into<Vec<u8>>) -> Self {
        self.change().note = note.into();
        self
    }

    /// The path and query that the origin is asked for instead of the client's. Must begin
    /// with `/`.
    #[must_use]
    pub fn origin_target(mut self, path_and_query: impl IntoIterator<Item = Part>) -> Self {
        self.change().origin_target = Some(path_and_query.into_iter().collect());
        self
    }

    /// Replaces a header field of the request to the origin by one value. Framing and
    /// hop-by-hop fields are refused.
    #[must_use]
    pub fn origin_header(
        mut self,
        name: impl Into<String>,
        value: impl IntoIterator<Item = Part>,
    ) -> Self {
        self.change()
            .origin_headers
            .push((name.into(), Some(value.into_iter().collect())));
        self
    }

    /// Removes a header field from the request to the origin.
    #[must_use]
    pub fn origin_without_header(mut self, name: impl Into<String>) -> Self {
        self.change().origin_headers.push((name.into(), None));
        self
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The key's parts after the namespace.
    pub fn key_parts(&self) -> &[Part] {
        &self.0.key
    }

    /// What the origin is asked for, where that is not what the client asked for.
    pub fn origin_target_parts(&self) -> Option<&[Part]> {
        self.0.origin_target.as_deref()
    }

    /// The tags, each as its parts.
    pub fn tags(&self) -> &[Vec<Part>] {
        &self.0.tags
    }

    /// The note; empty when there is none.
    pub fn note_bytes(&self) -> &[u8] {
        &self.0.note
    }

    pub(crate) fn to_host(&self) -> wit::Lookup {
        let Prepared(prepared) = &self.0.prepared;
        if let Some(Some(prepared)) = prepared.get() {
            return prepared.lookup();
        }
        let lookup = self.0.to_host();
        // The policy has it still, and will decide on it again.
        if Arc::strong_count(&self.0) > 1 {
            prepared.get_or_init(|| lookup.prepare());
        }
        lookup
    }
}

impl Inner {
    fn to_host(&self) -> wit::Lookup {
        let lookup = wit::Lookup::new(&self.namespace);
        for part in &self.key {
            lookup.key(part.to_host());
        }
        for tag in &self.tags {
            lookup.tag(to_host(tag));
        }
        if !self.note.is_empty() {
            lookup.note(&self.note);
        }
        if let Some(target) = &self.origin_target {
            lookup.origin_target(to_host(target));
        }
        for (name, value) in &self.origin_headers {
            match value {
                Some(value) => lookup.origin_header(name, to_host(value)),
                None => lookup.origin_without_header(name),
            }
        }
        lookup
    }
}
