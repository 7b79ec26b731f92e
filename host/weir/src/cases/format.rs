//! The format: from the text of a file to cases, or to what is wrong with it and where.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use serde::Deserialize;
use serde_json::Value;
use serde_spanned::Spanned;
use weir_proxy::Assumed;

use super::MAX_CASES;
use super::values::{Data, Fields, Moment, OfMethod, Selects, Settings, Span, Status, Url};
use crate::config::Excerpt;

/// What the clock says where neither the file nor the case does: 2026 began.
const NOW: u64 = 1_767_225_600_000;
/// The route of a case that names none.
const EVERY_PATH: &str = "/{*rest}";
/// How often a request may be made before the one that a case is about.
const MOST_TIMES: u32 = 10_000;

/// All cases of a file.
#[derive(Debug)]
pub(crate) struct Suite {
    /// The file, as messages name it.
    pub(crate) file: String,
    /// What stands in it.
    pub(crate) text: String,
    /// For the policy's `configure`; absent: what the node gives it.
    pub(super) config: Option<Value>,
    /// Those of the policy; absent: those the node gives it.
    pub(super) namespaces: Option<Vec<String>>,
    pub(super) cases: Vec<Case>,
}

/// What is asked of a policy, and what it is to answer.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    /// Where its name stands.
    pub(super) line: usize,
    /// In place of the file's.
    pub(super) config: Option<Value>,
    /// Milliseconds since 1970 began.
    pub(super) now: u64,
    /// The pattern of the route that takes the requests.
    pub(super) route: String,
    /// What is done before.
    pub(super) before: Vec<(u32, Ask)>,
    pub(super) ask: Ask,
    pub(super) expected: Expected,
}

/// One question to a policy.
#[derive(Debug)]
pub(super) enum Ask {
    Request(Box<Request>),
    Event {
        kind: String,
        /// JSON text.
        data: String,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
    pub(super) content: Bytes,
    pub(super) response: Option<Assumed>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Lookup,
    Pass,
    Respond,
    /// The hook returns an error.
    Refused,
}

/// What a case expects. What is absent is not looked at.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) decision: Option<Kind>,
    pub(super) reason: Option<String>,
    pub(super) key: Option<String>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) origin: Option<String>,
    pub(super) status: Option<Status>,
    pub(super) headers: Option<Fields>,
    pub(super) body: Option<String>,
    pub(super) stored: Option<bool>,
    pub(super) lifetime: Option<Span>,
    pub(super) stale_while_revalidate: Option<Span>,
    pub(super) stale_if_error: Option<Span>,
    pub(super) invalidates: Option<Vec<Selects>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSuite {
    config: Option<Settings>,
    namespaces: Option<Vec<String>>,
    now: Option<Moment>,
    #[serde(default)]
    case: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: Spanned<String>,
    config: Option<Settings>,
    now: Option<Moment>,
    route: Option<String>,
    #[serde(default)]
    before: Vec<Spanned<RawStep>>,
    request: Option<RawRequest>,
    response: Option<RawResponse>,
    event: Option<RawEvent>,
    decision: Option<Kind>,
    reason: Option<String>,
    key: Option<String>,
    tags: Option<Vec<String>>,
    origin: Option<String>,
    status: Option<Status>,
    headers: Option<Fields>,
    body: Option<String>,
    stored: Option<bool>,
    lifetime: Option<Span>,
    stale_while_revalidate: Option<Span>,
    stale_if_error: Option<Span>,
    invalidates: Option<Vec<Selects>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    request: Option<RawRequest>,
    response: Option<RawResponse>,
    event: Option<RawEvent>,
    times: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    url: Url,
    method: Option<OfMethod>,
    #[serde(default)]
    headers: Fields,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResponse {
    status: Option<Status>,
    #[serde(default)]
    headers: Fields,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    #[serde(rename = "type")]
    kind: String,
    data: Option<Data>,
}

/// What is wrong with a file of cases: file, line, column, key and message, then the line.
#[derive(Debug)]
pub(crate) struct FormatError(String);

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FormatError {}

impl FormatError {
    fn at(file: &str, text: &str, span: &Range<usize>, key: &str, message: &str) -> Self {
        let (at, excerpt) = Excerpt::locate(text, span);
        let (line, column) = (at.line, at.column);
        let key = match key {
            "" => String::new(),
            key => format!(" {key}:"),
        };
        let gap = " ".repeat(line.to_string().len());
        Self(format!(
            "{file}:{line}:{column}:{key} {message}\n   {line} | {}\n   {gap} | {}",
            excerpt.text, excerpt.marks
        ))
    }
}

impl Suite {
    /// Reads cases; `file` is what messages name.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, FormatError> {
        let toml = |error: &toml::de::Error, key: &str| {
            let span = error.span().unwrap_or_default();
            FormatError::at(file, text, &span, key, error.message().trim())
        };
        let document = toml::Deserializer::parse(text).map_err(|error| toml(&error, ""))?;
        let raw: RawSuite = serde_path_to_error::deserialize(document)
            .map_err(|error| toml(error.inner(), &key(error.path())))?;
        let whole = |message: &str| Err(FormatError::at(file, text, &(0..0), "", message));
        if raw.case.is_empty() {
            return whole(
                "there is no case; write [[case]], a name, a request and what is expected",
            );
        }
        if raw.case.len() > MAX_CASES {
            return whole("more than 1,000 cases; divide them, or leave some out");
        }
        let now = raw.now.map_or(NOW, |now| now.0);
        let line = |span: &Range<usize>| Excerpt::locate(text, span).0.line;
        let cases = raw.case.into_iter().enumerate().map(|(index, raw)| {
            let name = raw.name.span();
            let line = line(&name);
            raw.resolve(line, now).map_err(|wrong| {
                let span = wrong.span.unwrap_or(name);
                let key = format!("case[{index}]{}", wrong.key);
                FormatError::at(file, text, &span, &key, &wrong.message)
            })
        });
        Ok(Self {
            file: file.to_owned(),
            text: text.to_owned(),
            cases: cases.collect::<Result<_, _>>()?,
            config: raw.config.map(|config| config.0),
            namespaces: raw.namespaces,
        })
    }
}

/// A key's path, without what stands for the places of values.
fn key(path: &serde_path_to_error::Path) -> String {
    let mut key = String::new();
    for segment in path.iter() {
        match segment {
            serde_path_to_error::Segment::Seq { index } => key.push_str(&format!("[{index}]")),
            serde_path_to_error::Segment::Map { key: name } if !name.starts_with('$') => {
                if !key.is_empty() {
                    key.push('.');
                }
                key.push_str(name);
            }
            _ => {}
        }
    }
    key
}

/// What is wrong with a case.
struct Wrong {
    /// What follows the case's own key.
    key: String,
    /// Where; else at the case's name.
    span: Option<Range<usize>>,
    message: String,
}

impl Wrong {
    fn new(key: &str, message: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            span: None,
            message: message.into(),
        }
    }
}

impl RawCase {
    fn resolve(self, line: usize, now: u64) -> Result<Case, Wrong> {
        self.check()?;
        let before = self.before.into_iter().enumerate().map(|(index, step)| {
            let span = step.span();
            step.into_inner().resolve().map_err(|wrong| Wrong {
                key: format!(".before[{index}]{}", wrong.key),
                span: Some(span),
                ..wrong
            })
        });
        Ok(Case {
            name: self.name.into_inner(),
            line,
            config: self.config.map(|config| config.0),
            now: self.now.map_or(now, |now| now.0),
            route: self.route.unwrap_or_else(|| EVERY_PATH.to_owned()),
            before: before.collect::<Result<_, _>>()?,
            ask: ask(self.request, self.response, self.event)?,
            expected: Expected {
                decision: self.decision,
                reason: self.reason,
                key: self.key,
                tags: self.tags,
                origin: self.origin,
                status: self.status,
                headers: self.headers,
                body: self.body,
                stored: self.stored,
                lifetime: self.lifetime,
                stale_while_revalidate: self.stale_while_revalidate,
                stale_if_error: self.stale_if_error,
                invalidates: self.invalidates,
            },
        })
    }

    /// Refuses what would never be compared.
    fn check(&self) -> Result<(), Wrong> {
        let of_request = [
            ("key", self.key.is_some()),
            ("tags", self.tags.is_some()),
            ("origin", self.origin.is_some()),
            ("status", self.status.is_some()),
            ("headers", self.headers.is_some()),
            ("body", self.body.is_some()),
        ];
        let of_response = [
            ("stored", self.stored.is_some()),
            ("lifetime", self.lifetime.is_some()),
            (
                "stale_while_revalidate",
                self.stale_while_revalidate.is_some(),
            ),
            ("stale_if_error", self.stale_if_error.is_some()),
        ];
        let given = |keys: &[(&'static str, bool)]| {
            let mut given = keys.iter().filter(|(_, given)| *given);
            given.next().map(|(key, _)| *key)
        };
        let invalidates = self.invalidates.is_some();
        let any = self.decision.is_some() || self.reason.is_some() || invalidates;
        let (request, response) = (given(&of_request), given(&of_response));
        if !any && request.is_none() && response.is_none() {
            return Err(Wrong::new(
                "",
                "the case expects nothing; write e.g. decision = \"lookup\" and a key",
            ));
        }
        if self.event.is_some() {
            return match request.or(response) {
                Some(key) => Err(Wrong::new(
                    &format!(".{key}"),
                    "an event has no such thing; expect `invalidates`, or decision = \"refused\"",
                )),
                None if self.decision.is_some_and(|kind| kind != Kind::Refused) => Err(Wrong::new(
                    ".decision",
                    "of an event only \"refused\" can be expected",
                )),
                None => Ok(()),
            };
        }
        let about = response.or(invalidates.then_some("invalidates"));
        match (about, &self.response) {
            (Some(key), None) => Err(Wrong::new(
                &format!(".{key}"),
                "it says what becomes of a response; give the case one: response = { status = 200 }",
            )),
            _ => Ok(()),
        }
    }
}

impl RawStep {
    fn resolve(self) -> Result<(u32, Ask), Wrong> {
        let times = self.times.unwrap_or(1);
        if !(1..=MOST_TIMES).contains(&times) {
            return Err(Wrong::new(".times", "write a number from 1 to 10000"));
        }
        Ok((times, ask(self.request, self.response, self.event)?))
    }
}

fn ask(
    request: Option<RawRequest>,
    response: Option<RawResponse>,
    event: Option<RawEvent>,
) -> Result<Ask, Wrong> {
    match (request, event) {
        (Some(request), None) => Ok(Ask::Request(Box::new(Request {
            method: request.method.map_or(Method::GET, |method| method.0),
            url: request.url.0,
            headers: request.headers.0,
            content: request.body.into(),
            response: response.map(|response| Assumed {
                status: response
                    .status
                    .map_or(http::StatusCode::OK, |status| status.0),
                headers: response.headers.0,
            }),
        }))),
        (None, Some(event)) if response.is_none() => Ok(Ask::Event {
            kind: event.kind,
            data: event.data.map_or(Value::Null, |data| data.0).to_string(),
        }),
        (None, Some(_)) => Err(Wrong::new(".response", "an event has no response")),
        (Some(_), Some(_)) => Err(Wrong::new(
            ".event",
            "a case is about a request or about an event, not both",
        )),
        (None, None) => Err(Wrong::new(
            "",
            "there is nothing to ask; write request = { url = \"https://example.org/\" }, or event = { type = \"…\" }",
        )),
    }
}
