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
/// A question with at most so many possible answers has a place for each of them.
const MAX_CHOICES: usize = 32;

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
    /// A question without a table: its answer can be anything, or one of many.
    Branch {
        input: ReadInput,
        edges: Slot,
    },
    /// One of few possible answers, which have their places: nothing is compared.
    Choice {
        input: ReadInput,
        places: Places,
    },
    Leaf(Leaf),
}

type Places = Box<[OnceLock<Box<Node>>]>;

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
            .map(|read| question(&read.input) + answer(read));
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
                Node::Choice { input, places } => {
                    on_read(input);
                    at = places.get(input.choice(head)?)?.get()?;
                }
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
                (Node::Branch { input, .. } | Node::Choice { input, .. }, Some(read))
                    if *input == read.input =>
                {
                    next = self.next(node, read);
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
                (Node::Branch { .. } | Node::Choice { .. }, _) if reads.impure => {
                    return Lesson::Known;
                }
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
            if let Node::Leaf(leaf) = at {
                leaf.agreed.store(true, Ordering::Release);
                return true;
            }
            let Some((read, later)) = rest.split_first() else {
                // `compare` has seen that the reads do not end here.
                return true;
            };
            match self.next(at, read) {
                Some(next) => (at, rest) = (next, later),
                None => {
                    let mut more = Size::of(later, decision);
                    more.bytes += answer(read);
                    return size.grow(more, || self.link(at, read, chain(later, decision, by)));
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
                    bytes: question(input),
                });
                let input = input.clone();
                Some(Node::Branch { input, edges: kept })
            }
            Node::Choice { input, places } => {
                let keep = |place: &OnceLock<Box<Node>>| match place.get() {
                    None => OnceLock::new(),
                    Some(to) => {
                        let kept = self.keep(to, size);
                        kept.map_or_else(OnceLock::new, |node| OnceLock::from(Box::new(node)))
                    }
                };
                let places: Places = places.iter().map(keep).collect();
                places.iter().find_map(OnceLock::get)?;
                size.add(Size {
                    nodes: 1,
                    bytes: question(input),
                });
                let input = input.clone();
                Some(Node::Choice { input, places })
            }
        }
    }

    fn keep_edges(&self, from: &Slot, to: &Slot, size: &mut Size) {
        let Some(edge) = from.get() else { return };
        if let Some(node) = self.keep(&edge.to, size) {
            size.bytes += edge.answer.len();
            self.hang(to, edge.answer.clone(), node);
        }
        for more in &edge.more {
            self.keep_edges(more, to, size);
        }
    }

    /// Where a read leads, whose question this node asks.
    fn next<'t>(&self, at: &'t Node, read: &Read) -> Option<&'t Node> {
        match at {
            Node::Leaf(_) => None,
            Node::Branch { edges, .. } => self.follow(edges, read.answer.as_slice()),
            Node::Choice { places, .. } => {
                let place = places.get(read.input.choice_of(&read.answer)?)?;
                place.get().map(|node| &**node)
            }
        }
    }

    /// Hangs a node under an answer that does not lead anywhere yet.
    fn link(&self, at: &Node, read: &Read, to: Node) -> bool {
        match at {
            Node::Leaf(_) => false,
            Node::Branch { edges, .. } => self.hang(edges, read.answer.clone(), to),
            Node::Choice { places, .. } => {
                let place = read.input.choice_of(&read.answer);
                let place = place.and_then(|place| places.get(place));
                place.is_some_and(|place| place.set(Box::new(to)).is_ok())
            }
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

    /// The same among edges.
    fn hang(&self, edges: &Slot, answer: Answer, to: Node) -> bool {
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

/// The places of a question's answers, where there are few.
fn places(input: &ReadInput) -> Option<usize> {
    Some(input.choices()).filter(|choices| (1..=MAX_CHOICES).contains(choices))
}

/// The bytes that a question takes.
fn question(input: &ReadInput) -> usize {
    input.len() + places(input).unwrap_or_default() * size_of::<OnceLock<Box<Node>>>()
}

/// The bytes that an answer takes, which has to be kept where it has no place.
fn answer(read: &Read) -> usize {
    match places(&read.input) {
        Some(_) => 0,
        None => read.answer.len(),
    }
}

/// A node for each read, each with one answer, and the leaf.
fn chain(reads: &[Read], decision: &Decision, by: u64) -> Node {
    let mut node = Node::Leaf(Leaf::new(decision, by));
    for Read { input, answer } in reads.iter().rev() {
        let chosen = places(input).zip(input.choice_of(answer));
        let input = input.clone();
        node = match chosen {
            Some((places, chosen)) => {
                let free = std::iter::repeat_with(OnceLock::new);
                let mut places: Places = free.take(places).collect();
                if let Some(place) = places.get_mut(chosen) {
                    *place = OnceLock::from(Box::new(node));
                }
                Node::Choice { input, places }
            }
            None => {
                let edge = Edge {
                    answer: answer.clone(),
                    to: node,
                    more: [const { OnceLock::new() }; 4],
                };
                let edges = OnceLock::from(Box::new(edge));
                Node::Branch { input, edges }
            }
        };
    }
    node
}
