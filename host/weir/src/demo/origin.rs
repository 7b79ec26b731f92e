//! The demo's origin: a charity's API and a small web site, slow enough that a cached
//! answer is felt, with a version in every body so that a fresh answer is seen.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// How long each answer takes.
pub(super) const LATENCY: Duration = Duration::from_millis(300);

#[derive(Default)]
struct Origin {
    served: AtomicU64,
    users: Mutex<HashMap<String, (u64, Value)>>,
}

impl Origin {
    /// Waits as a database would, and counts.
    async fn work(&self) -> u64 {
        tokio::time::sleep(LATENCY).await;
        self.served.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The origin's routes.
pub(super) fn router() -> Router {
    Router::new()
        .route("/users/{id}", get(user).put(put_user))
        .route("/users/{id}/permissions", get(permissions))
        .route("/help/queue", get(queue))
        .route("/help/requests/{id}", get(help_request))
        .route("/donations/stats/daily/{date}", get(donations))
        .route("/metrics/dashboard", get(dashboard))
        .route("/config/{name}", get(config))
        .route("/login", post(login))
        .fallback(site)
        .with_state(Arc::new(Origin::default()))
}

fn json_answer(value: &Value) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        format!("{value}\n"),
    )
        .into_response()
}

async fn user(State(origin): State<Arc<Origin>>, Path(id): Path<String>) -> Response {
    let answer = origin.work().await;
    let (version, profile) = {
        let mut users = origin.users.lock();
        users
            .entry(id.clone())
            .or_insert_with(|| (1, json!({ "name": format!("User {id}") })))
            .clone()
    };
    json_answer(
        &json!({ "id": id, "version": version, "profile": profile, "origin_answer": answer }),
    )
}

async fn put_user(
    State(origin): State<Arc<Origin>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let answer = origin.work().await;
    let Ok(profile) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "the body must be JSON\n").into_response();
    };
    let version = {
        let mut users = origin.users.lock();
        let version = users.get(&id).map_or(1, |(version, _)| version + 1);
        users.insert(id.clone(), (version, profile.clone()));
        version
    };
    json_answer(
        &json!({ "id": id, "version": version, "profile": profile, "origin_answer": answer }),
    )
}

async fn permissions(State(origin): State<Arc<Origin>>, Path(id): Path<String>) -> Response {
    let answer = origin.work().await;
    json_answer(&json!({ "user": id, "roles": ["volunteer"], "origin_answer": answer }))
}

async fn queue(State(origin): State<Arc<Origin>>) -> Response {
    let answer = origin.work().await;
    json_answer(&json!({ "active": [17, 23, 42], "origin_answer": answer }))
}

async fn help_request(State(origin): State<Arc<Origin>>, Path(id): Path<String>) -> Response {
    let answer = origin.work().await;
    json_answer(&json!({ "request": id, "state": "open", "origin_answer": answer }))
}

async fn donations(State(origin): State<Arc<Origin>>, Path(date): Path<String>) -> Response {
    let answer = origin.work().await;
    json_answer(&json!({ "date": date, "sum": 1_234, "origin_answer": answer }))
}

async fn dashboard(State(origin): State<Arc<Origin>>, headers: HeaderMap) -> Response {
    let answer = origin.work().await;
    let role = headers
        .get("x-user-role")
        .map_or("anonymous".into(), |role| {
            String::from_utf8_lossy(role.as_bytes()).into_owned()
        });
    json_answer(&json!({ "role": role, "open_requests": 3, "origin_answer": answer }))
}

async fn config(State(origin): State<Arc<Origin>>, Path(name): Path<String>) -> Response {
    let answer = origin.work().await;
    json_answer(&json!({ "name": name, "value": true, "origin_answer": answer }))
}

async fn login(State(origin): State<Arc<Origin>>) -> Response {
    let answer = origin.work().await;
    json_answer(&json!({ "token": "none, this is a demo", "origin_answer": answer }))
}

async fn site(State(origin): State<Arc<Origin>>, request: axum::extract::Request) -> Response {
    let answer = origin.work().await;
    let path = request.uri().path();
    let kind = match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        Some("svg") => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    };
    let body = match kind {
        "text/javascript" => format!("console.log('answer {answer}');\n"),
        "text/css" => format!("/* answer {answer} */ body {{ font: 16px sans-serif }}\n"),
        "image/svg+xml" => {
            "<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>\n".to_owned()
        }
        _ => {
            format!("<!doctype html><title>demo</title><p>{path}, answer {answer} of the origin\n")
        }
    };
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}
