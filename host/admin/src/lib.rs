//! The control plane: the admin API and the metrics page.
//!
//! This crate speaks HTTP and knows who may ask; what a node does about a request is behind
//! [`Control`], which the binary implements. In reading order: `control` (the seam), `serve`
//! (connections), `auth` (who may ask), `body` (what is read), `routes`, `error` (what is
//! answered when something is wrong).

mod auth;
mod body;
mod control;
mod error;
mod routes;
mod serve;

#[cfg(test)]
mod tests;

pub use auth::{Auth, TokenError};
pub use control::{
    AuditEntry, Connection, Connections, Control, ControlError, ControlErrorKind, Deployed,
    EventAnswer, ExplainRequest, Fleet, FleetNode, FleetPolicy, HookCost, InspectRequest,
    InvalidateAnswer, InvalidateRequest, Outcomes, PolicyCost, PolicyInfo, Quarantined, Readiness,
    Released, Reloaded, RolledBack, Scope, Selected, SelectorKind, Source, Trial, TrialExample,
    TrialMode, TrialRequest, Upload, VersionInfo,
};
/// For the fuzz targets; a node serves it by [`serve`].
#[doc(hidden)]
pub use routes::router;
pub use routes::{MAX_AUDIT, MAX_COMPONENT, MAX_CONNECTIONS, MAX_JSON, MAX_SELECTORS, SIGNATURE};
pub use serve::serve;
