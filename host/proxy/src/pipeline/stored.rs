//! What the tiers hold at the moment somebody is to fetch: memory once more, then the
//! tier behind it.

use std::sync::Arc;

use weir_store::Object;

use super::assess::{Found, assess, find_in_memory};
use super::call::Call;
use super::plan::Plan;

/// An object for this request, and the tier that had it. A request that came to have `base`
/// confirmed accepts only a newer one.
pub(super) async fn find(
    call: &Call,
    plan: &Plan,
    base: Option<&Arc<Object>>,
) -> Option<(Found, &'static str)> {
    if let Some(object) = in_memory(call, plan, base) {
        return Some((Found::Fresh(object), "memory"));
    }
    in_second(call, plan, base).await
}

/// What another fill has put into memory since this request looked.
fn in_memory(call: &Call, plan: &Plan, base: Option<&Arc<Object>>) -> Option<Arc<Object>> {
    let (node, now) = (&call.node, call.node.clock.now());
    match find_in_memory(node, &call.route, plan.key.as_str(), &call.head, now) {
        Found::Fresh(object) if base.is_none_or(|base| base.received() < object.received()) => {
            Some(object)
        }
        _ => None,
    }
}

/// What the tier behind memory has; it is in memory then too.
pub(super) async fn in_second(
    call: &Call,
    plan: &Plan,
    base: Option<&Arc<Object>>,
) -> Option<(Found, &'static str)> {
    let Call {
        node, route, head, ..
    } = call;
    let second = node.second.as_ref()?;
    let object = second.get(plan.key.as_str(), &head.headers).await?;
    if base.is_some_and(|base| base.received() >= object.received()) {
        return None;
    }
    let found = assess(node, route, object, head, node.clock.now());
    if let Found::Fresh(object) | Found::Stale(object) | Found::Confirm(object, _) = &found {
        node.memory.insert(Arc::clone(object));
    }
    Some((found, second.name()))
}
