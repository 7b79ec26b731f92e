//! The data plane: listeners, routes, pipeline, upstreams.
//!
//! In reading order: [`serve`] takes connections, [`Node::handle`] takes requests;
//! `pipeline` is the way of a request; [`Upstream`] reaches origins; [`Generation`] is
//! what changes under traffic.

mod body;
mod compress;
mod fill_body;
mod generation;
mod incoming;
mod interim;
mod metrics;
mod node;
mod path;
mod pieces;
mod pipeline;
mod request;
mod router;
mod server;
mod settings;
mod tee;
mod tls;
mod trial;
mod tunnels;
mod upload;
mod upstream;
pub mod wire;

pub use body::{Body, BodyError};
pub use generation::{Generation, GenerationError, NO_NAMESPACE, PolicySlot, Route};
pub use incoming::{Incoming, IncomingError};
pub use interim::Interim;
pub use metrics::{GaugeGuard, Metrics, NamespaceMetrics, PolicyMetrics, ResultKind, RouteMetrics};
pub use node::{Node, Parts};
pub use pipeline::Answering;
pub use pipeline::explain::{ExplainError, Explanation, ReadLine, Stored};
#[doc(hidden)]
pub use pipeline::fuzzing;
pub use pipeline::inspect::{
    Inspection, LogPosition, PurgedBy, Selecting, StoredChunks, StoredObject, TierInspection,
    Unreadable,
};
pub use pipeline::invalidate::{EventSelectors, normalised_host};
pub use pipeline::notes::Cost;
pub use pipeline::outcome::{Assumed, Outcome};
pub use request::Malformed;
pub use router::{Matched, PatternError, Router};
pub use server::{Listener, bind, serve};
pub use settings::{
    CacheSettings, CompressSettings, OnPolicyError, Overrides, RedisDown, RouteSettings,
    ServerSettings, UpstreamSettings, UpstreamTls, route_label,
};
pub use tls::{
    Certificate, CertificateError, CertificatePart, HandshakeError, Protocol, Tls, TlsError,
    client_tls, read_authorities,
};
pub use trial::{Difference, DifferenceKind, Trial, TrialMode, TrialReport};
pub use tunnels::{Tunnel, TunnelEnd, Tunnels};
pub use upstream::{
    Dialer, OriginBody, OriginRequest, Upstream, UpstreamError, UpstreamErrorKind,
    system_authorities,
};
/// What a route's compression is told in.
pub use weir_semantics::{Coding, MediaTypes};
