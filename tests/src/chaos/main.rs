//! `weir-chaos NAME`: what `cargo xtask chaos` runs once it has built it and the node.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use weir_tests::chaos::{Scale, Scenario, run};

#[derive(Parser)]
#[command(name = "weir-chaos", about = "Redis goes wrong under load.")]
struct Cli {
    /// The scenario; none: all of them.
    #[arg(value_parser = scenario)]
    scenario: Option<Scenario>,
    /// Requests a second, to all nodes together.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seconds for which Redis is away where it is up to the scenario.
    #[arg(long, default_value_t = 30)]
    away: u64,
    /// `redis.deadline` of the nodes in the stampede, in milliseconds.
    #[arg(long, default_value_t = 20)]
    deadline_ms: u64,
    /// Rounds of the stampede.
    #[arg(long, default_value_t = 12)]
    rounds: u32,
}

fn scenario(name: &str) -> Result<Scenario, String> {
    Scenario::named(name).ok_or_else(|| {
        let names: Vec<_> = Scenario::ALL.iter().map(|one| one.name()).collect();
        format!("the scenarios are {}", names.join(", "))
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let scale = Scale {
        rate: cli.rate,
        calm: Duration::from_secs(5),
        away: Duration::from_secs(cli.away),
        deadline: Duration::from_millis(cli.deadline_ms),
        rounds: cli.rounds,
        shown: true,
    };
    let mut failed = false;
    for one in Scenario::ALL {
        if cli.scenario.is_some_and(|wanted| wanted != one) {
            continue;
        }
        println!("\n{} at {} requests a second", one.name(), scale.rate);
        let report = run(one, scale).await;
        println!("{report}");
        for wrong in report.wrong(true) {
            failed = true;
            println!("  WRONG: {wrong}");
        }
    }
    match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
