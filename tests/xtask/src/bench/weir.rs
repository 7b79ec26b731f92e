//! Weir, as it is shipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::server::{Server, free_port};
use crate::{install, run, shipped};

/// Builds and starts a node; `policy` names a folder under `plugins/`.
pub(crate) fn start(dir: &Path, origin: u16, policy: Option<&str>) -> Result<Server> {
    let program = shipped::node()?;
    let name = if policy.is_some() {
        "weir, static-site"
    } else {
        "weir"
    };
    let dir = dir.join(if policy.is_some() {
        "weir-policy"
    } else {
        "weir"
    });
    std::fs::create_dir_all(&dir)?;
    let port = free_port()?;
    let text = match policy {
        Some(policy) => with(&program, port, origin, policy)?,
        None => plain(port, origin)?,
    };
    let config = dir.join("weir.toml");
    std::fs::write(&config, text)?;
    let version = run::answer(&program, &["--version"]).unwrap_or_default();
    let config = config.to_string_lossy().into_owned();
    Server::start(name, version, port, &dir, &program, &["run", "-c", &config])
}

/// The configuration without a policy.
pub(super) fn plain(port: u16, origin: u16) -> Result<String> {
    let admin = free_port()?;
    Ok(format!(
        "listen = [\"127.0.0.1:{port}\"]\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n\
         [memory]\ncapacity = \"256MiB\"\n\
         [upstreams.origin]\nservers = [\"http://127.0.0.1:{origin}\"]\n\
         [[routes]]\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n"
    ))
}

/// The configuration with a policy of `plugins/`, which `program` builds.
pub(super) fn with(program: &Path, port: u16, origin: u16, policy: &str) -> Result<String> {
    let component = build(program, policy)?;
    Ok(format!(
        "{}policy = \"{policy}\"\n\
         [policies.{policy}]\ncomponent = {:?}\nnamespaces = [\"site\"]\n\
         config = {{ variants = [\"device\"] }}\n",
        plain(port, origin)?,
        component.display().to_string()
    ))
}

fn build(program: &Path, policy: &str) -> Result<PathBuf> {
    install::wasm_target()?;
    let dir = run::target_dir().join("bench");
    std::fs::create_dir_all(&dir)?;
    let component = dir.join(format!("{policy}.wasm"));
    let source = run::workspace().join("plugins").join(policy);
    run::shown(
        Command::new(program)
            .args(["plugin", "build"])
            .arg(source)
            .arg("-o")
            .arg(&component),
    )?;
    Ok(component)
}
