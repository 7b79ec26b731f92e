//! A generation: routes, policies and settings that change together. A request pins the
//! one it met and keeps it until its last policy call.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;
use weir_policy::Policy;
use weir_semantics::Rules;

use crate::metrics::{Counted, GaugeGuard, Metrics, NamespaceMetrics, PolicyMetrics, RouteMetrics};
use crate::router::{PatternError, Router};
use crate::settings::{CacheSettings, RouteSettings, route_label};
use crate::trial::Trial;
use crate::upstream::Upstream;

/// The namespace that metrics give to objects without one: plain RFC 9111.
pub const NO_NAMESPACE: &str = "-";

/// A policy as a generation holds it.
#[derive(Debug, Clone)]
pub struct PolicySlot {
    /// The version that decides.
    pub current: Policy,
    /// The version before, for `on_policy_error = "last-good"`.
    pub previous: Option<Policy>,
    /// A version that is tried beside it.
    pub trial: Option<Arc<Trial>>,
    pub(crate) metrics: Arc<PolicyMetrics>,
}

impl PolicySlot {
    /// Puts a policy in force, with the one it replaces.
    #[must_use]
    pub fn new(
        current: Policy,
        previous: Option<Policy>,
        trial: Option<Arc<Trial>>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            metrics: Arc::new(metrics.policy(current.name())),
            current,
            previous,
            trial,
        }
    }

    /// The canary that decides for this client, if there is one.
    pub(crate) fn canary_for(&self, client: IpAddr) -> Option<&Arc<Trial>> {
        let trial = self.trial.as_ref()?;
        trial.decides_for(client).then_some(trial)
    }
}

impl PolicySlot {
    /// Counts a call of `on-request`.
    pub(crate) fn count_request(&self, policy: &Policy) {
        self.metrics.count(match policy.remembers() {
            true => Counted::OnRequest,
            false => Counted::WithoutMemo,
        });
    }
}

/// A route with everything it leads to.
#[derive(Debug)]
pub struct Route {
    /// What the configuration says of it.
    pub settings: RouteSettings,
    /// Its name in metrics and logs.
    pub label: Arc<str>,
    /// Where it forwards to.
    pub upstream: Arc<Upstream>,
    /// Who decides.
    pub policy: Option<PolicySlot>,
    pub(crate) metrics: RouteMetrics,
    pub(crate) rules: Rules,
    pub(crate) shed: Arc<Semaphore>,
    namespaces: Vec<Arc<NamespaceMetrics>>,
}

impl Route {
    /// The counters of a namespace that this route's policy may use.
    pub(crate) fn namespace(&self, namespace: Option<&str>) -> Option<&Arc<NamespaceMetrics>> {
        let name = namespace.unwrap_or(NO_NAMESPACE);
        self.namespaces
            .iter()
            .find(|known| &*known.namespace == name)
    }
}

/// Routes and policies that change together.
#[derive(Debug)]
pub struct Generation {
    /// Counts up with each change.
    pub number: u64,
    router: Router<Route>,
    policies: Vec<PolicySlot>,
    _alive: GaugeGuard,
}

/// Why a generation cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// A path pattern is malformed or taken.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A route names what there is not. The configuration's checks rule it out.
    #[error("route {route}: there is no {what} named {name:?}")]
    Missing {
        /// The route's label.
        route: Arc<str>,
        /// `upstream` or `policy`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl Generation {
    /// Puts a generation together.
    ///
    /// # Errors
    /// See [`GenerationError`]; nothing has changed then.
    pub fn build(
        number: u64,
        routes: &[RouteSettings],
        upstreams: &HashMap<String, Arc<Upstream>>,
        policies: &HashMap<String, PolicySlot>,
        cache: &CacheSettings,
        metrics: &Metrics,
    ) -> Result<Self, GenerationError> {
        let mut router = Router::default();
        for settings in routes {
            let label = route_label(settings.host.as_deref(), &settings.path);
            let missing = |what, name: &str| GenerationError::Missing {
                route: Arc::clone(&label),
                what,
                name: name.to_owned(),
            };
            let upstream = upstreams
                .get(&settings.upstream)
                .ok_or_else(|| missing("upstream", &settings.upstream))?;
            let policy = settings
                .policy
                .as_ref()
                .map(|name| policies.get(name).ok_or_else(|| missing("policy", name)))
                .transpose()?
                .cloned();
            let mut namespaces = vec![metrics.namespace(NO_NAMESPACE)];
            if let Some(slot) = &policy {
                namespaces.extend(
                    slot.current
                        .namespaces()
                        .iter()
                        .map(|name| metrics.namespace(name)),
                );
            }
            let route = Arc::new(Route {
                metrics: metrics.route(&label),
                rules: Rules {
                    store_set_cookie: settings.store_set_cookie,
                    longest_life: cache.longest_life,
                    targeted: cache.targeted.clone(),
                    negative: settings.negative.clone(),
                    disconnected: cache.disconnected,
                },
                shed: Arc::new(Semaphore::new(settings.shed_above)),
                upstream: Arc::clone(upstream),
                policy,
                namespaces,
                settings: settings.clone(),
                label,
            });
            router.insert(settings.host.as_deref(), &settings.path, &route)?;
        }
        router.finish()?;
        Ok(Self {
            number,
            router,
            policies: policies.values().cloned().collect(),
            _alive: metrics.generation_born(),
        })
    }

    /// The routes.
    #[must_use]
    pub fn router(&self) -> &Router<Route> {
        &self.router
    }

    /// The policies, in no order.
    #[must_use]
    pub fn policies(&self) -> &[PolicySlot] {
        &self.policies
    }
}
