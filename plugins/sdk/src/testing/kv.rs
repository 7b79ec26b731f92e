//! A key-value store for native tests, on one thread. Nothing ends by itself: a test asks
//! for the time to live instead.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::kv::Error;

enum Value {
    Bytes(Vec<u8>),
    Set(BTreeSet<Vec<u8>>),
    Queue(VecDeque<Vec<u8>>),
}

type Held = BTreeMap<(String, String), (Value, Duration)>;

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// Begins an empty store on this thread, in place of the one that is there; `false`: every
/// operation is [`Error::Unavailable`] again, as while Redis is away.
pub fn set_kv(there: bool) {
    HELD.set(there.then(Held::new));
}

/// For how long a key was to live when it was last given a time; `None` for no such key.
pub fn kv_ttl(namespace: &str, key: &str) -> Option<Duration> {
    HELD.with_borrow(|held| {
        let held = held.as_ref()?;
        let (_, ttl) = held.get(&(namespace.to_owned(), key.to_owned()))?;
        Some(*ttl)
    })
}

fn with<T>(
    namespace: &str,
    key: &str,
    operation: impl FnOnce(&mut Held, (String, String)) -> Result<T, Error>,
) -> Result<T, Error> {
    HELD.with_borrow_mut(|held| match held {
        Some(held) => operation(held, (namespace.to_owned(), key.to_owned())),
        None => Err(Error::Unavailable),
    })
}

fn timed(ttl: Duration) -> Result<Duration, Error> {
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);
    if ttl < Duration::from_millis(1) || ttl > LONGEST {
        let why = format!("the time to live is {ttl:?}: it must lie between 1 ms and 30 days");
        return Err(Error::Refused(why));
    }
    Ok(ttl)
}

pub(crate) fn get(namespace: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
    with(namespace, key, |held, name| match held.get(&name) {
        None => Ok(None),
        Some((Value::Bytes(value), _)) => Ok(Some(value.clone())),
        Some(_) => Err(Error::WrongKind),
    })
}

pub(crate) fn set(namespace: &str, key: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
    let ttl = timed(ttl)?;
    with(namespace, key, |held, name| {
        held.insert(name, (Value::Bytes(value.to_vec()), ttl));
        Ok(())
    })
}

pub(crate) fn delete(namespace: &str, key: &str) -> Result<bool, Error> {
    with(namespace, key, |held, name| {
        Ok(held.remove(&name).is_some())
    })
}

pub(crate) fn increment(
    namespace: &str,
    key: &str,
    delta: i64,
    ttl: Duration,
) -> Result<i64, Error> {
    let ttl = timed(ttl)?;
    let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<i64>().ok();
    with(namespace, key, |held, name| {
        let (before, ttl) = match held.get(&name) {
            None => (0, ttl),
            Some((Value::Bytes(value), ttl)) => (number(value).ok_or(Error::WrongKind)?, *ttl),
            Some(_) => return Err(Error::WrongKind),
        };
        let after = before
            .checked_add(delta)
            .ok_or_else(|| Error::Refused("the sum does not fit into 64 bits".into()))?;
        held.insert(name, (Value::Bytes(after.to_string().into()), ttl));
        Ok(after)
    })
}

pub(crate) fn compare_and_set(
    namespace: &str,
    key: &str,
    expected: Option<&[u8]>,
    value: &[u8],
    ttl: Duration,
) -> Result<bool, Error> {
    if get(namespace, key)?.as_deref() != expected {
        return Ok(false);
    }
    set(namespace, key, value, ttl).map(|()| true)
}

pub(crate) fn set_add(
    namespace: &str,
    key: &str,
    member: &[u8],
    ttl: Duration,
) -> Result<bool, Error> {
    let ttl = timed(ttl)?;
    with(namespace, key, |held, name| {
        let (value, lives) = held
            .entry(name)
            .or_insert_with(|| (Value::Set(BTreeSet::new()), ttl));
        let Value::Set(members) = value else {
            return Err(Error::WrongKind);
        };
        *lives = ttl;
        Ok(members.insert(member.to_vec()))
    })
}

pub(crate) fn set_remove(namespace: &str, key: &str, member: &[u8]) -> Result<bool, Error> {
    with(namespace, key, |held, name| {
        let Some((value, _)) = held.get_mut(&name) else {
            return Ok(false);
        };
        let Value::Set(members) = value else {
            return Err(Error::WrongKind);
        };
        let removed = members.remove(member);
        if members.is_empty() {
            held.remove(&name);
        }
        Ok(removed)
    })
}

pub(crate) fn set_contains(namespace: &str, key: &str, member: &[u8]) -> Result<bool, Error> {
    with(namespace, key, |held, name| match held.get(&name) {
        None => Ok(false),
        Some((Value::Set(members), _)) => Ok(members.contains(member)),
        Some(_) => Err(Error::WrongKind),
    })
}

pub(crate) fn queue_push(
    namespace: &str,
    key: &str,
    value: &[u8],
    max_length: u32,
    ttl: Duration,
) -> Result<u32, Error> {
    let ttl = timed(ttl)?;
    if max_length == 0 {
        let why = "the longest length of a queue is 0: it must be at least 1";
        return Err(Error::Refused(why.into()));
    }
    with(namespace, key, |held, name| {
        let (queue, lives) = held
            .entry(name)
            .or_insert_with(|| (Value::Queue(VecDeque::new()), ttl));
        let Value::Queue(entries) = queue else {
            return Err(Error::WrongKind);
        };
        *lives = ttl;
        entries.push_back(value.to_vec());
        while entries.len() > max_length as usize {
            entries.pop_front();
        }
        Ok(u32::try_from(entries.len()).unwrap_or(u32::MAX))
    })
}

pub(crate) fn queue_pop(namespace: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
    with(namespace, key, |held, name| {
        let Some((value, _)) = held.get_mut(&name) else {
            return Ok(None);
        };
        let Value::Queue(entries) = value else {
            return Err(Error::WrongKind);
        };
        let popped = entries.pop_front();
        if entries.is_empty() {
            held.remove(&name);
        }
        Ok(popped)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_double_behaves_as_the_host_s_store_does() {
        let store = crate::kv::open("n");
        set_kv(false);
        assert_eq!(store.get("a"), Err(Error::Unavailable));
        set_kv(true);
        assert_eq!(
            store.compare_and_set("a", Some(b"x"), b"y", MINUTE),
            Ok(false)
        );
        assert_eq!(store.compare_and_set("a", None, b"y", MINUTE), Ok(true));
        assert_eq!(store.get("a"), Ok(Some(b"y".to_vec())));
        assert_eq!(store.increment("a", 1, MINUTE), Err(Error::WrongKind));
        assert_eq!(store.increment("c", 2, MINUTE), Ok(2));
        assert_eq!(store.increment("c", 3, MINUTE * 2), Ok(5));
        assert_eq!(kv_ttl("n", "c"), Some(MINUTE));
        assert_eq!(store.set_add("s", b"m", MINUTE), Ok(true));
        assert_eq!(store.set_add("s", b"m", MINUTE), Ok(false));
        assert_eq!(store.set_contains("s", b"m"), Ok(true));
        assert_eq!(store.get("s"), Err(Error::WrongKind));
        assert_eq!(store.set_remove("s", b"m"), Ok(true));
        assert_eq!(store.delete("s"), Ok(false), "an empty set is no key");
        for (value, length) in [(b"1", 1), (b"2", 2), (b"3", 2)] {
            assert_eq!(store.queue_push("q", value, 2, MINUTE), Ok(length));
        }
        assert_eq!(store.queue_pop("q"), Ok(Some(b"2".to_vec())));
        assert!(store.set("a", b"", Duration::ZERO).is_err());
        set_kv(false);
    }
}
