//! wrk, and what it says.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::process::Command;

const MARK: &str = "RESULT ";

/// What wrk did.
pub(crate) struct Load {
    /// Requests answered each second.
    pub(crate) rate: f64,
}

/// Asks for `/0000000` to `/(objects-1)` at random, all for the same host.
pub(crate) async fn run(
    port: u16,
    objects: u64,
    connections: u32,
    seconds: u64,
    dir: &Path,
) -> Result<Load> {
    let script = dir.join("random.lua");
    let host = super::site::HOST;
    std::fs::write(
        &script,
        format!(
            r#"function init(args) math.randomseed(tonumber(args[1]) or 1) end
local headers = {{ ["Host"] = "{host}" }}
function request()
  return wrk.format("GET", string.format("/%07d", math.random(0, {objects} - 1)), headers)
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{MARK}{{"requests":%d,"microseconds":%d,"failed":%d}}\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"#
        ),
    )?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")])
        .arg("-s")
        .arg(&script)
        .arg(format!("http://127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run wrk (Debian package wrk)")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some(line) = said.lines().find_map(|line| line.strip_prefix(MARK)) else {
        bail!("wrk gave no result:\n{said}");
    };
    let result: Value = serde_json::from_str(line)?;
    let number = |name: &str| result[name].as_u64().unwrap_or(0);
    if number("failed") > 0 {
        bail!("{} requests failed", number("failed"));
    }
    #[expect(clippy::cast_precision_loss, reason = "it is printed")]
    let rate = number("requests") as f64 * 1e6 / number("microseconds").max(1) as f64;
    Ok(Load { rate })
}
