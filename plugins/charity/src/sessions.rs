//! Refresh tokens, as far as the edge knows them: `session:refresh:{tokenID}` of the record.
//!
//! What the origin issues is put into `kv` until it expires; what is revoked is marked
//! there, and refused on every node from then on. All tokens of a user are revoked by one
//! step of the user's generation, which each session carries. A token that is not in `kv`
//! (issued before there was this policy, or while `kv` was away) is the origin's to judge.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weir_sdk::prelude::*;
use weir_sdk::{clock, kv};

use crate::jwt;

/// The longest that `kv` keeps anything, and so a session or a revocation.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The longest identifier of a token, in bytes.
const LONGEST_ID: usize = 1_000;

/// The note for `on_response` of a request whose answer issues a token.
pub(crate) const ISSUES: &[u8] = b"issues a token";

/// What `kv` holds of a token.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// Whose it is, where the token says so.
    user: Option<String>,
    /// The user's generation when it was issued.
    generation: u64,
    /// A digest of the whole token: the identifier alone proves nothing.
    token: String,
    #[serde(default)]
    revoked: bool,
}

/// What the edge knows of a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It was issued and not revoked.
    Active {
        /// Whose it is, where the token says so.
        user: Option<String>,
        /// Whether all of the token is as it was issued.
        genuine: bool,
    },
    /// It was revoked, alone or with all of its user's.
    Revoked,
    /// Nothing: the origin knows.
    Unknown,
}

fn store() -> kv::Store {
    kv::open("session")
}

/// What a token is known by: the claim `jti` of a JWT, else the token itself.
pub(crate) fn id_of(token: &str) -> Option<String> {
    let id = jwt::token_id(token).unwrap_or_else(|| token.to_owned());
    (1..=LONGEST_ID).contains(&id.len()).then_some(id)
}

/// The token that a request presents.
pub(crate) fn presented(request: &Request) -> Option<String> {
    jwt::TOKEN_HEADERS
        .iter()
        .find_map(|name| jwt::bare(&request.header_text(name)?))
}

/// What is known of a token, or of an identifier.
pub(crate) fn state(token: &str) -> Result<State, kv::Error> {
    let Some(id) = id_of(token) else {
        return Ok(State::Unknown);
    };
    let Some(entry) = store().get(&key(&id))?.and_then(|value| read(&value)) else {
        return Ok(State::Unknown);
    };
    if entry.revoked {
        return Ok(State::Revoked);
    }
    if let Some(user) = &entry.user
        && generation(user)? > entry.generation
    {
        return Ok(State::Revoked);
    }
    Ok(State::Active {
        genuine: entry.token == digest(token),
        user: entry.user,
    })
}

/// Takes down the token that a response issues, until it expires. One without an end, or
/// that has ended, is left out, and one that was revoked meanwhile stays so.
pub(crate) fn issued(response: &Response) -> Result<(), kv::Error> {
    let (Some(token), Some(expiry)) = (jwt::token(response), jwt::expiry(response)) else {
        return Ok(());
    };
    let left = Duration::from_secs(expiry).saturating_sub(clock::now());
    let Some(id) = id_of(&token).filter(|_| !left.is_zero()) else {
        return Ok(());
    };
    let user = jwt::subject(response);
    let entry = Entry {
        generation: user.as_deref().map_or(Ok(0), generation)?,
        user,
        token: digest(&token),
        revoked: false,
    };
    loop {
        let held = store().get(&key(&id))?;
        let known = held.as_deref().and_then(read);
        let done = known.is_some_and(|known| known.revoked)
            || store().compare_and_set(
                &key(&id),
                held.as_deref(),
                &write(&entry),
                left.min(LONGEST),
            )?;
        if done {
            return Ok(());
        }
    }
}

/// Is a token to be exchanged for another one?
pub(crate) fn is_refresh(request: &Request) -> bool {
    request.path_matches("/refresh") && request.method() == "POST"
}

/// A token that was revoked gets no other one; of all others the origin decides.
pub(crate) fn refresh(request: &Request) -> Decision {
    match presented(request).map(|token| state(&token)) {
        Some(Ok(State::Revoked)) => unauthorized("The session was ended.").into(),
        _ => Pass::new("refresh").note(ISSUES).into(),
    }
}

/// A request about one session, before it is looked up: what the edge answers by itself.
pub(crate) fn refused(request: &Request, token: &str) -> Option<Decision> {
    match (state(token), request.method().as_str()) {
        // A revocation must hold everywhere once it is acknowledged.
        (Err(_), "DELETE") => Some(unavailable().into()),
        // It may have been revoked since it was stored: only the origin knows.
        (Err(_), _) => Some(Pass::new("session state unknown").into()),
        (Ok(State::Revoked), "DELETE") => None,
        (Ok(State::Revoked), _) => Some(unauthorized("The session was ended.").into()),
        (Ok(_), _) => None,
    }
}

/// After a login or a refresh: takes down what was issued, and ends what it replaces.
///
/// Without `kv` the new token stays unknown, which the origin then judges, and the old one
/// known, which the origin no longer takes: no reason to let the login fail.
pub(crate) fn exchanged(request: &Request, response: &Response) {
    let _ = issued(response);
    let (Some(old), Some(new)) = (presented(request), jwt::token(response)) else {
        return;
    };
    if id_of(&old) != id_of(&new) && is_proven(&old) {
        let _ = revoke(&old);
    }
}

/// Whether it is all of a token that was issued: whoever presents another one with the same
/// identifier must not end it. What is no JWT is its own identifier.
fn is_proven(token: &str) -> bool {
    let itself = id_of(token).as_deref() == Some(token);
    itself || matches!(state(token), Ok(State::Active { genuine: true, .. }))
}

/// Refuses a token from now on, known or not.
pub(crate) fn revoke(token: &str) -> Result<(), kv::Error> {
    let Some(id) = id_of(token) else {
        return Ok(());
    };
    let entry = Entry {
        user: None,
        generation: 0,
        token: String::new(),
        revoked: true,
    };
    store().set(&key(&id), &write(&entry), LONGEST)
}

/// Refuses all tokens that a user has been issued so far.
pub(crate) fn revoke_all(user: &str) -> Result<(), kv::Error> {
    // Set anew rather than incremented: that would not move its end, and a generation that
    // ends before the sessions it revoked would bring them back.
    loop {
        let held = store().get(&generation_key(user))?;
        let next = number(held.as_deref()) + 1;
        let next = next.to_string();
        if store().compare_and_set(
            &generation_key(user),
            held.as_deref(),
            next.as_bytes(),
            LONGEST,
        )? {
            return Ok(());
        }
    }
}

fn generation(user: &str) -> Result<u64, kv::Error> {
    let held = store().get(&generation_key(user))?;
    Ok(number(held.as_deref()))
}

fn number(held: Option<&[u8]>) -> u64 {
    let text = held.and_then(|held| std::str::from_utf8(held).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn key(id: &str) -> String {
    format!("refresh:{id}")
}

fn generation_key(user: &str) -> String {
    format!("generation:{user}")
}

fn digest(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token))
}

fn read(value: &[u8]) -> Option<Entry> {
    serde_json::from_slice(value).ok()
}

fn write(entry: &Entry) -> Vec<u8> {
    // Text and numbers: this cannot fail.
    serde_json::to_vec(entry).unwrap_or_default()
}

/// The answer to a token that is not, or no longer, good. RFC 6750 section 3.1.
pub(crate) fn unauthorized(message: &str) -> Reply {
    error(401, message).header("www-authenticate", "Bearer error=\"invalid_token\"")
}

/// The answer where only `kv` could tell, and it is away.
pub(crate) fn unavailable() -> Reply {
    error(503, "Sessions cannot be looked up now; try again in 5 s.").header("retry-after", "5")
}

/// An error as JSON, which nobody stores.
pub(crate) fn error(status: u16, message: &str) -> Reply {
    let body = serde_json::json!({"error": {"message": message}});
    Reply::new(status)
        .header("cache-control", "no-store")
        .header("content-type", "application/json")
        .body(format!("{body}\n"))
}
