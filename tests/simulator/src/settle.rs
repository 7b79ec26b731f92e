//! What must hold at every step, and at the end.

use weir_store::log::{Scope, Verdict};

use crate::coverage::Event;
use crate::ledger::Known;
use crate::oracle::By;
use crate::schedule::{LIFE_MILLIS, NODES, Schedule};
use crate::universe::{OBJECTS, old_object};

impl Schedule {
    /// Nothing grows without bound.
    pub(crate) fn bounded(&mut self) {
        let kept = self.shared.world().server.kept();
        let mut worst = (kept.0 > 5 || kept.1 > 2).then(|| format!("Redis keeps {kept:?}"));
        for node in self.nodes.iter().flatten() {
            // Two tables, each with two marks a bucket at most, and two prefixes.
            let (counters, pending) = (node.log.counters(), node.log.pending());
            if counters > 2 * (40 + 2) || pending > self.limits.pending {
                worst = Some(format!(
                    "node {} keeps {counters} counters and {pending} purges",
                    node.at
                ));
            }
        }
        if let Some(worst) = worst {
            self.shared.world().violated(worst);
        }
    }

    /// Everything works from now on: every purge that is not lost must come to be known
    /// everywhere.
    pub(crate) fn settle(&mut self) {
        if self.shared.world().violation.is_some() {
            return;
        }
        {
            let mut world = self.shared.world();
            world.calm = true;
            world.server_up = true;
            for place in &mut world.places {
                place.link = true;
            }
        }
        for at in 0..NODES {
            if self.nodes[at].is_none() {
                self.restart(at);
            }
        }
        for round in 0..4_000 {
            {
                let mut world = self.shared.world();
                world.step += 1;
                world.now += 1;
                for at in 0..NODES {
                    world.some_disk(at);
                }
                world.some_call();
            }
            self.executor.poll();
            if round % 16 == 15 && self.is_settled() {
                return self.all_known();
            }
        }
        self.shared.world().violated("it did not settle".into());
    }

    fn is_settled(&self) -> bool {
        let seen = {
            let world = self.shared.world();
            if world.is_busy() {
                return false;
            }
            world.server.seen()
        };
        self.nodes.iter().flatten().all(|node| {
            let standing = node.log.standing();
            // The sequence alone can be that of a log which a failover has ended.
            let entry = standing.entry.map_or(0, |entry| entry.nonce);
            node.log.pending() == 0
                && seen.epoch == Some(standing.epoch)
                && seen.sequence == standing.applied
                && seen.nonce == entry
        })
    }

    fn all_known(&mut self) {
        self.shared.world().note(Event::Settled, String::new);
        let purges = self.shared.world().ledger.purges.clone();
        for (purge, known) in purges.iter().enumerate() {
            let Some((_, scope, durable)) = known.answered else {
                continue;
            };
            // No object from before it can be left: it may be forgotten.
            if known.asked.millis + LIFE_MILLIS < self.shared.world().now {
                continue;
            }
            let known_still =
                self.is_alive(&known.by) || self.any_alive(known.knowers.iter().map(|(by, _)| by));
            let kept = known.taken.is_some() && !known.lost;
            let promised = kept || known_still || (scope == Scope::Node && durable && !known.lost);
            if promised {
                self.is_known(purge, known);
            }
        }
    }

    fn is_alive(&self, by: &By) -> bool {
        let node = self.nodes[by.0].as_ref();
        node.is_some_and(|node| node.incarnation == by.1)
    }

    fn any_alive<'a>(&self, mut knowers: impl Iterator<Item = &'a By>) -> bool {
        knowers.any(|by| self.is_alive(by))
    }

    fn is_known(&self, purge: usize, known: &Known) {
        for node in self.nodes.iter().flatten() {
            for before in &known.before {
                // A place in a history that is gone, with all who knew it.
                if (before.lost.as_ref()).is_some_and(|knew| !self.any_alive(knew.iter())) {
                    continue;
                }
                let position = before.position;
                for key in (0..OBJECTS).filter(|key| known.names[*key]) {
                    let object = old_object(key, position, &self.shared.world(), node.at);
                    let verdict = node.log.verdict(&object);
                    let obeyed = match verdict {
                        Verdict::Dead => true,
                        Verdict::Soft(_) => known.soft,
                        Verdict::Valid => false,
                    };
                    if !obeyed {
                        self.shared.world().violated(format!(
                            "purge {purge} is lost: node {} finds object {key} of {position:?} \
                             {verdict:?}; {known:?}",
                            node.at
                        ));
                        return;
                    }
                }
            }
        }
    }
}
