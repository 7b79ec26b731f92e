//! Readers of single values: strings, numbers, durations, sizes, addresses.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::errors::{Findings, Place};
use super::read::{Read, mismatch};
use super::units::{self, Size};

/// `key = VALUE`, or only the value where it is in an array.
fn assign(place: &Place, value: &str) -> String {
    place.name().map_or_else(
        || format!("write {value}"),
        |name| format!("write {name} = {value}"),
    )
}

/// Takes the value as a string. `units` complete a bare integer in the hint.
fn string<'v>(
    value: &'v DeValue<'_>,
    place: &Place,
    kind: &str,
    (example, units): (&str, &[&str]),
    findings: &mut Findings<'_>,
) -> Option<&'v str> {
    match value {
        DeValue::String(text) => return Some(text),
        DeValue::Integer(number) => {
            let quoted = |unit: &&str| format!("\"{number}{unit}\"");
            let written: Vec<_> = units.iter().map(quoted).collect();
            let hint = if units.is_empty() {
                format!("it needs quotes: {}", assign(place, &quoted(&"")))
            } else {
                format!(
                    "a {kind} needs quotes and a unit: {}",
                    assign(place, &written.join(" or "))
                )
            };
            mismatch(place, kind, value, hint, findings);
        }
        _ => mismatch(place, kind, value, assign(place, example), findings),
    }
    None
}

impl Read for String {
    fn kind() -> String {
        "string".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        let text = string(value, place, "string", ("\"TEXT\"", &[]), findings)?;
        if text.is_empty() {
            findings.error(
                place,
                "the string is empty",
                "write a value, or leave the key out if it is optional",
            );
            return None;
        }
        Some(text.to_owned())
    }
}

impl Read for PathBuf {
    fn kind() -> String {
        "path".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        let text = string(value, place, "path", ("\"PATH\"", &[]), findings)?;
        if text.is_empty() || text.contains('\0') {
            findings.error(
                place,
                "the path names no file",
                "write a path; it is relative to the folder of the configuration file",
            );
            return None;
        }
        Some(Self::from(text))
    }
}

impl Read for bool {
    fn kind() -> String {
        "boolean".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        if let DeValue::Boolean(value) = value {
            return Some(*value);
        }
        mismatch(
            place,
            "boolean",
            value,
            "write true or false, without quotes",
            findings,
        );
        None
    }
}

impl Read for u64 {
    fn kind() -> String {
        "integer".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        let DeValue::Integer(number) = value else {
            let hint = match value {
                DeValue::String(text) if text.parse::<Self>().is_ok() => {
                    format!("leave the quotes out: {}", assign(place, text))
                }
                _ => "write a whole number, without quotes".to_owned(),
            };
            mismatch(place, "integer", value, hint, findings);
            return None;
        };
        let parsed = Self::from_str_radix(number.as_str(), number.radix());
        if parsed.is_err() {
            findings.error(
                place,
                format!("{number} is not a whole number from 0 to 2^64"),
                "write a smaller number, without a sign",
            );
        }
        parsed.ok()
    }

    fn compare(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Read for Duration {
    fn kind() -> String {
        "duration".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        let text = string(
            value,
            place,
            "duration",
            ("\"30s\"", &["s", "ms"]),
            findings,
        )?;
        let duration = units::duration(text);
        if duration.is_none() {
            findings.error(
                place,
                format!("{text:?} is not a duration"),
                "write a number and a unit: \"20ms\", \"30s\", \"5m\", \"24h\", \"30d\" or \"1h 30m\"",
            );
        }
        duration
    }

    fn compare(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Read for Size {
    fn kind() -> String {
        "size".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        let text = string(
            value,
            place,
            "size",
            ("\"64MiB\"", &["MiB", "KiB"]),
            findings,
        )?;
        let size = units::size(text);
        if size.is_none() {
            findings.error(
                place,
                format!("{text:?} is not a size"),
                "write a number and a unit: \"64KiB\", \"256MiB\" or \"1GiB\"",
            );
        }
        size
    }

    fn compare(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Read for SocketAddr {
    fn kind() -> String {
        "address".to_owned()
    }

    fn read(value: &DeValue<'_>, place: &Place, findings: &mut Findings<'_>) -> Option<Self> {
        let text = string(
            value,
            place,
            "address",
            ("\"127.0.0.1:8080\"", &[]),
            findings,
        )?;
        let parsed = text.parse();
        if parsed.is_err() {
            let port = text
                .rsplit(':')
                .next()
                .and_then(|port| port.parse::<u16>().ok());
            findings.error(
                place,
                format!("{text:?} is not an address to listen on"),
                format!(
                    "write an IP address and a port: \"127.0.0.1:{0}\", or \"0.0.0.0:{0}\" for all interfaces",
                    port.unwrap_or(8080)
                ),
            );
        }
        parsed.ok()
    }
}
