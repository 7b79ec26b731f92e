//! The protocol as it is: a small part of what `cargo xtask simulate` runs.

use weir_simulator::coverage::{Event, TEXTS};
use weir_simulator::report;

/// How many: 20 seconds of one core, unoptimised.
const SCHEDULES: u64 = 2_000;

/// Few enough for every build, and enough that everything happens. After each step
/// `bounded` in `src/settle.rs` counts what is kept: counters, prefixes, pending purges.
#[test]
fn no_schedule_of_failures_breaks_the_promise_or_a_bound() {
    let report = report::run(0..SCHEDULES, 200, None, 2, false, |_| {});
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    assert!(report.steps >= SCHEDULES * 200);
    // Too rare for so few: a few in ten thousand.
    let rare = |at: &usize| *at == Event::OtherLog as usize;
    let never = (0..TEXTS.len()).filter(|at| report.counts[*at] == 0 && !rare(at));
    let never: Vec<_> = never.map(|at| TEXTS[at]).collect();
    assert!(never.is_empty(), "never happened: {never:#?}");
}
