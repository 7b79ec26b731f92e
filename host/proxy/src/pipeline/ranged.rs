//! A request for a part of what is not stored: answered from stored parts, or forwarded
//! with its Range, and what comes back is kept. RFC 9111 sections 3.3 and 3.4.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use weir_semantics::{
    CacheStatus, Condition, Fwd, Part, content_range, evaluate, same_representation,
    strip_hop_by_hop,
};
use weir_store::fill::Head;
use weir_store::log::Verdict;
use weir_store::{Object, ObjectParts, Partial, Position, StoredHeaders};

use super::assess::{Usable, usable};
use super::call::{Answer, Call};
use super::fill::{has_no_end, parts_of};
use super::plan::Plan;
use super::serve;
use super::store::{self, Judged, Received};
use super::{forward, origin};
use crate::body::Body;
use crate::metrics::ResultKind;
use crate::node::Node;
use crate::tee::TeeBody;

/// An answer from a stored part.
pub(super) fn from_parts(call: &Call, plan: &Plan) -> Option<Answer> {
    if call.head.method != Method::GET {
        return None;
    }
    let asked = call.head.headers.get(RANGE)?;
    let Call {
        node, route, head, ..
    } = call;
    let parts = node
        .memory
        .parts(plan.key.as_str(), &head.headers, call.now);
    parts.iter().find_map(|partial| {
        let object = &partial.object;
        if usable(node, route, object, head, call.now) != Usable::Fresh {
            return None;
        }
        let mut headers = object.headers.to_header_map();
        if evaluate(&head.headers, object.status, &headers) != Condition::Full {
            return None;
        }
        let within = partial
            .part
            .as_ref()
            .and_then(|part| Some((part, part.answers(&head.headers, &headers)?)));
        let body = match within {
            Some((part, within)) => {
                let first = part.span.start + within.start;
                let span = first..first + (within.end - within.start);
                headers.insert(CONTENT_RANGE, content_range(&span, part.complete));
                // It lies within the body, whose length is a usize.
                object
                    .body
                    .slice(within.start as usize..within.end as usize)
            }
            // The same question again gets the same answer.
            None if *asked.as_bytes() == *partial.range && !head.headers.contains_key(IF_RANGE) => {
                object.body.clone()
            }
            None => return None,
        };
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let label = plan.decider.as_ref().map(|decider| &**decider.label());
        let status = CacheStatus {
            hit: true,
            ttl: Some(object.freshness().ttl_secs(call.now)),
            detail: Some("memory"),
            by: label,
            ..CacheStatus::default()
        };
        let mut response = serve::with(StatusCode::PARTIAL_CONTENT, headers, body);
        serve::stamp(
            response.headers_mut(),
            &object.freshness(),
            call.now,
            &status,
        );
        Some(Answer::without_lookup(response, ResultKind::Hit))
    })
}

/// Forwards the request with its Range. A 206 is kept as a part, and whatever else may be
/// stored as the whole that it is.
pub(super) async fn fetch(call: &Call, plan: Arc<Plan>, fwd: Fwd) -> Answer {
    let node = &call.node;
    // Before the fetch, so that a purge during it is not missed.
    let position = node.log.began(node.clock.now());
    let request = origin::forwarded(&call.head, Some(&plan));
    let request_time = node.clock.now();
    let response = match forward::send(call, &request, None).await {
        Ok(response) => response,
        Err(error) => return forward::unanswered(&error, fwd),
    };
    let received = Received {
        request_headers: &request.headers,
        request_time,
        response_time: node.clock.now(),
    };
    let relay =
        |response, reason: &str| forward::relay(call, response, fwd, reason, plan.decider.as_ref());
    if !matches!(
        response.status(),
        StatusCode::OK | StatusCode::PARTIAL_CONTENT
    ) {
        let mut response = response;
        strip_hop_by_hop(response.headers_mut());
        return relay(response, "not-whole");
    }
    let (mut parts, body) = response.into_parts();
    let endless = has_no_end(&parts.headers, &body);
    let headers = std::mem::take(&mut parts.headers);
    let judged = store::judge(call, &plan, &received, parts.status, headers).await;
    match judged {
        Judged::Store(head) if !endless => {
            parts.headers = head.headers.to_header_map();
            let keep = Keep {
                node: Arc::clone(node),
                plan: Arc::clone(&plan),
                range: single_range(&call.head.headers),
                head: *head,
                position,
            };
            let response = Response::from_parts(parts, body);
            let decider = plan.decider.as_ref();
            let mut answer = forward::relay_stored(call, response, fwd, "part", decider);
            answer.response = answer.response.map(|body| keep.on(body));
            answer
        }
        Judged::Store(head) => {
            parts.headers = head.headers.to_header_map();
            relay(Response::from_parts(parts, body), "close-delimited")
        }
        Judged::Refuse {
            headers, reason, ..
        } => {
            node.metrics().not_stored(&reason);
            parts.headers = headers;
            relay(Response::from_parts(parts, body), &reason)
        }
    }
}

/// What was asked for. Of several fields nobody can say which one the origin heeded.
fn single_range(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(RANGE).iter();
    let line = lines.next()?;
    lines.next().is_none().then(|| line.clone())
}

/// What is needed to store a body once it has gone by.
struct Keep {
    node: Arc<Node>,
    plan: Arc<Plan>,
    range: Option<HeaderValue>,
    head: Head,
    position: Position,
}

impl Keep {
    fn on(self, body: Body) -> Body {
        let Body::Origin(body) = body else {
            return body;
        };
        let limit = self.node.cache.max_object;
        Body::Tee(Box::new(TeeBody::new(
            body,
            limit,
            Box::new(move |body| self.keep(body)),
        )))
    }

    fn keep(self, body: Bytes) {
        let Self {
            node,
            plan,
            range,
            head,
            position,
        } = self;
        let object = Object::new(parts_of(&plan, head, body, position));
        if object.status != StatusCode::PARTIAL_CONTENT {
            return store::keep(&node, &Arc::new(object), None);
        }
        let Some(range) = range else { return };
        if node.log.verdict(&object) == Verdict::Dead {
            return node.metrics().not_stored("purged");
        }
        let part = Part::parse(&object.headers.to_header_map(), object.body.len() as u64);
        let partial = Partial {
            object,
            range: range.as_bytes().into(),
            part,
        };
        let known = node.memory.parts_of(plan.key.as_str());
        let partial = known
            .iter()
            .filter(|other| node.log.verdict(&other.object) == Verdict::Valid)
            .fold(partial, |partial, other| {
                combined(&partial, other).unwrap_or(partial)
            });
        match &partial.part {
            Some(part) if part.is_whole() => {
                store::keep(&node, &Arc::new(whole(&partial.object)), None);
            }
            _ => {
                let bytes = partial.object.body.len();
                if node.memory.insert_part(Arc::new(partial)) {
                    node.metrics().stored(bytes);
                }
            }
        }
    }
}

/// Two parts as one, if they touch and a strong validator says that they are of the same
/// representation (RFC 9111 section 3.4). The fields are those of the newer one, and what
/// only the older has; the position is that of the older, so that a purge since then is not missed.
fn combined(newer: &Partial, older: &Partial) -> Option<Partial> {
    let (own, other) = (newer.part.as_ref()?, older.part.as_ref()?);
    let joined = own.joined(other)?;
    let (a, b) = (&newer.object, &older.object);
    let alike = a.vary() == b.vary() && a.tags == b.tags && a.policy() == b.policy();
    let (mut headers, old) = (a.headers.to_header_map(), b.headers.to_header_map());
    if !alike || !same_representation(&headers, &old) {
        return None;
    }
    // A part that answers If-Range has few fields; those that it lacks stay.
    for name in old.keys().filter(|name| **name != AGE) {
        if !headers.contains_key(name) {
            for value in old.get_all(name) {
                headers.append(name, value.clone());
            }
        }
    }
    let (first, second, from) = if own.span.start <= other.span.start {
        (a, b, own.span.end.saturating_sub(other.span.start))
    } else {
        (b, a, other.span.end.saturating_sub(own.span.start))
    };
    let mut body = BytesMut::with_capacity((joined.span.end - joined.span.start) as usize);
    body.extend_from_slice(&first.body);
    // What both have is taken once; the second may lie wholly within the first.
    body.extend_from_slice(second.body.get(from as usize..).unwrap_or_default());
    headers.insert(CONTENT_RANGE, content_range(&joined.span, joined.complete));
    headers.remove(CONTENT_LENGTH);
    Some(Partial {
        object: Object::new(ObjectParts {
            headers: StoredHeaders::from_map(&headers),
            body: body.freeze(),
            position: b.position(),
            ..a.to_parts()
        }),
        range: newer.range.clone(),
        part: Some(joined),
    })
}

/// The whole that a part turned out to be.
fn whole(object: &Object) -> Object {
    let mut headers = object.headers.to_header_map();
    headers.remove(CONTENT_RANGE);
    headers.remove(CONTENT_LENGTH);
    Object::new(ObjectParts {
        headers: StoredHeaders::from_map(&headers),
        status: StatusCode::OK,
        ..object.to_parts()
    })
}
