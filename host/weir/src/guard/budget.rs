//! Whether a version keeps within the bounds that the operator set, as far as can be told
//! from its counters. Pure: times and counts are handed in.

use std::collections::VecDeque;
use std::time::Duration;

use super::LOOK;
use crate::config::Guard;

/// Counters of one version, and of what it decided on, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Calls of its hooks, and decisions that were remembered.
    pub(super) asked: u64,
    /// Calls of its hooks alone; making an instance is none.
    pub(super) calls: u64,
    /// What they took.
    pub(super) time: Duration,
    /// Calls that failed.
    pub(super) failed: u64,
    /// Calls of `on-request`.
    pub(super) decisions: u64,
    /// What they took.
    pub(super) deciding: Duration,
    /// Those that failed.
    pub(super) undecided: u64,
    /// Requests that were not decided, in quarantine.
    pub(super) spared: u64,
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
            time: self.time.saturating_sub(earlier.time),
            failed: self.failed.saturating_sub(earlier.failed),
            decisions: self.decisions.saturating_sub(earlier.decisions),
            deciding: self.deciding.saturating_sub(earlier.deciding),
            undecided: self.undecided.saturating_sub(earlier.undecided),
            spared: self.spared.saturating_sub(earlier.spared),
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

/// How many calls are enough to judge failures by. Where nothing went well a few say as much as
/// more of them would, and each may cost the node as much as a hundred hits.
fn least(seen: &Counts, rules: &Guard) -> u64 {
    match seen.failed >= seen.asked {
        true => rules.min_calls.div_ceil(4),
        false => rules.min_calls,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ratios {
    hits: Option<u64>,
    errors: Option<u64>,
}

/// Follows one version.
#[derive(Debug)]
pub(super) struct Budget {
    began: Duration,
    /// The percentage of the calls of `on-request` that are made.
    admitted: u8,
    /// When it began, and then once for each look within the window, of those in quick succession
    /// for the last. Of a version that is tried again just the first and the last: few calls are
    /// made, so all of them are judged.
    samples: VecDeque<(Duration, Counts)>,
    /// Those of the version before, from its last window.
    before: Option<Ratios>,
}

impl Budget {
    /// Begins to follow a version, `now` since any fixed moment. `before` is what the version
    /// did in whose place it came.
    pub(super) fn new(now: Duration, counts: Counts, before: Option<Ratios>) -> Self {
        Self {
            began: now,
            admitted: 100,
            samples: VecDeque::from([(now, counts)]),
            before,
        }
    }

    /// What the version before did.
    pub(super) fn before(&self) -> Option<Ratios> {
        self.before
    }

    /// As one of which so many percent of the calls of `on-request` are made.
    pub(super) fn admitting(self, admitted: u8) -> Self {
        Self { admitted, ..self }
    }

    fn is_tried_again(&self) -> bool {
        (1..100).contains(&self.admitted)
    }

    /// Has one that is tried again been asked often enough to be judged? If requests were not
    /// decided, what is remembered says nothing of those, nor do calls of `on-response`; unless
    /// they are so few that it would keep the bound if it failed on all of them.
    pub(super) fn is_tested(&self, rules: &Guard) -> bool {
        let (seen, least) = (self.seen(), rules.min_calls);
        let all = seen.asked.saturating_add(seen.spared);
        let few = seen.spared.saturating_mul(100) <= rules.failures.saturating_mul(all);
        // What they take is known of calls alone.
        let timed = rules.cpu.is_none() || seen.calls >= least;
        seen.decisions >= least || (few && timed && seen.asked >= least)
    }

    /// A sum of which so much belongs to calls of `on-request`, as if all of these had been made,
    /// a hundredfold.
    fn whole(&self, sum: u64, of_requests: u64) -> u64 {
        let others = sum.saturating_sub(of_requests);
        let others = others.saturating_mul(u64::from(self.admitted));
        others.saturating_add(of_requests.saturating_mul(100))
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
        if self.is_tried_again() {
            self.samples.truncate(1);
        }
        // Looks that failures bring about may come in quick succession.
        let before = self.samples.len().checked_sub(2).filter(|at| *at > 0);
        let before = before.and_then(|at| self.samples.get(at));
        if let (Some((before, _)), Some((last, _))) = (before, self.samples.back())
            && last.saturating_sub(*before) < LOOK / 2
        {
            self.samples.pop_back();
        }
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
        let least = rules.min_calls;
        let within = match self.is_tried_again() {
            true => "since it is called again".to_owned(),
            false => format!("within {}", humantime::format_duration(rules.window)),
        };
        if let Some(broken) = self.failures(&seen, rules, &within) {
            return Some(broken);
        }
        if let Some(most) = rules.cpu
            && seen.calls >= least
            && let Some(mean) = self.mean_time(&seen)
            && mean > most
        {
            return Some(Broken {
                rule: "cpu",
                text: format!("a call took {mean:?} on average {within}, more than {most:?}"),
            });
        }
        if self.is_tried_again() {
            // What comes of it is decided for the most part by others.
            return None;
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
                text: format!("the hit ratio is {now} % {within}, and {before} % with {whose}"),
            });
        }
        if let (Some(points), Some(now)) = (rules.origin_errors, seen.error_ratio(least))
            && let Some(before) = other.errors
            && before.saturating_add(points) < now
        {
            return Some(Broken {
                rule: "origin_errors",
                text: format!(
                    "{now} % of the answers {within} are 5xx, and {before} % with {whose}"
                ),
            });
        }
        None
    }

    /// Did too many calls fail? One that is tried again would do so many more of them, and is
    /// judged as if it had.
    fn failures(&self, seen: &Counts, rules: &Guard, within: &str) -> Option<Broken> {
        let most = rules.failures;
        let is_over = |failed: u64, asked: u64| {
            asked > 0 && failed.saturating_mul(100) > most.saturating_mul(asked)
        };
        let (failed, text) = match self.is_tried_again() {
            true => {
                let failed = self.whole(seen.failed, seen.undecided);
                let is_over = is_over(failed, self.whole(seen.asked, seen.decisions));
                // Failures of the other hooks need not wait for enough of `on-request`.
                let others = seen.failed.saturating_sub(seen.undecided);
                let is_enough = self.is_tested(rules)
                    || others >= rules.min_calls
                    || (seen.failed >= seen.asked && seen.asked >= least(seen, rules));
                let (count, calls) = (seen.failed, seen.calls);
                (
                    is_over && is_enough,
                    format!("{count} failures in {calls} calls {within}"),
                )
            }
            false => {
                let (count, asked) = (seen.failed, seen.asked);
                let share = percent(count, asked, least(seen, rules));
                (
                    share.is_some() && is_over(count, asked),
                    format!(
                        "{count} of {asked} decisions and calls failed {within} ({} %)",
                        share.unwrap_or_default()
                    ),
                )
            }
        };
        failed.then(|| Broken {
            rule: "failures",
            text: format!("{text}, more than {most} %"),
        })
    }

    fn mean_time(&self, seen: &Counts) -> Option<Duration> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let time = self.whole(nanoseconds(seen.time), nanoseconds(seen.deciding));
        let calls = self.whole(seen.calls, seen.decisions);
        time.checked_div(calls).map(Duration::from_nanos)
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
            budget.look(at(1), calls(1_019, 918), &rules(), None),
            None,
            "19 calls"
        );
        let broken = budget
            .look(at(2), calls(1_020, 919), &rules(), None)
            .unwrap();
        assert_eq!(broken.rule, "failures");
        assert!(broken.text.contains("19 of 20"), "{}", broken.text);

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
    fn where_nothing_goes_well_a_quarter_of_the_calls_is_enough() {
        let look = |asked, failed, rules: Guard| {
            let mut budget = Budget::new(at(0), Counts::default(), None);
            budget.look(at(1), calls(asked, failed), &rules, None)
        };
        assert_eq!(look(4, 4, rules()), None);
        assert!(look(5, 5, rules()).unwrap().text.contains("5 of 5"));
        assert_eq!(look(6, 5, rules()), None, "one went well");
        let never = Guard {
            failures: 100,
            ..rules()
        };
        assert_eq!(look(1_000, 1_000, never), None);
    }

    #[test]
    fn looks_in_quick_succession_are_one_and_lose_nothing() {
        let rules = rules();
        let mut budget = Budget::new(at(0), Counts::default(), None);
        let looks = u64::try_from(rules.window.as_millis()).unwrap();
        for look in 1..=looks {
            let now = Duration::from_millis(look);
            assert_eq!(budget.look(now, calls(look, 0), &rules, None), None);
            assert_eq!(budget.seen().asked, look);
        }
        let most = 2 * rules.window.as_millis() / LOOK.as_millis() + 3;
        assert!(
            budget.samples.len() as u128 <= most,
            "{}",
            budget.samples.len()
        );
    }

    /// What one that is tried again was asked: `decisions` of which so many failed, remembered
    /// ones, and calls of `on-response` of which so many failed.
    fn tried(
        (decisions, undecided): (u64, u64),
        recalled: u64,
        (responses, failed): (u64, u64),
    ) -> Counts {
        Counts {
            asked: decisions + recalled + responses,
            calls: decisions + responses,
            failed: undecided + failed,
            decisions,
            undecided,
            spared: decisions * 9,
            ..Counts::default()
        }
    }

    #[test]
    fn one_that_is_tried_again_is_judged_by_its_calls_and_not_by_what_is_remembered() {
        let look_by = |rules: Guard, counts: Counts| {
            let mut budget = Budget::new(at(0), Counts::default(), None).admitting(10);
            // Long after the window: few calls are made.
            budget.look(at(1), Counts::default(), &rules, None);
            let broken = budget.look(at(500), counts, &rules, None);
            (broken.is_some(), budget.is_tested(&rules))
        };
        let look = |counts| look_by(rules(), counts);
        let nothing = (0, 0);
        assert_eq!(look(tried((19, 18), 0, nothing)), (false, false));
        // Where all of them fail a few are enough.
        assert_eq!(look(tried((4, 4), 0, nothing)), (false, false));
        assert_eq!(look(tried((5, 5), 0, nothing)), (true, false));
        // As if all calls were made: 60 of 200 failed, and all the others were remembered.
        assert_eq!(look(tried((20, 6), 0, nothing)), (true, true));
        assert_eq!(look(tried((20, 6), 399, nothing)), (true, true));
        assert_eq!(look(tried((20, 6), 400, nothing)), (false, true));
        // What responses say is nothing that requests could wait for.
        assert_eq!(look(tried((5, 5), 0, (100, 0))), (false, false));
        assert_eq!(look(tried((20, 20), 0, (1_000, 0))), (true, true));
        assert_eq!(look(tried((3, 0), 0, (40, 19))), (false, false));
        assert_eq!(look(tried((3, 0), 0, (40, 20))), (true, false));
        // Where so few wait that it would keep the bound with all of them, all else is enough.
        let waiting = |spared| Counts {
            spared,
            ..tried(nothing, 90, nothing)
        };
        assert_eq!(
            look(waiting(10)),
            (false, false),
            "no time of a call is known"
        );
        let untimed = |counts| {
            look_by(
                Guard {
                    cpu: None,
                    ..rules()
                },
                counts,
            )
        };
        assert_eq!(untimed(waiting(10)), (false, true));
        assert_eq!(untimed(waiting(11)), (false, false));
        assert_eq!(untimed(tried(nothing, 19, nothing)), (false, false));
    }

    #[test]
    fn the_mean_time_of_one_that_is_tried_again_is_that_of_all_calls() {
        let look = |each: u64| {
            let mut budget = Budget::new(at(0), Counts::default(), None).admitting(10);
            let deciding = Duration::from_millis(20 * each);
            let counts = Counts {
                deciding,
                time: deciding + Duration::from_millis(100),
                ..tried((20, 0), 0, (100, 0))
            };
            budget.look(at(1), counts, &rules(), None)
        };
        // As if 200 calls took so long, beside 100 of 1 ms.
        assert_eq!(look(7), None);
        assert_eq!(look(8).unwrap().rule, "cpu");
    }

    #[test]
    fn what_came_of_one_that_is_tried_again_says_nothing() {
        let mut before = Budget::new(at(0), Counts::default(), None);
        before.look(at(1), answers(90, 0), &rules(), None);
        let mut budget =
            Budget::new(at(2), Counts::default(), Some(before.ratios(20))).admitting(10);
        assert_eq!(budget.look(at(40), answers(0, 100), &rules(), None), None);
        let later = twice(answers(0, 100));
        assert_eq!(budget.look(at(80), later, &rules(), None), None);
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
            let mut budget = Budget::new(at(2), Counts::default(), Some(before.ratios(20)));
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
        let mut budget = Budget::new(at(2), Counts::default(), Some(before.ratios(20)));
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
