//! Looking at a node: explanations, status, metrics, probes.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{App, absolute_url};
use crate::body;
use crate::control::{ExplainRequest, InspectRequest, Readiness};
use crate::error::ApiError;

pub(super) async fn explain(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let request = question(query.as_deref().unwrap_or_default())?;
    Ok(Json(app.control.explain(request).await?))
}

/// Reads `url=…&method=…&header=name: value&header=…`.
fn question(query: &str) -> Result<ExplainRequest, ApiError> {
    let mut url = None;
    let mut method = None;
    let mut headers = HeaderMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "url" => once(&mut url, "url", explained_url(&value)?)?,
            "method" => {
                let parsed = Method::from_bytes(value.as_bytes())
                    .map_err(|_| ApiError::field("method", "`method` is not an HTTP method"))?;
                once(&mut method, "method", parsed)?;
            }
            "header" => add_header(&mut headers, &value)?,
            other => return Err(body::unknown(other, &["url", "method", "header"])),
        }
    }
    let url = url.ok_or_else(|| {
        ApiError::field(
            "url",
            "`url` is missing; ask /v1/explain?url=http%3A%2F%2Fexample.org%2Fa",
        )
    })?;
    Ok(ExplainRequest {
        url,
        method: method.unwrap_or(Method::GET),
        headers,
    })
}

fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), ApiError> {
    if slot.replace(value).is_some() {
        return Err(ApiError::field(name, format!("`{name}` is given twice")));
    }
    Ok(())
}

fn explained_url(text: &str) -> Result<Uri, ApiError> {
    absolute_url(text).ok_or_else(|| {
        ApiError::field(
            "url",
            "`url` must be an absolute URL, percent-encoded in the query: http%3A%2F%2Fexample.org%2Fa",
        )
    })
}

fn explained_header(text: &str) -> Result<(HeaderName, HeaderValue), ApiError> {
    let parsed = text.split_once(':').and_then(|(name, value)| {
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).ok()?;
        Some((name, value))
    });
    match parsed {
        Some((header::HOST, _)) => Err(ApiError::field(
            "header",
            "the host is that of `url`; leave out the Host field",
        )),
        Some(field) => Ok(field),
        None => Err(ApiError::field(
            "header",
            "`header` must be `name: value`, such as accept-language: de",
        )),
    }
}

pub(super) async fn inspect(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let request = inspected(query.as_deref().unwrap_or_default())?;
    Ok(Json(app.control.inspect(request).await?))
}

/// Reads `key=…&header=…`, or what [`question`] reads.
fn inspected(query: &str) -> Result<InspectRequest, ApiError> {
    let mut key = None;
    let mut headers = HeaderMap::new();
    let pairs = || form_urlencoded::parse(query.as_bytes());
    if !pairs().any(|(name, _)| name == "key") {
        return match pairs().any(|(name, _)| name == "url") {
            true => Ok(InspectRequest::Url(question(query)?)),
            false => Err(ApiError::field(
                "key",
                "`key` is missing; ask /v1/inspect?key=http%3A%2F%2Fexample.org%7Cuser%3Aprofile%3A42, or ?url=…",
            )),
        };
    }
    for (name, value) in pairs() {
        match name.as_ref() {
            "key" if value.is_empty() => return Err(ApiError::field("key", "`key` is empty")),
            "key" => once(&mut key, "key", value.into_owned())?,
            "header" => add_header(&mut headers, &value)?,
            "url" | "method" => {
                return Err(ApiError::field(
                    "key",
                    "`key` and `url` exclude one another",
                ));
            }
            other => return Err(body::unknown(other, &["key", "url", "method", "header"])),
        }
    }
    Ok(InspectRequest::Key(key.unwrap_or_default(), headers))
}

fn add_header(headers: &mut HeaderMap, text: &str) -> Result<(), ApiError> {
    let (name, value) = explained_header(text)?;
    headers
        .try_append(name, value)
        .map(|_| ())
        .map_err(|_| ApiError::field("header", "too many header fields"))
}

pub(super) async fn stats(State(app): State<App>) -> Json<Value> {
    Json(app.control.stats().await)
}

pub(super) async fn status(State(app): State<App>) -> Json<Value> {
    Json(app.control.status().await)
}

pub(super) async fn metrics(State(app): State<App>) -> Response {
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], app.control.metrics()).into_response()
}

pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"alive": true}))
}

pub(super) async fn readyz(State(app): State<App>) -> Response {
    match app.control.readiness() {
        Readiness::Ready { degraded } if degraded.is_empty() => {
            Json(json!({"ready": true})).into_response()
        }
        Readiness::Ready { degraded } => {
            Json(json!({"ready": true, "degraded": degraded})).into_response()
        }
        Readiness::NotReady { reasons } => {
            let answer = Json(json!({"ready": false, "reasons": reasons}));
            (StatusCode::SERVICE_UNAVAILABLE, answer).into_response()
        }
    }
}
