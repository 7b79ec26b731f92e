//! Upgraded connections, told in Redis: `PREFIX:websocket:connections` is a hash of nodes,
//! each with its connections by route. Off the way of any request; when Redis is away,
//! what stands there ends by itself.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use weir_proxy::Node;
use weir_store::roster::Roster;

use crate::fleet::host_name;

/// The hash, after the prefix.
const NAME: &str = "websocket:connections";
/// The least time between two writes.
const PAUSE: Duration = Duration::from_millis(200);
/// How often in the life of a field it is written anew.
const BEATS: u32 = 3;

/// Tells of a node's upgraded connections until it is dropped or told to leave.
#[derive(Debug)]
pub(crate) struct Announcer {
    roster: Arc<Roster>,
    telling: JoinHandle<()>,
}

impl Announcer {
    /// Begins, if there is a Redis and a `ttl`.
    pub(crate) fn start(node: &Arc<Node>, ttl: Duration) -> Option<Self> {
        let redis = node.redis().filter(|_| !ttl.is_zero())?;
        let roster = Arc::new(Roster::new(redis, NAME, &host_name()));
        let telling = tokio::spawn(tell(Arc::clone(node), Arc::clone(&roster), ttl));
        Some(Self { roster, telling })
    }

    /// Takes this node out.
    pub(crate) async fn leave(self) {
        self.telling.abort();
        if let Err(error) = self.roster.leave().await {
            tracing::debug!(%error, "the upgraded connections stand in Redis for a while");
        }
    }
}

/// Writes when a connection came or went, and now and then while there are any.
async fn tell(node: Arc<Node>, roster: Arc<Roster>, ttl: Duration) {
    let mut count = node.tunnels().count();
    let mut stands = false;
    loop {
        let connections = *count.borrow_and_update();
        let told = match connections {
            0 if stands => roster.leave().await,
            0 => Ok(()),
            _ => roster.tell(&entry(&node, connections), ttl).await.map(drop),
        };
        match told {
            Ok(()) => stands = connections > 0,
            Err(error) => {
                tracing::debug!(%error, "the upgraded connections were not told");
                // It may have been written all the same.
                stands |= connections > 0;
            }
        }
        tokio::time::sleep(PAUSE).await;
        let beat = ttl.checked_div(BEATS).unwrap_or(ttl);
        tokio::select! {
            changed = count.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(beat.saturating_sub(PAUSE)), if stands => {}
        }
    }
}

fn entry(node: &Node, connections: usize) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("connections".to_owned(), json!(connections));
    entry.insert("routes".to_owned(), json!(node.tunnels().by_route()));
    entry
}
