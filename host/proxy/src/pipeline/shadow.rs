//! Asking a version that is tried in shadow, behind the request, and saying in what it
//! differs from the one in force.

use std::sync::Arc;

use weir_policy::{Adjustment, Decision, Lifetime, Lookup, Policy, RequestHead, ResponseInfo};
use weir_semantics::Timestamp;
use weir_store::KeyBuilder;

use super::invalidate;
use super::keys;
use crate::generation::{PolicySlot, Route};
use crate::trial::{Difference, DifferenceKind, Trial};

/// Has the tried version decide a request too, if it is one of the sample.
pub(super) fn decision(
    slot: &PolicySlot,
    route: &Arc<Route>,
    head: &Arc<RequestHead>,
    live: &Decision,
    now: Timestamp,
) {
    let Some(trial) = &slot.trial else {
        return;
    };
    let Some(place) = trial.shadows() else {
        return;
    };
    let (trial, head, live) = (Arc::clone(trial), Arc::clone(head), live.clone());
    let route = Arc::clone(route);
    tokio::spawn(async move {
        let _place = place;
        match decide(&trial.policy, &head, now).await {
            Ok(tried) => trial.compared(differences(&route, &head, &live, &tried)),
            Err(error) => trial.failed(&error),
        }
    });
}

/// Has the tried version judge a response too, if it is one of the sample. `seen` is the
/// request as the version in force saw it with the response.
pub(super) fn response(
    slot: &PolicySlot,
    head: &Arc<RequestHead>,
    seen: &Arc<RequestHead>,
    info: &ResponseInfo,
    live: &Adjustment,
    now: Timestamp,
) {
    let Some(trial) = &slot.trial else {
        return;
    };
    let Some(place) = trial.shadows() else {
        return;
    };
    let (trial, head, seen) = (Arc::clone(trial), Arc::clone(head), Arc::clone(seen));
    let (mut info, live) = (info.clone(), live.clone());
    tokio::spawn(async move {
        let _place = place;
        // Its own note, and none where it would have answered by itself.
        info.note = match decide(&trial.policy, &head, now).await {
            Ok(Decision::Lookup(lookup)) => lookup.note.clone(),
            Ok(Decision::Pass(pass)) => pass.note,
            Ok(Decision::Respond(_)) => return,
            Err(error) => return trial.failed(&error),
        };
        match trial.policy.on_response(&seen, info, now.as_millis()).await {
            Ok(tried) => trial.compared(adjustments(&trial, &head, &live, &tried)),
            Err(error) => trial.failed(&error),
        }
    });
}

/// Has the tried version answer an event too. All are asked: they are rare.
pub(super) fn event(
    trial: &Arc<Trial>,
    kind: &str,
    data: &str,
    live: Vec<weir_store::log::Selector>,
    now: Timestamp,
) {
    let trial = Arc::clone(trial);
    let (kind, data) = (kind.to_owned(), data.to_owned());
    tokio::spawn(async move {
        match trial.policy.on_event(&kind, &data, now.as_millis()).await {
            Ok(tried) => {
                let tried = invalidate::resolve(&tried, None, Some(&trial.policy));
                let mut found = Vec::new();
                let (live, tried) = (shown(&live), shown(&tried));
                note(
                    &mut found,
                    DifferenceKind::Selectors,
                    &format!("event {kind}"),
                    live,
                    tried,
                );
                trial.compared(found);
            }
            Err(error) => trial.failed(&error),
        }
    });
}

async fn decide(
    policy: &Policy,
    head: &Arc<RequestHead>,
    now: Timestamp,
) -> Result<Decision, weir_policy::CallError> {
    match policy.recall(head) {
        Some(known) => Ok(known),
        None => policy.decide(head, now.as_millis()).await,
    }
}

/// In what two decisions about a request differ: in what comes of them, with all named
/// inputs filled in.
fn differences(
    route: &Route,
    head: &RequestHead,
    live: &Decision,
    tried: &Decision,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let subject = subject(head);
    let (one, other) = (outline(live), outline(tried));
    if one != other {
        note(&mut found, DifferenceKind::Decision, &subject, one, other);
        return found;
    }
    match (live, tried) {
        (Decision::Lookup(live), Decision::Lookup(tried)) => {
            let mut both = |kind, text: &dyn Fn(&Lookup) -> String| {
                note(&mut found, kind, &subject, text(live), text(tried));
            };
            both(DifferenceKind::Key, &|lookup| key(route, head, lookup));
            both(DifferenceKind::Tags, &|lookup| tags(head, lookup));
            both(DifferenceKind::Origin, &|lookup| origin(head, lookup));
        }
        (Decision::Respond(live), Decision::Respond(tried)) if live != tried => {
            let text = |reply: &weir_policy::Reply| {
                format!(
                    "{} {:?}, {} bytes",
                    reply.status,
                    reply.headers,
                    reply.body.len()
                )
            };
            let (live, mut tried) = (text(live), text(tried));
            if live == tried {
                tried.push_str(" (another body)");
            }
            note(&mut found, DifferenceKind::Reply, &subject, live, tried);
        }
        _ => {}
    }
    found
}

fn outline(decision: &Decision) -> String {
    match decision {
        Decision::Lookup(_) => "lookup".to_owned(),
        Decision::Pass(pass) => format!("pass: {}", pass.reason),
        Decision::Respond(reply) => format!("respond {}", reply.status.as_u16()),
    }
}

fn key(route: &Route, head: &RequestHead, lookup: &Lookup) -> String {
    let mut builder = KeyBuilder::new();
    let made = keys::policy_key(&mut builder, route, head, lookup);
    match made {
        Ok(()) => builder.as_str().to_owned(),
        Err(error) => format!("none: {error}"),
    }
}

fn tags(head: &RequestHead, lookup: &Lookup) -> String {
    let mut tags: Vec<_> = lookup
        .tags
        .iter()
        .map(|tag| keys::concatenate(head, tag))
        .collect();
    tags.sort_unstable();
    tags.dedup();
    tags.join(", ")
}

fn origin(head: &RequestHead, lookup: &Lookup) -> String {
    let target = lookup.origin_target.as_ref();
    let mut lines = vec![target.map_or_else(
        || head.target.as_str().to_owned(),
        |target| keys::concatenate(head, target),
    )];
    for (name, value) in &lookup.origin_headers {
        lines.push(match value {
            Some(value) => format!("{name}: {}", keys::concatenate(head, value)),
            None => format!("no {name}"),
        });
    }
    lines[1..].sort_unstable();
    lines.join(", ")
}

fn adjustments(
    trial: &Trial,
    head: &RequestHead,
    live: &Adjustment,
    tried: &Adjustment,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let subject = subject(head);
    let mut both = |kind, text: &dyn Fn(&Adjustment) -> String| {
        note(&mut found, kind, &subject, text(live), text(tried));
    };
    both(DifferenceKind::Lifetime, &|it| {
        let lifetime = match it.lifetime {
            None => "as RFC 9111 says".to_owned(),
            Some(Lifetime::For(span)) => format!("{span:?}"),
            Some(Lifetime::Until(second)) => format!("until {second}"),
        };
        format!(
            "{lifetime}, stale-while-revalidate {}, stale-if-error {}",
            set(it.stale_while_revalidate),
            set(it.stale_if_error)
        )
    });
    both(DifferenceKind::Storage, &|it| {
        format!(
            "kept out of the store {}, in memory {}, shared {}, write-through {}",
            set(it.store.map(|not| not.0)),
            set(it.memory_lifetime),
            set(it.shared),
            it.write_through
        )
    });
    both(DifferenceKind::Tags, &|it| {
        let mut tags: Vec<&str> = it.tags.iter().map(String::as_str).collect();
        tags.sort_unstable();
        tags.dedup();
        tags.join(", ")
    });
    both(DifferenceKind::Selectors, &|it| {
        shown(&invalidate::resolve(
            &it.invalidate,
            Some(head),
            Some(&trial.policy),
        ))
    });
    found
}

/// What a policy has set, for a person.
fn set(value: Option<impl std::fmt::Debug>) -> String {
    value.map_or_else(|| "not set".to_owned(), |value| format!("{value:?}"))
}

fn shown(selectors: &[weir_store::log::Selector]) -> String {
    let mut texts: Vec<_> = selectors
        .iter()
        .map(|selector| {
            let soft = if selector.soft { " soft" } else { "" };
            let host = selector.host.as_deref().unwrap_or("any host");
            format!("{:?} on {host}{soft}", selector.target)
        })
        .collect();
    texts.sort_unstable();
    texts.join(", ")
}

fn subject(head: &RequestHead) -> String {
    format!("{} {}", head.method, keys::target_uri(head))
}

fn note(
    found: &mut Vec<Difference>,
    kind: DifferenceKind,
    subject: &str,
    live: String,
    tried: String,
) {
    if live != tried {
        found.push(Difference {
            kind,
            subject: subject.to_owned(),
            live,
            tried,
        });
    }
}
