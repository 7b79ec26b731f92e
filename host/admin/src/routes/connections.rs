//! Upgraded connections: list them, cut one.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use serde_json::{Value, json};

use super::{App, MAX_CONNECTIONS};
use crate::body;
use crate::control::Connections;
use crate::error::ApiError;

pub(super) async fn list(State(app): State<App>) -> Json<Connections> {
    Json(app.control.connections(MAX_CONNECTIONS).await)
}

pub(super) async fn cut(
    State(app): State<App>,
    id: Result<Path<u64>, PathRejection>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let Path(id) =
        id.map_err(|_| ApiError::field("id", "the id is a number, as GET /v1/connections has it"))?;
    body::nothing(request).await?;
    app.control.cut_connection(id).await?;
    Ok(Json(json!({"cut": id})))
}
