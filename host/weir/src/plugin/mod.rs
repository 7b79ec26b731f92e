//! `weir plugin new` and `weir plugin build`: from nothing to a component.

mod build;
mod component;
mod new;
mod progress;
mod toolchain;

pub(crate) use build::build;
pub(crate) use new::scaffold;
pub(crate) use progress::terminal;

/// The target that policies are compiled for.
const TARGET: &str = "wasm32-unknown-unknown";
