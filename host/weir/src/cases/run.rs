//! Running cases against a policy.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use weir_policy::{
    CallError, CallErrorKind, Grants, HostServices, LogLevel, LogSink, Policy, PolicySpec,
};
use weir_proxy::{ExplainError, Explanation, Node, Parts, PolicySlot, RouteSettings, Upstream};
use weir_store::kv::KvStore;
use weir_store::log::{Log, Selector};
use weir_store::rate_limit::RateLimiter;
use weir_store::{Clock, MemoryTier};

use super::compare;
use super::format::{Ask, Case, Suite};
use super::report::{Fault, Report, Tested};
use crate::capabilities::services;
use crate::config::Config;
use crate::settings;

/// How long all cases of a file may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a case is tried whose call found no turn: the machine is busy then.
const TRIES: u32 = 3;
/// What `kv` may take, in bytes: as on a node without Redis.
const KV_BYTES: u64 = 64 << 20;
/// What a node that stores nothing takes, in bytes.
const MEMORY: u64 = 1 << 20;

/// What the tested policy is called in [`DEFAULTS`].
const POLICY: &str = "tested";
/// All settings but those of cases are the defaults.
const DEFAULTS: &str = r#"
    listen = "127.0.0.1:8080"
    [upstreams.origin]
    servers = ["http://127.0.0.1:3000"]
    [policies.tested]
    component = "tested.wasm"
    namespaces = ["tested"]
    [[routes]]
    path = "/{*rest}"
    upstream = "origin"
    policy = "tested"
"#;

/// A node's settings where nobody has set any.
fn defaults() -> anyhow::Result<Config> {
    Config::parse(DEFAULTS, Path::new("defaults")).context("the default settings do not hold")
}

/// How a component is loaded that no node has settings for.
pub(super) fn spec(suite: &Suite) -> anyhow::Result<PolicySpec> {
    let config = defaults()?;
    let policy = config.policies.get(POLICY).context("no default settings")?;
    Ok(PolicySpec {
        // None of a node's: a case that needs one says so in its file.
        namespaces: suite.namespaces.clone().unwrap_or_default(),
        config: suite.config.clone().unwrap_or_default(),
        grants: Grants {
            kv: true,
            rate_limit: true,
            log: true,
            clock: true,
        },
        ..settings::policy(POLICY, policy)
    })
}

/// A version that is tested.
#[derive(Debug)]
pub(crate) struct Runner {
    policy: Policy,
    config: Config,
    upstreams: HashMap<String, Arc<Upstream>>,
}

/// What came of asking.
pub(super) enum Seen {
    Request(Box<Explanation>),
    Event(Result<Vec<Selector>, CallError>),
}

impl Seen {
    /// The hook that failed, if one did.
    pub(super) fn error(&self) -> Option<&CallError> {
        match self {
            Self::Request(explanation) => {
                let response = explanation.response.as_ref();
                let of_response = response.and_then(|outcome| outcome.error.as_ref());
                explanation.error.as_ref().or(of_response)
            }
            Self::Event(selected) => selected.as_ref().err(),
        }
    }
}

impl Runner {
    /// Makes ready to test a policy.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn new(policy: Policy) -> anyhow::Result<Self> {
        let config = defaults()?;
        let upstreams = config.upstreams.iter().map(|(name, upstream)| {
            let settings = settings::upstream(name, upstream).map_err(anyhow::Error::msg)?;
            anyhow::Ok((name.clone(), Upstream::new(settings)?))
        });
        Ok(Self {
            upstreams: upstreams.collect::<Result<_, _>>()?,
            policy,
            config,
        })
    }

    /// Runs all cases, off the threads that serve.
    ///
    /// # Errors
    /// When the policy does not take the file's settings.
    pub(crate) async fn run(self, suite: Arc<Suite>) -> anyhow::Result<Report> {
        let runtime = tokio::runtime::Handle::current();
        let task = move || runtime.block_on(self.run_here(&suite));
        let done = tokio::task::spawn_blocking(task).await;
        done.context("the thread that tested the policy ended early")?
    }

    async fn run_here(&self, suite: &Suite) -> anyhow::Result<Report> {
        let until = Instant::now() + PATIENCE;
        // Once, so that what is wrong with the settings is not said of each case.
        let with_its_settings =
            self.policy
                .beside(fresh(), suite.namespaces.as_deref(), suite.config.as_ref());
        drop(
            with_its_settings
                .await
                .with_context(|| suite.file.clone())?,
        );
        let mut tested = Vec::with_capacity(suite.cases.len());
        for case in &suite.cases {
            if Instant::now() > until {
                break;
            }
            let (faults, late) = self.test(suite, case, until).await;
            tested.push(Tested {
                name: case.name.clone(),
                line: case.line,
                faults,
                late,
            });
        }
        Ok(Report {
            file: suite.file.clone(),
            left: suite.cases.len() - tested.len(),
            tested,
        })
    }

    /// What was not as expected, and whether that may be the machine's fault.
    async fn test(&self, suite: &Suite, case: &Case, until: Instant) -> (Vec<Fault>, bool) {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.see(suite, case, until).await {
                Ok(seen) if tries > 0 && seen.error().is_some_and(is_late) => {}
                Ok(seen) => {
                    let late = seen.error().is_some_and(is_late);
                    return (compare::faults(case, &seen), late);
                }
                Err(fault) => return (vec![fault], Instant::now() > until),
            }
        }
    }

    /// What comes of it in the end.
    async fn see(&self, suite: &Suite, case: &Case, until: Instant) -> Result<Seen, Fault> {
        let node = self.node(suite, case).await;
        let node = node.map_err(|error| Fault::failed("the case", &format!("{error:#}")))?;
        for (index, (times, ask)) in case.before.iter().enumerate() {
            let failed = |why: &str| Fault::failed(&format!("before[{index}]"), why);
            for _ in 0..*times {
                if Instant::now() > until {
                    return Err(failed(&too_long()));
                }
                let seen = perform(&node, ask).await;
                let seen = seen.map_err(|error| failed(&error.to_string()))?;
                match seen.error() {
                    Some(error) if is_late(error) => return Ok(seen),
                    Some(error) if error.kind != CallErrorKind::Refused => {
                        return Err(failed(&error.to_string()));
                    }
                    _ => {}
                }
            }
        }
        let seen = perform(&node, &case.ask).await;
        seen.map_err(|error| Fault::failed("request", &error.to_string()))
    }

    /// A node that has never done anything.
    async fn node(&self, suite: &Suite, case: &Case) -> anyhow::Result<Arc<Node>> {
        let config = case.config.as_ref().or(suite.config.as_ref());
        let policy = self
            .policy
            .beside(fresh(), suite.namespaces.as_deref(), config);
        let policy = policy.await?;
        let clock = Clock::manual_at(case.now);
        let node = Node::new(Parts {
            memory: MemoryTier::new(MEMORY, clock.clone()),
            clock,
            second: None,
            log: Log::new(settings::log(&self.config), None),
            cache: settings::cache(&self.config),
        })?;
        let routes: Vec<RouteSettings> = self
            .config
            .routes
            .iter()
            .map(|route| RouteSettings {
                path: case.route.clone(),
                ..settings::route(route)
            })
            .collect();
        let slot = PolicySlot::new(policy, None, None, node.metrics());
        let names = self.config.policies.keys().cloned();
        let policies = names.map(|name| (name, slot.clone())).collect();
        node.install(&routes, &self.upstreams, &policies)
            .with_context(|| format!("route {:?}", case.route))?;
        Ok(node)
    }
}

async fn perform(node: &Arc<Node>, ask: &Ask) -> Result<Seen, ExplainError> {
    match ask {
        Ask::Request(request) => {
            let request = request.as_ref().clone();
            let explanation = node.explain(
                request.method,
                &request.url,
                request.headers,
                request.content,
                request.response,
            );
            Ok(Seen::Request(Box::new(explanation.await?)))
        }
        Ask::Event { kind, data } => Ok(Seen::Event(node.explain_event(kind, data).await)),
    }
}

/// Why no more is done.
pub(super) fn too_long() -> String {
    let patience = humantime::format_duration(PATIENCE);
    format!("all cases together may take {patience}")
}

/// May it be the machine's fault?
fn is_late(error: &CallError) -> bool {
    error.kind == CallErrorKind::Busy
}

/// An empty store, limits that nobody has used, and no log: what a test says is no event of
/// the node's.
pub(super) fn fresh() -> HostServices {
    HostServices {
        log: Arc::new(Silent),
        ..services(KvStore::memory(KV_BYTES), Arc::new(RateLimiter::alone()))
    }
}

#[derive(Debug)]
struct Silent;

impl LogSink for Silent {
    fn write(&self, _: &str, _: &str, _: LogLevel, _: &str) {}
}
