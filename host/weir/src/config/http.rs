//! Readers of what HTTP names: header fields, statuses.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use toml::de::DeValue;

use super::errors::{Findings, Place};
use super::read::{Read, mismatch};

/// The longest time for which an error without a lifetime of its own is kept.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(24 * 60 * 60);

/// The name of a header field.
#[derive(Clone, Debug)]
pub(super) struct FieldName(pub(super) HeaderName);

/// Lifetimes by status.
#[derive(Clone, Debug)]
pub(super) struct Lifetimes(pub(super) Vec<(StatusCode, Duration)>);

impl Read for FieldName {
    fn kind() -> String {
        "field name".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        let text = String::read(value, place, findings)?;
        let name = HeaderName::from_bytes(text.as_bytes()).ok();
        if name.is_none() {
            findings.error(
                place,
                format!("{text:?} is not the name of a header field"),
                "write a name such as \"cdn-cache-control\"",
            );
        }
        name.map(Self)
    }
}

impl Read for Lifetimes {
    fn kind() -> String {
        "table of durations by status".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        let DeValue::Table(table) = value else {
            let hint = "write a table: { 404 = \"10s\", 410 = \"1m\" }";
            mismatch(place, "table", value, hint, findings);
            return None;
        };
        let mut lifetimes = Vec::new();
        for (key, found) in table.iter() {
            let place = place.key(key.get_ref(), found.span());
            let status =
                key.get_ref().parse().ok().filter(|status: &StatusCode| {
                    status.is_client_error() || status.is_server_error()
                });
            let Some(status) = status else {
                findings.error(
                    &place,
                    format!("{:?} is not the status of an error", key.get_ref()),
                    "write a number from 400 to 599, such as 404",
                );
                continue;
            };
            if status == StatusCode::BAD_REQUEST {
                findings.error(
                    &place,
                    "a 400 may be the answer to what one client sent, and would be kept for all",
                    "leave 400 out: it is stored where the origin itself says for how long",
                );
                continue;
            }
            let Some(lifetime) = Duration::read(found.get_ref(), &place, findings) else {
                continue;
            };
            if lifetime.is_zero() || lifetime > LONGEST_NEGATIVE {
                findings.error(
                    &place,
                    "a lifetime of an error is more than \"0s\" and at most \"1d\"",
                    "leave the status out if such an answer is not to be kept",
                );
            }
            lifetimes.push((status, lifetime));
        }
        Some(Self(lifetimes))
    }
}
