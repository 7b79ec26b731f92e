//! The clock that guests are interrupted by: a thread that counts, and sleeps while no guest
//! runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// So many ticks after the last call it sleeps. To wake it costs a system call, and a tick takes
/// the core from a thread that serves: where one call in a thousand requests is made, the ticks
/// between two of them would cost more.
const IDLE_TICKS: u32 = 3;

/// A thread that counts an engine's epoch.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    sleeps: AtomicBool,
    ended: AtomicBool,
}

/// A guest that runs; while there is one, the clock does.
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Ticker {
    /// # Errors
    /// When no thread can be made.
    pub(crate) fn start(
        tick: Duration,
        count: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("weir-epoch".to_owned())
            .spawn(move || seen.run(tick, &count))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Has the clock run until this is dropped.
    pub(crate) fn run(&self) -> Running<'_> {
        // Before `sleeps` is read, as the thread writes that before it reads `running`: one of
        // the two sees the other.
        self.shared.running.fetch_add(1, SeqCst);
        if self.shared.sleeps.load(SeqCst) {
            self.wake();
        }
        Running(&self.shared)
    }

    #[cold]
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Shared {
    fn run(&self, tick: Duration, count: &dyn Fn()) {
        let mut idle = 0;
        while !self.ended.load(SeqCst) {
            if self.running.load(SeqCst) > 0 {
                idle = 0;
            } else if idle < IDLE_TICKS {
                idle += 1;
            } else {
                self.sleeps.store(true, SeqCst);
                while self.running.load(SeqCst) == 0 && !self.ended.load(SeqCst) {
                    thread::park();
                }
                self.sleeps.store(false, SeqCst);
                idle = 0;
                continue;
            }
            thread::park_timeout(tick);
            count();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It ends within a tick; what it could panic with would be lost in a drop.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a thread that serves nobody")]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    #[test]
    fn it_counts_while_a_guest_runs_and_sleeps_while_none_does() {
        let counted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&counted);
        let count = move || {
            counter.fetch_add(1, Relaxed);
        };
        let ticker = Ticker::start(Duration::from_millis(1), count).unwrap();
        let sleeps = || ticker.shared.sleeps.load(SeqCst);
        for _ in 0..3 {
            while !sleeps() {
                thread::yield_now();
            }
            let before = counted.load(Relaxed);
            let running = ticker.run();
            while counted.load(Relaxed) < before + u64::from(IDLE_TICKS) * 2 {
                thread::yield_now();
            }
            assert!(!sleeps(), "a guest runs");
            drop(running);
        }
        while !sleeps() {
            thread::yield_now();
        }
        let before = counted.load(Relaxed);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(counted.load(Relaxed), before);
    }

    #[test]
    fn a_call_that_comes_as_it_falls_asleep_wakes_it() {
        let (counted, counter) = std::sync::mpsc::channel();
        let count = move || {
            // The test may be over.
            let _ = counted.send(());
        };
        let ticker = Ticker::start(Duration::from_millis(1), count).unwrap();
        for round in 0..200 {
            // About when it decides to sleep, now a bit before, now a bit after.
            let ticks = Duration::from_millis(u64::from(IDLE_TICKS));
            thread::sleep(ticks + Duration::from_micros(20 * round));
            while counter.try_recv().is_ok() {}
            let _running = ticker.run();
            assert!(counter.recv_timeout(Duration::from_secs(10)).is_ok());
        }
    }
}
