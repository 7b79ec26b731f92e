//! A sliding window: what one client was admitted, as far as it still counts.

use std::time::Duration;

use smallvec::SmallVec;

use super::RateVerdict;

/// Into how many stretches a window is told apart, about. Those admitted in one stretch
/// come free together, when the last of them does.
const STRETCHES: u64 = 32;

/// Some that were admitted one after the other, in microseconds of some clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    last: u64,
    count: u32,
}

/// What was admitted within the last window, the oldest first. The script does the same
/// in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window(SmallVec<[Span; 2]>);

impl Window {
    /// How many still count.
    pub(super) fn used(&mut self, now: u64, window: u64) -> u32 {
        self.0.retain(|span| now.saturating_sub(span.last) < window);
        self.0
            .iter()
            .fold(0, |sum, span| sum.saturating_add(span.count))
    }

    /// Admits one if no more than `limit` were within the window then.
    pub(super) fn check(&mut self, now: u64, limit: u32, window: u64) -> RateVerdict {
        let used = self.used(now, window);
        if used >= limit {
            let free = self.0.first().map_or(now, |span| span.last + window);
            return RateVerdict {
                allowed: false,
                remaining: 0,
                retry_after: Duration::from_micros(free.saturating_sub(now)),
            };
        }
        self.add(now, window);
        RateVerdict {
            allowed: true,
            remaining: limit - used - 1,
            retry_after: Duration::ZERO,
        }
    }

    /// Counts one that was admitted now, whoever admitted it.
    pub(super) fn add(&mut self, now: u64, window: u64) {
        match self.0.last_mut() {
            Some(span) if now.saturating_sub(span.first) < window / STRETCHES => {
                span.last = span.last.max(now);
                span.count = span.count.saturating_add(1);
            }
            _ => self.0.push(Span {
                first: now,
                last: now,
                count: 1,
            }),
        }
    }

    /// When the last one was admitted.
    pub(super) fn last(&self) -> Option<u64> {
        Some(self.0.last()?.last)
    }

    /// What it takes in memory beside its own size, in bytes.
    pub(super) fn weight(&self) -> usize {
        match self.0.spilled() {
            true => self.0.capacity() * size_of::<Span>(),
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    proptest! {
        #[test]
        fn no_window_anywhere_admits_more_than_the_limit(
            limit in 1_u32..60,
            steps in prop::collection::vec(0_u64..60_000, 1..600),
        ) {
            let (mut now, mut window, mut admitted) = (0, Window::default(), Vec::new());
            for step in steps {
                now += step;
                if window.check(now, limit, SECOND).allowed {
                    admitted.push(now);
                }
                prop_assert!(window.0.len() as u64 <= STRETCHES + 2);
            }
            for (at, first) in admitted.iter().enumerate() {
                let within = admitted[at..].iter().filter(|it| **it - first < SECOND).count();
                prop_assert!(within <= limit as usize);
            }
        }

        #[test]
        fn who_is_refused_is_admitted_when_it_was_told(
            limit in 1_u32..20,
            steps in prop::collection::vec(0_u64..40_000, 1..200),
        ) {
            let (mut now, mut window) = (0, Window::default());
            for step in steps {
                now += step;
                let verdict = window.check(now, limit, SECOND);
                if !verdict.allowed {
                    let retry = u64::try_from(verdict.retry_after.as_micros()).unwrap();
                    prop_assert!((1..=SECOND).contains(&retry));
                    prop_assert!(!window.clone().check(now + retry - 1, limit, SECOND).allowed);
                    prop_assert!(window.clone().check(now + retry, limit, SECOND).allowed);
                }
            }
        }
    }

    #[test]
    fn remaining_counts_down_and_a_place_comes_free_a_window_after_it_was_taken() {
        let mut window = Window::default();
        let mut check = |now| window.check(now, 3, SECOND);
        let remaining: Vec<_> = [0, 100_000, 200_000].map(|now| check(now).remaining).into();
        assert_eq!(remaining, [2, 1, 0]);
        let refused = check(300_000);
        assert_eq!(refused.retry_after, Duration::from_millis(700));
        assert!(check(1_000_000).allowed);
        assert_eq!(check(1_000_000).retry_after, Duration::from_millis(100));
    }
}
