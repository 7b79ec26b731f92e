//! Which calls of a policy in quarantine are made.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

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
}

impl Admission {
    /// All of them.
    pub(crate) fn all() -> Self {
        Self {
            percent: AtomicU8::new(100),
            responses_failed: AtomicU32::new(0),
        }
    }

    pub(crate) fn set(&self, percent: u8) {
        self.percent.store(percent.min(100), Relaxed);
    }

    pub(crate) fn percent(&self) -> u8 {
        self.percent.load(Relaxed)
    }

    /// Is this call of `on-request` made?
    pub(crate) fn of_request(&self) -> bool {
        let percent = self.percent();
        percent >= 100 || fastrand::u8(..100) < percent
    }

    /// Is this call of `on-response` made?
    pub(crate) fn of_response(&self) -> bool {
        self.responses_failed.load(Relaxed) < IN_A_ROW || self.of_request()
    }

    /// A call of `on-response` has ended.
    pub(crate) fn responded(&self, well: bool) {
        match well {
            // A plain load first: there is seldom anything to do.
            true if self.responses_failed.load(Relaxed) == 0 => {}
            true => self.responses_failed.store(0, Relaxed),
            // It would take years to overflow, and then it is called three times more.
            false => {
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

    #[test]
    fn a_hook_that_does_well_is_called_though_the_other_one_is_not() {
        let admission = Admission::all();
        (0..10).for_each(|_| admission.responded(false));
        assert_eq!(made(|| admission.of_request()), 1_000);
        assert_eq!(made(|| admission.of_response()), 1_000, "in force");
        admission.responded(true);
        admission.set(0);
        assert_eq!(made(|| admission.of_request()), 0);
        (1..IN_A_ROW).for_each(|_| admission.responded(false));
        assert_eq!(made(|| admission.of_response()), 1_000);
        admission.responded(false);
        assert_eq!(made(|| admission.of_response()), 0);
    }

    #[test]
    fn one_that_failed_is_tried_now_and_again_and_called_once_it_does_well() {
        let admission = Admission::all();
        (0..IN_A_ROW).for_each(|_| admission.responded(false));
        admission.set(10);
        let tried = made(|| admission.of_response());
        assert!((20..300).contains(&tried), "{tried} of 1,000");
        admission.responded(true);
        assert_eq!(made(|| admission.of_response()), 1_000);
    }
}
