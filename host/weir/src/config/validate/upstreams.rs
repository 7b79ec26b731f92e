//! Upstreams and the URLs of their servers.

use std::collections::BTreeMap;
use std::path::Path;

use url::{Host, Url};
use weir_proxy::{read_authorities, system_authorities};

use super::super::compound::Named;
use super::super::errors::{Findings, Place};
use super::super::model::{Server, Upstream, UpstreamTls};
use super::super::raw;
use super::super::read::At;
use super::{to_u32, to_usize, value};

pub(super) fn resolve(
    named: Named<raw::Upstream>,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<BTreeMap<String, Upstream>> {
    // Not lazily: each is to report its errors.
    let resolved: Vec<_> = named
        .0
        .into_iter()
        .map(|(name, upstream)| Some((name, resolve_one(upstream.value?, folder, findings)?)))
        .collect();
    resolved.into_iter().collect()
}

fn resolve_one(raw: raw::Upstream, folder: &Path, findings: &mut Findings<'_>) -> Option<Upstream> {
    let listed = raw.servers?;
    if listed.value.is_empty {
        let hint = "write servers = [\"http://127.0.0.1:3000\"]";
        findings.error(&listed.place, "an upstream needs at least one server", hint);
    }
    let mut servers: Vec<Server> = Vec::new();
    let mut secured = None;
    for url in &listed.value.values {
        if let Some((https, server)) = server(url, findings) {
            if *secured.get_or_insert(https) != https {
                let hint = "give all of them the same scheme, or make two upstreams";
                findings.error(
                    &url.place,
                    "the servers of an upstream are reached by http or by https, not by both",
                    hint,
                );
            }
            if servers.contains(&server) {
                let hint = "remove it; the servers of an upstream take equal shares";
                findings.warning(&url.place, "the server is listed twice", hint);
            }
            servers.push(server);
        }
    }
    let tls = raw.tls?;
    let tls = match secured {
        Some(true) => Some(resolve_tls(tls.value, &listed.place, folder, findings)?),
        _ if tls.place.given => {
            findings.error(
                &tls.place,
                "the servers of this upstream are reached without TLS",
                "write https:// in `servers`, or remove the table",
            );
            None
        }
        _ => None,
    };
    Some(Upstream {
        servers,
        tls,
        connect_timeout: value(&raw.connect_timeout)?,
        response_timeout: value(&raw.response_timeout)?,
        body_timeout: value(&raw.body_timeout)?,
        idle_timeout: value(&raw.idle_timeout)?,
        max_idle: to_usize(value(&raw.max_idle)?),
        retries: to_u32(value(&raw.retries)?),
    })
}

fn resolve_tls(
    raw: raw::UpstreamTls,
    servers: &Place,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<UpstreamTls> {
    let verify = raw.verify?;
    let ca_file = raw.ca_file.map(|at| (at.place, folder.join(at.value)));
    match &ca_file {
        _ if !verify.value => findings.warning(
            &verify.place,
            "these servers are not verified: anyone on the way can answer in their place",
            "remove the line, and name the authority of their certificates with ca_file",
        ),
        Some((place, file)) if findings.check_files => {
            if let Err(reason) = read_authorities(file) {
                let hint = "name a PEM file with the certificates of the authorities";
                findings.error(place, reason, hint);
            }
        }
        None if findings.check_files => {
            if let Err(reason) = system_authorities() {
                let hint = "install them (Debian: apt-get install ca-certificates), or name some with `ca_file` in the upstream's table `tls`";
                findings.error(servers, reason, hint);
            }
        }
        _ => {}
    }
    if let (false, Some((place, _))) = (verify.value, &ca_file) {
        let hint = "remove `verify = false`";
        findings.error(place, "where nothing is verified, this has no use", hint);
    }
    if let Some(name) = &raw.server_name
        && !matches!(
            Host::parse(&name.value),
            Ok(Host::Domain(_) | Host::Ipv4(_))
        )
    {
        let hint =
            "write a host without a port, as it stands in the certificate: \"api.example.org\"";
        findings.error(&name.place, "this is not the name of a server", hint);
    }
    Some(UpstreamTls {
        ca_file: ca_file.map(|(_, file)| file),
        server_name: raw.server_name.map(|name| name.value),
        verify: verify.value,
    })
}

/// Parses `http://HOST[:PORT]`. Says also whether it is https.
fn server(text: &At<String>, findings: &mut Findings<'_>) -> Option<(bool, Server)> {
    let At { value, place } = text;
    let Some((scheme, rest)) = value.split_once("://") else {
        findings.error(
            place,
            "this is not the URL of a server",
            format!("write \"http://{}\"", bare(value.trim_start_matches('/'))),
        );
        return None;
    };
    let https = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => {
            findings.error(
                &place.part(value, 0..scheme.len()),
                format!("a server is not reached by {scheme:?}"),
                format!("write \"http://{0}\" or \"https://{0}\"", bare(rest)),
            );
            return None;
        }
    };
    let url = match Url::parse(value) {
        Ok(url) => url,
        Err(error) => {
            let hint = "write \"http://HOST\" or \"http://HOST:PORT\"; https likewise";
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
    let server = Server {
        host: url.host_str()?.to_owned(),
        port: url.port_or_known_default()?,
    };
    Some((https, server))
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
