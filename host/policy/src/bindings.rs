//! Rust types and traits of the contract, generated from `wit/policy.wit`.
//!
//! Only the imports are generated: the exports are called through typed functions
//! ([`crate::instance`]), synchronously or not, which one set of bindings cannot do.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package weir:host;
        world host {
            import weir:policy/http@1.1.0;
            import weir:policy/log@1.1.0;
            import weir:policy/clock@1.1.0;
            import weir:policy/kv@1.1.0;
            import weir:policy/rate-limit@1.1.0;
        }
    ",
    world: "weir:host/host",
    imports: {
        "weir:policy/kv": async | trappable,
        "weir:policy/rate-limit": async | trappable,
        default: trappable,
    },
});

pub(crate) use weir::policy::{clock, http, kv, log, rate_limit};
