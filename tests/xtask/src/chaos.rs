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

/// Builds the node as it is measured, and runs the scenarios one after the other.
pub(crate) fn run(options: &Options) -> Result<()> {
    install::tools(&[REDIS])?;
    let build = [
        "build",
        "--release",
        "--workspace",
        "--bin",
        "weir",
        "--bin",
        "weir-chaos",
    ];
    run::shown(&mut run::cargo(&build))?;
    let release = run::target_dir().join("release");
    let mut command = std::process::Command::new(release.join("weir-chaos"));
    command
        .args(&options.words)
        .env("WEIR_BIN", release.join("weir"))
        .current_dir(run::workspace());
    run::shown(&mut command)
}
