//! The capabilities, as a guest meets them.

#![allow(clippy::panic, reason = "test code: a failure is to stop the test")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{CAPABILITIES, all_grants, load, request};
use weir_policy::{CallErrorKind, Decision, LogLevel, Policy, Reads, Record, ResponseInfo};

async fn ask(policy: &Policy, path: &str) -> (String, Reads) {
    let decided = policy
        .on_request(&request(path, &[]), 1_700_000_000_123, Record::Yes)
        .await;
    match decided {
        Ok((Decision::Pass(pass), reads)) => (pass.reason, reads),
        other => panic!("{path}: {other:?}"),
    }
}

#[tokio::test]
async fn kv_works_within_the_policys_namespaces() {
    let (policy, node) = load(&CAPABILITIES, |s| s.grants = all_grants()).await;
    assert!(policy.waits());
    let (text, reads) = ask(&policy, "/cap/kv").await;
    assert_eq!(text, "Ok(2) Ok(()) Ok(Some(4)) Ok(true)");
    assert!(reads.impure);
    assert_eq!(node.values.lock()["user:name"], "dam");
    let (text, _) = ask(&policy, "/cap/kv-more").await;
    assert_eq!(
        text,
        "Ok(true) Ok(false) Err(Error::WrongKind) Ok(1) Ok(Some(1)) Ok(false)"
    );
    let (text, _) = ask(&policy, "/cap/kv-refused").await;
    assert_eq!(text, "true true true");
}

#[tokio::test]
async fn a_slow_store_is_unavailable_and_no_cpu() {
    let (policy, _) = load(&CAPABILITIES, |s| {
        s.grants = all_grants();
        s.limits.cpu = Duration::from_millis(100);
    })
    .await;
    let began = Instant::now();
    let (text, _) = ask(&policy, "/cap/kv-slow").await;
    assert_eq!(text, "Err(Error::Unavailable)");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(250), "{took:?}");
    // Eight waits do not take eight times as long.
    let (text, _) = ask(&policy, "/cap/kv-slow-often").await;
    assert_eq!(text, "8");
    let took = began.elapsed() - took;
    assert!(took < Duration::from_millis(1_800), "{took:?}");
}

#[tokio::test]
async fn capabilities_are_at_work_where_the_node_is_also_for_calls_that_go_on_aside() {
    let (policy, node) = load(&CAPABILITIES, |s| {
        s.grants = all_grants();
        s.limits.cpu = Duration::from_millis(20);
    })
    .await;
    // Calls that compute for long, often enough for all of them to begin aside for a second.
    let spin = request("/spin", &[]);
    for _ in 0..8 {
        let long = policy.on_request(&spin, 0, Record::No);
        assert_eq!(long.await.unwrap_err().kind, CallErrorKind::CpuLimit);
    }
    let (text, _) = ask(&policy, "/cap/kv").await;
    assert!(text.starts_with("Ok(2)"), "{text}");
    let here = tokio::runtime::Handle::current().id();
    let seen = node.runtimes.lock().clone();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|runtime| *runtime == here), "{seen:?}");
}

#[tokio::test]
async fn waiting_does_not_make_a_loop_endless() {
    let (policy, _) = load(&CAPABILITIES, |s| s.grants = all_grants()).await;
    let called = policy
        .on_request(&request("/cap/spin-after-wait", &[]), 0, Record::No)
        .await;
    assert_eq!(called.unwrap_err().kind, CallErrorKind::CpuLimit);
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing_behind() {
    let (policy, _) = load(&CAPABILITIES, |s| s.grants = all_grants()).await;
    let slow = request("/cap/kv-slow", &[]);
    let call = policy.on_request(&slow, 0, Record::No);
    let cut = tokio::time::timeout(Duration::from_millis(20), call).await;
    assert!(cut.is_err());
    assert_eq!(policy.calls_in_flight(), 0);
    assert_eq!(
        policy.idle_instances(),
        0,
        "a call was cut in the middle of it"
    );
    assert_eq!(ask(&policy, "/pure").await.0, "other");
}

#[tokio::test]
async fn rate_limits_are_the_policys_own() {
    let (policy, node) = load(&CAPABILITIES, |s| s.grants = all_grants()).await;
    let (text, reads) = ask(&policy, "/cap/rate").await;
    assert_eq!(text, "false 1500");
    assert!(reads.impure);
    assert_eq!(*node.buckets.lock(), ["test:login 192.0.2.7"]);
    let wrong = policy
        .on_request(&request("/cap/rate-wrong", &[]), 0, Record::No)
        .await;
    assert_eq!(wrong.unwrap_err().kind, CallErrorKind::BadOutput);
}

#[tokio::test]
async fn the_clock_stands_still_in_a_call() {
    let (policy, _) = load(&CAPABILITIES, |s| s.grants = all_grants()).await;
    let (text, reads) = ask(&policy, "/cap/clock").await;
    assert_eq!(text, "1700000000123 1700000000123");
    assert!(reads.impure);
    let (_, reads) = ask(&policy, "/pure").await;
    assert!(!reads.impure, "left over from the call before");
    let response = ResponseInfo {
        status: http::StatusCode::OK,
        headers: Arc::default(),
        note: bytes::Bytes::new(),
        suggested_lifetime: None,
        refusal: None,
    };
    let adjusted = policy
        .on_response(&request("/cap/clock", &[]), response, 7)
        .await;
    assert!(adjusted.is_ok_and(|adjustment| adjustment.tags == ["7"]));
    let (_, reads) = ask(&policy, "/pure").await;
    assert!(!reads.impure, "left over from on-response");
}

#[tokio::test]
async fn log_lines_are_cut_and_bounded() {
    let (policy, node) = load(&CAPABILITIES, |s| s.grants = all_grants()).await;
    ask(&policy, "/cap/log").await;
    let lines = node.lines.lock();
    assert_eq!(lines.len(), 100);
    assert_eq!(lines[0].0, LogLevel::Warn);
    assert_eq!(lines[0].1.len(), 4_096);
    assert_eq!(policy.stats().log_lines_dropped(), 100);
}

#[tokio::test]
async fn a_call_that_used_a_capability_is_not_remembered() {
    let (policy, _) = load(&CAPABILITIES, |s| s.grants = all_grants()).await;
    for path in ["/cap/kv", "/cap/rate", "/cap/clock", "/cap/log"] {
        let request = request(path, &[]);
        // Two instances agree on what they read.
        for _ in 0..3 {
            assert!(policy.decide(&request, 7).await.is_ok(), "{path}");
            assert_eq!(policy.recall(&request), None, "{path}");
        }
        assert!(ask(&policy, path).await.1.impure, "{path}");
    }
    assert!(policy.remembers(), "none of it is hidden state");
}
