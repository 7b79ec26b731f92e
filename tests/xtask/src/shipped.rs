//! The node as it is shipped: built so that it can be watched, put to work, and built again for
//! what was seen (profile-guided optimisation). A hit costs a tenth less by that.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
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

/// What the work needs, and what is measured.
pub(crate) const TOOLS: [Tool; 3] = [
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
    println!("{}", built(options.train)?.display());
    Ok(())
}

/// The binary that `WEIR_BIN` names, or the node as it is shipped, built for that.
pub(crate) fn node() -> Result<PathBuf> {
    match std::env::var_os("WEIR_BIN") {
        Some(program) => Ok(PathBuf::from(program)),
        None => built(false),
    }
}

/// Builds it: on two cores in a quarter of an hour at first. A profile of code that has changed
/// since serves for what has not, and that is said.
fn built(train_anew: bool) -> Result<PathBuf> {
    let (dir, host) = (run::target_dir().join("shipped"), host()?);
    let profile = dir.join(profile_name()?);
    if train_anew || !profile.is_file() {
        train(&dir, &host, &profile)?;
    } else {
        let made_of = fs::read_to_string(note(&profile)).unwrap_or_default();
        let is_other = made_of != code()?;
        println!(
            "with the profile {}{} (cargo xtask dist --train makes another)",
            profile.display(),
            match is_other {
                true => ", which was made of other code: a hit may cost a few percent more by it",
                false => "",
            }
        );
    }
    let flag = format!("-Cprofile-use={}", profile.display());
    build(&dir, &host, &flag)
}

/// With another compiler or other dependencies no function is called as it was.
fn profile_name() -> Result<String> {
    let lock = run::workspace().join("Cargo.lock");
    let lock = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    let mut hasher = DefaultHasher::new();
    (run::rustc(&["-vV"])?, lock).hash(&mut hasher);
    Ok(format!("{:016x}.profdata", hasher.finish()))
}

/// Where it stands of which code a profile was made.
fn note(profile: &Path) -> PathBuf {
    profile.with_extension("code")
}

/// What tells the node's code from any other: a function that has changed has no profile.
fn code() -> Result<String> {
    let (mut paths, mut files) = (vec![run::workspace().join("host")], Vec::new());
    while let Some(path) = paths.pop() {
        let read = || format!("cannot read {}", path.display());
        if path.is_dir() {
            for entry in fs::read_dir(&path).with_context(read)? {
                paths.push(entry.with_context(read)?.path());
            }
        } else {
            let text = fs::read(&path).with_context(read)?;
            files.push((path, text));
        }
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// Watches a node at work.
fn train(dir: &Path, host: &str, profile: &Path) -> Result<()> {
    install::tools(&TOOLS)?;
    let merger = install::llvm_profdata(host)?;
    let (watched, seen) = (dir.join("watched"), dir.join("seen"));
    let code = code()?;
    // What a run that was interrupted has left is no part of this one.
    remove(&seen)?;
    let flag = format!("-Cprofile-generate={}", seen.display());
    let node = build(&watched, host, &flag)?;
    run::beside(&node, "weir-measure", &["train".to_owned()])?;
    let files = fs::read_dir(&seen)
        .with_context(|| format!("the node wrote nothing to {} at its end", seen.display()))?;
    let files: Vec<PathBuf> = files
        .map(|file| file.map(|file| file.path()))
        .collect::<std::io::Result<_>>()?;
    // Under another name until it is whole.
    let merged = dir.join("merged");
    let mut merge = Command::new(merger);
    run::shown(merge.arg("merge").arg("-o").arg(&merged).args(files))?;
    // Cargo does not see that a profile is another one.
    remove(&dir.join(host))?;
    let cannot = || format!("cannot write {}", profile.display());
    fs::rename(&merged, profile).with_context(cannot)?;
    fs::write(note(profile), code).with_context(cannot)?;
    // Some gigabytes that nobody needs any more.
    remove(&watched)?;
    remove(&seen)
}

/// Removes a directory, if it is there.
fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Builds a node in a directory of its own: with other flags cargo would build all that is in the
/// usual one anew. With a target named, build scripts are built without the flag.
fn build(dir: &Path, host: &str, flag: &str) -> Result<PathBuf> {
    let mut command = run::cargo(&["build", "--profile", "dist", "--workspace", "--bin", "weir"]);
    command
        .args(["--target", host, "--target-dir"])
        .arg(dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(flag));
    run::shown(&mut command)?;
    Ok(dir.join(host).join("dist/weir"))
}

/// This flag and those of the environment; those in cargo's configuration do not count then. Split
/// by what no path has, unlike `RUSTFLAGS`.
fn flags(flag: &str) -> OsString {
    const SEPARATOR: &str = "\x1f";
    let encoded = std::env::var("CARGO_ENCODED_RUSTFLAGS").ok();
    let plain = || {
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        flags.split_whitespace().collect::<Vec<_>>().join(SEPARATOR)
    };
    let mut flags = encoded.unwrap_or_else(plain);
    if !flags.is_empty() {
        flags.push_str(SEPARATOR);
    }
    flags.push_str(flag);
    flags.into()
}

/// What rustc calls this machine.
fn host() -> Result<String> {
    let version = run::rustc(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .with_context(|| format!("rustc -vV names no host:\n{version}"))
}
