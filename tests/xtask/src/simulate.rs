//! `cargo xtask simulate`: schedules of failures for the invalidation log.

use anyhow::Result;

use crate::run;

/// Random schedules of failures for the invalidation log of three nodes.
///
/// Crashes, cut links, lost, late and repeated messages, full disks, and a Redis that is slow,
/// fails over, is flushed or restarts from an old snapshot. What the nodes serve is held
/// against the promise of docs/invalidation.md. A seed that breaks it is printed, and gives
/// the same steps again.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask simulate                          a million schedules: ten minutes on two idle cores\n  \
    cargo xtask simulate --schedules 1 --seed 69  one of them, step by step")]
pub(crate) struct Options {
    /// How many schedules
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    schedules: u64,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Builds the simulator and runs it. Fails if a schedule broke the promise.
pub(crate) fn run(options: &Options) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, |it| it.get());
    let mut command = run::cargo(&["run", "--quiet", "--release", "-p", "weir-simulator", "--"]);
    command
        .args(["--schedules", &options.schedules.to_string()])
        .args(["--seed", &options.seed.to_string()])
        .args(["--threads", &threads.to_string()]);
    run::shown(&mut command)
}
