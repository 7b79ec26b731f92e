//! Write Weir cache policies in Rust.
//!
//! A policy decides, for each request, under which key the object is looked up, how long it
//! lives and what invalidates it. It is a WebAssembly component with four hooks, which are
//! the methods of [`Policy`]:
//!
//! ```
//! use std::time::Duration;
//! use weir_sdk::prelude::*;
//!
//! struct Users {
//!     lifetime: Duration,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields, default)]
//! struct Config {
//!     lifetime: Span,
//! }
//!
//! impl Default for Config {
//!     fn default() -> Self {
//!         Self { lifetime: Span::seconds(3600) }
//!     }
//! }
//!
//! impl Policy for Users {
//!     type Config = Config;
//!
//!     fn configure(config: Config) -> Result<Self, String> {
//!         Ok(Self { lifetime: config.lifetime.into() })
//!     }
//!
//!     // The route's path is "/users/{id}". The id is named, not read, so one decision
//!     // serves all users and is remembered once.
//!     fn on_request(&self, _: &Request) -> Result<Decision, String> {
//!         Ok(Lookup::new("user")
//!             .key(text("profile"))
//!             .key(param("id"))
//!             .tag([text("user:"), param("id")])
//!             .into())
//!     }
//!
//!     fn on_response(&self, _: &Request, response: &Response) -> Result<(), String> {
//!         if response.status() == 200 {
//!             response.set_lifetime(self.lifetime);
//!         }
//!         Ok(())
//!     }
//!
//!     fn on_event(&self, event: &Event) -> Result<Vec<Selector>, String> {
//!         Ok(match event.kind() {
//!             "user.updated" => vec![Selector::tag(format!("user:{}", event.text("id")?))],
//!             _ => Vec::new(),
//!         })
//!     }
//! }
//!
//! weir_sdk::export!(Users);
//!
//! // Policies can be tested natively:
//! let policy: Users = weir_sdk::configure(r#"{"lifetime": "5m"}"#).unwrap();
//! let response = weir_sdk::testing::TestResponse::new(200);
//! let request = weir_sdk::testing::TestRequest::get("/users/42").with_param("id", "42");
//! policy.on_response(&request.view(), &response.view()).unwrap();
//! assert_eq!(response.done().lifetime, Some(Duration::from_secs(300)));
//!
//! // A misspelt setting is refused by name:
//! let error = weir_sdk::configure::<Users>(r#"{"lifetme": "5m"}"#).err().unwrap();
//! assert!(error.contains("unknown field `lifetme`"));
//! ```
//!
//! The crate of a policy has `crate-type = ["cdylib"]` (add `"rlib"` for tests in `tests/`)
//! and is made into a component by `weir plugin build`; `weir plugin new` makes one to start
//! from. Only the capabilities that a policy uses ([`kv`], [`rate_limit`], [`log`],
//! [`clock`]) are imported by its component, and the configuration must grant each.
//!
//! # Name inputs in keys rather than read them
//!
//! The host records what each `on_request` call reads and remembers its decision for requests
//! that read the same: hits then don't enter WebAssembly. A policy that reads the path has one
//! decision for each path; one that names it, `.key(path())`, has one for all.

pub mod bindings;
pub mod clock;
mod decision;
mod event;
pub mod kv;
pub mod log;
mod lookup;
mod part;
mod policy;
pub mod rate_limit;
mod request;
mod response;
mod selector;
mod span;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use decision::{Decision, Pass, Reply};
pub use event::Event;
pub use lookup::Lookup;
pub use part::{
    Part, body_digest, cookie, device, header, language, method, param, path, query, query_only,
    query_param, query_without, text,
};
#[doc(hidden)]
pub use policy::Instance;
pub use policy::{NoConfig, Policy, configure};
pub use request::{Device, Request};
pub use response::Response;
pub use selector::Selector;
pub use span::Span;

/// All that most policies need: `use weir_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Decision, Device, Event, Lookup, NoConfig, Part, Pass, Policy, Reply, Request, Response,
        Selector, Span, body_digest, cookie, device, header, language, method, param, path, query,
        query_only, query_param, query_without, text,
    };
}
