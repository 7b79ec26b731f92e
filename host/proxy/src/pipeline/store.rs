//! What becomes of an origin's response: RFC 9111's answer, the policy's adjustments, and
//! what no policy can override.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{DATE, HOST};
use http::{HeaderMap, Method, StatusCode};
use weir_policy::{Adjustment, CallError, Lifetime, Policy, RequestHead, ResponseInfo};
use weir_semantics::{
    Assessment, Exchange, Freshness, Refusal, RequestDirectives, Timestamp, VaryRule, assess,
    assess_overridden, cache_groups, response_tags, strip_hop_by_hop,
};
use weir_store::fill::Head;
use weir_store::log::Verdict;
use weir_store::redis::Lease;
use weir_store::{Object, StoredHeaders, Tags};

use super::call::Call;
use super::decide;
use super::invalidate;
use super::origin;
use super::plan::Plan;
use super::shadow;
use super::unkeyed;
use crate::compress;
use crate::node::Node;

/// When and how a response came about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received<'a> {
    /// The header fields that the origin saw.
    pub(super) request_headers: &'a HeaderMap,
    /// When the request was sent.
    pub(super) request_time: Timestamp,
    /// When the response's header section arrived.
    pub(super) response_time: Timestamp,
}

/// Whether a response is stored.
#[derive(Debug)]
pub(super) enum Judged {
    /// It is, with this head; its length is still unknown.
    Store(Box<Head>),
    /// It is not.
    Refuse {
        /// Why, for Cache-Status and metrics.
        reason: Cow<'static, str>,
        /// The fields to send on.
        headers: HeaderMap,
        /// For how long requests for the key need not wait for one another.
        remember: Option<Duration>,
        /// The policy failed, and no rule forbids it to store this: that says nothing of what is
        /// stored.
        unjudged: bool,
    },
}

/// Decides on the response to a GET, and carries out what the policy invalidates.
pub(super) async fn judge(
    call: &Call,
    plan: &Plan,
    received: &Received<'_>,
    status: StatusCode,
    headers: HeaderMap,
) -> Judged {
    let headers = Arc::new(headers);
    let asked = ask(call, plan, received, status, &headers).await;
    let (assessment, adjustment) = match asked {
        Ok(asked) => asked,
        Err(error) => {
            if let Some(slot) = &call.route.policy {
                decide::count(&call.node, slot, "on-response", &error);
            }
            let exchange = as_get(received, status, &headers);
            // The policy's lifetime may be all that lets it be stored.
            let overrides = call.route.settings.may_override;
            let left = assess_overridden(&exchange, &call.route.rules, overrides).refusal;
            let allowed = matches!(left, None | Some(Refusal::NoFreshness));
            let mut judged = refuse(format!("policy-{}", error.token()).into(), headers, None);
            if let Judged::Refuse { unjudged, .. } = &mut judged {
                *unjudged = allowed;
            }
            return judged;
        }
    };
    invalidate::selected(call, plan.decider.as_ref(), &adjustment.invalidate).await;
    let judged = decide_storage(
        call,
        plan,
        received,
        status,
        headers,
        &assessment,
        &adjustment,
    );
    if let Judged::Store(head) = &judged {
        unkeyed::watch(call, plan, received.request_headers, head);
    }
    judged
}

/// RFC 9111's answer to a response to GET, and what the policy makes of it.
pub(super) async fn ask(
    call: &Call,
    plan: &Plan,
    received: &Received<'_>,
    status: StatusCode,
    headers: &Arc<HeaderMap>,
) -> Result<(Assessment, Adjustment), CallError> {
    let assessment = assess(&as_get(received, status, headers), &call.route.rules);
    let assessment = match call.head.method {
        Method::POST => explicit_only(assessment),
        _ => assessment,
    };
    let Some(decider) = &plan.decider else {
        return Ok((assessment, Adjustment::default()));
    };
    decide::count_response(call);
    let info = info(
        &assessment,
        received.response_time,
        status,
        headers,
        &plan.note,
    );
    let seen = plan.sealed.as_ref().unwrap_or(&call.head);
    let adjustment = adjustment_of(call, seen, decider, info).await?;
    Ok((assessment, adjustment))
}

/// What `on-response` of whoever decided changes, and, behind the request, what a version
/// that is tried in shadow would.
pub(super) async fn adjustment_of(
    call: &Call,
    seen: &Arc<RequestHead>,
    decider: &Policy,
    info: ResponseInfo,
) -> Result<Adjustment, CallError> {
    let slot = call.route.policy.as_ref();
    let trial = slot.and_then(|slot| slot.trial.as_ref());
    // Kept for the one that is tried in shadow.
    let kept = trial.is_some().then(|| info.clone());
    let called = decider.on_response(seen, info, call.now.as_millis()).await;
    match (&called, trial, slot, kept) {
        (Err(error), Some(trial), ..) if trial.policy.label() == decider.label() => {
            trial.failed(error);
        }
        (Ok(live), _, Some(slot), Some(info)) => {
            shadow::response(slot, &call.head, seen, &info, live, call.now);
        }
        _ => {}
    }
    called
}

/// The exchange as if a GET had been made: what is stored is what its key says.
fn as_get<'a>(received: &Received<'a>, status: StatusCode, headers: &'a HeaderMap) -> Exchange<'a> {
    Exchange {
        method: &Method::GET,
        request_headers: received.request_headers,
        status,
        response_headers: headers,
        request_time: received.request_time,
        response_time: received.response_time,
    }
}

/// A response to POST is not stored for what a heuristic says (RFC 9110 section 9.3.3).
fn explicit_only(mut assessment: Assessment) -> Assessment {
    if assessment.refusal.is_none() && assessment.freshness.heuristic {
        assessment.refusal = Some(Refusal::NoFreshness);
    }
    assessment
}

/// What `on-response` is shown.
pub(super) fn info(
    assessment: &Assessment,
    now: Timestamp,
    status: StatusCode,
    headers: &Arc<HeaderMap>,
    note: &bytes::Bytes,
) -> ResponseInfo {
    let freshness = &assessment.freshness;
    ResponseInfo {
        status,
        headers: Arc::clone(headers),
        note: note.clone(),
        suggested_lifetime: assessment
            .refusal
            .is_none()
            .then(|| freshness.lifetime.saturating_sub(freshness.age(now))),
        refusal: assessment.refusal.map(|refusal| refusal.as_str().into()),
    }
}

pub(super) fn decide_storage(
    call: &Call,
    plan: &Plan,
    received: &Received<'_>,
    status: StatusCode,
    headers: Arc<HeaderMap>,
    assessment: &Assessment,
    adjustment: &Adjustment,
) -> Judged {
    let longest_mark = call.node.cache.uncacheable_for;
    if let Some(refusal) = standing(call, received, status, &headers, assessment, adjustment) {
        let remember = is_worth_a_mark(refusal, status).then_some(longest_mark);
        return refuse(refusal.as_str().into(), headers, remember);
    }
    if let Some(not) = adjustment.store {
        return refuse("policy".into(), headers, Some(not.0));
    }
    let freshness = match adjusted(
        assessment.freshness,
        adjustment,
        received,
        &call.route.rules,
    ) {
        Some(freshness) => freshness,
        None => return refuse("expired".into(), headers, None),
    };
    // Of the client, which a sealed request does not repeat.
    if plan.sealed.is_some() && RequestDirectives::parse(&call.head.headers).no_store {
        return refuse(Refusal::RequestNoStore.as_str().into(), headers, None);
    }
    let mut rule = VaryRule::parse(&headers);
    // All that the origin saw of the request stands in the key.
    if plan.sealed.is_some() {
        rule = rule.without_fields();
    }
    if status != StatusCode::OK {
        rule = rule.without_language();
    }
    let vary = match rule.select(&call.head.headers) {
        Some(vary) if !varies_unseen(call, plan, &rule) => vary,
        _ => {
            return refuse(
                Refusal::VaryStar.as_str().into(),
                headers,
                Some(longest_mark),
            );
        }
    };
    let tags = match tags(call, plan, &headers, adjustment) {
        Ok(tags) => tags,
        Err(error) => {
            tracing::warn!(url = %plan.url, %error, "a response is not stored, since a purge could miss it");
            return refuse("tags".into(), headers, Some(longest_mark));
        }
    };
    let mut stored = Arc::unwrap_or_clone(headers);
    strip_hop_by_hop(&mut stored);
    // RFC 9110 section 6.6.1: a response without one is dated when it arrives, not anew
    // each time that it is served.
    if !stored.contains_key(DATE) {
        stored.insert(DATE, received.response_time.to_http_date());
    }
    compress::announce(&call.route, status, &mut stored);
    Judged::Store(Box::new(Head {
        status,
        headers: StoredHeaders::from_map(&stored),
        length: None,
        vary,
        tags,
        freshness,
        fetch_took: received.response_time.since(received.request_time),
        memory_until: adjustment
            .memory_lifetime
            .map(|lifetime| received.response_time + lifetime),
        shared: adjustment.shared.unwrap_or(true),
        policy: plan
            .decider
            .as_ref()
            .map(|decider| Arc::clone(decider.label())),
    }))
}

/// The refusal that stands against what the policy wants.
fn standing(
    call: &Call,
    received: &Received<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    assessment: &Assessment,
    adjustment: &Adjustment,
) -> Option<Refusal> {
    let refusal = assessment.refusal?;
    if adjustment.lifetime.is_none() {
        return Some(refusal);
    }
    if !refusal.protects_users() {
        return None;
    }
    // Once more, since behind one that the route grants there may be one that it does not.
    let overrides = call.route.settings.may_override;
    let exchange = as_get(received, status, headers);
    let left = assess_overridden(&exchange, &call.route.rules, overrides).refusal;
    left.filter(|refusal| refusal.protects_users())
}

/// Does the response vary with a field that the client's request does not show as the
/// origin saw it? Its variants could not be told apart.
fn varies_unseen(call: &Call, plan: &Plan, rule: &VaryRule) -> bool {
    let VaryRule::Fields(fields) = rule else {
        return true;
    };
    fields.names().iter().any(|name| {
        origin::is_ours(name)
            || plan.origin_headers.iter().any(|(edited, _)| edited == name)
            || (call.route.settings.shared && *name == HOST)
    })
}

/// The tags of the request, of the response's fields, of its cache groups, and of
/// `on-response`.
fn tags(
    call: &Call,
    plan: &Plan,
    headers: &HeaderMap,
    adjustment: &Adjustment,
) -> Result<Tags, String> {
    let of_response = response_tags(headers).map_err(|error| error.to_string())?;
    let groups = cache_groups(headers).into_iter();
    let groups: Vec<String> = groups
        .map(|group| invalidate::group_tag(call, &group))
        .collect();
    let tags = plan
        .tags
        .iter()
        .chain(of_response)
        .chain(groups.iter().map(String::as_str))
        .chain(adjustment.tags.iter().map(String::as_str));
    Tags::new(tags).map_err(|error| error.to_string())
}

/// Decides on the response to a change as if a GET had got it. The policy has been asked.
pub(super) fn judge_write_through(
    call: &Call,
    plan: &Plan,
    received: &Received<'_>,
    headers: &HeaderMap,
    adjustment: &Adjustment,
) -> Judged {
    let assessment = assess(
        &as_get(received, StatusCode::OK, headers),
        &call.route.rules,
    );
    // Without the policy's word, only what RFC 9110 section 9.3.3 lets answer a GET.
    let assessment = match adjustment.write_through {
        true => assessment,
        false => explicit_only(assessment),
    };
    let headers = Arc::new(headers.clone());
    decide_storage(
        call,
        plan,
        received,
        StatusCode::OK,
        headers,
        &assessment,
        adjustment,
    )
}

/// The policy's lifetimes over RFC 9111's; nothing when they have passed.
fn adjusted(
    mut freshness: Freshness,
    adjustment: &Adjustment,
    received: &Received<'_>,
    rules: &weir_semantics::Rules,
) -> Option<Freshness> {
    let now = received.response_time;
    match adjustment.lifetime {
        None => {}
        Some(Lifetime::For(lifetime)) => freshness.set_remaining(now, lifetime),
        Some(Lifetime::Until(seconds)) => {
            let until = Timestamp::from_secs(seconds);
            if until <= now {
                return None;
            }
            freshness.set_remaining(now, until.since(now));
        }
    }
    if let Some(window) = adjustment.stale_while_revalidate {
        freshness.stale_while_revalidate = window;
    }
    if let Some(window) = adjustment.stale_if_error {
        freshness.stale_if_error = window;
    }
    freshness.cap(rules.longest_life);
    (freshness.retain_until() > now).then_some(freshness)
}

/// Only what the origin says of the resource is remembered: not what one client's
/// request brought about, nor an error that the next answer may not have.
fn is_worth_a_mark(refusal: Refusal, status: StatusCode) -> bool {
    !status.is_server_error()
        && matches!(
            refusal,
            Refusal::NoStore
                | Refusal::Private
                | Refusal::SetCookie
                | Refusal::VaryStar
                | Refusal::NoCache
                | Refusal::NoFreshness
                | Refusal::MustUnderstand
        )
}

fn refuse(
    reason: Cow<'static, str>,
    headers: Arc<HeaderMap>,
    remember: Option<Duration>,
) -> Judged {
    let mut headers = Arc::unwrap_or_clone(headers);
    strip_hop_by_hop(&mut headers);
    Judged::Refuse {
        reason,
        headers,
        remember,
        unjudged: false,
    }
}

/// Puts an object into the tiers, unless it was purged while it was fetched.
pub(super) fn keep(node: &Node, object: &Arc<Object>, lease: Option<Lease>) {
    if node.log.verdict(object) == Verdict::Dead {
        node.metrics().not_stored("purged");
        // The next fetch may well be shared.
        if let Some(lease) = lease {
            lease.over();
        }
        return;
    }
    node.refreshing.lift(object.key.as_str());
    if node.memory.insert(Arc::clone(object)) {
        node.metrics().stored(object.body.len());
    }
    if object.shared
        && let Some(second) = &node.second
    {
        second.put(Arc::clone(object), lease);
    }
}
