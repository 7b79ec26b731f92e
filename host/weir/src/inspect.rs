//! Explanations and inspections, as the admin API asks for them.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use weir_admin::{ControlError, ControlErrorKind, ExplainRequest, InspectRequest};
use weir_proxy::{ExplainError, Explanation, Node};
use weir_store::Key;

/// What would become of a request.
pub(crate) async fn explained(
    node: &Arc<Node>,
    request: ExplainRequest,
) -> Result<Explanation, ControlError> {
    let ExplainRequest {
        url,
        method,
        headers,
    } = request;
    let explained = node.explain(method, &url, headers, Bytes::new(), None);
    explained.await.map_err(|error| match error {
        ExplainError::Malformed(_) => ControlError::bad_request("url", error.to_string()),
        ExplainError::NoRoute { .. } => {
            ControlError::new(ControlErrorKind::NotFound, error.to_string())
        }
    })
}

/// What the tiers hold.
pub(crate) async fn inspect(
    node: &Arc<Node>,
    request: InspectRequest,
) -> Result<Value, ControlError> {
    let (text, headers) = match request {
        InspectRequest::Key(key, headers) => (key, headers),
        InspectRequest::Url(request) => {
            let headers = request.headers.clone();
            let explanation = explained(node, request).await?;
            let key = explanation.key.ok_or_else(|| {
                let why = explanation.reason.map_or(String::new(), |why| format!(" ({why})"));
                ControlError::new(
                    ControlErrorKind::NotFound,
                    format!(
                        "this request is not looked up, so there is no key: the decision is {}{why}",
                        explanation.decision
                    ),
                )
            })?;
            (key, headers)
        }
    };
    let key = Key::parse(&text).map_err(|_| {
        ControlError::bad_request(
            "key",
            format!(
                "{text:?} is not a key: write it as `weir explain` shows it, with its origin: http://HOST|user:profile:42"
            ),
        )
    })?;
    let inspection = node.inspect(&key, &headers).await;
    serde_json::to_value(inspection)
        .map_err(|error| ControlError::new(ControlErrorKind::Internal, error.to_string()))
}
