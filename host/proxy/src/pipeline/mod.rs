//! The way of a request, in order: head, route, decision, lookup (memory, second tier, origin),
//! store, answer. A hit in memory whose policy need not be awaited is answered without a
//! future of its own; everything else goes on in [`slow`].

mod assess;
mod call;
mod change;
mod content;
mod decide;
mod early;
pub(crate) mod explain;
mod fill;
mod forward;
pub mod fuzzing;
mod head;
pub(crate) mod inspect;
pub(crate) mod invalidate;
mod keys;
mod lookup;
mod max_forwards;
pub(crate) mod notes;
mod origin;
pub(crate) mod outcome;
mod plan;
mod ranged;
mod seal;
mod serve;
mod shadow;
mod store;
mod stored;
pub(crate) mod unkeyed;
mod upgrade;

use std::cell::RefCell;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AGE, CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use weir_policy::{CallError, LookedUp, Policy, Reply, RequestHead, Scheme, percent_decode};
use weir_semantics::{CacheStatus, Timestamp};
use weir_store::{KeyBuilder, Object};

use self::assess::{Found, find_in_memory};
use self::call::{Answer, Call};
use self::decide::{AtOnce, decide, decide_now};
use self::plan::{Decided, Plan, Sought};
use self::upgrade::Upgrade;
use crate::body::Body;
use crate::compress;
use crate::generation::{Generation, Route};
use crate::incoming::Incoming;
use crate::interim::Interim;
use crate::metrics::ResultKind;
use crate::node::Node;
use crate::path;
use crate::request::{self, Malformed};
use crate::settings::RedisDown;
use crate::upload::Upload;
use crate::wire::Refusal;

thread_local! {
    /// The buffer that keys of hits are written to.
    static KEY: RefCell<KeyBuilder> = RefCell::new(KeyBuilder::new());
}

/// The answer to a request: at hand for most hits, else a future.
pub enum Answering {
    /// At hand.
    Ready(Option<Response<Body>>),
    /// Under way.
    Slow(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl std::fmt::Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Slow(_) => "Slow",
        })
    }
}

impl Future for Answering {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        match self.get_mut() {
            Self::Ready(response) => match response.take() {
                Some(response) => Poll::Ready(response),
                // Polled after it was ready, which no executor does.
                None => Poll::Pending,
            },
            Self::Slow(future) => future.as_mut().poll(cx),
        }
    }
}

impl Node {
    /// Answers a request. Never fails: what goes wrong is an answer too.
    /// `scheme` is that of the connection.
    pub(crate) fn handle(
        self: &Arc<Self>,
        client: IpAddr,
        scheme: Scheme,
        request: Request<Incoming>,
        interim: Interim,
    ) -> Answering {
        let started = Instant::now();
        let (mut parts, body) = request.into_parts();
        let version = parts.version;
        if parts.method == Method::CONNECT {
            return Answering::Ready(Some(no_connect(version)));
        }
        let upgrade = Upgrade::asked(&mut parts);
        let is_head = parts.method == Method::HEAD;
        let head = match request::head(parts, client, scheme) {
            Ok(head) => head,
            Err(malformed) => {
                self.metrics().refused("malformed");
                return Answering::Ready(Some(refused(malformed, version)));
            }
        };
        let generation = self.generation_now();
        let Some((route, head)) = matched(&generation, head) else {
            let response = no_route();
            return Answering::Ready(Some(match is_head {
                true => without_body(response),
                false => response,
            }));
        };
        let now = self.clock.at(started);
        let call = |head| Call {
            node: Arc::clone(self),
            generation: Arc::clone(&generation),
            route: Arc::clone(route),
            head,
            now,
            started,
            interim,
        };
        // With a body it is a request like any other: the body would have to go first.
        if let Some(upgrade) = upgrade
            && body.is_end_stream()
            && let Some(upgrade) = upgrade.allowed(&route.settings.upgrades)
        {
            let call = call(head);
            return Answering::Slow(Box::pin(upgrade::upgrade(call, upgrade, body)));
        }
        let mut decided = AtOnce::Waiting(None);
        if is_ambiguous(&generation, route, &head) {
            decided = AtOnce::Decided(Decided::Pass {
                reason: AMBIGUOUS.to_owned(),
                note: Bytes::new(),
                decider: None,
            });
        } else if is_retrieval(&head.method) && body.is_end_stream() {
            let mut ready = None;
            let is_hit = |sought: Sought<'_>| {
                let hit = self.hit(route, &head, sought, now);
                ready = hit.map(|(answer, due)| {
                    let response = finish(self, route, &head, started, answer, sought.by());
                    (response, due.map(|object| (object, sought.decided())))
                });
                ready.is_some()
            };
            let unanswered = decide_now(self, route, &head, now, is_hit);
            if let Some((response, due)) = ready {
                if let Some((object, decided)) = due {
                    early::refresh_decided(&call(head), decided, &object);
                }
                return Answering::Ready(Some(response));
            }
            decided = unanswered.unwrap_or(decided);
        }
        Answering::Slow(Box::pin(slow(call(head), body, decided)))
    }

    /// The answer to a request that was refused at its bytes. Nothing that follows on its
    /// connection is read.
    pub(crate) fn refuse(&self, refusal: Refusal) -> Response<Body> {
        self.metrics().refused(refusal.token());
        let mut response = Answer::error(
            refusal.status(),
            refusal.token(),
            &refusal.to_string(),
            ResultKind::Refused,
        )
        .response;
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        response
    }

    /// The hit path: a fresh object in memory, or nothing. Beside the answer the object, if
    /// it is due to be fetched anew.
    fn hit(
        self: &Arc<Self>,
        route: &Route,
        head: &RequestHead,
        sought: Sought<'_>,
        now: Timestamp,
    ) -> Option<(Answer, Option<Arc<Object>>)> {
        if serve::has_preconditions(&head.headers)
            || (route.settings.redis_down == RedisDown::Bypass && self.redis_is_out())
        {
            return None;
        }
        let found = KEY.with_borrow_mut(|builder| {
            match sought {
                Sought::Lookup(lookup, _) => keys::policy_key(builder, route, head, lookup),
                Sought::Plain => keys::plain_key(builder, keys::is_shared(route), head),
            }
            .ok()?;
            match find_in_memory(self, route, builder.as_str(), head, now) {
                Found::Fresh(object) => Some(object),
                _ => None,
            }
        })?;
        compress::wanted(self, route, &found, head);
        let freshness = found.freshness();
        let status = CacheStatus {
            hit: true,
            ttl: Some(freshness.ttl_secs(now)),
            detail: Some("memory"),
            by: sought.by().map(|decider| &**decider.label()),
            ..CacheStatus::default()
        };
        let namespace = match sought {
            Sought::Lookup(lookup, _) => Some(lookup.namespace.as_str()),
            Sought::Plain => None,
        };
        if let Some(metrics) = route.namespace(namespace) {
            metrics.looked_up(ResultKind::Hit, Some(found.freshness().age(now)));
        }
        let response = serve::from_object(&found, head, now, &status);
        let due = early::is_due(self, &found, &freshness, now).then_some(found);
        Some((Answer::without_lookup(response, ResultKind::Hit), due))
    }
}

/// The route of a request, and its head with the parameters of the route's pattern.
fn matched(
    generation: &Generation,
    mut head: RequestHead,
) -> Option<(&Arc<Route>, Arc<RequestHead>)> {
    // Cloned since the parameters borrow from it: a counter, no copy.
    let target = head.target.clone();
    let matched = generation.router().find(&head.host, target.path())?;
    for (name, value) in matched.params.iter() {
        let value = percent_decode(value).into_owned();
        head.params.push((Arc::from(name), value));
    }
    Some((matched.route, Arc::new(head)))
}

/// Why nothing is looked up for a path that leads to two routes.
const AMBIGUOUS: &str = "ambiguous-path";

/// Does the path lead to another route as a forgiving origin would read it? What that one
/// keeps apart, this one might store for everybody: nothing is looked up then.
fn is_ambiguous(generation: &Generation, route: &Arc<Route>, head: &RequestHead) -> bool {
    if !head.method.is_safe() {
        return false;
    }
    let Some(read) = path::as_forgiving_servers_read(head.path()) else {
        return false;
    };
    let other = generation.router().find(&head.host, &read);
    other.is_some_and(|other| !Arc::ptr_eq(other.route, route))
}

/// Whether the method only retrieves, so that a stored response may answer it.
fn is_retrieval(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// What a HEAD gets: the fields, with the length that a GET would have had. hyper leaves
/// the body out by itself only on HTTP/1.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = response.body().size_hint().exact()
        && length > 0
        && !response.headers().contains_key(CONTENT_LENGTH)
    {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::empty();
    response
}

/// RFC 9110 section 9.3.6 is for proxies that clients choose; this one stands before origins.
fn no_connect(version: Version) -> Response<Body> {
    let text = "CONNECT is not supported: this node leads to its origins only";
    let status = StatusCode::NOT_IMPLEMENTED;
    last(
        Answer::error(status, "connect", text, ResultKind::Refused),
        version,
    )
}

fn refused(malformed: Malformed, version: Version) -> Response<Body> {
    let answer = Answer::error(
        malformed.status(),
        "malformed",
        &malformed.to_string(),
        ResultKind::Refused,
    );
    last(answer, version)
}

/// Ends the connection: whatever follows on it may be part of what was refused.
fn last(answer: Answer, version: Version) -> Response<Body> {
    let mut response = answer.response;
    if version < Version::HTTP_2 {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn no_route() -> Response<Body> {
    Answer::error(
        StatusCode::NOT_FOUND,
        "no-route",
        "no route takes this host and path",
        ResultKind::Refused,
    )
    .response
}

/// Everything but hits in memory.
async fn slow(mut call: Call, body: Incoming, decided: AtOnce) -> Response<Body> {
    if let Some(answer) = max_forwards::used_up(&call.head) {
        return finish(
            &call.node,
            &call.route,
            &call.head,
            call.started,
            answer,
            None,
        );
    }
    let body = Upload::from(body);
    let decided = match decided {
        AtOnce::Decided(decided) => decided,
        AtOnce::Waiting(asked) => {
            decide(&call.node, &call.route, &call.head, call.now, asked).await
        }
    };
    let by = decided.by().cloned();
    let answer = match decided {
        Decided::Respond(reply, decider) => respond(&reply, decider.label()),
        Decided::Failed(error) => failed(&error),
        Decided::Pass {
            reason,
            note,
            decider,
        } => forward::pass(&call, body, &reason, note, decider).await,
        Decided::Plain => match Plan::plain(&call.route, &call.head) {
            Ok(plan) => dispatch(&call, plan, content::Body::Left(body)).await,
            Err(error) => unplanned(&call, content::Body::Left(body), &error).await,
        },
        Decided::Lookup(lookup, decider) => {
            let body = content::read(&mut call, &lookup, body).await;
            match Plan::of_policy(&call.route, &call.head, &lookup, decider) {
                Ok(plan) => dispatch(&call, plan, body).await,
                Err(error) => unplanned(&call, body, &error).await,
            }
        }
    };
    if let Some(namespace) = &answer.looked_up
        && let Some(metrics) = call.route.namespace(namespace.as_deref())
    {
        metrics.looked_up(answer.result, told_age(&answer));
    }
    let by = by.as_ref();
    finish(
        &call.node,
        &call.route,
        &call.head,
        call.started,
        answer,
        by,
    )
}

/// The age that a stored response tells its client.
fn told_age(answer: &Answer) -> Option<Duration> {
    if !matches!(answer.result, ResultKind::Hit | ResultKind::Stale) {
        return None;
    }
    let age = std::str::from_utf8(answer.response.headers().get(AGE)?.as_bytes());
    age.ok()?.parse().ok().map(Duration::from_secs)
}

async fn dispatch(call: &Call, plan: Plan, body: content::Body) -> Answer {
    let body = match body {
        content::Body::Keyed => return lookup::lookup(call, plan).await,
        content::Body::Unkeyed(body, reason) => {
            return change::unkeyed(call, Some(plan), body, reason).await;
        }
        content::Body::Failed(answer) => return *answer,
        content::Body::Left(body) => body,
    };
    if !is_retrieval(&call.head.method) {
        return change::change(call, plan, body).await;
    }
    if !body.is_end_stream() {
        // A GET whose body an origin may heed has no key that says so.
        let decider = plan.decider.clone();
        return forward::pass(call, body, "request-body", plan.note, decider).await;
    }
    lookup::lookup(call, plan).await
}

/// A decision that cannot be carried out is forwarded: passing is always safe.
async fn unplanned(call: &Call, body: content::Body, error: &plan::PlanError) -> Answer {
    tracing::warn!(route = %call.route.label, %error, "a request was passed: its key cannot be made");
    if let plan::PlanError::NoPath = error
        && let Some(slot) = &call.route.policy
    {
        let metrics = call.node.metrics();
        metrics.policy_error(slot.current.name(), "on-request", "sealed-path");
    }
    let body = match body {
        content::Body::Left(body) => {
            return forward::pass(call, body, "no-key", Bytes::new(), None).await;
        }
        content::Body::Failed(answer) => return *answer,
        content::Body::Unkeyed(body, _) => body,
        content::Body::Keyed => match &call.head.content {
            Some(content) => content.bytes().clone().into(),
            None => Bytes::new().into(),
        },
    };
    change::unkeyed(call, None, body, "no-key").await
}

/// The policy failed, and the route wants an error for that.
fn failed(error: &CallError) -> Answer {
    Answer::error(
        StatusCode::SERVICE_UNAVAILABLE,
        &format!("policy-{}", error.token()),
        "the policy of this route failed",
        ResultKind::PolicyError,
    )
}

fn respond(reply: &Reply, label: &str) -> Answer {
    let mut headers: HeaderMap = reply.headers.clone();
    let status = CacheStatus {
        detail: Some(label),
        ..CacheStatus::default()
    };
    headers.append(serve::CACHE_STATUS, status.to_header_value());
    Answer::without_lookup(
        serve::with(reply.status, headers, reply.body.clone()),
        ResultKind::Respond,
    )
}

/// Counts, logs, and lets the response go. `by` is who decided.
fn finish(
    node: &Node,
    route: &Route,
    head: &RequestHead,
    started: Instant,
    answer: Answer,
    by: Option<&Policy>,
) -> Response<Body> {
    let mut answer = answer;
    if head.method == Method::HEAD {
        answer.response = without_body(answer.response);
    }
    let took = started.elapsed();
    route.metrics.finished(answer.result, took);
    if let Some(slot) = &route.policy {
        let status = answer.response.status();
        slot.metrics.answered(status);
        if let Some(by) = by {
            let looked_up = match answer.result {
                ResultKind::Hit | ResultKind::Stale => LookedUp::Hit,
                _ if answer.looked_up.is_some() => LookedUp::Miss,
                _ => LookedUp::Not,
            };
            let outcomes = by.stats().outcomes();
            outcomes.answered(looked_up, status.is_server_error());
        }
    }
    if node.cache.access_log {
        tracing::info!(
            target: "access",
            client = %head.client,
            method = %head.method,
            host = %head.host,
            path = head.path(),
            status = answer.response.status().as_u16(),
            result = answer.result.as_str(),
            route = %route.label,
            seconds = took.as_secs_f64(),
            "request"
        );
    }
    answer.response
}
