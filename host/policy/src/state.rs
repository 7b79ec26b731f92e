//! What a store holds: the call that is running, and what its policy may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::about::About;
use crate::arena::Arena;
use crate::capabilities::HostServices;
use crate::decision::{Adjustment, ResponseInfo};
use crate::error::Fault;
use crate::globs::{GlobCache, Globs};
use crate::lane::{self, Task};
use crate::limits::{Limiter, Total};
use crate::prepared::Prepared;
use crate::reads::{ReadInput, Recorder};
use crate::request::RequestHead;
use crate::stats::PolicyStats;
use crate::wasi::Wasi;

/// How long the host waits for one operation of a capability.
const HOST_CALL: Duration = Duration::from_millis(250);
/// How long all operations of one hook call may take together.
const HOST_CALLS: Duration = Duration::from_secs(1);
/// Log lines of one policy in a second.
const LOG_LINES: u64 = 100;

/// What all instances of a policy share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    /// Of the component: blake3 in hex.
    pub(crate) hash: String,
    /// `name@version`.
    pub(crate) label: Arc<str>,
    pub(crate) about: About,
    pub(crate) namespaces: Vec<String>,
    pub(crate) services: HostServices,
    pub(crate) globs: GlobCache,
    pub(crate) stats: PolicyStats,
    /// What all its instances use.
    pub(crate) memory: Arc<Total>,
    pub(crate) log_budget: LogBudget,
    /// Where capabilities are at work, whichever thread waits for them: what they begin
    /// (a connection, a prober) outlives the call.
    pub(crate) runtime: Handle,
}

/// A domain event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) data: String,
}

/// The call that is running. What does not belong to its hook is absent.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) request: Option<Arc<RequestHead>>,
    pub(crate) response: Option<ResponseInfo>,
    pub(crate) event: Option<Event>,
    pub(crate) adjustment: Adjustment,
    pub(crate) now_ms: u64,
    /// Time spent waiting for capabilities.
    pub(crate) waited: Duration,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) shared: Arc<Shared>,
    pub(crate) limiter: Limiter,
    pub(crate) arena: Arena,
    pub(crate) prepared: Prepared,
    pub(crate) call: Call,
    pub(crate) recorder: Recorder,
    /// The CPU time that the hook may use.
    pub(crate) budget: Duration,
    /// What had been used when the hook was called.
    pub(crate) used_before: Duration,
    pub(crate) wasi: Wasi,
}

impl Shared {
    pub(crate) fn version(&self) -> &str {
        version(&self.hash)
    }
}

/// How a version is shown.
fn version(hash: &str) -> &str {
    // Hex is ASCII, and a hash longer than this.
    hash.get(..12).unwrap_or(hash)
}

/// `name@version`.
pub(crate) fn label(name: &str, hash: &str) -> Arc<str> {
    format!("{name}@{}", version(hash)).into()
}

impl State {
    pub(crate) fn new(shared: Arc<Shared>, memory: usize) -> Self {
        Self {
            limiter: Limiter::new(memory, Arc::clone(&shared.memory)),
            shared,
            arena: Arena::default(),
            prepared: Prepared::default(),
            call: Call::default(),
            recorder: Recorder::default(),
            budget: Duration::ZERO,
            used_before: Duration::ZERO,
            wasi: Wasi::default(),
        }
    }

    /// Makes ready for a call and forgets everything of the one before.
    pub(crate) fn begin(&mut self, call: Call) {
        self.limiter.begin();
        self.arena.begin();
        self.prepared.begin();
        self.wasi.begin();
        self.call = call;
        self.recorder.begin(crate::reads::Record::No);
    }

    /// Lets go of the request and everything else of the call that ended.
    pub(crate) fn end(&mut self) {
        self.arena.begin();
        self.call = Call::default();
    }

    /// The request that the handle `rep` lends; records the read.
    pub(crate) fn read(
        &mut self,
        rep: u32,
        input: impl FnOnce() -> ReadInput,
    ) -> wasmtime::Result<&RequestHead> {
        self.arena.get(rep)?;
        let head = self.call.request.as_deref().ok_or_else(no_subject)?;
        self.recorder.note(head, input);
        Ok(head)
    }

    pub(crate) fn response(&mut self, rep: u32) -> wasmtime::Result<&ResponseInfo> {
        self.arena.get(rep)?;
        self.call.response.as_ref().ok_or_else(no_subject)
    }

    pub(crate) fn adjustment(&mut self, rep: u32) -> wasmtime::Result<&mut Adjustment> {
        self.arena.get(rep)?;
        Ok(&mut self.call.adjustment)
    }

    pub(crate) fn event(&mut self, rep: u32) -> wasmtime::Result<&Event> {
        self.arena.get(rep)?;
        self.call.event.as_ref().ok_or_else(no_subject)
    }

    pub(crate) fn globs(&self, patterns: &[String]) -> wasmtime::Result<Globs> {
        self.shared.globs.get(patterns).map_err(Fault::bad)
    }

    /// Is this namespace the policy's?
    pub(crate) fn owns(&self, namespace: &str) -> bool {
        self.shared.namespaces.iter().any(|own| own == namespace)
    }

    /// Ends the call when the namespace is not the policy's.
    pub(crate) fn check_namespace(&self, namespace: &str) -> wasmtime::Result<()> {
        if self.owns(namespace) {
            return Ok(());
        }
        Err(wasmtime::Error::new(Fault::Namespace(format!(
            "the namespace `{}` is not the policy's: add it to `namespaces` in the configuration (they are: {})",
            crate::error::cut(namespace, 64),
            self.shared.namespaces.join(", ")
        ))))
    }

    /// Waits for an operation of a capability, at most until its deadline.
    pub(crate) async fn wait<T: Send + 'static>(
        &mut self,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let left = HOST_CALLS.saturating_sub(self.call.waited);
        let began = Instant::now();
        let result = match lane::is_aside() {
            true => {
                let there = Task::spawn(&self.shared.runtime, operation);
                let ended = tokio::time::timeout(left.min(HOST_CALL), there.ended()).await;
                ended.ok().flatten()
            }
            false => {
                let ended = tokio::time::timeout(left.min(HOST_CALL), operation).await;
                ended.ok()
            }
        };
        self.call.waited += began.elapsed();
        result
    }
}

#[cold]
fn no_subject() -> wasmtime::Error {
    wasmtime::Error::new(Fault::Handle(
        "the handle belongs to another hook".to_owned(),
    ))
}

/// Lines that may still be written in the current second of the calls' time.
#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    second: AtomicU64,
    written: AtomicU64,
}

impl LogBudget {
    /// May another line be written? Slightly too many pass when seconds change under
    /// concurrent calls.
    pub(crate) fn take(&self, now_ms: u64) -> bool {
        let second = now_ms / 1000;
        if self.second.swap(second, Relaxed) != second {
            self.written.store(0, Relaxed);
        }
        self.written.fetch_add(1, Relaxed) < LOG_LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_bounded_in_a_second() {
        let budget = LogBudget::default();
        let passed = (0..500).filter(|_| budget.take(7_000)).count();
        assert_eq!(passed as u64, LOG_LINES);
        assert!(budget.take(8_000));
    }
}
