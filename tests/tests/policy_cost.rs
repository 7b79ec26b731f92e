//! What policies cost is told: by `/v1/policies` and by the metrics, and both tell the same.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use serde_json::{Value, json};
use weir_tests::{Config, Origin, Reply, guests, until};

/// What is told of one hook.
fn hook<'c>(cost: &'c Value, name: &str) -> &'c Value {
    let hooks = cost["hooks"].as_array().expect("hooks");
    let found = hooks.iter().find(|hook| hook["hook"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {cost}"))
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_a_policys_calls_is_told_by_hook_and_is_that_of_the_metrics() {
    const GOOD: u64 = 20;
    const BAD: u64 = 3;
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let component = guests().misbehaving().display().to_string();
    // Every call is made, and those under /bad/ do nothing else than fail.
    let more = "memo = false\n\
        config = { misbehave = \"trap-on-request\", only = \"/bad/*\" }\n";
    let node = Config::misbehaving(&origin.url(), &component, more);
    let node = node.start().await;
    for n in 0..GOOD {
        node.get(&format!("/{n}")).await;
    }
    for n in 0..BAD {
        node.get(&format!("/bad/{n}")).await;
    }
    node.admin().event("test.changed", json!({})).await;
    let policy = until("all calls to be over", async || {
        let policy = node.admin().policy("p").await;
        let responses = &hook(&policy["cost"], "on-response")["calls"];
        (responses.as_u64() >= Some(GOOD)).then_some(policy)
    })
    .await;

    let cost = &policy["cost"];
    assert_eq!(
        (&cost["recalled"], &cost["remembers"]),
        (&json!(0), &json!(false)),
        "{cost}"
    );
    let requests = hook(cost, "on-request");
    assert_eq!(requests["calls"], GOOD + BAD, "{cost}");
    assert_eq!(requests["failures"], json!({ "trap": BAD }), "{cost}");
    assert_eq!(hook(cost, "on-event")["calls"], 1, "{cost}");
    let hooks = cost["hooks"].as_array().expect("hooks");
    let sum = hooks.iter().map(|hook| number(&hook["calls"])).sum::<f64>();
    assert_eq!(number(&policy["calls"]), sum, "{policy}");
    assert_eq!(policy["failures"], BAD, "{policy}");

    let metric = async |name: &str, labels: &[(&str, &str)]| {
        let labels = [&[("policy", "p")], labels].concat();
        node.admin().metric(name, &labels).await
    };
    let same = |one: f64, other: f64| (one - other).abs() <= 1e-9 * one.abs();
    for name in ["configure", "on-request", "on-response", "on-event"] {
        let told = hook(cost, name);
        let (calls, seconds) = (number(&told["calls"]), number(&told["seconds"]));
        let (p50, p99) = (number(&told["p50_us"]), number(&told["p99_us"]));
        assert!(calls > 0.0 && seconds > 0.0, "{told}");
        assert!(p50 > 0.0 && p50 <= p99, "{told}");
        // Half of the calls took about the median or more; the rest took something.
        assert!(calls / 2.0 * p50 * 0.7 <= seconds * 1e6, "{told}");
        let label = ("hook", name);
        let total = metric("weir_policy_call_seconds_total", &[label]).await;
        assert!(same(total, seconds), "{name}: {total} s, {told}");
        for (quantile, expected) in [("0.5", p50), ("0.99", p99)] {
            let labels = [label, ("quantile", quantile)];
            let told = metric("weir_policy_call_quantile_seconds", &labels).await;
            assert!(
                same(told * 1e6, expected),
                "{name}: {told} s, {expected} µs"
            );
        }
    }

    let instances = number(&policy["instances"]);
    assert!(instances >= 1.0, "{policy}");
    assert_eq!(metric("weir_policy_instances", &[]).await, instances);
    let memory = number(&cost["memory_bytes"]);
    // Each has at least a page.
    assert!(memory >= instances * 65_536.0, "{policy}");
    assert_eq!(metric("weir_policy_memory_bytes", &[]).await, memory);
}
