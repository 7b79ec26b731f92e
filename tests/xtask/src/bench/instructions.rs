//! The instructions of a hit, counted by callgrind: what a change adds to the hit path,
//! on a machine that is too noisy to time it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::origin::Origin;
use super::server::{Server, free_port};
use super::{CONNECTIONS, OBJECTS, load, target, weir};
use crate::install::{self, Tool};
use crate::{run, shipped};

const TOOLS: &[Tool] = &[
    Tool {
        program: "taskset",
        package: "util-linux",
    },
    Tool {
        program: "valgrind",
        package: "valgrind",
    },
];

/// Hits that are counted.
const HITS: usize = 10_000;

/// Counts, prints, and compares where there is something to compare with.
pub(super) fn run(dir: &Path, against: Option<&Path>) -> Result<()> {
    install::tools(TOOLS)?;
    let shipped = shipped::node()?;
    let more = |this: u64, than: u64| (this as f64 / than as f64 - 1.0) * 100.0;
    let plain = count(dir, "plain", &shipped, None)?;
    println!("instructions of a hit: {plain}");
    let policy = count(dir, "policy", &shipped, Some("static-site"))?;
    println!(
        "through static-site: {policy}, {:+.1} %",
        more(policy, plain)
    );
    if let Some(program) = against {
        println!("in {}:", program.display());
        let there = count(dir, "plain-there", program, None)?;
        println!(
            "instructions of a hit: {there}; here {:+.1} %",
            more(plain, there)
        );
        let there = count(dir, "policy-there", program, Some("static-site"))?;
        println!(
            "through static-site: {there}; here {:+.1} %",
            more(policy, there)
        );
    }
    Ok(())
}

/// In `program`, of hits that a policy decides or that none does.
fn count(dir: &Path, name: &'static str, program: &Path, policy: Option<&str>) -> Result<u64> {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir)?;
    let origin = Origin::start()?;
    let port = free_port()?;
    let config = dir.join("weir.toml");
    let text = match policy {
        Some(policy) => weir::with(program, port, origin.port(), policy)?,
        None => weir::plain(port, origin.port())?,
    };
    std::fs::write(&config, text)?;
    let counts = dir.join("counts");
    let words = [
        "--tool=callgrind",
        "--instr-atstart=no",
        &format!("--callgrind-out-file={}", counts.display()),
        &program.to_string_lossy(),
        "run",
        "-c",
        &config.to_string_lossy(),
    ];
    let valgrind = run::find("valgrind").context("valgrind is not on PATH")?;
    let server = Server::start(name, String::new(), port, &dir, &valgrind, &words)?;
    load::warm(&server)?;
    let mut clients = (0..CONNECTIONS)
        .map(|_| Client::connect(port))
        .collect::<Result<Vec<_>>>()?;
    // So that no first time of a connection is counted.
    hits(&mut clients, CONNECTIONS * 2)?;
    let fetched = origin.requests();
    counting(&server, "on")?;
    hits(&mut clients, HITS)?;
    counting(&server, "off")?;
    if origin.requests() != fetched {
        bail!("not all requests were hits: the count means nothing");
    }
    // It writes its counts when it ends.
    drop(server);
    Ok(total(&counts)? / HITS as u64)
}

fn hits(clients: &mut [Client], number: usize) -> Result<()> {
    let connections = clients.len();
    for at in 0..number {
        clients[at % connections].hit(at % OBJECTS)?;
    }
    Ok(())
}

fn counting(server: &Server, switch: &str) -> Result<()> {
    let id = server.id().to_string();
    let said = Command::new("callgrind_control")
        .args([&format!("--instr={switch}"), &id])
        .output()
        .context("cannot run callgrind_control")?;
    if !said.status.success() {
        bail!(
            "callgrind_control: {}",
            String::from_utf8_lossy(&said.stderr)
        );
    }
    Ok(())
}

/// The sum of what callgrind wrote.
fn total(counts: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(counts).context("callgrind's counts")?;
    text.lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("no total in {}", counts.display()))
}

/// A connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
    port: u16,
}

impl Client {
    fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("the server's port")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self {
            stream: BufReader::new(stream),
            port,
        })
    }

    /// Asks as wrk does in the benchmark, and reads the whole answer.
    fn hit(&mut self, object: usize) -> Result<()> {
        let (target, port) = (target(object), self.port);
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: {}\r\n\r\n",
            load::AGENT
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut length = None;
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).context("an answer")?;
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            }
            if line.trim_end().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length.context("an answer without a length")?];
        self.stream.read_exact(&mut body).context("a body")
    }
}
