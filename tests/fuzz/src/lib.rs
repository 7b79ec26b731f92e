//! What the fuzzers run: one function for each kind of bytes that reach a node from
//! clients, origins or Redis. Each asserts what must hold whatever the bytes are.
//!
//! `cargo xtask fuzz` runs them under libFuzzer (nightly Rust and cargo-fuzz); the inputs
//! in `corpus/` are replayed by the plain tests.
#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "a fuzz target says by a panic what it found"
)]

mod admin;
mod redis;
mod request;
mod semantics;
mod wire;

pub use admin::admin;
pub use redis::{log, record};
pub use request::request;
pub use semantics::{exchange, ranges};
pub use wire::wire;

/// A fuzz target: a name, which is also that of its folder in `corpus/`, and what is run.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. Each has a file of its name in `libfuzzer/fuzz_targets/`.
pub const TARGETS: &[Target] = &[
    ("wire", wire),
    ("request", request),
    ("exchange", exchange),
    ("ranges", ranges),
    ("record", record),
    ("log", log),
    ("admin", admin),
];
