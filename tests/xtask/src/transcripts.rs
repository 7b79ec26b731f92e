//! `cargo xtask transcripts`: what a node answers curl, topic by topic.

use anyhow::Result;
use clap::Args;

use crate::install::{self, Tool};
use crate::run;

/// What `cargo xtask transcripts` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Topics: ranges, conditionals, graphql, … Show only those whose name contains one.
    names: Vec<String>,
}

const CURL: Tool = Tool {
    program: "curl",
    package: "curl",
};

/// Builds the node and runs the topics one after the other.
pub(crate) fn run(options: &Options) -> Result<()> {
    install::wasm_target()?;
    install::tools(&[CURL])?;
    run::shown(&mut run::cargo(&["build", "--workspace", "--bin", "weir"]))?;
    let weir = run::target_dir().join("debug/weir");
    let mut command = run::cargo(&[
        "test",
        "--quiet",
        "--workspace",
        "--test",
        "transcripts",
        "--",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.args(&options.names);
    command.env("WEIR_BIN", weir).env("WEIR_SHOW", "1");
    run::shown(&mut command)
}
