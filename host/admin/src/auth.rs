//! Who may ask: a bearer token, or, without one, only this machine.
//!
//! Without a token two attacks of a browser on the same machine remain, and each has its rule:
//! a rebound DNS name reaches the listener with its own name in Host, so Host must be loopback;
//! a form or a script on another site cannot send `application/json` without a preflight, which
//! is never granted, so bodies must have that type (`body`).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use subtle::ConstantTimeEq;

use crate::error::ApiError;
use crate::routes::is_plain;

/// The rule that admits requests to the admin API.
#[derive(Clone)]
pub struct Auth(Rule);

#[derive(Clone)]
enum Rule {
    Token(Box<[u8]>),
    Loopback,
}

/// A token that cannot be sent as `Authorization: Bearer`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing but white space: a file that was never written must not admit everyone.
    #[error("the token is empty: write one line of random text, such as `openssl rand -hex 32`")]
    Empty,
    /// A character outside visible ASCII, or a space.
    #[error(
        "the token holds a space or a character that is not visible ASCII: write one line of random text, such as `openssl rand -hex 32`"
    )]
    Character,
}

impl Auth {
    /// Admits who sends this token (RFC 6750 section 2.1). White space around it is dropped, so
    /// a file's contents can be given as they are.
    ///
    /// # Errors
    /// A token that is empty or that no header field could carry.
    pub fn token(token: &str) -> Result<Self, TokenError> {
        let token = token.trim();
        if token.is_empty() {
            return Err(TokenError::Empty);
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Character);
        }
        Ok(Self(Rule::Token(token.as_bytes().into())))
    }

    /// Admits who reaches a loopback listener by a loopback name. [`serve`](crate::serve)
    /// refuses another listener.
    pub fn loopback() -> Self {
        Self(Rule::Loopback)
    }

    pub(crate) fn needs_loopback(&self) -> bool {
        matches!(self.0, Rule::Loopback)
    }

    fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        match &self.0 {
            // Probes of an orchestrator carry no token and learn nothing secret.
            Rule::Token(_) if matches!(uri.path(), "/healthz" | "/readyz") => Ok(()),
            Rule::Token(token) => check_token(token, headers),
            Rule::Loopback => check_host(uri, headers),
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Rule::Token(_) => "Auth(token)",
            Rule::Loopback => "Auth(loopback)",
        })
    }
}

/// The outermost layer: nothing behind it sees a request that is not admitted.
pub(crate) async fn guard(State(auth): State<Auth>, request: Request, next: Next) -> Response {
    let mut response = match auth.admit(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            tracing::warn!(
                method = %request.method(),
                path = request.uri().path(),
                status = error.status.as_u16(),
                "admin request refused: {}", error.message
            );
            error.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

fn check_token(token: &[u8], headers: &HeaderMap) -> Result<(), ApiError> {
    let refuse = |message| Err(ApiError::new(StatusCode::UNAUTHORIZED, message));
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return refuse("this node asks for a token: send one `Authorization: Bearer TOKEN`");
    };
    let Some(given) = bearer(field.as_bytes()) else {
        return refuse("Authorization must be `Bearer TOKEN`");
    };
    if bool::from(given.ct_eq(token)) {
        Ok(())
    } else {
        refuse("this is not the node's token; it stands in the file that [admin] token_file names")
    }
}

/// The token of a Bearer credential; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = field.split_at_checked(6)?;
    let token = rest.strip_prefix(b" ")?;
    scheme
        .eq_ignore_ascii_case(b"bearer")
        .then(|| token.trim_ascii())
}

fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut fields = headers.get_all(header::HOST).iter();
    let host = match (fields.next(), fields.next()) {
        (Some(field), None) => Authority::try_from(field.as_bytes()).ok(),
        _ => None,
    };
    // An absolute-form target names the authority too (RFC 9112 section 3.2.2).
    let target = uri.authority();
    if host.as_ref().is_some_and(is_loopback) && target.is_none_or(is_loopback) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "without a token the admin API answers only to a loopback Host (127.0.0.1, [::1] or localhost); \
         set [admin] token_file to reach it by another name",
    ))
}

fn is_loopback(authority: &Authority) -> bool {
    if !is_plain(authority) {
        return false;
    }
    let host = authority.host();
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback());
    }
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}
