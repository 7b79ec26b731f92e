//! A node put together: what lives as long as the process, and how its routes and
//! policies are replaced while it serves.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Mutex, MutexGuard, Notify};
use weir_policy::{Compiler, Engine, EngineOptions};
use weir_proxy::{Node, Parts, Upstream};
use weir_store::kv::KvStore;
use weir_store::published::Published;
use weir_store::rate_limit::RateLimiter;
use weir_store::roster::{LiveNodes, Roster};
use weir_store::{Clock, MemoryTier};

use crate::COMPILE;
use crate::audit::Audit;
use crate::capabilities::services;
use crate::certificates::Certificates;
use crate::config::{self, Config};
use crate::fleet;
use crate::policies::{Kept, Loader, Policies, Reloaded, Services};
use crate::registry::Pulled;
use crate::settings;
use crate::tiers::{self, Tiers};

/// What the policies' small state may take in memory where there is no Redis, in bytes.
const KV_BYTES: u64 = 64 << 20;

/// A node and the means to change it.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) node: Arc<Node>,
    /// The nodes of the fleet; none are heard of without Redis.
    pub(crate) nodes: LiveNodes,
    /// This node's place among them, once it has one.
    pub(crate) roster: OnceLock<Arc<Roster>>,
    /// Where the fleet is told which versions are in force; absent without Redis.
    pub(crate) published: Option<Published>,
    /// Woken when what this node tells of itself has changed.
    pub(crate) told: Notify,
    /// Policies whose last release this node could not take.
    pub(crate) behind: Arc<AtomicU64>,
    /// Counts what policies limit.
    pub(crate) limiter: Arc<RateLimiter>,
    /// Those of the TLS listeners, if there are any.
    pub(crate) certificates: Option<Certificates>,
    pub(crate) clock: Clock,
    /// What was changed about the policies, and by whom.
    pub(crate) audit: Audit,
    loader: Loader,
    /// One change at a time; requests never wait for this.
    state: Mutex<State>,
    file: PathBuf,
    serving: AtomicBool,
}

/// What a node is put together for.
#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    /// What is done is written down.
    Serve,
    /// Nothing is.
    Check,
    /// Nothing is, and no version need pass its cases.
    Explain,
}

/// What a reload changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) policies: Policies,
    upstreams: HashMap<String, Arc<Upstream>>,
}

impl App {
    /// Puts a node together and loads its policies. Needs a tokio runtime. The tier behind
    /// memory is not waited for.
    ///
    /// # Errors
    /// What in the configuration cannot be carried out.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Arc<Self>> {
        let clock = Clock::system();
        let tiers = Tiers::start(&config, &clock)?;
        Self::with(config, clock, tiers, Purpose::Serve).await
    }

    /// As [`App::start`], with memory alone: asks nobody, and leaves what a running node
    /// keeps alone.
    ///
    /// # Errors
    /// As [`App::start`].
    pub(crate) async fn offline(config: Config) -> anyhow::Result<Arc<Self>> {
        let tiers = Tiers::memory(&config);
        Self::with(config, Clock::system(), tiers, Purpose::Check).await
    }

    /// As [`App::offline`], for versions that fail their cases too: to see why.
    ///
    /// # Errors
    /// As [`App::start`].
    pub(crate) async fn untested(config: Config) -> anyhow::Result<Arc<Self>> {
        let tiers = Tiers::memory(&config);
        Self::with(config, Clock::system(), tiers, Purpose::Explain).await
    }

    async fn with(
        config: Config,
        clock: Clock,
        tiers: Tiers,
        purpose: Purpose,
    ) -> anyhow::Result<Arc<Self>> {
        let Tiers { log, second } = tiers;
        let nodes = LiveNodes::default();
        let redis = second.as_ref().and_then(|second| second.redis());
        let published = redis.map(|redis| Published::new(redis, fleet::RELEASES));
        let (kv, limiter) = match redis {
            Some(redis) => (
                KvStore::redis(redis),
                RateLimiter::shared(redis, nodes.clone()),
            ),
            None => (KvStore::memory(KV_BYTES), RateLimiter::alone()),
        };
        let limiter = Arc::new(limiter);
        let kept = match purpose {
            Purpose::Serve => tiers::data_dir(&config)?,
            Purpose::Check | Purpose::Explain => None,
        };
        let engine = Engine::new(EngineOptions {
            // Only the node itself writes: whoever asks may be another user.
            cache_dir: kept.map(|data_dir| data_dir.join("compiled")),
            compiler: match purpose {
                Purpose::Serve => Some(Compiler::this_program([COMPILE])),
                Purpose::Check | Purpose::Explain => None,
            },
            ..EngineOptions::default()
        })
        .context("the WebAssembly engine cannot be started")?;
        let audit = Audit::open(kept, clock.clone())?;
        let pulled = Pulled::new(kept.map(|data_dir| data_dir.join("registry")));
        let kept = kept.map(Kept::open).transpose()?.map(Arc::new);
        let own_clock = clock.clone();
        let node = Node::new(Parts {
            memory: MemoryTier::new(config.memory.capacity, clock.clone()),
            clock,
            second,
            log,
            cache: settings::cache(&config),
        })?;
        let certificates = config.tls.as_ref().map(Certificates::load).transpose()?;
        if let Some(certificates) = &certificates {
            certificates.announce(node.metrics());
        }
        let services = services(kv, Arc::clone(&limiter));
        let loader = Loader::new(
            engine,
            services,
            &config.trusted_keys,
            kept,
            pulled,
            own_clock.clone(),
        );
        let loader = match purpose {
            Purpose::Explain => loader.untested(),
            Purpose::Serve | Purpose::Check => loader,
        };
        let file = config.file.clone();
        let (state, loaded) =
            State::make(&loader, &Policies::default(), &HashMap::new(), config).await?;
        let app = Arc::new(Self {
            clock: own_clock,
            audit,
            node,
            nodes,
            roster: OnceLock::new(),
            published,
            told: Notify::new(),
            behind: Arc::default(),
            limiter,
            certificates,
            loader,
            state: Mutex::new(state),
            file,
            serving: AtomicBool::new(false),
        });
        let state = app.state.lock().await;
        app.install(&state)?;
        drop(state);
        if purpose == Purpose::Serve {
            app.record_started(&loaded);
        }
        Ok(app)
    }

    /// Says whether requests are taken: for readiness, and for what compiles policies.
    pub(crate) fn set_serving(&self, serving: bool) {
        self.loader.set_serving(serving);
        self.serving.store(serving, Ordering::Release);
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// The present configuration and policies. Changes wait while it is held.
    pub(crate) async fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }

    /// The same, unless something is being changed.
    pub(crate) fn try_state(&self) -> Option<MutexGuard<'_, State>> {
        self.state.try_lock().ok()
    }

    pub(crate) fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Puts the state's routes and policies in force, all at once.
    pub(crate) fn install(&self, state: &State) -> anyhow::Result<u64> {
        let routes: Vec<_> = state.config.routes.iter().map(settings::route).collect();
        let number = self.node.install(
            &routes,
            &state.upstreams,
            &state.policies.slots(self.node.metrics()),
        )?;
        tracing::info!(generation = number, "routes and policies in force");
        Ok(number)
    }

    /// Reads the configuration and every component again. All of it comes into force, or
    /// nothing; a policy that no longer loads keeps its last good version.
    ///
    /// # Errors
    /// What is wrong with the configuration; everything stays as it was.
    pub(crate) async fn reload(&self) -> anyhow::Result<Vec<Reloaded>> {
        let mut state = self.state.lock().await;
        let file = self.file.clone();
        let config = tokio::task::spawn_blocking(move || Config::load(&file))
            .await
            .context("the thread that read the configuration ended early")??;
        for problem in &config.warnings {
            tracing::warn!("{problem}");
        }
        warn_of_restart(&state.config, &config);
        let (next, report) =
            State::make(&self.loader, &state.policies, &state.upstreams, config).await?;
        self.install(&next)?;
        self.follow_certificates(&next.config);
        *state = next;
        log_report(&report);
        self.record_loaded(&report);
        Ok(report)
    }

    /// Looks at the components' files again, and puts changed ones in force.
    pub(crate) async fn reload_policies(&self) -> anyhow::Result<()> {
        let entries = {
            let state = self.state.lock().await;
            let entries = state.policies.iter();
            entries
                .map(|(name, entry)| (name.clone(), entry.clone()))
                .collect::<Vec<_>>()
        };
        for (name, entry) in entries {
            if let Some(wanted) = entry.file_to_load(&self.loader).await {
                self.loader.load_ahead(&name, wanted, Services::Live).await;
            }
        }
        let mut state = self.state.lock().await;
        let (policies, report) = state
            .policies
            .configured(&self.loader, &self.file, &state.config.policies, false)
            .await?;
        let changed = report.iter().any(|reloaded| reloaded.changed);
        state.policies = policies;
        if changed {
            self.install(&state)?;
        }
        log_report(&report);
        self.record_loaded(&report);
        Ok(())
    }

    /// Looks at the certificates' files again, and puts changed ones in force.
    pub(crate) async fn reload_certificates(&self) {
        self.follow_certificates(&self.state.lock().await.config);
    }

    fn follow_certificates(&self, config: &Config) {
        // TLS that a reload adds or removes waits for a restart, as its listeners do.
        if let (Some(certificates), Some(tls)) = (&self.certificates, &config.tls) {
            certificates.follow(&tls.certificates, self.node.metrics());
        }
    }

    /// The files to be watched: components, certificates and their keys.
    pub(crate) async fn files(&self) -> Vec<PathBuf> {
        let state = self.state.lock().await;
        let mut files = state.policies.files();
        for certificate in state.config.tls.iter().flat_map(|tls| &tls.certificates) {
            files.push(certificate.chain.clone());
            files.push(certificate.key.clone());
        }
        files
    }
}

impl State {
    async fn make(
        loader: &Loader,
        policies: &Policies,
        upstreams: &HashMap<String, Arc<Upstream>>,
        config: Config,
    ) -> anyhow::Result<(Self, Vec<Reloaded>)> {
        let upstreams = connect(&config.upstreams, upstreams)?;
        let (policies, report) = policies
            .configured(loader, &config.file, &config.policies, true)
            .await?;
        Ok((
            Self {
                config,
                policies,
                upstreams,
            },
            report,
        ))
    }
}

/// Upstreams whose settings are the same keep their connections.
fn connect(
    wanted: &BTreeMap<String, config::Upstream>,
    known: &HashMap<String, Arc<Upstream>>,
) -> anyhow::Result<HashMap<String, Arc<Upstream>>> {
    wanted
        .iter()
        .map(|(name, upstream)| {
            let settings = settings::upstream(name, upstream)
                .map_err(|reason| anyhow::anyhow!("upstream {name:?}: {reason}"))?;
            let upstream = match known.get(name) {
                Some(known) if *known.settings() == settings => Arc::clone(known),
                _ => Upstream::new(settings)?,
            };
            Ok((name.clone(), upstream))
        })
        .collect()
}

/// What a reload cannot change.
fn warn_of_restart(old: &Config, new: &Config) {
    let differs = [
        ("listen", old.listen != new.listen),
        ("tls.listen", listens(old) != listens(new)),
        ("threads", old.threads != new.threads),
        ("memory", old.memory.capacity != new.memory.capacity),
        ("data_dir", old.data_dir != new.data_dir),
        (
            "admin",
            format!("{:?}", old.admin) != format!("{:?}", new.admin),
        ),
        ("deploy", old.trusted_keys != new.trusted_keys),
        (
            "redis",
            format!("{:?}", old.redis) != format!("{:?}", new.redis),
        ),
        (
            "disk",
            format!("{:?}", old.disk) != format!("{:?}", new.disk),
        ),
        (
            "cache",
            format!("{:?}", old.cache) != format!("{:?}", new.cache),
        ),
        (
            "limits",
            format!("{:?}", old.limits) != format!("{:?}", new.limits),
        ),
        ("log", format!("{:?}", old.log) != format!("{:?}", new.log)),
    ];
    for (key, _) in differs.iter().filter(|(_, differs)| *differs) {
        tracing::warn!(key, "changed, but takes effect only after a restart");
    }
}

/// What of TLS needs a restart: all but the certificates.
fn listens(config: &Config) -> Option<(&[SocketAddr], Duration)> {
    let tls = config.tls.as_ref()?;
    Some((&tls.listen, tls.handshake_timeout))
}

fn log_report(report: &[Reloaded]) {
    for reloaded in report {
        match &reloaded.error {
            Some(error) => tracing::error!(
                policy = reloaded.name,
                version = reloaded.version,
                error,
                "the new component was not taken; the version in force stays"
            ),
            None if reloaded.changed => {
                tracing::info!(
                    policy = reloaded.name,
                    version = reloaded.version,
                    "policy loaded"
                );
            }
            None => {}
        }
    }
}
