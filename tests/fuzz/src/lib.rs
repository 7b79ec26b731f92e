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

mod redis;
mod semantics;

pub use redis::{log, record};
pub use semantics::{exchange, ranges};

/// A fuzz target: a name, which is also that of its folder in `corpus/`, and what is run.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. Each has a file of its name in `libfuzzer/fuzz_targets/`.
pub const TARGETS: &[Target] = &[
    ("exchange", exchange),
    ("ranges", ranges),
    ("record", record),
    ("log", log),
];
