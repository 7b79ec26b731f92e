//! Which calls of a policy in quarantine are made.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::error::CallErrorKind;

/// So many calls of `on-response` in a row fail before it counts as what fails: a policy may be
/// in quarantine for its `on-request` alone, and what is still decided (remembered, or tried
/// again) is stored as it says.
const IN_A_ROW: u32 = 3;

/// The percentage of the calls that are made.
#[derive(Debug)]
pub(crate) struct Admission {
    percent: AtomicU8,
    /// Calls of `on-response` that failed since the last one that did not.
    responses_failed: AtomicU32,
    /// Requests that nothing was known of and that were not decided.
    spared: AtomicU64,
}

impl Admission {
    /// All of them.
    pub(crate) fn all() -> Self {
        Self {
            percent: AtomicU8::new(100),
            responses_failed: AtomicU32::new(0),
            spared: AtomicU64::new(0),
        }
    }

    pub(crate) fn set(&self, percent: u8) {
        self.percent.store(percent.min(100), Relaxed);
    }

    pub(crate) fn percent(&self) -> u8 {
        self.percent.load(Relaxed)
    }

    /// A request was not decided.
    pub(crate) fn spare(&self) {
        self.spared.fetch_add(1, Relaxed);
    }

    pub(crate) fn spared(&self) -> u64 {
        self.spared.load(Relaxed)
    }

    /// Is this call of `on-request` made?
    pub(crate) fn of_request(&self) -> bool {
        let percent = self.percent();
        percent >= 100 || fastrand::u8(..100) < percent
    }

    /// Is this call of `on-response` made? Each is while the policy is tried again: were only some
    /// made, what fails would be too small a part of what the policy is asked to be seen.
    pub(crate) fn of_response(&self) -> bool {
        !self.responses_fail() || self.percent() > 0
    }

    /// Is `on-response` what fails?
    pub(crate) fn responses_fail(&self) -> bool {
        self.responses_failed.load(Relaxed) >= IN_A_ROW
    }

    /// A call of `on-response` has ended, well or not.
    pub(crate) fn responded(&self, failed: Option<CallErrorKind>) {
        match failed {
            // A plain load first: there is seldom anything to do.
            None if self.responses_failed.load(Relaxed) == 0 => {}
            None => self.responses_failed.store(0, Relaxed),
            // Calls of another hook may have all the instances; or it was not made.
            Some(CallErrorKind::Busy | CallErrorKind::Quarantined) => {}
            // It would take years to overflow, and then it is called three times more.
            Some(_) => {
                self.responses_failed.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(call: impl Fn() -> bool) -> usize {
        (0..1_000).filter(|_| call()).count()
    }

    const TRAPPED: Option<CallErrorKind> = Some(CallErrorKind::Trap);

    #[test]
    fn a_hook_that_does_well_is_called_though_the_other_one_is_not() {
        let admission = Admission::all();
        (0..10).for_each(|_| admission.responded(TRAPPED));
        assert_eq!(made(|| admission.of_request()), 1_000);
        assert_eq!(made(|| admission.of_response()), 1_000, "in force");
        admission.responded(None);
        admission.set(0);
        assert_eq!(made(|| admission.of_request()), 0);
        (1..IN_A_ROW).for_each(|_| admission.responded(TRAPPED));
        for says_nothing in [CallErrorKind::Busy, CallErrorKind::Quarantined] {
            (0..10).for_each(|_| admission.responded(Some(says_nothing)));
        }
        assert_eq!(made(|| admission.of_response()), 1_000);
        admission.responded(TRAPPED);
        assert_eq!(made(|| admission.of_response()), 0);
        admission.responded(Some(CallErrorKind::Busy));
        assert_eq!(made(|| admission.of_response()), 0, "it says nothing");
    }

    #[test]
    fn one_that_failed_is_called_each_time_while_the_policy_is_tried_again() {
        let admission = Admission::all();
        (0..IN_A_ROW).for_each(|_| admission.responded(TRAPPED));
        admission.set(10);
        let tried = made(|| admission.of_request());
        assert!((20..300).contains(&tried), "{tried} of 1,000");
        assert_eq!(made(|| admission.of_response()), 1_000);
        admission.set(0);
        assert_eq!(made(|| admission.of_response()), 0);
    }
}
