//! URLs of Redis.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use super::super::errors::{Findings, Place};
use super::super::model::Endpoint;
use super::super::read::At;
use super::super::secret::Secret;

/// Redis's own port.
const PORT: u16 = 6379;

/// What a URL says.
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    pub(super) tls: bool,
    /// None where the URL names no database.
    pub(super) database: Option<u32>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
}

/// Parses `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, the same with `rediss` for TLS, or
/// `unix:///PATH[?db=DB]`; `valkey` is another name of `redis`.
pub(super) fn parse(url: &At<String>, findings: &mut Findings<'_>) -> Option<Target> {
    let At { value: text, place } = url;
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let tls = matches!(scheme, Some("rediss" | "valkeys"));
    match scheme {
        Some("redis" | "rediss" | "valkey" | "valkeys") => {}
        Some("redis+unix" | "valkey+unix" | "unix") => {}
        _ => {
            findings.error(
                place,
                "this is not the URL of a Redis server",
                "write \"redis://127.0.0.1:6379/0\", or \"unix:///run/redis.sock\"",
            );
            return None;
        }
    }
    let parsed = match Url::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let hint = "write \"redis://HOST:PORT/DB\"";
            findings.error(place, format!("the URL cannot be parsed: {error}"), hint);
            return None;
        }
    };
    if scheme.is_some_and(|scheme| scheme.ends_with("unix")) {
        unix(&parsed, place, findings)
    } else {
        tcp(&parsed, tls, place, findings)
    }
}

fn tcp(url: &Url, tls: bool, place: &Place, findings: &mut Findings<'_>) -> Option<Target> {
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        let hint = "write \"redis://127.0.0.1:6379/0\"";
        findings.error(place, "the URL of Redis names no host", hint);
        return None;
    };
    if url.query().is_some() || url.fragment().is_some() {
        let hint = "leave out what follows `?` or `#`; options are keys of [redis]";
        findings.error(place, "the URL of Redis has options", hint);
        return None;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(Target {
        endpoint: Endpoint::tcp(host, url.port().unwrap_or(PORT)),
        tls,
        database: database(url.path().trim_start_matches('/'), place, findings)?,
        username: decoded(url.username(), place, findings)?,
        password: decoded(url.password().unwrap_or(""), place, findings)?.map(Secret::new),
    })
}

fn unix(url: &Url, place: &Place, findings: &mut Findings<'_>) -> Option<Target> {
    let path = decoded(url.path(), place, findings)?;
    if url.host_str().is_some_and(|host| !host.is_empty()) || path.is_none() {
        let hint = "write three slashes and the path: \"unix:///run/redis.sock\"";
        findings.error(place, "the URL names no socket", hint);
        return None;
    }
    let mut number = None;
    for (name, value) in url.query_pairs() {
        if name != "db" {
            let hint = "only `?db=NUMBER` may follow the path; options are keys of [redis]";
            findings.error(place, format!("the URL has the option {name:?}"), hint);
            return None;
        }
        number = database(&value, place, findings)?;
    }
    Some(Target {
        endpoint: Endpoint::Unix(PathBuf::from(path?)),
        tls: false,
        database: number,
        username: None,
        password: None,
    })
}

/// The outer None is an error, the inner one that there is no number.
fn database(text: &str, place: &Place, findings: &mut Findings<'_>) -> Option<Option<u32>> {
    if text.is_empty() {
        return Some(None);
    }
    let number = text.parse::<u16>().ok().map(u32::from);
    if number.is_none() {
        let hint = "write a number, such as redis://127.0.0.1:6379/0";
        findings.error(
            place,
            format!("{text:?} is not the number of a database"),
            hint,
        );
    }
    number.map(Some)
}

/// Percent-decodes a part of a URL. An empty one is none.
fn decoded(text: &str, place: &Place, findings: &mut Findings<'_>) -> Option<Option<String>> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Some((!text.is_empty()).then(|| text.into_owned())),
        Err(_) => {
            let hint = "percent-encode the bytes of UTF-8 text, or use the keys of [redis]";
            findings.error(place, "a part of the URL is not UTF-8", hint);
            None
        }
    }
}

/// Parses `HOST[:PORT]` of a sentinel, also with `redis://` or `rediss://` before it. Says
/// whether it is TLS.
pub(super) fn sentinel(
    text: &At<String>,
    port: u16,
    findings: &mut Findings<'_>,
) -> Option<(Endpoint, bool)> {
    let At { value, place } = text;
    let (scheme, rest) = value.split_once("://").unwrap_or(("redis", value));
    let tls = match scheme {
        "redis" | "valkey" => Some(false),
        "rediss" | "valkeys" => Some(true),
        _ => None,
    };
    let parsed = Url::parse(&format!("redis://{rest}")).ok();
    let plain = parsed.as_ref().filter(|url| {
        let path = matches!(url.path(), "" | "/");
        let user = url.username().is_empty() && url.password().is_none();
        path && user && url.query().is_none() && url.fragment().is_none()
    });
    let host = plain.and_then(|url| url.host_str().filter(|host| !host.is_empty()));
    let (Some(tls), Some(url), Some(host)) = (tls, plain, host) else {
        let hint = "write \"HOST:26379\", or \"rediss://HOST:26379\"; users and passwords are keys of [redis.sentinel]";
        findings.error(place, "this is not the address of a sentinel", hint);
        return None;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((Endpoint::tcp(host, url.port().unwrap_or(port)), tls))
}
