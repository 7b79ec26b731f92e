//! Looks at the nodes: who uses Redis, who has purges to send, when all is well again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::interval;

use super::fleet::{Fleet, NODES};
use super::timeline::Timeline;
use crate::names::REDIS_UP;
use crate::poll;

/// How often the nodes are looked at.
const OFTEN: Duration = Duration::from_millis(100);

/// Looks and reports each second, until its task is aborted.
pub(super) async fn watch(fleet: Arc<Fleet>, timeline: Arc<Timeline>) {
    let up: [AtomicUsize; NODES] = Default::default();
    let look = async {
        let mut ticks = interval(OFTEN);
        loop {
            ticks.tick().await;
            for (at, up) in up.iter().enumerate() {
                up.store(look_at(&fleet, at).await, Ordering::Relaxed);
            }
        }
    };
    let tell = async {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.tick().await;
        let mut before = fleet.origin.total();
        loop {
            ticks.tick().await;
            let total = fleet.origin.total();
            let up = up.iter().map(|one| one.load(Ordering::Relaxed)).sum();
            timeline.tick(total - before, up);
            before = total;
        }
    };
    tokio::join!(look, tell);
}

/// Whether the node uses Redis, as a number. Tells the ledger when nothing waits there.
async fn look_at(fleet: &Fleet, at: usize) -> usize {
    let (admin, began) = (fleet.nodes[at].admin(), Instant::now());
    let pending = admin.metric("weir_log_pending", &[]).await;
    if pending < 0.5 {
        fleet.ledger.sent(at, began);
    }
    let up = admin.metric(REDIS_UP, &[]).await;
    usize::from(up > 0.5)
}

/// Waits until a node notices that Redis is away; which is no failure where it does not.
pub(super) async fn away(fleet: &Fleet) {
    poll::until("a node that counts Redis as down", async || {
        for node in &fleet.nodes {
            if node.admin().metric(REDIS_UP, &[]).await < 0.5 {
                return Some(());
            }
        }
        None
    })
    .await;
}

/// Waits until every node is well: not degraded, nothing to send, and its purges answered
/// for the fleet. How long that took.
pub(super) async fn recovery(fleet: &Fleet) -> Duration {
    let began = Instant::now();
    join_all(fleet.nodes.iter().map(async |node| {
        poll::until("a node that is well again", async || {
            let ready = node.admin().get("/readyz").await.json();
            let degraded = ready["degraded"]
                .as_array()
                .is_some_and(|it| !it.is_empty());
            if degraded || node.admin().metric("weir_log_pending", &[]).await > 0.5 {
                return None;
            }
            let receipt = node.admin().invalidate(json!({ "tags": ["probe"] })).await;
            (receipt["scope"] == "fleet").then_some(())
        })
        .await;
    }))
    .await;
    began.elapsed()
}
