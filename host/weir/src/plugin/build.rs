//! `weir plugin build`: compiles a policy to a component. Here those in Rust.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::TARGET;
use super::component::{About, check_hooks, componentize, write_section};
use super::progress::is_step;
use super::test::own_cases;
use super::toolchain::{cargo, cargo_missing, ensure_target, said};
use crate::cases::{SECTION, Suite, report_of};

/// Settings of the release profile that make a policy fast and small whatever its workspace
/// says. A panic aborts, since a component cannot unwind.
const PROFILE: [&str; 5] = [
    "profile.release.opt-level=3",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.strip=true",
];

/// A policy that was compiled, and not written yet.
pub(super) struct Built {
    /// The package's.
    name: String,
    /// With what it says of itself, and its cases.
    pub(super) component: Vec<u8>,
}

/// Compiles the policy in `dir`, a cargo package whose library is a `cdylib`, or a folder
/// with a `package.json` (JavaScript) or a `pyproject.toml` (Python), to a component at
/// `output` (default `DIR/target/NAME.wasm`, NAME being the package's name), and answers
/// where it is. The file appears whole or not at all. Cases that stand in `DIR/cases.toml`
/// are run, and go into the component.
///
/// `progress` is given a line for every step and, when it compiles, the compiler's warnings;
/// [`super::terminal`] shows them.
///
/// # Errors
/// When there is no cargo, the target cannot be installed, `dir` is no such package, it does
/// not compile (the compiler's messages are in the error), what comes out is no policy, or
/// one of its cases fails.
pub(crate) fn build(dir: &Path, output: Option<&Path>, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    // Read first: a mistake in them should not cost a compilation.
    let cases = own_cases(dir)?;
    let built = Built::of(dir, cases.as_ref(), progress)?;
    if let Some(cases) = cases {
        progress("weir: running its cases");
        let report = report_of(&built.component, cases)?;
        if let Some(failure) = report.failure() {
            bail!("the policy is not what its cases say: {failure}");
        }
    }
    built.write(dir, output)
}

impl Built {
    /// Compiles it, and puts its cases in.
    pub(super) fn of(dir: &Path, cases: Option<&Suite>, progress: &dyn Fn(&str)) -> Result<Self> {
        let rust = dir.join("Cargo.toml").is_file();
        let script = match rust {
            true => None,
            false => Script::of(dir)?,
        };
        let (name, mut component) = match script {
            Some(script) => {
                let mut component = script.compile(progress)?;
                check_hooks(&component).with_context(|| format!("in {}", dir.display()))?;
                script.about.write(&mut component);
                (script.name, component)
            }
            None => rust_component(dir, progress)?,
        };
        if let Some(cases) = cases {
            write_section(SECTION, cases.text.as_bytes(), &mut component);
        }
        Ok(Self { name, component })
    }

    /// Puts it where it is wanted.
    pub(super) fn write(&self, dir: &Path, output: Option<&Path>) -> Result<PathBuf> {
        let output = match output {
            Some(output) => output.to_owned(),
            None => dir.join("target").join(format!("{}.wasm", self.name)),
        };
        write_atomically(&output, &self.component)
            .with_context(|| format!("writing the component {}", output.display()))?;
        Ok(output)
    }
}

/// The name of the package, and the component.
fn rust_component(dir: &Path, progress: &dyn Fn(&str)) -> Result<(String, Vec<u8>)> {
    let manifest = manifest(dir)?;
    let package = Package::of(&manifest)?;
    ensure_target(&package.dir, progress)?;
    let module = compile(&package, &manifest, progress)?;
    let module = std::fs::read(&module)
        .with_context(|| format!("reading what cargo compiled, {}", module.display()))?;
    progress("weir: making the component");
    let mut component = componentize(&module).with_context(|| format!("in {}", dir.display()))?;
    package.about.write(&mut component);
    Ok((package.name, component))
}

/// The path of the manifest, absolute.
fn manifest(dir: &Path) -> Result<PathBuf> {
    let manifest = dir.join("Cargo.toml");
    if !dir.is_dir() {
        bail!("{} is not a directory", dir.display());
    }
    if !manifest.is_file() {
        bail!(
            "{} has no Cargo.toml, package.json or pyproject.toml: it is no policy in Rust, \
             JavaScript or Python. `weir plugin new DIR` makes one in Rust to start from",
            dir.display()
        );
    }
    manifest
        .canonicalize()
        .with_context(|| format!("finding {}", manifest.display()))
}

struct Package {
    id: String,
    name: String,
    dir: PathBuf,
    /// Apart from what cargo builds otherwise: a running `cargo build` of the same
    /// workspace must not make a policy's build wait.
    target_dir: PathBuf,
    about: About,
}

impl Package {
    /// Asks cargo what `manifest` is.
    fn of(manifest: &Path) -> Result<Self> {
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .arg("--manifest-path")
            .arg(manifest)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| {
                let what = cargo_missing(&error);
                anyhow::Error::new(error).context(what)
            })?;
        if !output.status.success() {
            bail!(
                "cargo does not understand {}:\n{}",
                manifest.display(),
                said(&output)
            );
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).context("reading what `cargo metadata` says")?;
        Self::from_metadata(&metadata, manifest)
    }

    fn from_metadata(metadata: &Value, manifest: &Path) -> Result<Self> {
        let package = items(&metadata["packages"])
            .find(|package| package["manifest_path"].as_str().map(Path::new) == Some(manifest))
            .ok_or_else(|| {
                anyhow!(
                    "{} is a workspace without a package of its own; name the folder of one policy",
                    manifest.display()
                )
            })?;
        let is_cdylib = items(&package["targets"])
            .flat_map(|target| items(&target["crate_types"]))
            .any(|kind| kind == "cdylib");
        if !is_cdylib {
            bail!(
                "{} has no library of the type cdylib, which components are made from. Add:\n\n\
                 [lib]\ncrate-type = [\"cdylib\", \"rlib\"]",
                manifest.display()
            );
        }
        let text = |field: &str| package[field].as_str().map(str::to_owned);
        Ok(Self {
            id: text("id").context("`cargo metadata` gives the package no id")?,
            name: text("name").context("`cargo metadata` gives the package no name")?,
            dir: manifest.parent().unwrap_or(Path::new("/")).to_owned(),
            about: About {
                version: text("version"),
                authors: Some(
                    items(&package["authors"])
                        .filter_map(Value::as_str)
                        .collect::<Vec<_>>()
                        .join(", "),
                ),
                description: text("description"),
            },
            target_dir: metadata["target_directory"]
                .as_str()
                .map(|target| Path::new(target).join("policies"))
                .context("`cargo metadata` gives no target directory")?,
        })
    }
}

/// Runs cargo; answers the path of the core module.
fn compile(package: &Package, manifest: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command
        .args(["build", "--release", "--lib", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(&package.target_dir)
        .args(["--package", &package.id]);
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    let mut child = command
        .current_dir(&package.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            let what = cargo_missing(&error);
            anyhow::Error::new(error).context(what)
        })?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("cargo's output cannot be read");
    };
    // Both pipes are read at once: cargo would wait on a full one.
    let messages = std::thread::spawn(move || {
        let mut messages = Vec::new();
        BufReader::new(stdout)
            .read_to_end(&mut messages)
            .map(|_| messages)
    });
    let mut heard = String::new();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.context("reading what cargo says")?;
        let line = String::from_utf8_lossy(&line);
        if is_step(&line) {
            progress(&line);
        } else {
            heard.push_str(&line);
            heard.push('\n');
        }
    }
    let messages = messages
        .join()
        .map_err(|_| anyhow!("the thread reading cargo's messages failed"))?
        .context("reading cargo's messages")?;
    let status = child.wait().context("waiting for cargo")?;
    if !status.success() {
        bail!("{} does not compile:\n{}", package.name, heard.trim_end());
    }
    heard.lines().for_each(progress);
    artifact(&messages, &package.id).ok_or_else(|| {
        anyhow!(
            "cargo compiled {}, but names no .wasm file for it",
            package.name
        )
    })
}

/// The `.wasm` file among cargo's messages, one JSON value a line.
fn artifact(messages: &[u8], package_id: &str) -> Option<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| {
            message["reason"] == "compiler-artifact" && message["package_id"] == package_id
        })
        .filter_map(|message| {
            items(&message["filenames"])
                .filter_map(Value::as_str)
                .find(|name| name.ends_with(".wasm"))
                .map(PathBuf::from)
        })
        .next_back()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(dir)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".weir-");
    // A node may run as another user than the one who builds; the umask still applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

mod script;

use script::Script;

#[cfg(test)]
mod tests;
