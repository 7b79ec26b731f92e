//! The policy's `on-request`, and what stands in for it when it fails.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use weir_policy::{CallError, Decision, Policy, RequestHead};
use weir_semantics::Timestamp;

use super::call::Call;
use super::plan::{Decided, Decider};
use crate::generation::{PolicySlot, Route};
use crate::node::Node;
use crate::settings::OnPolicyError;

/// Decides without waiting; `None` when the policy has to be awaited.
pub(crate) fn decide_now(
    node: &Node,
    route: &Route,
    head: &Arc<RequestHead>,
    now: Timestamp,
) -> Option<Decided> {
    let Some(slot) = &route.policy else {
        return Some(Decided::Plain);
    };
    if let Some(decision) = slot.current.recall(head) {
        slot.metrics.recalled.inc();
        return Some(decided(decision, current(slot)));
    }
    if slot.current.waits() {
        return None;
    }
    slot.count_request();
    // It ends at its first poll unless all instances are in use; then it is asked again,
    // and waited for.
    let decided_now = slot.current.decide(head, now.as_millis()).now_or_never()?;
    match decided_now {
        Ok(decision) => Some(decided(decision, current(slot))),
        // What stands in may have to be awaited.
        Err(error) if route.settings.on_policy_error == OnPolicyError::LastGood => {
            count(node, slot, "on-request", &error);
            None
        }
        Err(error) => {
            count(node, slot, "on-request", &error);
            Some(stand_in(route.settings.on_policy_error, error))
        }
    }
}

/// Decides, waiting for the policy where it waits for Redis.
pub(crate) async fn decide(
    node: &Node,
    route: &Route,
    head: &Arc<RequestHead>,
    now: Timestamp,
) -> Decided {
    let Some(slot) = &route.policy else {
        return Decided::Plain;
    };
    if let Some(decision) = slot.current.recall(head) {
        slot.metrics.recalled.inc();
        return decided(decision, current(slot));
    }
    slot.count_request();
    let error = match slot.current.decide(head, now.as_millis()).await {
        Ok(decision) => return decided(decision, current(slot)),
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
    tracing::warn!(policy = %slot.label, hook, reason = error.token(), %error, "policy call failed");
}

/// Counts a call of `on-response`.
pub(crate) fn count_response(call: &Call) {
    if let Some(slot) = &call.route.policy {
        slot.metrics.on_response.inc();
    }
}
