//! `cargo xtask measure`: the tiers and the policies, measured.

use anyhow::Result;
use clap::Args;

use crate::{install, run, shipped};

/// What `cargo xtask measure` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// purge, memory, redis-hit, compress, restart, paused, neighbour, swaps, deploys, policy-cost or train, and its options; `purge --help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<String>,
}

/// Builds the node as it is shipped, or takes the one that `WEIR_BIN` names, and measures it.
pub(crate) fn run(options: &Options) -> Result<()> {
    install::tools(&shipped::TOOLS)?;
    run::beside(&shipped::node()?, "weir-measure", &options.words)
}
