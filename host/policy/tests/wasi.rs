//! The time and randomness of WASI, as a guest meets them: the same for all instances while
//! they start, and nothing that a decision is remembered with later.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: a failure is to stop the test"
)]

mod support;

use std::sync::Arc;

use support::{WASI, load, request};
use weir_policy::{Decision, Policy, Reads, Record, RequestHead, ResponseInfo};

/// 2023, with milliseconds.
const NOW: u64 = 1_700_000_000_123;
const CLOCKS: [&str; 2] = ["/wasi/wall-clock", "/wasi/monotonic-clock"];
const RANDOM: [&str; 3] = ["/wasi/bytes", "/wasi/number", "/wasi/seed"];

async fn ask(policy: &Policy, path: &str) -> (String, Reads) {
    let decided = policy
        .on_request(&request(path, &[]), NOW, Record::Yes)
        .await;
    match decided {
        Ok((Decision::Pass(pass), reads)) => (pass.reason, reads),
        other => panic!("{path}: {other:?}"),
    }
}

/// The tag that on-response makes of the answer.
async fn ask_after_response(policy: &Policy, path: &str) -> String {
    let response = ResponseInfo {
        status: http::StatusCode::OK,
        headers: Arc::default(),
        note: bytes::Bytes::new(),
        suggested_lifetime: None,
        refusal: None,
    };
    let request = request(path, &[]);
    let adjusted = policy.on_response(&request, response, NOW).await.unwrap();
    adjusted.tags[0].clone()
}

/// Is it remembered once two instances had the chance to agree?
async fn is_remembered(policy: &Policy, request: &Arc<RequestHead>) -> bool {
    for _ in 0..3 {
        policy.decide(request, NOW).await.unwrap();
    }
    // A sample of what is remembered is asked again.
    (0..20).any(|_| policy.recall(request).is_some())
}

#[tokio::test]
async fn a_call_that_asks_wasi_for_the_time_gets_that_of_the_call_and_is_not_remembered() {
    let (policy, _) = load(&WASI, |_| ()).await;
    for (path, expected) in CLOCKS
        .into_iter()
        .zip(["1700000000.123000000", "1700000000123000000"])
    {
        let (text, reads) = ask(&policy, path).await;
        assert_eq!(text, expected, "{path}");
        assert!(reads.impure, "{path}");
        assert_eq!(ask_after_response(&policy, path).await, expected, "{path}");
        assert!(!is_remembered(&policy, &request(path, &[])).await, "{path}");
    }
    let (_, reads) = ask(&policy, "/wasi/nothing").await;
    assert!(!reads.impure, "left over from on-response");
    for path in ["/wasi/nothing", "/wasi/resolution"] {
        assert!(is_remembered(&policy, &request(path, &[])).await, "{path}");
    }
    assert!(policy.remembers(), "time is no hidden state");
    assert_eq!(policy.stats().instances_made(), 2, "they are used again");
}

#[tokio::test]
async fn a_call_that_asks_wasi_for_randomness_is_not_remembered() {
    let (policy, _) = load(&WASI, |_| ()).await;
    for path in RANDOM {
        let (first, reads) = ask(&policy, path).await;
        assert!(reads.impure, "{path}");
        assert_ne!(first, ask(&policy, path).await.0, "{path}");
        assert!(!is_remembered(&policy, &request(path, &[])).await, "{path}");
    }
    assert!(policy.remembers(), "randomness is no hidden state");
}

#[tokio::test]
async fn an_instance_that_drew_randomness_is_not_used_again() {
    let (policy, _) = load(&WASI, |_| ()).await;
    let mut made = policy.stats().instances_made();
    for path in RANDOM {
        ask(&policy, "/wasi/nothing").await;
        assert_eq!(policy.idle_instances(), 1, "{path}");
        ask(&policy, path).await;
        assert_eq!(policy.idle_instances(), 0, "{path}");
        ask(&policy, "/wasi/nothing").await;
        ask_after_response(&policy, path).await;
        assert_eq!(policy.idle_instances(), 0, "{path} in on-response");
        ask(&policy, "/wasi/nothing").await;
        made += 2;
        assert_eq!(policy.stats().instances_made(), made, "{path}");
    }
}

#[tokio::test]
async fn all_instances_start_with_the_same_randomness_at_the_same_time_and_are_remembered() {
    let (policy, _) = load(&WASI, |_| ()).await;
    let (first, reads) = ask(&policy, "/wasi/start").await;
    assert!(!reads.impure, "drawn in configure");
    assert!(first.starts_with("0.000000000 0 ["), "{first}");
    // The next one is another instance, which has to start as this one did.
    ask(&policy, "/wasi/number").await;
    assert_eq!(ask(&policy, "/wasi/start").await.0, first);
    assert!(is_remembered(&policy, &request("/wasi/start", &[])).await);
}
