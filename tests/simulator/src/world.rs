//! All that is shared: Redis, its links, the disks, the clock, calls under way.

use std::fmt;
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use weir_semantics::Timestamp;
use weir_store::Object;

use crate::calls::{Answer, Call, UnderWay};
use crate::coverage::{Counts, EVENTS, Event};
use crate::disk::Disk;
use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::oracle::When;
use crate::server::{Caps, Server};

/// What of a node is not its log.
#[derive(Debug, Default)]
pub struct Place {
    /// Whether it is running.
    pub up: bool,
    /// Grows with each start.
    pub incarnation: u64,
    /// Whether it reaches Redis.
    pub link: bool,
    /// Whether it has a journal.
    pub durable: bool,
    /// Its clock is ahead by so much, in milliseconds.
    pub ahead: u64,
    /// Its journal.
    pub disk: Disk,
    /// Objects that wait to be written to Redis.
    pub queue: Vec<(usize, Arc<Object>)>,
}

/// The world of one schedule.
#[derive(Debug)]
pub struct World {
    /// Decides everything.
    pub rng: Rng,
    /// Steps so far; also orders what happens.
    pub step: u64,
    /// The true time, in milliseconds.
    pub now: u64,
    /// Redis.
    pub server: Server,
    /// Its replica.
    pub replica: Server,
    /// Its last snapshot on disk.
    pub saved: Server,
    /// Whether it answers.
    pub server_up: bool,
    /// The nodes.
    pub places: Vec<Place>,
    pub(crate) calls: Vec<UnderWay>,
    /// What has been promised, and what is served.
    pub ledger: Ledger,
    /// What went wrong.
    pub violation: Option<String>,
    /// What happened, if it is to be told.
    pub trace: Option<Vec<String>>,
    /// How often what happened.
    pub counts: Counts,
    /// What is broken on purpose.
    pub fault: Option<Fault>,
    /// No more failures: everything is to settle.
    pub calm: bool,
    /// In milliseconds.
    pub window: u64,
    /// This node hears news late: the connection for it is slow.
    pub laggard: Option<usize>,
}

/// The world, from everywhere.
#[derive(Clone)]
pub struct Shared(pub Arc<Mutex<World>>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// Never held while a log is called.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock()
    }

    /// Asks, and waits. `None`: no answer.
    pub async fn call(&self, node: usize, call: Call) -> Option<Answer> {
        let (caller, answer) = oneshot::channel();
        {
            let mut world = self.world();
            let sent = world.now;
            world.calls.push(UnderWay {
                node,
                call,
                sent,
                answer: None,
                caller: Some(caller),
            });
        }
        answer.await.ok()
    }
}

impl World {
    /// An empty world at its beginning.
    pub fn new(seed: u64, caps: Caps, fault: Option<Fault>, traced: bool) -> Self {
        let broken = crate::server::Broken {
            lost_tail: fault == Some(Fault::LostTail),
            old_epoch: fault == Some(Fault::OldEpoch),
            floors: fault == Some(Fault::NoFloor),
            chain: fault == Some(Fault::NoChain),
            prefix_is_tag: fault == Some(Fault::PrefixIsTag),
            soft: fault == Some(Fault::SoftForHard),
        };
        let server = Server::new(caps, broken);
        Self {
            rng: Rng::with_seed(seed),
            step: 0,
            now: 1_000_000_000,
            replica: server.clone(),
            saved: server.clone(),
            server,
            server_up: true,
            places: Vec::new(),
            calls: Vec::new(),
            ledger: Ledger::default(),
            violation: None,
            trace: traced.then(Vec::new),
            counts: [0; EVENTS],
            fault,
            calm: false,
            window: 2_000,
            laggard: None,
        }
    }

    /// Counts, and tells if asked to.
    pub fn note(&mut self, event: Event, more: impl FnOnce() -> String) {
        self.counts[event as usize] += 1;
        if let Some(trace) = &mut self.trace {
            let text = crate::coverage::TEXTS[event as usize];
            trace.push(format!(
                "{:>4} {:>9} {text} {}",
                self.step,
                self.now,
                more()
            ));
        }
    }

    /// Something that must not be.
    pub fn violated(&mut self, what: String) {
        if self.violation.is_none() {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{:>4} VIOLATION {what}", self.step));
            }
            self.violation = Some(what);
        }
    }

    /// A node's clock.
    pub fn clock(&self, node: usize) -> Timestamp {
        Timestamp::from_millis(self.now + self.places[node].ahead)
    }

    /// Now.
    pub fn when(&mut self) -> When {
        // Each moment is one of its own.
        self.step += 1;
        When {
            step: self.step,
            millis: self.now,
        }
    }

    /// True once in so many times; never once all is calm.
    pub fn once_in(&mut self, times: u32) -> bool {
        !self.calm && self.rng.u32(..times) == 0
    }
}
