//! h2load at a steady rate, and what it says of latency. A client that waits for each
//! answer before it asks again measures how busy the machine is, and of latency what is
//! left over.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use super::site;

/// Asks for all objects in turn, by each of the connections, `rate` times a second in all.
/// Says how long each answer took, in microseconds.
pub(crate) async fn run(
    port: u16,
    objects: u64,
    connections: u32,
    rate: u32,
    seconds: u64,
    dir: &Path,
) -> Result<Vec<u64>> {
    let (urls, log) = (dir.join("urls"), dir.join("log"));
    let host = site::HOST;
    let list: String = (0..objects)
        .map(|number| format!("http://{host}{}\n", site::path(number)))
        .collect();
    std::fs::write(&urls, list)?;
    let _ = std::fs::remove_file(&log);
    let output = Command::new("h2load")
        .args(["--h1", "-t1", &format!("-c{connections}")])
        .arg(format!("--rps={}", rate / connections.max(1)))
        .arg(format!("--duration={seconds}"))
        .arg(format!("--connect-to=127.0.0.1:{port}"))
        .arg(format!("--input-file={}", urls.display()))
        .arg(format!("--log-file={}", log.display()))
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run h2load (Debian package nghttp2-client)")?;
    ensure!(
        output.status.success(),
        "h2load failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(&log).context("h2load wrote no log")?;
    let mut latencies = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('\t').skip(1);
        let (Some(status), Some(latency)) = (fields.next(), fields.next()) else {
            bail!("h2load's log has an odd line: {line}");
        };
        ensure!(status == "200", "a request failed: {line}");
        latencies.push(latency.parse()?);
    }
    ensure!(!latencies.is_empty(), "h2load sent nothing");
    Ok(latencies)
}
