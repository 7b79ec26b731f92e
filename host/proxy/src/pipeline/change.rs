//! Requests that are forwarded whatever is stored: those that change something, and those
//! that the policy passes. What they make invalid is purged before the client hears of it.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use weir_policy::{Adjustment, CallError, Policy};
use weir_semantics::{
    Exchange, Fwd, assess, groups_to_invalidate, represents_target, strip_hop_by_hop,
    uris_to_invalidate,
};
use weir_store::log::{Receipt, Selector, Target};
use weir_store::{Object, Position};

use super::call::{Answer, Call};
use super::fill::{is_chunked, parts_of};
use super::plan::Plan;
use super::store::{self, Judged, Received};
use super::upgrade::{self, Upgrade};
use super::{decide, forward, invalidate, origin};
use crate::body::Body;
use crate::tee::TeeBody;
use crate::upload::Upload;
use crate::upstream::OriginBody;

/// What is known of a forwarded request besides the request.
#[derive(Debug)]
pub(super) struct Forward {
    /// Why nothing is looked up.
    pub(super) reason: Cow<'static, str>,
    /// For `on-response`.
    pub(super) note: Bytes,
    /// Whose `on-response` is called.
    pub(super) decider: Option<Policy>,
    /// What the client wants its connection upgraded to.
    pub(super) upgrade: Option<Upgrade>,
    /// The policy says that it only retrieves, whatever the method says.
    pub(super) retrieves: bool,
}

impl Forward {
    /// Of a request that names the object it changes.
    pub(super) fn change(plan: &Plan) -> Self {
        Self {
            reason: Cow::Borrowed("method"),
            note: plan.note.clone(),
            decider: plan.decider.clone(),
            retrieves: false,
            upgrade: None,
        }
    }

    /// Of a request that nothing is looked up for.
    pub(super) fn pass(reason: &str, note: Bytes, decider: Option<Policy>) -> Self {
        Self {
            reason: Cow::Owned(reason.to_owned()),
            note,
            decider,
            retrieves: false,
            upgrade: None,
        }
    }

    /// GET, HEAD and the like: nothing they do can make a stored response invalid.
    fn retrieves(&self, method: &Method) -> bool {
        self.retrieves || method.is_safe()
    }
}

/// Forwards a request that names the object it changes.
pub(super) async fn change(call: &Call, plan: Plan, body: Upload) -> Answer {
    let details = Forward::change(&plan);
    forward(call, Some(plan), body, details).await
}

/// Forwards a request whose content should have been in its key and is not.
pub(super) async fn unkeyed(
    call: &Call,
    plan: Option<Plan>,
    body: Upload,
    reason: &'static str,
) -> Answer {
    let details = Forward {
        reason: Cow::Borrowed(reason),
        note: plan
            .as_ref()
            .map(|plan| plan.note.clone())
            .unwrap_or_default(),
        decider: plan.as_ref().and_then(|plan| plan.decider.clone()),
        retrieves: true,
        upgrade: None,
    };
    forward(call, plan, body, details).await
}

/// Forwards a request, and purges what the response makes invalid. A change goes on in a
/// task of its own: what the origin has done is purged even if the client has left.
pub(super) async fn forward(
    call: &Call,
    plan: Option<Plan>,
    body: Upload,
    details: Forward,
) -> Answer {
    if details.retrieves(&call.head.method) {
        return carried_out(call, plan, body, details).await;
    }
    let call = call.clone();
    let changing = tokio::spawn(async move { carried_out(&call, plan, body, details).await });
    changing.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change ended early");
        forward::origin_error(
            StatusCode::BAD_GATEWAY,
            Fwd::Method,
            "internal",
            "the request was not carried out to its end",
        )
    })
}

async fn carried_out(call: &Call, plan: Option<Plan>, body: Upload, details: Forward) -> Answer {
    let node = &call.node;
    let since = node.log.began(node.clock.now());
    let fwd = match details.retrieves(&call.head.method) {
        true => Fwd::Bypass,
        false => Fwd::Method,
    };
    let mut request = origin::forwarded(&call.head, plan.as_ref());
    if let Some(upgrade) = &details.upgrade {
        upgrade.restore(&mut request.headers);
    }
    let request_time = node.clock.now();
    let mut response = match forward::send(call, &request, Some(body)).await {
        Ok(response) => response,
        Err(error) => {
            if fwd == Fwd::Method && !error.is_connect() {
                // It may have been done all the same.
                let policy = policy_of(call, &details);
                node.invalidate(&invalidate::everything_of(
                    &call.head,
                    plan.as_ref(),
                    policy,
                ))
                .await;
            }
            return forward::unanswered(&error, fwd);
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::switched(call, fwd, &details, response);
    }
    let received = Received {
        request_headers: &request.headers,
        request_time,
        response_time: node.clock.now(),
    };
    let adjusted = adjust(call, &details, &received, &mut response).await;
    let receipt = purge(call, plan.as_ref(), &details, &response, adjusted.as_ref()).await;
    // Nothing tells a whole body from a cut one where the end is the connection's.
    let delimited = response.body().size_hint().exact().is_some() || is_chunked(response.headers());
    strip_hop_by_hop(response.headers_mut());
    let write_through = adjusted
        .filter(|adjustment| {
            delimited
                && (writes_through(call, &details, adjustment)
                    || may_write_through(call, &details) && answers_get(call, &response))
        })
        .zip(plan)
        .zip(receipt);
    let mut answer = match write_through {
        Some(((adjustment, plan), receipt)) => {
            let through = Through {
                plan,
                since,
                receipt,
                adjustment,
            };
            written_through(call, response, &received, fwd, &details, through)
        }
        None => forward::relay(
            call,
            response,
            fwd,
            &details.reason,
            details.decider.as_ref(),
        ),
    };
    answer.looked_up = None;
    answer
}

/// Does the policy want the response stored as what a GET would get, and may it be?
pub(super) fn writes_through(call: &Call, details: &Forward, adjustment: &Adjustment) -> bool {
    adjustment.write_through && may_write_through(call, details)
}

fn may_write_through(call: &Call, details: &Forward) -> bool {
    // What came with a change is in no key.
    !details.retrieves && !call.route.settings.sealed
}

/// Only a 200 to PUT, PATCH or POST can carry a representation.
pub(super) fn carries(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::OK && matches!(*method, Method::PUT | Method::PATCH | Method::POST)
}

/// RFC 9110 section 9.3.3: the response to a POST that says it is what the target is now.
/// A policy says that itself.
fn answers_get(call: &Call, response: &Response<OriginBody>) -> bool {
    call.head.method == Method::POST
        && call.route.policy.is_none()
        && represents_target(&invalidate::uri_of(&call.head), response.headers())
}

/// The policy that decided, or, when none did, the route's.
fn policy_of<'a>(call: &'a Call, details: &'a Forward) -> Option<&'a Policy> {
    let decided = details.decider.as_ref();
    decided.or_else(|| call.route.policy.as_ref().map(|slot| &slot.current))
}

/// Calls `on-response`; nothing when it failed.
async fn adjust(
    call: &Call,
    details: &Forward,
    received: &Received<'_>,
    response: &mut Response<OriginBody>,
) -> Option<Adjustment> {
    let headers = Arc::new(std::mem::take(response.headers_mut()));
    let called = ask(call, details, received, response.status(), &headers).await;
    *response.headers_mut() = Arc::unwrap_or_clone(headers);
    called
        .inspect_err(|error| {
            if let Some(slot) = &call.route.policy {
                decide::count(&call.node, slot, "on-response", error);
            }
        })
        .ok()
}

/// What `on-response` says to the response to a forwarded request.
pub(super) async fn ask(
    call: &Call,
    details: &Forward,
    received: &Received<'_>,
    status: StatusCode,
    headers: &Arc<HeaderMap>,
) -> Result<Adjustment, CallError> {
    let Some(decider) = &details.decider else {
        return Ok(Adjustment::default());
    };
    let assessment = assess(
        &Exchange {
            method: &call.head.method,
            request_headers: received.request_headers,
            status,
            response_headers: headers,
            request_time: received.request_time,
            response_time: received.response_time,
        },
        &call.route.rules,
    );
    let info = store::info(
        &assessment,
        received.response_time,
        status,
        headers,
        &details.note,
    );
    decide::count_response(call);
    store::adjustment_of(call, &call.head, decider, info).await
}

/// RFC 9111 section 4.4, and what the policy names. A policy that failed after a change
/// cannot say what changed, so everything it may have meant is revalidated.
async fn purge(
    call: &Call,
    plan: Option<&Plan>,
    details: &Forward,
    response: &Response<OriginBody>,
    adjustment: Option<&Adjustment>,
) -> Option<Receipt> {
    let mut selectors = Vec::new();
    let changes = !details.retrieves(&call.head.method);
    let succeeded = response.status().is_success() || response.status().is_redirection();
    if changes && succeeded {
        let target = invalidate::uri_of(&call.head);
        let uris = uris_to_invalidate(&target, response.status(), response.headers());
        let urls = uris.iter().filter_map(invalidate::normalised_url);
        selectors.extend(urls.map(|url| Selector::new(Target::Url(url))));
        let keys = uris
            .iter()
            .filter_map(|uri| invalidate::shared_key(call, uri));
        selectors.extend(keys.map(Selector::new));
        if let Some(plan) = plan {
            selectors.push(Selector::new(Target::Key(
                plan.key.unsealed_name().to_owned(),
            )));
        }
        // RFC 9875 section 3.
        selectors.extend(
            groups_to_invalidate(response.headers())
                .iter()
                .map(|group| Target::Tag(invalidate::group_tag(call, group)))
                .map(Selector::new),
        );
    }
    match adjustment {
        Some(adjustment) => selectors.extend(invalidate::resolve(
            &adjustment.invalidate,
            Some(&call.head),
            details.decider.as_ref(),
        )),
        None if changes => selectors.extend(invalidate::everything_of(
            &call.head,
            plan,
            policy_of(call, details),
        )),
        None => {}
    }
    // Its policy could not be asked before either, so nobody said what it changes.
    if changes && details.decider.is_none() && call.route.policy.is_some() {
        let policy = policy_of(call, details);
        selectors.extend(invalidate::everything_of(&call.head, plan, policy));
    }
    if selectors.is_empty() {
        return None;
    }
    Some(call.node.invalidate(&selectors).await)
}

struct Through {
    plan: Plan,
    since: Position,
    receipt: Receipt,
    adjustment: Adjustment,
}

/// Stores the response to a change as what a GET would have got, once its body has gone
/// by.
fn written_through(
    call: &Call,
    response: Response<OriginBody>,
    received: &Received<'_>,
    fwd: Fwd,
    details: &Forward,
    through: Through,
) -> Answer {
    let judged = carries(&call.head.method, response.status()).then(|| {
        store::judge_write_through(
            call,
            &through.plan,
            received,
            response.headers(),
            &through.adjustment,
        )
    });
    let Some(Judged::Store(head)) = judged else {
        return forward::relay(
            call,
            response,
            fwd,
            &details.reason,
            details.decider.as_ref(),
        );
    };
    let (parts, body) = response.into_parts();
    let node = Arc::clone(&call.node);
    let Through {
        plan,
        since,
        receipt,
        ..
    } = through;
    let limit = node.cache.max_object;
    let done = Box::new(move |body: Bytes| {
        let position = Position {
            at: since.at,
            ..receipt.position
        };
        let object = Arc::new(Object::new(parts_of(&plan, *head, body, position)));
        let alone =
            node.log
                .may_write_through(&object.key, &object.url(), &object.tags, since, &receipt);
        if alone {
            store::keep(&node, &object, None);
        }
    });
    let relayed = forward::relay(
        call,
        Response::from_parts(parts, body),
        fwd,
        "write-through",
        details.decider.as_ref(),
    );
    Answer {
        response: relayed.response.map(|body| match body {
            Body::Origin(body) => Body::Tee(Box::new(TeeBody::new(body, limit, done))),
            other => other,
        }),
        ..relayed
    }
}
