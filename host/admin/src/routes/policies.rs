//! The life of a policy: list, deploy, roll back, reload.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::{App, MAX_COMPONENT};
use crate::body;
use crate::control::{Deployed, Reloaded};
use crate::error::ApiError;

type Name = Result<Path<String>, PathRejection>;

pub(super) async fn list(State(app): State<App>) -> Json<Value> {
    Json(json!({"policies": app.control.policies().await}))
}

pub(super) async fn put(
    State(app): State<App>,
    name: Name,
    request: Request,
) -> Result<Json<Deployed>, ApiError> {
    let name = policy_name(name)?;
    body::require_type(
        request.headers(),
        &["application/wasm", "application/octet-stream"],
    )?;
    let _upload = app.uploads.acquire().await.map_err(|_| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the node takes no components any more",
        )
    })?;
    let component = body::read(request, MAX_COMPONENT).await?;
    if component.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "the body is empty; send the component: curl --data-binary @policy.wasm",
        ));
    }
    Ok(Json(app.control.put_policy(&name, component).await?))
}

pub(super) async fn rollback(
    State(app): State<App>,
    name: Name,
    request: Request,
) -> Result<Json<Deployed>, ApiError> {
    let name = policy_name(name)?;
    body::nothing(request).await?;
    Ok(Json(app.control.rollback(&name).await?))
}

/// A reload that left a policy behind is not a success: a script that looks only at the status
/// must notice. Its answer has the form of an error and the results of all policies.
pub(super) async fn reload(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    body::nothing(request).await?;
    let results = app.control.reload().await?;
    let failed: Vec<String> = results.iter().filter_map(failure).collect();
    if failed.is_empty() {
        return Ok(Json(json!({"policies": results})).into_response());
    }
    let error = json!({"message": failed.join("; "), "field": null});
    let answer = Json(json!({"error": error, "policies": results}));
    Ok((StatusCode::CONFLICT, answer).into_response())
}

fn failure(result: &Reloaded) -> Option<String> {
    let error = result.error.as_ref()?;
    Some(match &result.version {
        Some(version) => format!("{} stays at {version}: {error}", result.name),
        None => format!("{} is not loaded: {error}", result.name),
    })
}

fn policy_name(name: Name) -> Result<String, ApiError> {
    match name {
        Ok(Path(name)) => Ok(name),
        Err(_) => Err(ApiError::field("name", "the policy's name is not UTF-8")),
    }
}
