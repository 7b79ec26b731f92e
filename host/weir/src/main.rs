//! `weir`: a programmable edge cache. This binary reads the command line and the
//! configuration and puts the parts together; what they do is in the crates below it.

mod app;
mod audit;
mod capabilities;
mod cases;
mod certificates;
mod client;
mod config;
mod connections;
mod control;
mod daytime;
mod demo;
mod explain;
mod fields;
mod fleet;
mod guard;
mod inspect;
mod lifecycle;
mod logging;
mod metrics;
mod plugin;
mod policies;
mod registry;
mod run;
mod settings;
mod sharing;
mod signing;
mod stats;
mod tiers;
mod warm;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

// The system's allocator costs a hit about a tenth more and keeps more memory after
// large bodies have gone.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An HTTP edge cache whose rules are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A demo origin, a node and the reference policies on loopback.
    Demo(demo::DemoArgs),
    /// Run a node.
    Run(ConfigArgs),
    /// Check a configuration, components included; exit status 1 when it has errors.
    Check(ConfigArgs),
    /// Say what would become of a request: route, policy, reads, key, tags. Works offline.
    Explain(explain::ExplainArgs),
    /// Write, build and test policies.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Compile a component from standard input to standard output: what a node starts.
    #[command(name = COMPILE, hide = true)]
    Compile {
        /// Take only what nobody else wants of the processor, and give up when that was too little
        /// for so many milliseconds.
        #[arg(long, value_name = "MS")]
        idle_for: Option<u64>,
    },
    /// Print every key of the configuration, with type, default and meaning, as Markdown.
    Reference,
    /// Invalidate objects through a node's admin API.
    Purge(client::PurgeArgs),
    /// Send a domain event to a node's policies.
    Event(client::EventArgs),
    /// Give a running node a new version of a policy, to be in force or to be tried.
    Deploy(client::DeployArgs),
    /// Show what a version on trial came to, or begin a trial.
    Trial(client::TrialArgs),
    /// Put the version on trial in force.
    Promote(client::PromoteArgs),
    /// End a trial, or bring back a policy's version before the present one.
    Rollback(client::RollbackArgs),
    /// Show who changed which policy.
    Audit(client::AuditArgs),
    /// Show a node's state.
    Status(client::StatusArgs),
    /// Show objects, bytes, hits, misses, evictions and ages by namespace.
    Stats(client::StatsArgs),
    /// Show what each tier holds under a key, and whether it is still valid.
    Inspect(client::InspectArgs),
    /// Send a list of URLs through a node, so that it has them stored; exit status 1 when
    /// some failed.
    Warm(warm::WarmArgs),
}

/// The command by which a node has a component compiled.
const COMPILE: &str = "compile-component";

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file.
    #[arg(short, long, default_value = "weir.toml")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Start a policy of your own in a new folder.
    New {
        /// The folder, which must not exist or be empty.
        dir: PathBuf,
        /// Where weir-sdk is [default: the checkout this binary was built from].
        #[arg(long)]
        sdk: Option<PathBuf>,
    },
    /// Compile a policy to a component, and run its cases, which go into it.
    Build {
        /// The policy's folder.
        dir: PathBuf,
        /// The component's file [default: DIR/target/NAME.wasm].
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Run a policy's cases and print what each came to; exit status 1 when one fails.
    Test(plugin::TestArgs),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // Every cause on a line of its own reads better than a chain of colons.
            eprintln!("weir: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(&args.config),
        Command::Check(args) => run::check(&args.config),
        Command::Explain(args) => explain::run(&args),
        Command::Plugin(PluginCommand::New { dir, sdk }) => {
            plugin::scaffold(&dir, sdk.as_deref())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Plugin(PluginCommand::Build { dir, output }) => {
            let file = plugin::build(&dir, output.as_deref(), &plugin::terminal())?;
            println!("{}", file.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Plugin(PluginCommand::Test(args)) => plugin::test(&args),
        Command::Compile { idle_for } => {
            let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
            let idle_for = idle_for.map(Duration::from_millis);
            Ok(weir_policy::compile_component(input, output, idle_for)?)
        }
        Command::Reference => {
            print!("{}", config::reference());
            Ok(ExitCode::SUCCESS)
        }
        Command::Purge(args) => block_on(client::purge(args)),
        Command::Event(args) => block_on(client::event(args)),
        Command::Deploy(args) => block_on(client::deploy(args)),
        Command::Trial(args) => block_on(client::trial(args)),
        Command::Promote(args) => block_on(client::promote(args)),
        Command::Rollback(args) => block_on(client::rollback(args)),
        Command::Audit(args) => block_on(client::audit(args)),
        Command::Status(args) => block_on(client::status(args)),
        Command::Stats(args) => block_on(client::stats(args)),
        Command::Inspect(args) => block_on(client::inspect(args)),
        Command::Warm(args) => warm::run(&args),
    }
}

fn block_on(task: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(task)?;
    Ok(ExitCode::SUCCESS)
}
