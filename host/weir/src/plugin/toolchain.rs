//! Finding what compiles a policy.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use super::TARGET;

/// `cargo`, as the cargo that runs us says, or as the shell finds it.
pub(super) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// What starting cargo failed of, for a person.
pub(super) fn cargo_missing(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            "cargo was not found; policies in Rust are compiled by it. Install Rust from \
             https://rustup.rs, or put cargo on the PATH"
                .to_owned()
        }
        _ => "cargo could not be started".to_owned(),
    }
}

/// Makes sure that the toolchain used in `dir` can compile for [`TARGET`].
pub(super) fn ensure_target(dir: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    if target_installed(dir) {
        return Ok(());
    }
    progress(&format!("weir: installing the target {TARGET}"));
    let output = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(dir)
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!(
            "`rustup target add {TARGET}` failed, and policies are compiled for that target:\n{}",
            said(&output)
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "the Rust toolchain lacks the target {TARGET}, and there is no rustup to add it. \
             Install it as your toolchain came (for a distribution's Rust, a package such as \
             libstd-rust-dev-wasm32), or use Rust from https://rustup.rs"
        ),
        Err(error) => Err(error).context("rustup could not be started"),
    }
}

fn target_installed(dir: &Path) -> bool {
    let output = Command::new(rustc())
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(dir)
        .output();
    let Ok(output) = output else { return false };
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    // rustc prints the place whether or not anything is there.
    output.status.success()
        && std::fs::read_dir(libraries).is_ok_and(|mut entries| entries.next().is_some())
}

fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// What a command printed on standard error, without the white space around it.
pub(super) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
