//! `cargo xtask bench`: what a cache hit costs, here and elsewhere, in one run.
//!
//! Every server has core 0 to itself, the load has core 1, and the rounds of the servers
//! alternate, so that a machine which changes its pace does so for all of them. Counted is
//! the CPU time of the server's whole process tree for each request that it answered.

mod cpu;
mod haproxy;
mod instructions;
mod load;
mod nginx;
mod origin;
mod report;
pub(crate) mod server;
mod traffic_server;
mod varnish;
mod weir;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::install::{self, Tool};
use crate::run;
use origin::Origin;
use report::{Report, Round};
use server::Server;

/// What `cargo xtask bench` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Three rounds of two seconds instead of seven of five: for a look, not for a claim.
    #[arg(long)]
    quick: bool,
    /// Rounds for each server.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of load in each round.
    #[arg(long)]
    seconds: Option<u64>,
    /// Count the instructions of a hit under callgrind instead, in Weir alone. Exact to
    /// a percent on the noisiest machine.
    #[arg(long)]
    instructions: bool,
    /// Another binary to compare that count with.
    #[arg(long, requires = "instructions", value_name = "BINARY")]
    against: Option<PathBuf>,
    /// Only these servers.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Peer>,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// Weir, plain RFC 9111.
    Weir,
    /// Weir with the policy `static-site`.
    WeirStaticSite,
    /// nginx, `proxy_cache` on tmpfs.
    Nginx,
    /// The same with `open_file_cache`.
    NginxOpenFiles,
    /// Varnish with the rule of `static-site` in VCL.
    Varnish,
    /// HAProxy with its own cache.
    Haproxy,
    /// Apache Traffic Server with the rule of `static-site` in Lua.
    TrafficServer,
}

/// Objects in the cache.
pub(crate) const OBJECTS: usize = 1_000;
/// Bytes in each.
pub(crate) const OBJECT_SIZE: usize = 1_024;
/// Connections of the load.
pub(crate) const CONNECTIONS: usize = 64;
/// Where servers run.
pub(crate) const SERVER_CORE: &str = "0";
/// Where the load runs.
pub(crate) const LOAD_CORE: &str = "1";

/// The target of an object: a query in need of normalising, since the rule does that.
pub(crate) fn target(object: usize) -> String {
    format!("/assets/object-{object:04}.css?v=1&utm_source=news&lang=en")
}

const TOOLS: &[Tool] = &[
    Tool {
        program: "taskset",
        package: "util-linux",
    },
    Tool {
        program: "wrk",
        package: "wrk",
    },
    Tool {
        program: "nginx",
        package: "nginx-light",
    },
    Tool {
        program: "varnishd",
        package: "varnish",
    },
    Tool {
        program: "haproxy",
        package: "haproxy",
    },
    Tool {
        program: "traffic_server",
        package: "trafficserver",
    },
];

/// Runs the benchmark and prints its table. Fails when a server was not serving hits.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.instructions {
        let dir = Dir::new()?;
        return instructions::run(&dir.0, options.against.as_deref());
    }
    let all = Peer::value_variants().to_vec();
    let peers = if options.only.is_empty() {
        all
    } else {
        options.only.clone()
    };
    let (rounds, seconds) = if options.quick { (3, 2) } else { (7, 5) };
    let rounds = options.rounds.unwrap_or(rounds).max(1);
    let seconds = options.seconds.unwrap_or(seconds).max(1);
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        bail!("this takes two cores: one for the server, one for the load");
    }
    install::tools(TOOLS)?;

    let dir = Dir::new()?;
    let script = load::write_script(&dir.0)?;
    let mut running = Vec::new();
    for peer in peers {
        let origin = Origin::start()?;
        let server = start(peer, &dir.0, &origin)?;
        println!("{}: {}", server.name, server.version);
        load::warm(&server)?;
        let fetched = origin.requests();
        running.push((server, origin, fetched, Vec::new()));
    }
    for round in 0..rounds {
        for (server, _, _, results) in &mut running {
            let before = cpu::of_tree(server.id())?;
            let load = load::run(server.port, seconds, &script)?;
            let spent = cpu::of_tree(server.id())?.saturating_sub(before);
            let result = Round::new(load, spent);
            println!("round {} of {rounds}: {}: {result}", round + 1, server.name);
            results.push(result);
        }
    }
    for (server, origin, fetched, _) in &running {
        let more = origin.requests() - fetched;
        if more > 0 {
            bail!(
                "{} asked its origin {more} times while it was measured: not all were hits, \
                 the numbers mean nothing",
                server.name
            );
        }
    }
    let mut report = Report::new(rounds, seconds);
    for (server, origin, _, results) in &running {
        report.add(server, origin.requests(), results);
    }
    print!("\n{}", report.table());
    let path = report.write()?;
    println!("raw results: {}", run::short(&path));
    Ok(())
}

fn start(peer: Peer, dir: &std::path::Path, origin: &Origin) -> Result<Server> {
    match peer {
        Peer::Weir => weir::start(dir, origin.port(), None),
        Peer::WeirStaticSite => weir::start(dir, origin.port(), Some("static-site")),
        Peer::Nginx => nginx::start(dir, origin.port(), false),
        Peer::NginxOpenFiles => nginx::start(dir, origin.port(), true),
        Peer::Varnish => varnish::start(dir, origin.port()),
        Peer::Haproxy => haproxy::start(dir, origin.port()),
        Peer::TrafficServer => traffic_server::start(dir, origin.port()),
    }
}

/// A directory in memory for everything the servers write, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Result<Self> {
        let path = PathBuf::from(format!("/dev/shm/weir-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .context("the bench needs a tmpfs at /dev/shm for nginx's cache")?;
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
