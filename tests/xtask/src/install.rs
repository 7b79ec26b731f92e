//! Getting what a fresh machine lacks, and saying so.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;

/// The compilation target of policies.
const WASM_TARGET: &str = "wasm32-unknown-unknown";
/// The toolchain of fuzzers.
const NIGHTLY: &str = "nightly";

/// A program that comes in a Debian package.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    /// The program.
    pub(crate) program: &'static str,
    /// The package that has it.
    pub(crate) package: &'static str,
}

/// Makes sure that these programs are there: installs their packages as root or through
/// a sudo that asks nothing. Fails, saying what to do, where neither works.
pub(crate) fn tools(tools: &[Tool]) -> Result<()> {
    let missing: Vec<_> = tools
        .iter()
        .filter(|tool| run::find(tool.program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    let names = packages.join(" ");
    let Some(root) = root() else {
        bail!(
            "missing: {names}. They cannot be installed from here: that takes root or a sudo \
             without a password, and apt-get.\nDo it yourself (Debian, Ubuntu: \
             sudo apt-get install {names}; macOS: brew install {names}) and run this again."
        );
    };
    println!("installing {names} (Debian packages)");
    // A stale list is the usual state of a fresh machine; an update that fails may still
    // leave lists good enough to install from.
    if run::shown(root.apt_get().args(["update", "-qq"])).is_err() {
        println!("apt-get update failed; trying to install all the same");
    }
    let words = ["install", "-y", "-qq", "--no-install-recommends"];
    run::shown(root.apt_get().args(words).args(packages))?;
    if let Some(tool) = missing
        .iter()
        .find(|tool| run::find(tool.program).is_none())
    {
        bail!(
            "{} was installed, but {} is not on PATH",
            tool.package,
            tool.program
        );
    }
    Ok(())
}

/// Makes sure that the toolchain can compile policies.
pub(crate) fn wasm_target() -> Result<()> {
    let installed = run::answer("rustup", &["target", "list", "--installed"]);
    match installed {
        Some(list) if list.lines().any(|line| line == WASM_TARGET) => Ok(()),
        Some(_) => {
            println!("installing the Rust target {WASM_TARGET}");
            run::shown(Command::new("rustup").args(["target", "add", WASM_TARGET]))
        }
        None => {
            // A distribution's own toolchain: the target is a package of its own there.
            let sysroot = run::answer("rustc", &["--print", "sysroot"]).unwrap_or_default();
            let library = format!("{sysroot}/lib/rustlib/{WASM_TARGET}");
            if std::path::Path::new(&library).is_dir() {
                return Ok(());
            }
            bail!(
                "the Rust target {WASM_TARGET} is missing, and there is no rustup to add it: \
                 install rustup from https://rustup.rs, or your system's package of that target"
            )
        }
    }
}

/// The program that merges what instrumented programs wrote; it is of the same LLVM as rustc.
pub(crate) fn llvm_profdata(host: &str) -> Result<PathBuf> {
    let program = PathBuf::from(run::rustc(&["--print", "sysroot"])?)
        .join("lib/rustlib")
        .join(host)
        .join("bin/llvm-profdata");
    if !program.is_file() {
        println!("installing llvm-tools (a component of the Rust toolchain)");
        let words = ["component", "add", "llvm-tools"];
        let added = run::shown(Command::new("rustup").args(words));
        if added.is_err() || !program.is_file() {
            bail!(
                "{} is missing: install rustup from https://rustup.rs, or build without a profile \
                 (cargo build --profile dist --workspace --bin weir) and name that by WEIR_BIN",
                program.display()
            );
        }
    }
    Ok(program)
}

/// A command of nightly Rust's cargo. `cargo xtask` runs under another toolchain and says
/// so to what it starts.
pub(crate) fn nightly_cargo() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", NIGHTLY, "cargo"]);
    for name in ["CARGO", "CARGO_MANIFEST_DIR", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

/// Makes sure that there is a nightly toolchain: coverage for fuzzers is not stable.
pub(crate) fn nightly() -> Result<()> {
    let Some(list) = run::answer("rustup", &["toolchain", "list"]) else {
        bail!(
            "fuzzing needs nightly Rust, and there is no rustup to add it: \
             install rustup from https://rustup.rs"
        );
    };
    if list.lines().any(|line| line.starts_with(NIGHTLY)) {
        return Ok(());
    }
    println!("installing nightly Rust");
    let words = ["toolchain", "install", NIGHTLY, "--profile", "minimal"];
    run::shown(Command::new("rustup").args(words))
}

/// Makes sure that there is cargo-fuzz.
pub(crate) fn cargo_fuzz() -> Result<()> {
    let known = nightly_cargo().args(["fuzz", "--version"]).output();
    if known.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    println!("installing cargo-fuzz (from crates.io; it takes a minute)");
    run::shown(nightly_cargo().args(["install", "--locked", "cargo-fuzz"]))
        .context("do it yourself and run this again: cargo +nightly install cargo-fuzz")
}

/// How to become root.
enum Root {
    Already,
    Sudo,
}

impl Root {
    fn apt_get(&self) -> Command {
        const QUIET: &str = "DEBIAN_FRONTEND=noninteractive";
        let mut command = match self {
            Self::Already => Command::new("env"),
            Self::Sudo => Command::new("sudo"),
        };
        if matches!(self, Self::Sudo) {
            // sudo drops the environment; `env` behind it sets it again.
            command.args(["-n", "env"]);
        }
        command.args([QUIET, "apt-get"]);
        command
    }
}

/// `None` where nobody can be root without being asked something.
fn root() -> Option<Root> {
    run::find("apt-get")?;
    if run::answer("id", &["-u"])? == "0" {
        return Some(Root::Already);
    }
    run::answer("sudo", &["-n", "true"]).map(|_| Root::Sudo)
}
