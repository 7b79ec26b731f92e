//! When sequences were taken, coarsely: enough to know which marks nothing needs.

use std::collections::VecDeque;
use std::time::Duration;

use weir_semantics::Timestamp;

/// How many points a life is divided into.
const POINTS: u32 = 32;

/// Clocks of nodes differ by less than this.
const MARGIN: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Timeline {
    /// At each instant, the highest sequence that had been taken; oldest first.
    points: VecDeque<(Timestamp, u64)>,
    life: Duration,
}

impl Timeline {
    /// No object lives longer than `life`, its stale windows included.
    pub(super) fn new(life: Duration) -> Self {
        Self {
            points: VecDeque::new(),
            life: life.saturating_add(MARGIN),
        }
    }

    /// `sequence` has been taken at or before `now`.
    pub(super) fn note(&mut self, sequence: u64, now: Timestamp) {
        // A point keeps its sequence when later ones follow soon: it then claims less.
        if self
            .points
            .back()
            .is_some_and(|(at, _)| now.since(*at) < self.life / POINTS)
        {
            return;
        }
        self.points.push_back((now, sequence));
        // More points than a life has are beyond the horizon, but for the newest of those.
        if self.points.len() > 2 * POINTS as usize {
            self.points.pop_front();
        }
    }

    /// Marks up to this sequence concern no object that is still alive.
    pub(super) fn horizon(&self, now: Timestamp) -> u64 {
        let past = self
            .points
            .iter()
            .filter(|(at, _)| now.since(*at) > self.life);
        past.map(|(_, sequence)| *sequence).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_past_the_horizon_when_all_objects_older_than_it_have_ended() {
        let hour = Duration::from_secs(3_600);
        let start = Timestamp::from_secs(1_000_000);
        let mut timeline = Timeline::new(hour);
        for minute in 0..600 {
            timeline.note(u64::from(minute), start + Duration::from_secs(60) * minute);
        }
        let now = start + hour * 10;
        let horizon = timeline.horizon(now);
        // 530 was taken 70 minutes ago, a life and the margin.
        assert!((520..=530).contains(&horizon), "{horizon}");
        assert_eq!(timeline.horizon(start + hour), 0);
        assert!(timeline.points.len() <= 65);
    }
}
