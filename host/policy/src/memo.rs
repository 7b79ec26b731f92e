//! Remembered decisions: a tree of what a policy reads, in the order it reads it.
//!
//! A call that touched no capability is a function of its reads. The tree has a node for
//! each read ("which input is asked next"), an edge for each answer, and the decision as a
//! leaf. A request walks it natively; what it does not know yet runs the policy, which
//! adds a leaf. Inputs that a key only *names* are not read, and add no branch.
//!
//! Hidden state in a guest would make this wrong, so a leaf serves only after two
//! instances agreed on it, a sample of what is remembered is run again, and the first
//! call that departs from the tree switches the memo off for good.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::decision::Decision;
use crate::reads::{Answer, Read, ReadInput, Reads};
use crate::request::RequestHead;

/// The most nodes of a tree. Beyond it nothing is added, so that random requests cannot
/// drive out what is remembered.
const MAX_NODES: usize = 8_192;
/// The most bytes of questions and answers of a tree.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// One in so many remembered decisions is asked again.
const SAMPLE: u32 = 256;

/// The largest decision that is remembered, in bytes.
const MAX_DECISION: usize = 16 * 1024;

/// What the memo knows about a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Recall {
    /// The decision, which two instances agreed on.
    Known(Decision),
    /// Ask the policy, if possible on another instance than this one.
    Ask {
        /// The instance that gave the only opinion so far; 0 for none.
        but_not: u64,
    },
}

#[derive(Debug)]
enum Node {
    Branch {
        input: ReadInput,
        edges: HashMap<Answer, usize>,
    },
    Leaf {
        decision: Decision,
        /// The instance that decided so first.
        by: u64,
        /// Another one agreed.
        agreed: bool,
    },
}

#[derive(Debug, Default)]
struct Tree {
    /// The first one is the root.
    nodes: Vec<Node>,
    bytes: usize,
}

/// What a call that was made told the memo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lesson {
    /// Nothing to change.
    Known,
    /// A leaf or its agreement is missing.
    New,
    /// The call cannot be a function of its reads.
    Departed,
}

/// The remembered decisions of one policy version.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    tree: RwLock<Tree>,
    off: AtomicBool,
    recalled: AtomicU64,
}

impl Memo {
    /// The remembered decision for a request, but for a sample that is to be asked again.
    pub(crate) fn serve(&self, head: &RequestHead) -> Option<Decision> {
        let Recall::Known(decision) = self.recall(head) else {
            return None;
        };
        if fastrand::u32(..SAMPLE) == 0 {
            return None;
        }
        self.recalled.fetch_add(1, Ordering::Relaxed);
        Some(decision)
    }

    /// What is remembered for a request.
    pub(crate) fn recall(&self, head: &RequestHead) -> Recall {
        let ask = Recall::Ask { but_not: 0 };
        if self.is_off() {
            return ask;
        }
        let tree = self.tree.read();
        let mut at = 0;
        loop {
            match tree.nodes.get(at) {
                None => return ask,
                Some(Node::Branch { input, edges }) => match edges.get(&input.answer(head)) {
                    Some(next) => at = *next,
                    None => return ask,
                },
                Some(Node::Leaf {
                    by, agreed: false, ..
                }) => return Recall::Ask { but_not: *by },
                Some(Node::Leaf { decision, .. }) => return Recall::Known(decision.clone()),
            }
        }
    }

    /// What the remembered decision for a request rests on, in the order it was read.
    /// Nothing where none is remembered.
    pub(crate) fn inputs(&self, head: &RequestHead) -> Vec<ReadInput> {
        let tree = self.tree.read();
        let mut inputs = Vec::new();
        let mut at = 0;
        loop {
            match tree.nodes.get(at) {
                Some(Node::Branch { input, edges }) => {
                    inputs.push(input.clone());
                    match edges.get(&input.answer(head)) {
                        Some(next) => at = *next,
                        None => return Vec::new(),
                    }
                }
                Some(Node::Leaf { .. }) => return inputs,
                None => return Vec::new(),
            }
        }
    }

    /// Remembers nothing from now on: the policy depends on more than it reads.
    pub(crate) fn turn_off(&self) {
        self.off.store(true, Ordering::Release);
        *self.tree.write() = Tree::default();
    }

    /// Learns from a call that was made. Answers whether the memo was switched off by it.
    pub(crate) fn learn(&self, reads: &Reads, decision: &Decision, by: u64) -> bool {
        if self.is_off() {
            return false;
        }
        let (lesson, has_room) = {
            let tree = self.tree.read();
            let lesson = tree.compare(reads, decision, by);
            (lesson, tree.has_room(&reads.list, decision))
        };
        match lesson {
            Lesson::New if !has_room => false,
            Lesson::Known => false,
            Lesson::New => {
                self.tree.write().add(reads, decision, by);
                false
            }
            Lesson::Departed => {
                self.turn_off();
                true
            }
        }
    }

    /// Whether the policy was found to depend on more than what it reads.
    pub(crate) fn is_off(&self) -> bool {
        self.off.load(Ordering::Acquire)
    }

    /// Decisions that were given without a call.
    pub(crate) fn recalled(&self) -> u64 {
        self.recalled.load(Ordering::Relaxed)
    }
}

impl Tree {
    /// Follows a call's reads. Says what the tree makes of them; changes nothing.
    fn compare(&self, reads: &Reads, decision: &Decision, by: u64) -> Lesson {
        let mut at = 0;
        let mut rest = reads.list.iter();
        loop {
            let node = match self.nodes.get(at) {
                None if reads.impure => return Lesson::Known,
                None => return Lesson::New,
                Some(node) => node,
            };
            match (node, rest.next()) {
                (Node::Branch { input, edges }, Some(read)) if *input == read.input => {
                    match edges.get(&read.answer) {
                        Some(next) => at = *next,
                        None if reads.impure => return Lesson::Known,
                        None => return Lesson::New,
                    }
                }
                (
                    Node::Leaf {
                        decision: known, ..
                    },
                    None,
                ) if reads.impure || known != decision => {
                    return Lesson::Departed;
                }
                (
                    Node::Leaf {
                        by: first, agreed, ..
                    },
                    None,
                ) => {
                    return match *agreed || *first == by {
                        true => Lesson::Known,
                        false => Lesson::New,
                    };
                }
                // What a capability answered may lead a call elsewhere.
                (Node::Branch { .. }, _) if reads.impure => return Lesson::Known,
                // It stopped early, went on, or asked something else.
                _ => return Lesson::Departed,
            }
        }
    }

    /// Adds what `compare` found new. Another call may have added it meanwhile, or have
    /// filled the tree: then nothing happens.
    fn add(&mut self, reads: &Reads, decision: &Decision, by: u64) {
        if self.compare(reads, decision, by) != Lesson::New {
            return;
        }
        let mut at = 0;
        let mut rest = reads.list.as_slice();
        while let Some(Node::Branch { edges, .. }) = self.nodes.get(at) {
            // `compare` has seen that the read is there.
            let Some((read, later)) = rest.split_first() else {
                return;
            };
            match edges.get(&read.answer) {
                Some(next) => {
                    at = *next;
                    rest = later;
                }
                None => return self.grow(at, rest, decision, by),
            }
        }
        match self.nodes.get_mut(at) {
            Some(Node::Leaf { agreed, .. }) => *agreed = true,
            _ => self.plant(rest, decision, by),
        }
    }

    /// Adds an edge to the branch at `at` for the first of `rest`, and what follows it.
    fn grow(&mut self, at: usize, rest: &[Read], decision: &Decision, by: u64) {
        let Some((first, later)) = rest.split_first() else {
            return;
        };
        if !self.has_room(rest, decision) {
            return;
        }
        let next = self.nodes.len();
        if let Some(Node::Branch { edges, .. }) = self.nodes.get_mut(at) {
            edges.insert(first.answer.clone(), next);
            self.bytes += first.answer.len();
            self.append(later, decision, by);
        }
    }

    /// The first call of all.
    fn plant(&mut self, reads: &[Read], decision: &Decision, by: u64) {
        if self.nodes.is_empty() && self.has_room(reads, decision) {
            self.append(reads, decision, by);
        }
    }

    fn has_room(&self, reads: &[Read], decision: &Decision) -> bool {
        let bytes: usize = reads
            .iter()
            .map(|read| read.input.len() + read.answer.len())
            .sum();
        let decision = decision.weight();
        decision <= MAX_DECISION
            && self.nodes.len() + reads.len() < MAX_NODES
            && self.bytes + bytes + decision <= MAX_BYTES
    }

    /// Appends a chain of branches and its leaf; the first of them lands at the end.
    fn append(&mut self, reads: &[Read], decision: &Decision, by: u64) {
        for read in reads {
            let next = self.nodes.len() + 1;
            self.bytes += read.input.len() + read.answer.len();
            self.nodes.push(Node::Branch {
                input: read.input.clone(),
                edges: HashMap::from([(read.answer.clone(), next)]),
            });
        }
        self.bytes += decision.weight();
        self.nodes.push(Node::Leaf {
            decision: decision.clone(),
            by,
            agreed: false,
        });
    }
}

#[cfg(test)]
mod tests;
