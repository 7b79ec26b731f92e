//! Upstreams and the URLs of their servers.

use std::collections::BTreeMap;

use url::Url;

use super::super::compound::Named;
use super::super::errors::{Findings, Place};
use super::super::model::{Server, Upstream};
use super::super::raw;
use super::super::read::At;
use super::{to_u32, to_usize, value};

pub(super) fn resolve(
    named: Named<raw::Upstream>,
    findings: &mut Findings<'_>,
) -> Option<BTreeMap<String, Upstream>> {
    // Not lazily: each is to report its errors.
    let resolved: Vec<_> = named
        .0
        .into_iter()
        .map(|(name, upstream)| Some((name, resolve_one(upstream.value?, findings)?)))
        .collect();
    resolved.into_iter().collect()
}

fn resolve_one(raw: raw::Upstream, findings: &mut Findings<'_>) -> Option<Upstream> {
    let listed = raw.servers?;
    if listed.value.is_empty {
        let hint = "write servers = [\"http://127.0.0.1:3000\"]";
        findings.error(&listed.place, "an upstream needs at least one server", hint);
    }
    let mut servers: Vec<Server> = Vec::new();
    for url in &listed.value.values {
        if let Some(server) = server(url, findings) {
            if servers.contains(&server) {
                let hint = "remove it; the servers of an upstream take equal shares";
                findings.warning(&url.place, "the server is listed twice", hint);
            }
            servers.push(server);
        }
    }
    Some(Upstream {
        servers,
        connect_timeout: value(&raw.connect_timeout)?,
        response_timeout: value(&raw.response_timeout)?,
        body_timeout: value(&raw.body_timeout)?,
        idle_timeout: value(&raw.idle_timeout)?,
        max_idle: to_usize(value(&raw.max_idle)?),
        retries: to_u32(value(&raw.retries)?),
    })
}

/// Parses `http://HOST[:PORT]`.
fn server(text: &At<String>, findings: &mut Findings<'_>) -> Option<Server> {
    let At { value, place } = text;
    let Some((scheme, rest)) = value.split_once("://") else {
        findings.error(
            place,
            "this is not the URL of a server",
            format!("write \"http://{}\"", bare(value.trim_start_matches('/'))),
        );
        return None;
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => {
            findings.error(
                &place.part(value, 0..scheme.len()),
                "TLS to upstreams is not built yet",
                format!(
                    "write \"http://{}\", or put a TLS proxy such as stunnel between",
                    bare(rest)
                ),
            );
            return None;
        }
        _ => {
            findings.error(
                &place.part(value, 0..scheme.len()),
                format!("a server is not reached by {scheme:?}"),
                format!("write \"http://{}\"", bare(rest)),
            );
            return None;
        }
    }
    let url = match Url::parse(value) {
        Ok(url) => url,
        Err(error) => {
            let hint = "write \"http://HOST\" or \"http://HOST:PORT\"";
            findings.error(place, format!("the URL cannot be parsed: {error}"), hint);
            return None;
        }
    };
    let end = scheme.len() + 3 + rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let origin = &value[..end];
    if !url.username().is_empty() || url.password().is_some() {
        findings.error(
            place,
            "the URL of a server has no user name or password",
            "leave out what stands before `@`; a policy can set the Authorization that the origin sees",
        );
        return None;
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        refuse_path(value, end, place, origin, findings);
        return None;
    }
    let host = url.host_str()?.to_owned();
    Some(Server {
        host,
        port: url.port_or_known_default().unwrap_or(80),
    })
}

/// Without user name and password, which do not belong into a message.
fn bare(rest: &str) -> &str {
    rest.rsplit('@').next().unwrap_or(rest)
}

fn refuse_path(value: &str, end: usize, place: &Place, origin: &str, findings: &mut Findings<'_>) {
    findings.error(
        &place.part(value, end..value.len()),
        format!("the URL of a server has no {}", {
            if value[end..].starts_with('?') {
                "query"
            } else {
                "path"
            }
        }),
        format!("write \"{origin}\"; the path of a request is sent as the client wrote it"),
    );
}
