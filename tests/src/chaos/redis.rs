//! The scenarios in which a Redis goes wrong.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::fleet::Fleet;
use super::report::Report;
use super::timeline::Timeline;
use super::{Scale, Scenario, load, watch};
use crate::{RedisCluster, RedisSentinel, RedisServer};

/// One of the log's keys: they share a slot.
const LOG: &str = "weir:{log}:state";

/// A fleet under load.
struct Stage {
    scenario: Scenario,
    fleet: Arc<Fleet>,
    timeline: Arc<Timeline>,
    report: Report,
    tasks: JoinSet<()>,
    scale: Scale,
}

impl Stage {
    async fn set(scenario: Scenario, scale: Scale, tables: &str) -> Self {
        let fleet = Fleet::start(tables).await;
        let timeline = Arc::new(Timeline::new(scale.shown));
        let mut tasks = JoinSet::new();
        let both = || (Arc::clone(&fleet), Arc::clone(&timeline));
        let (clients, editors, watcher) = (both(), both(), both());
        tasks.spawn(load::ask(clients.0, clients.1, scale.rate));
        tasks.spawn(load::change(editors.0, editors.1));
        tasks.spawn(watch::watch(watcher.0, watcher.1));
        let stage = Self {
            scenario,
            fleet,
            timeline,
            report: Report::default(),
            tasks,
            scale,
        };
        sleep(scale.calm).await;
        stage
    }

    fn event(&self, words: &str) {
        self.timeline.event(words);
    }

    /// From now on Redis is back.
    async fn back(&mut self, words: &str) {
        self.event(words);
        let took = watch::recovery(&self.fleet).await;
        self.event(&format!("all nodes are well, {took:.2?} later"));
        self.report.recoveries.push(took);
    }

    async fn end(mut self) -> Report {
        sleep(self.scale.calm).await;
        self.tasks.shutdown().await;
        Report {
            name: self.scenario.name(),
            sum: self.timeline.sum(),
            ..self.report
        }
    }
}

fn single(server: &RedisServer) -> String {
    format!("[redis]\nurl = {:?}\n", server.url())
}

pub(super) async fn kill(scale: Scale) -> Report {
    let mut server = RedisServer::start_with(&["--appendonly", "yes"]).await;
    let mut stage = Stage::set(Scenario::RedisKill, scale, &single(&server)).await;
    stage.event("Redis is killed");
    server.kill();
    watch::away(&stage.fleet).await;
    sleep(scale.away).await;
    server.revive().await;
    stage.back("Redis is back, with what it had on disk").await;
    stage.end().await
}

pub(super) async fn pause(scale: Scale) -> Report {
    let mut server = RedisServer::start().await;
    let mut stage = Stage::set(Scenario::RedisPause, scale, &single(&server)).await;
    stage.event("Redis is frozen (SIGSTOP)");
    server.stop();
    watch::away(&stage.fleet).await;
    sleep(scale.away).await;
    server.cont();
    stage.back("Redis goes on (SIGCONT)").await;
    stage.end().await
}

pub(super) async fn empty(scale: Scale) -> Report {
    let mut server = RedisServer::start().await;
    let mut stage = Stage::set(Scenario::RedisEmpty, scale, &single(&server)).await;
    stage.event("Redis is killed, and started again without data");
    server.revive().await;
    stage.back("Redis is back, empty").await;
    stage.end().await
}

pub(super) async fn sentinel(scale: Scale) -> Report {
    let mut redis = RedisSentinel::start().await;
    let mut stage = Stage::set(Scenario::SentinelFailover, scale, &redis.tables()).await;
    stage.event("the master is killed");
    redis.servers[0].kill();
    let master = redis.promoted(0).await;
    stage.back("the sentinels have promoted a replica").await;
    sleep(scale.calm).await;
    stage.event("the new master is frozen (SIGSTOP)");
    redis.servers[master].stop();
    redis.promoted(master).await;
    stage
        .back("the sentinels have promoted the last replica")
        .await;
    stage.end().await
}

pub(super) async fn cluster(scale: Scale) -> Report {
    let mut redis = RedisCluster::start().await;
    let mut stage = Stage::set(Scenario::ClusterNodeLoss, scale, &redis.tables()).await;
    // A cluster goes on while most of its masters live.
    let log = redis.master_for(LOG).unwrap_or(0);
    stage.event("the master of the log's slot is killed");
    redis.nodes[log].kill();
    redis.promoted(LOG, log).await;
    stage.back("its replica has taken over").await;
    sleep(scale.calm).await;
    redis.nodes[log].revive().await;
    redis.settled().await;
    stage.event("it is a replica now; another master is killed");
    let now = redis.master_for(LOG).unwrap_or(0);
    let (other, key) = (0..100)
        .map(|number| format!("{{{number}}}"))
        .filter_map(|key| Some((redis.master_for(&key)?, key)))
        .find(|(master, _)| *master != now)
        .unwrap_or((now, LOG.to_owned()));
    redis.nodes[other].kill();
    redis.promoted(&key, other).await;
    stage.back("its replica has taken over").await;
    stage.end().await
}
