//! What a node is built for: the work at which the compiler watches one, to learn which of its parts
//! are used and how (profile-guided optimisation). Measures nothing.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::process::Command;
use weir_tests::port::Port;
use weir_tests::tls::{Authority, certificate_table};
use weir_tests::{Config, RedisServer, Scratch, Weir, guests};

use super::site::{self, Site};
use super::traffic::Traffic;
use super::wrk;

/// What `weir-measure train` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds of each kind of work.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// URLs, and requests for them.
const URLS: usize = 20_000;
const REQUESTS: usize = 60_000;
/// Objects of the node that has TLS and Redis.
const OBJECTS: u64 = 2_000;
const CONNECTIONS: u32 = 64;
/// Where the load runs.
const CORE: usize = 0;

pub(crate) async fn run(options: &Options) -> Result<()> {
    let (site, dir) = (Site::start(1_024).await?, Scratch::new());
    let traffic = Traffic::draw_anywhere(URLS, REQUESTS);
    let requests = traffic.write(dir.path())?;
    for (what, policy) in [
        ("without a policy", None),
        ("through a policy", Some("")),
        ("through one that is always called", Some("memo = false\n")),
    ] {
        let config = match policy {
            None => Config::plain(&site.url()),
            Some(more) => {
                let variants = "config = { variants = [\"device\", \"language\"], \
                                languages = [\"en\", \"de\", \"fr\", \"es\"] }\n";
                let more = format!("{variants}{more}");
                Config::policy(&site.url(), &guests().static_site(), &more)
            }
        };
        let node = config.start().await;
        // All of these are misses, and the most part of what comes after them are hits.
        traffic.warm(node.port()).await?;
        let (port, seconds) = (node.port(), options.seconds);
        let load = wrk::play(port, &requests, CONNECTIONS, seconds, CORE, dir.path()).await?;
        println!("{} requests {what}", load.requests);
        end(node).await?;
    }
    secured(options, &dir).await
}

/// TLS with HTTP/2 and HTTP/1.1, bodies that the node compresses, and Redis.
async fn secured(options: &Options, dir: &Scratch) -> Result<()> {
    let (site, redis) = (Site::start(8_192).await?, RedisServer::start().await);
    let (port, authority) = (Port::reserve(), Authority::new());
    let issued = authority.issue(&[site::HOST]).write(dir, "site");
    let config = Config::plain(&site.url())
        .and("compress = [\"br\", \"gzip\"]\n")
        .redis(&redis.url())
        .and("compress_above = \"4KiB\"\n[memory]\ncapacity = \"4MiB\"\n")
        .and(&format!(
            "[tls]\nlisten = \"127.0.0.1:{}\"\n{}",
            port.number(),
            certificate_table(&issued)
        ));
    let node = config.start().await;
    site::fill(node.port(), 0..OBJECTS).await?;
    let address = format!("https://127.0.0.1:{}", port.number());
    let urls: String = (0..OBJECTS)
        .map(|number| format!("{address}{}\n", site::path(number)))
        .collect();
    let list = dir.write("urls", urls);
    for (protocol, coding) in [("h2", "gzip"), ("http/1.1", "br"), ("h2", "identity")] {
        let output = Command::new("h2load")
            .args(["-t1", "-c16", "-m8", &format!("--npn-list={protocol}")])
            .arg(format!("--duration={}", options.seconds))
            .arg(format!("--header=accept-encoding: {coding}"))
            .arg(format!("--input-file={}", list.display()))
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run h2load (Debian package nghttp2-client)")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with("requests:"));
        let line = line.with_context(|| format!("h2load said {text:?}"))?;
        ensure!(
            !line.contains(" 0 succeeded"),
            "nothing was answered: {line}"
        );
        println!("{line} ({protocol} over TLS, {coding})");
    }
    end(node).await
}

/// Has a node end by itself: what was learnt is written then.
async fn end(mut node: Weir) -> Result<()> {
    node.terminate();
    let status = node.ended().await;
    ensure!(status.success(), "the node ended with {status}");
    Ok(())
}
