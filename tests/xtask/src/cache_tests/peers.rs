//! The caches that the suite is run against.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bench::server::{Server, free_port};
use crate::run;

/// The node in the release profile, or what `WEIR_BIN` names.
pub(super) fn weir_binary() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("WEIR_BIN") {
        return Ok(PathBuf::from(program));
    }
    run::shown(&mut run::cargo(&[
        "build",
        "--release",
        "--workspace",
        "--bin",
        "weir",
    ]))?;
    Ok(run::target_dir().join("release/weir"))
}

/// Its default configuration, and lines of its only route.
pub(super) fn weir(program: &Path, dir: &Path, origin: u16, route: &str) -> Result<Server> {
    let port = free_port()?;
    let config = dir.join("weir.toml");
    let text = format!(
        "listen = [\"127.0.0.1:{port}\"]\n\
         [upstreams.origin]\nservers = [\"http://127.0.0.1:{origin}\"]\n\
         [[routes]]\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n{route}"
    );
    std::fs::write(&config, text)?;
    let version = run::answer(program, &["--version"]).unwrap_or_default();
    let words = ["run", "-c", &config.to_string_lossy()];
    Server::start("weir", version, port, dir, program, &words)
}

/// As the suite's authors configure it.
pub(super) fn nginx(dir: &Path, origin: u16) -> Result<Server> {
    let port = free_port()?;
    let user = match run::answer("id", &["-u"]).as_deref() {
        Some("0") => "user root;",
        _ => "",
    };
    let at = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|part| format!("{part}_temp_path {at}/{part};\n"))
        .concat();
    let text = format!(
        "{user}\nworker_processes 1;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\n\
         events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{temporary}\
         proxy_cache_path {at}/cache levels=1:2 keys_zone=my-cache:8m max_size=1000m inactive=600m;\n\
         server {{ listen 127.0.0.1:{port}; location / {{\n\
         proxy_pass http://127.0.0.1:{origin};\nproxy_cache my-cache;\n\
         proxy_cache_revalidate on;\nproxy_http_version 1.1;\n}} }} }}\n"
    );
    let config = dir.join("nginx.conf");
    std::fs::write(&config, text)?;
    let program = run::find("nginx").context("nginx is not on PATH")?;
    let words = ["-c", &config.to_string_lossy(), "-g", "daemon off;"];
    Server::start("nginx", String::new(), port, dir, &program, &words)
}

/// As the suite's authors configure it: no freshness and no grace of its own.
pub(super) fn varnish(dir: &Path, origin: u16) -> Result<Server> {
    let port = free_port()?;
    let vcl = dir.join("default.vcl");
    let text =
        format!("vcl 4.0;\nbackend default {{ .host = \"127.0.0.1\"; .port = \"{origin}\"; }}\n");
    std::fs::write(&vcl, text)?;
    let program = run::find("varnishd").context("varnishd is not on PATH")?;
    let (work, listen) = (dir.join("varnish"), format!("127.0.0.1:{port}"));
    let (work, vcl) = (work.to_string_lossy(), vcl.to_string_lossy());
    let words = [
        "-F",
        "-n",
        &work,
        "-a",
        &listen,
        "-f",
        &vcl,
        "-T",
        "none",
        "-p",
        "default_ttl=0",
        "-p",
        "default_grace=0",
        "-p",
        "default_keep=3600",
        "-s",
        "malloc,64M",
    ];
    Server::start("varnish", String::new(), port, dir, &program, &words)
}
