//! One schedule: random steps, then calm, in which everything must settle.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use weir_semantics::Timestamp;
use weir_store::log::{Fleet, Limits, Log, Scope};

use crate::calls::Link;
use crate::coverage::{Counts, Event};
use crate::disk::Paper;
use crate::executor::Executor;
use crate::fault::Fault;
use crate::ledger::{Before, Known};
use crate::mood::{Mood, Step};
use crate::node::Node;
use crate::server::Caps;
use crate::universe::{OBJECTS, universe};
use crate::world::{Place, Shared, World};

/// How many nodes there are.
pub const NODES: usize = 3;

/// The longest life of an object.
pub(crate) const LIFE_MILLIS: u64 = 60_000;

/// What one schedule came to.
#[derive(Debug)]
pub struct Outcome {
    /// Steps, those to settle included.
    pub steps: u64,
    /// How often what happened.
    pub counts: Counts,
    /// What must not be, if it was.
    pub violation: Option<String>,
    /// What happened, if that was asked for.
    pub trace: Vec<String>,
}

pub(crate) struct Schedule {
    pub(crate) shared: Shared,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) executor: Executor,
    pub(crate) limits: Limits,
    pub(crate) mood: Mood,
}

/// Runs the schedule of a seed.
pub fn run(seed: u64, steps: u64, fault: Option<Fault>, traced: bool) -> Outcome {
    // Identities of purges come from here too.
    fastrand::seed(seed);
    let mut schedule = Schedule::new(seed, fault, traced);
    for _ in 0..steps {
        schedule.step();
        if schedule.shared.world().violation.is_some() {
            break;
        }
    }
    schedule.settle();
    let mut world = schedule.shared.world();
    Outcome {
        steps: world.step,
        counts: world.counts,
        violation: world.violation.take(),
        trace: world.trace.take().unwrap_or_default(),
    }
}

impl Schedule {
    fn new(seed: u64, fault: Option<Fault>, traced: bool) -> Self {
        let caps = Caps {
            counters: 5,
            prefixes: 2,
            stream: 12,
            page: 3,
            life: LIFE_MILLIS,
        };
        let mut world = World::new(seed, caps, fault, traced);
        // Two marks in a bucket.
        let limits = Limits {
            counters: 2_048,
            prefixes: 2,
            pending: if world.rng.u32(..8) == 0 { 2 } else { 10_000 },
            longest_life: Duration::from_millis(LIFE_MILLIS),
            coherence_window: Duration::from_millis(world.window),
            ..Limits::default()
        };
        let mood = Mood::any(&mut world.rng);
        world.laggard = Some(world.rng.usize(..2 * NODES)).filter(|at| *at < NODES);
        for _ in 0..NODES {
            let place = Place {
                link: true,
                durable: world.rng.u32(..4) > 0,
                // Clocks differ by minutes at most: see `timeline.rs`.
                ahead: [0, 0, 700, 300_000][world.rng.usize(..4)],
                ..Place::default()
            };
            world.places.push(place);
        }
        let mut this = Self {
            shared: Shared(Arc::new(Mutex::new(world))),
            nodes: (0..NODES).map(|_| None).collect(),
            executor: Executor::default(),
            limits,
            mood,
        };
        for at in 0..NODES {
            this.start(at);
        }
        this
    }

    pub(crate) fn start(&mut self, at: usize) {
        let link = Arc::new(Link {
            shared: self.shared.clone(),
            node: at,
        }) as Arc<dyn Fleet>;
        let (durable, contents, now, incarnation) = {
            let mut world = self.shared.world();
            let now = world.clock(at);
            let place = &mut world.places[at];
            place.up = true;
            place.incarnation += 1;
            (
                place.durable,
                place.disk.contents.clone(),
                now,
                place.incarnation,
            )
        };
        let log = if durable {
            let paper = Arc::new(Paper {
                shared: self.shared.clone(),
                node: at,
            });
            let (log, whole) = Log::recovered(self.limits, link, paper, contents.as_deref(), now);
            let mut world = self.shared.world();
            world.places[at].disk.contents = Some(whole);
            self.recovered(&mut world, at, log.pending());
            log
        } else {
            Log::new(self.limits, Some(link))
        };
        let node = Node::new(
            self.shared.clone(),
            at,
            incarnation,
            log,
            self.executor.spawn.clone(),
        );
        self.executor.spawn.start(at, node.clone().follow());
        self.nodes[at] = Some(node);
    }

    /// What this node had acknowledged and Redis has not, it knows from its journal.
    fn recovered(&self, world: &mut World, at: usize, pending: usize) {
        let (by, step) = ((at, world.places[at].incarnation), world.step);
        for _ in 0..pending {
            world.note(Event::Recovered, || format!("node {at}"));
        }
        let is_kept = |known: &&mut Known| {
            known.by.0 == at
                && known.taken.is_none()
                && matches!(known.answered, Some((_, Scope::Node, true)))
        };
        for known in world.ledger.purges.iter_mut().filter(is_kept) {
            known.knowers.push((by, step));
        }
    }

    fn step(&mut self) {
        let (dice, at) = {
            let mut world = self.shared.world();
            world.step += 1;
            world.now += 1;
            let at = world.rng.usize(..NODES);
            (self.mood.step(&mut world.rng), at)
        };
        match dice {
            Step::Call => drop(self.shared.world().some_call()),
            Step::Disk => drop(self.shared.world().some_disk(at)),
            Step::Request => self.request(at),
            Step::Purge => self.purge(at),
            Step::Clock => self.clock(at),
            Step::Trouble => self.disturb(at),
        }
        self.executor.poll();
        self.bounded();
    }

    fn request(&mut self, at: usize) {
        let Some(node) = self.nodes[at].clone() else {
            return;
        };
        let key = {
            let rng = &mut self.shared.world().rng;
            // One object is asked for more than the others.
            match self.mood.narrow && rng.u32(..4) > 0 {
                true => 0,
                false => rng.usize(..OBJECTS + 2) % OBJECTS,
            }
        };
        self.executor.spawn.start(at, node.request(key));
    }

    pub(crate) fn purge(&mut self, at: usize) {
        let Some(node) = self.nodes[at].clone() else {
            return;
        };
        let before = self.nodes.iter().flatten();
        let mut before: Vec<_> = before.filter_map(|it| Before::of(&it.log)).collect();
        let last = self.last();
        let mut world = self.shared.world();
        world.stand(&mut before, &last);
        let selectors = &universe().selectors;
        let mut any = || {
            let at = world.rng.usize(..selectors.len() * 3 / 2);
            &selectors[at % selectors.len()]
        };
        let mut drawn = any();
        while self.mood.narrow && !drawn.1[0] {
            drawn = any();
        }
        let (selector, names) = drawn;
        let soft = world.rng.u32(..3) == 0;
        let selector = if soft {
            selector.clone().soft()
        } else {
            selector.clone()
        };
        // The moment is its name.
        let purges = &world.ledger.purges;
        let mut made = world.clock(at).as_millis();
        while purges.iter().any(|known| known.made == made) {
            made += 1;
        }
        let purge = purges.len();
        let asked = world.when();
        world.ledger.purges.push(Known {
            names: *names,
            soft,
            asked,
            made,
            by: (at, node.incarnation),
            answered: None,
            taken: None,
            lost: false,
            knowers: Vec::new(),
            before,
        });
        let event = if soft {
            Event::PurgeSoft
        } else {
            Event::PurgeHard
        };
        world.note(event, || format!("{purge} on node {at}: {selector:?}"));
        world.note_phases(names);
        drop(world);
        let made = Timestamp::from_millis(made);
        let spawn = &self.executor.spawn;
        spawn.start(at, node.purge(purge, vec![selector], made));
    }

    fn clock(&mut self, at: usize) {
        let contact = self.nodes[at].as_ref().map(|node| node.log.last_contact());
        let mut world = self.shared.world();
        let by = match world.rng.u32(..100) {
            0..50 => world.rng.u64(1..100),
            50..70 => world.rng.u64(100..1_500),
            70..85 => {
                // A request soon after finds out for how long exactly memory is trusted.
                let ends = contact.map_or(0, Timestamp::as_millis) + world.window;
                let left = ends.saturating_sub(world.clock(at).as_millis());
                if left > 0 {
                    world.note(Event::EdgeStep, || format!("node {at}"));
                }
                left.saturating_sub(world.rng.u64(..8))
            }
            85..97 => {
                world.note(Event::ClockStep, String::new);
                world.rng.u64(2_001..9_000)
            }
            97..99 => world.rng.u64(9_000..30_000),
            _ => {
                world.note(Event::LifeStep, String::new);
                700_000
            }
        };
        world.now += by;
    }
}
