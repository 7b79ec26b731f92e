//! A Redis: what `purge.lua` and `sync.lua` do, and objects. A copy of it is a replica as
//! of that moment, or a snapshot on disk.
//!
//! `tests/scripts.rs` compares it with the scripts on a real server.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_semantics::Timestamp;
use weir_store::Object;
use weir_store::log::{Entry, EntryMark, Purge, Seen, Sequenced, Snapshot, Standing, Target};

/// What in the scripts is broken on purpose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Broken {
    /// A lost tail begins no new epoch.
    pub lost_tail: bool,
    /// Nor does a Redis that goes back to an old epoch.
    pub old_epoch: bool,
    /// Forgotten counters leave no floor.
    pub floors: bool,
    /// Entries do not name the one before.
    pub chain: bool,
    /// A prefix is taken for a tag.
    pub prefix_is_tag: bool,
    /// A hard purge is taken for a soft one.
    pub soft: bool,
}

/// Bounds, as the nodes send them with each purge.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Counters.
    pub counters: usize,
    /// Prefixes.
    pub prefixes: usize,
    /// Entries of the stream.
    pub stream: usize,
    /// Counters of a page.
    pub page: usize,
    /// The longest life of an object, in milliseconds.
    pub life: u64,
}

/// A sorted set: members with scores, the lowest first, equal ones in the order of names.
#[derive(Clone, Debug, Default)]
struct Scores(Vec<(u64, String)>);

impl Scores {
    fn get(&self, member: &str) -> Option<u64> {
        self.0.iter().find(|(_, it)| it == member).map(|it| it.0)
    }

    fn add(&mut self, score: u64, member: &str) {
        self.0.retain(|(_, it)| it != member);
        let pair = (score, member.to_owned());
        let at = self.0.partition_point(|it| *it < pair);
        self.0.insert(at, pair);
    }

    fn pop_over(&mut self, cap: usize) -> Vec<(u64, String)> {
        let over = self.0.len().saturating_sub(cap);
        self.0.drain(..over).collect()
    }

    fn after(&self, since: u64) -> impl Iterator<Item = &(u64, String)> {
        self.0.iter().filter(move |(score, _)| *score > since)
    }
}

/// What an epoch ends with.
pub const CHANCES: u64 = 1_000_000;

/// One Redis server.
#[derive(Clone, Debug)]
pub struct Server {
    epoch: Option<u64>,
    sequence: u64,
    last: Option<EntryMark>,
    counters: Scores,
    prefixes: Scores,
    soft_at: BTreeMap<String, u64>,
    floors: BTreeMap<usize, u64>,
    /// Time and sequence.
    points: Vec<(u64, u64)>,
    stream: Vec<Arc<Entry>>,
    done: BTreeMap<String, Sequenced>,
    /// The entries of all purges that it took, those included that a flush removed.
    taken: Vec<u64>,
    objects: BTreeMap<usize, Arc<Object>>,
    next_entry: u64,
    caps: Caps,
    broken: Broken,
}

impl Server {
    /// An empty one.
    pub fn new(caps: Caps, broken: Broken) -> Self {
        Self {
            epoch: None,
            sequence: 0,
            last: None,
            counters: Scores::default(),
            prefixes: Scores::default(),
            soft_at: BTreeMap::new(),
            floors: BTreeMap::new(),
            points: Vec::new(),
            stream: Vec::new(),
            done: BTreeMap::new(),
            taken: Vec::new(),
            objects: BTreeMap::new(),
            next_entry: 1,
            caps,
            broken,
        }
    }

    fn clear(&mut self) {
        self.counters = Scores::default();
        self.prefixes = Scores::default();
        self.soft_at.clear();
        self.floors.clear();
        self.points.clear();
    }

    /// `FLUSHALL`. Ids of entries go on, as time does.
    pub fn flush(&mut self) {
        *self = Self {
            next_entry: self.next_entry,
            taken: std::mem::take(&mut self.taken),
            ..Self::new(self.caps, self.broken)
        };
    }

    /// It takes over from one whose clock was here.
    pub fn succeed(&mut self, former: &Self) {
        self.next_entry = self.next_entry.max(former.next_entry);
    }

    /// `purge.lua`. Says also whether the purge was new to it.
    pub fn purge(
        &mut self,
        purge: &Purge,
        now: Timestamp,
        (chance, nonce): (u64, u64),
    ) -> (Sequenced, bool) {
        if let Some(done) = self.done.get(&purge.id)
            && Some(done.epoch) == self.epoch
        {
            return (done.clone(), false);
        }
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => {
                self.clear();
                self.sequence = 0;
                self.last = None;
                let epoch = now.as_millis() * CHANCES + chance;
                self.epoch = Some(epoch);
                epoch
            }
        };
        self.sequence += 1;
        let sequence = self.sequence;
        let previous = self.last.as_ref().map_or(0, |last| last.nonce);
        let purge = self.misread(purge);
        let members = purge.members();
        let mut earlier = 0;
        for member in &members {
            let set = self.set(member);
            let other = |letter: &str| set.get(&format!("{letter}{}", &member[1..])).unwrap_or(0);
            let floor = self.floors.get(&bucket(member)).copied().unwrap_or(0);
            earlier = earlier.max(other("h")).max(other("s")).max(floor);
        }
        for member in &members {
            self.set_mut(member).add(sequence, member);
            if member.starts_with('s') {
                self.soft_at.insert(member.clone(), purge.at);
            }
        }
        self.forget(sequence, now.as_millis());
        let mark = EntryMark {
            id: format!("{}-0", self.next_entry),
            nonce,
        };
        self.append(Entry {
            epoch,
            sequence,
            mark: mark.clone(),
            previous: (!self.broken.chain).then_some(previous),
            at: Timestamp::from_millis(purge.at),
            selectors: purge.selectors.clone(),
        });
        let sequenced = Sequenced {
            epoch,
            sequence,
            entry: mark,
            earlier,
            previous: (!self.broken.chain).then_some(previous),
        };
        self.taken.push(number(&sequenced.entry.id));
        self.done.insert(purge.id, sequenced.clone());
        (sequenced, true)
    }

    fn misread(&self, purge: &Purge) -> Purge {
        let mut purge = purge.clone();
        for selector in &mut purge.selectors {
            if self.broken.prefix_is_tag
                && let Target::Prefix(prefix) = &selector.target
            {
                selector.target = Target::Tag(prefix.clone());
            }
            selector.soft |= self.broken.soft;
        }
        purge
    }

    fn set(&self, member: &str) -> &Scores {
        if is_prefix(member) {
            &self.prefixes
        } else {
            &self.counters
        }
    }

    fn set_mut(&mut self, member: &str) -> &mut Scores {
        if is_prefix(member) {
            &mut self.prefixes
        } else {
            &mut self.counters
        }
    }

    fn forget(&mut self, sequence: u64, now: u64) {
        if self
            .points
            .last()
            .is_none_or(|(at, _)| now.saturating_sub(*at) >= self.caps.life / 32)
        {
            self.points.push((now, sequence));
        }
        let past = now.saturating_sub(self.caps.life + 600_000);
        let horizon = self
            .points
            .iter()
            .filter(|(at, _)| *at <= past)
            .map(|it| it.1)
            .max();
        let horizon = horizon.unwrap_or(0);
        for (score, member) in self.prefixes.pop_over(self.caps.prefixes) {
            self.soft_at.remove(&member);
            let instead = format!("h:{} *", &member[2..18]);
            if score > horizon && self.counters.get(&instead).is_none_or(|it| it < score) {
                self.counters.add(score, &instead);
            }
        }
        for (score, member) in self.counters.pop_over(self.caps.counters) {
            self.soft_at.remove(&member);
            if score > horizon && !self.broken.floors {
                let floor = self.floors.entry(bucket(&member)).or_default();
                *floor = (*floor).max(score);
            }
        }
    }

    fn append(&mut self, entry: Entry) {
        self.last = Some(entry.mark.clone());
        self.next_entry += 1;
        self.stream.push(Arc::new(entry));
        let over = self.stream.len().saturating_sub(self.caps.stream);
        self.stream.drain(..over);
    }

    /// `sync.lua`.
    pub fn snapshot(
        &mut self,
        have: &Standing,
        since: u64,
        now: Timestamp,
        (chance, nonce): (u64, u64),
    ) -> Snapshot {
        let mut since = match self.epoch == Some(have.epoch) {
            true => since,
            false => 0,
        };
        let begin = match self.epoch {
            None => true,
            Some(epoch) if epoch == have.epoch => !self.broken.lost_tail && self.lost(have),
            Some(epoch) => epoch < have.epoch && !self.broken.old_epoch,
        };
        if begin {
            self.clear();
            let epoch = now.as_millis().max(have.epoch / CHANCES + 1) * CHANCES + chance;
            self.epoch = Some(epoch);
            self.sequence = 0;
            since = 0;
            self.append(Entry {
                epoch,
                sequence: 0,
                mark: EntryMark {
                    id: format!("{}-0", self.next_entry),
                    nonce,
                },
                previous: None,
                at: Timestamp::default(),
                selectors: Vec::new(),
            });
        }
        let raised = |(score, member): &(u64, String)| {
            (
                member.clone(),
                *score,
                self.soft_at.get(member).copied().unwrap_or(0),
            )
        };
        let mut page: Vec<_> = self
            .counters
            .after(since)
            .take(self.caps.page)
            .map(raised)
            .collect();
        let next = (page.len() >= self.caps.page)
            .then(|| page.last().map(|last| (last.1 - 1).max(since + 1)))
            .flatten();
        page.extend(self.prefixes.after(since).map(raised));
        let floors = self.floors.iter().filter(|(_, floor)| **floor > since);
        let floors = floors.map(|(at, floor)| (*at, *floor)).collect();
        let mut snapshot = Snapshot::read(&page, floors);
        snapshot.epoch = self.epoch.unwrap_or(0);
        snapshot.sequence = self.sequence;
        snapshot.last.clone_from(&self.last);
        snapshot.next = next;
        snapshot
    }

    fn lost(&self, have: &Standing) -> bool {
        let gone = |mark: &EntryMark| self.stream.iter().all(|entry| entry.mark != *mark);
        have.entry.as_ref().is_some_and(gone)
    }

    /// `HMGET state epoch sequence nonce`.
    pub fn seen(&self) -> Seen {
        Seen {
            epoch: self.epoch,
            sequence: if self.epoch.is_some() {
                self.sequence
            } else {
                0
            },
            nonce: self.last.as_ref().map_or(0, |last| last.nonce),
        }
    }

    /// The number of its last entry; 0 for none.
    pub fn last_entry(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| number(&last.id))
    }

    /// `XREAD`: what follows an entry.
    pub fn read(&self, cursor: &str) -> Vec<Arc<Entry>> {
        let after = number(cursor);
        let follows = |entry: &&Arc<Entry>| number(&entry.mark.id) > after;
        self.stream.iter().filter(follows).cloned().collect()
    }

    /// The object under a key.
    pub fn get(&self, key: usize, now: Timestamp) -> Option<Arc<Object>> {
        let object = self.objects.get(&key)?;
        (now < object.freshness().retain_until()).then(|| Arc::clone(object))
    }

    /// Puts an object under a key.
    pub fn put(&mut self, key: usize, object: Arc<Object>) {
        self.objects.insert(key, object);
    }

    /// Whether it has taken the purge that has this entry.
    pub fn has_taken(&self, entry: u64) -> bool {
        self.taken.contains(&entry)
    }

    /// How many counters and prefixes it keeps.
    pub fn kept(&self) -> (usize, usize) {
        (self.counters.0.len(), self.prefixes.0.len())
    }
}

fn is_prefix(member: &str) -> bool {
    member.as_bytes().get(19) == Some(&b'p')
}

/// The number of an entry. It is given once, also across failovers.
pub fn number(id: &str) -> u64 {
    let number = id.split('-').next();
    number.and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// The ten highest bits of the hash in a member's name.
pub fn bucket(member: &str) -> usize {
    let digits = member
        .get(2..5)
        .and_then(|it| usize::from_str_radix(it, 16).ok());
    digits.unwrap_or(0) / 4
}
