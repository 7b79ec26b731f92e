//! What would be done with a response that is only assumed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use weir_policy::{Adjustment, CallError, Policy};

use super::call::Call;
use super::change::{self, Forward};
use super::invalidate;
use super::plan::Plan;
use super::store::{self, Judged, Received};
use crate::compress;

/// A response to be assumed, since nothing is sent.
#[derive(Debug, Clone)]
pub struct Assumed {
    /// Its status code.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
}

/// What would be done with a response.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Whether it would be stored.
    pub stored: bool,
    /// Why not.
    pub refusal: Option<String>,
    /// The freshness lifetime from now, in milliseconds.
    pub lifetime_ms: u64,
    /// RFC 5861 section 3, in milliseconds.
    pub stale_while_revalidate_ms: u64,
    /// RFC 5861 section 4, in milliseconds.
    pub stale_if_error_ms: u64,
    /// The longest time in memory in milliseconds, where shorter than its life.
    pub memory_ms: Option<u64>,
    /// Whether it would go to Redis.
    pub shared: bool,
    /// The codings that the node would make of it.
    pub compress: Vec<&'static str>,
    /// All its tags.
    pub tags: Vec<String>,
    /// What the policy would invalidate.
    pub invalidates: Vec<String>,
    /// What `on-response` failed with, where it did.
    #[serde(skip)]
    pub error: Option<CallError>,
}

/// What the response to a lookup comes to.
pub(super) async fn of_lookup(call: &Call, plan: &Plan, assumed: Assumed) -> Outcome {
    let received = at_once(call);
    let headers = Arc::new(assumed.headers);
    let asked = store::ask(call, plan, &received, assumed.status, &headers).await;
    let (assessment, adjustment) = match asked {
        Ok(asked) => asked,
        Err(error) => return failed(error),
    };
    let judged = store::decide_storage(
        call,
        plan,
        &received,
        assumed.status,
        headers,
        &assessment,
        &adjustment,
    );
    judged_as(call, plan.decider.as_ref(), &adjustment, judged)
}

/// What the response to a change comes to, whose plan names the object that it changes.
pub(super) async fn of_change(call: &Call, plan: Plan, assumed: Assumed) -> Outcome {
    let details = Forward::change(&plan);
    forwarded(call, Some(&plan), &details, assumed).await
}

/// What the response to a passed request comes to.
pub(super) async fn of_pass(
    call: &Call,
    note: Bytes,
    decider: Policy,
    assumed: Assumed,
) -> Outcome {
    let details = Forward::pass("pass", note, Some(decider));
    forwarded(call, None, &details, assumed).await
}

async fn forwarded(
    call: &Call,
    plan: Option<&Plan>,
    details: &Forward,
    assumed: Assumed,
) -> Outcome {
    let received = at_once(call);
    let headers = Arc::new(assumed.headers);
    let asked = change::ask(call, details, &received, assumed.status, &headers).await;
    let adjustment = match asked {
        Ok(adjustment) => adjustment,
        Err(error) => return failed(error),
    };
    let through = plan.filter(|_| {
        change::writes_through(call, details, &adjustment)
            && change::carries(&call.head.method, assumed.status)
    });
    let judged = match through {
        Some(plan) => store::judge_write_through(call, plan, &received, &headers, &adjustment),
        None => Judged::Refuse {
            reason: details.reason.clone(),
            headers: HeaderMap::new(),
            remember: None,
            unjudged: false,
        },
    };
    judged_as(call, details.decider.as_ref(), &adjustment, judged)
}

/// As if the response came in no time, to the client's own fields.
fn at_once(call: &Call) -> Received<'_> {
    Received {
        request_headers: &call.head.headers,
        request_time: call.now,
        response_time: call.now,
    }
}

fn failed(error: CallError) -> Outcome {
    Outcome {
        refusal: Some(error.to_string()),
        error: Some(error),
        ..Outcome::default()
    }
}

fn judged_as(
    call: &Call,
    decider: Option<&Policy>,
    adjustment: &Adjustment,
    judged: Judged,
) -> Outcome {
    let invalidates = invalidate::resolve(&adjustment.invalidate, Some(&call.head), decider)
        .iter()
        .map(ToString::to_string)
        .collect();
    match judged {
        Judged::Refuse { reason, .. } => Outcome {
            refusal: Some(reason.into_owned()),
            invalidates,
            ..Outcome::default()
        },
        Judged::Store(head) => {
            let freshness = &head.freshness;
            Outcome {
                stored: true,
                lifetime_ms: millis(freshness.lifetime.saturating_sub(freshness.age(call.now))),
                stale_while_revalidate_ms: millis(freshness.stale_while_revalidate),
                stale_if_error_ms: millis(freshness.stale_if_error),
                memory_ms: head.memory_until.map(|until| millis(until.since(call.now))),
                shared: head.shared,
                compress: compress::offer(&call.route, head.status, &head.headers.to_header_map()),
                tags: head.tags.iter().map(str::to_owned).collect(),
                invalidates,
                ..Outcome::default()
            }
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
