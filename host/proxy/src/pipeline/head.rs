//! What a response to HEAD says of the object that is stored for GET: RFC 9111
//! section 4.3.5.

use http::header::{CONTENT_LENGTH, ETAG, LAST_MODIFIED};
use http::{HeaderMap, Response, StatusCode};
use weir_semantics::{Fwd, conditional_headers, freshen, head_agrees, strip_hop_by_hop};
use weir_store::log::{Selector, Target, Verdict};
use weir_store::{Object, ObjectParts};

use super::assess::Failure;
use super::call::{Answer, Call};
use super::fill::{self, parts_of};
use super::plan::Plan;
use super::store::{self, Judged, Received};
use super::{forward, origin};
use crate::compress;

/// Is there nothing to ask the origin about this object with? A HEAD for it is then
/// forwarded as it is, rather than made into a GET for the whole.
pub(super) fn has_no_validator(object: &Object) -> bool {
    conditional_headers(&object.headers.to_header_map()).is_empty()
}

/// What a forwarded HEAD came to.
pub(super) struct Forwarded {
    pub(super) answer: Answer,
    /// The origin failed, with this status if it answered: something stale may stand in.
    pub(super) failed: Option<(Failure, Option<StatusCode>)>,
}

/// Forwards a HEAD. Its 200 freshens what is stored if it still describes that, and else
/// removes it.
pub(super) async fn forwarded(call: &Call, plan: &Plan, fwd: Fwd, reason: &str) -> Forwarded {
    let node = &call.node;
    let position = node.log.began(node.clock.now());
    let request = origin::forwarded(&call.head, Some(plan));
    let request_time = node.clock.now();
    let mut response = match forward::send(call, &request, None).await {
        Ok(response) => response,
        Err(error) => {
            return Forwarded {
                answer: forward::unanswered(&error, fwd),
                failed: Some((Failure::of(&fill::fill_error(&error)), None)),
            };
        }
    };
    let received = Received {
        request_headers: &request.headers,
        request_time,
        response_time: node.clock.now(),
    };
    if response.status() == StatusCode::OK {
        update(call, plan, &received, position, &response).await;
    }
    strip_hop_by_hop(response.headers_mut());
    let status = response.status();
    Forwarded {
        answer: forward::relay(call, response, fwd, reason, plan.decider.as_ref()),
        failed: fill::is_server_failure(status).then_some((Failure::Error, Some(status))),
    }
}

async fn update<B>(
    call: &Call,
    plan: &Plan,
    received: &Received<'_>,
    position: weir_store::Position,
    response: &Response<B>,
) {
    let node = &call.node;
    let key = plan.key.as_str();
    let stored = node
        .memory
        .get(key, &call.head.headers, received.response_time);
    let Some(object) = stored.filter(|object| object.status == StatusCode::OK) else {
        return;
    };
    if node.log.verdict(&object) == Verdict::Dead {
        return;
    }
    let headers = compress::unannounced(&object);
    if !head_agrees(&headers, response.headers(), object.body.len() as u64) {
        if says_something(response.headers()) {
            // In all tiers and on all nodes: whoever has it has what is outdated.
            let selector = Selector::new(Target::Key(plan.key.unsealed_name().to_owned()));
            node.invalidate(&[selector]).await;
        }
        return;
    }
    let fresh = freshen(&headers, response.headers());
    if let Judged::Store(head) = store::judge(call, plan, received, object.status, fresh).await {
        let fresh = Object::new(ObjectParts {
            trailers: object.trailers().cloned(),
            ..parts_of(plan, *head, object.body.clone(), position)
        });
        let fresh = compress::handed_on(&call.route, &object, fresh);
        store::keep(node, &fresh.into(), None);
    }
}

/// Without any of these nothing can be said of the stored bytes.
fn says_something(head: &HeaderMap) -> bool {
    [ETAG, LAST_MODIFIED, CONTENT_LENGTH]
        .iter()
        .any(|name| head.contains_key(name))
}
