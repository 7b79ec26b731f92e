//! What the two ends of an HTTP/1 connection tell each other: the gate below hyper, which
//! sees bytes, and the service above it, which sees requests. hyper answers one request
//! after the other, so a number says which one is meant.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::wire::Refusal;

/// No request has this number.
const NONE: u64 = u64::MAX;
/// Interim responses that a request may get.
pub(crate) const MAX_INTERIM: usize = 16;

/// The state of one connection. Its two ends run in one task; only interim responses
/// come from others.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Requests that the service was given, numbered from 1.
    begun: AtomicU64,
    /// The last request that was answered, and the last whose response has gone to hyper
    /// as a whole.
    answered: AtomicU64,
    ended: AtomicU64,
    /// The request that the gate put in place of what it refused.
    refused: AtomicU64,
    refusal: Mutex<Option<Refusal>>,
    /// The request after which the bytes are another protocol's.
    switched: AtomicU64,
    /// A response broke off: its end must not look like one.
    reset: AtomicBool,
    /// A request's body is not what a body may be: what follows cannot be read.
    broken: AtomicBool,
    has_interim: AtomicBool,
    interim: Mutex<Queue>,
    waker: AtomicWaker,
}

/// Interim responses on their way to the client.
#[derive(Debug)]
struct Queue {
    /// The request that may have some.
    open: u64,
    count: usize,
    bytes: Vec<u8>,
}

impl Exchange {
    pub(crate) fn new() -> Self {
        Self {
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            refused: AtomicU64::new(NONE),
            refusal: Mutex::new(None),
            switched: AtomicU64::new(NONE),
            reset: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            has_interim: AtomicBool::new(false),
            interim: Mutex::new(Queue {
                open: NONE,
                count: 0,
                bytes: Vec::new(),
            }),
            waker: AtomicWaker::new(),
        }
    }

    /// A request reaches the service. Returns its number.
    pub(crate) fn begin(&self) -> u64 {
        let number = self.begun.load(Relaxed) + 1;
        self.begun.store(number, Relaxed);
        number
    }

    /// Why the request of this number stands for one that was refused.
    pub(crate) fn refusal_of(&self, number: u64) -> Option<Refusal> {
        if self.refused.load(Relaxed) != number {
            return None;
        }
        *self.refusal.lock()
    }

    /// The request is answered; `switches`: in another protocol from now on.
    pub(crate) fn answered(&self, number: u64, switches: bool) {
        if switches {
            self.switched.store(number, Relaxed);
        }
        self.answered.store(number, Relaxed);
    }

    /// hyper has the whole response.
    pub(crate) fn ended(&self) {
        self.ended.store(self.begun.load(Relaxed), Relaxed);
    }

    /// A response broke off.
    pub(crate) fn broke_off(&self) {
        self.reset.store(true, Relaxed);
    }

    /// Whether the connection has to be reset rather than closed.
    pub(crate) fn must_reset(&self) -> bool {
        self.reset.load(Relaxed)
    }

    /// The body under way is refused.
    pub(crate) fn breaks(&self) {
        self.broken.store(true, Relaxed);
    }

    /// Whether nothing more can be read.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// The gate gives the head of this number in place of one that it refused.
    pub(crate) fn refuse(&self, number: u64, refusal: Refusal) {
        *self.refusal.lock() = Some(refusal);
        self.refused.store(number, Relaxed);
    }

    /// Whether a request is being answered.
    pub(crate) fn is_responding(&self) -> bool {
        self.begun.load(Relaxed) > self.ended.load(Relaxed)
    }

    /// Whether the request of this number switched protocols; nothing while it is not
    /// answered.
    pub(crate) fn switched(&self, number: u64) -> Option<bool> {
        (self.answered.load(Relaxed) >= number).then(|| self.switched.load(Relaxed) == number)
    }

    /// Interim responses may come for this request.
    pub(crate) fn open(&self, number: u64) {
        let mut queue = self.interim.lock();
        queue.open = number;
        queue.count = 0;
    }

    /// Adds an interim response, if its request is still the one that waits.
    pub(crate) fn interim(&self, number: u64, response: &[u8]) {
        let mut queue = self.interim.lock();
        if queue.open != number || queue.count == MAX_INTERIM {
            return;
        }
        queue.count += 1;
        queue.bytes.extend_from_slice(response);
        self.has_interim.store(true, Relaxed);
        drop(queue);
        self.waker.wake();
    }

    /// No more interim responses: the final one is there. True when none waits to be
    /// written before it.
    pub(crate) fn close(&self) -> bool {
        let mut queue = self.interim.lock();
        queue.open = NONE;
        queue.bytes.is_empty()
    }

    /// Whether all interim responses have been taken.
    pub(crate) fn interim_is_written(&self) -> bool {
        !self.has_interim.load(Relaxed)
    }

    /// Takes what waits. The gate asks when hyper holds no byte of an earlier response
    /// and none of the final one, so this is the place for it.
    pub(crate) fn take_interim(&self, waker: &Waker) -> Option<Vec<u8>> {
        if !self.is_responding() {
            return None;
        }
        self.waker.register(waker);
        if !self.has_interim.load(Relaxed) {
            return None;
        }
        let mut queue = self.interim.lock();
        self.has_interim.store(false, Relaxed);
        Some(std::mem::take(&mut queue.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_responses_go_out_only_before_the_answer_to_their_own_request() {
        let exchange = Exchange::new();
        let taken = || exchange.take_interim(Waker::noop());
        assert_eq!(exchange.begin(), 1);
        exchange.open(1);
        exchange.interim(1, b"a");
        exchange.interim(2, b"b");
        assert_eq!(taken().as_deref(), Some(&b"a"[..]));
        exchange.interim(1, b"c");
        // The answer is there, and waits for what came before it.
        assert!(!exchange.close());
        exchange.interim(1, b"too late");
        assert_eq!(taken().as_deref(), Some(&b"c"[..]));
        assert!(exchange.interim_is_written());
        exchange.answered(1, false);
        exchange.ended();
        assert_eq!(exchange.begin(), 2);
        exchange.open(2);
        exchange.interim(1, b"of the request before");
        assert_eq!(taken(), None);
    }

    #[test]
    fn a_request_gets_a_bounded_number_of_interim_responses() {
        let exchange = Exchange::new();
        exchange.begin();
        exchange.open(1);
        for _ in 0..100 {
            exchange.interim(1, b".");
        }
        let bytes = exchange.take_interim(Waker::noop()).unwrap();
        assert_eq!(bytes.len(), MAX_INTERIM);
    }

    #[test]
    fn a_switch_belongs_to_the_request_that_asked() {
        let exchange = Exchange::new();
        exchange.begin();
        assert_eq!(exchange.switched(1), None);
        exchange.answered(1, false);
        assert_eq!(exchange.switched(1), Some(false));
        assert_eq!(exchange.switched(2), None);
        exchange.begin();
        exchange.answered(2, true);
        assert_eq!(exchange.switched(2), Some(true));
    }
}
