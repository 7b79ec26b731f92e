//! Twenty nodes miss the same object at the same moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::fleet::SITE;
use super::load::GIVE_UP;
use super::report::Report;
use super::timeline::Timeline;
use super::{Scale, Scenario};
use crate::{Answer, Config, Origin, RedisServer, Reply, Weir};

const NODES: usize = 20;

/// Clients at each node.
const CLIENTS: usize = 5;

/// How long the origin takes: as long as the herd could come.
const ORIGIN: Duration = Duration::from_millis(200);

/// Longer than a herd takes on a slow machine.
const LIFETIME: Duration = Duration::from_secs(4);

const HOT: &str = "/hot";

pub(super) async fn run(scale: Scale) -> Report {
    let redis = RedisServer::start().await;
    let origin = Origin::with(|call| {
        Reply::page(call)
            .after(ORIGIN)
            .cache(format!("max-age={}", LIFETIME.as_secs()).as_str())
            .header("surrogate-key", "hot")
    });
    let origin = origin.await;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let config = Config::plain(&origin.url()).redis(&redis.url());
        let config = config.and(&format!(
            "deadline = \"{}ms\"\n",
            scale.deadline.as_millis()
        ));
        nodes.push(config.start().await);
    }
    for node in &nodes {
        node.uses_redis().await;
    }
    let timeline = Arc::new(Timeline::new(false));
    let mut fetches = Vec::new();
    for round in 0..scale.rounds {
        let before = origin.count(HOT);
        let how = match round % 3 {
            0 => {
                origin.bump(HOT);
                nodes[0].admin().purge_tag("hot").await;
                "it has changed and was purged"
            }
            1 => {
                tokio::time::sleep(LIFETIME + Duration::from_millis(100)).await;
                "it has expired on every node"
            }
            _ => {
                nodes[0].admin().purge_tag("hot").await;
                "it was purged"
            }
        };
        herd(&nodes, &timeline).await;
        let count = origin.count(HOT) - before;
        if scale.shown {
            println!(
                "round {round:2}: {how}; {CLIENTS} clients at each of {NODES} nodes: {count} fetches"
            );
        }
        fetches.push(count);
    }
    timeline.tick(0, NODES);
    Report {
        name: Scenario::Stampede.name(),
        sum: timeline.sum(),
        fetches,
        ..Report::default()
    }
}

/// Every client asks at once.
async fn herd(nodes: &[Weir], timeline: &Timeline) {
    let clients = nodes
        .iter()
        .flat_map(|node| (0..CLIENTS).map(move |_| node));
    join_all(clients.map(async |node| {
        let sent = Instant::now();
        let request = node.client().get(node.url(HOT)).header("host", SITE);
        let request = request.timeout(GIVE_UP);
        match Answer::of(request).await {
            Ok(answer) if answer.status == 200 => {
                timeline.answered(sent.elapsed(), answer.is_hit());
            }
            other => timeline.failed(&format!("{other:?}")),
        }
    }))
    .await;
}
