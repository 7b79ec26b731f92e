//! The life of a policy: list, deploy, try, promote, roll back, reload; what was done.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, MAX_AUDIT, MAX_COMPONENT, SIGNATURE};
use crate::body::{self, Field, JsonObject};
use crate::control::{
    Deployed, Fleet, Reloaded, RolledBack, Trial, TrialMode, TrialRequest, Upload,
};
use crate::error::ApiError;

type Name = Result<Path<String>, PathRejection>;

pub(super) async fn list(State(app): State<App>) -> Json<Value> {
    Json(json!({"policies": app.control.policies().await}))
}

pub(super) async fn put(
    State(app): State<App>,
    name: Name,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Json<Deployed>, ApiError> {
    let name = policy_name(name)?;
    let activate = activates(query.as_deref().unwrap_or_default())?;
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
    let signature = signature(request.headers())?;
    let component = body::read(request, MAX_COMPONENT).await?;
    if component.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "the body is empty; send the component: curl --data-binary @policy.wasm",
        ));
    }
    let upload = Upload {
        component,
        signature,
    };
    Ok(Json(match activate {
        true => app.control.put_policy(&name, upload).await?,
        false => app.control.hold_policy(&name, upload).await?,
    }))
}

/// What the field `Weir-Signature` says.
fn signature(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(SIGNATURE).iter();
    let (first, more) = (values.next(), values.next());
    let text = first.map(|value| std::str::from_utf8(value.as_bytes()));
    match (text, more) {
        (None, _) => Ok(None),
        (Some(Ok(text)), None) => Ok(Some(text.to_owned())),
        _ => Err(ApiError::field(
            SIGNATURE,
            "the field holds one signature, in base64",
        )),
    }
}

pub(super) async fn fleet(State(app): State<App>) -> Json<Fleet> {
    Json(app.control.fleet().await)
}

/// Reads `activate=true` or `activate=false`.
fn activates(query: &str) -> Result<bool, ApiError> {
    let mut activate = true;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        activate = match (name.as_ref(), value.as_ref()) {
            ("activate", "true") => true,
            ("activate", "false") => false,
            ("activate", _) => {
                let message = "`activate` is `true` or `false`";
                return Err(ApiError::field("activate", message));
            }
            (other, _) => return Err(body::unknown(other, &["activate"])),
        };
    }
    Ok(activate)
}

/// The body of `shadow` and `canary`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Try {
    version: Option<String>,
    percent: f64,
}

impl JsonObject for Try {
    const FIELDS: &'static [Field] = &[
        VERSION,
        Field {
            name: "percent",
            example: "5",
            required: true,
        },
    ];
}

/// The body of `promote`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promote {
    version: Option<String>,
}

impl JsonObject for Promote {
    const FIELDS: &'static [Field] = &[VERSION];
}

const VERSION: Field = Field {
    name: "version",
    example: r#""0f3a9c51d2e4""#,
    required: false,
};

pub(super) async fn shadow(
    State(app): State<App>,
    name: Name,
    request: Request,
) -> Result<Json<Trial>, ApiError> {
    begin(&app, name, request, TrialMode::Shadow).await
}

pub(super) async fn canary(
    State(app): State<App>,
    name: Name,
    request: Request,
) -> Result<Json<Trial>, ApiError> {
    begin(&app, name, request, TrialMode::Canary).await
}

async fn begin(
    app: &App,
    name: Name,
    request: Request,
    mode: TrialMode,
) -> Result<Json<Trial>, ApiError> {
    let name = policy_name(name)?;
    let Try { version, percent } = body::json(request).await?;
    if !(percent > 0.0 && percent <= 100.0) {
        let message = "`percent` is more than 0 and at most 100";
        return Err(ApiError::field("percent", message));
    }
    let request = TrialRequest {
        mode,
        version,
        percent,
    };
    Ok(Json(app.control.try_policy(&name, request).await?))
}

pub(super) async fn promote(
    State(app): State<App>,
    name: Name,
    request: Request,
) -> Result<Json<Deployed>, ApiError> {
    let name = policy_name(name)?;
    let Promote { version } = body::json(request).await?;
    Ok(Json(app.control.promote(&name, version).await?))
}

pub(super) async fn audit(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let (mut policy, mut limit) = (None, 100);
    for (name, value) in form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "policy" => policy = Some(value.into_owned()),
            "limit" => {
                let number = value.parse().ok().filter(|n| (1..=MAX_AUDIT).contains(n));
                limit = number.ok_or_else(|| {
                    ApiError::field("limit", format!("`limit` is 1 to {MAX_AUDIT}"))
                })?;
            }
            other => return Err(body::unknown(other, &["policy", "limit"])),
        }
    }
    Ok(Json(
        json!({"changes": app.control.audit(policy, limit).await}),
    ))
}

pub(super) async fn rollback(
    State(app): State<App>,
    name: Name,
    request: Request,
) -> Result<Json<RolledBack>, ApiError> {
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
