//! Varnish with the rule of `plugins/static-site` in VCL.

use std::path::Path;

use anyhow::{Context, Result};

use super::server::{Server, free_port};
use crate::run;

/// Starts varnishd with its storage, its workspace and its log in memory.
pub(crate) fn start(dir: &Path, origin: u16) -> Result<Server> {
    let dir = dir.join("varnish");
    std::fs::create_dir_all(&dir)?;
    let port = free_port()?;
    let vcl = dir.join("bench.vcl");
    std::fs::write(&vcl, text(origin))?;
    let program = run::find("varnishd").context("varnishd is not on PATH")?;
    let listen = format!("127.0.0.1:{port}");
    let (work, vcl) = (dir.join("work"), vcl.to_string_lossy().into_owned());
    let work = work.to_string_lossy().into_owned();
    let words = [
        "-F",
        "-n",
        &work,
        "-a",
        &listen,
        "-f",
        &vcl,
        "-s",
        "malloc,256m",
        "-T",
        "none",
    ];
    Server::start("varnish", version(&program), port, &dir, &program, &words)
}

/// The same rule: the query sorted, without what only counts visitors, and the class of
/// the device in the key.
fn text(origin: u16) -> String {
    format!(
        r#"vcl 4.1;
import std;
backend default {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_recv {{
  if (req.url ~ "[?&](utm_[a-z_]+|gclid|fbclid|msclkid|mc_[a-z]+)=") {{
    set req.url = regsuball(req.url, "&(utm_[a-z_]+|gclid|fbclid|msclkid|mc_[a-z]+)=[^&]*", "");
    set req.url = regsub(req.url, "\?(utm_[a-z_]+|gclid|fbclid|msclkid|mc_[a-z]+)=[^&]*&?", "?");
    set req.url = regsub(req.url, "\?$", "");
  }}
  set req.url = std.querysort(req.url);
  if (req.http.User-Agent ~ "(?i)bot|crawl|spider|slurp") {{
    set req.http.X-Device = "bot";
  }} elsif (req.http.User-Agent ~ "(?i)ipad|tablet|kindle|silk"
      || (req.http.User-Agent ~ "(?i)android" && req.http.User-Agent !~ "(?i)mobile")) {{
    set req.http.X-Device = "tablet";
  }} elsif (req.http.Sec-CH-UA-Mobile == "?1" || req.http.User-Agent ~ "(?i)mobi|iphone|ipod") {{
    set req.http.X-Device = "mobile";
  }} else {{
    set req.http.X-Device = "desktop";
  }}
}}
sub vcl_hash {{
  hash_data(req.http.X-Device);
}}
"#
    )
}

fn version(program: &Path) -> String {
    let output = std::process::Command::new(program).arg("-V").output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
        .unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
