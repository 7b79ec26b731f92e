//! Three nodes before one origin.

use std::sync::Arc;
use std::time::Duration;

use super::ledger::Ledger;
use crate::{Config, Origin, Reply, Weir};

/// Nodes of a scenario about Redis.
pub(super) const NODES: usize = 3;

/// Pages that are asked for, some much more often than others.
pub(super) const PAGES: usize = 3_000;

/// The host that every node is asked for: else each would have objects of its own.
pub(super) const SITE: &str = "site.example";

/// What `coherence_window` is by default.
const WINDOW: Duration = Duration::from_secs(2);

/// Too little memory for all pages: many lookups get as far as Redis.
const MEMORY: &str = "[memory]\ncapacity = \"1MiB\"\n";

/// The nodes, the origin, and what has been purged.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) nodes: Vec<Weir>,
    pub(super) origin: Arc<Origin>,
    pub(super) ledger: Ledger,
}

impl Fleet {
    /// Starts the nodes with these tables, each with a folder for what it must not forget.
    pub(super) async fn start(tables: &str) -> Arc<Self> {
        let origin = Origin::with(|call| {
            let tag = call.path.trim_start_matches('/');
            Reply::page(call)
                .cache("max-age=600")
                .header("surrogate-key", tag)
        });
        let origin = origin.await;
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            let config = Config::plain(&origin.url());
            let config = config.and(MEMORY).and(tables);
            nodes.push(durable(&config).start().await);
        }
        for node in &nodes {
            node.uses_redis().await;
        }
        Arc::new(Self {
            nodes,
            origin: Arc::new(origin),
            ledger: Ledger::new(PAGES, WINDOW),
        })
    }
}

/// The path of a page; without the slash it is its tag.
pub(super) fn path(page: usize) -> String {
    format!("/page-{page}")
}

fn durable(config: &Config) -> Config {
    let text = format!("data_dir = \"{{dir}}/data\"\n{}", config.text());
    Config::whole(&text)
}
