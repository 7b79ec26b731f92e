//! `weir demo`: a slow origin, a node in front of it with the reference policies, and
//! what to try.

mod origin;
mod text;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::net::TcpListener;

use crate::config::{Config, Log, LogFormat, LogLevel};
use crate::{logging, plugin, run};

/// How long a Redis may take to be noticed.
const REDIS_WAIT: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the node listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where its admin API listens.
    #[arg(long, default_value = "127.0.0.1:9900")]
    admin: SocketAddr,
    /// A Redis to use as the second tier. One on 127.0.0.1:6379 is used unasked.
    #[arg(long, value_name = "HOST:PORT")]
    redis: Option<String>,
    /// The folder with the reference policies' sources [default: plugins/ of the checkout].
    #[arg(long)]
    plugins: Option<PathBuf>,
    /// Where the demo keeps its configuration and compiled policies.
    #[arg(long, default_value = "target/weir-demo")]
    dir: PathBuf,
}

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let plugins = plugins(args.plugins.as_deref())?;
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("the folder {} cannot be made", args.dir.display()))?;
    let components = ["charity", "static-site"].map(|name| (name, plugins.join(name)));
    for (name, source) in &components {
        let output = args.dir.join(format!("{name}.wasm"));
        plugin::build(source, Some(&output), &plugin::terminal())
            .with_context(|| format!("the policy {name} cannot be built"))?;
    }
    let redis = match &args.redis {
        Some(address) => Some(address.clone()),
        None => local_redis(),
    };
    logging::start(Log {
        format: LogFormat::Text,
        level: LogLevel::Warn,
        access: false,
    })?;
    run::runtime(2)?.block_on(async {
        let stop = run::stop_signal()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("the demo's origin found no port")?;
        let origin_address = listener.local_addr()?;
        let file = args.dir.join("weir.toml");
        let toml = text::configuration(&args.listen, &args.admin, origin_address, redis.as_deref());
        std::fs::write(&file, toml)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        let config = Config::load(&file)?;
        let origin = tokio::spawn(async move { axum::serve(listener, origin::router()).await });
        let to_try = text::to_try(
            &args.listen,
            &args.admin,
            &args.dir,
            &plugins,
            redis.as_deref(),
        );
        Box::pin(run::serve(config, stop, |_| {
            say(&to_try);
        }))
        .await
        .map_err(|error| port_taken(error, args))?;
        origin.abort();
        say("\nThe demo has ended.");
        Ok(ExitCode::SUCCESS)
    })
}

/// Prints a text. A pipe that has been closed is no reason to stop serving.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Says what to do about the failure that a second demo, or another server, brings about.
fn port_taken(error: anyhow::Error, args: &DemoArgs) -> anyhow::Error {
    let taken = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::AddrInUse);
    if !taken {
        return error;
    }
    error.context(format!(
        "{} or {} is taken; choose other ports with --listen and --admin",
        args.listen, args.admin
    ))
}

/// The folder with the policies' sources.
fn plugins(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let here = PathBuf::from("plugins");
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let candidates = match given {
        Some(given) => vec![given.to_owned()],
        None => vec![here, built_from],
    };
    for candidate in &candidates {
        if candidate.join("charity/Cargo.toml").is_file() {
            return Ok(candidate.canonicalize()?);
        }
    }
    let tried: Vec<_> = candidates
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    bail!(
        "the reference policies' sources are not in {}; run the demo in a checkout of Weir, or name their folder with --plugins",
        tried.join(" nor in ")
    );
}

fn local_redis() -> Option<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 6379));
    TcpStream::connect_timeout(&address, REDIS_WAIT)
        .is_ok()
        .then(|| address.to_string())
}
