//! wrk, and what it says.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::process::Command;

const MARK: &str = "RESULT ";

/// What wrk did.
pub(crate) struct Load {
    /// Requests answered.
    pub(crate) requests: u64,
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
    let host = super::site::HOST;
    let script = format!(
        r#"function init(args) math.randomseed(tonumber(args[1]) or 1) end
local headers = {{ ["Host"] = "{host}" }}
function request()
  return wrk.format("GET", string.format("/%07d", math.random(0, {objects} - 1)), headers)
end
"#
    );
    let command = Command::new("wrk");
    start(command, &script, port, connections, seconds, dir).await
}

/// Sends the requests in a file, one after the other and again from the start; each ends with
/// an empty line. Runs on this core alone.
pub(crate) async fn play(
    port: u16,
    requests: &Path,
    connections: u32,
    seconds: u64,
    core: usize,
    dir: &Path,
) -> Result<Load> {
    // They are made beforehand, so that the load costs little itself.
    let script = format!(
        r#"local requests, at = {{}}, 0
function init(args)
  local file = assert(io.open("{}", "rb"))
  for request in file:read("*a"):gmatch("(.-\r\n\r\n)") do requests[#requests + 1] = request end
  file:close()
end
function request()
  at = at % #requests + 1
  return requests[at]
end
"#,
        requests.display()
    );
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), "wrk"]);
    start(command, &script, port, connections, seconds, dir).await
}

async fn start(
    mut command: Command,
    script: &str,
    port: u16,
    connections: u32,
    seconds: u64,
    dir: &Path,
) -> Result<Load> {
    let file = dir.join("wrk.lua");
    std::fs::write(
        &file,
        format!(
            r#"{script}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{MARK}{{"requests":%d,"microseconds":%d,"failed":%d}}\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"#
        ),
    )?;
    let output = command
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")])
        .arg("-s")
        .arg(&file)
        .arg(format!("http://127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run wrk (Debian package wrk)")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some(line) = said.lines().find_map(|line| line.strip_prefix(MARK)) else {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("wrk gave no result:\n{said}{error}");
    };
    let result: Value = serde_json::from_str(line)?;
    let number = |name: &str| result[name].as_u64().unwrap_or(0);
    if number("failed") > 0 {
        bail!("{} requests failed", number("failed"));
    }
    let requests = number("requests");
    #[expect(clippy::cast_precision_loss, reason = "it is printed")]
    let rate = requests as f64 * 1e6 / number("microseconds").max(1) as f64;
    Ok(Load { requests, rate })
}
