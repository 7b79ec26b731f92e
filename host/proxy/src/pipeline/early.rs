//! Early refresh: what is asked for often is fetched anew before it expires, so that no
//! request ever has to wait for it, and no herd comes.

use std::sync::Arc;

use weir_semantics::{Freshness, Timestamp};
use weir_store::Object;

use super::call::Call;
use super::lookup::revalidate_in_background;
use super::plan::{Decided, Plan};
use crate::node::Node;

/// Draws whether this hit has its object fetched anew.
pub(super) fn is_due(node: &Node, object: &Object, freshness: &Freshness, now: Timestamp) -> bool {
    let draw = || 1.0 - fastrand::f64();
    node.cache.early_refresh && freshness.refresh_early(now, object.fetch_took(), draw)
}

/// Fetches it anew in the background, unless that is under way.
pub(super) fn refresh(call: &Call, plan: &Arc<Plan>, object: &Arc<Object>) {
    if revalidate_in_background(call, plan, object) {
        call.node.metrics().refreshed_early();
    }
}

/// The same where the hit was answered without a plan.
pub(super) fn refresh_decided(call: &Call, decided: Decided, object: &Arc<Object>) {
    let plan = match decided {
        Decided::Lookup(lookup, decider) => {
            Plan::of_policy(&call.route, &call.head, &lookup, decider)
        }
        _ => Plan::plain(&call.route, &call.head),
    };
    // It has just been looked up by this plan: there is one.
    if let Ok(plan) = plan {
        refresh(call, &Arc::new(plan), object);
    }
}
