//! `cargo xtask measure`: the tiers and the policies, measured.

use anyhow::Result;
use clap::Args;

use crate::install::{self, Tool};
use crate::{run, shipped};

/// What `cargo xtask measure` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// purge, memory, redis-hit, compress, restart, paused, neighbour, swaps, deploys, policy-cost or train, and its options; `purge --help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<String>,
}

const TOOLS: [Tool; 3] = [
    Tool {
        program: "redis-server",
        package: "redis-server",
    },
    Tool {
        program: "wrk",
        package: "wrk",
    },
    Tool {
        program: "h2load",
        package: "nghttp2-client",
    },
];

/// Builds the node as it is shipped, or takes the one that `WEIR_BIN` names, and measures it.
pub(crate) fn run(options: &Options) -> Result<()> {
    install::tools(&TOOLS)?;
    run::beside(&shipped::node()?, "weir-measure", &options.words)
}
