//! `POST /v1/invalidate` and `POST /v1/events`.

use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{App, MAX_SELECTORS, absolute_url, is_plain};
use crate::body::{self, Field, JsonObject};
use crate::control::{EventAnswer, InvalidateAnswer, InvalidateRequest};
use crate::error::ApiError;

const fn optional(name: &'static str, example: &'static str) -> Field {
    Field {
        name,
        example,
        required: false,
    }
}

impl JsonObject for InvalidateRequest {
    const FIELDS: &'static [Field] = &[
        optional("urls", r#"["http://example.org/a"]"#),
        optional("keys", r#"["user:profile:42"]"#),
        optional("tags", r#"["user-42"]"#),
        optional("namespaces", r#"["user"]"#),
        optional("prefixes", r#"["user:profile:"]"#),
        optional("all", "true"),
        optional("host", r#""example.org""#),
        optional("soft", "true"),
    ];
}

pub(super) async fn invalidate(
    State(app): State<App>,
    request: Request,
) -> Result<Json<InvalidateAnswer>, ApiError> {
    let request: InvalidateRequest = body::json(request).await?;
    validate(&request)?;
    Ok(Json(app.control.invalidate(request).await?))
}

fn validate(request: &InvalidateRequest) -> Result<(), ApiError> {
    let lists = [
        ("urls", &request.urls),
        ("keys", &request.keys),
        ("tags", &request.tags),
        ("namespaces", &request.namespaces),
        ("prefixes", &request.prefixes),
    ];
    let mut count = usize::from(request.all);
    for (name, list) in lists {
        count += list.len();
        if let Some(index) = list.iter().position(String::is_empty) {
            let field = format!("{name}[{index}]");
            let message =
                format!("`{field}` is empty; to invalidate everything write \"all\": true");
            return Err(ApiError::field(field, message));
        }
    }
    if count == 0 {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "nothing to invalidate: name urls, keys, tags, namespaces or prefixes, or write \"all\": true",
        ));
    }
    if count > MAX_SELECTORS {
        let message = format!(
            "{count} selectors in one request; send at most {MAX_SELECTORS}, or a tag or prefix that covers them"
        );
        return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
    }
    for (index, url) in request.urls.iter().enumerate() {
        if absolute_url(url).is_none() {
            let field = format!("urls[{index}]");
            let message =
                format!("`{field}` must be an absolute URL, such as http://example.org/a");
            return Err(ApiError::field(field, message));
        }
    }
    match &request.host {
        Some(host) if !host.parse().is_ok_and(|host| is_plain(&host)) => Err(ApiError::field(
            "host",
            "`host` must be a host name with or without a port, such as example.org or 127.0.0.1:8080",
        )),
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventRequest {
    r#type: String,
    #[serde(default)]
    data: Value,
}

impl JsonObject for EventRequest {
    const FIELDS: &'static [Field] = &[
        Field {
            name: "type",
            example: r#""user.updated""#,
            required: true,
        },
        optional("data", r#"{"id": 42}"#),
    ];
}

pub(super) async fn event(
    State(app): State<App>,
    request: Request,
) -> Result<Json<EventAnswer>, ApiError> {
    let event: EventRequest = body::json(request).await?;
    if event.r#type.is_empty() {
        let message = "`type` is empty; write \"type\": \"user.updated\"";
        return Err(ApiError::field("type", message));
    }
    Ok(Json(app.control.event(&event.r#type, event.data).await?))
}
