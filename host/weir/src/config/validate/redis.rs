//! The Redis tier and its URL.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

use super::super::errors::{Findings, Place};
use super::super::model::{Redis, RedisAddress};
use super::super::raw;
use super::super::read::At;
use super::super::secret::Secret;
use super::{bytes, to_u32, value};

/// Redis's own port.
const PORT: u16 = 6379;
/// The default of `min_idle`, if the pool is that large.
const MIN_IDLE: u64 = 5;

/// What a URL says.
struct Target {
    address: RedisAddress,
    database: u32,
    username: Option<String>,
    password: Option<Secret>,
}

pub(super) fn resolve(
    redis: At<raw::Redis>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<Redis> {
    let raw = redis.value;
    let target = raw.url.as_ref().and_then(|url| parse(url, findings));
    check_pool(&raw, findings);
    check_prefix(raw.prefix.as_ref()?, findings);
    if let (Some(object), Some(queue)) = (&raw.max_object, &raw.queue)
        && object.value > queue.value
    {
        let (place, hint) = if object.place.given {
            (
                &object.place,
                "write a smaller max_object, or a larger queue",
            )
        } else {
            (
                &queue.place,
                "write a larger queue, or a smaller max_object (\"8MiB\" by default)",
            )
        };
        findings.error(
            place,
            "an object of max_object bytes would never fit into the queue",
            hint,
        );
    }
    let target = target?;
    let in_url = target.password.as_ref().map(|_| "the URL");
    check_password(&raw, in_url, folder, findings);
    Some(Redis {
        address: target.address,
        database: target.database,
        username: raw.username.map(|at| at.value).or(target.username),
        given_password: raw
            .password
            .map(|at| Secret::new(at.value))
            .or(target.password),
        password_file: raw.password_file.map(|file| folder.join(file.value)),
        prefix: raw.prefix?.value,
        pool_size: to_u32(value(&raw.pool_size)?),
        min_idle: to_u32(value(&raw.min_idle).unwrap_or(MIN_IDLE.min(value(&raw.pool_size)?))),
        deadline: value(&raw.deadline)?,
        coherence_window: value(&raw.coherence_window)?,
        max_object: bytes(&raw.max_object)?,
        queue: bytes(&raw.queue)?,
        compress_above: bytes(&raw.compress_above),
        lease: value(&raw.lease)?,
        connections_ttl: value(&raw.connections_ttl)?,
    })
}

fn check_pool(raw: &raw::Redis, findings: &mut Findings<'_>) {
    if let (Some(idle), Some(size)) = (&raw.min_idle, &raw.pool_size)
        && idle.value > size.value
    {
        findings.error(
            &idle.place,
            format!(
                "{} idle connections do not fit into a pool of {}",
                idle.value, size.value
            ),
            format!(
                "write at most min_idle = {}, or a larger pool_size",
                size.value
            ),
        );
    }
}

fn check_prefix(prefix: &At<String>, findings: &mut Findings<'_>) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    if prefix.value.len() > 64 || !prefix.value.bytes().all(allowed) {
        findings.error(
            &prefix.place,
            format!("{:?} cannot begin the names of keys", prefix.value),
            "use ASCII letters, digits, `-`, `_`, `.` and `:`, at most 64; braces would move keys to other slots of a cluster",
        );
    }
}

/// There must be one password at most, and its file must be of use.
fn check_password(
    raw: &raw::Redis,
    in_url: Option<&str>,
    folder: &Path,
    findings: &mut Findings<'_>,
) {
    let earlier = raw.password.as_ref().map(|_| "`password`").or(in_url);
    let later = raw.password_file.as_ref().map(|file| &file.place);
    let second = later.or(raw
        .password
        .as_ref()
        .filter(|_| in_url.is_some())
        .map(|at| &at.place));
    let first = if later.is_some() { earlier } else { in_url };
    if let (Some(first), Some(place)) = (first, second) {
        let hint = "keep one of them, best password_file";
        findings.error(place, format!("{first} gives a password already"), hint);
    }
    if let Some(file) = raw.password_file.as_ref().filter(|_| findings.check_files) {
        let path = folder.join(&file.value);
        if let Err(error) = super::super::secret::read_secret(&path) {
            findings.error(
                &file.place,
                format!("no password can be taken from {}: {error}", path.display()),
                "write the password into that file, or remove the key if Redis asks for none",
            );
        }
    }
}

/// Parses `redis://[USER:PASSWORD@]HOST[:PORT][/DB]` or `unix:///PATH[?db=DB]`.
fn parse(url: &At<String>, findings: &mut Findings<'_>) -> Option<Target> {
    let At { value: text, place } = url;
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("redis" | "redis+unix" | "unix") => {}
        Some(tls @ ("rediss" | "valkeys")) => {
            findings.error(
                &place.part(text, 0..tls.len()),
                "TLS to Redis is not built yet",
                "write redis://, or put a TLS proxy such as stunnel between",
            );
            return None;
        }
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
    if scheme == Some("redis") {
        tcp(&parsed, place, findings)
    } else {
        unix(&parsed, place, findings)
    }
}

fn tcp(url: &Url, place: &Place, findings: &mut Findings<'_>) -> Option<Target> {
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
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    Some(Target {
        address: RedisAddress::Tcp {
            host,
            port: url.port().unwrap_or(PORT),
        },
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
    let mut number = 0;
    for (name, value) in url.query_pairs() {
        if name != "db" {
            let hint = "only `?db=NUMBER` may follow the path; options are keys of [redis]";
            findings.error(place, format!("the URL has the option {name:?}"), hint);
            return None;
        }
        number = database(&value, place, findings)?;
    }
    Some(Target {
        address: RedisAddress::Unix(PathBuf::from(path?)),
        database: number,
        username: None,
        password: None,
    })
}

fn database(text: &str, place: &Place, findings: &mut Findings<'_>) -> Option<u32> {
    if text.is_empty() {
        return Some(0);
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
    number
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
