//! What `redis.compress_above` saves in Redis, and what it costs a hit there.

use anyhow::Result;
use clap::Args;
use weir_tests::{Config, RedisServer, Scratch, Weir, until};

use super::site::{self, Site};
use super::wrk;

/// What `weir-measure compress` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Bytes of the bodies, lines of JSON.
    #[arg(default_values_t = [4_096, 32_768, 131_072])]
    bodies: Vec<usize>,
    /// How many objects: so many that memory has few of them.
    #[arg(long, default_value_t = 2_000)]
    objects: u64,
    /// Connections of the clients.
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    println!(
        "| body | compress_above | written | bytes in Redis for each | hits /s | CPU \u{b5}s of the node for each hit | of Redis |\n|---:|---|---:|---:|---:|---:|---:|"
    );
    for body in &options.bodies {
        for compress in ["", "compress_above = \"1KiB\"\n"] {
            measure(options, *body, compress).await?;
        }
    }
    Ok(())
}

/// Records of people: what differs from line to line is about a third of it.
fn line(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    format!(
        "{{\"id\":{number},\"name\":\"{} {}\",\"email\":\"u{mixed:x}@example.org\",\"active\":{},\"balance\":{}.{:02}}}\n",
        ["Ada", "Grace", "Edsger", "Barbara", "Donald"][mixed as usize % 5],
        ["Lovelace", "Hopper", "Dijkstra", "Liskov", "Knuth"][(mixed >> 8) as usize % 5],
        mixed.is_multiple_of(3),
        mixed % 10_000,
        mixed % 100,
    )
}

async fn measure(options: &Options, body: usize, compress: &str) -> Result<()> {
    let (site, redis) = (Site::of(body, line).await?, RedisServer::start().await);
    let config = Config::plain(&site.url()).redis(&redis.url());
    let config = config.and(&format!(
        "queue = \"1GiB\"\n{compress}[memory]\ncapacity = \"1MiB\"\n"
    ));
    let node = config.start().await;
    let empty = used(&redis);
    site::fill(node.port(), 0..options.objects).await?;
    let written = until("all objects in Redis", async || {
        let written = metric(&node, "weir_redis_written_total").await;
        let mut done = written;
        for why in ["full", "large", "dead", "failed"] {
            done += metric(&node, &format!("weir_redis_dropped_{why}_total")).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "it is compared with a metric")]
        let all = options.objects as f64;
        (done >= all).then_some(written)
    })
    .await;
    #[expect(clippy::cast_precision_loss, reason = "it is printed")]
    let held = used(&redis).saturating_sub(empty) as f64 / written;
    let hits = metric(&node, "weir_redis_hits_total").await;
    let (cpu, redis_cpu) = (node.cpu(), redis.cpu());
    let dir = Scratch::new();
    let (connections, seconds) = (options.connections, options.seconds);
    wrk::run(
        node.port(),
        options.objects,
        connections,
        seconds,
        dir.path(),
    )
    .await?;
    let (cpu, redis_cpu) = (node.cpu() - cpu, redis.cpu() - redis_cpu);
    let hits = metric(&node, "weir_redis_hits_total").await - hits;
    #[expect(clippy::cast_precision_loss, reason = "it is printed")]
    let rate = hits / options.seconds as f64;
    println!(
        "| {body} | {} | {written} | {held:.0} | {rate:.0} | {:.1} | {:.1} |",
        if compress.is_empty() { "none" } else { "1KiB" },
        cpu.as_secs_f64() * 1e6 / hits,
        redis_cpu.as_secs_f64() * 1e6 / hits,
    );
    Ok(())
}

async fn metric(node: &Weir, name: &str) -> f64 {
    node.admin().metric(name, &[]).await
}

/// What Redis has allocated, in bytes.
fn used(redis: &RedisServer) -> u64 {
    let info: String = redis.command(&["INFO", "memory"]);
    let line = info.lines().find_map(|it| it.strip_prefix("used_memory:"));
    line.and_then(|it| it.trim().parse().ok()).unwrap_or(0)
}
