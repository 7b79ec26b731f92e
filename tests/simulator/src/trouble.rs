//! What breaks, and is mended.

use crate::coverage::Event;
use crate::ledger::last_of;
use crate::mood::Trouble;
use crate::node::Node;
use crate::oracle::By;
use crate::schedule::{NODES, Schedule};
use crate::server::Server;
use crate::world::World;

impl Schedule {
    pub(crate) fn disturb(&mut self, at: usize) {
        let (trouble, cut) = {
            let mut world = self.shared.world();
            // What is broken is mended sooner than something else breaks.
            let cut = (0..NODES).find(|at| !world.places[*at].link);
            let mend = world.rng.u32(..3) == 0;
            match self.mood.trouble(&mut world.rng) {
                _ if mend && !world.server_up => (Trouble::Server, None),
                _ if mend && cut.is_some() => (Trouble::Link, cut),
                Some(trouble) => (trouble, None),
                None => return,
            }
        };
        let crashed = (0..NODES).find(|at| self.nodes[*at].is_none());
        match trouble {
            Trouble::Link => {
                let mut world = self.shared.world();
                let at = cut.unwrap_or(at);
                let up = !world.places[at].link;
                world.places[at].link = up;
                let event = if up { Event::LinkUp } else { Event::LinkDown };
                world.note(event, || format!("node {at}"));
            }
            Trouble::Server => {
                let mut world = self.shared.world();
                world.server_up = !world.server_up;
                let event = if world.server_up {
                    Event::RedisUp
                } else {
                    Event::RedisDown
                };
                world.note(event, String::new);
            }
            Trouble::Replicate => {
                let mut world = self.shared.world();
                world.replica = world.server.clone();
                world.note(Event::Replicated, String::new);
            }
            Trouble::Failover => {
                let lost = {
                    let world = self.shared.world();
                    let (old, new) = (world.server.seen(), world.replica.seen());
                    old.sequence.saturating_sub(new.sequence).min(5)
                };
                self.replace(|world| world.replica.clone(), Event::Failover);
                // Purges soon after can take the places of those that were lost, before
                // the nodes that knew these have noticed.
                let any = self.shared.world().rng.u64(..12);
                let purges = if any < 4 { any } else { lost };
                for _ in 0..purges {
                    let at = self.shared.world().rng.usize(..NODES);
                    self.purge(at);
                }
            }
            Trouble::Save => {
                let mut world = self.shared.world();
                world.saved = world.server.clone();
                world.note(Event::Snapshot, String::new);
            }
            Trouble::OldSnapshot => {
                self.replace(|world| world.saved.clone(), Event::OldSnapshot);
            }
            Trouble::Flush => {
                let mut world = self.shared.world();
                world.server.flush();
                world.note(Event::Flush, String::new);
            }
            Trouble::Crash => match crashed {
                None => self.crash(at),
                Some(crashed) => self.restart(crashed),
            },
        }
    }

    fn replace(&mut self, with: impl FnOnce(&World) -> Server, event: Event) {
        let nodes = self.last();
        let mut world = self.shared.world();
        let server = with(&world);
        world.note(event, String::new);
        world.succeed(server, &nodes);
        world.server_up = true;
    }

    fn crash(&mut self, at: usize) {
        self.executor.end(at);
        self.nodes[at] = None;
        let mut world = self.shared.world();
        world.note(Event::Crash, || format!("node {at}"));
        world.forget_calls(at);
        world.tear(at);
        let place = &mut world.places[at];
        place.up = false;
        place.queue.clear();
    }

    pub(crate) fn restart(&mut self, at: usize) {
        self.shared
            .world()
            .note(Event::Restart, || format!("node {at}"));
        self.start(at);
    }

    /// The nodes that run, each with the last entry that it has applied.
    pub(crate) fn last(&self) -> Vec<(By, u64)> {
        let of = |node: &Node| ((node.at, node.incarnation), last_of(&node.log));
        self.nodes.iter().flatten().map(of).collect()
    }
}
