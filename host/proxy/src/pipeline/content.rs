//! The content of a request as a part of its key, where the policy's key names it: QUERY
//! (RFC 10008 section 2.7), and a POST that the policy says only retrieves.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONTENT_RANGE, EXPECT, HeaderMap, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use http::{Method, StatusCode};
use http_body::Body as _;
use weir_policy::{Content, Lookup, RequestHead};

use super::call::{Answer, Call};
use crate::incoming::IncomingError;
use crate::metrics::ResultKind;
use crate::upload::{Taken, Upload};

const TOO_LARGE: &str = "body-too-large";
const BROKE_OFF: &str = "request-body";

/// What became of a request's body.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing: the key does not name it.
    Left(Upload),
    /// It was read, and stands in the head.
    Keyed,
    /// The key names it and cannot have it, for this reason: nothing may be looked up.
    Unkeyed(Upload, &'static str),
    /// It could not be read.
    Failed(Box<Answer>),
}

/// Reads the body into the head of the request where the key names it.
pub(super) async fn read(call: &mut Call, lookup: &Lookup, body: Upload) -> Body {
    if !lookup.keys_content() || !may_be_keyed(&call.head.method, body.is_end_stream()) {
        return Body::Left(body);
    }
    if let Some(reason) = obstacle(&call.head.method, &call.head.headers) {
        return Body::Unkeyed(body, reason);
    }
    let limit = call.node.cache.max_keyed_body;
    // As long as the origin would be waited for if the body went there piece by piece.
    let patience = call.route.upstream.settings().response_timeout;
    let content = match tokio::time::timeout(patience, body.take(limit)).await {
        Ok(Ok(Taken::Whole(content))) => content,
        Ok(Ok(Taken::TooLarge(body))) => return Body::Unkeyed(body, TOO_LARGE),
        Ok(Err(error)) => {
            tracing::debug!(route = %call.route.label, %error, "a request's body broke off");
            if let IncomingError::Refused(refusal) = error {
                call.node.metrics().refused(refusal.token());
                return failed(refusal.status(), refusal.token(), &refusal.to_string());
            }
            let text = "the request's body ended early";
            return failed(StatusCode::BAD_REQUEST, BROKE_OFF, text);
        }
        Err(_) => {
            let text = "the request's body did not arrive in time";
            return failed(StatusCode::REQUEST_TIMEOUT, BROKE_OFF, text);
        }
    };
    let head = Arc::make_mut(&mut call.head);
    // Met already, and no business of the origin's.
    head.headers.remove(EXPECT);
    if head.method == Method::POST {
        // Without meaning there (RFC 9110 sections 13.1.3 and 14.2); no stored response may
        // be cut or turned into a 304 by them.
        for name in [RANGE, IF_RANGE, IF_MODIFIED_SINCE] {
            head.headers.remove(name);
        }
    }
    head.content = Some(Content::new(content));
    Body::Keyed
}

/// The content of a request that is only explained, as [`read`] would leave it.
pub(super) fn assumed(method: &Method, content: Bytes) -> Option<Content> {
    may_be_keyed(method, content.is_empty()).then(|| Content::new(content))
}

/// Why [`read`] would leave such a request unkeyed.
pub(super) fn obstacle_of(head: &RequestHead, limit: u64) -> Option<&'static str> {
    let content = head.content.as_ref()?;
    let too_large = content.bytes().len() as u64 > limit;
    obstacle(&head.method, &head.headers).or(too_large.then_some(TOO_LARGE))
}

/// A GET without content has a key without it; a PUT changes what its key names.
fn may_be_keyed(method: &Method, is_empty: bool) -> bool {
    match *method {
        Method::POST | Method::QUERY => true,
        Method::GET => !is_empty,
        _ => false,
    }
}

/// What makes a request one that only the origin can answer.
fn obstacle(method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    let has = |name| headers.contains_key(name);
    if has(CONTENT_RANGE) {
        // A part of some content, which the key would take for the whole.
        return Some("content-range");
    }
    let conditional = has(IF_MATCH) || has(IF_NONE_MATCH) || has(IF_UNMODIFIED_SINCE);
    // Of a POST they are about the target's state and not about the response.
    (*method == Method::POST && conditional).then_some("precondition")
}

fn failed(status: StatusCode, detail: &str, text: &str) -> Body {
    Body::Failed(Box::new(Answer::error(
        status,
        detail,
        text,
        ResultKind::Refused,
    )))
}
