//! Reading bodies: the media type, the bound, and JSON whose errors name the field.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::ApiError;
use crate::routes::MAX_JSON;

/// How long a body may take to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// One field of a JSON body, as errors speak of it.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// A value of the right type, as it would be written.
    pub(crate) example: &'static str,
    pub(crate) required: bool,
}

/// A JSON object that the API reads. Its fields are listed so that errors can suggest.
pub(crate) trait JsonObject: DeserializeOwned {
    const FIELDS: &'static [Field];
}

/// The body of a request that needs none: absent, or `{}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

impl JsonObject for Nothing {
    const FIELDS: &'static [Field] = &[];
}

/// Reads a JSON object of type `T`.
pub(crate) async fn json<T: JsonObject>(request: Request) -> Result<T, ApiError> {
    parse(&json_bytes(request).await?)
}

/// Checks that the body is absent or an empty object. The media type is asked for all the same:
/// a page on another site can send an empty POST, but not with this type.
pub(crate) async fn nothing(request: Request) -> Result<(), ApiError> {
    let bytes = json_bytes(request).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(());
    }
    parse::<Nothing>(&bytes).map(|Nothing {}| ())
}

async fn json_bytes(request: Request) -> Result<Bytes, ApiError> {
    require_type(request.headers(), &["application/json"])?;
    read(request, MAX_JSON).await
}

/// Checks the media type of the body, parameters aside.
pub(crate) fn require_type(headers: &HeaderMap, wanted: &[&str]) -> Result<(), ApiError> {
    let mut fields = headers.get_all(header::CONTENT_TYPE).iter();
    if let (Some(field), None) = (fields.next(), fields.next()) {
        let bytes = field.as_bytes();
        let end = bytes.iter().position(|byte| *byte == b';');
        let essence = bytes[..end.unwrap_or(bytes.len())].trim_ascii();
        if wanted
            .iter()
            .any(|want| essence.eq_ignore_ascii_case(want.as_bytes()))
        {
            return Ok(());
        }
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("send `Content-Type: {}`", wanted.join("` or `")),
    ))
}

/// Reads a body of at most `limit` bytes; one that declares more is refused unread.
pub(crate) async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {limit} bytes"),
        )
    };
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|field| std::str::from_utf8(field.as_bytes()).ok())
        .and_then(|text| text.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(READ_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("the body ended early: {error}"),
        )),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body took longer than {} s", READ_TIMEOUT.as_secs()),
        )),
    }
}

fn parse<T: JsonObject>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would read an array as the fields in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "the body must be a JSON object, `{…}`",
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = match serde_path_to_error::deserialize(&mut deserializer) {
        Ok(value) => value,
        Err(error) => {
            let path = error.path().to_string();
            return Err(explain::<T>(bytes, &path, &error.into_inner()));
        }
    };
    deserializer.end().map_err(|error| syntax(&error))?;
    Ok(value)
}

fn syntax(error: &serde_json::Error) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        format!("the body is not JSON: {error}"),
    )
}

/// Says which field is wrong. Reading only the names again finds unknown and missing ones
/// without taking serde's text apart.
fn explain<T: JsonObject>(bytes: &[u8], path: &str, error: &serde_json::Error) -> ApiError {
    if !error.is_data() {
        return syntax(error);
    }
    let names = match serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(bytes) {
        Ok(names) => names,
        Err(error) => return syntax(&error),
    };
    let known: Vec<&str> = T::FIELDS.iter().map(|field| field.name).collect();
    if let Some(name) = names.keys().find(|name| !known.contains(&name.as_str())) {
        return unknown(name, &known);
    }
    let top = path.split(['.', '[']).next().unwrap_or_default();
    if let Some(field) = T::FIELDS.iter().find(|field| field.name == top) {
        let message = format!(
            "`{path}`: {error}; write \"{}\": {}",
            field.name, field.example
        );
        return ApiError::field(path, message);
    }
    let missing = |field: &&Field| field.required && !names.contains_key(field.name);
    match T::FIELDS.iter().find(missing) {
        Some(field) => ApiError::field(
            field.name,
            format!(
                "`{0}` is missing; write \"{0}\": {1}",
                field.name, field.example
            ),
        ),
        None => ApiError::new(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

/// The error for a name that is none of `known`, with the nearest of them.
pub(crate) fn unknown(name: &str, known: &[&str]) -> ApiError {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let shown: String = name.chars().take(100).collect();
    let hint = match nearest {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "this request takes none".to_owned(),
        None => format!("the known ones are `{}`", known.join("`, `")),
    };
    ApiError::field(shown.clone(), format!("unknown field `{shown}`; {hint}"))
}
