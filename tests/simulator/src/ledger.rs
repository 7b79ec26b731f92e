//! What became of each purge: asked for, taken, answered, lost.

use weir_store::Position;
use weir_store::log::{Log, Purge, Scope, Selector, Target};

use crate::coverage::Event;
use crate::oracle::{self, By, Content, Serve, When};
use crate::server::{Server, number};
use crate::universe::OBJECTS;
use crate::world::World;

/// All purges and responses of a schedule.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Purges, in the order in which they were asked for.
    pub purges: Vec<Known>,
    /// Responses.
    pub contents: Vec<Content>,
    /// Entries of Redis's log, in all its histories: each id, and that before it.
    entries: Vec<(u64, u64)>,
    /// Ids of purges that Redis took: in which epoch, and as which entry.
    taken: Vec<(String, u64, u64)>,
    /// Those entries that Redis had, and lost in a failover.
    lost: Vec<u64>,
}

/// A purge, as seen from outside.
#[derive(Clone, Debug)]
pub struct Known {
    /// Which objects it names.
    pub names: [bool; OBJECTS],
    /// Whether it is soft.
    pub soft: bool,
    /// When it was asked for.
    pub asked: When,
    /// When it was asked for, by the node's clock: no two have the same.
    pub made: u64,
    /// Who was asked.
    pub by: By,
    /// The answer.
    pub answered: Option<(When, Scope, bool)>,
    /// When Redis took it, and as which entry.
    pub taken: Option<(When, u64)>,
    /// Redis had it, and has it no more.
    pub lost: bool,
    /// Who knew it when it was lost, or has it from a journal, and by which step.
    pub knowers: Vec<(By, u64)>,
    /// Where the nodes stood when it was asked for.
    pub before: Vec<Before>,
}

/// Where a node stood.
#[derive(Clone, Debug)]
pub struct Before {
    /// Its position.
    pub position: Position,
    /// The last entry that it had applied.
    entry: u64,
    /// Redis lost that entry; these knew it then.
    pub lost: Option<Vec<By>>,
}

impl Before {
    /// Where this log stands; nothing if it has not been read yet.
    pub fn of(log: &Log) -> Option<Self> {
        let position = log.position();
        (position.epoch != 0).then(|| Self {
            position,
            entry: last_of(log),
            lost: None,
        })
    }
}

/// Those of these nodes that know an entry.
fn knowers(ledger: &Ledger, nodes: &[(By, u64)], entry: u64) -> Vec<By> {
    let know = nodes.iter().filter(|node| ledger.has(node.1, entry));
    know.map(|node| node.0).collect()
}

/// The last entry that a node has applied; 0 for none. Other than nonces, the ids of the
/// server's entries are unique: a purge that was lost is taken again.
pub fn last_of(log: &Log) -> u64 {
    log.standing().entry.map_or(0, |entry| number(&entry.id))
}

impl Ledger {
    /// A new history begins with this entry.
    pub(crate) fn began(&mut self, entry: u64) {
        self.entries.push((entry, 0));
    }

    /// Whether the history that ends with `last` has this entry.
    pub fn has(&self, mut last: u64, entry: u64) -> bool {
        while last != entry {
            let found = self.entries.iter().rev().find(|(it, _)| *it == last);
            match found {
                Some((_, before)) if *before != 0 => last = *before,
                _ => return false,
            }
        }
        true
    }
}

impl Ledger {
    /// The history that ended with `old` goes on as the one that ends with `new`.
    fn replaced(&mut self, old: u64, new: u64) {
        let gone = self.entries.iter().map(|it| it.0);
        let gone = gone.filter(|it| self.has(old, *it));
        let lost = self.lost.iter().copied().chain(gone);
        self.lost = lost.filter(|it| !self.has(new, *it)).collect();
    }
}

impl World {
    /// Holds a response against the promise.
    pub fn served(&mut self, serve: &Serve) {
        let (window, ledger) = (self.window, &self.ledger);
        // Made by a node that knew what Redis has lost, and has not noticed that yet. A
        // purge in its place has the same sequence, and does not remove what was made
        // after the lost one.
        if ledger.lost.contains(&serve.content.entry) {
            return self.note(Event::OfLostEntry, String::new);
        }
        let applied = |purge: &Known| {
            let entry = purge.taken.map(|(_, entry)| entry);
            entry.is_some_and(|entry| ledger.has(serve.last, entry))
        };
        let broken = ledger
            .purges
            .iter()
            .position(|purge| !oracle::allows(purge, serve, window, applied));
        if let Some(at) = broken {
            let purge = &ledger.purges[at];
            let what = format!(
                "node {} served object {} although purge {at} removed it: {serve:?}, {purge:?}",
                serve.by.0, serve.content.object
            );
            self.violated(what);
        }
    }

    /// Where the nodes stand now. Redis may have lost that already.
    pub fn stand(&self, before: &mut [Before], nodes: &[(By, u64)]) {
        let last = self.server.last_entry();
        for before in before {
            let has = self.ledger.has(last, before.entry);
            before.lost = (!has).then(|| knowers(&self.ledger, nodes, before.entry));
        }
    }

    /// A purge was answered.
    pub fn answered(&mut self, at: usize, scope: Scope, durable: bool) {
        let when = self.when();
        self.ledger.purges[at].answered = Some((when, scope, durable));
        let event = match (scope, durable) {
            (Scope::Fleet, _) => Event::AnsweredFleet,
            (Scope::Node, true) => Event::AnsweredDurable,
            (Scope::Node, false) => Event::AnsweredMemory,
        };
        self.note(event, || format!("purge {at}"));
    }

    /// Redis took a purge. Its last entry was `before`.
    pub(crate) fn took(&mut self, node: usize, purge: &Purge, epoch: u64, before: u64) {
        let entry = self.server.last_entry();
        let made = purge.at;
        let when = self.when();
        let has = |it: &(String, u64, u64)| {
            it.0 == purge.id && it.1 == epoch && self.server.has_taken(it.2)
        };
        if self.ledger.taken.iter().any(has) {
            self.violated(format!("Redis took one purge twice: {purge:?}"));
        }
        self.ledger.taken.push((purge.id.clone(), epoch, entry));
        self.ledger.entries.push((entry, before));
        // One of everything stands for those that waited with it.
        let everything = purge.selectors == [Selector::new(Target::All)];
        for at in 0..self.ledger.purges.len() {
            let known = &mut self.ledger.purges[at];
            let with_it =
                everything && known.by.0 == node && known.made < made && known.taken.is_none();
            if known.made == made || with_it {
                known.taken = Some((when, entry));
                known.lost = false;
                if with_it {
                    self.note(Event::Collapsed, || format!("purge {at}"));
                }
            }
        }
    }

    /// Another Redis takes over. What it does not have is lost. `nodes`: those that run,
    /// each with the last entry that it has applied.
    pub fn succeed(&mut self, mut server: Server, nodes: &[(By, u64)]) {
        server.succeed(&self.server);
        self.ledger
            .replaced(self.server.last_entry(), server.last_entry());
        self.server = server;
        let mut purges = std::mem::take(&mut self.ledger.purges);
        let step = self.step;
        let knowers = |entry: u64| knowers(&self.ledger, nodes, entry);
        let mut lost = Vec::new();
        for (at, purge) in purges.iter_mut().enumerate() {
            self.stand(&mut purge.before, nodes);
            if let Some((_, entry)) = purge.taken
                && !self.server.has_taken(entry)
            {
                let knew = knowers(entry).into_iter().map(|by| (by, step));
                purge.knowers.extend(knew);
                purge.lost = true;
                lost.push(at);
            }
        }
        self.ledger.purges = purges;
        for at in lost {
            self.note(Event::PurgeLost, || format!("purge {at}"));
        }
    }
}
