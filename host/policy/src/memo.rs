//! Remembered decisions: a tree of what a policy reads, in the order it reads it.
//!
//! A call that touched no capability is a function of its reads. The tree has a node for
//! each read ("which input is asked next"), an edge for each answer, and the decision as a
//! leaf. A request walks it natively; what it does not know yet runs the policy, which
//! adds a leaf. Inputs that a key only *names* are not read, and add no branch.
//!
//! Hidden state in a guest would make this wrong, so a leaf serves only after two
//! instances agreed on it, a sample of what is remembered is run again, and the first
//! call that departs from the tree switches the memo off for good.
//!
//! A full tree gives up what nobody asked for of late, once in a while and all at once. So
//! whoever sends requests at random, however many, drives out nothing that is in use.

mod tree;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use parking_lot::Mutex;
use weir_tally::Tally;

use self::tree::{Leaf, Size, Tree};
use crate::decision::Decision;
use crate::reads::{ReadInput, Reads};
use crate::request::RequestHead;

/// One in so many remembered decisions is asked again.
const SAMPLE: u32 = 256;
/// But no more of them than take this share of a core.
const SAMPLE_SHARE: u32 = 1_000;
/// And at least so much later than the one before: each has the guests' clock started.
const SAMPLE_PAUSE: Duration = Duration::from_millis(100);
/// The longest time for which a sample that does not end keeps others from being taken.
const SAMPLE_PATIENCE: Duration = Duration::from_secs(1);
/// The least time between two sweeps: what is asked for that often stays.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// So many trees are at hand on each thread.
const AT_HAND: usize = 8;

/// A tree, and where to look whether it is still the one in force.
type Known = Cache<Arc<ArcSwap<Tree>>, Arc<Tree>>;

thread_local! {
    /// The trees that were asked last: to look whether one is in force takes no atomic write, as
    /// to hold it against its end does.
    static TREES: [Cell<Option<Known>>; AT_HAND] = const { [const { Cell::new(None) }; AT_HAND] };
}

/// What the memo knows about a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Recall {
    /// The decision, which two instances agreed on.
    Known(Decision),
    /// Ask the policy, if possible on another instance than this one.
    Ask {
        /// The instance that gave the only opinion so far; 0 for none.
        but_not: u64,
    },
}

/// What a call that was made told the memo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lesson {
    /// Nothing to change.
    Known,
    /// A leaf or its agreement is missing.
    New,
    /// The call cannot be a function of its reads.
    Departed,
}

static NEXT_PLACE: AtomicUsize = AtomicUsize::new(0);

/// The remembered decisions of one policy version.
#[derive(Debug)]
pub(crate) struct Memo {
    tree: Arc<ArcSwap<Tree>>,
    /// Its place among the trees at hand. Others may have it too.
    place: usize,
    writer: Mutex<Writer>,
    off: AtomicBool,
    recalled: Tally,
    began: Instant,
    /// Nanoseconds after `began` before which no sample is taken.
    sample_after: AtomicU64,
}

/// Held by the one who adds.
#[derive(Debug)]
struct Writer {
    size: Size,
    swept: Instant,
}

impl Default for Memo {
    fn default() -> Self {
        let began = Instant::now();
        Self {
            tree: Arc::default(),
            place: NEXT_PLACE.fetch_add(1, Ordering::Relaxed) % AT_HAND,
            writer: Mutex::new(Writer {
                size: Size::default(),
                swept: began,
            }),
            off: AtomicBool::new(false),
            recalled: Tally::default(),
            began,
            sample_after: AtomicU64::new(0),
        }
    }
}

impl Memo {
    /// What `seen` makes of the remembered decision for a request, but for a sample that is to be
    /// asked again.
    #[inline]
    pub(crate) fn serve<R>(
        &self,
        head: &RequestHead,
        seen: impl FnOnce(&Decision) -> R,
    ) -> Option<R> {
        self.find(head, |leaf| {
            let leaf = leaf.filter(|leaf| leaf.agreed())?;
            if fastrand::u32(..SAMPLE) == 0 && self.may_sample(Instant::now()) {
                return None;
            }
            self.recalled.one();
            Some(seen(&leaf.decision))
        })
    }

    /// What is remembered for a request.
    pub(crate) fn recall(&self, head: &RequestHead) -> Recall {
        self.find(head, |leaf| match leaf {
            None => Recall::Ask { but_not: 0 },
            Some(leaf) if !leaf.agreed() => Recall::Ask { but_not: leaf.by },
            Some(leaf) => Recall::Known(leaf.decision.clone()),
        })
    }

    #[inline]
    fn find<R>(&self, head: &RequestHead, seen: impl FnOnce(Option<&Leaf>) -> R) -> R {
        if self.is_off() {
            return seen(None);
        }
        TREES.with(|trees| {
            let place = &trees[self.place % AT_HAND];
            // Taken out, so that what `seen` does may ask too.
            let known = place.take();
            let known = known.filter(|known| std::ptr::eq(known.arc_swap(), &raw const *self.tree));
            let mut known = known.unwrap_or_else(|| Cache::new(Arc::clone(&self.tree)));
            let leaf = known.load().find(head, |_| ());
            leaf.filter(|leaf| leaf.agreed())
                .inspect(|leaf| leaf.touch());
            let made = seen(leaf);
            place.set(Some(known));
            made
        })
    }

    /// What the remembered decision for a request rests on, in the order it was read.
    /// Nothing where none is remembered.
    pub(crate) fn inputs(&self, head: &RequestHead) -> Vec<ReadInput> {
        let mut inputs = Vec::new();
        let tree = self.tree.load();
        match tree.find(head, |input| inputs.push(input.clone())) {
            Some(_) => inputs,
            None => Vec::new(),
        }
    }

    /// Remembers nothing from now on: the policy depends on more than it reads.
    pub(crate) fn turn_off(&self) {
        let mut writer = self.writer.lock();
        self.off.store(true, Ordering::Release);
        self.tree.store(Default::default());
        writer.size = Size::default();
    }

    /// Learns from a call that was made. Answers whether the memo was switched off by it.
    pub(crate) fn learn(&self, reads: &Reads, decision: &Decision, by: u64) -> bool {
        if self.is_off() {
            return false;
        }
        match self.tree.load().compare(reads, decision, by) {
            Lesson::Known => false,
            Lesson::New => {
                self.add(reads, decision, by, Instant::now());
                false
            }
            Lesson::Departed => {
                self.turn_off();
                true
            }
        }
    }

    /// Adds what is new. Another call may have added it meanwhile, or have filled the tree, or
    /// have switched the memo off: then nothing happens.
    fn add(&self, reads: &Reads, decision: &Decision, by: u64, now: Instant) {
        let mut writer = self.writer.lock();
        let tree = self.tree.load();
        let new = || !self.is_off() && tree.compare(reads, decision, by) == Lesson::New;
        if !new() || tree.add(&mut writer.size, reads, decision, by) {
            return;
        }
        if now.saturating_duration_since(writer.swept) < SWEEP_EVERY {
            return;
        }
        let (swept, mut size) = tree.swept();
        swept.add(&mut size, reads, decision, by);
        *writer = Writer { size, swept: now };
        self.tree.store(swept.into());
    }

    /// Whether another sample may be taken now. The one who is told so takes it.
    fn may_sample(&self, now: Instant) -> bool {
        let now = self.nanoseconds(now);
        let after = self.sample_after.load(Ordering::Relaxed);
        let until = now.saturating_add(nanoseconds(SAMPLE_PATIENCE));
        now >= after
            && self
                .sample_after
                .compare_exchange(after, until, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// A sample took so long: the next one waits until it is worth that.
    pub(crate) fn sampled(&self, now: Instant, took: Duration) {
        let pause = nanoseconds(took.saturating_mul(SAMPLE_SHARE).max(SAMPLE_PAUSE));
        let after = self.nanoseconds(now).saturating_add(pause);
        self.sample_after.store(after, Ordering::Relaxed);
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.began))
    }

    /// Whether the policy was found to depend on more than what it reads.
    pub(crate) fn is_off(&self) -> bool {
        self.off.load(Ordering::Acquire)
    }

    /// Decisions that were given without a call.
    pub(crate) fn recalled(&self) -> u64 {
        self.recalled.sum()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
