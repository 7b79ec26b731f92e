//! nginx with `proxy_cache` on tmpfs.

use std::path::Path;

use anyhow::{Context, Result};

use super::server::{Server, free_port};
use crate::run;

/// One worker, no access log; the cache lies in `dir`, which is in memory.
pub(crate) fn start(dir: &Path, origin: u16, open_files: bool) -> Result<Server> {
    let name = if open_files {
        "nginx, open_file_cache"
    } else {
        "nginx"
    };
    let dir = dir.join(if open_files { "nginx-open" } else { "nginx" });
    std::fs::create_dir_all(&dir)?;
    let port = free_port()?;
    let conf = dir.join("nginx.conf");
    std::fs::write(&conf, text(&dir, port, origin, open_files))?;
    let program = run::find("nginx").context("nginx is not on PATH")?;
    let conf = conf.to_string_lossy().into_owned();
    let prefix = dir.to_string_lossy().into_owned();
    Server::start(
        name,
        version(&program),
        port,
        &dir,
        &program,
        &["-p", &prefix, "-c", &conf, "-g", "daemon off;"],
    )
}

fn text(dir: &Path, port: u16, origin: u16, open_files: bool) -> String {
    let user = match run::answer("id", &["-u"]).as_deref() {
        // As root it would hand the cache to a user who cannot write there.
        Some("0") => "user root;",
        _ => "",
    };
    let open_files = if open_files {
        "open_file_cache max=2000 inactive=1h; open_file_cache_valid 1h;"
    } else {
        ""
    };
    let dir = dir.display();
    format!(
        "{user}
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  {open_files}
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  proxy_cache_path {dir}/cache levels=1:2 keys_zone=bench:32m max_size=256m inactive=1d use_temp_path=off;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{origin};
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_cache bench;
    }}
  }}
}}
"
    )
}

fn version(program: &Path) -> String {
    let output = std::process::Command::new(program).arg("-v").output();
    output
        .map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned())
        .unwrap_or_default()
}
