//! The load: wrk, walking through the objects.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::server::Server;
use super::{CONNECTIONS, LOAD_CORE, OBJECTS, target};

pub(super) const AGENT: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 \
    (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1";
const MARK: &str = "RESULT ";

/// What wrk did.
pub(crate) struct Load {
    /// Requests answered.
    pub(crate) requests: u64,
    /// How long it took.
    pub(crate) time: Duration,
    /// Median latency.
    pub(crate) p50: Duration,
    /// The latency that 99 of 100 requests kept.
    pub(crate) p99: Duration,
}

/// Writes the Lua script.
pub(crate) fn write_script(dir: &Path) -> Result<PathBuf> {
    let targets: Vec<_> = (0..OBJECTS).map(target).collect();
    let targets = serde_json::to_string(&targets)?;
    let targets = targets.trim_matches(['[', ']']);
    let text = format!(
        r#"local targets = {{ {targets} }}
local requests = {{}}
local at = 0
function init(args)
  wrk.headers["User-Agent"] = "{AGENT}"
  for index, target in ipairs(targets) do
    requests[index] = wrk.format("GET", target)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{MARK}{{"requests":%d,"microseconds":%d,"failed":%d,"p50":%d,"p99":%d}}\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#
    );
    let path = dir.join("walk.lua");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Loads a server for so many seconds. Fails when a request did.
pub(crate) fn run(port: u16, seconds: u64, script: &Path) -> Result<Load> {
    let output = Command::new("taskset")
        .args(["-c", LOAD_CORE, "wrk", "-t1"])
        .arg(format!("-c{CONNECTIONS}"))
        .arg(format!("-d{seconds}s"))
        .arg("-s")
        .arg(script)
        .arg(format!("http://127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .output()
        .context("cannot run wrk")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix(MARK));
    let Some(line) = line else {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("wrk gave no result:\n{said}{error}");
    };
    let result: Value = serde_json::from_str(line).context("wrk's result")?;
    let number = |name: &str| result[name].as_u64().unwrap_or(0);
    if number("failed") > 0 || number("requests") == 0 {
        bail!("requests failed, the numbers mean nothing:\n{said}");
    }
    Ok(Load {
        requests: number("requests"),
        time: Duration::from_micros(number("microseconds")),
        p50: Duration::from_micros(number("p50")),
        p99: Duration::from_micros(number("p99")),
    })
}

/// Asks for every object twice, so that all of them lie in the cache; fails at an answer
/// that is not the object.
pub(crate) fn warm(server: &Server) -> Result<()> {
    for _ in 0..2 {
        for object in 0..OBJECTS {
            let answer = get(server.port, &target(object))?;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            if !head.starts_with("HTTP/1.1 200") || !body.contains(&"o".repeat(100)) {
                bail!("{} answers {}:\n{answer}", server.name, target(object));
            }
        }
    }
    Ok(())
}

fn get(port: u16, target: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("the server's port")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: {AGENT}\r\n\
         Connection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("the answer to {target}"))?;
    Ok(answer)
}
