//! Counters for what every request does. Each thread adds to numbers of its own, which no other
//! writes: a line of memory that all threads write to costs each of them more than all else that
//! counting takes, and the more threads there are. Whoever reads adds the numbers up.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use thread_local::ThreadLocal;

/// `N` counters that are added to together or in turn.
///
/// Without an addition they take two words; else half a KiB, two words for each thread, and `N` of
/// each thread that adds. So what is counted together is better one `Tally` than several.
pub struct Tally<const N: usize = 1>(OnceLock<Box<ThreadLocal<Box<Own<N>>>>>);

/// The numbers of one thread, on lines of memory of their own (128 bytes: some processors fetch, and
/// some have, lines that long).
#[repr(align(128))]
struct Own<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Own<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<const N: usize> fmt::Debug for Tally<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tally").field(&self.sums()).finish()
    }
}

impl Tally {
    /// Adds one.
    #[inline]
    pub fn one(&self) {
        self.add([(0, 1)]);
    }

    /// What was added.
    pub fn sum(&self) -> u64 {
        let [sum] = self.sums();
        sum
    }
}

impl<const N: usize> Tally<N> {
    /// Adds to these counters, each by its number. One that there is not is passed over; beyond
    /// `u64::MAX` a counter begins at 0 again. Not for destructors of thread-locals: by then the
    /// thread may have given its numbers back.
    #[inline]
    pub fn add<const M: usize>(&self, more: [(usize, u64); M]) {
        let own = self.0.get_or_init(Box::default).get_or_default();
        for (at, more) in more {
            if let Some(number) = own.0.get(at) {
                // This thread alone writes it, so nothing comes in between. A later thread that is
                // given the numbers of one that ended was told so by way of a lock.
                number.store(number.load(Relaxed).wrapping_add(more), Relaxed);
            }
        }
    }

    /// What was added to each, by threads that have ended too. What is added meanwhile may be in
    /// one of them and not yet in another.
    pub fn sums(&self) -> [u64; N] {
        let mut sums = [0_u64; N];
        for own in self.0.get().into_iter().flat_map(|all| all.iter()) {
            for (sum, number) in sums.iter_mut().zip(&own.0) {
                *sum = sum.wrapping_add(number.load(Relaxed));
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_add_adds_up_when_they_have_ended_too() {
        let tally = Tally::<3>::default();
        assert_eq!(tally.sums(), [0, 0, 0]);
        for round in 1..=3 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..1_000 {
                            tally.add([(0, 1), (2, 5)]);
                            tally.add([(3, 1)]);
                        }
                    });
                }
            });
            assert_eq!(tally.sums(), [round * 4_000, 0, round * 20_000]);
        }
    }

    #[test]
    fn a_sum_never_falls_while_others_add() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            let add = || (0..50_000).for_each(|_| tally.one());
            let adding = [scope.spawn(add), scope.spawn(add)];
            let mut before = 0;
            while !adding.iter().all(|thread| thread.is_finished()) {
                let now = tally.sum();
                assert!((before..=100_000).contains(&now), "{before}, then {now}");
                before = now;
            }
        });
        assert_eq!(tally.sum(), 100_000);
    }
}
