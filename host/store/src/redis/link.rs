//! One connection, shared by the calls that are under way on it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A connection. Its calls are written one after the other, as many at once as have come
/// meanwhile, and answered in that order. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    state: Arc<State>,
    driver: AbortHandle,
}

#[derive(Debug)]
struct State {
    born: Instant,
    in_flight: AtomicU32,
    /// When something was last answered, in microseconds since it was born.
    answered: AtomicU64,
    closed: AtomicBool,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Use<'a>(&'a Link);

impl Link {
    /// Runs the connection's other half in a task.
    pub(super) fn new(
        connection: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let state = Arc::new(State {
            born: Instant::now(),
            in_flight: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let ending = Arc::clone(&state);
        let driver = tokio::spawn(async move {
            behind_the_others(driver).await;
            ending.closed.store(true, Ordering::Release);
        });
        Self {
            connection,
            state,
            driver: driver.abort_handle(),
        }
    }

    /// A handle to send by. The link must outlive it.
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Counts a call that begins now.
    pub(super) fn enter(&self) -> Use<'_> {
        self.state.in_flight.fetch_add(1, Ordering::Relaxed);
        Use(self)
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.state.in_flight.load(Ordering::Relaxed)
    }

    /// Notes that an answer came.
    pub(super) fn answered(&self) {
        self.state.answered.store(self.age(), Ordering::Relaxed);
    }

    /// Whether anything has been answered since `then`, to this call or another.
    pub(super) fn answered_since(&self, then: Instant) -> bool {
        let then = then.saturating_duration_since(self.state.born).as_micros();
        u128::from(self.state.answered.load(Ordering::Relaxed)) >= then.max(1)
    }

    /// How long it has had nothing to do.
    pub(super) fn idle(&self) -> Duration {
        if self.in_flight() > 0 {
            return Duration::ZERO;
        }
        let answered = self.state.answered.load(Ordering::Relaxed);
        Duration::from_micros(self.age().saturating_sub(answered))
    }

    /// Whether the server, or something on the way, has closed it.
    pub(super) fn closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    fn age(&self) -> u64 {
        u64::try_from(self.state.born.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Runs the future, each time it is woken, only after all tasks that are ready now: the
/// calls that they make are then written in one go. A runtime would run it right after the
/// first of them, and each call would be a packet of its own.
async fn behind_the_others(future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    let mut waited = false;
    poll_fn(|context| {
        waited = !waited;
        if waited {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        future.as_mut().poll(context)
    })
    .await;
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.state.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // By itself it would wait for answers that nobody wants any more.
        self.driver.abort();
    }
}
