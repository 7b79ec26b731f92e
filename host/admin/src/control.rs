//! What the admin API asks of a node. The binary implements it; tests fake it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A node, seen from its admin API.
#[async_trait]
pub trait Control: Send + Sync {
    /// Invalidates everything that `request` selects. When it returns, this node serves none of
    /// it any more. The request names at least one selector and at most
    /// [`MAX_SELECTORS`](crate::MAX_SELECTORS); URLs are absolute, no text is empty.
    ///
    /// # Errors
    /// `BadRequest` for a selector that the node cannot use (an unknown namespace, say).
    async fn invalidate(
        &self,
        request: InvalidateRequest,
    ) -> Result<InvalidateAnswer, ControlError>;

    /// Gives a domain event to every policy and invalidates what they select. `data` is `null`
    /// when the event brought none.
    ///
    /// # Errors
    /// `Unavailable` when a policy failed: nothing is acknowledged then, and the sender repeats.
    async fn event(&self, kind: &str, data: Value) -> Result<EventAnswer, ControlError>;

    /// The loaded policies, by name.
    async fn policies(&self) -> Vec<PolicyInfo>;

    /// Loads `component` as the new version of a configured policy and lets it take over.
    ///
    /// # Errors
    /// `NotFound` for a name that is not configured, `BadRequest` for a component that does not
    /// load. The version in force stays.
    async fn put_policy(&self, name: &str, component: Upload) -> Result<Deployed, ControlError>;

    /// Loads `component` and holds it, to be tried or promoted. Nothing else changes.
    ///
    /// # Errors
    /// As [`Control::put_policy`].
    async fn hold_policy(&self, name: &str, component: Upload) -> Result<Deployed, ControlError>;

    /// Tries a version that is held, or the one before, on live requests; a trial under way ends.
    ///
    /// # Errors
    /// `NotFound` for a name or version that is not there, `Conflict` when it is in force or
    /// none is held, `BadRequest` when it does not load.
    async fn try_policy(&self, name: &str, request: TrialRequest) -> Result<Trial, ControlError>;

    /// Puts a version in force: the named one, else the one on trial.
    ///
    /// # Errors
    /// As [`Control::try_policy`].
    async fn promote(&self, name: &str, version: Option<String>) -> Result<Deployed, ControlError>;

    /// Ends a trial; where there is none, brings back the version that was in force before
    /// the present one.
    ///
    /// # Errors
    /// `NotFound` for a name that is not configured, `Conflict` when there is neither.
    async fn rollback(&self, name: &str) -> Result<RolledBack, ControlError>;

    /// The nodes of the fleet with the versions that they have in force, and what the fleet
    /// was told. This node alone where the others cannot be asked.
    async fn fleet(&self) -> Fleet;

    /// The newest changes of policies, the newest first; of one policy where it is named.
    async fn audit(&self, policy: Option<String>, limit: usize) -> Vec<AuditEntry>;

    /// Reads the configuration and every component again, and tells for each policy what came
    /// of it. What could not be loaded keeps its last good version.
    ///
    /// # Errors
    /// `BadRequest` when the configuration itself cannot be used; everything stays as it was.
    async fn reload(&self) -> Result<Vec<Reloaded>, ControlError>;

    /// Why a request would be served as it would be. Values of Authorization and Cookie are
    /// redacted by the implementation.
    ///
    /// # Errors
    /// `NotFound` when no route takes the request.
    async fn explain(&self, request: ExplainRequest) -> Result<Value, ControlError>;

    /// What the tiers hold under a key, purged objects too, and where the log stands.
    /// Values of Authorization and Cookie are redacted by the implementation.
    ///
    /// # Errors
    /// `BadRequest` for what is no key, `NotFound` for a URL that no key is looked up for.
    async fn inspect(&self, request: InspectRequest) -> Result<Value, ControlError>;

    /// Objects, bytes, hits, misses, evictions and ages by namespace.
    async fn stats(&self) -> Value;

    /// The oldest upgraded connections, at most `limit`, and how many there are.
    async fn connections(&self, limit: usize) -> Connections;

    /// Cuts an upgraded connection.
    ///
    /// # Errors
    /// `NotFound` when there is none with this number.
    async fn cut_connection(&self, id: u64) -> Result<(), ControlError>;

    /// The node's state as a JSON object, for an operator.
    async fn status(&self) -> Value;

    /// Whether the node serves. Read from state at hand: a probe must not wait for Redis.
    fn readiness(&self) -> Readiness;

    /// The metrics in OpenMetrics text format, `# EOF` included.
    fn metrics(&self) -> String;
}

/// The body of `POST /v1/invalidate`: what to invalidate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InvalidateRequest {
    /// Absolute URLs (`http` or `https`).
    pub urls: Vec<String>,
    /// Keys as the policies make them: `user:profile:42`.
    pub keys: Vec<String>,
    /// Tags, across namespaces.
    pub tags: Vec<String>,
    /// Whole namespaces.
    pub namespaces: Vec<String>,
    /// Beginnings of keys: `user:profile:`.
    pub prefixes: Vec<String>,
    /// Everything.
    pub all: bool,
    /// Only objects of this authority (`host` or `host:port`).
    pub host: Option<String>,
    /// Ends lifetimes instead of removing: what may be served stale still may.
    pub soft: bool,
}

/// Where an invalidation is in force once it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Redis took it: on every node, within the coherence window.
    Fleet,
    /// On this node. With Redis configured but away it is kept, and sent on return.
    Node,
}

/// The answer to an invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvalidateAnswer {
    /// The fleet's sequence number; absent for [`Scope::Node`].
    pub sequence: Option<u64>,
    /// Where it is in force.
    pub scope: Scope,
    /// For [`Scope::Node`]: whether it still is after a restart of the node. `false` means
    /// that it is in memory only. Absent for [`Scope::Fleet`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
}

/// The answer to a domain event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventAnswer {
    /// What the policies selected, in the order they were asked. Empty when none knew the event.
    pub selectors: Vec<Selected>,
    /// As in [`InvalidateAnswer`]; absent also when nothing was selected.
    pub sequence: Option<u64>,
    /// Where the invalidation is in force.
    pub scope: Scope,
    /// As in [`InvalidateAnswer`]; absent also when nothing was selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
}

/// One selector that a policy made of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// The policy's name.
    pub policy: String,
    /// What `value` names.
    pub kind: SelectorKind,
    /// The URL, key, tag, namespace or prefix; absent for [`SelectorKind::All`].
    pub value: Option<String>,
    /// The authority it is limited to.
    pub host: Option<String>,
    /// Whether stale serving stays possible.
    pub soft: bool,
}

/// The kinds of selectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SelectorKind {
    /// One URL.
    Url,
    /// One key.
    Key,
    /// Every object with a tag.
    Tag,
    /// A whole namespace.
    Namespace,
    /// Every key with a common beginning.
    Prefix,
    /// Everything the policy owns.
    All,
}

/// A policy in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyInfo {
    /// Its name in the configuration.
    pub name: String,
    /// The version in force: the beginning of the component's hash.
    pub version: String,
    /// Where that version came from.
    pub source: Source,
    /// The namespaces it may use.
    pub namespaces: Vec<String>,
    /// The capabilities it was granted.
    pub grants: Vec<String>,
    /// Instances alive now.
    pub instances: u64,
    /// Calls of its hooks since the version in force was loaded.
    pub calls: u64,
    /// Those that failed (trap, limit, refusal).
    pub failures: u64,
    /// The last load or release that failed, for a person.
    pub last_error: Option<String>,
    /// The version that a rollback brings back.
    #[serde(default)]
    pub previous: Option<String>,
    /// Versions that wait to be tried or promoted, the newest last; before them those that were
    /// taken back.
    #[serde(default)]
    pub held: Vec<String>,
    /// The version on trial.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// The version that was taken back by itself, and why.
    #[serde(default)]
    pub quarantined: Option<Quarantined>,
    /// What the version in force costs.
    #[serde(default)]
    pub cost: PolicyCost,
    /// More of each version named above; the version in force comes first.
    #[serde(default)]
    pub versions: Vec<VersionInfo>,
}

/// A version of a policy that the node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// The beginning of the component's hash.
    pub version: String,
    /// `active`, `previous`, `held`, or `shadow` or `canary`: a version on trial may be in
    /// the list twice.
    pub role: String,
    /// When it was loaded; of the version in force when it came into force, of one on trial
    /// when that began: RFC 3339, in UTC.
    pub since: String,
    /// Its semantic version, if the component has one.
    pub semver: Option<String>,
    /// Who made it, as the component says.
    pub authors: Option<String>,
    /// What it is, as the component says.
    pub description: Option<String>,
    /// The commit that it was built from, as the component says.
    pub revision: Option<String>,
}

/// What a version of a policy costs, since it was loaded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyCost {
    /// Decisions that were remembered, and needed no call.
    pub recalled: u64,
    /// Whether decisions are remembered.
    pub remembers: bool,
    /// Bytes of memory of all its instances.
    pub memory_bytes: u64,
    /// Each hook, `configure` included.
    pub hooks: Vec<HookCost>,
}

/// What a hook of a policy costs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HookCost {
    /// Its name.
    pub hook: String,
    /// Calls, failed ones included.
    pub calls: u64,
    /// Failed calls by reason.
    pub failures: BTreeMap<String, u64>,
    /// What the calls took together, in seconds: CPU time, and for `kv` and `rate-limit` waiting.
    pub seconds: f64,
    /// Half of the calls took no longer, in microseconds; absent without calls.
    pub p50_us: Option<f64>,
    /// All but one in a hundred took no longer, in microseconds.
    pub p99_us: Option<f64>,
}

/// A version that was taken back by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The version; the one in force where there is none before it, whose `on-request` is not
    /// called then.
    pub version: String,
    /// What it did, for a person.
    pub why: String,
    /// The time between two tries, in seconds.
    pub wait_seconds: u64,
}

/// How a version is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrialMode {
    /// It decides nothing; its answers are compared with those of the version in force.
    Shadow,
    /// It decides for a part of the clients, always the same ones.
    Canary,
}

/// What is to be tried.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialRequest {
    /// How.
    pub mode: TrialMode,
    /// Which version; when absent the newest that is held and was not taken back.
    pub version: Option<String>,
    /// Percent of the requests (shadow) or clients (canary), above 0 and at most 100.
    pub percent: f64,
}

/// A version on trial, and what it came to so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The version.
    pub version: String,
    /// How it is tried.
    pub mode: TrialMode,
    /// Percent of the requests (shadow) or clients (canary).
    pub percent: f64,
    /// Shadow: answers that were those of the version in force.
    pub same: u64,
    /// Shadow: answers that were not.
    pub different: u64,
    /// Canary: decisions that it gave.
    pub decided: u64,
    /// Canary: what came of them.
    #[serde(default)]
    pub outcomes: Outcomes,
    /// Canary: what came of those of the version in force, since that was loaded.
    #[serde(default)]
    pub live: Outcomes,
    /// Calls that failed.
    pub failed: u64,
    /// Shadow: requests of the sample that were left out, since too many were under way.
    pub skipped: u64,
    /// Differences by kind; an answer can differ in several.
    pub differences: BTreeMap<String, u64>,
    /// The first differences of each kind.
    pub examples: Vec<TrialExample>,
    /// The last failed call.
    pub last_error: Option<String>,
}

/// What came of the decisions of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Lookups under its keys.
    pub lookups: u64,
    /// Those that something stored answered.
    pub hits: u64,
    /// Answers to requests that it decided.
    pub answers: u64,
    /// Those that were 5xx.
    pub errors: u64,
}

/// One difference between a version on trial and the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialExample {
    /// In what they differ: `key`, `lifetime`…
    pub kind: String,
    /// Method and target URI, or the type of the event.
    pub subject: String,
    /// What the version in force says.
    pub live: String,
    /// What the one on trial says.
    pub tried: String,
}

/// A component that is sent to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// It.
    pub component: Bytes,
    /// Its signature in base64, where the sender has signed it.
    pub signature: Option<String>,
}

/// The answer to `GET /v1/fleet`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// The nodes, this one included.
    pub nodes: Vec<FleetNode>,
    /// What the fleet was told last, by policy.
    pub releases: BTreeMap<String, Released>,
    /// Why the others are not seen, where they are not.
    pub alone: Option<String>,
}

/// A node, as it last told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetNode {
    /// What it is called: its machine and a number of its own.
    pub node: String,
    /// Whether it is the one that was asked.
    pub this: bool,
    /// Where its clients connect.
    pub listen: Vec<String>,
    /// Its generation.
    pub generation: u64,
    /// Its policies.
    pub policies: BTreeMap<String, FleetPolicy>,
}

/// A policy of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetPolicy {
    /// The version in force there.
    pub version: String,
    /// Where that version came from.
    pub source: Source,
    /// The release that it follows; absent where there was none.
    pub revision: Option<u64>,
    /// The release that it could not follow.
    pub refused: Option<u64>,
    /// Why not, for a person.
    pub error: Option<String>,
    /// The version that it has taken back by itself.
    pub quarantined: Option<String>,
}

/// What the fleet was told about a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The higher one counts.
    pub revision: u64,
    /// The version to be in force.
    pub version: String,
    /// The one that a rollback brings back.
    pub previous: Option<String>,
    /// `deployed`, `promoted` or `rolled-back`.
    pub action: String,
    /// The machine that was told.
    pub by: String,
    /// When: RFC 3339, in UTC.
    pub time: String,
    /// `node` while Redis has not taken it.
    pub scope: Scope,
}

/// The answer to a rollback.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The version in force now.
    pub version: String,
    /// The version whose trial ended; absent when the version in force changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// As in [`Deployed`]; absent when a trial ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// As in [`Deployed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// One change of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When: RFC 3339, in UTC.
    pub time: String,
    /// The policy's name.
    pub policy: String,
    /// What was done: `loaded`, `deployed`, `held`, `shadow`, `canary`, `promoted`,
    /// `rolled-back`, `trial-ended`, `followed`, `quarantined`, `retried`, `restored` or
    /// `refused`.
    pub action: String,
    /// Who did it: `file`, `start`, `admin`, `fleet`, `retry`, or the rule that did.
    pub by: String,
    /// The version that it is about; where one was refused, the one that stays if not the fleet
    /// named it.
    pub version: String,
    /// The version in whose place it came; of `quarantined` the one that is in force instead.
    pub from: Option<String>,
    /// More, for a person.
    pub detail: Option<String>,
    /// The version's semantic version, if its component has one.
    #[serde(default)]
    pub semver: Option<String>,
    /// Who made the version, as its component says.
    #[serde(default)]
    pub authors: Option<String>,
}

/// Where a policy's component came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The file that the configuration names.
    File,
    /// The admin API.
    Deployed,
}

/// The answer to a deploy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// The version now in force.
    pub version: String,
    /// Whether Redis has taken it for all nodes, or this node has it alone and tells the others
    /// when Redis is back. Absent for a version that is only held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The release: a node that has reached this revision has followed. Absent likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// What a reload did to one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The policy's name.
    pub name: String,
    /// The version now in force; absent when the policy has none that ever loaded.
    pub version: Option<String>,
    /// Whether that version is another one than before.
    pub changed: bool,
    /// Why the new component was not taken.
    pub error: Option<String>,
}

/// The answer to `GET /v1/connections`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// How many there are, listed or not.
    pub total: u64,
    /// The oldest first.
    pub connections: Vec<Connection>,
}

/// A connection that was upgraded to another protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Its number on this node.
    pub id: u64,
    /// The route's name in metrics and logs.
    pub route: String,
    /// The client's IP address.
    pub client: String,
    /// The upstream's name.
    pub upstream: String,
    /// What it was upgraded to, in lower case.
    pub protocol: String,
    /// When the origin switched: RFC 3339, in UTC.
    pub since: String,
    /// For how long it is open.
    pub seconds: f64,
    /// Bytes that went to the client.
    pub bytes_to_client: u64,
    /// Bytes that went to the origin.
    pub bytes_to_origin: u64,
}

/// The request that an explanation is asked for.
#[derive(Debug, Clone)]
pub struct ExplainRequest {
    /// An absolute `http` or `https` URL.
    pub url: Uri,
    /// `GET` unless the question names another.
    pub method: Method,
    /// The header fields the question names; without a Host field of its own.
    pub headers: HeaderMap,
}

/// What an inspection is asked for.
#[derive(Debug, Clone)]
pub enum InspectRequest {
    /// The object under a full key, as `explain` shows it; of its variants those that a
    /// request with these header fields selects.
    Key(String, HeaderMap),
    /// The object that this request is looked up as.
    Url(ExplainRequest),
}

/// Whether a node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It serves. `degraded` names what it does without: `redis: connection refused`.
    Ready {
        /// Empty when all is well.
        degraded: Vec<String>,
    },
    /// It does not serve: it is starting or draining.
    NotReady {
        /// Why, for a person.
        reasons: Vec<String>,
    },
}

/// Why a node did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// What sort of failure it is; decides the status code.
    pub kind: ControlErrorKind,
    /// What was wrong and what to do, for a person.
    pub message: String,
}

/// The sorts of failures, each with its status code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlErrorKind {
    /// 400: the request cannot be met as it is.
    BadRequest {
        /// The field of the body or query at fault, as `tags[1]`.
        field: Option<String>,
    },
    /// 404: there is no such thing.
    NotFound,
    /// 409: not in the present state.
    Conflict,
    /// 503: not now; nothing was done.
    Unavailable,
    /// 500: a fault of the node.
    Internal,
}

impl ControlError {
    /// An error of the given kind.
    pub fn new(kind: ControlErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// A request that cannot be met because of `field`.
    pub fn bad_request(field: impl Into<String>, message: impl Into<String>) -> Self {
        let field = Some(field.into());
        Self::new(ControlErrorKind::BadRequest { field }, message)
    }
}
