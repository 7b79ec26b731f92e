//! What happens to a policy that misbehaves.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a failure is to stop the test"
)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::StatusCode;
use support::{CAPABILITIES, GUEST, Node, all_grants, load, request, services, spec};
use weir_policy::{
    CallError, CallErrorKind, Decision, Engine, EngineOptions, Hook, LoadCause, Policy, PolicySpec,
    Record, ResponseInfo,
};

async fn call(policy: &Policy, path: &str) -> Result<Decision, CallError> {
    let decided = policy.on_request(&request(path, &[]), 0, Record::No).await;
    decided.map(|(decision, _)| decision)
}

async fn reason(policy: &Policy, path: &str) -> String {
    match call(policy, path).await {
        Ok(Decision::Pass(pass)) => pass.reason,
        other => panic!("{other:?}"),
    }
}

async fn refusal(change: impl FnOnce(&mut PolicySpec), component: &[u8]) -> LoadCause {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let mut spec = spec();
    change(&mut spec);
    let node = Arc::new(Node::default());
    let loaded = engine
        .load(spec, component.to_vec().into(), services(&node))
        .await;
    loaded.expect_err("refused").cause
}

#[tokio::test]
async fn configure_refuses_with_the_guests_words() {
    let cause = refusal(|s| s.config = serde_json::json!({ "a": "refuse" }), &GUEST).await;
    let text = cause.to_string();
    assert!(matches!(cause, LoadCause::Configure(_)), "{text}");
    assert!(text.contains("default_ttl must be a duration"), "{text}");
    let cause = refusal(|s| s.config = serde_json::json!(["trap"]), &GUEST).await;
    assert!(cause.to_string().contains("unreachable"), "{cause}");
}

#[tokio::test]
async fn configure_has_a_cpu_limit_of_its_own() {
    let slow = |s: &mut PolicySpec| {
        s.config = serde_json::json!("spin");
        s.limits.configure_cpu = Duration::from_millis(50);
    };
    let cause = refusal(slow, &GUEST).await;
    assert!(cause.to_string().contains("50 ms of CPU"), "{cause}");
}

#[tokio::test]
async fn a_capability_needs_its_grant() {
    for missing in weir_policy::CAPABILITIES {
        let kept: Vec<_> = weir_policy::CAPABILITIES
            .into_iter()
            .filter(|name| *name != missing)
            .collect();
        let grants = weir_policy::Grants::from_names(&kept).unwrap();
        let cause = refusal(|s| s.grants = grants, &CAPABILITIES).await;
        assert!(
            matches!(cause, LoadCause::Ungranted { capability } if capability == missing),
            "{missing}: {cause}"
        );
    }
}

#[tokio::test]
async fn calls_begin_aside_when_too_many_cost_an_instance() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    // It has an answer when it was made here.
    let at_once = || call(&policy, "/trap").now_or_never();
    for _ in 0..3 {
        assert!(at_once().is_some(), "it fails on the thread that asks");
    }
    // Enough of them for one of two seconds.
    for _ in 0..8 {
        assert_eq!(
            call(&policy, "/trap").await.unwrap_err().kind,
            CallErrorKind::Trap
        );
    }
    // The other thread may have been quick: on a full machine it takes this one's place when it is
    // woken, some times in a row.
    assert!((0..1_000).any(|_| at_once().is_none()));
}

#[tokio::test]
async fn instances_are_reused_and_dropped_after_a_trap() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    assert_eq!(reason(&policy, "/calls").await, "1");
    assert_eq!(reason(&policy, "/calls").await, "2");
    assert_eq!(policy.stats().instances_made(), 1);
    let error = call(&policy, "/trap").await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Trap);
    assert!(error.to_string().contains("unreachable"), "{error}");
    assert_eq!(policy.idle_instances(), 0);
    assert_eq!(
        reason(&policy, "/calls").await,
        "1",
        "the trapped one is back"
    );
    assert_eq!(policy.stats().instances_made(), 2);
    assert_eq!(policy.calls_in_flight(), 0);
}

#[tokio::test]
async fn a_warm_policy_has_both_instances_that_a_remembered_decision_takes() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    policy.warm().await;
    assert_eq!(policy.idle_instances(), 2);
    policy.warm().await;
    assert_eq!(policy.stats().instances_made(), 2, "two are enough");
    let request = request("/pure", &[]);
    for _ in 0..2 {
        policy.decide(&request, 0).await.unwrap();
    }
    assert!(policy.recall(&request).is_some());
    assert_eq!(policy.stats().instances_made(), 2);
    let (alone, _) = load(&GUEST, |spec| spec.memo = false).await;
    alone.warm().await;
    assert_eq!(alone.idle_instances(), 1);
}

#[tokio::test]
async fn an_error_of_the_guest_keeps_the_instance() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let error = call(&policy, "/error").await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert_eq!(
        error.to_string(),
        format!("policy `{}`, on-request: no such tenant", policy.label())
    );
    assert_eq!(reason(&policy, "/calls").await, "2");
}

#[tokio::test]
async fn instances_are_replaced_after_their_calls() {
    let (policy, _) = load(&GUEST, |s| s.limits.reuse = 1).await;
    for _ in 0..3 {
        assert_eq!(reason(&policy, "/calls").await, "1");
    }
    let (policy, _) = load(&GUEST, |s| s.limits.reuse = 4).await;
    for _ in 0..40 {
        let calls: u32 = reason(&policy, "/calls").await.parse().unwrap();
        assert!(calls <= 4, "{calls}");
    }
    let made = policy.stats().instances_made();
    assert!((10..=21).contains(&made), "{made}");
}

#[tokio::test]
async fn an_endless_loop_is_stopped() {
    let (policy, _) = load(&GUEST, |s| s.limits.cpu = Duration::from_millis(20)).await;
    let began = Instant::now();
    let error = call(&policy, "/spin").await.unwrap_err();
    let took = began.elapsed();
    assert_eq!(error.kind, CallErrorKind::CpuLimit, "{error}");
    assert!(error.to_string().contains("20 ms of CPU"), "{error}");
    assert!(took >= Duration::from_millis(20), "{took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(policy.idle_instances(), 0);
    let stats = policy.stats().hook(Hook::OnRequest);
    assert_eq!(stats.errors(CallErrorKind::CpuLimit), 1);
}

#[tokio::test]
async fn memory_is_limited() {
    let (policy, _) = load(&GUEST, |s| {
        s.limits.memory = 8 << 20;
        s.limits.cpu = Duration::from_secs(10);
    })
    .await;
    let error = call(&policy, "/grow").await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::MemoryLimit, "{error}");
    assert!(error.to_string().contains("8388608 bytes"), "{error}");
    let cause = refusal(|s| s.limits.memory = 64 * 1024, &GUEST).await;
    assert!(cause.to_string().contains("memory"), "{cause}");
}

#[tokio::test]
async fn namespaces_of_others_are_refused() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let error = call(&policy, "/namespace").await.unwrap_err();
    assert_eq!(error.token(), "namespace");
    assert!(
        error.message.contains("`somebody-elses`") && error.message.contains("user, help"),
        "{error}"
    );
}

#[tokio::test]
async fn handles_live_for_one_call() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    reason(&policy, "/keep").await;
    let error = call(&policy, "/use-kept").await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Trap);
    assert!(error.message.contains("earlier call"), "{error}");
    assert_eq!(policy.idle_instances(), 0);
    reason(&policy, "/keep").await;
    assert_eq!(reason(&policy, "/drop-kept").await, "dropped a part");
    assert_eq!(policy.idle_instances(), 1);
}

#[tokio::test]
async fn hoarded_handles_are_bounded() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let mut calls = 0;
    let error = loop {
        match call(&policy, "/hoard").await {
            Ok(_) => calls += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(calls, 4);
    assert_eq!(error.kind, CallErrorKind::BadOutput);
    assert!(error.message.contains("drop"), "{error}");
}

#[tokio::test]
async fn output_out_of_bounds_is_refused() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    for (path, expected) in [
        ("/many-resources", "2048"),
        ("/long-part", "1024"),
        ("/many-parts", "64"),
        ("/many-tags", "128"),
        ("/long-tag", "1024"),
        ("/long-note", "65536"),
        ("/target", "begin with"),
        ("/host-header", "`host`"),
        ("/framing", "`transfer-encoding`"),
        ("/split", "control characters"),
        ("/status", "200..=599"),
        ("/body", "1048576"),
        ("/reason", "printable"),
        ("/glob", "glob"),
    ] {
        let error = call(&policy, path).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::BadOutput, "{path}: {error}");
        assert!(error.message.contains(expected), "{path}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_instance_serves_concurrent_calls_one_by_one() {
    let (policy, _) = load(&GUEST, |s| s.limits.instances = 1).await;
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let policy = policy.clone();
            tokio::spawn(async move { reason(&policy, "/pass").await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), "not mine");
    }
    assert_eq!(policy.stats().instances_made(), 1);
}

#[tokio::test]
async fn compiled_code_is_kept_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        cache_dir: Some(dir.path().join("compiled")),
        ..EngineOptions::default()
    };
    let node = Arc::new(Node::default());
    for _ in 0..2 {
        let engine = Engine::new(options.clone()).unwrap();
        let policy = engine
            .load(spec(), GUEST.to_vec().into(), services(&node))
            .await
            .unwrap();
        drop(engine);
        assert_eq!(reason(&policy, "/pass").await, "not mine");
        // The policy keeps the clock of its engine alive.
        let error = call(&policy, "/spin").await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::CpuLimit);
        let version = &blake3::hash(&GUEST).to_hex()[..12];
        assert_eq!(policy.version(), version);
        let files = std::fs::read_dir(dir.path().join("compiled")).unwrap();
        assert_eq!(files.count(), 1);
    }
    let grants = all_grants();
    assert!(grants.kv && grants.rate_limit && grants.log && grants.clock);
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_loops_takes_no_time_of_the_thread_that_serves() {
    let (policy, _) = load(&GUEST, |spec| {
        spec.limits.cpu = Duration::from_millis(200);
    })
    .await;
    let request = request("/spin", &[]);
    let used = || {
        let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
        Duration::from(nix::time::clock_gettime(clock).unwrap())
    };
    let before = used();
    let ended = policy.on_request(&request, 0, Record::No).await;
    assert_eq!(ended.unwrap_err().kind, CallErrorKind::CpuLimit);
    let used = used() - before;
    assert!(
        used < Duration::from_millis(50),
        "{used:?} of this thread while a guest looped for 200 ms"
    );
    let counted = policy.stats().hook(Hook::OnRequest).total_time();
    assert!(
        counted >= Duration::from_millis(199),
        "{counted:?} is what the guest used"
    );
}

/// A policy, and how many calls of it may be under way: many more than have a turn at once.
async fn of_many_calls() -> (Policy, usize) {
    let many = 16 * std::thread::available_parallelism().map_or(1, usize::from);
    let (policy, _) = load(&GUEST, |spec| {
        spec.limits.cpu = Duration::from_millis(50);
        spec.limits.instances = many;
    })
    .await;
    (policy, many)
}

#[tokio::test]
async fn what_waits_to_loop_is_given_up_when_the_policy_is_called_no_more() {
    let (policy, many) = of_many_calls().await;
    let head = request("/spin", &[]);
    let decide = |_| policy.decide(&head, 0);
    let mut calls: FuturesUnordered<_> = (0..many).map(decide).collect();
    let first = calls.next().await.unwrap().unwrap_err();
    assert_eq!(first.kind, CallErrorKind::CpuLimit);
    policy.admit(0);
    let rest: Vec<CallErrorKind> = calls.map(|it| it.unwrap_err().kind).collect().await;
    let count = |kind| rest.iter().filter(|it| **it == kind).count();
    let given_up = count(CallErrorKind::Quarantined);
    assert!(given_up > 0, "{rest:?}");
    assert_eq!(policy.spared(), given_up as u64);
    let counted = policy.stats().hook(Hook::OnRequest).calls();
    assert!(counted < rest.len() as u64, "{counted} were made");
}

#[tokio::test]
async fn a_hook_that_does_well_is_not_given_up_with_one_that_loops() {
    let (policy, many) = of_many_calls().await;
    let (spin, judged) = (request("/spin", &[]), request("/nothing", &[]));
    let mut calls = FuturesUnordered::new();
    for _ in 0..many - 3 {
        let ended = policy.decide(&spin, 0).map(|it| it.err().map(|e| e.kind));
        calls.push(ended.boxed());
    }
    calls.next().await.unwrap();
    for _ in 0..3 {
        let response = ResponseInfo {
            status: StatusCode::OK,
            headers: Arc::default(),
            note: Bytes::new(),
            suggested_lifetime: None,
            refusal: None,
        };
        let ended = policy.on_response(&judged, response, 0);
        calls.push(ended.map(|it| it.err().map(|e| e.kind)).boxed());
    }
    // By now these wait too.
    calls.next().await.unwrap();
    policy.admit(0);
    let rest: Vec<Option<CallErrorKind>> = calls.collect().await;
    let count = |kind| rest.iter().filter(|it| **it == kind).count();
    assert!(count(Some(CallErrorKind::Quarantined)) > 0, "{rest:?}");
    assert_eq!(count(None), 3, "{rest:?}");
}
