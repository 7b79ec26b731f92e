//! The trait that a policy implements, and the macro that exports it.

use std::cell::OnceCell;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bindings::exports::weir::policy::hooks;
use crate::bindings::weir::policy::http as wit;
use crate::{Decision, Event, Request, Response, Selector};

/// A cache policy. Export it with [`crate::export!`].
///
/// The host runs several instances of a policy at once, replaces them now and then, and
/// remembers decisions, so that `on_request` is not called for every request. A policy
/// therefore keeps no state between calls: hence `&self` everywhere. What must be shared
/// goes through [`crate::kv`] or [`crate::rate_limit`].
pub trait Policy: Sized + 'static {
    /// The `config` table of the policy. Derive [`Deserialize`] with
    /// `#[serde(deny_unknown_fields, default)]`, so that a misspelt key is refused by name.
    /// A policy without settings uses [`NoConfig`].
    type Config: DeserializeOwned;

    /// Makes the policy from its settings; once for each instance, before anything else.
    ///
    /// # Errors
    /// An error refuses the policy at load, with this text: say which setting is wrong and
    /// what it may be.
    fn configure(config: Self::Config) -> Result<Self, String>;

    /// Decides a request.
    ///
    /// # Errors
    /// An error counts as a failure of the policy: the route's `on_policy_error` applies.
    fn on_request(&self, request: &Request) -> Result<Decision, String>;

    /// Adjusts what is done with the origin's response to a request that was not answered
    /// at the edge. By default RFC 9111 decides alone.
    ///
    /// # Errors
    /// An error means that nothing is stored.
    fn on_response(&self, request: &Request, response: &Response) -> Result<(), String> {
        let _ = (request, response);
        Ok(())
    }

    /// Says what a domain event invalidates; nothing by default, and nothing for an event
    /// that the policy does not know.
    ///
    /// # Errors
    /// An error makes `POST /v1/events` answer 503: nothing is acknowledged.
    fn on_event(&self, event: &Event) -> Result<Vec<Selector>, String> {
        let _ = event;
        Ok(Vec::new())
    }
}

/// The settings of a policy that has none: every key is refused.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Makes a policy from its settings as JSON text, the way the host does: `null` or nothing
/// is an empty table.
///
/// # Errors
/// When the settings do not have the policy's form, or the policy refuses them.
pub fn configure<P: Policy>(config: &str) -> Result<P, String> {
    let config = match config.trim() {
        "" | "null" => "{}",
        given => given,
    };
    // By way of a Value: its errors name the key and don't end in a line and column of text
    // that nobody wrote.
    let config: serde_json::Value = serde_json::from_str(config)
        .map_err(|error| format!("the policy's config is not JSON: {error}"))?;
    let config = serde_path_to_error::deserialize(config)
        .map_err(|error| format!("the policy's config: {error}"))?;
    P::configure(config)
}

/// The place of the configured policy, one in each instance. Used by [`crate::export!`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Instance<P>(OnceCell<P>);

impl<P: Policy> Instance<P> {
    #[doc(hidden)]
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    #[doc(hidden)]
    pub fn configure(&self, config: &str) -> Result<(), String> {
        self.0
            .set(configure(config)?)
            .map_err(|_| "configure was called twice on one instance".to_owned())
    }

    #[doc(hidden)]
    pub fn on_request(&self, request: &wit::Request) -> Result<hooks::Decision, String> {
        self.policy()?
            .on_request(&Request::host_side(request))
            .map(|decision| decision.to_host())
    }

    #[doc(hidden)]
    pub fn on_response(
        &self,
        request: &wit::Request,
        response: &wit::Response,
    ) -> Result<(), String> {
        self.policy()?
            .on_response(&Request::host_side(request), &Response::host_side(response))
    }

    #[doc(hidden)]
    pub fn on_event(&self, event: &wit::Event) -> Result<Vec<hooks::Selector>, String> {
        let selectors = self.policy()?.on_event(&Event::host_side(event))?;
        Ok(selectors.iter().map(Selector::to_host).collect())
    }

    fn policy(&self) -> Result<&P, String> {
        self.0
            .get()
            .ok_or_else(|| "the host called a hook before configure".to_owned())
    }
}

impl<P: Policy> Default for Instance<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// Exports a policy from a `cdylib` crate; once in a crate.
///
/// ```
/// use weir_sdk::prelude::*;
///
/// struct ByPath;
///
/// impl Policy for ByPath {
///     type Config = NoConfig;
///
///     fn configure(_: NoConfig) -> Result<Self, String> {
///         Ok(Self)
///     }
///
///     fn on_request(&self, _: &Request) -> Result<Decision, String> {
///         Ok(Lookup::new("pages").key(path()).key(query()).into())
///     }
/// }
///
/// weir_sdk::export!(ByPath);
/// ```
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        // A native linker does not take the names of a component's exports.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&str) -> ::std::result::Result<$policy, ::std::string::String> =
            $crate::configure::<$policy>;

        #[cfg(target_arch = "wasm32")]
        #[allow(
            unsafe_code,
            reason = "the exports of a component are unsafe extern functions"
        )]
        const _: () = {
            type Policy = $policy;

            ::std::thread_local! {
                static INSTANCE: $crate::Instance<Policy> = const { $crate::Instance::new() };
            }

            struct Hooks;

            impl $crate::bindings::exports::weir::policy::hooks::Guest for Hooks {
                fn configure(
                    config: ::std::string::String,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    INSTANCE.with(|instance| instance.configure(&config))
                }

                fn on_request(
                    request: &$crate::bindings::weir::policy::http::Request,
                ) -> ::std::result::Result<
                    $crate::bindings::weir::policy::http::Decision,
                    ::std::string::String,
                > {
                    INSTANCE.with(|instance| instance.on_request(request))
                }

                fn on_response(
                    request: &$crate::bindings::weir::policy::http::Request,
                    response: &$crate::bindings::weir::policy::http::Response,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    INSTANCE.with(|instance| instance.on_response(request, response))
                }

                fn on_event(
                    event: &$crate::bindings::weir::policy::http::Event,
                ) -> ::std::result::Result<
                    ::std::vec::Vec<$crate::bindings::weir::policy::http::Selector>,
                    ::std::string::String,
                > {
                    INSTANCE.with(|instance| instance.on_event(event))
                }
            }

    $crate::bindings::export_hooks!(Hooks with_types_in $crate::bindings);
        };
    };
}
