//! Clients that ask at a fixed rate, whatever the answers take, and editors who change
//! pages and purge them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::fleet::{Fleet, NODES, PAGES, SITE, path};
use super::ledger::Verdict;
use super::timeline::Timeline;
use crate::Answer;

/// When a client gives up.
pub(super) const GIVE_UP: Duration = Duration::from_secs(10);

/// Purges a second.
const PURGES: u32 = 20;

/// Asks until its task is aborted.
pub(super) async fn ask(fleet: Arc<Fleet>, timeline: Arc<Timeline>, rate: u32) {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let (fleet, timeline) = (Arc::clone(&fleet), Arc::clone(&timeline));
        tokio::spawn(async move {
            let node = fastrand::usize(..NODES);
            ask_once(&fleet, &timeline, node, popular()).await;
        });
    }
}

/// A page: the n-th is asked for about 1/n as often as the first.
fn popular() -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "from 1 to PAGES"
    )]
    let page = (PAGES as f64).powf(fastrand::f64()) as usize;
    page.min(PAGES) - 1
}

async fn ask_once(fleet: &Fleet, timeline: &Timeline, node: usize, page: usize) {
    let (path, weir) = (path(page), &fleet.nodes[node]);
    let sent = Instant::now();
    let request = weir.client().get(weir.url(&path));
    let request = request.header("host", SITE).timeout(GIVE_UP);
    let answer = match Answer::of(request).await {
        Ok(answer) => answer,
        Err(error) => return timeline.failed(&format!("node {node} {path}: {error:?}")),
    };
    timeline.answered(sent.elapsed(), answer.is_hit());
    let text = answer.text();
    let version = text.strip_prefix(&format!("{path} v"));
    let version = version.and_then(|rest| rest.trim_end().parse().ok());
    let (Some(version), 200) = (version, answer.status.as_u16()) else {
        return timeline.failed(&format!("node {node} {path}: {answer:?}"));
    };
    match fleet.ledger.judge(page, node, sent, version) {
        Verdict::Fresh => {}
        Verdict::Within(age) => timeline.stale(age),
        Verdict::Beyond(age) => timeline.beyond(&format!(
            "node {node} served {path} v{version}, purged {age:?} before the request: {:?}",
            answer.cache()
        )),
    }
}

/// Changes pages until its task is aborted.
pub(super) async fn change(fleet: Arc<Fleet>, timeline: Arc<Timeline>) {
    let mut ticks = interval(Duration::from_secs(1) / PURGES);
    loop {
        ticks.tick().await;
        let (fleet, timeline) = (Arc::clone(&fleet), Arc::clone(&timeline));
        tokio::spawn(async move { change_once(&fleet, &timeline).await });
    }
}

async fn change_once(fleet: &Fleet, timeline: &Timeline) {
    let (page, node) = (popular(), fastrand::usize(..NODES));
    let path = path(page);
    let version = fleet.origin.bump(&path);
    fleet.ledger.changed(page, version, node);
    let began = Instant::now();
    let tag = path.trim_start_matches('/');
    let admin = fleet.nodes[node].admin();
    let body = json!({ "tags": [tag] }).to_string();
    let answer = admin.post("/v1/invalidate", body).await;
    if answer.status != 200 {
        return timeline.failed(&format!("purge at node {node}: {answer:?}"));
    }
    let in_fleet = answer.json()["scope"] == "fleet";
    fleet.ledger.acknowledged(page, version, in_fleet);
    timeline.purged(began.elapsed(), in_fleet);
}
