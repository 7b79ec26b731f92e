//! `cargo xtask chaos`: Redis goes wrong under load, with a timeline and the counts.

use anyhow::Result;
use clap::Args;

use crate::install::{self, Tool};
use crate::run;

/// What `cargo xtask chaos` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// redis-kill, redis-pause, redis-empty, sentinel-failover, cluster-node-loss or
    /// stampede, and `--rate`, `--away`, `--rounds`; nothing: all of them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

const REDIS: Tool = Tool {
    program: "redis-server",
    package: "redis-server",
};

/// Builds the node, and runs the scenarios one after the other.
pub(crate) fn run(options: &Options) -> Result<()> {
    install::tools(&[REDIS])?;
    run::released("weir-chaos", &options.words)
}
