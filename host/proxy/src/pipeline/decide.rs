//! The policy's `on-request`, and what stands in for it when it fails.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use weir_policy::{CallError, CallErrorKind, Decision, Policy, RequestHead};
use weir_semantics::Timestamp;

use super::call::Call;
use super::plan::{Decided, Sought};
use super::shadow;
use crate::generation::{PolicySlot, Route};
use crate::metrics::Counted;
use crate::node::Node;
use crate::settings::OnPolicyError;
use crate::trial::Trial;

/// What is known of a decision without waiting.
pub(crate) enum AtOnce {
    /// All.
    Decided(Decided),
    /// A policy has to be awaited, for [`decide`].
    Waiting(Option<Asked>),
}

/// A guest that was asked and has not answered yet.
pub(crate) struct Asked {
    canary: bool,
    answer: Answer,
}

type Answer = BoxFuture<'static, Result<Decision, CallError>>;

/// Decides without waiting, where that can be. What is to be looked up is shown to `is_hit` as it
/// lies where it is remembered; where that answers yes, there is nothing left to decide.
pub(crate) fn decide_now(
    node: &Node,
    route: &Arc<Route>,
    head: &Arc<RequestHead>,
    now: Timestamp,
    mut is_hit: impl FnMut(Sought<'_>) -> bool,
) -> Option<AtOnce> {
    let Some(slot) = &route.policy else {
        return unless_hit(Decided::Plain, is_hit);
    };
    if let Some(canary) = slot.canary_for(head.client) {
        let asked = match recalled(slot, &canary.policy, head) {
            Some(decision) => Ok(Ok(decision)),
            None => called(slot, &canary.policy, head, now),
        };
        match asked {
            Ok(Ok(decision)) => {
                canary.decided();
                return unless_hit(decided(decision, canary.policy.clone()), is_hit);
            }
            // The version in force decides instead.
            Ok(Err(error)) => failed_canary(node, slot, canary, &error),
            Err(answer) => return Some(waiting(true, answer)),
        }
    }
    let policy = &slot.current;
    let remembered = policy.recall_with(head, |decision| {
        slot.metrics.count(Counted::Recalled);
        shadow::decision(slot, route, head, decision, now);
        match decision {
            Decision::Lookup(lookup) if is_hit(Sought::Lookup(lookup, policy)) => None,
            _ => Some(decision.clone()),
        }
    });
    if let Some(remembered) = remembered {
        return remembered.map(|decision| AtOnce::Decided(decided(decision, policy.clone())));
    }
    let error = match called(slot, policy, head, now) {
        Ok(Ok(decision)) => {
            shadow::decision(slot, route, head, &decision, now);
            return unless_hit(decided(decision, policy.clone()), is_hit);
        }
        Ok(Err(error)) => error,
        Err(answer) => return Some(waiting(false, answer)),
    };
    if slot.previous.is_some() && route.settings.on_policy_error == OnPolicyError::LastGood {
        // What stands in may have to be awaited too.
        return Some(waiting(false, Some(ready(Err(error)).boxed())));
    }
    count(node, slot, "on-request", &error);
    unless_hit(stand_in(route.settings.on_policy_error, error), is_hit)
}

fn unless_hit(decided: Decided, is_hit: impl FnMut(Sought<'_>) -> bool) -> Option<AtOnce> {
    match decided.sought().is_some_and(is_hit) {
        true => None,
        false => Some(AtOnce::Decided(decided)),
    }
}

fn waiting(canary: bool, answer: Option<Answer>) -> AtOnce {
    AtOnce::Waiting(answer.map(|answer| Asked { canary, answer }))
}

fn recalled(slot: &PolicySlot, policy: &Policy, head: &RequestHead) -> Option<Decision> {
    let decision = policy.recall(head)?;
    slot.metrics.count(Counted::Recalled);
    Some(decision)
}

/// A decision that the guest makes when it is first polled: it does, unless it waits for Redis,
/// takes milliseconds or all instances are in use. Then the answer to wait for, if it was asked.
fn called(
    slot: &PolicySlot,
    policy: &Policy,
    head: &Arc<RequestHead>,
    now: Timestamp,
) -> Result<Result<Decision, CallError>, Option<Answer>> {
    if policy.waits() {
        return Err(None);
    }
    let mut answer = ask(slot, policy, head, now);
    match (&mut answer).now_or_never() {
        Some(ended) => Ok(ended),
        None => Err(Some(answer)),
    }
}

fn ask(slot: &PolicySlot, policy: &Policy, head: &Arc<RequestHead>, now: Timestamp) -> Answer {
    slot.count_request(policy);
    let (policy, head) = (policy.clone(), Arc::clone(head));
    async move { policy.decide(&head, now.as_millis()).await }.boxed()
}

/// Decides, waiting for the policy where it has to be waited for. `asked` comes from
/// [`decide_now`].
pub(crate) async fn decide(
    node: &Node,
    route: &Arc<Route>,
    head: &Arc<RequestHead>,
    now: Timestamp,
    asked: Option<Asked>,
) -> Decided {
    let Some(slot) = &route.policy else {
        return Decided::Plain;
    };
    let (of_canary, of_current) = match asked {
        Some(asked) if asked.canary => (Some(asked.answer), None),
        Some(asked) => (None, Some(asked.answer)),
        None => (None, None),
    };
    // Where the version in force was asked already, the canary failed.
    if of_current.is_none()
        && let Some(canary) = slot.canary_for(head.client)
    {
        match awaited(slot, &canary.policy, head, now, of_canary).await {
            Ok(decision) => {
                canary.decided();
                return decided(decision, canary.policy.clone());
            }
            Err(error) => failed_canary(node, slot, canary, &error),
        }
    }
    let error = match awaited(slot, &slot.current, head, now, of_current).await {
        Ok(decision) => {
            shadow::decision(slot, route, head, &decision, now);
            return decided(decision, slot.current.clone());
        }
        Err(error) => error,
    };
    count(node, slot, "on-request", &error);
    if route.settings.on_policy_error == OnPolicyError::LastGood
        && let Some(previous) = &slot.previous
    {
        match previous.decide(head, now.as_millis()).await {
            Ok(decision) => return decided(decision, previous.clone()),
            Err(error) => count(node, slot, "on-request", &error),
        }
    }
    stand_in(route.settings.on_policy_error, error)
}

async fn awaited(
    slot: &PolicySlot,
    policy: &Policy,
    head: &Arc<RequestHead>,
    now: Timestamp,
    asked: Option<Answer>,
) -> Result<Decision, CallError> {
    if let Some(answer) = asked {
        return answer.await;
    }
    match recalled(slot, policy, head) {
        Some(decision) => Ok(decision),
        None => ask(slot, policy, head, now).await,
    }
}

fn stand_in(choice: OnPolicyError, error: CallError) -> Decided {
    match choice {
        OnPolicyError::Rfc9111 => Decided::Plain,
        OnPolicyError::Unavailable => Decided::Failed(error),
        // Without an earlier version, or with one that fails too, passing is safe.
        OnPolicyError::Pass | OnPolicyError::LastGood => Decided::Pass {
            reason: format!("policy-{}", error.token()),
            note: Bytes::new(),
            decider: None,
        },
    }
}

fn decided(decision: Decision, decider: Policy) -> Decided {
    match decision {
        Decision::Lookup(lookup) => Decided::Lookup(lookup, decider),
        Decision::Pass(pass) => Decided::Pass {
            reason: pass.reason,
            note: pass.note,
            decider: Some(decider),
        },
        Decision::Respond(reply) => Decided::Respond(reply, decider),
    }
}

fn failed_canary(node: &Node, slot: &PolicySlot, canary: &Trial, error: &CallError) {
    canary.failed(error);
    node.metrics()
        .policy_error(slot.current.name(), "on-request", error.token());
    // It ends, and so do all of its calls that wait.
    if error.kind == CallErrorKind::Quarantined {
        return;
    }
    tracing::warn!(policy = %canary.policy.label(), hook = "on-request", reason = error.token(), %error,
        "a call of the canary failed; the version in force decides instead");
}

/// Counts and logs a failed policy call.
pub(crate) fn count(node: &Node, slot: &PolicySlot, hook: &'static str, error: &CallError) {
    node.metrics()
        .policy_error(slot.current.name(), hook, error.token());
    // It was told when it began, and holds for every request.
    if error.kind == CallErrorKind::Quarantined {
        return;
    }
    tracing::warn!(policy = %error.policy, hook, reason = error.token(), %error, "policy call failed");
}

/// Counts a call of `on-response`.
pub(crate) fn count_response(call: &Call) {
    if let Some(slot) = &call.route.policy {
        slot.metrics.count(Counted::OnResponse);
    }
}
