//! Why a request would be served as it would be: the same stages as a real request, with
//! every read recorded and nothing sent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use serde::Serialize;
use weir_policy::{
    Answer, CallError, Decision, Input, Part, Policy, Read, ReadInput, Record, Reply, RequestHead,
};
use weir_semantics::Coding;
use weir_store::Object;

use super::assess::{Found, find_in_memory};
use super::call::Call;
use super::content;
use super::notes::{self, Cost};
use super::outcome::{self, Assumed, Outcome, millis};
use super::plan::Plan;
use super::unkeyed;
use crate::generation::Route;
use crate::node::Node;
use crate::request::{self, Malformed};

/// Fields whose values are not shown.
pub(super) const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The URL cannot be a request.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// No route takes it.
    #[error("no route takes host {host} and path {path}")]
    NoRoute {
        /// The authority.
        host: String,
        /// The path.
        path: String,
    },
}

/// What would become of a request.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The target URI.
    pub url: String,
    /// The method.
    pub method: String,
    /// Host and pattern of the route.
    pub route: String,
    /// Parameters of the pattern.
    pub params: Vec<(String, String)>,
    /// The upstream's name.
    pub upstream: String,
    /// `name@version`; absent for plain RFC 9111.
    pub policy: Option<String>,
    /// What the policy read, in order.
    pub reads: Vec<ReadLine>,
    /// Whether the decision rests on more than the reads (kv, rate-limit, log, clock).
    pub impure: bool,
    /// What the policy's call cost; absent without a policy.
    pub cost: Option<Cost>,
    /// `lookup`, `pass`, `respond` or `policy-error`.
    pub decision: &'static str,
    /// Why, for a pass or an error.
    pub reason: Option<String>,
    /// What the policy failed with, where it did.
    #[serde(skip)]
    pub error: Option<CallError>,
    /// The status of an answer at the edge.
    pub status: Option<u16>,
    /// That answer.
    #[serde(skip)]
    pub reply: Option<Arc<Reply>>,
    /// The full key of a lookup.
    pub key: Option<String>,
    /// The parts that the key is made of, named inputs by their names.
    pub key_parts: Vec<String>,
    /// Tags known before the response.
    pub tags: Vec<String>,
    /// What the origin would be asked for, where that is not the request's own target.
    pub origin: Option<String>,
    /// Whether the origin would see only what the key says.
    pub sealed: bool,
    /// What the stored response may depend on although no key says so: by this request, and
    /// as live traffic has shown.
    pub unkeyed: Vec<String>,
    /// What would be done with the origin's response, where one was assumed.
    pub response: Option<Outcome>,
    /// What this node's memory holds under the key; absent offline and for other
    /// decisions.
    pub stored: Option<Stored>,
}

/// One read of a policy.
#[derive(Debug, Serialize)]
pub struct ReadLine {
    /// What was read.
    pub input: String,
    /// The answer; absent when there was no value. Secrets are `(redacted)`.
    pub answer: Option<Vec<String>>,
}

/// A stored object.
#[derive(Debug, Serialize)]
pub struct Stored {
    /// `fresh`, `stale` or `to-confirm`.
    pub state: &'static str,
    /// Its status code.
    pub status: u16,
    /// Seconds of lifetime left; negative when stale.
    pub ttl: i64,
    /// Its age in seconds.
    pub age: u64,
    /// Milliseconds after its lifetime it may be served while it is revalidated.
    pub stale_while_revalidate_ms: u64,
    /// Milliseconds after its lifetime it may stand in for a failed origin.
    pub stale_if_error_ms: u64,
    /// All its tags.
    pub tags: Vec<String>,
    /// The log position from before its fetch.
    pub sequence: u64,
    /// The policy version that stored it.
    pub policy: Option<String>,
    /// Bytes of the body.
    pub bytes: usize,
    /// Bytes of the codings that have been made of it.
    pub coded: BTreeMap<&'static str, usize>,
}

/// A decision that a response may follow.
enum Aloud {
    Lookup(Plan, Vec<ReadInput>),
    Pass(Bytes, Policy),
}

impl Node {
    /// Explains a request that nobody sent, with this content (empty for none), and what
    /// would become of an `assumed` response to it. Policies with capabilities use them.
    ///
    /// # Errors
    /// See [`ExplainError`].
    pub async fn explain(
        self: &Arc<Self>,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        content: Bytes,
        assumed: Option<Assumed>,
    ) -> Result<Explanation, ExplainError> {
        let client = IpAddr::from([127, 0, 0, 1]);
        let mut head = request::synthetic(method, url, headers, client)?;
        head.content = content::assumed(&head.method, content);
        let no_route = ExplainError::NoRoute {
            host: head.host.to_string(),
            path: head.path().to_owned(),
        };
        let generation = self.generation();
        let Some((route, head)) = super::matched(&generation, head) else {
            return Err(no_route);
        };
        let mut explanation = frame(route, &head);
        if super::is_ambiguous(&generation, route, &head) {
            explanation.decision = "pass";
            explanation.reason = Some(super::AMBIGUOUS.to_owned());
            return Ok(explanation);
        }
        let decided = self.decide_aloud(route, &head, &mut explanation).await;
        let now = self.clock.now();
        let call = Call {
            node: Arc::clone(self),
            generation: Arc::clone(&generation),
            route: Arc::clone(route),
            head: Arc::clone(&head),
            now,
            started: Instant::now(),
            interim: crate::interim::Interim::default(),
        };
        match decided {
            Some(Aloud::Lookup(plan, reads)) => {
                explanation.tags = plan.tags.iter().map(str::to_owned).collect();
                let found = find_in_memory(self, route, plan.key.as_str(), &head, now);
                explanation.stored = match found {
                    Found::Fresh(object) => Some(stored("fresh", &object, now)),
                    Found::Stale(object) => Some(stored("stale", &object, now)),
                    Found::Confirm(object, _) => Some(stored("to-confirm", &object, now)),
                    Found::Nothing => None,
                };
                explanation.key = Some(plan.key.to_string());
                explanation.origin = plan.origin_target.as_ref().map(ToString::to_string);
                let fields = assumed.as_ref().map(|assumed| &assumed.headers);
                explanation.unkeyed = unkeyed::explained(self, route, &head, &plan, &reads, fields);
                if let Some(assumed) = assumed {
                    let outcome = match plan.changes(&head) {
                        true => outcome::of_change(&call, plan, assumed).await,
                        false => outcome::of_lookup(&call, &plan, assumed).await,
                    };
                    explanation.response = Some(outcome);
                }
            }
            Some(Aloud::Pass(note, decider)) => {
                if let Some(assumed) = assumed {
                    let outcome = outcome::of_pass(&call, note, decider, assumed).await;
                    explanation.response = Some(outcome);
                }
            }
            None => {}
        }
        Ok(explanation)
    }

    async fn decide_aloud(
        &self,
        route: &Route,
        head: &Arc<RequestHead>,
        explanation: &mut Explanation,
    ) -> Option<Aloud> {
        let Some(slot) = &route.policy else {
            explanation.decision = "lookup";
            explanation.key_parts = vec!["target".to_owned()];
            return Some(Aloud::Lookup(Plan::plain(route, head).ok()?, Vec::new()));
        };
        explanation.policy = Some(slot.current.label().to_string());
        let began = Instant::now();
        let now = self.clock.now().as_millis();
        let (decision, reads) = match slot.current.on_request(head, now, Record::Yes).await {
            Ok(decided) => decided,
            Err(error) => {
                explanation.decision = "policy-error";
                explanation.reason = Some(error.to_string());
                explanation.error = Some(error);
                return None;
            }
        };
        let decider = slot.current.clone();
        explanation.impure = reads.impure;
        explanation.cost = Some(notes::cost(&slot.current, &reads, began.elapsed()));
        explanation.reads = reads.list.iter().map(read_line).collect();
        match decision {
            Decision::Pass(pass) => {
                explanation.decision = "pass";
                explanation.reason = Some(pass.reason);
                Some(Aloud::Pass(pass.note, decider))
            }
            Decision::Respond(reply) => {
                explanation.decision = "respond";
                explanation.status = Some(reply.status.as_u16());
                explanation.reply = Some(reply);
                None
            }
            Decision::Lookup(lookup) => {
                explanation.decision = "lookup";
                explanation.key_parts = std::iter::once(format!("namespace {}", lookup.namespace))
                    .chain(lookup.key.iter().map(part))
                    .collect();
                let keyed = lookup.keys_content();
                if let Some(reason) = content::obstacle_of(head, self.cache.max_keyed_body)
                    && keyed
                {
                    explanation.decision = "pass";
                    explanation.reason = Some(reason.to_owned());
                    return None;
                }
                if keyed && head.content.is_some() {
                    let added = [
                        "method",
                        "content-type",
                        "content-encoding",
                        "content-language",
                    ];
                    explanation.key_parts.extend(added.map(str::to_owned));
                }
                match Plan::of_policy(route, head, &lookup, decider) {
                    Ok(plan) => {
                        let reads = reads.list.into_iter().map(|read| read.input);
                        Some(Aloud::Lookup(plan, reads.collect()))
                    }
                    Err(error) => {
                        explanation.decision = "pass";
                        explanation.reason = Some(error.to_string());
                        None
                    }
                }
            }
        }
    }
}

fn frame(route: &Route, head: &RequestHead) -> Explanation {
    Explanation {
        url: super::keys::target_uri(head),
        method: head.method.to_string(),
        route: route.label.to_string(),
        params: head
            .params
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value).into_owned(),
                )
            })
            .collect(),
        upstream: route.upstream.name().to_owned(),
        policy: None,
        reads: Vec::new(),
        impure: false,
        cost: None,
        decision: "lookup",
        reason: None,
        error: None,
        status: None,
        reply: None,
        key: None,
        key_parts: Vec::new(),
        tags: Vec::new(),
        origin: None,
        sealed: route.settings.sealed,
        unkeyed: Vec::new(),
        response: None,
        stored: None,
    }
}

fn part(part: &Part) -> String {
    match part {
        Part::Text(text) => format!("text {text:?}"),
        Part::Input(Input::Header(name)) if SECRET.contains(&name.as_str()) => {
            format!("header {name} (its value stands in the key)")
        }
        Part::Input(input) => input.to_string(),
    }
}

fn read_line(read: &Read) -> ReadLine {
    let secret = match &read.input {
        ReadInput::Header(name) => SECRET.contains(&&**name),
        ReadInput::Cookie(_) => true,
        _ => false,
    };
    let shown = |value: &[u8]| match secret {
        true => "(redacted)".to_owned(),
        false => String::from_utf8_lossy(value).into_owned(),
    };
    ReadLine {
        input: read.input.to_string(),
        answer: match &read.answer {
            Answer::Absent => None,
            Answer::One(value) => Some(vec![shown(value)]),
            Answer::Many(values) => Some(values.iter().map(|value| shown(value)).collect()),
        },
    }
}

fn stored(state: &'static str, object: &Object, now: weir_semantics::Timestamp) -> Stored {
    let freshness = object.freshness();
    Stored {
        state,
        status: object.status.as_u16(),
        ttl: freshness.ttl_secs(now),
        age: freshness.age(now).as_secs(),
        stale_while_revalidate_ms: millis(freshness.stale_while_revalidate),
        stale_if_error_ms: millis(freshness.stale_if_error),
        tags: object.tags.iter().map(str::to_owned).collect(),
        sequence: object.position().fleet,
        policy: object.policy().map(ToString::to_string),
        bytes: object.body.len(),
        coded: object.coded().map_or_else(BTreeMap::new, |coded| {
            let form = |coding: &Coding| Some((coding.token(), coded.form(*coding)?.len()));
            Coding::ALL.iter().filter_map(form).collect()
        }),
    }
}
