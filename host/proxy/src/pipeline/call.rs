//! A request on its way through the stages, and its answer.

use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use weir_policy::RequestHead;
use weir_semantics::{CacheStatus, Timestamp};

use super::serve::{CACHE_STATUS, with};
use crate::body::Body;
use crate::generation::{Generation, Route};
use crate::interim::Interim;
use crate::metrics::ResultKind;
use crate::node::Node;

/// What a request needs until its last policy call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) node: Arc<Node>,
    /// Pinned until the last policy call, and counted as alive that long.
    #[expect(
        dead_code,
        reason = "held, not read: the route carries what it leads to"
    )]
    pub(crate) generation: Arc<Generation>,
    pub(crate) route: Arc<Route>,
    pub(crate) head: Arc<RequestHead>,
    /// The one instant of this request.
    pub(crate) now: Timestamp,
    pub(crate) started: Instant,
    /// Where an origin's interim responses go.
    pub(crate) interim: Interim,
}

/// An answer, and how it came about.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    pub(crate) result: ResultKind,
    /// The namespace that was looked up in; absent when nothing was looked up, the inner
    /// one when there is no policy.
    pub(crate) looked_up: Option<Option<Box<str>>>,
}

impl Answer {
    /// An answer to a request for which nothing was looked up.
    pub(crate) fn without_lookup(response: Response<Body>, result: ResultKind) -> Self {
        Self {
            response,
            result,
            looked_up: None,
        }
    }

    /// A response of the node's own, in plain text, with its reason in Cache-Status.
    pub(crate) fn error(status: StatusCode, detail: &str, text: &str, result: ResultKind) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(
            http::header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        let cache_status = CacheStatus {
            detail: Some(detail),
            ..CacheStatus::default()
        };
        headers.insert(CACHE_STATUS, cache_status.to_header_value());
        Self::without_lookup(with(status, headers, format!("{text}\n").into()), result)
    }
}
