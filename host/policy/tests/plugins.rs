//! The plugins of this repository on the host: the reference policies work, and the
//! misbehaving one is stopped whatever it does.

#![allow(clippy::panic, reason = "test code: a failure is to stop the test")]

mod support;

use support::{PLUGINS, load, request};
use weir_policy::{CallErrorKind, Decision, Grants, Policy, PolicySpec, Record};

async fn decide(policy: &Policy, target: &str) -> Decision {
    match policy
        .on_request(&request(target, &[]), 0, Record::Yes)
        .await
    {
        Ok((decision, _)) => decision,
        Err(error) => panic!("{target}: {error}"),
    }
}

#[tokio::test]
async fn reference_policies_load_and_decide() {
    let charity = |spec: &mut PolicySpec| {
        let names = [
            "user",
            "help",
            "donation",
            "metrics",
            "config",
            "session",
            "ratelimit",
        ];
        spec.namespaces = names.map(str::to_owned).into();
        spec.grants = Grants {
            kv: true,
            rate_limit: true,
            clock: true,
            ..Grants::default()
        };
    };
    let (policy, _) = load(&PLUGINS["charity"], charity).await;
    let decision = decide(&policy, "/users/42").await;
    assert!(
        matches!(&decision, Decision::Lookup(lookup) if lookup.namespace == "user"),
        "{decision:?}"
    );
    assert!(matches!(decide(&policy, "/none").await, Decision::Pass(_)));
    let kinds = policy.on_event("no.such.event", "{}", 0).await;
    assert!(kinds.is_ok_and(|selectors| selectors.is_empty()));

    let site = |spec: &mut PolicySpec| {
        spec.config = serde_json::json!({});
        spec.namespaces = ["site", "static", "page", "asset"]
            .map(str::to_owned)
            .into();
    };
    let (policy, _) = load(&PLUGINS["static-site"], site).await;
    assert!(!policy.waits());
    decide(&policy, "/index.html?utm_source=x").await;
}

#[tokio::test]
async fn what_is_added_to_a_copy_of_a_prepared_lookup_is_added_to_that_alone() {
    let probe = |spec: &mut PolicySpec| {
        spec.config = serde_json::json!({ "prepared": "x-more" });
        spec.namespaces = vec!["probe".to_owned()];
        spec.memo = false;
    };
    let (policy, _) = load(&PLUGINS["probe"], probe).await;
    let more = [("x-more", "1")];
    // The first one without has it prepared, the others take what was prepared.
    for (fields, parts) in [(&more[..], 2), (&[], 1), (&[], 1), (&more, 2), (&[], 1)] {
        let request = request("/a", fields);
        match policy.on_request(&request, 0, Record::Yes).await {
            Ok((Decision::Lookup(lookup), _)) => assert_eq!(lookup.key.len(), parts),
            other => panic!("{other:?}"),
        }
    }
}

async fn misbehaving(misdeed: &str) -> Policy {
    let change = |spec: &mut PolicySpec| {
        spec.config = serde_json::json!({ "misbehave": misdeed, "only": "/bad" });
        spec.namespaces = vec!["test".to_owned()];
        spec.limits.memory = 32 << 20;
    };
    load(&PLUGINS["misbehaving"], change).await.0
}

#[tokio::test]
async fn every_misdeed_is_stopped_and_told_apart() {
    use CallErrorKind::{BadOutput, CpuLimit, Namespace, Refused, Trap};
    for (misdeed, expected) in [
        ("trap-on-request", Trap),
        ("error-on-request", Refused),
        ("endless-loop", CpuLimit),
        ("endless-host-calls", CpuLimit),
        ("deep-recursion", Trap),
        ("huge-key", BadOutput),
        ("many-key-parts", BadOutput),
        ("many-tags", BadOutput),
        ("huge-note", BadOutput),
        ("huge-reply", BadOutput),
        ("huge-error", BadOutput),
        ("huge-reason", BadOutput),
        ("invalid-header-name", BadOutput),
        ("invalid-header-value", BadOutput),
        ("invalid-status", BadOutput),
        ("framing-header", BadOutput),
        ("origin-framing-header", BadOutput),
        ("origin-target", BadOutput),
        ("foreign-namespace", Namespace),
        ("invalid-namespace", Namespace),
        ("stale-handle", Trap),
        ("leak-handles", BadOutput),
    ] {
        let policy = misbehaving(misdeed).await;
        let bad = policy
            .on_request(&request("/bad", &[]), 0, Record::Yes)
            .await;
        let Err(error) = bad else {
            panic!("{misdeed}: {bad:?}");
        };
        assert_eq!(error.kind, expected, "{misdeed}: {error}");
        assert!(error.message.len() <= 2_048, "{misdeed}");
        let good = decide(&policy, "/good").await;
        assert!(matches!(good, Decision::Lookup(_)), "{misdeed}: {good:?}");
    }
}

#[tokio::test]
async fn growing_memory_ends_at_a_limit() {
    let policy = misbehaving("memory-growth").await;
    let bad = policy
        .on_request(&request("/bad", &[]), 0, Record::No)
        .await;
    // Touching 32 MiB may take longer than the CPU limit on a busy machine.
    let kind = bad.map_err(|error| error.kind);
    assert!(
        matches!(
            kind,
            Err(CallErrorKind::MemoryLimit | CallErrorKind::CpuLimit)
        ),
        "{kind:?}"
    );
}

#[tokio::test]
async fn a_kept_part_is_found_in_the_next_call() {
    let policy = misbehaving("keep-part").await;
    decide(&policy, "/bad").await;
    let bad = policy
        .on_request(&request("/bad", &[]), 0, Record::No)
        .await;
    assert!(bad.is_err_and(|error| error.kind == CallErrorKind::Trap));
}
