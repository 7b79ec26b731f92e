//! `cargo xtask simulate`.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use weir_simulator::coverage::TEXTS;
use weir_simulator::fault::Fault;
use weir_simulator::report::{self, Report};
use weir_simulator::schedule::{self, NODES};

/// Random schedules of failures for the invalidation log of three nodes.
#[derive(Debug, Parser)]
struct Options {
    /// How many schedules.
    #[arg(long, default_value_t = 1_000_000)]
    schedules: u64,
    /// The first seed. With one schedule: that one, step by step.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Random steps of each, before it settles.
    #[arg(long, default_value_t = 200)]
    steps: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// With a rule of the protocol broken, up to the first schedule that shows it.
    #[arg(long)]
    broken: Option<Fault>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.schedules == 1 {
        return replay(&options);
    }
    let began = Instant::now();
    let told = parking_lot::Mutex::new(began);
    let seeds = options.seed..options.seed + options.schedules;
    println!("seeds {} to {}, {NODES} nodes", seeds.start, seeds.end - 1);
    let tell = |report: &Report| {
        let mut told = told.lock();
        if told.elapsed().as_secs() >= 10 {
            *told = Instant::now();
            line(report, began);
        }
    };
    let (broken, threads) = (options.broken, options.threads);
    let stop = broken.is_some();
    let report = report::run(seeds, options.steps, broken, threads, stop, tell);
    line(&report, began);
    println!("\nhow often what happened:");
    for (text, count) in TEXTS.iter().zip(report.counts) {
        let never = if count == 0 { "  NEVER" } else { "" };
        println!("{count:>12}  {text}{never}");
    }
    for (seed, violation) in &report.violations {
        println!("\nseed {seed}: {violation}");
        if broken.is_none() {
            println!("  again, step by step: cargo xtask simulate --schedules 1 --seed {seed}");
        }
    }
    match report.violations.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn line(report: &Report, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:>9} schedules, {:>11} steps, {:>6.0} s, {:>8.0} steps/s, {} violations",
        report.schedules,
        report.steps,
        seconds,
        report.steps as f64 / seconds,
        report.violations.len()
    );
}

fn replay(options: &Options) -> ExitCode {
    let outcome = schedule::run(options.seed, options.steps, options.broken, true);
    for line in &outcome.trace {
        println!("{line}");
    }
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}
