//! What a policy decides about a request.

use crate::bindings::weir::policy::http as wit;
use crate::part::{Part, to_host};

/// What becomes of a request. Made from a [`Lookup`], a [`Pass`] or a [`Reply`] by `into()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Look up, and store what the origin answers.
    Lookup(Lookup),
    /// Forward only.
    Pass(Pass),
    /// Answer at the edge.
    Respond(Reply),
}

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    namespace: String,
    key: Vec<Part>,
    tags: Vec<Vec<Part>>,
    note: Vec<u8>,
    origin_target: Option<Vec<Part>>,
    origin_headers: Vec<(String, Option<Vec<Part>>)>,
}

impl Lookup {
    /// A lookup in `namespace`, which must be one that the configuration gives this policy.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            key: Vec::new(),
            tags: Vec::new(),
            note: Vec::new(),
            origin_target: None,
            origin_headers: Vec::new(),
        }
    }

    /// Adds a part to the key, which reads `namespace:part:part`.
    #[must_use]
    pub fn key(mut self, part: Part) -> Self {
        self.key.push(part);
        self
    }

    /// Adds several parts to the key.
    #[must_use]
    pub fn keys(mut self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.key.extend(parts);
        self
    }

    /// Adds a tag made of the concatenation of these parts.
    #[must_use]
    pub fn tag(mut self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.tags.push(parts.into_iter().collect());
        self
    }

    /// Bytes handed to `on_response` of the same request, at most 64 KiB. The hooks of one
    /// request may run on different instances, and a remembered `on_request` runs on none:
    /// what `on_response` needs to know travels here.
    #[must_use]
    pub fn note(mut self, note: impl Into<Vec<u8>>) -> Self {
        self.note = note.into();
        self
    }

    /// The path and query that the origin is asked for instead of the client's. Must begin
    /// with `/`.
    #[must_use]
    pub fn origin_target(mut self, path_and_query: impl IntoIterator<Item = Part>) -> Self {
        self.origin_target = Some(path_and_query.into_iter().collect());
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
        self.origin_headers
            .push((name.into(), Some(value.into_iter().collect())));
        self
    }

    /// Removes a header field from the request to the origin.
    #[must_use]
    pub fn origin_without_header(mut self, name: impl Into<String>) -> Self {
        self.origin_headers.push((name.into(), None));
        self
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The key's parts after the namespace.
    pub fn key_parts(&self) -> &[Part] {
        &self.key
    }

    /// What the origin is asked for, where that is not what the client asked for.
    pub fn origin_target_parts(&self) -> Option<&[Part]> {
        self.origin_target.as_deref()
    }

    /// The tags, each as its parts.
    pub fn tags(&self) -> &[Vec<Part>] {
        &self.tags
    }

    /// The note; empty when there is none.
    pub fn note_bytes(&self) -> &[u8] {
        &self.note
    }

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

/// The decision to forward without looking up or storing anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    reason: String,
    note: Vec<u8>,
}

impl Pass {
    /// `reason` appears in Cache-Status and in explanations: at most 100 bytes of printable
    /// ASCII.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            note: Vec::new(),
        }
    }

    /// Bytes handed to `on_response` of the same request, at most 64 KiB.
    #[must_use]
    pub fn note(mut self, note: impl Into<Vec<u8>>) -> Self {
        self.note = note.into();
        self
    }

    /// The note; empty when there is none.
    pub fn note_bytes(&self) -> &[u8] {
        &self.note
    }

    fn to_host(&self) -> wit::Pass {
        let pass = wit::Pass::new(&self.reason);
        if !self.note.is_empty() {
            pass.note(&self.note);
        }
        pass
    }
}

/// The decision to answer at the edge.
///
/// ```
/// use weir_sdk::Reply;
///
/// let reply = Reply::new(429)
///     .header("retry-after", "30")
///     .header("content-type", "text/plain")
///     .body("Too many requests\n");
/// # let _ = reply;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Reply {
    /// A response with this status, which must lie in 200..=599.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a header field. Framing and hop-by-hop fields are refused.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body, at most 1 MiB.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The header fields, in order.
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// The body.
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    fn to_host(&self) -> wit::Reply {
        let reply = wit::Reply::new(self.status);
        for (name, value) in &self.headers {
            reply.header(name, value);
        }
        if !self.body.is_empty() {
            reply.body(&self.body);
        }
        reply
    }
}

impl From<Lookup> for Decision {
    fn from(lookup: Lookup) -> Self {
        Self::Lookup(lookup)
    }
}

impl From<Pass> for Decision {
    fn from(pass: Pass) -> Self {
        Self::Pass(pass)
    }
}

impl From<Reply> for Decision {
    fn from(reply: Reply) -> Self {
        Self::Respond(reply)
    }
}

impl Decision {
    pub(crate) fn to_host(&self) -> wit::Decision {
        match self {
            Self::Lookup(lookup) => wit::Decision::Lookup(lookup.to_host()),
            Self::Pass(pass) => wit::Decision::Pass(pass.to_host()),
            Self::Respond(reply) => wit::Decision::Respond(reply.to_host()),
        }
    }
}
