//! Routes: patterns, references, and what may not stand together.

use std::collections::{BTreeMap, HashSet};

use matchit::{InsertError, Router};

use super::super::compound::{List, Named, Tables};
use super::super::errors::{Findings, Place, Problem};
use super::super::model::{Grant, OnPolicyError, Protection, RedisDown, Route};
use super::super::pattern::PathPattern;
use super::super::raw;
use super::super::read::At;
use super::super::suggest::{listed, nearest};
use super::compress::compress;
use super::{to_usize, value};

/// Checks all routes and resolves those that can be.
pub(super) fn resolve(
    routes: Option<At<Tables<raw::Route>>>,
    upstreams: Option<&At<Named<raw::Upstream>>>,
    policies: Option<&At<Named<raw::Policy>>>,
    findings: &mut Findings<'_>,
) -> Option<Vec<Route>> {
    let routes = routes?;
    if routes.value.0.is_empty {
        let hint = "add a [[routes]] table with a path and an upstream";
        findings.error(&routes.place, "there are no routes", hint);
    }
    let mut taken = Taken::default();
    check_shared(&routes.value.0.values, findings);
    let resolved: Vec<_> = routes
        .value
        .0
        .values
        .into_iter()
        .map(|route| {
            refer(
                route.value.upstream.as_ref(),
                upstreams,
                ("upstream", "upstreams"),
                findings,
            );
            refer(
                route.value.policy.as_ref(),
                policies,
                ("policy", "policies"),
                findings,
            );
            check_sealed(&route.value, findings);
            check_policy(&route.value, policies, findings);
            resolve_one(route, &mut taken, findings)
        })
        .collect();
    resolved.into_iter().collect()
}

/// Shared routes leave the host out of their keys, so two of them that can make the same
/// key must lead to the same origin.
fn check_shared(routes: &[At<raw::Route>], findings: &mut Findings<'_>) {
    let shared: Vec<(usize, &raw::Route)> = routes
        .iter()
        .map(|route| &route.value)
        .enumerate()
        .filter(|(_, route)| value(&route.shared).unwrap_or(false))
        .collect();
    let text = |at: &Option<At<String>>| at.as_ref().map(|at| at.value.clone());
    let makes_plain_keys = |route: &raw::Route| {
        route.policy.is_none() || value(&route.on_policy_error) == Some(OnPolicyError::Rfc9111)
    };
    for (position, (_, route)) in shared.iter().enumerate() {
        let clash = shared[..position].iter().find(|(_, other)| {
            let same_keys = (makes_plain_keys(route) && makes_plain_keys(other))
                || (route.policy.is_some() && text(&route.policy) == text(&other.policy));
            same_keys && text(&route.upstream) != text(&other.upstream)
        });
        if let (Some((earlier, _)), Some(at)) = (clash, &route.shared) {
            findings.error(
                &at.place,
                format!("routes[{earlier}] is shared too, makes the same keys, and has another upstream: one would serve what the other stored"),
                "give both the same upstream, another policy, or remove shared = true",
            );
        }
    }
}

fn resolve_one(
    route: At<raw::Route>,
    taken: &mut Taken,
    findings: &mut Findings<'_>,
) -> Option<Route> {
    let At { value: raw, .. } = route;
    if let Some(above) = &raw.shed_above
        && above.place.given
        && value(&raw.redis_down).is_some_and(|down| down != RedisDown::Shed)
    {
        let hint = "add redis_down = \"shed\", or remove shed_above";
        findings.warning(
            &above.place,
            "it has no effect without redis_down = \"shed\"",
            hint,
        );
    }
    let host = match &raw.host {
        Some(text) => Some(host(text, findings)?),
        None => None,
    };
    let compress = compress(&raw, findings)?;
    let path = raw.path?;
    let pattern = PathPattern::parse(&path.value)
        .map_err(|error| {
            let place = path.place.part(&path.value, error.part);
            findings.error(&place, error.message, error.hint);
        })
        .ok()?;
    taken.take(host.as_deref(), &pattern, &path.place, findings);
    let (may_override, sharing_doubt) = overrides(raw.may_override?, raw.policy.as_ref(), findings);
    Some(Route {
        host,
        path: pattern,
        upstream: raw.upstream?.value,
        policy: raw.policy.map(|policy| policy.value),
        on_policy_error: value(&raw.on_policy_error)?,
        redis_down: value(&raw.redis_down)?,
        shed_above: to_usize(value(&raw.shed_above)?),
        shared: value(&raw.shared)?,
        sealed: value(&raw.sealed)?,
        store_set_cookie: value(&raw.store_set_cookie)?,
        negative: raw.negative.map_or_else(Vec::new, |at| at.value.0),
        may_override,
        sharing_doubt,
        compress,
        upgrades: upgrades(raw.upgrades?.value, findings),
        upgrade_idle_timeout: value(&raw.upgrade_idle_timeout)?,
    })
}

/// What the route lets its policy override, and the doubt whether the policy's key is up to
/// that, which only the component can clear.
fn overrides(
    granted: At<List<Protection>>,
    policy: Option<&At<String>>,
    findings: &mut Findings<'_>,
) -> (Vec<Protection>, Option<Problem>) {
    let At { value, place } = granted;
    let granted: Vec<_> = value.values.into_iter().map(|at| at.value).collect();
    let Some(policy) = policy else {
        if place.given {
            findings.error(
                &place,
                "the route has no policy that could override anything",
                "add policy = \"NAME\", or remove may_override",
            );
        }
        return (granted, None);
    };
    let of_users = granted
        .iter()
        .any(|one| matches!(one, Protection::Private | Protection::Authorization));
    let doubt = of_users.then(|| {
        findings.doubt(
            &place,
            format!(
                "responses meant for one user may be stored, and the key that policy {:?} gives does not show that it tells users apart",
                policy.value
            ),
            "put what identifies the user into the key, such as header(\"authorization\") or cookie(\"session\"), or remove \"private\" and \"authorization\" here",
        )
    });
    (granted, doubt)
}

/// Protocols of RFC 9110 section 7.8. HTTP in a tunnel would go by routes and policies
/// (smuggling by `h2c`), and so would HTTP in TLS.
fn upgrades(listed: List<String>, findings: &mut Findings<'_>) -> Vec<String> {
    let is_token = |part: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !part.is_empty() && part.bytes().all(known)
    };
    for At { value, place } in &listed.values {
        let (name, version) = value.split_once('/').unwrap_or((value, "1"));
        if !is_token(name) || !is_token(version) {
            findings.error(
                place,
                format!("{value:?} is not a protocol as an Upgrade field names it"),
                "write \"websocket\", or a name and a version such as \"spdy/3.1\"",
            );
        } else if ["h2c", "h2", "http", "tls"].contains(&&*name.to_ascii_lowercase()) {
            findings.error(
                place,
                "requests in such a connection would go by routes and policies unseen",
                "remove it; clients can speak HTTP/2 with this node from the start",
            );
        }
    }
    listed.values.into_iter().map(|at| at.value).collect()
}

/// The paths taken so far, for each host.
#[derive(Default)]
struct Taken(BTreeMap<Option<String>, Paths>);

/// The paths of one host.
#[derive(Default)]
struct Paths {
    router: Router<()>,
    earlier: Vec<(PathPattern, Place)>,
}

impl Taken {
    fn take(
        &mut self,
        host: Option<&str>,
        pattern: &PathPattern,
        place: &Place,
        findings: &mut Findings<'_>,
    ) {
        let Paths { router, earlier } = self.0.entry(host.map(str::to_owned)).or_default();
        let shape = pattern.shape();
        if let Some((same, at)) = earlier.iter().find(|(known, _)| known.shape() == shape) {
            let at_line = format!("{} on line {}", at.path, findings.line(at));
            let hint = "remove one of them, or give them different hosts";
            let message = if same == pattern {
                format!("the same host and path as {at_line}")
            } else {
                format!("matches the same requests as {same} ({at_line})")
            };
            findings.error(place, message, hint);
            return;
        }
        match router.insert(pattern.as_str(), ()) {
            Ok(()) => {}
            Err(InsertError::Conflict { with }) => {
                let other = earlier.iter().find(|(known, _)| known.as_str() == with);
                let other = other.map_or(with, |(known, at)| {
                    format!("{known} ({} on line {})", at.path, findings.line(at))
                });
                findings.error(
                    place,
                    format!("it cannot be told which is more specific, this path or {other}"),
                    "in one place use parameters that are whole segments, or have text on the same side",
                );
            }
            // The patterns of [`PathPattern`] are all patterns of matchit (tested there);
            // should a new version refuse one, it is to be said here and not at start.
            Err(error) => findings.error(place, error.to_string(), "write /a/{name} or /a/{*rest}"),
        }
        earlier.push((pattern.clone(), place.clone()));
    }
}

/// The authority as URLs have it: lower case, without a default port.
fn host(text: &At<String>, findings: &mut Findings<'_>) -> Option<String> {
    let At { value, place } = text;
    let (name, port) = match value.rsplit_once(':') {
        // Several colons outside of brackets: an IPv6 address, not a port.
        Some((name, port))
            if !port.ends_with(']') && (!name.contains(':') || name.ends_with(']')) =>
        {
            (name, Some(port))
        }
        _ => (value.as_str(), None),
    };
    let hint = if value.contains("://") || value.contains('/') {
        let host = value
            .split("://")
            .last()
            .and_then(|rest| rest.split('/').next());
        format!("write only the host: {:?}", host.unwrap_or("example.org"))
    } else if value.contains('*') {
        "wildcards are not built yet; write each host, or leave `host` out for all".to_owned()
    } else if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        format!(
            "write {name:?} for all ports, or {:?}",
            format!("{name}:8080")
        )
    } else {
        match url::Host::parse(name.trim_end_matches('.')) {
            Ok(host) if host.to_string() == name.to_ascii_lowercase() => {
                let port = port.and_then(|port| port.parse::<u16>().ok());
                return Some(match port {
                    Some(port) if port != 80 && port != 443 => format!("{host}:{port}"),
                    _ => host.to_string(),
                });
            }
            Ok(host) => format!("write \"{host}\""),
            Err(_) if name.contains(':') => {
                format!("write an IPv6 address in brackets: \"[{name}]\"")
            }
            Err(_) => "write a name such as \"api.example.org\", or an IP address".to_owned(),
        }
    };
    findings.error(
        place,
        format!("{value:?} is not a host as requests name it"),
        hint,
    );
    None
}

/// Checks that a name which a route uses is defined.
fn refer<T>(
    name: Option<&At<String>>,
    named: Option<&At<Named<T>>>,
    (kind, tables): (&str, &str),
    findings: &mut Findings<'_>,
) {
    // Where the tables could not be read at all, that is the error.
    let (Some(name), Some(named)) = (name, named) else {
        return;
    };
    let names = || named.value.0.iter().map(|(name, _)| name.as_str());
    if names().any(|known| known == name.value) {
        return;
    }
    let hint = match nearest(&name.value, names()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if named.value.0.is_empty() => "there is none yet:".to_owned(),
        None => format!("there are {}.", listed(names())),
    };
    let title = if kind == "policy" {
        "Policies"
    } else {
        "Upstreams"
    };
    findings.error(
        &name.place,
        format!("there is no {kind} named {:?}", name.value),
        format!("{hint} {title} are defined as [{tables}.NAME]"),
    );
}

/// What a sealed route cannot do without, or with.
fn check_sealed(route: &raw::Route, findings: &mut Findings<'_>) {
    let Some(sealed) = route.sealed.as_ref().filter(|sealed| sealed.value) else {
        return;
    };
    if route.policy.is_none() {
        findings.error(
            &sealed.place,
            "the route has no policy that could say what the origin may see",
            "add policy = \"NAME\", whose keys the requests are made of, or remove sealed",
        );
    } else if let Some(on_error) = &route.on_policy_error
        && on_error.value == OnPolicyError::Rfc9111
    {
        findings.error(
            &on_error.place,
            "on a sealed route nothing may be stored whose key no policy made",
            "write on_policy_error = \"pass\", \"last-good\" or \"503\", or remove sealed",
        );
    }
}

/// What may not stand together with a policy, or without one.
fn check_policy(
    raw: &raw::Route,
    policies: Option<&At<Named<raw::Policy>>>,
    findings: &mut Findings<'_>,
) {
    let Some(on_error) = &raw.on_policy_error else {
        return;
    };
    let Some(policy) = &raw.policy else {
        if on_error.value != OnPolicyError::Pass {
            findings.error(
                &on_error.place,
                "the route has no policy that could fail",
                "add policy = \"NAME\", or remove on_policy_error",
            );
        }
        return;
    };
    let granted = policies
        .and_then(|policies| {
            policies
                .value
                .0
                .iter()
                .find(|(name, _)| *name == policy.value)
        })
        .and_then(|(_, found)| found.value.as_ref()?.grants.as_ref());
    if granted.is_some_and(|listed| {
        listed
            .value
            .values
            .iter()
            .any(|at| at.value == Grant::RateLimit)
    }) && on_error.value == OnPolicyError::Pass
    {
        let place = if on_error.place.given {
            &on_error.place
        } else {
            &policy.place
        };
        findings.warning(
            place,
            "a request made to crash this policy would pass its rate limit",
            "write on_policy_error = \"503\" or \"last-good\"",
        );
    }
}

/// Warns of upstreams and policies that no route uses.
pub(super) fn check_uses(
    routes: Option<&At<Tables<raw::Route>>>,
    upstreams: Option<&At<Named<raw::Upstream>>>,
    policies: Option<&At<Named<raw::Policy>>>,
    findings: &mut Findings<'_>,
) {
    let Some(routes) = routes else { return };
    let names = |of: fn(&raw::Route) -> &Option<At<String>>| -> HashSet<&str> {
        let used = routes
            .value
            .0
            .values
            .iter()
            .filter_map(|route| of(&route.value).as_ref());
        used.map(|name| name.value.as_str()).collect()
    };
    unused(
        upstreams,
        &names(|route| &route.upstream),
        "upstream",
        findings,
    );
    unused(policies, &names(|route| &route.policy), "policy", findings);
}

fn unused<T>(
    named: Option<&At<Named<T>>>,
    used: &HashSet<&str>,
    kind: &str,
    findings: &mut Findings<'_>,
) {
    for (name, found) in named.iter().flat_map(|named| &named.value.0) {
        if !used.contains(name.as_str()) {
            let hint = format!("remove it, or name it in a route: {kind} = {name:?}");
            findings.warning(&found.place, format!("no route uses this {kind}"), hint);
        }
    }
}
