//! The one form of every error: `{"error":{"message":…,"field":…}}`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::control::{ControlError, ControlErrorKind};

/// An answer that says what was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) field: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            field: None,
        }
    }

    /// A 400 that is the fault of one field.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            field: Some(field.into()),
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let (status, field) = match error.kind {
            ControlErrorKind::BadRequest { field } => (StatusCode::BAD_REQUEST, field),
            ControlErrorKind::NotFound => (StatusCode::NOT_FOUND, None),
            ControlErrorKind::Conflict => (StatusCode::CONFLICT, None),
            ControlErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, None),
            ControlErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        Self {
            status,
            message: error.message,
            field,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"message": self.message, "field": self.field}});
        let mut response = (self.status, axum::Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1: a 401 names its scheme.
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"weir\""),
            );
        }
        response
    }
}
