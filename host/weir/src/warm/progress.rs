//! Showing how far it is.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::tally::Tally;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar on standard error where that is a terminal, lines otherwise.
pub(super) struct Progress {
    bar: ProgressBar,
    total: Option<u64>,
    written: Cell<Instant>,
}

impl Progress {
    pub(super) fn start(total: Option<u64>) -> Self {
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{bar:20} {pos}/{len} {per_sec}, {eta} left; {wide_msg}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {pos} {per_sec}; {wide_msg}",
            ),
        };
        // A template that does not parse leaves the default one.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self {
            bar,
            total,
            written: Cell::new(Instant::now()),
        }
    }

    pub(super) fn show(&self, tally: &Tally) {
        let done = tally.done();
        if !self.bar.is_hidden() {
            self.bar.set_position(done);
            self.bar.set_message(tally.line());
        } else if self.written.get().elapsed() >= LINE_EVERY {
            self.written.set(Instant::now());
            let of = self
                .total
                .map_or(String::new(), |total| format!(" of {total}"));
            eprintln!("weir: {done}{of}: {}", tally.line());
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
