//! One fetch, in a task of its own, so that a client that leaves takes nothing from
//! those who joined it: the tiers, if nobody has searched them, the lease, the origin; then
//! stored and streamed.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, IF_MODIFIED_SINCE, IF_NONE_MATCH, TRANSFER_ENCODING};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use weir_semantics::{freshen, validates};
use weir_store::fill::{Demand, FillError, Head, Obligation, Writer};
use weir_store::log::{Selector, Target, Verdict};
use weir_store::redis::{Lease, Leased, Next};
use weir_store::{Object, ObjectParts, SecondTier, StoredHeaders};

use super::assess::{Failure, Found, stands_in};
use super::call::Call;
use super::origin;
use super::plan::Plan;
use super::store::{self, Judged, Received};
use super::stored;
use crate::compress;
use crate::metrics::status_class;
use crate::node::Node;
use crate::upstream::{OriginBody, Upstream, UpstreamError, UpstreamErrorKind};

/// What the one who started a fill is told besides its outcome.
#[derive(Debug)]
pub(super) enum Told {
    /// It was found in this tier.
    Found(&'static str),
    /// The origin confirmed the object: 304.
    Confirmed,
    /// The origin sent it, with this status.
    Fetched(StatusCode),
    /// The origin confirmed the object, but in a way that makes it this request's alone.
    Own(Arc<Object>),
    /// It may not be stored: the response is for this request alone.
    Refused {
        /// The response, its body still to come.
        response: Box<Response<OriginBody>>,
        /// Why, for Cache-Status.
        reason: Cow<'static, str>,
    },
    /// It answered with this error, in whose place something stored may stand.
    Answered(StatusCode),
    /// There was no response.
    Failed(UpstreamErrorKind),
}

/// What is settled before a fetch starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// It is for this request alone, whatever others fetch.
    pub(super) alone: bool,
    /// The tiers have been searched.
    pub(super) searched: bool,
}

/// Starts the task.
pub(super) fn spawn(
    call: Call,
    plan: Arc<Plan>,
    base: Option<Arc<Object>>,
    obligation: Obligation,
    tell: oneshot::Sender<Told>,
    terms: Terms,
) {
    let running = call.node.metrics().fill_started();
    tokio::spawn(async move {
        let _running = running;
        Filling {
            call,
            plan,
            tell: Some(tell),
            terms,
        }
        .run(base, obligation)
        .await;
    });
}

struct Filling {
    call: Call,
    plan: Arc<Plan>,
    tell: Option<oneshot::Sender<Told>>,
    terms: Terms,
}

impl Filling {
    fn tell(&mut self, told: Told) {
        if let Some(tell) = self.tell.take() {
            // Nobody listens when the client has left.
            let _ = tell.send(told);
        }
    }

    async fn run(mut self, mut base: Option<Arc<Object>>, obligation: Obligation) {
        let mut lease = None;
        let mut found = None;
        if !self.terms.searched {
            found = stored::find(&self.call, &self.plan, base.as_ref()).await;
        }
        if !is_usable(found.as_ref()) {
            if let Some((Found::Confirm(object, _), _)) = found {
                base = Some(object);
            }
            (found, lease) = self.lease(base.as_ref()).await;
        }
        match found {
            Some((Found::Fresh(object) | Found::Stale(object), tier)) => {
                self.tell(Told::Found(tier));
                return obligation.refreshed(object);
            }
            Some((Found::Confirm(object, _), _)) => base = Some(object),
            Some((Found::Nothing, _)) | None => {}
        }
        // Hard-purged since it was looked up: no base of anything any more.
        base = base.filter(|object| self.call.node.log.verdict(object) != Verdict::Dead);
        let request = origin::fetch(
            &self.call.route,
            &self.call.head,
            &self.plan,
            base.as_deref(),
        );
        let node = Arc::clone(&self.call.node);
        let request_time = node.clock.now();
        node.metrics().origin_request();
        let result = self
            .call
            .route
            .upstream
            .fetch(&request, &self.call.interim)
            .await;
        let response_time = node.clock.now();
        let response = match result {
            Ok(response) => response,
            Err(error) => return self.failed(obligation, &error),
        };
        let upstream = self.call.route.upstream.name();
        node.metrics()
            .origin_result(upstream, status_class(response.status()));
        if is_server_failure(response.status())
            && base.as_ref().is_some_and(|base| {
                stands_in(
                    &node,
                    &self.call.route,
                    base,
                    &self.call.head,
                    response_time,
                    Failure::Error,
                )
                .is_some()
            })
        {
            // Readers fall back on what they hold.
            let text = format!("the origin answered {}", response.status());
            self.tell(Told::Answered(response.status()));
            return obligation.fail(FillError::Origin(text.into()));
        }
        let received = Received {
            request_headers: &request.headers,
            request_time,
            response_time,
        };
        if response.status() != StatusCode::NOT_MODIFIED {
            return self.fetched(&received, response, obligation, lease).await;
        }
        match base {
            Some(_) if !is_conditional(&request.headers) => self.unasked_304(obligation),
            Some(base) if validates(&base.headers.to_header_map(), response.headers()) => {
                self.confirmed(&received, &base, response, obligation, lease)
                    .await;
            }
            Some(_) => self.fetched_whole(obligation, lease).await,
            None => self.unasked_304(obligation),
        }
    }

    /// The origin confirmed something that this node does not hold (its validator is
    /// another one): asked again, without conditions.
    async fn fetched_whole(mut self, obligation: Obligation, lease: Option<Lease>) {
        let node = Arc::clone(&self.call.node);
        let request = origin::fetch(&self.call.route, &self.call.head, &self.plan, None);
        let request_time = node.clock.now();
        node.metrics().origin_request();
        let response = match self
            .call
            .route
            .upstream
            .fetch(&request, &self.call.interim)
            .await
        {
            Ok(response) => response,
            Err(error) => return self.failed(obligation, &error),
        };
        let upstream = self.call.route.upstream.name();
        node.metrics()
            .origin_result(upstream, status_class(response.status()));
        if response.status() == StatusCode::NOT_MODIFIED {
            return self.unasked_304(obligation);
        }
        let received = Received {
            request_headers: &request.headers,
            request_time,
            response_time: node.clock.now(),
        };
        self.fetched(&received, response, obligation, lease).await;
    }

    /// The lease to fetch; or what another node has fetched meanwhile, if it is of use
    /// here. Neither: to be fetched without a lease.
    async fn lease(
        &self,
        base: Option<&Arc<Object>>,
    ) -> (Option<(Found, &'static str)>, Option<Lease>) {
        let key = self.plan.key.as_str();
        let second = match &self.call.node.second {
            Some(second) if !self.terms.alone => second,
            _ => return (None, None),
        };
        let Some(until) = second.lease_patience() else {
            return (None, None);
        };
        let lease = match second.lease(key, until).await {
            Leased::Yours(lease, false) => return (None, Some(lease)),
            Leased::Yours(lease, true) => Some(lease),
            Leased::Without => return (None, None),
            Leased::Wait(mut waiting) => match waiting.next().await {
                Next::LookUp => None,
                Next::Fetch => return (None, None),
            },
        };
        let found = stored::in_second(&self.call, &self.plan, base).await;
        if is_usable(found.as_ref()) {
            return (found, None);
        }
        if lease.is_some() {
            return (found, lease);
        }
        // Who held it has died, or fetched another variant: waited for once, no more.
        match second.lease(key, until).await {
            Leased::Yours(lease, _) => (found, Some(lease)),
            Leased::Wait(_) | Leased::Without => (found, None),
        }
    }

    fn failed(&mut self, obligation: Obligation, error: &UpstreamError) {
        let upstream = self.call.route.upstream.name();
        self.call
            .node
            .metrics()
            .origin_result(upstream, error.kind.as_str());
        tracing::warn!(upstream, route = %self.call.route.label, %error, "no response from the origin");
        self.tell(Told::Failed(error.kind));
        obligation.fail(fill_error(error));
    }

    /// A 304 to a request without conditions means nothing that could be served.
    fn unasked_304(&mut self, obligation: Obligation) {
        tracing::warn!(
            upstream = self.call.route.upstream.name(),
            url = %self.plan.url,
            "the origin answered 304 to a request without conditions"
        );
        self.tell(Told::Failed(UpstreamErrorKind::Broken));
        obligation.fail(FillError::Origin(
            "the origin answered 304 to a request without conditions".into(),
        ));
    }

    /// RFC 9111 section 4.3.4. The new object carries this fill's position, from before
    /// the question was asked.
    async fn confirmed(
        mut self,
        received: &Received<'_>,
        base: &Arc<Object>,
        response: Response<OriginBody>,
        obligation: Obligation,
        lease: Option<Lease>,
    ) {
        let stored = compress::unannounced(base);
        let headers = freshen(&stored, response.headers());
        let judged = store::judge(&self.call, &self.plan, received, base.status, headers).await;
        match judged {
            Judged::Store(head) => {
                let position = obligation.fill().position();
                let object = Object::new(ObjectParts {
                    trailers: base.trailers().cloned(),
                    ..parts_of(&self.plan, *head, base.body.clone(), position)
                });
                let object = Arc::new(compress::handed_on(&self.call.route, base, object));
                store::keep(&self.call.node, &object, lease);
                self.tell(Told::Confirmed);
                obligation.refreshed(object);
            }
            Judged::Refuse {
                reason,
                headers,
                unjudged,
                ..
            } => {
                // It may not be kept any longer. It is the answer to this request, and,
                // since the 304 may have made it private, to no other.
                let node = Arc::clone(&self.call.node);
                node.metrics().not_stored(&reason);
                if !unjudged {
                    let key = self.plan.key.unsealed_name().to_owned();
                    node.invalidate(&[Selector::new(Target::Key(key))]).await;
                }
                let mut parts = base.to_parts();
                parts.headers = StoredHeaders::from_map(&headers);
                parts.freshness.received = received.response_time;
                self.tell(Told::Own(Arc::new(parts.into())));
                obligation.uncacheable();
            }
        }
    }

    async fn fetched(
        mut self,
        received: &Received<'_>,
        response: Response<OriginBody>,
        obligation: Obligation,
        lease: Option<Lease>,
    ) {
        let (mut parts, body) = response.into_parts();
        let length = content_length(&parts.headers);
        let endless = has_no_end(&parts.headers, &body);
        let headers = std::mem::take(&mut parts.headers);
        let judged = store::judge(&self.call, &self.plan, received, parts.status, headers).await;
        let node = Arc::clone(&self.call.node);
        match judged {
            Judged::Store(head)
                if !(endless && head.freshness.heuristic)
                    && length.is_none_or(|length| length <= node.cache.max_object) =>
            {
                node.marks.lift(self.plan.key.as_str());
                self.tell(Told::Fetched(parts.status));
                let mut head = *head;
                head.length = length;
                let upstream = Arc::clone(&self.call.route.upstream);
                // The generation is let go: the rest is bytes, and may take hours.
                drop(self);
                pump(&node, &upstream, obligation.head(head), body, lease).await;
            }
            Judged::Store(head) => {
                let reason = if endless {
                    "close-delimited"
                } else {
                    "too-large"
                };
                self.refuse(reason.into(), None, obligation, {
                    parts.headers = head.headers.to_header_map();
                    Response::from_parts(parts, body)
                });
            }
            Judged::Refuse {
                reason,
                headers,
                remember,
                ..
            } => {
                parts.headers = headers;
                let response = Response::from_parts(parts, body);
                self.refuse(reason, remember, obligation, response);
            }
        }
    }

    fn refuse(
        &mut self,
        reason: Cow<'static, str>,
        remember: Option<std::time::Duration>,
        obligation: Obligation,
        response: Response<OriginBody>,
    ) {
        let node = &self.call.node;
        node.metrics().not_stored(&reason);
        let remember = match &*reason {
            "too-large" | "close-delimited" => Some(node.cache.uncacheable_for),
            _ => remember,
        };
        if let Some(lasting) = remember {
            node.marks
                .mark(&self.plan.key, rules(&self.plan), lasting, node.clock.now());
        }
        self.tell(Told::Refused {
            response: Box::new(response),
            reason,
        });
        obligation.uncacheable();
    }
}

/// Can it be served as it is, so that nothing has to be fetched?
fn is_usable(found: Option<&(Found, &'static str)>) -> bool {
    matches!(found, Some((Found::Fresh(_) | Found::Stale(_), _)))
}

/// What Cache-Status calls the tier behind memory.
pub(super) fn second_name(node: &Node) -> &'static str {
    node.second.as_ref().map_or("memory", SecondTier::name)
}

/// What a mark's verdict rests on: under another policy it means nothing.
pub(super) fn rules(plan: &Plan) -> u64 {
    let Some(decider) = &plan.decider else {
        return 0;
    };
    decider
        .label()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// An object without a validator is no base of a question.
fn is_conditional(request: &http::HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE)
}

pub(super) fn is_server_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

pub(super) fn fill_error(error: &UpstreamError) -> FillError {
    match error.kind {
        UpstreamErrorKind::ConnectTimeout | UpstreamErrorKind::ResponseTimeout => {
            FillError::Timeout
        }
        _ => FillError::Unreachable(error.to_string().into()),
    }
}

/// Is the end of the connection the only end of the body? It counts as complete then
/// (RFC 9112 section 8), but nothing tells a whole one from one that a dying origin cut.
pub(super) fn has_no_end(headers: &http::HeaderMap, body: &OriginBody) -> bool {
    content_length(headers).is_none() && !is_chunked(headers) && !body.is_end_stream()
}

/// Does the response end with its own last chunk? HTTP/2 would too; origins speak 1.1.
pub(super) fn is_chunked(headers: &http::HeaderMap) -> bool {
    headers
        .get(TRANSFER_ENCODING)
        .is_some_and(|coding| coding.as_bytes().to_ascii_lowercase().ends_with(b"chunked"))
}

/// The one legal Content-Length, if the response has one; hyper refuses the others.
fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    std::str::from_utf8(headers.get(CONTENT_LENGTH)?.as_bytes())
        .ok()?
        .parse()
        .ok()
}

/// Moves the body to the readers and, if it is whole and small enough, into the tiers.
async fn pump(
    node: &Node,
    upstream: &Upstream,
    mut writer: Writer,
    mut body: OriginBody,
    lease: Option<Lease>,
) {
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                node.metrics()
                    .origin_result(upstream.name(), error.kind.as_str());
                tracing::warn!(upstream = upstream.name(), %error, "a body broke off");
                return writer.fail(fill_error(&error));
            }
        };
        match frame.into_data() {
            Ok(data) => {
                if writer.push(data).await == Demand::Nobody {
                    return writer.fail(FillError::Dropped);
                }
            }
            Err(frame) => {
                if let Ok(map) = frame.into_trailers() {
                    trailers = Some(StoredHeaders::from_map(&map));
                }
            }
        }
    }
    let ended = writer.finish(trailers, |object| store::keep(node, object, lease));
    match ended {
        Ok(Some(_)) => {}
        Ok(None) => node.metrics().not_stored("too-large"),
        Err(error) => {
            tracing::warn!(upstream = upstream.name(), %error, "a body was refused");
        }
    }
}

/// A response that is stored without having been streamed.
pub(super) fn parts_of(
    plan: &Plan,
    head: Head,
    body: Bytes,
    position: weir_store::Position,
) -> ObjectParts {
    ObjectParts {
        key: plan.key.clone(),
        url: plan.url.clone(),
        status: head.status,
        headers: head.headers,
        body,
        trailers: None,
        vary: head.vary,
        tags: head.tags,
        freshness: head.freshness,
        fetch_took: head.fetch_took,
        memory_until: head.memory_until,
        shared: head.shared,
        position,
        policy: head.policy,
    }
}
