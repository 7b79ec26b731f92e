//! What waits to be written: bounded, and dropped rather than waited for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::config::DiskConfig;
use crate::{Key, Object, idle};

/// How many objects go into one step.
const BATCH_OBJECTS: usize = 256;

/// How many bytes go into one step, unless one object has more.
const BATCH_BYTES: usize = 4 << 20;

/// Something to be done by the one thread that writes.
#[derive(Debug)]
pub(super) enum Order {
    /// An object that was fetched.
    Put(Arc<Object>),
    /// An object that is in use and about to be driven out.
    Renew(Arc<Object>),
    /// Under this name was something that is of no use. It may have been replaced since.
    Forget { key: Key, name: Vec<u8> },
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Notify,
    max_objects: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    orders: VecDeque<Order>,
    bytes: usize,
    /// Orders that were taken out and are being carried out.
    in_hand: usize,
    closed: bool,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Next {
    Orders(Vec<Order>),
    Nothing,
    Closed,
}

impl Order {
    fn weight(&self) -> usize {
        match self {
            Self::Put(object) | Self::Renew(object) => object.weight() as usize,
            Self::Forget { key, name } => key.as_str().len() + name.len(),
        }
    }
}

impl Queue {
    pub(super) fn new(config: &DiskConfig) -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Notify::new(),
            max_objects: config.queue_objects,
            max_bytes: config.queue_bytes,
        }
    }

    /// `false`: it is full.
    pub(super) fn push(&self, order: Order) -> bool {
        let weight = order.weight();
        let mut state = self.state.lock();
        if state.orders.len() >= self.max_objects || state.bytes + weight > self.max_bytes {
            return false;
        }
        state.bytes += weight;
        state.orders.push_back(order);
        drop(state);
        self.filled.notify_one();
        true
    }

    /// What waited longest, at most `patience` from now. What was taken before counts as
    /// done.
    pub(super) fn take(&self, patience: Duration) -> Next {
        let mut state = self.state.lock();
        state.in_hand = 0;
        if state.orders.is_empty() {
            self.emptied.notify_waiters();
            if !state.closed {
                self.filled.wait_for(&mut state, patience);
            }
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_OBJECTS && bytes < BATCH_BYTES {
            let Some(order) = state.orders.pop_front() else {
                break;
            };
            bytes += order.weight();
            batch.push(order);
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        state.in_hand = batch.len();
        match batch.is_empty() {
            true if state.closed => Next::Closed,
            true => Next::Nothing,
            false => Next::Orders(batch),
        }
    }

    /// Ends the thread that writes, once it has written what waits.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits, unless it is closed.
    pub(super) fn pause(&self, pause: Duration) {
        let began = std::time::Instant::now();
        let mut state = self.state.lock();
        while !state.closed && began.elapsed() < pause {
            let left = pause.saturating_sub(began.elapsed());
            self.filled.wait_for(&mut state, left);
        }
    }

    /// Waits until everything queued so far has been carried out.
    pub(super) async fn drained(&self) {
        idle::until(&self.emptied, || {
            let state = self.state.lock();
            state.orders.is_empty() && state.in_hand == 0
        })
        .await;
    }
}
