//! Log lines, on standard error: standard output is for answers.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat, LogLevel};

/// Starts structured logging. `RUST_LOG` wins over the configured level.
///
/// # Errors
/// When `RUST_LOG` is not a filter.
pub(crate) fn start(log: Log) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) => EnvFilter::try_new(&directives).with_context(|| {
            format!("RUST_LOG={directives:?} is not a filter; write e.g. RUST_LOG=info")
        })?,
        Err(_) => EnvFilter::new(match log.level {
            LogLevel::Error => "error",
            // The disk tier's library tells every step; of its own accord that is too much.
            LogLevel::Warn => "warn,fjall=error,lsm_tree=error",
            LogLevel::Info => "info,fjall=error,lsm_tree=error",
            LogLevel::Debug => "debug,fjall=warn,lsm_tree=warn",
            LogLevel::Trace => "trace",
        }),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    match log.format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    Ok(())
}
