//! Responses that go to one client alone: passed requests, and what may not be stored.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body as _;
use weir_semantics::{CacheStatus, Fwd, strip_hop_by_hop};

use weir_policy::Policy;

use super::call::{Answer, Call};
use super::change;
use super::origin;
use super::plan::Plan;
use super::serve::CACHE_STATUS;
use crate::body::Body;
use crate::metrics::{ResultKind, status_class};
use crate::upload::Upload;
use crate::upstream::{OriginBody, OriginRequest, UpstreamError, UpstreamErrorKind};

/// Forwards a request that nothing is looked up for.
pub(super) async fn pass(
    call: &Call,
    body: Upload,
    reason: &str,
    note: Bytes,
    decider: Option<Policy>,
) -> Answer {
    let details = change::Forward::pass(reason, note, decider);
    change::forward(call, None, body, details).await
}

/// Forwards a GET or HEAD as the client made it, without storing the response.
pub(super) async fn planned(call: &Call, plan: &Plan, fwd: Fwd, reason: &'static str) -> Answer {
    let request = origin::forwarded(&call.head, Some(plan));
    match send(call, &request, None).await {
        Ok(mut response) => {
            strip_hop_by_hop(response.headers_mut());
            relay(call, response, fwd, reason, plan.decider.as_ref())
        }
        Err(error) => unanswered(&error, fwd),
    }
}

/// Sends a request and counts what came of it.
pub(super) async fn send(
    call: &Call,
    request: &OriginRequest,
    body: Option<Upload>,
) -> Result<Response<OriginBody>, UpstreamError> {
    let metrics = call.node.metrics();
    let upstream = &call.route.upstream;
    metrics.origin_request();
    let sent = match body {
        Some(body) if !body.is_end_stream() => upstream.forward(request, body, &call.interim).await,
        _ => upstream.fetch(request, &call.interim).await,
    };
    match &sent {
        Ok(response) => {
            metrics.origin_result(upstream.name(), status_class(response.status()));
        }
        Err(error) => {
            metrics.origin_result(upstream.name(), error.kind.as_str());
            if let UpstreamErrorKind::Refused(refusal) = error.kind {
                metrics.refused(refusal.token());
            }
            match error.kind {
                // Nothing is wrong here or there, and it comes as often as clients like.
                UpstreamErrorKind::ClientGone | UpstreamErrorKind::Refused(_) => {
                    tracing::debug!(route = %call.route.label, %error, "a client's body broke off");
                }
                _ => {
                    tracing::warn!(upstream = upstream.name(), route = %call.route.label, %error, "no response from the origin");
                }
            }
        }
    }
    sent
}

/// Hands an origin's response on. Its hop-by-hop fields are gone already.
pub(super) fn relay(
    call: &Call,
    response: Response<OriginBody>,
    fwd: Fwd,
    reason: &str,
    decider: Option<&Policy>,
) -> Answer {
    relayed(call, response, fwd, reason, decider, false)
}

/// The same for a response that is kept on its way.
pub(super) fn relay_stored(
    call: &Call,
    response: Response<OriginBody>,
    fwd: Fwd,
    reason: &str,
    decider: Option<&Policy>,
) -> Answer {
    relayed(call, response, fwd, reason, decider, true)
}

fn relayed(
    call: &Call,
    response: Response<OriginBody>,
    fwd: Fwd,
    reason: &str,
    decider: Option<&Policy>,
    stored: bool,
) -> Answer {
    let (parts, body) = response.into_parts();
    let mut response = Response::from_parts(parts, Body::Origin(body));
    let status = CacheStatus {
        fwd: Some(fwd),
        fwd_status: Some(response.status()),
        stored,
        detail: Some(reason),
        by: decider.map(|decider| &**decider.label()),
        ..CacheStatus::default()
    };
    response
        .headers_mut()
        .append(CACHE_STATUS, status.to_header_value());
    let result = match fwd {
        Fwd::Bypass | Fwd::Method => ResultKind::Pass,
        _ if matches!(reason, "not-whole" | "part") => ResultKind::Miss,
        _ => ResultKind::Pass,
    };
    tracing::trace!(route = %call.route.label, reason, "relayed");
    Answer::without_lookup(response, result)
}

/// The answer when the origin gave none.
pub(super) fn unanswered(error: &UpstreamError, fwd: Fwd) -> Answer {
    if let UpstreamErrorKind::Refused(refusal) = error.kind {
        return origin_error(refusal.status(), fwd, refusal.token(), &refusal.to_string());
    }
    let text = match error.kind.status() {
        StatusCode::GATEWAY_TIMEOUT => "the origin did not answer in time",
        StatusCode::BAD_REQUEST => "the request's body ended early",
        _ => "the origin could not be reached or broke off",
    };
    origin_error(error.kind.status(), fwd, error.kind.as_str(), text)
}

/// 502 or 504, with the reason in Cache-Status.
pub(super) fn origin_error(status: StatusCode, fwd: Fwd, reason: &str, text: &str) -> Answer {
    let mut answer = Answer::error(status, reason, text, ResultKind::OriginError);
    let cache_status = CacheStatus {
        fwd: Some(fwd),
        detail: Some(reason),
        ..CacheStatus::default()
    };
    answer
        .response
        .headers_mut()
        .insert(CACHE_STATUS, cache_status.to_header_value());
    answer
}
