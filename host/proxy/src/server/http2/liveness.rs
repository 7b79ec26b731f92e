//! Whether an HTTP/2 client is still there, and still wants something.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

/// What became of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulse {
    /// It did not answer a ping in time, or was told to go a period ago and has not gone.
    Dead,
    /// It had no request for a whole period.
    Idle,
}

/// Pings the client once in each period.
pub(super) struct Liveness {
    ping: Option<PingPong>,
    period: Duration,
    timer: Pin<Box<Sleep>>,
    awaits: bool,
    used: bool,
    was_idle: bool,
}

impl Liveness {
    pub(super) fn new(ping: Option<PingPong>, period: Duration) -> Self {
        Self {
            ping,
            period,
            timer: Box::pin(tokio::time::sleep(period)),
            awaits: false,
            used: false,
            was_idle: false,
        }
    }

    /// The client made a request.
    pub(super) fn used(&mut self) {
        self.used = true;
    }

    /// `open`: requests that are being answered.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, open: u64) -> Poll<Pulse> {
        loop {
            if self.awaits
                && let Some(ping) = &mut self.ping
                && ping.poll_pong(cx).is_ready()
            {
                self.awaits = false;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer.as_mut().reset(Instant::now() + self.period);
            if self.awaits {
                return Poll::Ready(Pulse::Dead);
            }
            if open == 0 && !std::mem::take(&mut self.used) {
                return Poll::Ready(match std::mem::replace(&mut self.was_idle, true) {
                    true => Pulse::Dead,
                    false => Pulse::Idle,
                });
            }
            self.was_idle = false;
            if let Some(ping) = &mut self.ping {
                self.awaits = ping.send_ping(Ping::opaque()).is_ok();
            }
        }
    }
}
