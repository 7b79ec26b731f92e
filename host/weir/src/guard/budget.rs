//! Whether a version keeps within the bounds that the operator set, as far as can be told
//! from its counters. Pure: times and counts are handed in.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::Guard;

/// Counters of one version, and of what it decided on, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Calls of its hooks, and decisions that were remembered.
    pub(super) asked: u64,
    /// Calls of its hooks alone.
    pub(super) calls: u64,
    /// Calls that failed.
    pub(super) failed: u64,
    /// What the calls took.
    pub(super) time: Duration,
    /// Lookups under its keys.
    pub(super) lookups: u64,
    /// Those that a tier answered.
    pub(super) hits: u64,
    /// Answers to requests that it decided.
    pub(super) answers: u64,
    /// Those that were 5xx.
    pub(super) errors: u64,
}

impl Counts {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            asked: self.asked.saturating_sub(earlier.asked),
            calls: self.calls.saturating_sub(earlier.calls),
            failed: self.failed.saturating_sub(earlier.failed),
            time: self.time.saturating_sub(earlier.time),
            lookups: self.lookups.saturating_sub(earlier.lookups),
            hits: self.hits.saturating_sub(earlier.hits),
            answers: self.answers.saturating_sub(earlier.answers),
            errors: self.errors.saturating_sub(earlier.errors),
        }
    }

    fn hit_ratio(&self, least: u64) -> Option<u64> {
        percent(self.hits, self.lookups, least)
    }

    fn error_ratio(&self, least: u64) -> Option<u64> {
        percent(self.errors, self.answers, least)
    }
}

/// A share in percent, rounded down, if it rests on at least so many.
fn percent(part: u64, whole: u64, least: u64) -> Option<u64> {
    (whole >= least.max(1)).then(|| part.saturating_mul(100) / whole)
}

/// A bound that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// The rule, as the configuration names it.
    pub(super) rule: &'static str,
    /// What was seen, for a person.
    pub(super) text: String,
}

/// The shares of hits and of 5xx in percent, where there are enough to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ratios {
    hits: Option<u64>,
    errors: Option<u64>,
}

/// Follows one version.
#[derive(Debug)]
pub(super) struct Budget {
    began: Duration,
    /// When it began, and then once for each look within the window.
    samples: VecDeque<(Duration, Counts)>,
    /// Those of the version before, from its last window.
    before: Option<Ratios>,
}

impl Budget {
    /// Begins to follow a version, `now` since any fixed moment. `before` is who followed
    /// the version in whose place it came.
    pub(super) fn new(now: Duration, counts: Counts, before: Option<(&Self, u64)>) -> Self {
        Self {
            began: now,
            samples: VecDeque::from([(now, counts)]),
            before: before.map(|(before, least)| before.ratios(least)),
        }
    }

    /// Those of the window.
    pub(super) fn ratios(&self, least: u64) -> Ratios {
        let seen = self.seen();
        Ratios {
            hits: seen.hit_ratio(least),
            errors: seen.error_ratio(least),
        }
    }

    /// What happened within the window.
    pub(super) fn seen(&self) -> Counts {
        match (self.samples.front(), self.samples.back()) {
            (Some((_, first)), Some((_, last))) => last.since(first),
            _ => Counts::default(),
        }
    }

    /// Looks again. One on trial is compared with what is `live` beside it.
    pub(super) fn look(
        &mut self,
        now: Duration,
        counts: Counts,
        rules: &Guard,
        live: Option<Ratios>,
    ) -> Option<Broken> {
        self.samples.push_back((now, counts));
        // The first one stays from before the window's beginning, so that it is whole.
        while self.samples.len() > 2
            && self
                .samples
                .get(1)
                .is_some_and(|(then, _)| now.saturating_sub(*then) >= rules.window)
        {
            self.samples.pop_front();
        }
        self.broken(rules, live)
    }

    fn broken(&self, rules: &Guard, live: Option<Ratios>) -> Option<Broken> {
        let seen = self.seen();
        let window = humantime::format_duration(rules.window);
        let least = rules.min_calls;
        if let Some(failed) = percent(seen.failed, seen.asked, least)
            && seen.failed.saturating_mul(100) > rules.failures.saturating_mul(seen.asked)
        {
            let (count, asked, most) = (seen.failed, seen.asked, rules.failures);
            return Some(Broken {
                rule: "failures",
                text: format!(
                    "{count} of {asked} decisions and calls failed within {window} ({failed} %), more than {most} %"
                ),
            });
        }
        if let Some(most) = rules.cpu
            && seen.calls >= least
            && let Ok(calls) = u32::try_from(seen.calls)
            && let Some(mean) = seen.time.checked_div(calls)
            && mean > most
        {
            return Some(Broken {
                rule: "cpu",
                text: format!(
                    "a call took {mean:?} on average within {window}, more than {most:?}"
                ),
            });
        }
        let (other, whose) = match live {
            Some(live) => (live, "the version in force"),
            None => (self.before?, "the version before"),
        };
        if let (Some(points), Some(before), Some(now)) =
            (rules.hit_ratio, other.hits, seen.hit_ratio(least))
            && self.is_warm(rules)
            && now.saturating_add(points) < before
        {
            return Some(Broken {
                rule: "hit_ratio",
                text: format!(
                    "the hit ratio is {now} % within {window}, and {before} % with {whose}"
                ),
            });
        }
        if let (Some(points), Some(now)) = (rules.origin_errors, seen.error_ratio(least))
            && let Some(before) = other.errors
            && before.saturating_add(points) < now
        {
            return Some(Broken {
                rule: "origin_errors",
                text: format!(
                    "{now} % of the answers within {window} are 5xx, and {before} % with {whose}"
                ),
            });
        }
        None
    }

    /// Is the window later than the first one? In that a version whose keys are new misses
    /// what nobody has asked for under them.
    fn is_warm(&self, rules: &Guard) -> bool {
        let first = self.samples.front();
        first.is_some_and(|(then, _)| *then >= self.began + rules.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Guard {
        Guard {
            failures: 10,
            min_calls: 20,
            window: Duration::from_secs(30),
            cpu: Some(Duration::from_millis(5)),
            hit_ratio: Some(20),
            origin_errors: Some(10),
            retry_after: Duration::from_secs(300),
        }
    }

    fn calls(asked: u64, failed: u64) -> Counts {
        Counts {
            asked,
            calls: asked,
            failed,
            ..Counts::default()
        }
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn failures_count_once_there_are_enough_calls_and_only_within_the_window() {
        let mut budget = Budget::new(at(0), calls(1_000, 900), None);
        assert_eq!(
            budget.look(at(1), calls(1_019, 919), &rules(), None),
            None,
            "19 calls"
        );
        let broken = budget
            .look(at(2), calls(1_020, 920), &rules(), None)
            .unwrap();
        assert_eq!(broken.rule, "failures");
        assert!(broken.text.contains("20 of 20"), "{}", broken.text);

        let mut budget = Budget::new(at(0), calls(0, 0), None);
        assert_eq!(
            budget.look(at(1), calls(100, 10), &rules(), None),
            None,
            "just 10 %"
        );
        assert!(budget.look(at(2), calls(100, 11), &rules(), None).is_some());
        // What came before is forgotten when it is older than the window.
        assert_eq!(budget.look(at(33), calls(200, 11), &rules(), None), None);
        assert_eq!(budget.look(at(64), calls(200, 11), &rules(), None), None);
    }

    #[test]
    fn a_mean_time_over_the_bound_is_told() {
        let mut budget = Budget::new(at(0), Counts::default(), None);
        let slow = |each: u64| Counts {
            time: Duration::from_millis(each * 40),
            ..calls(40, 0)
        };
        assert_eq!(budget.look(at(1), slow(5), &rules(), None), None);
        assert_eq!(
            budget.look(at(2), slow(6), &rules(), None).unwrap().rule,
            "cpu"
        );
        let unbounded = Guard {
            cpu: None,
            ..rules()
        };
        assert_eq!(budget.look(at(3), slow(60), &unbounded, None), None);
    }

    /// So many hits and errors of a hundred requests.
    fn answers(hits: u64, errors: u64) -> Counts {
        Counts {
            lookups: 100,
            hits,
            answers: 100,
            errors,
            ..Counts::default()
        }
    }

    fn twice(counts: Counts) -> Counts {
        Counts {
            lookups: counts.lookups * 2,
            hits: counts.hits * 2,
            answers: counts.answers * 2,
            errors: counts.errors * 2,
            ..counts
        }
    }

    #[test]
    fn hits_and_errors_are_compared_with_the_version_before() {
        let mut before = Budget::new(at(0), Counts::default(), None);
        assert_eq!(before.look(at(1), answers(90, 0), &rules(), None), None);
        let later = |hits, errors| {
            let mut budget = Budget::new(at(2), Counts::default(), Some((&before, 20)));
            let counts = answers(hits, errors);
            let first = budget.look(at(32), counts, &rules(), None);
            first.or_else(|| budget.look(at(62), twice(counts), &rules(), None))
        };
        assert_eq!(later(70, 10), None);
        let broken = later(69, 0).unwrap();
        assert_eq!(broken.rule, "hit_ratio");
        assert!(
            broken.text.contains("69 %") && broken.text.contains("90 % with the version before"),
            "{}",
            broken.text
        );
        assert_eq!(later(90, 11).unwrap().rule, "origin_errors");
        // Without a version before there is nothing to compare with.
        let mut first = Budget::new(at(0), Counts::default(), None);
        assert_eq!(first.look(at(1), answers(0, 100), &rules(), None), None);
    }

    #[test]
    fn one_on_trial_is_compared_with_the_one_in_force() {
        let tried = |hits, errors| {
            let mut live = Budget::new(at(0), Counts::default(), None);
            live.look(at(1), answers(90, 5), &rules(), None);
            let live = Some(live.ratios(20));
            let mut budget = Budget::new(at(2), Counts::default(), None);
            let counts = answers(hits, errors);
            let first = budget.look(at(32), counts, &rules(), live);
            first.or_else(|| budget.look(at(62), twice(counts), &rules(), live))
        };
        assert_eq!(tried(70, 15), None);
        let broken = tried(69, 5).unwrap();
        assert_eq!(broken.rule, "hit_ratio");
        assert!(
            broken.text.contains("90 % with the version in force"),
            "{}",
            broken.text
        );
        assert_eq!(tried(90, 16).unwrap().rule, "origin_errors");
    }

    #[test]
    fn hits_are_not_judged_before_the_keys_can_be_known() {
        let mut before = Budget::new(at(0), Counts::default(), None);
        before.look(at(1), answers(90, 0), &rules(), None);
        let mut budget = Budget::new(at(2), Counts::default(), Some((&before, 20)));
        assert_eq!(budget.look(at(10), answers(0, 0), &rules(), None), None);
        // What missed in the first window is forgotten with it.
        assert_eq!(budget.look(at(32), answers(0, 0), &rules(), None), None);
        let warm = Counts {
            lookups: 200,
            hits: 90,
            ..answers(0, 0)
        };
        assert_eq!(budget.look(at(62), warm, &rules(), None), None);
    }
}
