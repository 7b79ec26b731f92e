//! The policy's `on-request`, and what stands in for it when it fails.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use weir_policy::{CallError, CallErrorKind, Decision, Policy, RequestHead};
use weir_semantics::Timestamp;

use super::call::Call;
use super::plan::{Decided, Decider};
use super::shadow;
use crate::generation::{PolicySlot, Route};
use crate::node::Node;
use crate::settings::OnPolicyError;
use crate::trial::Trial;

/// Decides without waiting; `None` when a policy has to be awaited.
pub(crate) fn decide_now(
    node: &Node,
    route: &Arc<Route>,
    head: &Arc<RequestHead>,
    now: Timestamp,
) -> Option<Decided> {
    let Some(slot) = &route.policy else {
        return Some(Decided::Plain);
    };
    if let Some(canary) = slot.canary_for(head.client) {
        match at_once(slot, &canary.policy, head, now)? {
            Ok(decision) => {
                canary.decided();
                return Some(decided(decision, tried(canary)));
            }
            // The version in force decides instead.
            Err(error) => failed_canary(node, slot, canary, &error),
        }
    }
    let error = match at_once(slot, &slot.current, head, now)? {
        Ok(decision) => {
            shadow::decision(slot, route, head, &decision, now);
            return Some(decided(decision, current(slot)));
        }
        Err(error) => error,
    };
    count(node, slot, "on-request", &error);
    match route.settings.on_policy_error {
        // What stands in may have to be awaited.
        OnPolicyError::LastGood => None,
        choice => Some(stand_in(choice, error)),
    }
}

/// A decision that is remembered, or that the guest makes when it is first polled: it does,
/// unless it waits for Redis, takes milliseconds or all instances are in use; then it is
/// asked again, and waited for.
fn at_once(
    slot: &PolicySlot,
    policy: &Policy,
    head: &Arc<RequestHead>,
    now: Timestamp,
) -> Option<Result<Decision, CallError>> {
    if let Some(decision) = policy.recall(head) {
        slot.metrics.recalled.inc();
        return Some(Ok(decision));
    }
    if policy.waits() {
        return None;
    }
    slot.count_request(policy);
    policy.decide(head, now.as_millis()).now_or_never()
}

/// Decides, waiting for the policy where it waits for Redis.
pub(crate) async fn decide(
    node: &Node,
    route: &Arc<Route>,
    head: &Arc<RequestHead>,
    now: Timestamp,
) -> Decided {
    let Some(slot) = &route.policy else {
        return Decided::Plain;
    };
    if let Some(canary) = slot.canary_for(head.client) {
        match awaited(slot, &canary.policy, head, now).await {
            Ok(decision) => {
                canary.decided();
                return decided(decision, tried(canary));
            }
            Err(error) => failed_canary(node, slot, canary, &error),
        }
    }
    let error = match awaited(slot, &slot.current, head, now).await {
        Ok(decision) => {
            shadow::decision(slot, route, head, &decision, now);
            return decided(decision, current(slot));
        }
        Err(error) => error,
    };
    count(node, slot, "on-request", &error);
    if route.settings.on_policy_error == OnPolicyError::LastGood
        && let Some(previous) = &slot.previous
    {
        match previous.decide(head, now.as_millis()).await {
            Ok(decision) => return decided(decision, previous_of(previous)),
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
) -> Result<Decision, CallError> {
    if let Some(decision) = policy.recall(head) {
        slot.metrics.recalled.inc();
        return Ok(decision);
    }
    slot.count_request(policy);
    policy.decide(head, now.as_millis()).await
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

fn decided(decision: Decision, decider: Decider) -> Decided {
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

fn current(slot: &PolicySlot) -> Decider {
    Decider {
        policy: slot.current.clone(),
        label: Arc::clone(&slot.label),
    }
}

fn tried(trial: &Trial) -> Decider {
    Decider {
        policy: trial.policy.clone(),
        label: Arc::clone(&trial.label),
    }
}

fn failed_canary(node: &Node, slot: &PolicySlot, canary: &Trial, error: &CallError) {
    canary.failed(error);
    node.metrics()
        .policy_error(slot.current.name(), "on-request", error.token());
    tracing::warn!(policy = %canary.label, hook = "on-request", reason = error.token(), %error,
        "a call of the canary failed; the version in force decides instead");
}

fn previous_of(policy: &Policy) -> Decider {
    Decider {
        label: Arc::from(format!("{}@{}", policy.name(), policy.version())),
        policy: policy.clone(),
    }
}

/// Counts and logs a failed policy call.
pub(crate) fn count(node: &Node, slot: &PolicySlot, hook: &'static str, error: &CallError) {
    node.metrics()
        .policy_error(slot.current.name(), hook, error.token());
    // It was told when it began, and holds for every request.
    if error.kind == CallErrorKind::Quarantined {
        return;
    }
    tracing::warn!(policy = %slot.label, hook, reason = error.token(), %error, "policy call failed");
}

/// Counts a call of `on-response`.
pub(crate) fn count_response(call: &Call) {
    if let Some(slot) = &call.route.policy {
        slot.metrics.on_response.inc();
    }
}
