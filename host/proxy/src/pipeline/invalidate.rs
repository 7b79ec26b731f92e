//! From what policies, clients and operators select to the invalidation log.

use std::net::IpAddr;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use weir_policy::{CallError, Policy, RequestHead, Scheme};
use weir_store::KeyBuilder;
use weir_store::log::{Receipt, Selector, Target};

use super::call::Call;
use super::decide::decide;
use super::keys;
use super::plan::{Decided, Plan};
use super::shadow;
use crate::metrics::Counted;
use crate::node::Node;
use crate::path;
use crate::request::{self, Malformed};
use crate::trial::TrialMode;

/// What the policies made of a domain event.
#[derive(Debug)]
pub struct EventSelectors {
    /// The policy's name.
    pub policy: String,
    /// What it selected.
    pub selectors: Vec<Selector>,
}

impl Node {
    /// Purges. When it returns, this node serves nothing of it any more.
    pub async fn invalidate(&self, selectors: &[Selector]) -> Receipt {
        self.metrics().invalidated();
        self.log.invalidate(selectors, self.clock.now()).await
    }

    /// What a purge of a URL means: everything stored for it, and the key under which the
    /// route would look it up now. `None` when the URL has no host.
    pub async fn selectors_of_url(&self, url: &Uri, soft: bool) -> Option<Vec<Selector>> {
        let selector = |target| Selector {
            target,
            host: None,
            soft,
        };
        let mut selectors = vec![selector(Target::Url(normalised_url(url)?))];
        if let Some(name) = self.key_name_of(url).await {
            selectors.push(selector(Target::Key(name)));
        }
        Some(selectors)
    }

    async fn key_name_of(&self, url: &Uri) -> Option<String> {
        let head = request::synthetic(
            Method::GET,
            url,
            HeaderMap::new(),
            IpAddr::from([127, 0, 0, 1]),
        )
        .ok()?;
        let generation = self.generation();
        let (route, head) = super::matched(&generation, head)?;
        let mut builder = KeyBuilder::new();
        match decide(self, route, &head, self.clock.now(), None).await {
            Decided::Lookup(lookup, _) => {
                // Without a seal: all that have the values, whatever they are values of.
                let shared = keys::is_shared(route);
                let (namespace, parts) = (&lookup.namespace, &lookup.key);
                keys::unsealed_key(&mut builder, shared, &head, namespace, parts).ok()?;
            }
            Decided::Plain => keys::plain_key(&mut builder, keys::is_shared(route), &head).ok()?,
            Decided::Pass { .. } | Decided::Respond(..) | Decided::Failed(_) => return None,
        }
        Some(builder.name().to_owned())
    }

    /// Asks every policy what a domain event makes invalid. Purges nothing.
    ///
    /// # Errors
    /// When one policy fails: what it would have named is unknown, so the event must not
    /// be acknowledged.
    pub async fn event(&self, kind: &str, data: &str) -> Result<Vec<EventSelectors>, CallError> {
        let generation = self.generation();
        let mut selected = Vec::new();
        for slot in generation.policies() {
            slot.metrics.count(Counted::OnEvent);
            let selectors = slot
                .current
                .on_event(kind, data, self.clock.now().as_millis())
                .await
                .inspect_err(|error| super::decide::count(self, slot, "on-event", error))?;
            let mut selectors = resolve(&selectors, None, Some(&slot.current));
            match &slot.trial {
                // What it has had stored goes by its own tags.
                Some(trial) if trial.mode == TrialMode::Canary => {
                    let asked = trial
                        .policy
                        .on_event(kind, data, self.clock.now().as_millis());
                    let more = asked.await.inspect_err(|error| {
                        trial.failed(error);
                        super::decide::count(self, slot, "on-event", error);
                    })?;
                    for selector in resolve(&more, None, Some(&trial.policy)) {
                        if !selectors.contains(&selector) {
                            selectors.push(selector);
                        }
                    }
                }
                Some(trial) => {
                    shadow::event(trial, kind, data, selectors.clone(), self.clock.now());
                }
                None => {}
            }
            if !selectors.is_empty() {
                selected.push(EventSelectors {
                    policy: slot.current.name().to_owned(),
                    selectors,
                });
            }
        }
        Ok(selected)
    }
}

impl Node {
    /// What the policies in force make of a domain event. Nothing is purged, counted or
    /// logged, and no version on trial is asked.
    ///
    /// # Errors
    /// When one policy fails.
    pub async fn explain_event(&self, kind: &str, data: &str) -> Result<Vec<Selector>, CallError> {
        let now = self.clock.now().as_millis();
        let generation = self.generation();
        let mut selected = Vec::new();
        for slot in generation.policies() {
            let selectors = slot.current.on_event(kind, data, now).await?;
            selected.extend(resolve(&selectors, None, Some(&slot.current)));
        }
        Ok(selected)
    }
}

/// Purges what a policy selected in `on-response`.
pub(super) async fn selected(
    call: &Call,
    decider: Option<&Policy>,
    selectors: &[weir_policy::Selector],
) {
    let resolved = resolve(selectors, Some(&call.head), decider);
    if !resolved.is_empty() {
        call.node.invalidate(&resolved).await;
    }
}

/// Fills in what a policy's selectors leave to the host.
pub(super) fn resolve(
    selectors: &[weir_policy::Selector],
    head: Option<&RequestHead>,
    policy: Option<&Policy>,
) -> Vec<Selector> {
    let mut resolved = Vec::with_capacity(selectors.len());
    for selector in selectors {
        let mut push = |target| {
            resolved.push(Selector {
                target,
                host: selector.host.clone(),
                soft: selector.soft,
            });
        };
        match &selector.target {
            weir_policy::Target::Url(url) => match resolve_url(url, head) {
                Some(url) => push(Target::Url(url)),
                None => tracing::warn!(
                    policy = policy.map(Policy::name),
                    url,
                    "a selector's URL was ignored: it is not absolute, and there is no request it could belong to"
                ),
            },
            weir_policy::Target::Key { namespace, parts } => {
                match keys::selector_key(namespace, parts, head) {
                    Ok(key) => push(Target::Key(key.name().to_owned())),
                    Err(error) => {
                        tracing::warn!(policy = policy.map(Policy::name), %error, "a selector's key was ignored");
                    }
                }
            }
            weir_policy::Target::Tag(tag) => push(Target::Tag(tag.clone())),
            weir_policy::Target::Namespace(namespace) => push(Target::Namespace(namespace.clone())),
            weir_policy::Target::Prefix { namespace, prefix } => {
                push(Target::Prefix(format!("{namespace}:{prefix}")));
            }
            weir_policy::Target::All => {
                for namespace in policy.map(Policy::namespaces).unwrap_or_default() {
                    push(Target::Namespace(namespace.clone()));
                }
            }
        }
    }
    resolved
}

fn resolve_url(url: &str, head: Option<&RequestHead>) -> Option<String> {
    if url.starts_with('/') {
        let target = in_normal_form(url.parse().ok()?);
        return head.map(|head| keys::url_tag_of(&head.host, target.as_str()));
    }
    normalised_url(&url.parse().ok()?)
}

/// An absolute URL as objects carry it: the authority normalised, without a fragment,
/// and with `http` for `https` too. What clients know as https may have reached the node
/// in cleartext, where something in front ends TLS: a purge must find it either way, so
/// it does not go by the scheme.
pub(super) fn normalised_url(url: &Uri) -> Option<String> {
    let scheme = match url.scheme_str()?.eq_ignore_ascii_case("https") {
        true => Scheme::Https,
        false => Scheme::Http,
    };
    let host = request::normalise(url.authority()?.as_str(), scheme).ok()?;
    let target = in_normal_form(request::target(url)?);
    Some(keys::url_tag_of(&host, target.as_str()))
}

/// As the paths of requests are before they become keys.
fn in_normal_form(target: PathAndQuery) -> PathAndQuery {
    path::normal(&target).unwrap_or(target)
}

/// An authority as keys have it: lower case, without a default port.
///
/// # Errors
/// When it is not of the form `host` or `host:port`.
pub fn normalised_host(authority: &str) -> Result<String, Malformed> {
    let host = request::normalise(authority, Scheme::Http)?;
    request::normalise(&host, Scheme::Https).map(String::from)
}

/// The target URI of a request.
pub(super) fn uri_of(head: &RequestHead) -> Uri {
    // It was parsed from a request before; should it not parse again, the path alone
    // still names the request's own origin.
    keys::target_uri(head)
        .parse()
        .unwrap_or_else(|_| Uri::from(head.target.clone()))
}

/// The tag that stands for a cache group of the request's origin (RFC 9875 section 2.1).
/// The hosts of a shared route are one origin.
pub(super) fn group_tag(call: &Call, group: &str) -> String {
    let head = &call.head;
    match keys::is_shared(&call.route) {
        true => format!("group:*:{group}"),
        false => format!("group:{}://{}:{group}", head.scheme.as_str(), head.host),
    }
}

/// The key of a URI that a response names, on a route without a policy whose hosts share
/// their objects: those carry the URL of whichever host they were fetched by.
pub(super) fn shared_key(call: &Call, uri: &Uri) -> Option<Target> {
    if !keys::is_shared(&call.route) || call.route.policy.is_some() {
        return None;
    }
    let target = in_normal_form(request::target(uri)?);
    let key = keys::shared_target(&target).ok()?;
    Some(Target::Key(key.name().to_owned()))
}

/// All that a request may have changed whose policy cannot be asked, softly.
pub(super) fn everything_of(
    head: &RequestHead,
    plan: Option<&Plan>,
    policy: Option<&Policy>,
) -> Vec<Selector> {
    let tags = plan.map(|plan| plan.tags.iter()).into_iter().flatten();
    let namespaces = policy.map(Policy::namespaces).unwrap_or_default();
    std::iter::once(Target::Url(keys::url_tag(head)))
        .chain(tags.map(|tag| Target::Tag(tag.to_owned())))
        .chain(namespaces.iter().cloned().map(Target::Namespace))
        .map(|target| Selector::new(target).soft())
        .collect()
}
