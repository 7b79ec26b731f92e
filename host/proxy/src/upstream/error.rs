//! Why an origin gave no response.

use std::error::Error;

use http::StatusCode;
use http::uri::Authority;
use hyper_util::client::legacy;

use super::connect::is_tls;
use super::reuse;
use crate::incoming::IncomingError;
use crate::wire::Refusal;

/// What went wrong between the node and an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamErrorKind {
    /// No connection: refused, unreachable, name not found.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// No TLS: a certificate that is not trusted, or is for another name, or no common
    /// version.
    Tls,
    /// No response header section in time.
    ResponseTimeout,
    /// The connection ended or broke the protocol before a response was complete.
    Broken,
    /// The client ended its request body early.
    ClientGone,
    /// The client's request body is not what a body may be, or came too slowly.
    Refused(Refusal),
    /// The server's address makes no sense.
    Configuration,
}

impl UpstreamErrorKind {
    /// The token used in `Cache-Status` and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect-failed",
            Self::ConnectTimeout => "connect-timeout",
            Self::Tls => "tls-failed",
            Self::ResponseTimeout => "response-timeout",
            Self::Broken => "origin-broken",
            Self::ClientGone => "client-gone",
            Self::Refused(refusal) => refusal.token(),
            Self::Configuration => "configuration",
        }
    }

    /// 504 for what took too long, 502 for the rest (RFC 9110 section 15.6).
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::ConnectTimeout | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::Refused(refusal) => refusal.status(),
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

/// Why an origin gave no response, in words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct UpstreamError {
    /// What kind of failure it was.
    pub kind: UpstreamErrorKind,
    /// A connection that had answered before ended without a word on this request.
    pub(super) was_closed: bool,
    message: String,
}

impl UpstreamError {
    pub(crate) fn new(kind: UpstreamErrorKind, message: String) -> Self {
        Self {
            kind,
            was_closed: false,
            message,
        }
    }

    pub(super) fn from_client(server: &Authority, error: &legacy::Error) -> Self {
        let mut kind = match error.is_connect() {
            true if is_tls(error) => UpstreamErrorKind::Tls,
            true => UpstreamErrorKind::Connect,
            false => UpstreamErrorKind::Broken,
        };
        let mut message = format!("{server}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            if let Some(io) = cause.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::TimedOut
                && error.is_connect()
            {
                kind = UpstreamErrorKind::ConnectTimeout;
            }
            if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
                && hyper.is_user()
            {
                kind = UpstreamErrorKind::ClientGone;
            }
            if let Some(IncomingError::Refused(refusal)) = cause.downcast_ref() {
                kind = UpstreamErrorKind::Refused(*refusal);
            }
            source = cause.source();
        }
        Self {
            kind,
            was_closed: kind == UpstreamErrorKind::Broken && reuse::had_answered(error),
            message,
        }
    }

    /// Whether no byte of the request can have reached the server.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(
            self.kind,
            UpstreamErrorKind::Connect | UpstreamErrorKind::ConnectTimeout | UpstreamErrorKind::Tls
        )
    }
}
