//! The policy host: loads, limits and calls WebAssembly components.
//!
//! [`Engine::load`] makes a [`Policy`] of a component; its `on_request`, `on_response`
//! and `on_event` call the guest. The contract is `wit/policy.wit`. The crate knows
//! nothing of sockets or Redis: the node hands in [`HostServices`].
//!
//! A guest is never trusted: its time, memory, output and handles are bounded, it sees
//! only what it was granted, and an instance that failed is never used again.

mod about;
mod admission;
mod arena;
mod bindings;
mod bounds;
mod capabilities;
mod compiled_cache;
mod compiler;
mod compiling;
mod content;
mod cookie;
mod decision;
mod device;
mod engine;
mod error;
mod globs;
mod host_caps;
mod host_decision;
mod host_kv;
mod host_part;
mod host_request;
mod host_response;
mod input;
mod instance;
mod lane;
mod language;
mod limits;
mod load;
mod memo;
mod policy;
mod pool;
mod prepared;
mod query;
mod reads;
mod recent;
mod request;
mod sections;
mod shape;
mod state;
mod stats;
#[cfg(test)]
mod test_node;
mod ticker;
mod wasi;

pub use about::About;
pub use capabilities::{
    CAPABILITIES, Grants, HostServices, Kv, KvError, LogLevel, LogSink, RateLimit, RateVerdict,
    TracingLog,
};
pub use compiler::{Compiler, compile_component};
pub use content::Content;
pub use decision::{
    Adjustment, Decision, DoNotStore, Lifetime, Lookup, Pass, Reply, ResponseInfo, Selector, Target,
};
pub use device::DeviceClass;
pub use engine::{Engine, EngineError, EngineOptions};
pub use error::{CallError, CallErrorKind, LoadCause, LoadError};
pub use globs::Globs;
pub use input::{Input, Part, Values};
pub use limits::Limits;
pub use load::{CONTRACT, PolicySpec};
pub use policy::Policy;
pub use query::percent_decode;
pub use reads::{Answer, Read, ReadInput, Reads, Record};
pub use request::{RequestHead, Scheme};
pub use sections::custom_sections;
pub use shape::Shape;
pub use stats::{Hook, HookStats, LookedUp, Outcomes, PolicyStats};
