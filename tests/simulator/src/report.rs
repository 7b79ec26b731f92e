//! Many schedules, on several threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::coverage::{Counts, EVENTS};
use crate::fault::Fault;
use crate::schedule;

/// What many schedules came to.
#[derive(Debug)]
pub struct Report {
    /// How many were run.
    pub schedules: u64,
    /// Their steps.
    pub steps: u64,
    /// How often what happened.
    pub counts: Counts,
    /// Seeds that failed, with the reason; at most a few.
    pub violations: Vec<(u64, String)>,
}

/// How many failures are kept.
const FAILURES: usize = 5;

/// Runs schedules with the seeds from `first` on. Stops at the first failure if told to.
/// `tell` is called now and then with what was done so far.
pub fn run(
    seeds: std::ops::Range<u64>,
    steps: u64,
    fault: Option<Fault>,
    threads: usize,
    stop: bool,
    tell: impl Fn(&Report) + Sync,
) -> Report {
    let next = AtomicU64::new(seeds.start);
    let ended = AtomicBool::new(false);
    let report = Mutex::new(Report {
        schedules: 0,
        steps: 0,
        counts: [0; EVENTS],
        violations: Vec::new(),
    });
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                // In batches, so that threads seldom meet.
                const BATCH: u64 = 64;
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    if first >= seeds.end || ended.load(Ordering::Relaxed) {
                        return;
                    }
                    for seed in first..seeds.end.min(first + BATCH) {
                        let outcome = schedule::run(seed, steps, fault, false);
                        let mut report = report.lock();
                        report.schedules += 1;
                        report.steps += outcome.steps;
                        for (sum, count) in report.counts.iter_mut().zip(outcome.counts) {
                            *sum += count;
                        }
                        if let Some(violation) = outcome.violation {
                            if report.violations.len() < FAILURES {
                                report.violations.push((seed, violation));
                            }
                            if stop {
                                ended.store(true, Ordering::Relaxed);
                                return;
                            }
                        }
                    }
                    tell(&report.lock());
                }
            });
        }
    });
    report.into_inner()
}
