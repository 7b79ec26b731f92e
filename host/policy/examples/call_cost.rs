//! What a call of `on-request` costs: three reads, a lookup with three key parts.
//!
//! `cargo run --release -p weir-policy --example call_cost`

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use weir_policy::{Engine, EngineOptions, Policy, Record};

const CALLS: u32 = 200_000;
const ROUNDS: u32 = 5;

/// Nanoseconds of CPU that this thread has used: a busy machine does not change them.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or_default()
}

/// The median of the rounds, in nanoseconds for each call.
async fn measure(policy: &Policy, path: &str, record: Record, calls: u32) -> u64 {
    let request = support::request(path, &[("accept-language", "de-AT, de;q=0.9, en;q=0.5")]);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let began = cpu();
        for _ in 0..calls {
            let decided = policy.on_request(&request, 0, record).await;
            black_box(decided.is_ok());
        }
        rounds.push((cpu() - began) / u64::from(calls));
    }
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (policy, _) = support::load(&support::GUEST, |_| ()).await;
    let (waiting, _) =
        support::load(&support::CAPABILITIES, |s| s.grants = support::all_grants()).await;
    let (fresh, _) = support::load(&support::GUEST, |s| s.limits.reuse = 1).await;
    let pooled = Engine::new(EngineOptions::default()).is_ok_and(|engine| engine.pools_instances());
    println!("instances are pooled: {pooled}");
    println!("ns of CPU for each on-request call, median of {ROUNDS} rounds");
    let rows = [
        ("pass, one read", &policy, "/pass", Record::No, CALLS),
        ("three reads", &policy, "/three-reads", Record::No, CALLS),
        (
            "three reads, recorded",
            &policy,
            "/three-reads",
            Record::Yes,
            CALLS,
        ),
        (
            "three reads, async (kv granted)",
            &waiting,
            "/three-reads",
            Record::No,
            CALLS / 4,
        ),
        (
            "three reads, a fresh instance each",
            &fresh,
            "/three-reads",
            Record::No,
            CALLS / 40,
        ),
    ];
    for (name, policy, path, record, calls) in rows {
        let ns = measure(policy, path, record, calls).await;
        println!("{ns:>8}  {name}");
    }
}
