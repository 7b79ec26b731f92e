//! What happened in each second, shown as it comes.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures that are kept in words.
const EXAMPLES: usize = 5;

/// The seconds and the sums.
#[derive(Debug)]
pub(super) struct Timeline {
    began: Instant,
    shown: bool,
    now: Mutex<Second>,
    sum: Mutex<Sum>,
}

/// One second.
#[derive(Debug, Default)]
struct Second {
    answered: u64,
    failed: u64,
    hits: u64,
    stale: u64,
    beyond: u64,
    /// Microseconds.
    latencies: Vec<u32>,
    fleet: u64,
    node: u64,
    slowest_purge: Duration,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) hits: u64,
    pub(super) stale: u64,
    pub(super) stale_longest: Duration,
    pub(super) beyond: u64,
    pub(super) fleet: u64,
    pub(super) node: u64,
    pub(super) slowest: Duration,
    pub(super) slowest_purge: Duration,
    pub(super) examples: Vec<String>,
}

impl Timeline {
    pub(super) fn new(shown: bool) -> Self {
        let this = Self {
            began: Instant::now(),
            shown,
            now: Mutex::default(),
            sum: Mutex::default(),
        };
        this.line(
            "  time  requests  failed   hits  origin   p50 ms   p99 ms  up  purges fleet/node  \
             slowest ms  stale  beyond",
        );
        this
    }

    /// Something was done.
    pub(super) fn event(&self, words: &str) {
        let at = self.began.elapsed().as_secs_f64();
        self.line(&format!("{at:5.1}s  ---- {words}"));
    }

    fn line(&self, line: &str) {
        if self.shown {
            println!("{line}");
        }
    }

    pub(super) fn answered(&self, took: Duration, hit: bool) {
        let mut now = self.now.lock();
        now.answered += 1;
        now.hits += u64::from(hit);
        now.latencies
            .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    pub(super) fn failed(&self, why: &str) {
        self.now.lock().failed += 1;
        self.example(why);
    }

    pub(super) fn stale(&self, age: Duration) {
        self.now.lock().stale += 1;
        let mut sum = self.sum.lock();
        sum.stale_longest = sum.stale_longest.max(age);
    }

    pub(super) fn beyond(&self, why: &str) {
        self.now.lock().beyond += 1;
        self.example(why);
    }

    pub(super) fn purged(&self, took: Duration, fleet: bool) {
        let mut now = self.now.lock();
        match fleet {
            true => now.fleet += 1,
            false => now.node += 1,
        }
        now.slowest_purge = now.slowest_purge.max(took);
    }

    fn example(&self, why: &str) {
        let mut sum = self.sum.lock();
        if sum.examples.len() < EXAMPLES {
            let at = self.began.elapsed().as_secs_f64();
            sum.examples.push(format!("{at:.3}s {why}"));
        }
    }

    /// Ends the second: `fetched` requests came to the origin, `up` nodes use Redis.
    pub(super) fn tick(&self, fetched: usize, up: usize) {
        let mut second = std::mem::take(&mut *self.now.lock());
        second.latencies.sort_unstable();
        let part = |numerator: usize, denominator: usize| {
            let at = second.latencies.len() * numerator / denominator;
            let at = second.latencies.get(at).or(second.latencies.last());
            f64::from(at.copied().unwrap_or(0)) / 1e3
        };
        let share = match second.answered {
            0 => 0,
            answered => second.hits * 100 / answered,
        };
        self.line(&format!(
            "{:5.1}s {:9} {:7} {share:5}% {fetched:7} {:8.2} {:8.2} {up:3} {:>18} {:11.1} {:6} {:7}",
            self.began.elapsed().as_secs_f64(),
            second.answered,
            second.failed,
            part(1, 2),
            part(99, 100),
            format!("{}/{}", second.fleet, second.node),
            second.slowest_purge.as_secs_f64() * 1e3,
            second.stale,
            second.beyond,
        ));
        let slowest = second.latencies.last().copied().unwrap_or(0);
        let mut sum = self.sum.lock();
        sum.answered += second.answered;
        sum.failed += second.failed;
        sum.hits += second.hits;
        sum.stale += second.stale;
        sum.beyond += second.beyond;
        sum.fleet += second.fleet;
        sum.node += second.node;
        sum.slowest = sum.slowest.max(Duration::from_micros(slowest.into()));
        sum.slowest_purge = sum.slowest_purge.max(second.slowest_purge);
    }

    pub(super) fn sum(&self) -> Sum {
        self.sum.lock().clone()
    }
}
