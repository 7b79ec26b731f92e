//! The table of routes, and what all of them share.

mod connections;
mod inspect;
mod invalidation;
mod policies;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use http::uri::Authority;
use http::{Method, StatusCode, Uri};
use tokio::sync::Semaphore;

use crate::auth::{self, Auth};
use crate::control::Control;
use crate::error::ApiError;

/// The largest JSON body, in bytes.
pub const MAX_JSON: usize = 1024 * 1024;
/// The largest component, in bytes.
pub const MAX_COMPONENT: usize = 64 * 1024 * 1024;
/// The field with a component's signature.
pub const SIGNATURE: &str = "weir-signature";
/// The most selectors in one invalidation: each is work that Redis does in one atomic step.
pub const MAX_SELECTORS: usize = 1000;
/// The most upgraded connections in one answer.
pub const MAX_CONNECTIONS: usize = 1000;

/// The most changes of policies in one answer.
pub const MAX_AUDIT: usize = 1000;

/// The most components that are received and loaded at once. Each may take seconds, for which
/// those of other policies do not wait.
const UPLOADS: usize = 4;

/// What a handler needs.
#[derive(Clone)]
struct App {
    control: Arc<dyn Control>,
    /// [`UPLOADS`], which bounds the memory for bodies.
    uploads: Arc<Semaphore>,
}

/// The API: every route, with whoever may not ask kept out.
pub fn router(auth: Auth, control: Arc<dyn Control>) -> Router {
    let app = App {
        control,
        uploads: Arc::new(Semaphore::new(UPLOADS)),
    };
    Router::new()
        .route("/v1/invalidate", post(invalidation::invalidate))
        .route("/v1/events", post(invalidation::event))
        .route("/v1/policies", get(policies::list))
        .route("/v1/policies/{name}", put(policies::put))
        .route("/v1/policies/{name}/shadow", post(policies::shadow))
        .route("/v1/policies/{name}/canary", post(policies::canary))
        .route("/v1/policies/{name}/promote", post(policies::promote))
        .route("/v1/policies/{name}/rollback", post(policies::rollback))
        .route("/v1/fleet", get(policies::fleet))
        .route("/v1/audit", get(policies::audit))
        .route("/v1/reload", post(policies::reload))
        .route("/v1/explain", get(inspect::explain))
        .route("/v1/inspect", get(inspect::inspect))
        .route("/v1/stats", get(inspect::stats))
        .route("/v1/connections", get(connections::list))
        .route("/v1/connections/{id}", delete(connections::cut))
        .route("/v1/status", get(inspect::status))
        .route("/metrics", get(inspect::metrics))
        .route("/healthz", get(inspect::healthz))
        .route("/readyz", get(inspect::readyz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
        .layer(middleware::from_fn(audit))
        .layer(middleware::from_fn_with_state(auth, auth::guard))
}

async fn not_found(uri: Uri) -> ApiError {
    let message = format!("there is nothing at {}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, message)
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!(
        "{} does not take {method}; the Allow field lists what it takes",
        uri.path()
    );
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// Every request that can change something leaves a line; the connection's span adds the peer.
async fn audit(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let method = request.method().clone();
    let uri = request.uri().clone();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::info!(%method, path = uri.path(), status, "admin request");
    response
}

/// An absolute `http` or `https` URL without user information.
fn absolute_url(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    (known && uri.authority().is_some_and(is_plain)).then_some(uri)
}

/// Whether an authority is `host` or `host:port` and no more.
pub(crate) fn is_plain(authority: &Authority) -> bool {
    let (text, host) = (authority.as_str(), authority.host());
    // An `Authority` has any text for a port.
    let is_port = |digits: &str| {
        digits.bytes().all(|digit| digit.is_ascii_digit())
            && (digits.is_empty() || digits.parse::<u16>().is_ok())
    };
    let rest = text.strip_prefix(host).filter(|_| !host.is_empty());
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}
