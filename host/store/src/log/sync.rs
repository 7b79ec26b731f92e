//! The steps that need the fleet: purging, catching up, and sending what was kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::MutexGuard;
use weir_semantics::Timestamp;

use super::apply::Applied;
use super::bearings::Bearings;
use super::fleet::{Entry, Fleet, FleetUnavailable, Purge, Seen, Sequenced};
use super::receipt::{Receipt, Scope};
use super::selector::Selector;
use super::{Log, Position};

/// How many selectors go into one purge; more become several.
const MAX_SELECTORS: usize = 1_000;

/// How many bytes of selectors go into one purge.
const MAX_SELECTOR_BYTES: usize = 256 * 1_024;

/// How often a purge is sent while Redis fails over, before it is kept here.
const ROUNDS: usize = 3;

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
                ..Position::default()
            },
        }
    }

    async fn purge(&self, purge: Purge, now: Timestamp) -> Receipt {
        if let Some(receipt) = self.purge_fleet(&purge, now).await {
            return receipt;
        }
        let known = self.0.state.read().fleet.highest(&purge.raises());
        let kept = self.keep(purge, now);
        let (position, earlier) = (kept.position, kept.earlier);
        Receipt {
            sequence: None,
            scope: Scope::Node,
            durable: self.written(kept).await,
            position,
            earlier: Position {
                epoch: position.epoch,
                fleet: known,
                node: earlier,
                at: Timestamp::default(),
            },
        }
    }

    /// Has Redis take a purge, and lets it hold here. `None`: one of the two failed, and
    /// it is to be kept, which is no harm if Redis has it.
    async fn purge_fleet(&self, purge: &Purge, now: Timestamp) -> Option<Receipt> {
        let fleet = self.0.fleet.as_ref()?;
        let mut sequenced = fleet.purge(purge).await.ok()?;
        for _ in 0..ROUNDS {
            let earlier_here = self.0.state.read().node.highest(&purge.raises());
            match self.take_in(fleet, purge, &sequenced, now).await.ok()? {
                Some(again) => sequenced = again,
                None => return Some(self.receipt(&sequenced, earlier_here)),
            }
        }
        None
    }

    fn receipt(&self, sequenced: &Sequenced, earlier_here: u64) -> Receipt {
        let in_fleet = |fleet, node| Position {
            epoch: sequenced.epoch,
            fleet,
            node,
            at: Timestamp::default(),
        };
        Receipt {
            sequence: Some(sequenced.sequence),
            scope: Scope::Fleet,
            durable: true,
            position: in_fleet(sequenced.sequence, self.position().node),
            earlier: in_fleet(sequenced.earlier, earlier_here),
        }
    }

    /// Applies a purge that Redis took. `Some`: Redis has been failed over meanwhile, and
    /// took it once more.
    async fn take_in(
        &self,
        fleet: &Arc<dyn Fleet>,
        purge: &Purge,
        sequenced: &Sequenced,
        now: Timestamp,
    ) -> Result<Option<Sequenced>, FleetUnavailable> {
        let entry = entry(purge, sequenced);
        let applied = {
            let turn = self.0.turn.lock().await;
            match self.apply(&entry, now) {
                Applied::Gap | Applied::Diverged | Applied::OtherEpoch => {
                    self.read_fleet(fleet, now, &turn).await?;
                    self.apply(&entry, now)
                }
                applied => applied,
            }
        };
        if matches!(applied, Applied::Next | Applied::Known) {
            return Ok(None);
        }
        // Either others have purged since, or the answer is from before a failover.
        let again = fleet.purge(purge).await?;
        if applied != Applied::Unsure || again != *sequenced {
            return Ok(Some(again));
        }
        self.raise(&entry, now);
        Ok(None)
    }

    /// Applies everything that the fleet's log has, as it is at `now` or later.
    ///
    /// # Errors
    /// [`FleetUnavailable`], also if this node is alone.
    pub async fn synchronise(&self, now: Timestamp) -> Result<(), FleetUnavailable> {
        let fleet = self.0.fleet.as_ref().ok_or(FleetUnavailable)?;
        let turn = self.0.turn.lock().await;
        self.read_fleet(fleet, now, &turn).await
    }

    /// Applies everything that the fleet's log had at `now`. Of those who wait for that
    /// together, few ask Redis.
    ///
    /// # Errors
    /// [`FleetUnavailable`], also if this node is alone.
    pub async fn catch_up(&self, now: Timestamp) -> Result<(), FleetUnavailable> {
        let fleet = self.0.fleet.as_ref().ok_or(FleetUnavailable)?;
        let turn = self.0.turn.lock().await;
        // Someone asked in a later millisecond.
        if self.last_contact() > now {
            return Ok(());
        }
        self.read_fleet(fleet, now, &turn).await
    }

    /// Applies what was read from the fleet's stream by one who had asked at `began`, after
    /// `before` had been taken, and then `seen` where the log stands. `true`: there was
    /// more than that, which has been applied too; go on from [`Standing::entry`].
    ///
    /// # Errors
    /// [`FleetUnavailable`], also if this node is alone.
    pub async fn follow(
        &self,
        entries: &[Entry],
        before: Bearings,
        seen: Seen,
        began: Timestamp,
    ) -> Result<bool, FleetUnavailable> {
        let fleet = self.0.fleet.as_ref().ok_or(FleetUnavailable)?;
        let turn = self.0.turn.lock().await;
        let mut complete = true;
        for entry in entries {
            complete &= match self.apply(entry, began) {
                // Whether it is the same log is confirmed below.
                Applied::Next | Applied::Known | Applied::Unsure => true,
                Applied::Gap | Applied::Diverged | Applied::OtherEpoch => false,
            };
        }
        if complete && self.confirm(before, seen, began) {
            return Ok(false);
        }
        self.read_fleet(fleet, began, &turn).await?;
        Ok(true)
    }

    /// One after the other, which the guard stands for.
    async fn read_fleet(
        &self,
        fleet: &Arc<dyn Fleet>,
        now: Timestamp,
        _turn: &MutexGuard<'_, ()>,
    ) -> Result<(), FleetUnavailable> {
        let mut have = self.standing();
        let mut since = have.applied;
        loop {
            let snapshot = fleet.snapshot(&have, since).await?;
            self.apply_snapshot(&snapshot, now);
            match snapshot.next {
                Some(next) => since = next,
                None => break,
            }
            // The next page must be of the same log, also if that fails over in between.
            have = self.standing();
            have.entry = snapshot.last.or(have.entry);
        }
        self.contact(now);
        // Last: who reads it finds the node where it says.
        self.0.synchronised.fetch_add(1, Ordering::Release);
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
            let mut sequenced = fleet.purge(&purge).await?;
            while let Some(again) = self.take_in(fleet, &purge, &sequenced, now).await? {
                sequenced = again;
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
                at: Timestamp::default(),
            },
        }
    }
}

fn entry(purge: &Purge, sequenced: &Sequenced) -> Entry {
    Entry {
        epoch: sequenced.epoch,
        sequence: sequenced.sequence,
        mark: sequenced.entry.clone(),
        previous: sequenced.previous,
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
