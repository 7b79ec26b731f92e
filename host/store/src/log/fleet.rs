//! What nodes say to each other through Redis, and nothing of how.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use weir_semantics::Timestamp;

use super::name::{Kind, Name, Scope};
use super::selector::{Counter, PrefixName, Raise, Selector};

/// One purge, on its way to every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// Random; the fleet's log takes a purge once, however often it is sent.
    pub id: String,
    /// When the node took it, in milliseconds since the Unix epoch.
    pub at: u64,
    /// What it invalidates.
    pub selectors: Vec<Selector>,
}

impl Purge {
    /// A purge taken at `now`.
    pub fn new(selectors: Vec<Selector>, now: Timestamp) -> Self {
        Self {
            id: format!("{:032x}", fastrand::u128(..)),
            at: now.as_millis(),
            selectors,
        }
    }

    /// The bytes that it takes, about.
    pub(crate) fn size(&self) -> usize {
        self.selectors.iter().map(Selector::size).sum::<usize>() + 64
    }

    /// The counters that it raises, as they are called in Redis.
    #[doc(hidden)]
    pub fn members(&self) -> Vec<String> {
        let mut members: Vec<String> = self.raises().iter().map(Raise::member).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    pub(crate) fn raises(&self) -> Vec<Raise> {
        self.selectors.iter().flat_map(Selector::raises).collect()
    }
}

/// The place that the fleet's log gave to a purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequenced {
    /// The log's identity.
    pub epoch: u64,
    /// The purge's sequence.
    pub sequence: u64,
    /// Its stream entry.
    pub entry: EntryMark,
    /// The highest sequence to which one of its counters had been raised before.
    pub earlier: u64,
    /// The nonce of the entry before it; absent if that is not known.
    pub previous: Option<u64>,
}

/// A purge with its place in the log, as the stream tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The log's identity.
    pub epoch: u64,
    /// The purge's sequence.
    pub sequence: u64,
    /// Which stream entry it is.
    pub mark: EntryMark,
    /// The nonce of the entry before it, by which a node sees that it follows on what it
    /// knows; absent if an older version of Weir wrote it.
    pub previous: Option<u64>,
    /// When it was taken.
    pub at: Timestamp,
    /// What it invalidates.
    pub selectors: Vec<Selector>,
}

/// Identifies one entry of the stream, also across failovers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryMark {
    /// The stream entry's id.
    pub id: String,
    /// Random, and another one each time that a purge is taken: tells two entries apart that
    /// got the same place in the log, because a failover lost the first one.
    pub nonce: u64,
}

/// How far a node has followed the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The log's identity; 0 before the first contact.
    pub epoch: u64,
    /// Every purge up to here has been applied.
    pub applied: u64,
    /// The entry of that sequence. The log must still have it: if it does not, a failover
    /// lost it, and a new epoch begins.
    pub entry: Option<EntryMark>,
}

/// Where the log in Redis stood when it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its identity; absent when there is no log.
    pub epoch: Option<u64>,
    /// Its last sequence.
    pub sequence: u64,
    /// The nonce of its last entry.
    pub nonce: u64,
}

/// The counters that are newer than a node, or a page of them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The log's identity now.
    pub epoch: u64,
    /// The log's sequence now.
    pub sequence: u64,
    /// The log's last entry.
    pub last: Option<EntryMark>,
    /// Counters, the oldest first.
    pub(crate) counters: Vec<Raised>,
    /// By bucket: objects with a counter in it and a lower position are dead.
    pub(crate) floors: Vec<(usize, u64)>,
    /// Where to go on; absent when this was all.
    pub next: Option<u64>,
}

impl Snapshot {
    /// What Redis says: each counter's name, sequence and, if soft, time; and floors by
    /// bucket.
    #[doc(hidden)]
    pub fn read(raised: &[(String, u64, u64)], floors: Vec<(usize, u64)>) -> Self {
        let counters = raised.iter().map(|(member, sequence, at)| Raised {
            // A later version may know counters that this one does not.
            raise: Raise::parse(member).unwrap_or_else(Raise::everything),
            sequence: *sequence,
            at: Timestamp::from_millis(*at),
        });
        Self {
            counters: counters.collect(),
            floors,
            ..Self::default()
        }
    }

    /// What [`Snapshot::read`] reads, in an order of its own.
    #[doc(hidden)]
    pub fn raised(&self) -> Vec<(String, u64, u64)> {
        let of = |it: &Raised| (it.raise.member(), it.sequence, it.at.as_millis());
        let mut raised: Vec<_> = self.counters.iter().map(of).collect();
        raised.sort_unstable();
        raised
    }

    /// By bucket.
    #[doc(hidden)]
    pub fn floors(&self) -> &[(usize, u64)] {
        &self.floors
    }

    /// Adds the counters that a purge raised.
    pub fn add(&mut self, purge: &Purge, sequence: u64) {
        let at = Timestamp::from_millis(purge.at);
        self.counters
            .extend(purge.raises().into_iter().map(|raise| Raised {
                raise,
                sequence,
                at,
            }));
    }
}

/// One counter of the log in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raised {
    pub(crate) raise: Raise,
    pub(crate) sequence: u64,
    /// When a soft purge was taken.
    pub(crate) at: Timestamp,
}

impl Raise {
    /// How the counter is called in Redis: `h` or `s`, the hash by which it, or what
    /// stands in for it, is found, and a readable name.
    pub(crate) fn member(&self) -> String {
        let mut member = String::from(if self.soft { "s:" } else { "h:" });
        match &self.counter {
            Counter::Named(name) => name.member(&mut member),
            Counter::Prefix(prefix) => prefix.member(&mut member),
        }
        member
    }

    /// The hard purge of everything.
    pub(crate) fn everything() -> Self {
        Self {
            soft: false,
            counter: Counter::Named(Name::new(Kind::All, Scope::Everywhere, "")),
        }
    }

    /// Reads what [`Raise::member`] wrote.
    pub(crate) fn parse(member: &str) -> Option<Self> {
        let (soft, rest) = match member.split_at_checked(2)? {
            ("s:", rest) => (true, rest),
            ("h:", rest) => (false, rest),
            _ => return None,
        };
        let (_, text) = rest.split_once(' ')?;
        let counter = if text.starts_with(['p']) {
            Counter::Prefix(PrefixName::parse(text)?)
        } else {
            Counter::Named(Name::parse(rest)?)
        };
        Some(Self { soft, counter })
    }
}

/// Why the fleet's log could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the invalidation log in Redis does not answer; the purge is kept here until it does")]
pub struct FleetUnavailable;

/// The log that all nodes share. Redis implements it; a simulator can.
#[async_trait]
pub trait Fleet: Send + Sync + std::fmt::Debug {
    /// Takes a purge in one atomic step, once for each id. It can have been taken also
    /// if the answer is an error.
    ///
    /// # Errors
    /// [`FleetUnavailable`].
    async fn purge(&self, purge: &Purge) -> Result<Sequenced, FleetUnavailable>;

    /// Tells what is newer than `since`, or everything if the log is of another epoch
    /// than `have`. Begins a new epoch if there is no log, if it lost the entry that `have`
    /// names, or if it is of an epoch before that of `have`.
    ///
    /// # Errors
    /// [`FleetUnavailable`].
    async fn snapshot(&self, have: &Standing, since: u64) -> Result<Snapshot, FleetUnavailable>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::selector::Target;

    #[test]
    fn every_counter_reads_back_from_its_name_in_redis() {
        let targets = [
            Target::Url("http://h/a?b".into()),
            Target::Key("user:profile:42".into()),
            Target::Tag("t".into()),
            Target::Namespace("user".into()),
            Target::Prefix("user:pro|f ile".into()),
            Target::Prefix(String::new()),
            Target::All,
        ];
        for target in targets {
            let plain = Selector::new(target);
            for selector in [plain.clone(), plain.clone().soft(), plain.on_host("H:81")] {
                for raise in selector.raises() {
                    assert_eq!(Raise::parse(&raise.member()), Some(raise));
                }
            }
        }
    }
}
