//! How long a peer has kept us waiting.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A clock that runs while a peer is waited for. One timer serves a whole connection: it
/// is moved when it rings too early, not at every request.
#[derive(Debug, Default)]
pub(super) struct Stall {
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// The peer moved.
    pub(super) fn moved(&mut self) {
        self.since = None;
    }

    /// The peer is waited for. True when that has lasted for `limit`; otherwise the task
    /// is woken when it has.
    pub(super) fn lasts(&mut self, cx: &mut Context<'_>, limit: Duration) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        let deadline = since + limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while let Poll::Ready(()) = timer.as_mut().poll(cx) {
            if timer.deadline() >= deadline {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
        false
    }
}
