//! The commands that talk to a running node through its admin API.

mod deploy;
mod event;
mod fleet;
mod http;
mod inspect;
mod purge;
mod stats;
mod status;
mod table;
mod trial;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

pub(crate) use self::deploy::{DeployArgs, RollbackArgs, run as deploy, run_rollback as rollback};
pub(crate) use self::event::{EventArgs, run as event};
pub(crate) use self::fleet::UNCONFIGURED;
pub(crate) use self::inspect::{InspectArgs, run as inspect};
pub(crate) use self::purge::{PurgeArgs, run as purge};
pub(crate) use self::stats::{StatsArgs, run as stats};
pub(crate) use self::status::{StatusArgs, run as status};
pub(crate) use self::trial::{
    AuditArgs, PromoteArgs, TrialArgs, run as trial, run_audit as audit, run_promote as promote,
};

/// Where the node is and how to ask it.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminArgs {
    /// The node's admin API, as [admin] listen names it
    #[arg(
        long,
        value_name = "URL",
        env = "WEIR_ADMIN",
        default_value = "http://127.0.0.1:9900"
    )]
    admin: String,
    /// The file with the admin token, as [admin] token_file names it
    #[arg(long, value_name = "FILE", env = "WEIR_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Print the node's answer as JSON
    #[arg(long)]
    json: bool,
}

/// Writes a command's output. A reader that has gone (`| head`) is no failure.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// The node's answer as it came, indented.
fn raw(answer: &Value) -> String {
    format!("{answer:#}")
}

/// Text from a node, for a terminal: guests write some of it, and must not steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(visible).collect()
}
