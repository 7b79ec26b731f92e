//! May what a tier holds be used for this request, and how?

use std::sync::Arc;

use weir_policy::RequestHead;
use weir_semantics::{
    RequestDirectives, Reuse, Timestamp, Why, may_serve_disconnected, may_serve_on_error, reuse,
};
use weir_store::Object;
use weir_store::fill::FillError;
use weir_store::log::Verdict;

use crate::generation::Route;
use crate::node::Node;
use crate::settings::RedisDown;

/// What memory holds for a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// Usable as it is.
    Fresh(Arc<Object>),
    /// Usable while it is revalidated in the background (RFC 5861 section 3).
    Stale(Arc<Object>),
    /// To be confirmed by the origin first.
    Confirm(Arc<Object>, Why),
    /// Nothing.
    Nothing,
}

/// Looks into memory.
pub(crate) fn find_in_memory(
    node: &Node,
    route: &Route,
    key: &str,
    head: &RequestHead,
    now: Timestamp,
) -> Found {
    match node.memory.get(key, &head.headers, now) {
        Some(object) => assess(node, route, object, head, now),
        None => Found::Nothing,
    }
}

/// How a stored object may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usable {
    Fresh,
    Stale,
    Confirm(Why),
    Never,
}

/// Says whether a stored object may be used, see [`usable`].
pub(crate) fn assess(
    node: &Node,
    route: &Route,
    object: Arc<Object>,
    head: &RequestHead,
    now: Timestamp,
) -> Found {
    match usable(node, route, &object, head, now) {
        Usable::Fresh => Found::Fresh(object),
        Usable::Stale => Found::Stale(object),
        Usable::Confirm(why) => Found::Confirm(object, why),
        Usable::Never => Found::Nothing,
    }
}

/// First what was purged, then what is trusted without word from Redis, then RFC 9111
/// section 4.
pub(super) fn usable(
    node: &Node,
    route: &Route,
    object: &Object,
    head: &RequestHead,
    now: Timestamp,
) -> Usable {
    let soft_since = match node.log.verdict(object) {
        Verdict::Dead => return Usable::Never,
        Verdict::Valid => None,
        Verdict::Soft(since) => Some(since),
    };
    if !is_trusted(node, route, object, now) {
        return Usable::Confirm(Why::Stale);
    }
    let directives = RequestDirectives::parse(&head.headers);
    match reuse(&directives, &object.freshness(), soft_since, now) {
        Reuse::Fresh => Usable::Fresh,
        Reuse::StaleWhileRevalidate => Usable::Stale,
        Reuse::Revalidate(why) => Usable::Confirm(why),
    }
}

/// Has this node had word from Redis recently enough, or does the route not care?
fn is_trusted(node: &Node, route: &Route, object: &Object, now: Timestamp) -> bool {
    route.settings.redis_down == RedisDown::Stale || node.log.trusted(now, || object.position().at)
}

/// How an origin failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It answered that it did: RFC 5861 section 4 has a say.
    Error,
    /// It could not be reached: RFC 9111 section 4.2.4 has one too.
    Disconnected,
}

impl Failure {
    pub(crate) fn of(error: &FillError) -> Self {
        match error {
            FillError::Unreachable(_) | FillError::Timeout => Self::Disconnected,
            _ => Self::Error,
        }
    }
}

/// May this object stand in for a failed origin, and by what rule? Not when a purge of it
/// elsewhere may have gone unheard.
pub(crate) fn stands_in(
    node: &Node,
    route: &Route,
    object: &Object,
    head: &RequestHead,
    now: Timestamp,
    failure: Failure,
) -> Option<&'static str> {
    if !is_trusted(node, route, object, now) {
        return None;
    }
    let soft_since = match node.log.verdict(object) {
        Verdict::Dead => return None,
        Verdict::Valid => None,
        Verdict::Soft(since) => Some(since),
    };
    let directives = RequestDirectives::parse(&head.headers);
    let freshness = object.freshness();
    let window = route.rules.disconnected;
    if may_serve_on_error(&freshness, soft_since, now, &directives) {
        Some("stale-if-error")
    } else if failure == Failure::Disconnected
        && may_serve_disconnected(&freshness, window, soft_since, now, &directives)
    {
        Some("origin-unreachable")
    } else {
        None
    }
}
