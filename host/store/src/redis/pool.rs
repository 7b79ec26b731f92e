//! The connections to one server, shared by all calls to it.
//!
//! A call takes the first connection that is not crowded, so that calls which come at the
//! same time are written and answered together; the others are for when it is. What no
//! request waits for has a connection of its own, where there are two: what it writes is
//! large, and a request's answer would come behind it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::error::CallError;
use super::link::Link;
use super::stats::PoolState;

/// How many calls share a connection before another one is taken, or opened.
const CROWD: u32 = 32;

/// How long a connection beyond those that are kept is idle before it is closed.
const IDLE: Duration = Duration::from_secs(60);

/// For whom a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// For a request that waits.
    Request,
    /// For nobody who waits.
    Background,
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    most: usize,
    least: usize,
    links: Mutex<Vec<Arc<Link>>>,
    /// Wakes whoever opens connections: the node's keeper.
    wanted: Arc<Notify>,
    /// The outcome of the last attempt to open one.
    opened: watch::Sender<Option<CallError>>,
}

impl Pool {
    pub(super) fn new(most: u32, least: u32) -> Self {
        Self {
            most: most as usize,
            least: least as usize,
            links: Mutex::default(),
            wanted: Arc::default(),
            opened: watch::Sender::new(None),
        }
    }

    /// A connection for a call, at once if there is one; else when it has been opened, or
    /// the reason why it has not.
    pub(super) async fn take(&self, lane: Lane) -> Result<Arc<Link>, CallError> {
        if let Some(link) = self.pick(lane) {
            return Ok(link);
        }
        let mut opened = self.opened.subscribe();
        loop {
            if let Some(link) = self.pick(lane) {
                return Ok(link);
            }
            self.wanted.notify_one();
            if opened.changed().await.is_err() {
                return Err(CallError::Down);
            }
            if let Some(error) = opened.borrow_and_update().clone() {
                return Err(error);
            }
        }
    }

    fn pick(&self, lane: Lane) -> Option<Arc<Link>> {
        let links = self.links.lock();
        let mine = match (lane, links.split_first()) {
            (Lane::Background, Some((first, _))) if !first.closed() => std::slice::from_ref(first),
            (Lane::Request, Some((_, rest))) if !rest.is_empty() => rest,
            _ => &links[..],
        };
        let mut best: Option<(&Arc<Link>, u32)> = None;
        for link in mine.iter().filter(|link| !link.closed()) {
            let crowd = link.in_flight();
            if best.is_none_or(|(_, least)| crowd < least) {
                best = Some((link, crowd));
            }
            if crowd < CROWD {
                break;
            }
        }
        let crowded = best.is_none_or(|(_, crowd)| crowd >= CROWD);
        let best = best.map(|(link, _)| Arc::clone(link));
        if crowded && links.len() < self.most {
            self.wanted.notify_one();
        }
        best
    }

    /// Told when a connection may have to be opened.
    pub(super) fn wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.wanted)
    }

    /// Has the keeper look at once.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Drops connections that have ended, and those beyond the least that have had nothing
    /// to do for long. Whether one is to be opened.
    pub(super) fn tend(&self) -> bool {
        let mut links = self.links.lock();
        links.retain(|link| !link.closed());
        let spare = links.len().saturating_sub(self.least);
        let idle = links.iter().rev().take(spare);
        let idle = idle.take_while(|link| link.idle() > IDLE).count();
        let kept = links.len() - idle;
        links.truncate(kept);
        let rest = if links.len() > 1 {
            &links[1..]
        } else {
            &links[..]
        };
        let crowded = rest.iter().all(|link| link.in_flight() >= CROWD);
        links.len() < self.least || (crowded && links.len() < self.most && !self.quiet(&links))
    }

    /// Whether nobody waits for a connection, and there is none.
    fn quiet(&self, links: &[Arc<Link>]) -> bool {
        links.is_empty() && self.opened.receiver_count() == 0
    }

    /// Adds a connection that has been opened, or tells those who wait why there is none.
    pub(super) fn add(&self, opened: Result<Link, CallError>) {
        let outcome = match opened {
            Ok(link) => {
                self.links.lock().push(Arc::new(link));
                None
            }
            Err(error) => Some(error),
        };
        self.opened.send_replace(outcome);
    }

    /// A connection is not used again: it hangs, or has ended.
    pub(super) fn discard(&self, link: &Arc<Link>) {
        self.links.lock().retain(|other| !Arc::ptr_eq(other, link));
        self.wanted.notify_one();
    }

    /// No connection that exists now is used again.
    pub(super) fn discard_all(&self) {
        self.links.lock().clear();
    }

    pub(super) fn state(&self) -> PoolState {
        let links = self.links.lock();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        PoolState {
            connections: count(links.len()),
            idle: count(links.iter().filter(|link| link.in_flight() == 0).count()),
        }
    }
}
