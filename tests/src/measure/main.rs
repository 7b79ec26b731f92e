//! `weir-measure NAME`: what `cargo xtask measure` runs once it has built it and the node.

mod compress;
mod deploys;
mod memory;
mod neighbour;
mod paused;
mod percent;
mod policy_cost;
mod purge;
mod redis_hit;
mod restart;
mod site;
mod steady;
mod swaps;
mod traffic;
mod train;
mod wrk;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "weir-measure", about = "The tiers and the policies, measured.")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// How long a purge of a tag takes, by how many objects have it.
    Purge(purge::Options),
    /// Resident memory of a node for each object in memory.
    Memory(memory::Options),
    /// Hits in Redis, beside redis-benchmark.
    RedisHit(redis_hit::Options),
    /// What compression in Redis saves, and what it costs.
    Compress(compress::Options),
    /// How soon a node with a million objects on disk is itself again.
    Restart(restart::Options),
    /// Hits in memory while Redis is frozen, beside those while it is well.
    Paused(paused::Options),
    /// What a policy adds to the CPU time of a hit.
    PolicyCost(policy_cost::Options),
    /// A policy replaced a thousand times under load.
    Swaps(swaps::Options),
    /// How soon a deploy to one node is on all.
    Deploys(deploys::Options),
    /// What a policy that misbehaves costs the other routes.
    Neighbour(neighbour::Options),
    /// Measures nothing: the work at which the compiler watches a node that is to be shipped.
    Train(train::Options),
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().what {
        What::Purge(options) => purge::run(&options).await,
        What::Memory(options) => memory::run(&options).await,
        What::RedisHit(options) => redis_hit::run(&options).await,
        What::Compress(options) => compress::run(&options).await,
        What::Restart(options) => restart::run(&options).await,
        What::Paused(options) => paused::run(&options).await,
        What::PolicyCost(options) => policy_cost::run(&options).await,
        What::Swaps(options) => swaps::run(&options).await,
        What::Deploys(options) => deploys::run(&options).await,
        What::Neighbour(options) => neighbour::run(&options).await,
        What::Train(options) => train::run(&options).await,
    }
}
