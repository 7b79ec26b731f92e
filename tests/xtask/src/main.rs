//! Tasks of the repository: `cargo xtask test`, `cargo xtask bench`, `cargo xtask links`,
//! `cargo xtask smuggling`, `cargo xtask transcripts`, `cargo xtask fuzz`,
//! `cargo xtask chaos`, `cargo xtask dist`, `cargo xtask measure`, `cargo xtask simulate`.

mod bench;
mod cache_tests;
mod chaos;
mod fuzz;
mod install;
mod links;
mod measure;
mod run;
mod shipped;
mod simulate;
mod smuggling;
mod test;
mod transcripts;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the repository.")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, lints, and all tests; installs what they need and a fresh machine lacks.
    Test(test::Options),
    /// The cost of a cache hit: Weir, nginx, Varnish, HAProxy and Traffic Server in one run.
    Bench(bench::Options),
    /// The node as it is shipped: built for what one was seen to do at work.
    Dist(shipped::Options),
    /// The public suite http-tests/cache-tests against Weir, nginx and Varnish.
    CacheTests(cache_tests::Options),
    /// Dead links in the Markdown files: files and anchors, no network.
    Links,
    /// Requests that two parsers could read in two ways, each with the node's answer.
    Smuggling,
    /// What a node answers curl: ranges, conditionals, stale answers, GraphQL, TLS, …
    Transcripts(transcripts::Options),
    Fuzz(fuzz::Options),
    /// Redis killed, frozen, emptied, failed over, under load: a timeline and the counts.
    Chaos(chaos::Options),
    /// The tiers: what a purge, an object in memory, a hit in Redis cost, and a frozen Redis.
    Measure(measure::Options),
    /// Purges on three nodes through a million random failures, held against the promise.
    Simulate(simulate::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Dist(options) => shipped::run(&options),
        Task::CacheTests(options) => cache_tests::run(&options),
        Task::Links => links::run(),
        Task::Smuggling => smuggling::run(),
        Task::Transcripts(options) => transcripts::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Chaos(options) => chaos::run(&options),
        Task::Measure(options) => measure::run(&options),
        Task::Simulate(options) => simulate::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
