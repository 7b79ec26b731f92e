//! A GET or HEAD that memory could not answer at once: stale objects, joining or
//! starting a fill, and what stands in when the origin fails.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AGE, CONTENT_LENGTH, HeaderValue, RANGE};
use http::{Method, Response, StatusCode};
use tokio::sync::oneshot;
use weir_semantics::{CacheStatus, Condition, Fwd, RequestDirectives, Reuse, Why, evaluate, reuse};
use weir_store::fill::{Begin, FillError, Head, Joined, Obligation, Outcome, Reader};
use weir_store::log::Verdict;
use weir_store::{Object, Tags};

use super::assess::{Failure, Found, find_in_memory, stands_in};
use super::call::{Answer, Call};
use super::early;
use super::fill::{self, Terms, Told};
use super::forward;
use super::head;
use super::plan::Plan;
use super::ranged;
use super::serve::{self, CACHE_STATUS};
use super::stored;
use crate::body::Body;
use crate::compress;
use crate::fill_body::FillBody;
use crate::metrics::ResultKind;
use crate::settings::RedisDown;

/// How often a request joins another fill after one that did not suit it or was given
/// up, before it fetches for itself.
const JOINS: usize = 3;

/// The least time between two fetches in the background for one key, unless the first one
/// brought an object: a failing origin is not asked again by every hit.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn lookup(call: &Call, plan: Plan) -> Answer {
    let plan = Arc::new(plan);
    // Only the origin knows what the client means to be sure of (RFC 9110 section 13.2.2).
    if serve::has_preconditions(&call.head.headers) {
        return match call.head.method {
            Method::HEAD if plan.sealed.is_none() => {
                let forwarded = head::forwarded(call, &plan, Fwd::Bypass, "precondition");
                forwarded.await.answer
            }
            _ => forward::planned(call, &plan, Fwd::Bypass, "precondition").await,
        };
    }
    let redis_out = call.node.redis_is_out();
    if redis_out && call.route.settings.redis_down == RedisDown::Bypass {
        return forward::planned(call, &plan, Fwd::Bypass, "redis-down").await;
    }
    let found = find_in_memory(
        &call.node,
        &call.route,
        plan.key.as_str(),
        &call.head,
        call.now,
    );
    let (base, fwd) = match found {
        Found::Fresh(object) => {
            if early::is_due(&call.node, &object, &object.freshness(), call.now) {
                early::refresh(call, &plan, &object);
            }
            return hit(call, &plan, &object, "memory");
        }
        Found::Stale(object) => {
            revalidate_in_background(call, &plan, &object);
            return stale(call, &plan, &object, None, "stale-while-revalidate");
        }
        Found::Confirm(object, Why::Request) => (Some(object), Fwd::Request),
        Found::Confirm(object, _) => (Some(object), Fwd::Stale),
        Found::Nothing => (None, missing(call, &plan)),
    };
    if base.is_none()
        && let Some(answer) = ranged::from_parts(call, &plan)
    {
        return looked_up(answer, &plan);
    }
    if RequestDirectives::parse(&call.head.headers).only_if_cached {
        return looked_up(
            Answer::error(
                StatusCode::GATEWAY_TIMEOUT,
                "only-if-cached",
                "nothing stored may be used, and the request wants nothing else",
                ResultKind::Miss,
            ),
            &plan,
        );
    }
    // A sealed request is one for the whole, whatever its client asked for.
    let is_sealed = plan.sealed.is_some();
    // A HEAD brings no body to store; a part is not worth fetching the whole for.
    if !is_sealed
        && call.head.method == Method::HEAD
        && base.as_deref().is_none_or(head::has_no_validator)
    {
        return forward_head(call, &plan, base.as_ref(), fwd).await;
    }
    if !is_sealed && base.is_none() && call.head.headers.contains_key(RANGE) {
        return looked_up(ranged::fetch(call, Arc::clone(&plan), fwd).await, &plan);
    }
    let _permit = match shed(call, redis_out) {
        Ok(permit) => permit,
        Err(overload) => return *overload,
    };
    fetch(call, &plan, base, fwd).await
}

/// A HEAD that the origin does not answer gets what a GET would get.
async fn forward_head(call: &Call, plan: &Plan, base: Option<&Arc<Object>>, fwd: Fwd) -> Answer {
    let forwarded = head::forwarded(call, plan, fwd, "not-whole").await;
    if let (Some(object), Some((failure, status))) = (base, forwarded.failed) {
        let now = call.node.clock.now();
        if let Some(why) = stands_in(&call.node, &call.route, object, &call.head, now, failure) {
            let about = About {
                fwd,
                collapsed: false,
                told: status.map(Told::Answered),
            };
            return stale(call, plan, object, Some(&about), why);
        }
    }
    looked_up(forwarded.answer, plan)
}

/// RFC 9211 section 2.2: is nothing there for the target, or nothing that this request
/// selects?
fn missing(call: &Call, plan: &Plan) -> Fwd {
    let others = call.node.memory.any(plan.key.as_str(), call.now, |object| {
        !object.suits(&call.head.headers) && call.node.log.verdict(object) != Verdict::Dead
    });
    match others {
        true => Fwd::VaryMiss,
        false => Fwd::UriMiss,
    }
}

/// With `redis_down = "shed"`: a place among the route's concurrent fetches, or 503.
fn shed(
    call: &Call,
    redis_out: bool,
) -> Result<Option<tokio::sync::OwnedSemaphorePermit>, Box<Answer>> {
    if !redis_out || call.route.settings.redis_down != RedisDown::Shed {
        return Ok(None);
    }
    match Arc::clone(&call.route.shed).try_acquire_owned() {
        Ok(permit) => Ok(Some(permit)),
        Err(_) => Err(Box::new(Answer::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "shed",
            "the cache is degraded and the origin has as many requests as it may; try again",
            ResultKind::Refused,
        ))),
    }
}

async fn fetch(
    call: &Call,
    plan: &Arc<Plan>,
    mut base: Option<Arc<Object>>,
    mut fwd: Fwd,
) -> Answer {
    // A client that wants the origin's own word must not get one given before it asked.
    let marks = &call.node.marks;
    let mut alone = fwd == Fwd::Request
        || RequestDirectives::parse(&call.head.headers).no_cache
        || marks.is_marked(plan.key.as_str(), fill::rules(plan), call.now);
    for round in 0..=JOINS {
        alone |= round == JOINS;
        let (mut reader, told) = if alone {
            start(
                call,
                plan,
                base.clone(),
                call.node.fills.alone(&plan.key, begin(call, plan)),
                Terms {
                    alone: true,
                    searched: false,
                },
            )
        } else {
            match join(call, plan) {
                Joined::Start(obligation) => {
                    // Here and in no task of its own: most of the time it is found, and a
                    // client that leaves takes no more from those who joined than a read.
                    let obligation = match search(call, plan, base.as_ref(), obligation).await {
                        Searched::Answered(answer) => return *answer,
                        Searched::Absent(obligation) => obligation,
                        Searched::Confirm(object, obligation) => {
                            (base, fwd) = (Some(object), Fwd::Stale);
                            obligation
                        }
                    };
                    let terms = Terms {
                        alone: false,
                        searched: true,
                    };
                    start(call, plan, base.clone(), obligation, terms)
                }
                Joined::Wait(reader) => (reader, None),
            }
        };
        let collapsed = told.is_none();
        let outcome = reader.head().await;
        // It was sent before the outcome was, so this does not wait.
        let told = match told {
            Some(told) => told.await.ok(),
            None => None,
        };
        let suits = match &outcome {
            Outcome::Head(head) => suits_head(call, plan, &reader, head),
            Outcome::Complete(object) => suits_object(call, plan, &reader, object),
            Outcome::Uncacheable | Outcome::Failed(_) => true,
        };
        if !suits && collapsed {
            continue;
        }
        let about = About {
            fwd,
            collapsed,
            told,
        };
        match outcome {
            Outcome::Head(head) => return streamed(call, plan, reader, &head, &about),
            Outcome::Complete(object) => return complete(call, plan, &object, &about),
            Outcome::Uncacheable => match about.told {
                Some(Told::Own(object)) => {
                    return confirmed_alone(call, plan, &object, fwd);
                }
                Some(Told::Refused { response, reason }) => {
                    return looked_up(
                        forward::relay(call, *response, fwd, &reason, plan.decider.as_ref()),
                        plan,
                    );
                }
                // Somebody else's answer was not to be shared: on by ourselves, and waiting
                // for nobody.
                _ => alone = true,
            },
            Outcome::Failed(FillError::Dropped) if round < JOINS => {}
            Outcome::Failed(error) => {
                return failed(call, plan, base.as_ref(), &about, &error);
            }
        }
    }
    // Every round but the last may go on; the last starts a fill of its own, whose
    // refusal is always told. A task that was cut down by the end of the runtime is left.
    failed(
        call,
        plan,
        base.as_ref(),
        &About {
            fwd,
            collapsed: false,
            told: None,
        },
        &FillError::Dropped,
    )
}

/// What the search of the tiers led to.
enum Searched {
    Answered(Box<Answer>),
    /// Found, for the origin to confirm.
    Confirm(Arc<Object>, Obligation),
    Absent(Obligation),
}

/// Searches the tiers for all who join this fill.
async fn search(
    call: &Call,
    plan: &Arc<Plan>,
    base: Option<&Arc<Object>>,
    obligation: Obligation,
) -> Searched {
    match stored::find(call, plan, base).await {
        Some((Found::Fresh(object), tier)) => {
            obligation.refreshed(Arc::clone(&object));
            if early::is_due(&call.node, &object, &object.freshness(), call.now) {
                early::refresh(call, plan, &object);
            }
            Searched::Answered(Box::new(hit(call, plan, &object, tier)))
        }
        Some((Found::Stale(object), _)) => {
            obligation.refreshed(Arc::clone(&object));
            revalidate_in_background(call, plan, &object);
            let answer = stale(call, plan, &object, None, "stale-while-revalidate");
            Searched::Answered(Box::new(answer))
        }
        Some((Found::Confirm(object, _), _)) => Searched::Confirm(object, obligation),
        Some((Found::Nothing, _)) | None => Searched::Absent(obligation),
    }
}

/// What is known of a fetch besides its outcome.
#[derive(Debug)]
struct About {
    fwd: Fwd,
    collapsed: bool,
    told: Option<Told>,
}

fn begin(call: &Call, plan: &Plan) -> Begin {
    Begin {
        url: plan.url.clone(),
        tags: plan.tags.clone(),
        position: call.node.log.began(call.node.clock.now()),
    }
}

fn join(call: &Call, plan: &Plan) -> Joined {
    call.node.fills.join(
        &plan.key,
        &call.head.headers,
        || begin(call, plan),
        |fill| {
            let log = &call.node.log;
            let untouched =
                |tags: &Tags| log.untouched(fill.key(), fill.url(), tags, fill.position());
            // Once its head is there, joining it is using a response again.
            let may_be_used = |head: &Head| {
                let anybody = RequestDirectives::default();
                let now = call.node.clock.now();
                let reuse = reuse(&anybody, &head.freshness, None, now);
                untouched(&head.tags) && !matches!(reuse, Reuse::Revalidate(_))
            };
            // What it brings can be as old as its beginning.
            (log.trusted(call.node.clock.now(), || fill.position().at)
                || call.route.settings.redis_down == RedisDown::Stale)
                && untouched(fill.tags())
                && untouched(&plan.tags)
                && fill.head().is_none_or(|head| may_be_used(&head))
        },
    )
}

/// A joined fill's head: does its variant suit, and was none of the tags that came with
/// it purged before this request arrived?
fn suits_head(call: &Call, plan: &Plan, reader: &Reader, head: &Head) -> bool {
    head.vary.matches(&call.head.headers)
        && call
            .node
            .log
            .untouched(&plan.key, &plan.url, &head.tags, reader.fill().position())
}

/// The same for a fill that ended before this reader looked. An object found in a tier
/// has been tested there, and keeps an older position than the fill.
fn suits_object(call: &Call, plan: &Plan, reader: &Reader, object: &Object) -> bool {
    let since = reader.fill().position();
    let fetched_now = object.position().is_at(since);
    object.suits(&call.head.headers)
        && (!fetched_now
            || call
                .node
                .log
                .untouched(&plan.key, &plan.url, &object.tags, since))
}

fn start(
    call: &Call,
    plan: &Arc<Plan>,
    base: Option<Arc<Object>>,
    obligation: Obligation,
    terms: Terms,
) -> (Reader, Option<oneshot::Receiver<Told>>) {
    let reader = obligation.reader();
    let (tell, told) = oneshot::channel();
    fill::spawn(
        call.clone(),
        Arc::clone(plan),
        base,
        obligation,
        tell,
        terms,
    );
    (reader, Some(told))
}

/// RFC 5861 section 3: the client does not wait for it. Whether that began a fetch: one
/// may be under way, or have failed a moment ago.
pub(super) fn revalidate_in_background(
    call: &Call,
    plan: &Arc<Plan>,
    object: &Arc<Object>,
) -> bool {
    let refreshing = &call.node.refreshing;
    if refreshing.is_marked(plan.key.as_str(), 0, call.now) {
        return false;
    }
    let Joined::Start(obligation) = join(call, plan) else {
        return false;
    };
    refreshing.mark(&plan.key, 0, REFRESH_PAUSE, call.now);
    let terms = Terms {
        alone: false,
        searched: false,
    };
    // Its reader is dropped at once: the fill goes on, since it can be stored.
    drop(start(
        call,
        plan,
        Some(Arc::clone(object)),
        obligation,
        terms,
    ));
    true
}

fn looked_up(mut answer: Answer, plan: &Plan) -> Answer {
    answer.looked_up = Some(plan.key.namespace().map(Box::from));
    answer
}

fn label(plan: &Plan) -> Option<&str> {
    plan.decider.as_ref().map(|decider| &**decider.label())
}

fn hit(call: &Call, plan: &Plan, object: &Arc<Object>, tier: &'static str) -> Answer {
    compress::wanted(&call.node, &call.route, object, &call.head);
    let status = CacheStatus {
        hit: true,
        ttl: Some(object.freshness().ttl_secs(call.now)),
        detail: Some(tier),
        by: label(plan),
        ..CacheStatus::default()
    };
    looked_up(
        Answer::without_lookup(
            serve::from_object(object, &call.head, call.now, &status),
            ResultKind::Hit,
        ),
        plan,
    )
}

/// A stale response, served without word from the origin; `about` is there if it was asked.
fn stale(
    call: &Call,
    plan: &Plan,
    object: &Arc<Object>,
    about: Option<&About>,
    why: &'static str,
) -> Answer {
    let now = call.node.clock.now();
    let ttl = match call.node.log.verdict(object) {
        // A soft purge ended its lifetime then, whatever was left of it.
        Verdict::Soft(since) => -i64::try_from(now.since(since).as_secs()).unwrap_or(i64::MAX),
        Verdict::Valid | Verdict::Dead => object.freshness().ttl_secs(now),
    };
    let status = CacheStatus {
        hit: about.is_none(),
        fwd: about.map(|about| about.fwd),
        fwd_status: about.and_then(|about| match about.told {
            Some(Told::Answered(status)) => Some(status),
            _ => None,
        }),
        ttl: Some(ttl.min(object.freshness().ttl_secs(now))),
        detail: Some(why),
        by: label(plan),
        ..CacheStatus::default()
    };
    looked_up(
        Answer::without_lookup(
            serve::from_object(object, &call.head, now, &status),
            ResultKind::Stale,
        ),
        plan,
    )
}

/// An object that is whole: found in another tier, confirmed by the origin, or fetched
/// so fast that the body was there with the head.
fn complete(call: &Call, plan: &Plan, object: &Arc<Object>, about: &About) -> Answer {
    let (fwd_status, result) = match &about.told {
        Some(Told::Found(tier)) => return hit(call, plan, object, tier),
        Some(Told::Confirmed) => (Some(StatusCode::NOT_MODIFIED), ResultKind::Revalidated),
        Some(Told::Fetched(status)) => (Some(*status), ResultKind::Miss),
        // It was made before this request came: whoever leads the fill found it in a tier.
        _ if object.received() < call.now => {
            return hit(call, plan, object, fill::second_name(&call.node));
        }
        _ => (None, ResultKind::Miss),
    };
    let now = call.node.clock.now();
    let status = CacheStatus {
        fwd: Some(about.fwd),
        fwd_status,
        ttl: Some(object.freshness().ttl_secs(now)),
        stored: !about.collapsed,
        collapsed: about.collapsed,
        by: label(plan),
        ..CacheStatus::default()
    };
    looked_up(
        Answer::without_lookup(serve::from_object(object, &call.head, now, &status), result),
        plan,
    )
}

/// An object that the origin confirmed for this request alone.
fn confirmed_alone(call: &Call, plan: &Plan, object: &Arc<Object>, fwd: Fwd) -> Answer {
    let status = CacheStatus {
        fwd: Some(fwd),
        fwd_status: Some(StatusCode::NOT_MODIFIED),
        by: label(plan),
        ..CacheStatus::default()
    };
    let now = call.node.clock.now();
    looked_up(
        Answer::without_lookup(
            serve::from_object(object, &call.head, now, &status),
            ResultKind::Revalidated,
        ),
        plan,
    )
}

/// A response that is stored while it is sent.
fn streamed(call: &Call, plan: &Plan, reader: Reader, head: &Head, about: &About) -> Answer {
    let now = call.node.clock.now();
    let status = CacheStatus {
        fwd: Some(about.fwd),
        fwd_status: (!about.collapsed).then_some(head.status),
        ttl: Some(head.freshness.ttl_secs(now)),
        stored: !about.collapsed,
        collapsed: about.collapsed,
        by: label(plan),
        ..CacheStatus::default()
    };
    let mut headers = head.headers.to_header_map();
    let not_modified =
        evaluate(&call.head.headers, head.status, &headers) == Condition::NotModified;
    let mut response = if not_modified {
        serve::not_modified(&headers)
    } else {
        if let Some(length) = head.length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let body = if call.head.method == Method::HEAD {
            Body::empty()
        } else {
            Body::Fill(FillBody::new(reader, head.length))
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        response
    };
    let headers = response.headers_mut();
    headers.insert(AGE, HeaderValue::from(head.freshness.age(now).as_secs()));
    headers.append(CACHE_STATUS, status.to_header_value());
    looked_up(Answer::without_lookup(response, ResultKind::Miss), plan)
}

/// No response: something stale if it may stand in, else 502 or 504.
fn failed(
    call: &Call,
    plan: &Plan,
    base: Option<&Arc<Object>>,
    about: &About,
    error: &FillError,
) -> Answer {
    let now = call.node.clock.now();
    let known = match find_in_memory(&call.node, &call.route, plan.key.as_str(), &call.head, now) {
        Found::Fresh(object) | Found::Stale(object) | Found::Confirm(object, _) => Some(object),
        Found::Nothing => base.cloned(),
    };
    let failure = Failure::of(error);
    if let Some(object) = known
        && object.suits(&call.head.headers)
        && let Some(why) = stands_in(&call.node, &call.route, &object, &call.head, now, failure)
    {
        return stale(call, plan, &object, Some(about), why);
    }
    let (status, reason): (StatusCode, Cow<'static, str>) = match (&about.told, error) {
        (Some(Told::Failed(kind)), _) => (kind.status(), kind.as_str().into()),
        (_, FillError::Timeout) => (StatusCode::GATEWAY_TIMEOUT, "response-timeout".into()),
        _ => (StatusCode::BAD_GATEWAY, "origin-failed".into()),
    };
    let text = match status {
        StatusCode::GATEWAY_TIMEOUT => "the origin did not answer in time",
        _ => "the origin could not be reached or broke off",
    };
    looked_up(
        forward::origin_error(status, about.fwd, &reason, text),
        plan,
    )
}
