//! The capabilities: `log`, `clock` and `rate-limit`. Each marks the call as impure.
//! `kv` is in [`crate::host_kv`].

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use wasmtime::Result;

use crate::bindings::{clock, log, rate_limit};
use crate::bounds;
use crate::capabilities::LogLevel;
use crate::error::{Fault, cut};
use crate::state::State;

/// The longest log line, in bytes.
const MAX_LINE: usize = 4 * 1_024;
/// The longest name of a bucket or client, in bytes.
const MAX_NAME: usize = 256;
/// The longest time that a counter or value can live.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) -> Result<()> {
        self.recorder.impure();
        let shared = &self.shared;
        if !shared.log_budget.take(self.call.now_ms) {
            shared.stats.log_lines_dropped.fetch_add(1, Relaxed);
            return Ok(());
        }
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        let line = cut(&message, MAX_LINE);
        shared
            .services
            .log
            .write(&shared.name, shared.version(), level, line);
        Ok(())
    }
}

impl clock::Host for State {
    fn now(&mut self) -> Result<u64> {
        self.recorder.impure();
        Ok(self.call.now_ms)
    }
}

impl rate_limit::Host for State {
    async fn check(
        &mut self,
        bucket: String,
        client: String,
        limit: u32,
        window_ms: u64,
    ) -> Result<rate_limit::Verdict> {
        self.recorder.impure();
        bounds::sized("the bucket of a rate limit", bucket.len(), MAX_NAME)?;
        bounds::sized("the client of a rate limit", client.len(), MAX_NAME)?;
        let window = Duration::from_millis(window_ms);
        if limit == 0 || window.is_zero() || window > MAX_TIME {
            return Err(Fault::bad(format!(
                "a rate limit of {limit} per {window_ms} ms: the limit must be at least 1, the window 1 ms to 30 days"
            )));
        }
        let bucket = format!("{}:{bucket}", self.shared.name);
        let service = self.shared.services.rate_limit.clone();
        let verdict = self
            .wait(async move { service.check(&bucket, &client, limit, window).await })
            .await;
        let Some(verdict) = verdict else {
            tracing::warn!(
                policy = self.shared.name,
                "rate-limit did not answer in time: the request is let through"
            );
            return Ok(rate_limit::Verdict {
                allowed: true,
                remaining: 0,
                retry_after_milliseconds: 0,
            });
        };
        let retry = u64::try_from(verdict.retry_after.as_millis()).unwrap_or(u64::MAX);
        Ok(rate_limit::Verdict {
            allowed: verdict.allowed,
            remaining: verdict.remaining,
            retry_after_milliseconds: retry,
        })
    }
}
