//! Marks: the sequences at which each counter was last raised, hard and soft apart.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use weir_semantics::Timestamp;

use super::Limits;
use super::name::{BUCKETS, Kinds, bucket};
use super::prefixes::Prefixes;
use super::selector::{Counter, PrefixName, Raise};
use super::subject::Subject;
use super::timeline::Timeline;

/// What is known of one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The sequence of its last hard purge; 0 for never.
    pub(super) hard: u64,
    /// The sequence of its last soft purge; 0 for never.
    pub(super) soft: u64,
    /// When that soft purge was taken.
    pub(super) soft_at: Timestamp,
}

impl Mark {
    pub(super) fn new(soft: bool, sequence: u64, at: Timestamp) -> Self {
        if soft {
            Self {
                hard: 0,
                soft: sequence,
                soft_at: at,
            }
        } else {
            Self {
                hard: sequence,
                ..Self::default()
            }
        }
    }

    pub(super) fn newest(&self) -> u64 {
        self.hard.max(self.soft)
    }

    /// Takes the newer of both, hard and soft apart.
    pub(super) fn raise(&mut self, other: Self) {
        self.hard = self.hard.max(other.hard);
        if other.soft > self.soft {
            self.soft = other.soft;
            self.soft_at = other.soft_at;
        }
    }
}

/// Counters are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        // The high bits chose the bucket and are alike in all of it; the map looks at
        // high and low ones.
        self.0 = hash.rotate_left(10);
    }
}

#[derive(Debug, Default)]
struct Bucket {
    marks: HashMap<u64, Mark, BuildHasherDefault<Identity>>,
    /// An object with a counter in this bucket and a position below this is dead:
    /// a mark up to here was forgotten.
    floor: u64,
}

/// The marks of one sequence. Bounded: what it forgets raises a floor instead.
#[derive(Debug)]
pub(super) struct Table {
    buckets: Box<[Bucket]>,
    prefixes: Prefixes,
    kinds: Kinds,
    /// The highest sequence in here: a later position is concerned by nothing.
    newest: u64,
    timeline: Timeline,
    limits: Limits,
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            prefixes: Prefixes::default(),
            kinds: Kinds::default(),
            newest: 0,
            timeline: Timeline::new(limits.longest_life),
            limits,
        }
    }

    pub(super) fn clear(&mut self) {
        if self.newest > 0 {
            *self = Self::new(self.limits);
        }
    }

    /// Raises one counter to `sequence`. `at` is when a soft purge ended lifetimes.
    pub(super) fn raise(&mut self, raise: &Raise, sequence: u64, at: Timestamp, now: Timestamp) {
        let mark = Mark::new(raise.soft, sequence, at);
        self.newest = self.newest.max(sequence);
        self.timeline.note(sequence, now);
        match &raise.counter {
            Counter::Named(name) => self.raise_named(name.hash, name.kinds, mark, now),
            Counter::Prefix(name) => self.raise_prefix(name, mark, now),
        }
    }

    fn raise_prefix(&mut self, name: &PrefixName, mark: Mark, now: Timestamp) {
        self.prefixes.raise(name, mark);
        while self.prefixes.len() > self.limits.prefixes {
            let Some(gone) = self.prefixes.collapse_oldest() else {
                break;
            };
            self.raise_named(gone.fallback.hash, gone.fallback.kinds, gone.mark, now);
        }
    }

    fn raise_named(&mut self, hash: u64, kinds: Kinds, mark: Mark, now: Timestamp) {
        self.kinds.add(kinds);
        let cap = (self.limits.counters / BUCKETS).max(1);
        let bucket = &mut self.buckets[bucket(hash)];
        if let Some(known) = bucket.marks.get_mut(&hash) {
            known.raise(mark);
            return;
        }
        if bucket.marks.len() >= cap {
            let horizon = self.timeline.horizon(now);
            bucket.marks.retain(|_, mark| mark.newest() > horizon);
        }
        if bucket.marks.len() >= cap {
            let oldest = bucket.marks.iter().min_by_key(|(_, mark)| mark.newest());
            if let Some((hash, mark)) = oldest.map(|(hash, mark)| (*hash, *mark)) {
                bucket.marks.remove(&hash);
                bucket.floor = bucket.floor.max(mark.newest());
            }
        }
        bucket.marks.insert(hash, mark);
    }

    /// The counter with this hash as it was written down.
    pub(super) fn restore(&mut self, hash: u64, mark: Mark, now: Timestamp) {
        self.newest = self.newest.max(mark.newest());
        self.raise_named(hash, Kinds::default(), mark, now);
    }

    /// The prefix as it was written down.
    pub(super) fn restore_prefix(&mut self, name: &PrefixName, mark: Mark, now: Timestamp) {
        self.newest = self.newest.max(mark.newest());
        self.raise_prefix(name, mark, now);
    }

    /// All has been restored: what was of these kinds, and was there by now.
    pub(super) fn restored(&mut self, kinds: Kinds, now: Timestamp) {
        self.kinds = kinds;
        if self.newest > 0 {
            self.timeline.note(self.newest, now);
        }
    }

    pub(super) fn kinds(&self) -> Kinds {
        self.kinds
    }

    pub(super) fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    /// Visits every counter that is found by its hash.
    pub(super) fn each_mark(&self, mut visit: impl FnMut(u64, Mark)) {
        for bucket in &self.buckets {
            for (hash, mark) in &bucket.marks {
                visit(*hash, *mark);
            }
        }
    }

    /// The floor of each bucket.
    pub(super) fn floors(&self) -> impl Iterator<Item = (usize, u64)> {
        self.buckets.iter().map(|bucket| bucket.floor).enumerate()
    }

    /// Raises the floor of one bucket: someone else forgot a mark of it.
    pub(super) fn raise_floor(&mut self, bucket: usize, floor: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.floor = bucket.floor.max(floor);
            self.newest = self.newest.max(floor);
            // What the forgotten mark was of is not known.
            self.kinds = Kinds::ALL;
        }
    }

    /// Visits every mark of `subject` that is newer than `position`.
    pub(super) fn newer(&self, subject: &Subject<'_>, position: u64, mut visit: impl FnMut(Mark)) {
        if position >= self.newest {
            return;
        }
        let mut pass = |mark: Mark| {
            if mark.newest() > position {
                visit(mark);
            }
        };
        subject.each_hash(self.kinds, |hash| {
            let bucket = &self.buckets[bucket(hash)];
            if let Some(mark) = bucket.marks.get(&hash) {
                pass(*mark);
            }
            if bucket.floor > position {
                pass(Mark {
                    hard: bucket.floor,
                    ..Mark::default()
                });
            }
        });
        self.prefixes_of(subject, |mark| pass(*mark));
    }

    /// Visits the mark of every prefix that `subject` begins with.
    pub(super) fn prefixes_of(&self, subject: &Subject<'_>, mut visit: impl FnMut(&Mark)) {
        if !self.prefixes.is_empty() {
            for scope in subject.scopes() {
                self.prefixes.visit(scope, subject.name, &mut visit);
            }
        }
    }

    /// The mark of one counter, and the floor of its bucket.
    pub(super) fn named(&self, hash: u64) -> (Mark, u64) {
        let bucket = &self.buckets[bucket(hash)];
        let mark = bucket.marks.get(&hash).copied();
        (mark.unwrap_or_default(), bucket.floor)
    }

    /// The highest sequence to which one of these counters was raised so far.
    pub(super) fn highest(&self, raises: &[Raise]) -> u64 {
        let of = |raise: &Raise| match &raise.counter {
            Counter::Named(name) => {
                let bucket = &self.buckets[bucket(name.hash)];
                let mark = bucket.marks.get(&name.hash).map_or(0, Mark::newest);
                mark.max(bucket.floor)
            }
            Counter::Prefix(name) => self.prefixes.get(name).map_or(0, |mark| mark.newest()),
        };
        raises.iter().map(of).max().unwrap_or(0)
    }

    /// How many counters and prefixes it holds.
    pub(super) fn len(&self) -> usize {
        self.prefixes.len()
            + self
                .buckets
                .iter()
                .map(|bucket| bucket.marks.len())
                .sum::<usize>()
    }
}
