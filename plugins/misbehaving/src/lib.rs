//! A policy that does what a policy must not, as its settings say:
//! `{"misbehave": "trap-on-request"}`. For tests of the host. Written against the raw
//! bindings, since the SDK keeps policies from much of this.
//!
//! Settings: `misbehave` (default `nothing`), `namespace` (default `test`), and `only`, a glob
//! of the paths on which to misbehave in `on-request` and `on-response` (default: all).
//! Behaving well means a lookup of the path and the query in `namespace`, tagged `test`.

#![allow(
    unsafe_code,
    clippy::panic,
    reason = "misbehaving is what this crate is for"
)]

mod misdeeds;
mod settings;

use std::cell::{Cell, OnceCell, RefCell};

use weir_sdk::bindings::exports::weir::policy::hooks::Guest;
use weir_sdk::bindings::weir::policy::http::{
    Decision, Event, Lookup, Part, Request, Response, Selector,
};

use settings::{Misdeed, Settings};

/// What an instance keeps between calls; a policy should keep nothing but its settings.
#[derive(Default)]
struct State {
    settings: OnceCell<Settings>,
    calls: Cell<u64>,
    last_path: RefCell<String>,
    kept: RefCell<Option<Part>>,
}

thread_local! {
    static STATE: State = State::default();
}

/// The policy.
#[derive(Debug)]
pub struct Misbehaving;

impl Guest for Misbehaving {
    fn configure(config: String) -> Result<(), String> {
        let settings = Settings::parse(&config)?;
        match settings.misbehave {
            Misdeed::TrapInConfigure => misdeeds::trap(),
            Misdeed::ErrorInConfigure => {
                return Err("misbehaving: refused as its settings ask".to_owned());
            }
            Misdeed::EndlessLoopInConfigure => misdeeds::endless_loop(),
            _ => {}
        }
        STATE
            .with(|state| state.settings.set(settings))
            .map_err(|_| "configured twice".to_owned())
    }

    fn on_request(request: &Request) -> Result<Decision, String> {
        with_settings(|settings, state| {
            if settings.applies(request) {
                misdeeds::on_request(settings, state, request)
            } else {
                Ok(Decision::Lookup(good_lookup(&settings.namespace)))
            }
        })
    }

    fn on_response(request: &Request, response: &Response) -> Result<(), String> {
        with_settings(|settings, _| {
            if settings.applies(request) {
                misdeeds::on_response(settings, response)
            } else {
                Ok(())
            }
        })
    }

    fn on_event(event: &Event) -> Result<Vec<Selector>, String> {
        with_settings(|settings, _| misdeeds::on_event(settings, event))
    }
}

fn with_settings<T>(
    call: impl FnOnce(&Settings, &State) -> Result<T, String>,
) -> Result<T, String> {
    STATE.with(|state| {
        let settings = state.settings.get().ok_or("not configured")?;
        call(settings, state)
    })
}

fn good_lookup(namespace: &str) -> Lookup {
    let lookup = Lookup::new(namespace);
    lookup.key(Part::path());
    lookup.key(Part::query(&[]));
    lookup.tag(vec![Part::text("test")]);
    lookup
}

// A native linker does not take the names of a component's exports.
#[cfg(target_arch = "wasm32")]
weir_sdk::bindings::export_hooks!(Misbehaving with_types_in weir_sdk::bindings);
