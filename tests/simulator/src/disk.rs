//! The disks of the nodes, which fail and tear.

use std::io;

use tokio::sync::oneshot;
use weir_store::log::{Journal, Written};

use crate::coverage::Event;
use crate::fault::Fault;
use crate::world::{Shared, World};

#[derive(Debug)]
enum DiskOrder {
    Append(Vec<u8>),
    Replace(Vec<u8>),
}

/// A node's disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// What a crash leaves.
    pub contents: Option<Vec<u8>>,
    orders: Vec<(DiskOrder, Option<oneshot::Sender<io::Result<()>>>)>,
    broken: bool,
}

impl World {
    /// A node's disk does one thing. `false`: there is nothing to do.
    pub fn some_disk(&mut self, node: usize) -> bool {
        if self.places[node].disk.orders.is_empty() {
            return false;
        }
        let fails = self.once_in(30);
        let disk = &mut self.places[node].disk;
        let (order, waiting) = disk.orders.remove(0);
        let done = match order {
            _ if fails => false,
            DiskOrder::Append(_) if disk.broken => false,
            DiskOrder::Append(bytes) => {
                disk.contents
                    .get_or_insert_default()
                    .extend_from_slice(&bytes);
                true
            }
            DiskOrder::Replace(bytes) => {
                disk.contents = Some(bytes);
                true
            }
        };
        disk.broken = !done;
        if let Some(waiting) = waiting {
            let _ = waiting.send(match done {
                true => Ok(()),
                false => Err(io::Error::other("the disk is full")),
            });
        }
        if !done {
            self.note(Event::DiskFailed, || format!("node {node}"));
        }
        true
    }

    /// What a crash does to what a node was writing.
    pub fn tear(&mut self, node: usize) {
        let cut = self.rng.usize(..400);
        let whole = self.rng.bool();
        let disk = &mut self.places[node].disk;
        let mut event = None;
        match disk.orders.drain(..).next() {
            Some((DiskOrder::Append(bytes), _)) if !disk.broken => {
                let cut = cut.min(bytes.len());
                disk.contents
                    .get_or_insert_default()
                    .extend_from_slice(&bytes[..cut]);
                event = Some(if cut > 0 && cut < bytes.len() {
                    Event::Torn
                } else {
                    Event::Unsynced
                });
            }
            Some((DiskOrder::Replace(bytes), _)) if whole => disk.contents = Some(bytes),
            _ => {}
        }
        disk.broken = false;
        if self.fault == Some(Fault::JournalForgotten) {
            self.places[node].disk.contents = None;
        }
        if let Some(event) = event {
            self.note(event, || format!("node {node}"));
        }
    }
}

/// A node's disk, as its log has it.
#[derive(Debug)]
pub struct Paper {
    /// The world.
    pub shared: Shared,
    /// Which node.
    pub node: usize,
}

impl Paper {
    fn order(&self, order: DiskOrder) -> Written {
        let (waiting, written) = oneshot::channel();
        let mut world = self.shared.world();
        let waiting = if world.fault == Some(Fault::AnswerBeforeDisk) {
            let _ = waiting.send(Ok(()));
            None
        } else {
            Some(waiting)
        };
        world.places[self.node].disk.orders.push((order, waiting));
        written
    }
}

impl Journal for Paper {
    fn append(&self, bytes: Vec<u8>) -> Written {
        self.order(DiskOrder::Append(bytes))
    }

    fn replace(&self, bytes: Vec<u8>) -> Written {
        self.order(DiskOrder::Replace(bytes))
    }
}
