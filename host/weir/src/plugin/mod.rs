//! `weir plugin new`, `build` and `test`: from nothing to a component that does what its cases
//! say.

mod build;
mod component;
mod new;
mod progress;
mod test;
mod toolchain;

pub(crate) use build::build;
#[cfg(test)]
pub(crate) use component::write_section;
pub(crate) use new::scaffold;
pub(crate) use progress::terminal;
pub(crate) use test::{TestArgs, test};

/// The target that policies are compiled for.
const TARGET: &str = "wasm32-unknown-unknown";
