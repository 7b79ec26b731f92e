//! Why an object is not valid, for a person who asks. No request comes here.

use super::Log;
use super::marks::{Mark, Table};
use super::name::{Kind, Kinds};
use super::subject::Subject;
use crate::Object;

/// A purge, or something as good as one, that concerns an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    /// What was named: `key`, `url`, `tag`, `namespace`, `prefix` or `all`; `forgotten` for
    /// counters that were dropped for lack of room, and `epoch` for an object of a log that
    /// is gone.
    pub named: &'static str,
    /// The sequence of the purge; 0 for `epoch`.
    pub sequence: u64,
    /// Whether that sequence is this node's own, rather than the fleet's.
    pub of_node: bool,
    /// Whether the object is still good for its stale windows.
    pub soft: bool,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Key, "key"),
    (Kind::Url, "url"),
    (Kind::Tag, "tag"),
    (Kind::Namespace, "namespace"),
    (Kind::All, "all"),
];

impl Log {
    /// What the verdict on an object rests on; nothing for a valid one.
    pub fn causes(&self, object: &Object) -> Vec<Cause> {
        let state = self.0.state.read();
        let position = object.position();
        if position.epoch != state.standing.epoch {
            return vec![Cause {
                named: "epoch",
                sequence: 0,
                of_node: false,
                soft: false,
            }];
        }
        let subject = Subject::of(object);
        let mut causes = Vec::new();
        for (table, since, of_node) in [
            (&state.fleet, position.fleet, false),
            (&state.node, position.node, true),
        ] {
            let mut add = |named, mark: Mark| {
                for (sequence, soft) in [(mark.hard, false), (mark.soft, true)] {
                    let cause = Cause {
                        named,
                        sequence,
                        of_node,
                        soft,
                    };
                    if sequence > since && !causes.contains(&cause) {
                        causes.push(cause);
                    }
                }
            };
            of_table(table, &subject, &mut add);
        }
        causes
    }
}

fn of_table(table: &Table, subject: &Subject<'_>, add: &mut impl FnMut(&'static str, Mark)) {
    for (kind, named) in KINDS {
        for scoped in [false, true] {
            subject.each_hash(Kinds::of(kind, scoped), |hash| {
                let (mark, floor) = table.named(hash);
                add(named, mark);
                add(
                    "forgotten",
                    Mark {
                        hard: floor,
                        ..Mark::default()
                    },
                );
            });
        }
    }
    table.prefixes_of(subject, |mark| add("prefix", *mark));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Limits, Selector, Target, Verdict};
    use crate::testing::{NOW, parts};
    use crate::{ObjectParts, Position, Tags};

    #[tokio::test]
    async fn the_verdict_rests_on_what_was_named_and_on_nothing_else() {
        let log = Log::new(Limits::default(), None);
        let stored = Object::new(ObjectParts {
            tags: Tags::new(["a", "b"]).unwrap(),
            position: log.position(),
            ..parts("http://h|user:profile:42", "")
        });
        assert_eq!(log.causes(&stored), []);
        let other = Selector::new(Target::Tag("c".into()));
        log.invalidate(&[other], NOW).await;
        assert_eq!(log.causes(&stored), []);
        for (target, soft) in [
            (Target::Tag("b".into()), true),
            (Target::Prefix("user:prof".into()), false),
            (Target::Namespace("user".into()), false),
            (Target::Key("user:profile:42".into()), false),
            (Target::Url(stored.url().to_string()), false),
            (Target::All, false),
        ] {
            let soft = Selector {
                soft,
                ..Selector::new(target)
            };
            log.invalidate(&[soft], NOW).await;
        }
        let mut causes = log.causes(&stored);
        causes.sort_by_key(|cause| cause.sequence);
        let named: Vec<_> = causes.iter().map(|it| (it.named, it.soft)).collect();
        assert_eq!(
            named,
            [
                ("tag", true),
                ("prefix", false),
                ("namespace", false),
                ("key", false),
                ("url", false),
                ("all", false),
            ]
        );
        assert!(causes.iter().all(|cause| cause.of_node));
        assert_eq!(log.verdict(&stored), Verdict::Dead);
        let of_another = Object::new(ObjectParts {
            position: Position {
                epoch: 7,
                ..Position::default()
            },
            ..stored.to_parts()
        });
        assert_eq!(log.causes(&of_another)[0].named, "epoch");
    }
}
