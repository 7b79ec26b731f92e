//! A policy whose settings say what it keys, reads, tags and changes. For tests of the host.

use std::time::Duration;

use serde::Deserialize;
use weir_sdk::prelude::*;

/// One part of a key, a tag or a change.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Named {
    Text(String),
    Method,
    Path,
    Param(String),
    QueryParam(String),
    QueryOnly(Vec<String>),
    QueryWithout(Vec<String>),
    Header(String),
    Cookie(String),
    Language(Vec<String>),
    Device,
    BodyDigest,
    /// What the policy reads of a header field, as text of its own.
    Read(String),
    /// The same of a cookie.
    ReadCookie(String),
    /// The cookie of this name if there is one, and else the header field `x-NAME`.
    Either(String),
}

impl Named {
    fn part(&self, request: &Request) -> Part {
        match self {
            Self::Text(value) => text(value),
            Self::Method => method(),
            Self::Path => path(),
            Self::Param(name) => param(name),
            Self::QueryParam(name) => query_param(name),
            Self::QueryOnly(names) => query_only(names.clone()),
            Self::QueryWithout(names) => query_without(names.clone()),
            Self::Header(name) => header(name),
            Self::Cookie(name) => cookie(name),
            Self::Language(available) => language(available.clone()),
            Self::Device => device(),
            Self::BodyDigest => body_digest(),
            Self::Read(name) => text(request.header_text(name).unwrap_or_default()),
            Self::ReadCookie(name) => {
                let values = request.cookie(name);
                let first = values.first().map(|value| String::from_utf8_lossy(value));
                text(first.unwrap_or_default())
            }
            Self::Either(name) => match request.cookie(name).is_empty() {
                true => header(format!("x-{name}")),
                false => cookie(name),
            },
        }
    }
}

/// The settings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    key: Vec<Named>,
    tags: Vec<Vec<Named>>,
    note: Option<Named>,
    target: Option<Vec<Named>>,
    headers: Vec<(String, Vec<Named>)>,
    without: Vec<String>,
    /// Header fields that are read and that nothing depends on.
    reads: Vec<String>,
    /// Decides on one lookup of the path, made once, unless the request has this header field:
    /// then on a copy of it with the field in the key too. All else is left out.
    prepared: Option<String>,
    /// A header field whose value becomes a tag of the response, if `on-response` sees it.
    response_tag: Option<String>,
}

/// The policy.
#[derive(Debug)]
pub struct Probe {
    settings: Settings,
    prepared: Lookup,
}

impl Policy for Probe {
    type Config = Settings;

    fn configure(settings: Settings) -> Result<Self, String> {
        Ok(Self {
            settings,
            prepared: Lookup::new("probe").key(path()),
        })
    }

    fn on_request(&self, request: &Request) -> Result<Decision, String> {
        let settings = &self.settings;
        if let Some(name) = &settings.prepared {
            let lookup = self.prepared.clone();
            return Ok(match request.header(name).is_empty() {
                true => lookup.into(),
                false => lookup.key(header(name)).into(),
            });
        }
        for name in &settings.reads {
            request.header(name);
        }
        let parts = |named: &[Named]| -> Vec<Part> {
            named.iter().map(|named| named.part(request)).collect()
        };
        let mut lookup = Lookup::new("probe").keys(parts(&settings.key));
        for tag in &settings.tags {
            lookup = lookup.tag(parts(tag));
        }
        if let Some(Part::Text(note)) = settings.note.as_ref().map(|named| named.part(request)) {
            lookup = lookup.note(note);
        }
        if let Some(target) = &settings.target {
            lookup = lookup.origin_target(parts(target));
        }
        for (name, value) in &settings.headers {
            lookup = lookup.origin_header(name, parts(value));
        }
        for name in &settings.without {
            lookup = lookup.origin_without_header(name);
        }
        Ok(lookup.into())
    }

    fn on_response(&self, request: &Request, response: &Response) -> Result<(), String> {
        if response.status() == 200 {
            response
                .set_lifetime(Duration::from_secs(600))
                .set_stale_while_revalidate(Duration::from_secs(600));
        }
        if let Some(name) = &self.settings.response_tag
            && let Some(value) = request.header_text(name)
        {
            response.tag(&value);
        }
        Ok(())
    }
}

weir_sdk::export!(Probe);
