//! What an object costs in memory beside its own bytes.

use anyhow::Result;
use clap::Args;
use weir_tests::Config;

use super::site::{self, HOST, Site, TAG};

/// What `weir-measure memory` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// How many objects.
    #[arg(default_value_t = 1_000_000)]
    objects: u64,
    /// Bytes of each body.
    #[arg(long, default_value_t = 1_024)]
    body: usize,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let site = Site::start(options.body).await?;
    let config = Config::plain(&site.url()).and("[memory]\ncapacity = \"16GiB\"\n");
    let node = config.start().await;
    site::fill(node.port(), 0..1_000).await?;
    let before = node.resident();
    let filled = site::fill(node.port(), 0..options.objects).await?;
    let entries = node.admin().metric("weir_memory_keys", &[]).await;
    let weighed = node.admin().metric("weir_memory_bytes", &[]).await;
    #[expect(clippy::cast_precision_loss, reason = "they are printed")]
    let (used, objects) = (
        (node.resident() - before) as f64,
        (options.objects - 1_000) as f64,
    );
    let own = own(options.body);
    println!(
        "{} objects of {} bytes, eight header fields, filled in {filled:.1?}:\n  \
         resident bytes for each            {:.0}\n  \
         its body, headers, key and tags    {own}\n  \
         beside them                        {:.0}\n  \
         weighed by the node                {:.0}\n  \
         entries                            {entries}",
        options.objects,
        options.body,
        used / objects,
        used / objects - own as f64,
        weighed / entries,
    );
    Ok(())
}

/// The bytes of the body, of the fields as they stand in the response (name, value, colon,
/// space, line end), of the key and of the tag.
fn own(body: usize) -> usize {
    let fields = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "1024"),
        ("etag", "\"5e1f-5a0b0a1c\""),
        ("last-modified", "Tue, 03 Nov 2026 10:00:00 GMT"),
        ("cache-control", "public, max-age=36000"),
        ("date", "Mon, 23 Nov 2026 04:00:00 GMT"),
        ("server", "origin"),
        ("x-unusual", "1"),
    ];
    let fields: usize = fields
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum();
    body + fields + format!("http://{HOST}|{}", site::path(0)).len() + TAG.len()
}
