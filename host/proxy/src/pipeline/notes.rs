//! What `explain` tells the author of a policy about what its decisions cost.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use weir_policy::{Answer, Hook, Policy, Read, ReadInput, Reads};

/// What a decision cost, and whether it has to be made again.
#[derive(Debug, Serialize)]
pub struct Cost {
    /// What this call took, in microseconds.
    pub took_us: u64,
    /// Whether the next request with the same answers gets the decision without a call.
    pub remembered: bool,
    /// Why not, and what would make it cheaper.
    pub notes: Vec<String>,
    /// Decisions so far on this node that needed no call.
    pub recalled: u64,
    /// What the instances of this version have in memory, in bytes.
    pub memory_bytes: u64,
    /// The hooks that were called on this node so far.
    pub hooks: Vec<HookCost>,
}

/// What a hook has cost so far.
#[derive(Debug, Serialize)]
pub struct HookCost {
    /// Its name.
    pub hook: &'static str,
    /// Calls, failed ones included.
    pub calls: u64,
    /// Failed calls by reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// What the calls took together, in seconds: CPU time, and for `kv` and `rate-limit` waiting.
    pub seconds: f64,
    /// Half of the calls took no longer, in microseconds.
    pub p50_us: Option<u64>,
    /// All but one in a hundred took no longer, in microseconds.
    pub p99_us: Option<u64>,
}

/// The cost of a call that was just made.
pub(super) fn cost(policy: &Policy, reads: &Reads, took: Duration) -> Cost {
    let mut notes = Vec::new();
    if reads.impure {
        notes.push(
            "not remembered: the call used kv, rate-limit, log, clock, or of WASI time or random \
             numbers, or read more than is kept, so every request calls the policy"
                .to_owned(),
        );
    } else if !policy.may_remember() {
        notes.push("not remembered: the policy's `memo` is false in the configuration".to_owned());
    } else if !policy.remembers() {
        notes.push(
            "not remembered: this version was found to decide differently on the same reads; it \
             keeps state of its own between calls, or used a capability in configure"
                .to_owned(),
        );
    }
    notes.extend(reads.list.iter().filter_map(branches));
    Cost {
        took_us: micros(took),
        remembered: !reads.impure && policy.remembers(),
        notes,
        recalled: policy.recalled(),
        memory_bytes: policy.memory() as u64,
        hooks: Hook::ALL
            .into_iter()
            .filter_map(|hook| so_far(policy, hook))
            .collect(),
    }
}

fn so_far(policy: &Policy, hook: Hook) -> Option<HookCost> {
    let stats = policy.stats().hook(hook);
    let failures = stats.failures();
    (stats.calls() > 0).then(|| HookCost {
        hook: hook.name(),
        calls: stats.calls(),
        failures: failures
            .map(|(kind, count)| (kind.token(), count))
            .collect(),
        seconds: stats.total_time().as_secs_f64(),
        p50_us: stats.quantile(0.5).map(micros),
        p99_us: stats.quantile(0.99).map(micros),
    })
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// A read with a branch for each of many values, and what to do instead.
fn branches(read: &Read) -> Option<String> {
    if read.answer == Answer::Absent {
        return None;
    }
    let (what, instead) = match &read.input {
        ReadInput::Path => (
            "the path".to_owned(),
            "name it in the key with path(), and decide by path_matches()".to_owned(),
        ),
        ReadInput::QueryString => (
            "the query".to_owned(),
            "name it in the key with query(), query_only() or query_without()".to_owned(),
        ),
        ReadInput::Param(name) => (
            format!("the route parameter {name}"),
            format!("name it in the key with param({name:?})"),
        ),
        ReadInput::Query(name) => (
            format!("the query parameter {name}"),
            format!("name it in the key with query_only([{name:?}])"),
        ),
        ReadInput::Cookie(name) => (
            format!("the cookie {name}"),
            format!("name it in the key with cookie({name:?}), or pass when it is there"),
        ),
        ReadInput::Client => (
            "the client's address".to_owned(),
            "hardly any two requests share a decision".to_owned(),
        ),
        ReadInput::Header(name) if **name == *"user-agent" => (
            "user-agent".to_owned(),
            "ask device() or header_one_of() instead".to_owned(),
        ),
        ReadInput::Header(name) if **name == *"accept-language" => (
            "accept-language".to_owned(),
            "ask language() for the best of those that you have".to_owned(),
        ),
        ReadInput::Header(name) if !matches!(&**name, "accept" | "accept-encoding") => (
            format!("the field {name}"),
            format!(
                "where it has many values, name it in the key with header({name:?}), or ask header_one_of()"
            ),
        ),
        _ => return None,
    };
    Some(format!(
        "{what} is read: each value is a branch of its own in what is remembered; {instead}"
    ))
}
