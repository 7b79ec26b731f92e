//! The node as its admin API sees it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use serde_json::{Value, json};
use weir_admin::{
    AuditEntry, Connection, Connections, Control, ControlError, ControlErrorKind, Deployed,
    EventAnswer, ExplainRequest, Fleet, HookCost, InspectRequest, InvalidateAnswer,
    InvalidateRequest, PolicyCost, PolicyInfo, Quarantined, Readiness, Reloaded, RolledBack, Scope,
    Selected, SelectorKind, Source, Trial, TrialRequest, Upload,
};
use weir_policy::{Hook, Policy, PolicyStats};
use weir_proxy::{EventSelectors, Tunnel, normalised_host};
use weir_store::disk::{DiskState, DiskTier};
use weir_store::log::{self, Receipt, Selector, Target};
use weir_store::redis::RedisState;
use weir_store::{Key, SecondTier};

use crate::app::App;
use crate::daytime;
use crate::fleet;
use crate::inspect;
use crate::lifecycle;
use crate::policies::{self, TrialError};
use crate::settings;
use crate::stats;

/// Implements the admin API on an [`App`].
#[derive(Debug)]
pub(crate) struct NodeControl(pub(crate) Arc<App>);

#[async_trait]
impl Control for NodeControl {
    async fn invalidate(
        &self,
        request: InvalidateRequest,
    ) -> Result<InvalidateAnswer, ControlError> {
        let selectors = self.selectors(request).await?;
        let receipt = self.0.node.invalidate(&selectors).await;
        Ok(InvalidateAnswer {
            sequence: receipt.sequence,
            scope: scope(&receipt),
            durable: durable(&receipt),
        })
    }

    async fn event(&self, kind: &str, data: Value) -> Result<EventAnswer, ControlError> {
        let selected = self
            .0
            .node
            .event(kind, &data.to_string())
            .await
            .map_err(|error| {
                ControlError::new(
                    ControlErrorKind::Unavailable,
                    format!("{error}; nothing was invalidated, so send the event again"),
                )
            })?;
        let selectors: Vec<Selector> = selected
            .iter()
            .flat_map(|of_policy| of_policy.selectors.iter().cloned())
            .collect();
        let receipt = match selectors.is_empty() {
            true => None,
            false => Some(self.0.node.invalidate(&selectors).await),
        };
        Ok(EventAnswer {
            selectors: selected.into_iter().flat_map(shown).collect(),
            sequence: receipt.and_then(|receipt| receipt.sequence),
            scope: receipt.map_or(Scope::Node, |receipt| scope(&receipt)),
            durable: receipt.and_then(|receipt| durable(&receipt)),
        })
    }

    async fn policies(&self) -> Vec<PolicyInfo> {
        let state = self.0.state().await;
        state
            .policies
            .iter()
            .map(|(name, entry)| info(name, entry))
            .collect()
    }

    async fn put_policy(&self, name: &str, upload: Upload) -> Result<Deployed, ControlError> {
        self.0
            .deploy(name, sent(upload))
            .await
            .map_err(|error| refused(&error))
    }

    async fn hold_policy(&self, name: &str, upload: Upload) -> Result<Deployed, ControlError> {
        self.0
            .hold(name, sent(upload))
            .await
            .map_err(|error| refused(&error))
    }

    async fn try_policy(&self, name: &str, request: TrialRequest) -> Result<Trial, ControlError> {
        let trial = self.0.try_out(name, &request).await;
        trial.map_err(|error| refused(&error))
    }

    async fn promote(&self, name: &str, version: Option<String>) -> Result<Deployed, ControlError> {
        let promoted = self.0.promote(name, version.as_deref()).await;
        promoted.map_err(|error| refused(&error))
    }

    async fn rollback(&self, name: &str) -> Result<RolledBack, ControlError> {
        self.0
            .roll_back(name, "admin", None)
            .await
            .map_err(|error| refused(&error))
    }

    async fn fleet(&self) -> Fleet {
        fleet::seen(&self.0).await
    }

    async fn audit(&self, policy: Option<String>, limit: usize) -> Vec<AuditEntry> {
        self.0.audit.newest(policy.as_deref(), limit)
    }

    async fn reload(&self) -> Result<Vec<Reloaded>, ControlError> {
        let report = self.0.reload().await.map_err(|error| {
            ControlError::new(
                ControlErrorKind::BadRequest { field: None },
                format!("{error:#}\neverything stays as it was"),
            )
        })?;
        Ok(report
            .into_iter()
            .map(|one| Reloaded {
                name: one.name,
                version: one.version,
                changed: one.changed,
                error: one.error,
            })
            .collect())
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Value, ControlError> {
        let explanation = inspect::explained(&self.0.node, request).await?;
        serde_json::to_value(explanation).map_err(|error| internal(&error.into()))
    }

    async fn inspect(&self, request: InspectRequest) -> Result<Value, ControlError> {
        inspect::inspect(&self.0.node, request).await
    }

    async fn stats(&self) -> Value {
        json!(stats::of(&self.0.node))
    }

    async fn connections(&self, limit: usize) -> Connections {
        let tunnels = self.0.node.tunnels();
        let connections = tunnels.oldest(limit);
        Connections {
            total: *tunnels.count().borrow() as u64,
            connections: connections.iter().map(|one| connection(one)).collect(),
        }
    }

    async fn cut_connection(&self, id: u64) -> Result<(), ControlError> {
        if self.0.node.tunnels().cut(id) {
            return Ok(());
        }
        let message = format!("there is no upgraded connection {id}; it may have ended");
        Err(ControlError::new(ControlErrorKind::NotFound, message))
    }

    async fn status(&self) -> Value {
        let node = &self.0.node;
        let memory = node.memory().stats();
        let position = node.log().position();
        let redis = node.redis().map_or(Value::Null, |redis| {
            let pool = redis.pool();
            json!({
                "state": redis_state(&redis.state()),
                "connections": pool.connections,
                "idle": pool.idle,
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "generation": node.generation().number,
            "nodes": {
                "count": self.0.nodes.count(),
                "names": self.0.nodes.names(),
            },
            "upgraded_connections": *node.tunnels().count().borrow(),
            "memory": {
                "keys": memory.entries,
                "bytes": memory.bytes,
                "evictions": memory.evictions,
            },
            "redis": redis,
            "disk": node.second().and_then(|second| second.disk()).map(disk),
            "log": {
                "epoch": format!("{:016x}", position.epoch),
                "sequence": position.fleet,
                "node_sequence": position.node,
                "pending": node.log().pending(),
            },
        })
    }

    fn readiness(&self) -> Readiness {
        if !self.0.is_serving() {
            return Readiness::NotReady {
                reasons: vec!["starting or draining".to_owned()],
            };
        }
        let degraded = match self.0.node.second() {
            Some(SecondTier::Redis(redis)) => match redis.state() {
                RedisState::Down { reason, .. } => vec![format!("redis: {reason}")],
                _ => Vec::new(),
            },
            Some(SecondTier::Disk(disk)) => match disk.state() {
                DiskState::Up => Vec::new(),
                DiskState::Opening => {
                    vec!["disk: it is being opened, or cannot be; the log says which".to_owned()]
                }
                DiskState::Full => {
                    vec!["disk: less than disk.min_free is free; nothing is written".to_owned()]
                }
            },
            None => Vec::new(),
        };
        Readiness::Ready { degraded }
    }

    fn metrics(&self) -> String {
        self.0.node.metrics().encode().unwrap_or_else(|error| {
            // An empty page would look like a node that counts nothing.
            format!("# the metrics cannot be written: {error}\n# EOF\n")
        })
    }
}

impl NodeControl {
    async fn selectors(&self, request: InvalidateRequest) -> Result<Vec<Selector>, ControlError> {
        let InvalidateRequest {
            urls,
            keys,
            tags,
            namespaces,
            prefixes,
            all,
            host,
            soft,
        } = request;
        let host = host
            .map(|host| normalised_host(&host))
            .transpose()
            .map_err(|error| ControlError::bad_request("host", error.to_string()))?;
        let selector = |target| Selector {
            target,
            host: host.clone(),
            soft,
        };
        let mut selectors = Vec::new();
        for (index, url) in urls.iter().enumerate() {
            let field = || format!("urls[{index}]");
            let parsed: Uri = url
                .parse()
                .map_err(|error| ControlError::bad_request(field(), format!("{url:?}: {error}")))?;
            let of_url = self.0.node.selectors_of_url(&parsed, soft).await;
            selectors.extend(of_url.ok_or_else(|| {
                ControlError::bad_request(field(), format!("{url:?} names no host"))
            })?);
        }
        // Of the generation in force, not of the state: that one is locked while a
        // component compiles, and a purge must not wait for it.
        let generation = self.0.node.generation();
        let owned = |namespace: &str| {
            let mut policies = generation.policies().iter();
            policies.any(|slot| slot.current.namespaces().iter().any(|own| own == namespace))
        };
        for (index, namespace) in namespaces.into_iter().enumerate() {
            if !owned(&namespace) {
                return Err(ControlError::bad_request(
                    format!("namespaces[{index}]"),
                    format!("no policy of this node has the namespace {namespace:?}"),
                ));
            }
            selectors.push(selector(Target::Namespace(namespace)));
        }
        for (index, key) in keys.iter().enumerate() {
            let key = Key::parse(key).map_err(|_| {
                let field = format!("keys[{index}]");
                let text = "not a key: write it as `weir explain` shows it, with or without the origin, special characters as %XX";
                ControlError::bad_request(field, format!("{key:?} is {text}"))
            })?;
            let origin = key.origin().and_then(|origin| origin.split_once("://"));
            selectors.push(Selector {
                // A full key names its host by itself.
                host: origin.map(|(_, host)| host.to_owned()).or(host.clone()),
                ..selector(Target::Key(key.name().to_owned()))
            });
        }
        selectors.extend(tags.into_iter().map(|tag| selector(Target::Tag(tag))));
        for (index, prefix) in prefixes.into_iter().enumerate() {
            let namespace = prefix.split_once(':').map(|(namespace, _)| namespace);
            if !prefix.starts_with('/') && !namespace.is_some_and(owned) {
                return Err(ControlError::bad_request(
                    format!("prefixes[{index}]"),
                    format!(
                        "{prefix:?} begins with no namespace of this node's policies; write NAMESPACE:TEXT, or /PATH for routes without a policy"
                    ),
                ));
            }
            selectors.push(selector(Target::Prefix(prefix)));
        }
        if all {
            selectors.push(selector(Target::All));
        }
        Ok(selectors)
    }
}

fn scope(receipt: &Receipt) -> Scope {
    match receipt.scope {
        log::Scope::Fleet => Scope::Fleet,
        log::Scope::Node => Scope::Node,
    }
}

fn durable(receipt: &Receipt) -> Option<bool> {
    (receipt.scope == log::Scope::Node).then_some(receipt.durable)
}

fn shown(of_policy: EventSelectors) -> impl Iterator<Item = Selected> {
    let policy = of_policy.policy;
    of_policy.selectors.into_iter().map(move |selector| {
        let (kind, value) = match selector.target {
            Target::Url(value) => (SelectorKind::Url, Some(value)),
            Target::Key(value) => (SelectorKind::Key, Some(value)),
            Target::Tag(value) => (SelectorKind::Tag, Some(value)),
            Target::Namespace(value) => (SelectorKind::Namespace, Some(value)),
            Target::Prefix(value) => (SelectorKind::Prefix, Some(value)),
            Target::All => (SelectorKind::All, None),
        };
        Selected {
            policy: policy.clone(),
            kind,
            value,
            host: selector.host,
            soft: selector.soft,
        }
    })
}

fn connection(tunnel: &Tunnel) -> Connection {
    let since = daytime::of(tunnel.since.as_millis());
    Connection {
        id: tunnel.id,
        route: tunnel.route.to_string(),
        client: tunnel.client.to_string(),
        upstream: tunnel.upstream.to_string(),
        protocol: tunnel.protocol.to_string(),
        since: humantime::format_rfc3339_seconds(since).to_string(),
        seconds: tunnel.age().as_secs_f64(),
        bytes_to_client: tunnel.bytes_to_client(),
        bytes_to_origin: tunnel.bytes_to_origin(),
    }
}

fn sent(upload: Upload) -> policies::Upload {
    policies::Upload {
        bytes: upload.component,
        signature: upload.signature,
    }
}

pub(crate) fn source(source: policies::Source) -> Source {
    match source {
        policies::Source::File => Source::File,
        policies::Source::Deployed => Source::Deployed,
    }
}

fn info(name: &str, entry: &policies::Entry) -> PolicyInfo {
    let policy = entry.policy();
    let stats = policy.stats();
    PolicyInfo {
        name: name.to_owned(),
        version: policy.version().to_owned(),
        source: source(entry.source()),
        namespaces: entry.config.namespaces.clone(),
        grants: settings::grant_names(entry.config.grants),
        instances: (policy.idle_instances() + policy.calls_in_flight()) as u64,
        calls: total(stats, |hook| hook.calls()),
        failures: total(stats, |hook| hook.failures().map(|(_, count)| count).sum()),
        last_error: entry.last_error.clone(),
        previous: entry.previous().map(str::to_owned),
        held: entry.held().map(str::to_owned).collect(),
        trial: entry
            .trial()
            .map(|trial| lifecycle::shown(trial, entry.policy())),
        quarantined: entry.quarantine().map(|one| Quarantined {
            version: one.version.clone(),
            why: one.why.clone(),
            wait_seconds: one.wait.as_secs(),
        }),
        cost: cost(policy),
        versions: entry.versions(),
    }
}

fn cost(policy: &Policy) -> PolicyCost {
    let micros = |span: Duration| span.as_secs_f64() * 1e6;
    let hook = |hook: &Hook| {
        let stats = policy.stats().hook(*hook);
        let failures = stats.failures();
        HookCost {
            hook: hook.name().to_owned(),
            calls: stats.calls(),
            failures: failures
                .map(|(kind, count)| (kind.token().to_owned(), count))
                .collect(),
            seconds: stats.total_time().as_secs_f64(),
            p50_us: stats.quantile(0.5).map(micros),
            p99_us: stats.quantile(0.99).map(micros),
        }
    };
    PolicyCost {
        recalled: policy.recalled(),
        remembers: policy.remembers(),
        memory_bytes: policy.memory() as u64,
        hooks: Hook::ALL.iter().map(hook).collect(),
    }
}

fn total(stats: &PolicyStats, count: impl Fn(&weir_policy::HookStats) -> u64) -> u64 {
    Hook::ALL.iter().map(|hook| count(stats.hook(*hook))).sum()
}

fn refused(error: &TrialError) -> ControlError {
    let kind = match error {
        TrialError::Unknown(_) => ControlErrorKind::NotFound,
        TrialError::Conflict(_) => ControlErrorKind::Conflict,
        TrialError::Load(_) => ControlErrorKind::BadRequest { field: None },
        TrialError::Install(_) => ControlErrorKind::Internal,
    };
    let stays = match kind {
        ControlErrorKind::BadRequest { .. } => "; the version in force stays",
        _ => "",
    };
    ControlError::new(kind, format!("{error}{stays}"))
}

fn internal(error: &anyhow::Error) -> ControlError {
    ControlError::new(ControlErrorKind::Internal, format!("{error:#}"))
}

pub(crate) fn redis_state(state: &RedisState) -> String {
    match state {
        RedisState::NotConfigured => "not configured".to_owned(),
        RedisState::Up => "up".to_owned(),
        RedisState::Down { reason, .. } => format!("down: {reason}"),
    }
}

fn disk(disk: &Arc<DiskTier>) -> Value {
    let space = disk.space();
    json!({
        "state": match disk.state() {
            DiskState::Up => "up",
            DiskState::Opening => "being opened",
            DiskState::Full => "full",
        },
        "entries": space.entries,
        "bytes": space.bytes,
        "segments": space.segments,
        "evictions": disk.stats().evicted.get(),
    })
}
