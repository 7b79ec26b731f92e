//! The node as it is shipped: built so that it can be watched, put to work, and built again for
//! what was seen (profile-guided optimisation). A hit costs a tenth less by that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::install::{self, Tool};
use crate::run;

/// What `cargo xtask dist` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Watch a node at work once more, also if there is a profile.
    #[arg(long)]
    train: bool,
}

/// What the work needs.
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

/// Builds it and says where it lies.
pub(crate) fn run(options: &Options) -> Result<()> {
    let dir = dir();
    if options.train && dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    println!("{}", node()?.display());
    Ok(())
}

/// The binary that `WEIR_BIN` names, or the node as it is shipped, built for that: on two cores in
/// a quarter of an hour at first. What was seen is kept: a profile of code that has changed since
/// serves for all of it that has not.
pub(crate) fn node() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("WEIR_BIN") {
        return Ok(PathBuf::from(program));
    }
    let (dir, host) = (dir(), host()?);
    let profile = dir.join("weir.profdata");
    if !profile.is_file() {
        train(&dir, &host, &profile)?;
    }
    let flag = format!("-Cprofile-use={}", profile.display());
    build(&dir, &host, &flag)
}

/// Where all of it lies.
fn dir() -> PathBuf {
    run::target_dir().join("shipped")
}

/// Watches a node at work.
fn train(dir: &Path, host: &str, profile: &Path) -> Result<()> {
    install::tools(&TOOLS)?;
    let merger = install::llvm_profdata(host)?;
    let (watched, seen) = (dir.join("watched"), dir.join("seen"));
    let flag = format!("-Cprofile-generate={}", seen.display());
    let node = build(&watched, host, &flag)?;
    run::beside(&node, "weir-measure", &["train".to_owned()])?;
    let files = fs::read_dir(&seen).with_context(|| format!("cannot read {}", seen.display()))?;
    let files: Vec<PathBuf> = files
        .map(|file| file.map(|file| file.path()))
        .collect::<std::io::Result<_>>()?;
    if files.is_empty() {
        bail!("the node wrote nothing to {} at its end", seen.display());
    }
    // Under another name until it is whole.
    let merged = dir.join("merged");
    let mut merge = Command::new(merger);
    run::shown(merge.arg("merge").arg("-o").arg(&merged).args(files))?;
    fs::rename(&merged, profile).with_context(|| format!("cannot write {}", profile.display()))?;
    // Some gigabytes that nobody needs any more.
    for dir in [watched, seen] {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

/// Builds a node in a directory of its own: with other flags cargo would build all that is in the
/// usual one anew. With a target named, build scripts are built without the flag.
fn build(dir: &Path, host: &str, flag: &str) -> Result<PathBuf> {
    let mut command = run::cargo(&["build", "--profile", "dist", "--workspace", "--bin", "weir"]);
    command
        .args(["--target", host, "--target-dir"])
        .arg(dir)
        // Unlike RUSTFLAGS not split at spaces, which a path may have.
        .env("CARGO_ENCODED_RUSTFLAGS", flag);
    run::shown(&mut command)?;
    Ok(dir.join(host).join("dist/weir"))
}

/// What rustc calls this machine.
fn host() -> Result<String> {
    let version = run::answer("rustc", &["-vV"]).context("rustc does not say what it is")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .with_context(|| format!("rustc -vV names no host:\n{version}"))
}
