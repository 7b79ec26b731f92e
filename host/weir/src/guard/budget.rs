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
    /// Lookups in its namespaces.
    pub(super) lookups: u64,
    /// Those that a tier answered.
    pub(super) hits: u64,
    /// Answers on its routes.
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

    /// The same, as if the version had not been called yet.
    pub(super) fn before_any_call(self) -> Self {
        Self {
            asked: 0,
            calls: 0,
            failed: 0,
            time: Duration::ZERO,
            ..self
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

/// Follows one version.
#[derive(Debug)]
pub(super) struct Budget {
    /// When it began, and then once for each look within the window.
    samples: VecDeque<(Duration, Counts)>,
    /// The ratios of the version before, from its last window.
    before: Option<(Option<u64>, Option<u64>)>,
}

impl Budget {
    /// Begins to follow a version, `now` since any fixed moment. `before` is who followed
    /// the version in whose place it came.
    pub(super) fn new(now: Duration, counts: Counts, before: Option<(&Self, u64)>) -> Self {
        Self {
            samples: VecDeque::from([(now, counts)]),
            before: before.map(|(before, least)| before.ratios(least)),
        }
    }

    fn ratios(&self, least: u64) -> (Option<u64>, Option<u64>) {
        let seen = self.seen();
        (seen.hit_ratio(least), seen.error_ratio(least))
    }

    /// What happened within the window.
    pub(super) fn seen(&self) -> Counts {
        match (self.samples.front(), self.samples.back()) {
            (Some((_, first)), Some((_, last))) => last.since(first),
            _ => Counts::default(),
        }
    }

    /// Looks again.
    pub(super) fn look(&mut self, now: Duration, counts: Counts, rules: &Guard) -> Option<Broken> {
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
        self.broken(rules)
    }

    fn broken(&self, rules: &Guard) -> Option<Broken> {
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
        let (hits_before, errors_before) = self.before?;
        if let (Some(points), Some(before), Some(now)) =
            (rules.hit_ratio, hits_before, seen.hit_ratio(least))
            && now.saturating_add(points) < before
        {
            return Some(Broken {
                rule: "hit_ratio",
                text: format!(
                    "the hit ratio is {now} %, and was {before} % with the version before"
                ),
            });
        }
        if let (Some(points), Some(now)) = (rules.origin_errors, seen.error_ratio(least))
            && let Some(before) = errors_before
            && before.saturating_add(points) < now
        {
            return Some(Broken {
                rule: "origin_errors",
                text: format!(
                    "{now} % of the answers are 5xx, and {before} % were with the version before"
                ),
            });
        }
        None
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
            budget.look(at(1), calls(1_019, 919), &rules()),
            None,
            "19 calls"
        );
        let broken = budget.look(at(2), calls(1_020, 920), &rules()).unwrap();
        assert_eq!(broken.rule, "failures");
        assert!(broken.text.contains("20 of 20"), "{}", broken.text);

        let mut budget = Budget::new(at(0), calls(0, 0), None);
        assert_eq!(
            budget.look(at(1), calls(100, 10), &rules()),
            None,
            "just 10 %"
        );
        assert!(budget.look(at(2), calls(100, 11), &rules()).is_some());
        // What came before is forgotten when it is older than the window.
        assert_eq!(budget.look(at(33), calls(200, 11), &rules()), None);
        assert_eq!(budget.look(at(64), calls(200, 11), &rules()), None);
    }

    #[test]
    fn a_mean_time_over_the_bound_is_told() {
        let mut budget = Budget::new(at(0), Counts::default(), None);
        let slow = |each: u64| Counts {
            time: Duration::from_millis(each * 40),
            ..calls(40, 0)
        };
        assert_eq!(budget.look(at(1), slow(5), &rules()), None);
        assert_eq!(budget.look(at(2), slow(6), &rules()).unwrap().rule, "cpu");
        let unbounded = Guard {
            cpu: None,
            ..rules()
        };
        assert_eq!(budget.look(at(3), slow(60), &unbounded), None);
    }

    #[test]
    fn hits_and_errors_are_compared_with_the_version_before() {
        let answers = |hits, errors| Counts {
            lookups: 100,
            hits,
            answers: 100,
            errors,
            ..Counts::default()
        };
        let mut before = Budget::new(at(0), Counts::default(), None);
        assert_eq!(before.look(at(1), answers(90, 0), &rules()), None);
        let later = |hits, errors| {
            let mut budget = Budget::new(at(2), Counts::default(), Some((&before, 20)));
            budget.look(at(3), answers(hits, errors), &rules())
        };
        assert_eq!(later(70, 10), None);
        assert_eq!(later(69, 0).unwrap().rule, "hit_ratio");
        assert_eq!(later(90, 11).unwrap().rule, "origin_errors");
        // Without a version before there is nothing to compare with.
        let mut first = Budget::new(at(0), Counts::default(), None);
        assert_eq!(first.look(at(1), answers(0, 100), &rules()), None);
    }
}
