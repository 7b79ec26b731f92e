//! The steps that need the fleet: purging, catching up, and sending what was kept.

use weir_semantics::Timestamp;

use super::apply::Applied;
use super::fleet::{Entry, EntryMark, FleetUnavailable, Purge, Sequenced};
use super::receipt::{Receipt, Scope};
use super::selector::Selector;
use super::{Log, Position};

/// How many selectors go into one purge; more become several.
const MAX_SELECTORS: usize = 1_000;

/// How many bytes of selectors go into one purge.
const MAX_SELECTOR_BYTES: usize = 256 * 1_024;

impl Log {
    /// Invalidates. It holds on this node when this returns, and in the fleet as the
    /// receipt says. Many selectors become several purges; the receipt is of the last
    /// one, and is `Node` if one of them is.
    pub async fn invalidate(&self, selectors: &[Selector], now: Timestamp) -> Receipt {
        let mut answer: Option<Receipt> = None;
        for chunk in chunks(selectors) {
            let next = self.purge(Purge::new(chunk.to_vec(), now), now).await;
            answer = Some(match answer {
                Some(before) => before.then(next),
                None => next,
            });
        }
        answer.unwrap_or_else(|| self.nothing())
    }

    /// The answer to a purge of nothing.
    fn nothing(&self) -> Receipt {
        let position = self.position();
        let fleet = self.0.fleet.is_some() && position.epoch != 0;
        Receipt {
            sequence: fleet.then_some(position.fleet),
            scope: if fleet { Scope::Fleet } else { Scope::Node },
            durable: true,
            position,
            earlier: Position {
                epoch: position.epoch,
                fleet: 0,
                node: 0,
            },
        }
    }

    async fn purge(&self, purge: Purge, now: Timestamp) -> Receipt {
        let taken = match &self.0.fleet {
            Some(fleet) => fleet.purge(&purge).await.ok(),
            None => None,
        };
        let Some(sequenced) = taken else {
            let raises = purge.raises();
            let known = self.0.state.read().fleet.highest(&raises);
            let kept = self.keep(purge, now);
            let (position, earlier) = (kept.position, kept.earlier);
            return Receipt {
                sequence: None,
                scope: Scope::Node,
                durable: self.written(kept).await,
                position,
                earlier: Position {
                    epoch: position.epoch,
                    fleet: known,
                    node: earlier,
                },
            };
        };
        let earlier_here = self.0.state.read().node.highest(&purge.raises());
        let entry = entry(&purge, &sequenced);
        match self.apply(&entry, now) {
            Applied::Next | Applied::Known => {}
            Applied::Gap => {
                // It holds here already. Until the missing ones are known, a new object
                // would get a position before this purge, and die of it at once.
                let _ = self.synchronise(sequenced.sequence, now).await;
            }
            // It holds here too, and whoever follows the log finds out by itself.
            Applied::Diverged => drop(self.synchronise(0, now).await),
            Applied::OtherEpoch => {
                if self.synchronise(0, now).await.is_err() {
                    // Redis has it, so that the disk need not be waited for.
                    drop(self.keep(purge, now));
                }
            }
        }
        let node = self.position().node;
        Receipt {
            sequence: Some(sequenced.sequence),
            scope: Scope::Fleet,
            durable: true,
            position: Position {
                epoch: sequenced.epoch,
                fleet: sequenced.sequence,
                node,
            },
            earlier: Position {
                epoch: sequenced.epoch,
                fleet: sequenced.earlier,
                node: earlier_here,
            },
        }
    }

    /// Applies everything that the fleet's log has, as it is at `now` or later. With
    /// `wanted` other than 0, that sequence of the present epoch is enough, if someone
    /// else brought it meanwhile.
    ///
    /// # Errors
    /// [`FleetUnavailable`], also if this node is alone.
    pub async fn synchronise(&self, wanted: u64, now: Timestamp) -> Result<(), FleetUnavailable> {
        let fleet = self.0.fleet.as_ref().ok_or(FleetUnavailable)?;
        let epoch = self.standing().epoch;
        let _flight = self.0.flight.lock().await;
        let standing = self.standing();
        // Whoever had the lock may have brought what is wanted.
        if standing.epoch == epoch && standing.applied >= wanted && wanted > 0 {
            return Ok(());
        }
        let mut since = standing.applied;
        loop {
            let have = self.standing();
            let snapshot = fleet.snapshot(&have, since).await?;
            self.apply_snapshot(&snapshot, now);
            match snapshot.next {
                Some(next) => since = next,
                None => break,
            }
        }
        self.contact(now);
        Ok(())
    }

    /// Sends the purges that were kept while Redis was away, in order, each once.
    /// Returns how many were sent.
    ///
    /// # Errors
    /// [`FleetUnavailable`]; what was not sent is still kept.
    pub async fn replay(&self, now: Timestamp) -> Result<usize, FleetUnavailable> {
        let fleet = self.0.fleet.as_ref().ok_or(FleetUnavailable)?;
        let mut sent = 0;
        loop {
            let Some(purge) = self.0.pending.lock().first().cloned() else {
                return Ok(sent);
            };
            let sequenced = fleet.purge(&purge).await?;
            match self.apply(&entry(&purge, &sequenced), now) {
                Applied::Next | Applied::Known | Applied::Gap => {}
                Applied::Diverged | Applied::OtherEpoch => self.synchronise(0, now).await?,
            }
            self.taken(&purge.id);
            sent += 1;
        }
    }
}

impl Receipt {
    /// The receipt for this purge and one that followed it.
    fn then(self, next: Self) -> Self {
        let scope = if self.scope == next.scope {
            next.scope
        } else {
            Scope::Node
        };
        Self {
            sequence: next.sequence.filter(|_| scope == Scope::Fleet),
            scope,
            durable: self.durable && next.durable,
            position: next.position,
            earlier: Position {
                epoch: next.earlier.epoch,
                fleet: self.earlier.fleet.max(next.earlier.fleet),
                node: self.earlier.node.max(next.earlier.node),
            },
        }
    }
}

fn entry(purge: &Purge, sequenced: &Sequenced) -> Entry {
    Entry {
        epoch: sequenced.epoch,
        sequence: sequenced.sequence,
        mark: EntryMark {
            id: sequenced.entry.clone(),
            nonce: purge.nonce,
        },
        at: Timestamp::from_millis(purge.at),
        selectors: purge.selectors.clone(),
    }
}

/// Splits selectors so that no purge is too large for one step in Redis.
fn chunks(selectors: &[Selector]) -> impl Iterator<Item = &[Selector]> {
    let mut rest = selectors;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest
            .iter()
            .take(MAX_SELECTORS)
            .take_while(|selector| {
                bytes += selector.size();
                bytes <= MAX_SELECTOR_BYTES
            })
            .count();
        // One that is too large by itself goes alone.
        let (chunk, after) = rest.split_at(fits.max(1).min(rest.len()));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}
