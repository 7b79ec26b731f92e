//! What the fuzz targets reach of the way from a request to its key; for them alone.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use weir_policy::{Part, RequestHead, Scheme};
use weir_store::{Key, KeyBuilder};

use super::{invalidate, keys, max_forwards, origin};
use crate::request::{self, Malformed};

/// A request's head.
///
/// # Errors
/// Why it is refused.
pub fn head(parts: Parts, scheme: Scheme) -> Result<RequestHead, Malformed> {
    request::head(parts, IpAddr::from([127, 0, 0, 1]), scheme)
}

/// An authority in its normal form.
///
/// # Errors
/// When it is not of the form `host` or `host:port`.
pub fn host(authority: &str, scheme: Scheme) -> Result<Box<str>, Malformed> {
    request::normalise(authority, scheme)
}

/// The key by plain RFC 9111, if there is one.
#[must_use]
pub fn plain_key(head: &RequestHead) -> Option<Key> {
    let mut builder = KeyBuilder::new();
    keys::plain_key(&mut builder, false, head).ok()?;
    builder.key().ok()
}

/// The key of a policy's lookup, if there is one.
#[must_use]
pub fn policy_key(head: &RequestHead, namespace: &str, parts: &[Part]) -> Option<Key> {
    let mut builder = KeyBuilder::new();
    keys::unsealed_key(&mut builder, false, head, namespace, parts).ok()?;
    builder.key().ok()
}

/// What a purge of the request's URL looks for, and what the object carries.
#[must_use]
pub fn url_tags(head: &RequestHead) -> (Option<String>, String) {
    let uri = keys::target_uri(head).parse::<Uri>();
    let purged = uri.ok().as_ref().and_then(invalidate::normalised_url);
    (purged, keys::url_tag(head))
}

/// A target for the origin, of parts that a policy named.
#[must_use]
pub fn origin_target(text: &str) -> Option<http::uri::PathAndQuery> {
    origin::target_from(text)
}

/// Max-Forwards as the next node gets it.
pub fn count_down(method: &Method, headers: &mut HeaderMap) {
    max_forwards::count_down(method, headers);
}
