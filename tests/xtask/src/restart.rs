//! `cargo xtask restart`: how soon a node with a disk tier is itself again.
//!
//! It is filled through its front door, stopped, started; killed while it writes, started.
//! Each time a sample of its objects is asked for: what the origin is asked was lost.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::bench::origin::Origin;
use crate::bench::server::free_port;
use crate::run;

/// What `cargo xtask restart` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// How many objects of 1 KiB.
    #[arg(long, default_value_t = 1_000_000)]
    objects: u64,
    /// How many of them are asked for after each start.
    #[arg(long, default_value_t = 10_000)]
    sample: u64,
}

/// Connections that fill the node.
const CONNECTIONS: u64 = 16;

/// How long the last objects may take to be written.
const PATIENCE: Duration = Duration::from_secs(120);

/// Fills a node, restarts it twice, and prints what that did.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = match std::env::var_os("WEIR_BIN") {
        Some(program) => PathBuf::from(program),
        None => {
            let words = ["build", "--release", "--workspace", "--bin", "weir"];
            run::shown(&mut run::cargo(&words))?;
            run::target_dir().join("release/weir")
        }
    };
    let dir = Dir::new()?;
    let origin = Origin::start()?;
    let mut node = Node::new(&program, &dir.0, origin.port())?;
    let mut rows = Vec::new();
    let began = Instant::now();
    let first = node.start(options.objects)?;
    node.fill(0..options.objects)?;
    node.written(options.objects)?;
    println!(
        "{} objects written in {:.1} s, {} MiB on disk, {} dropped",
        options.objects,
        began.elapsed().as_secs_f64(),
        node.metric("weir_disk_bytes")? >> 20,
        node.metric("weir_disk_dropped_full_total")?,
    );
    rows.push(node.sample("filled", first, options, &origin)?);
    node.end("-TERM")?;
    let first = node.start(options.objects)?;
    rows.push(node.sample("stopped and started", first, options, &origin)?);
    // Killed while it writes: others than those that are asked for.
    std::thread::scope(|scope| -> Result<()> {
        let more = options.objects..options.objects * 2;
        let filling = scope.spawn(|| node.fill(more));
        let some = options.objects / 10;
        let written = run::until(PATIENCE, "writing", || {
            Ok(node.metric("weir_disk_written_total")? >= some)
        });
        node.signal("-KILL")?;
        // It ends with the node.
        drop(filling.join());
        written
    })?;
    node.ended()?;
    let first = node.start(options.objects)?;
    rows.push(node.sample("killed while writing, started", first, options, &origin)?);
    node.end("-TERM")?;
    println!(
        "\n| node | first hit | RSS after it | hits of {} |",
        options.sample
    );
    println!("|---|---:|---:|---:|");
    for row in &rows {
        println!("| {} |", row.0.join(" | "));
    }
    Ok(())
}

/// A line of the table.
struct Row([String; 4]);

/// The node under measurement.
struct Node {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    port: u16,
    admin: u16,
    child: Option<Child>,
}

impl Node {
    fn new(program: &Path, dir: &Path, origin: u16) -> Result<Self> {
        let (port, admin) = (free_port()?, free_port()?);
        let config = dir.join("weir.toml");
        std::fs::write(
            &config,
            format!(
                "listen = [\"127.0.0.1:{port}\"]\ndata_dir = \"data\"\n\
                 [admin]\nlisten = \"127.0.0.1:{admin}\"\n\
                 [memory]\ncapacity = \"64MiB\"\n[disk]\ncapacity = \"10GiB\"\n\
                 [upstreams.origin]\nservers = [\"http://127.0.0.1:{origin}\"]\n\
                 [[routes]]\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n"
            ),
        )?;
        Ok(Self {
            program: program.to_owned(),
            config,
            log: dir.join("weir.log"),
            port,
            admin,
            child: None,
        })
    }

    /// Starts it. Returns how long it took until it answered with an object from disk, or,
    /// having none, answered at all.
    fn start(&mut self, objects: u64) -> Result<Duration> {
        let file = File::options().create(true).append(true).open(&self.log)?;
        let began = Instant::now();
        let child = Command::new(&self.program)
            .args(["run", "-c"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        let filled = self.config.with_file_name("data").join("objects").exists();
        loop {
            if began.elapsed() > PATIENCE {
                bail!("no answer within {PATIENCE:?}; see {}", self.log.display());
            }
            let answer =
                Client::connect(self.port).and_then(|mut client| client.get(&target(objects / 2)));
            match answer {
                Ok(hit) if hit || !filled => return Ok(began.elapsed()),
                Ok(_) => bail!("the first answer is no hit; see {}", self.log.display()),
                Err(_) => pause(),
            }
        }
    }

    fn fill(&self, objects: std::ops::Range<u64>) -> Result<()> {
        let next = AtomicU64::new(objects.start);
        std::thread::scope(|scope| {
            let walkers: Vec<_> = (0..CONNECTIONS)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        let mut client = Client::connect(self.port)?;
                        loop {
                            let at = next.fetch_add(1, Ordering::Relaxed);
                            if at >= objects.end {
                                return Ok(());
                            }
                            client.get(&target(at))?;
                        }
                    })
                })
                .collect();
            walkers.into_iter().try_for_each(|walker| {
                let done = walker.join();
                done.unwrap_or_else(|_| bail!("a client has died"))
            })
        })
    }

    /// Waits until all have been written or dropped.
    fn written(&self, objects: u64) -> Result<()> {
        run::until(PATIENCE, "the objects on disk", || {
            let mut ended = 0;
            for name in ["written", "dropped_full", "dropped_failed", "dropped_dead"] {
                ended += self.metric(&format!("weir_disk_{name}_total"))?;
            }
            Ok(ended >= objects)
        })
    }

    /// Asks for objects from all over, none of them in memory for having been asked just
    /// before.
    fn sample(
        &self,
        name: &str,
        first: Duration,
        options: &Options,
        origin: &Origin,
    ) -> Result<Row> {
        let resident = self.resident()?;
        let before = origin.requests();
        let mut client = Client::connect(self.port)?;
        let mut hits = 0;
        for at in 0..options.sample {
            // A prime step: each at most once.
            let at = (at * 7_919 + 13) % options.objects;
            hits += u64::from(client.get(&target(at))?);
        }
        let asked = origin.requests() - before;
        println!(
            "{name}: the origin was asked {asked} times for {} objects",
            options.sample
        );
        Ok(Row([
            name.to_owned(),
            format!("{} ms", first.as_millis()),
            format!("{resident} MiB"),
            hits.to_string(),
        ]))
    }

    fn resident(&self) -> Result<u64> {
        let id = self.id()?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Ok(number.context("VmRSS")? >> 10)
    }

    fn metric(&self, name: &str) -> Result<u64> {
        let mut client = Client::connect(self.admin)?;
        let text = client.text("/metrics")?;
        let line = text.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.strip_prefix(' ')?.parse::<u64>().ok()
        });
        line.with_context(|| format!("no {name}"))
    }

    fn id(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("no node")?.id())
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let id = self.id()?.to_string();
        Command::new("kill").args([signal, &id]).status()?;
        Ok(())
    }

    fn end(&mut self, signal: &str) -> Result<()> {
        self.signal(signal)?;
        self.ended()
    }

    fn ended(&mut self) -> Result<()> {
        let mut child = self.child.take().context("no node")?;
        run::until(PATIENCE, "the node's end", || {
            Ok(child.try_wait()?.is_some())
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn target(object: u64) -> String {
    format!("/articles/object-{object:08}.html")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a task runner serves nobody whom a blocked thread could keep waiting"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

/// A kept connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Whether the answer came from the cache.
    fn get(&mut self, target: &str) -> Result<bool> {
        let (head, _) = self.exchange(target)?;
        Ok(head.contains("; hit"))
    }

    fn text(&mut self, target: &str) -> Result<String> {
        Ok(self.exchange(target)?.1)
    }

    fn exchange(&mut self, target: &str) -> Result<(String, String)> {
        write!(
            self.0.get_mut(),
            "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        )?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                bail!("the connection ended");
            }
        }
        if !head.starts_with("HTTP/1.1 200") {
            bail!("{target} answers:\n{head}");
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| {
            let value = line.strip_prefix("content-length:")?;
            value.trim().parse::<usize>().ok()
        });
        let mut body = vec![0; length.context("an answer without a length")?];
        self.0.read_exact(&mut body)?;
        Ok((lower, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// A folder on a disk, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Result<Self> {
        let path = run::target_dir().join(format!("restart-{}", std::process::id()));
        std::fs::create_dir_all(&path).context("a folder for the node")?;
        Ok(Self(path))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}
