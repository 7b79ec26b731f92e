//! `cargo xtask test`: everything that must hold, in one command.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;

use crate::install::{self, Tool};
use crate::run;

/// What `cargo xtask test` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Leave out formatting and lints.
    #[arg(long)]
    only_tests: bool,
    /// Names of tests: run only those that contain one of them.
    filters: Vec<String>,
}

/// How many of a runner's last lines are shown again at the end.
const CLOSING: usize = 12;

const TOOLS: &[Tool] = &[
    Tool {
        program: "redis-server",
        package: "redis-server",
    },
    Tool {
        program: "docker-registry",
        package: "docker-registry",
    },
    // A policy in JavaScript.
    Tool {
        program: "npm",
        package: "npm",
    },
    // A test runs the curl lines of the documentation.
    Tool {
        program: "curl",
        package: "curl",
    },
];

/// Runs it all. The first thing that fails ends it.
pub(crate) fn run(options: &Options) -> Result<()> {
    install::wasm_target()?;
    install::tools(TOOLS)?;
    if !options.only_tests {
        run::shown(&mut run::cargo(&["fmt", "--all", "--check"]))?;
        let clippy = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        run::shown(&mut run::cargo(&clippy))?;
    }
    run::shown(&mut run::cargo(&["build", "--workspace", "--bin", "weir"]))?;
    let weir = run::target_dir().join("debug/weir");

    let mut closings = vec![unit_and_system(&weir, &options.filters)?];
    if options.filters.is_empty() {
        closings.push(one(
            "doctests",
            &["test", "--workspace", "--doc", "--no-fail-fast"],
            &weir,
        )?);
    }
    let failed = closings.iter().any(|closing| !closing.passed);
    for closing in &closings {
        println!("\n== {}", closing.name);
        for line in &closing.lines {
            println!("{line}");
        }
    }
    if failed {
        bail!("tests failed: see above");
    }
    println!("\nall tests passed");
    Ok(())
}

struct Closing {
    name: &'static str,
    passed: bool,
    lines: Vec<String>,
}

/// All tests but doctests, with nextest where it is installed.
fn unit_and_system(weir: &Path, filters: &[String]) -> Result<Closing> {
    let filters = filters.iter().map(String::as_str);
    if run::find("cargo-nextest").is_some() {
        let mut words = vec!["nextest", "run", "--workspace", "--no-fail-fast"];
        words.extend(filters);
        return one("tests (cargo nextest)", &words, weir);
    }
    println!("cargo-nextest is not installed: using cargo test, which shows less");
    let mut words = vec![
        "test",
        "--workspace",
        "--all-targets",
        "--no-fail-fast",
        "--",
    ];
    words.extend(filters);
    one("tests (cargo test)", &words, weir)
}

fn one(name: &'static str, words: &[&str], weir: &Path) -> Result<Closing> {
    let mut command = run::cargo(words);
    command.env("WEIR_BIN", weir);
    let (passed, mut lines) = run::kept(command, 4_000)?;
    lines.retain(|line| is_closing(line));
    let skip = lines.len().saturating_sub(CLOSING);
    lines.drain(..skip);
    Ok(Closing {
        name,
        passed,
        lines,
    })
}

/// Is it one of the lines by which a runner sums up, or names what failed? Colours may
/// stand between the words.
fn is_closing(line: &str) -> bool {
    ["Summary", "test result:", "FAIL", "TIMEOUT", "SIGABRT"]
        .iter()
        .any(|mark| line.contains(mark))
}
