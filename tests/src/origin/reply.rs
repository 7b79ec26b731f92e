//! What a handler answers.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};

use super::Call;
use super::body::Piece;
use super::gate::Gate;

/// An answer of the origin.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Payload,
    pub(super) delay: Duration,
    pub(super) gate: Option<Gate>,
}

#[derive(Debug, Clone)]
pub(super) enum Payload {
    Full(Bytes),
    Pieces(Vec<Piece>),
    /// The request's body, piece by piece as it arrives.
    Echo,
}

impl Reply {
    /// 200 without a body.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// Any status, without a body.
    pub fn status(code: u16) -> Self {
        Self {
            status: StatusCode::from_u16(code).expect("a status code"),
            headers: HeaderMap::new(),
            body: Payload::Full(Bytes::new()),
            delay: Duration::ZERO,
            gate: None,
        }
    }

    /// The page at this target and version: `TARGET v1`, with an entity tag; 304 when
    /// If-None-Match has it.
    pub fn page(call: &Call) -> Self {
        let tag = format!("\"v{}\"", call.version);
        let known = call.headers.get_all(IF_NONE_MATCH).iter();
        let has = |value: &HeaderValue| {
            let tags = value.as_bytes().split(|&byte| byte == b',');
            let mut tags = tags.map(|one| one.trim_ascii());
            tags.any(|one| one.strip_prefix(b"W/").unwrap_or(one) == tag.as_bytes())
        };
        let unchanged = known.into_iter().any(has);
        let reply = if unchanged {
            Self::status(304)
        } else {
            Self::ok().text(page_text(&call.target, call.version))
        };
        reply.header(ETAG.as_str(), &tag)
    }

    /// Adds a header field.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a field value");
        self.headers.append(name, value);
        self
    }

    /// Adds `Cache-Control`.
    pub fn cache(self, directives: &str) -> Self {
        self.header("cache-control", directives)
    }

    /// Sets the body.
    pub fn text(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Payload::Full(body.into());
        self
    }

    /// Sets a body sent piece by piece, chunked unless a Content-Length was added.
    pub fn pieces(mut self, pieces: impl IntoIterator<Item = Piece>) -> Self {
        self.body = Payload::Pieces(pieces.into_iter().collect());
        self
    }

    /// Sets a body of `length` bytes of [`super::Pattern`], with its Content-Length.
    pub fn pattern(self, length: u64) -> Self {
        self.header("content-length", length.to_string())
            .pieces([Piece::Pattern(length)])
    }

    /// Sends the request's body back while it arrives.
    pub fn echo(mut self) -> Self {
        self.body = Payload::Echo;
        self
    }

    /// Answers as JSON the header fields that came: an object of lists of strings.
    pub fn reflect(self, call: &Call) -> Self {
        let mut object = serde_json::Map::new();
        for (name, value) in &call.headers {
            let list = object
                .entry(name.as_str())
                .or_insert_with(|| serde_json::Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                list.push(String::from_utf8_lossy(value.as_bytes()).into());
            }
        }
        self.header("content-type", "application/json")
            .text(serde_json::Value::Object(object).to_string())
    }

    /// Waits so long before the head, for a latency that a person can see.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits at a gate before the head.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }
}

/// The body of [`Reply::page`].
pub fn page_text(target: &str, version: u64) -> String {
    format!("{target} v{version}\n")
}
