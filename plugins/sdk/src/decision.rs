//! What a policy decides about a request.

use crate::bindings::weir::policy::http as wit;
use crate::lookup::Lookup;

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
