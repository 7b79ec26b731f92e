//! The tree of remembered decisions. It only grows, and what is in it does not change, so that
//! reading takes no lock; adding is for one at a time.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use ahash::RandomState;

use super::Lesson;
use crate::decision::Decision;
use crate::reads::{Answer, Read, ReadInput, Reads};
use crate::request::RequestHead;

/// The most nodes of a tree.
pub(super) const MAX_NODES: usize = 8_192;
/// The most bytes of questions, answers and decisions of a tree.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;
/// The largest decision that is remembered, in bytes.
pub(super) const MAX_DECISION: usize = 16 * 1024;
/// So many edges of a branch are asked one after the other, for less than a hash costs.
const IN_A_ROW: usize = 4;

/// All that is remembered.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: OnceLock<Node>,
    /// Keyed by chance, so that nobody can choose answers that collide.
    hasher: RandomState,
}

/// How much a tree holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
}

#[derive(Debug)]
enum Node {
    Branch { input: ReadInput, edges: Slot },
    Leaf(Leaf),
}

/// A decision.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) decision: Decision,
    /// The instance that decided so first.
    pub(super) by: u64,
    /// Another one agreed.
    agreed: AtomicBool,
    /// It was asked for since this tree was made.
    used: AtomicBool,
}

/// The edges of a branch: the first few in a row, since most branches have no more; then a trie
/// by the hash of the answer, two bits at a level.
type Slot = OnceLock<Box<Edge>>;

#[derive(Debug)]
struct Edge {
    answer: Answer,
    to: Node,
    more: [Slot; 4],
}

impl Leaf {
    fn new(decision: &Decision, by: u64) -> Self {
        Self {
            decision: decision.clone(),
            by,
            agreed: AtomicBool::new(false),
            used: AtomicBool::new(false),
        }
    }

    pub(super) fn agreed(&self) -> bool {
        self.agreed.load(Ordering::Acquire)
    }

    /// It is of use. Written once only: a line that all workers read is not to be written to on
    /// each hit.
    pub(super) fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

impl Size {
    /// Grows, if there is room and `make` made what takes it.
    fn grow(&mut self, more: Self, make: impl FnOnce() -> bool) -> bool {
        let nodes = self.nodes + more.nodes;
        let fits = nodes <= MAX_NODES && self.bytes + more.bytes <= MAX_BYTES;
        if fits && make() {
            self.add(more);
        }
        fits
    }

    fn add(&mut self, more: Self) {
        self.nodes += more.nodes;
        self.bytes += more.bytes;
    }

    /// Of a chain of these reads and its leaf.
    fn of(reads: &[Read], decision: &Decision) -> Self {
        let each = reads
            .iter()
            .map(|read| read.input.len() + read.answer.len());
        Self {
            nodes: reads.len() + 1,
            bytes: each.sum::<usize>() + decision.weight(),
        }
    }
}

impl Tree {
    /// The decision that the request's answers lead to; `on_read` is told what is asked.
    pub(super) fn find<'t>(
        &'t self,
        head: &RequestHead,
        mut on_read: impl FnMut(&'t ReadInput),
    ) -> Option<&'t Leaf> {
        let mut at = self.root.get()?;
        loop {
            match at {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Branch { input, edges } => {
                    on_read(input);
                    at = match input.text(head) {
                        Some(text) => self.follow(edges, &[text])?,
                        None => self.follow(edges, input.values(head).as_slice())?,
                    };
                }
            }
        }
    }

    /// Follows a call's reads. Says what the tree makes of them; changes nothing.
    pub(super) fn compare(&self, reads: &Reads, decision: &Decision, by: u64) -> Lesson {
        let mut next = self.root.get();
        let mut rest = reads.list.iter();
        loop {
            let node = match next {
                None if reads.impure => return Lesson::Known,
                None => return Lesson::New,
                Some(node) => node,
            };
            match (node, rest.next()) {
                (Node::Branch { input, edges }, Some(read)) if *input == read.input => {
                    next = self.follow(edges, read.answer.as_slice());
                }
                (Node::Leaf(leaf), None) if reads.impure || leaf.decision != *decision => {
                    return Lesson::Departed;
                }
                (Node::Leaf(leaf), None) => {
                    return match leaf.agreed() || leaf.by == by {
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

    /// Adds what `compare` found new. Answers no where a sweep could make room for it. Only one
    /// may add at a time.
    pub(super) fn add(&self, size: &mut Size, reads: &Reads, decision: &Decision, by: u64) -> bool {
        if decision.weight() > MAX_DECISION {
            // Nothing that is given up would make room for it.
            return true;
        }
        let mut rest = reads.list.as_slice();
        let Some(mut at) = self.root.get() else {
            let root = || self.root.set(chain(rest, decision, by)).is_ok();
            return size.grow(Size::of(rest, decision), root);
        };
        loop {
            let (edges, (read, later)) = match (at, rest.split_first()) {
                (Node::Branch { edges, .. }, Some(read)) => (edges, read),
                (Node::Leaf(leaf), _) => {
                    leaf.agreed.store(true, Ordering::Release);
                    return true;
                }
                // `compare` has seen that the reads do not end here.
                (Node::Branch { .. }, None) => return true,
            };
            match self.follow(edges, read.answer.as_slice()) {
                Some(next) => (at, rest) = (next, later),
                None => {
                    let mut more = Size::of(later, decision);
                    more.bytes += read.answer.len();
                    return size.grow(more, || {
                        let to = chain(later, decision, by);
                        self.link(edges, read.answer.clone(), to)
                    });
                }
            }
        }
    }

    /// What two instances agreed on and somebody asked for since this tree was made.
    pub(super) fn swept(&self) -> (Self, Size) {
        let mut size = Size::default();
        let tree = Self::default();
        if let Some(root) = self.root.get().and_then(|root| tree.keep(root, &mut size)) {
            // It is new: nobody has set it.
            let _ = tree.root.set(root);
        }
        (tree, size)
    }

    /// What of another tree's node is of use, made anew.
    fn keep(&self, node: &Node, size: &mut Size) -> Option<Node> {
        match node {
            Node::Leaf(leaf) => {
                if !leaf.agreed() || !leaf.used.load(Ordering::Relaxed) {
                    return None;
                }
                let kept = Leaf::new(&leaf.decision, leaf.by);
                kept.agreed.store(true, Ordering::Relaxed);
                size.add(Size::of(&[], &leaf.decision));
                Some(Node::Leaf(kept))
            }
            Node::Branch { input, edges } => {
                let kept = Slot::new();
                self.keep_edges(edges, &kept, size);
                kept.get()?;
                size.add(Size {
                    nodes: 1,
                    bytes: input.len(),
                });
                let input = input.clone();
                Some(Node::Branch { input, edges: kept })
            }
        }
    }

    fn keep_edges(&self, from: &Slot, to: &Slot, size: &mut Size) {
        let Some(edge) = from.get() else { return };
        if let Some(node) = self.keep(&edge.to, size) {
            size.bytes += edge.answer.len();
            self.link(to, edge.answer.clone(), node);
        }
        for more in &edge.more {
            self.keep_edges(more, to, size);
        }
    }

    #[inline]
    fn follow<'t, V: AsRef<[u8]>>(&self, edges: &'t Slot, answer: &[V]) -> Option<&'t Node> {
        let mut way = Way::default();
        let mut slot = edges;
        loop {
            let edge = slot.get()?;
            if edge.answer.is(answer) {
                return Some(&edge.to);
            }
            slot = way.on(edge, || self.hash(answer));
        }
    }

    /// Hangs a node under an answer that is not there yet.
    fn link(&self, edges: &Slot, answer: Answer, to: Node) -> bool {
        let mut way = Way::default();
        let mut slot = edges;
        while let Some(edge) = slot.get() {
            slot = way.on(edge, || self.hash(answer.as_slice()));
        }
        let more = [const { OnceLock::new() }; 4];
        slot.set(Box::new(Edge { answer, to, more })).is_ok()
    }

    fn hash<V: AsRef<[u8]>>(&self, answer: &[V]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for value in answer {
            hasher.write_usize(value.as_ref().len());
            hasher.write(value.as_ref());
        }
        hasher.finish()
    }
}

/// The way of an answer through the edges of a branch.
#[derive(Default)]
struct Way {
    passed: usize,
    /// The bits of the hash that are not used up.
    bits: u64,
}

impl Way {
    /// The next slot, behind an edge of another answer.
    fn on<'e>(&mut self, edge: &'e Edge, hash: impl FnOnce() -> u64) -> &'e Slot {
        let [a, b, c, d] = &edge.more;
        self.passed += 1;
        if self.passed < IN_A_ROW {
            return a;
        }
        if self.passed == IN_A_ROW {
            self.bits = hash();
        }
        let slot = match self.bits & 3 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        };
        self.bits >>= 2;
        slot
    }
}

/// A branch for each read, each with one edge, and the leaf.
fn chain(reads: &[Read], decision: &Decision, by: u64) -> Node {
    let mut node = Node::Leaf(Leaf::new(decision, by));
    for read in reads.iter().rev() {
        let edge = Edge {
            answer: read.answer.clone(),
            to: node,
            more: [const { OnceLock::new() }; 4],
        };
        node = Node::Branch {
            input: read.input.clone(),
            edges: OnceLock::from(Box::new(edge)),
        };
    }
    node
}
