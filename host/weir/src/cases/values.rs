//! What stands in cases, read from TOML.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;

/// A method of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct OfMethod(pub(super) Method);

impl TryFrom<String> for OfMethod {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let method = text.parse();
        method
            .map(Self)
            .map_err(|_| format!("{text:?} is not a method; write e.g. \"GET\""))
    }
}

/// An absolute URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Url(pub(super) Uri);

impl TryFrom<String> for Url {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const HINT: &str = "write http://HOST/PATH or https://HOST/PATH";
        let url: Uri = text
            .parse()
            .map_err(|error| format!("{text:?} is not a URL ({error}); {HINT}"))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.authority().is_none() {
            return Err(format!("{text:?} is not absolute; {HINT}"));
        }
        Ok(Self(url))
    }
}

/// A status code.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u16")]
pub(super) struct Status(pub(super) StatusCode);

impl TryFrom<u16> for Status {
    type Error = String;

    fn try_from(code: u16) -> Result<Self, String> {
        let status = StatusCode::from_u16(code);
        status
            .map(Self)
            .map_err(|_| format!("{code} is not a status code; write e.g. 200"))
    }
}

/// A duration with its unit.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Span(pub(super) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let span = humantime::parse_duration(&text);
        span.map(Self)
            .map_err(|_| format!("{text:?} is not a duration; write a unit: \"30s\", \"1h 30m\""))
    }
}

/// A moment, in milliseconds since 1970 began.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Moment(pub(super) u64);

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a time; write e.g. \"2026-01-01T00:00:00Z\"");
        let time = humantime::parse_rfc3339(&text).map_err(|_| wrong())?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
        u64::try_from(since.as_millis())
            .map(Self)
            .map_err(|_| wrong())
    }
}

/// Header fields: each a value or a list of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, OneOrMany>")]
pub(super) struct Fields(pub(super) HeaderMap);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a field's value is a string or a list of strings"
)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<BTreeMap<String, OneOrMany>> for Fields {
    type Error = String;

    fn try_from(written: BTreeMap<String, OneOrMany>) -> Result<Self, String> {
        let mut fields = HeaderMap::new();
        for (name, values) in written {
            let parsed: HeaderName = name
                .parse()
                .map_err(|_| format!("{name:?} is not the name of a header field"))?;
            let values = match values {
                OneOrMany::One(value) => vec![value],
                OneOrMany::Many(values) => values,
            };
            for value in values {
                let value = HeaderValue::from_str(&value).map_err(|_| {
                    format!("{value:?} is not a value that the field {name} can have")
                })?;
                let appended = fields.try_append(&parsed, value);
                appended.map_err(|_| "these are more header fields than a message can have")?;
            }
        }
        Ok(Self(fields))
    }
}

/// What is purged, as `weir explain` writes it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub(super) struct Selects(pub(super) String);

impl TryFrom<String> for Selects {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const KINDS: [&str; 5] = ["url:", "key:", "tag:", "namespace:", "prefix:"];
        let rest = text.strip_prefix("soft ").unwrap_or(&text);
        let on_host = rest
            .strip_prefix("on ")
            .and_then(|rest| rest.split_once(' '));
        let rest = on_host.map_or(rest, |(_, rest)| rest);
        if rest == "all" || KINDS.iter().any(|kind| rest.starts_with(kind)) {
            return Ok(Self(text));
        }
        Err(format!(
            "{text:?} is no selector; write \"tag:NAME\", \"key:NAMESPACE:PART\", \"url:http://…\", \
             \"namespace:NAME\" or \"prefix:NAMESPACE:TEXT\", with \"soft \" or \"on HOST \" before it"
        ))
    }
}

/// Settings for `configure`, as the node gives them.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "toml::Table")]
pub(super) struct Settings(pub(super) serde_json::Value);

impl TryFrom<toml::Table> for Settings {
    type Error = String;

    fn try_from(table: toml::Table) -> Result<Self, String> {
        json(&toml::Value::Table(table)).map(Self)
    }
}

/// Data of an event.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "toml::Value")]
pub(super) struct Data(pub(super) serde_json::Value);

impl TryFrom<toml::Value> for Data {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        json(&value).map(Self)
    }
}

/// TOML as JSON. Dates become strings, as in the node's configuration.
fn json(value: &toml::Value) -> Result<serde_json::Value, String> {
    Ok(match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(*number)
            .ok_or_else(|| format!("{number} has no form in JSON"))?
            .into(),
        toml::Value::Boolean(value) => (*value).into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(values) => values.iter().map(json).collect::<Result<_, _>>()?,
        toml::Value::Table(table) => table
            .iter()
            .map(|(key, value)| Ok((key.clone(), json(value)?)))
            .collect::<Result<serde_json::Map<_, _>, String>>()?
            .into(),
    })
}
