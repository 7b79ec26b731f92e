//! Redis goes wrong under load: what clients notice, and whether the promise about purges
//! holds meanwhile. `cargo xtask chaos` runs it at full rate and length, the tests in
//! short.

mod fleet;
mod ledger;
mod load;
mod redis;
mod report;
mod stampede;
mod timeline;
mod watch;

use std::time::Duration;

pub use report::Report;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Redis is killed, and comes back with what it had on disk.
    RedisKill,
    /// Redis is frozen: connections stand, nothing answers.
    RedisPause,
    /// Redis is killed, and comes back at once without anything.
    RedisEmpty,
    /// The master is killed, and its sentinels promote a replica.
    SentinelFailover,
    /// A Cluster loses the master of the log's slot, then another one.
    ClusterNodeLoss,
    /// Twenty nodes miss the same hot object at the same moment.
    Stampede,
}

impl Scenario {
    /// All of them, in the order of a run.
    pub const ALL: [Self; 6] = [
        Self::RedisKill,
        Self::RedisPause,
        Self::RedisEmpty,
        Self::SentinelFailover,
        Self::ClusterNodeLoss,
        Self::Stampede,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RedisKill => "redis-kill",
            Self::RedisPause => "redis-pause",
            Self::RedisEmpty => "redis-empty",
            Self::SentinelFailover => "sentinel-failover",
            Self::ClusterNodeLoss => "cluster-node-loss",
            Self::Stampede => "stampede",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// How hard and how long.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Requests a second, to all nodes together.
    pub rate: u32,
    /// Traffic before anything goes wrong, and after all is well again.
    pub calm: Duration,
    /// How long Redis is away where it is up to the scenario.
    pub away: Duration,
    /// `redis.deadline` of the nodes in the stampede.
    pub deadline: Duration,
    /// Rounds of the stampede.
    pub rounds: u32,
    /// Whether the timeline is printed as it comes.
    pub shown: bool,
}

/// Runs one scenario.
pub async fn run(scenario: Scenario, scale: Scale) -> Report {
    match scenario {
        Scenario::RedisKill => redis::kill(scale).await,
        Scenario::RedisPause => redis::pause(scale).await,
        Scenario::RedisEmpty => redis::empty(scale).await,
        Scenario::SentinelFailover => redis::sentinel(scale).await,
        Scenario::ClusterNodeLoss => redis::cluster(scale).await,
        Scenario::Stampede => stampede::run(scale).await,
    }
}
