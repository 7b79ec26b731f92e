//! The one source of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weir_semantics::Timestamp;

/// Tells the time in milliseconds since the Unix epoch, and never steps back: the
/// wall clock is read once, and what is added to it is monotonic. A wall clock that
/// is set while the node runs changes no lifetime.
///
/// Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real { wall: Timestamp, start: Instant },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that runs.
    pub fn system() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the wall clock"
        )]
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(Source::Real {
            wall: Timestamp::default() + since_epoch,
            start: Instant::now(),
        })
    }

    /// A clock that moves only by [`Clock::advance`]: for tests and for replaying a log.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start.as_millis()))))
    }

    /// The same, from so many milliseconds after 1970 began.
    pub fn manual_at(millis: u64) -> Self {
        Self::manual(Timestamp::from_millis(millis))
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Real { wall, start } => *wall + start.elapsed(),
            Source::Manual(now) => Timestamp::from_millis(now.load(Ordering::Acquire)),
        }
    }

    /// What [`now`](Self::now) said, or would have said, at a moment that is known already: to ask
    /// for the time costs some thirty nanoseconds. A manual clock knows only the present.
    pub fn at(&self, moment: Instant) -> Timestamp {
        match &self.0 {
            Source::Real { wall, start } => *wall + moment.saturating_duration_since(*start),
            Source::Manual(_) => self.now(),
        }
    }

    /// Moves a manual clock and its clones forward. A running clock ignores it.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(millis(by), Ordering::AcqRel);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_clock_starts_at_the_wall_and_never_steps_back() {
        let clock = Clock::system();
        let first = clock.now();
        // 2020-01-01: a clock that lost the wall would start near zero.
        assert!(first.as_millis() > 1_577_836_800_000);
        assert!((0..1_000).map(|_| clock.now()).is_sorted());
    }

    #[test]
    fn the_time_of_a_moment_is_what_was_told_then() {
        let clock = Clock::system();
        let (before, moment, after) = (clock.now(), Instant::now(), clock.now());
        assert!((before..=after).contains(&clock.at(moment)));
        assert_eq!(
            clock.at(moment + Duration::from_secs(5)),
            clock.at(moment) + Duration::from_secs(5)
        );
        let manual = Clock::manual_at(7);
        assert_eq!(manual.at(moment), manual.now());
    }

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(Timestamp::from_millis(5));
        let clone = clock.clone();
        clock.advance(Duration::from_millis(7));
        assert_eq!(clone.now(), Timestamp::from_millis(12));
    }
}
