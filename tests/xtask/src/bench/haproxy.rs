//! HAProxy with its cache, which is in memory. Its key is the URL: it has no rule.

use std::path::Path;

use anyhow::{Context, Result};

use super::server::{Server, free_port};
use crate::run;

/// One thread, no log.
pub(crate) fn start(dir: &Path, origin: u16) -> Result<Server> {
    let dir = dir.join("haproxy");
    std::fs::create_dir_all(&dir)?;
    let port = free_port()?;
    let conf = dir.join("haproxy.cfg");
    std::fs::write(&conf, text(port, origin))?;
    let program = run::find("haproxy").context("haproxy is not on PATH")?;
    let conf = conf.to_string_lossy().into_owned();
    let version = run::answer(&program, &["-v"]).unwrap_or_default();
    let version = version.lines().next().unwrap_or_default().to_owned();
    let words = ["-db", "-f", &conf];
    Server::start("haproxy", version, port, &dir, &program, &words)
}

fn text(port: u16, origin: u16) -> String {
    format!(
        "global
  nbthread 1
  maxconn 2000
defaults
  mode http
  timeout client 1h
  timeout server 1h
  timeout connect 5s
  timeout http-keep-alive 1h
cache bench
  total-max-size 256
  max-object-size 100000
  max-age 86400
frontend bench
  bind 127.0.0.1:{port}
  http-request cache-use bench
  http-response cache-store bench
  default_backend origin
backend origin
  server origin 127.0.0.1:{origin}
"
    )
}
