//! The key-value store in memory, for a node without Redis.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::{KvError, MAX_MEMBERS};

/// What an entry costs besides its bytes, about.
const OVERHEAD: usize = 160;

/// What a member of a set or queue costs besides its bytes, about.
const MEMBER_OVERHEAD: usize = 64;

/// The most bytes of one set or queue, 32 MiB.
const MAX_COLLECTION_BYTES: usize = 32 * 1_024 * 1_024;

#[derive(Debug)]
pub(super) struct MemoryKv {
    entries: Cache<Box<str>, Entry, ahash::RandomState>,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    weight: u32,
    /// Kept here and not left to moka, which takes an update for a creation if the entry ended
    /// between being read and being written: then there is no end that it could keep.
    ends: Instant,
}

/// A collection is changed in place, while moka holds its key.
#[derive(Clone, Debug)]
enum Value {
    Bytes(Bytes),
    Set(Arc<Mutex<(HashSet<Bytes>, usize)>>),
    Queue(Arc<Mutex<(VecDeque<Bytes>, usize)>>),
}

struct Ending;

impl Expiry<Box<str>, Entry> for Ending {
    fn expire_after_create(&self, _: &Box<str>, entry: &Entry, now: Instant) -> Option<Duration> {
        Some(entry.ends.saturating_duration_since(now))
    }

    fn expire_after_update(
        &self,
        _: &Box<str>,
        entry: &Entry,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ends.saturating_duration_since(now))
    }
}

impl Entry {
    fn new(value: Value, bytes: usize, ends: Instant) -> Self {
        Self {
            value,
            weight: u32::try_from(bytes).unwrap_or(u32::MAX),
            ends,
        }
    }

    fn bytes(value: Bytes, ends: Instant) -> Self {
        let bytes = value.len();
        Self::new(Value::Bytes(value), bytes, ends)
    }
}

impl MemoryKv {
    pub(super) fn new(capacity: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(capacity)
            .weigher(weigh)
            // A session that is new must not lose its place to one that is popular.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Ending)
            .build_with_hasher(ahash::RandomState::new());
        Self { entries }
    }

    pub(super) fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError> {
        match self
            .entries
            .get(&*name(namespace, key))
            .map(|entry| entry.value)
        {
            None => Ok(None),
            Some(Value::Bytes(value)) => Ok(Some(value)),
            Some(_) => Err(KvError::WrongKind),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as in Redis, where it can fail")]
    pub(super) fn set(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<(), KvError> {
        self.entries.insert(
            name(namespace, key),
            Entry::bytes(value, Instant::now() + ttl),
        );
        Ok(())
    }

    pub(super) fn delete(&self, namespace: &str, key: &str) -> Result<bool, KvError> {
        self.change(namespace, key, |held| Ok((held.is_some(), Op::Remove)))
    }

    pub(super) fn increment(
        &self,
        namespace: &str,
        key: &str,
        delta: i64,
        ttl: Duration,
    ) -> Result<i64, KvError> {
        self.change(namespace, key, |held| {
            let (before, ends) = match held {
                None => (0, Instant::now() + ttl),
                Some((Value::Bytes(text), ends)) => {
                    (number(&text).ok_or(KvError::WrongKind)?, ends)
                }
                Some(_) => return Err(KvError::WrongKind),
            };
            let after = before
                .checked_add(delta)
                .ok_or_else(|| KvError::Refused("the sum does not fit into 64 bits".into()))?;
            Ok((after, Op::Put(Entry::bytes(after.to_string().into(), ends))))
        })
    }

    pub(super) fn compare_and_set(
        &self,
        namespace: &str,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, KvError> {
        self.change(namespace, key, |held| {
            let same = match (&held, expected) {
                (None, None) => true,
                (Some((Value::Bytes(held), _)), Some(expected)) => held[..] == *expected,
                (Some(_), Some(_)) => return Err(KvError::WrongKind),
                _ => false,
            };
            let change = if same {
                Op::Put(Entry::bytes(value, Instant::now() + ttl))
            } else {
                Op::Nop
            };
            Ok((same, change))
        })
    }

    pub(super) fn set_add(
        &self,
        namespace: &str,
        key: &str,
        member: Bytes,
        ttl: Duration,
    ) -> Result<bool, KvError> {
        self.change(namespace, key, |held| {
            let set = match held {
                None => Arc::default(),
                Some((Value::Set(set), _)) => set,
                Some(_) => return Err(KvError::WrongKind),
            };
            let (added, bytes) = {
                let mut guard = set.lock();
                let (members, bytes) = &mut *guard;
                let grows = member.len() + MEMBER_OVERHEAD;
                let full =
                    members.len() >= MAX_MEMBERS as usize || *bytes + grows > MAX_COLLECTION_BYTES;
                if full && !members.contains(&member) {
                    return Err(full_error(MAX_MEMBERS));
                }
                let added = members.insert(member);
                if added {
                    *bytes += grows;
                }
                (added, *bytes)
            };
            Ok((
                added,
                Op::Put(Entry::new(Value::Set(set), bytes, Instant::now() + ttl)),
            ))
        })
    }

    pub(super) fn set_remove(
        &self,
        namespace: &str,
        key: &str,
        member: &[u8],
    ) -> Result<bool, KvError> {
        self.change(namespace, key, |held| {
            let (set, ends) = match held {
                None => return Ok((false, Op::Nop)),
                Some((Value::Set(set), ends)) => (set, ends),
                Some(_) => return Err(KvError::WrongKind),
            };
            let (removed, left, bytes) = {
                let mut guard = set.lock();
                let (members, bytes) = &mut *guard;
                let removed = members.remove(member);
                if removed {
                    *bytes = bytes.saturating_sub(member.len() + MEMBER_OVERHEAD);
                }
                (removed, members.len(), *bytes)
            };
            // As in Redis, a set without members is no key.
            let change = if left == 0 {
                Op::Remove
            } else {
                Op::Put(Entry::new(Value::Set(set), bytes, ends))
            };
            Ok((removed, change))
        })
    }

    pub(super) fn set_contains(
        &self,
        namespace: &str,
        key: &str,
        member: &[u8],
    ) -> Result<bool, KvError> {
        match self
            .entries
            .get(&*name(namespace, key))
            .map(|entry| entry.value)
        {
            None => Ok(false),
            Some(Value::Set(set)) => Ok(set.lock().0.contains(member)),
            Some(_) => Err(KvError::WrongKind),
        }
    }

    pub(super) fn queue_push(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        max_length: u32,
        ttl: Duration,
    ) -> Result<u32, KvError> {
        self.change(namespace, key, |held| {
            let queue = match held {
                None => Arc::default(),
                Some((Value::Queue(queue), _)) => queue,
                Some(_) => return Err(KvError::WrongKind),
            };
            let (length, bytes) = {
                let mut guard = queue.lock();
                let (entries, bytes) = &mut *guard;
                *bytes += value.len() + MEMBER_OVERHEAD;
                entries.push_back(value);
                while entries.len() > max_length as usize || *bytes > MAX_COLLECTION_BYTES {
                    let Some(dropped) = entries.pop_front() else {
                        break;
                    };
                    *bytes = bytes.saturating_sub(dropped.len() + MEMBER_OVERHEAD);
                }
                (u32::try_from(entries.len()).unwrap_or(u32::MAX), *bytes)
            };
            Ok((
                length,
                Op::Put(Entry::new(Value::Queue(queue), bytes, Instant::now() + ttl)),
            ))
        })
    }

    pub(super) fn queue_pop(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError> {
        self.change(namespace, key, |held| {
            let (queue, ends) = match held {
                None => return Ok((None, Op::Nop)),
                Some((Value::Queue(queue), ends)) => (queue, ends),
                Some(_) => return Err(KvError::WrongKind),
            };
            let (value, left, bytes) = {
                let mut guard = queue.lock();
                let (entries, bytes) = &mut *guard;
                let value = entries.pop_front();
                let freed = value
                    .as_ref()
                    .map_or(0, |value| value.len() + MEMBER_OVERHEAD);
                *bytes = bytes.saturating_sub(freed);
                (value, entries.len(), *bytes)
            };
            let change = if left == 0 {
                Op::Remove
            } else {
                Op::Put(Entry::new(Value::Queue(queue), bytes, ends))
            };
            Ok((value, change))
        })
    }

    /// What everything weighs, in bytes.
    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.entries.run_pending_tasks();
        self.entries.weighted_size()
    }

    /// Reads and changes one key in one step. `change` is handed what the key holds and
    /// when that ends.
    fn change<T>(
        &self,
        namespace: &str,
        key: &str,
        change: impl FnOnce(Option<(Value, Instant)>) -> Result<(T, Op<Entry>), KvError>,
    ) -> Result<T, KvError> {
        let mut answer = Err(KvError::Unavailable);
        self.entries
            .entry(name(namespace, key))
            .and_compute_with(|held| {
                let held = held.map(|entry| entry.into_value());
                match change(held.map(|entry| (entry.value, entry.ends))) {
                    Ok((value, op)) => {
                        answer = Ok(value);
                        op
                    }
                    Err(error) => {
                        answer = Err(error);
                        Op::Nop
                    }
                }
            });
        answer
    }
}

#[expect(clippy::borrowed_box, reason = "moka hands out a reference to its key")]
fn weigh(key: &Box<str>, entry: &Entry) -> u32 {
    let fixed = u32::try_from(key.len() + OVERHEAD).unwrap_or(u32::MAX);
    entry.weight.saturating_add(fixed)
}

fn name(namespace: &str, key: &str) -> Box<str> {
    // A namespace holds no ':'.
    format!("{namespace}:{key}").into()
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn full_error(members: u32) -> KvError {
    KvError::Refused(format!(
        "the set is full: at most {members} members and {MAX_COLLECTION_BYTES} bytes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_while_it_is_changed_has_ended() {
        let kv = MemoryKv::new(1_024 * 1_024);
        let wait_out = |held: Option<(Value, Instant)>| {
            let (value, ends) = held.ok_or(KvError::Unavailable)?;
            // moka has read the entry as one that lasts, and writes it as one that does not.
            while Instant::now() <= ends {
                std::thread::yield_now();
            }
            Ok(((), Op::Put(Entry::new(value, 1, ends))))
        };
        // Once more where this thread was held up until the entry had ended.
        loop {
            kv.increment("n", "c", 5, Duration::from_millis(20))
                .unwrap();
            if kv.change("n", "c", wait_out).is_ok() {
                break;
            }
        }
        assert_eq!(kv.get("n", "c"), Ok(None));
        let anew = kv.increment("n", "c", 1, Duration::from_secs(60));
        assert_eq!(anew, Ok(1));
    }
}
