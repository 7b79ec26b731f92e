//! The instances of one policy: a bounded number, and a short queue for them.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a call waits for an instance.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many calls wait for each instance.
const QUEUE: usize = 4;

/// Idle things of one kind, and permits for as many as there may be.
pub(crate) struct Pool<T> {
    idle: ArrayQueue<T>,
    permits: Semaphore,
    waiting: AtomicUsize,
    longest_queue: usize,
}

/// Nothing came free in time.
#[derive(Debug)]
pub(crate) struct Busy;

/// Counts one who waits, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<T> Pool<T> {
    /// `size` is at least 1.
    pub(crate) fn new(size: usize) -> Self {
        let size = size.max(1);
        Self {
            idle: ArrayQueue::new(size),
            permits: Semaphore::new(size),
            waiting: AtomicUsize::new(0),
            longest_queue: size * QUEUE,
        }
    }

    /// The right to use one. Waits only when all are in use.
    pub(crate) async fn permit(&self) -> Result<SemaphorePermit<'_>, Busy> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        if self.waiting.fetch_add(1, Relaxed) >= self.longest_queue {
            self.waiting.fetch_sub(1, Relaxed);
            return Err(Busy);
        }
        let _waiting = Waiting(&self.waiting);
        match tokio::time::timeout(PATIENCE, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed; late and closed are the same to a caller.
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }

    /// An idle one, if there is one.
    pub(crate) fn take(&self) -> Option<T> {
        self.idle.pop()
    }

    /// An idle one that will do, if there is one.
    pub(crate) fn take_where(&self, will_do: impl Fn(&T) -> bool) -> Option<T> {
        for _ in 0..self.idle() {
            let item = self.take()?;
            if will_do(&item) {
                return Some(item);
            }
            self.put(item);
        }
        None
    }

    /// Gives one back.
    pub(crate) fn put(&self, item: T) {
        // As many permits as places: it fits. Were it full, dropping is right too.
        drop(self.idle.push(item));
    }

    /// How many are idle.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// How many are in use.
    pub(crate) fn in_use(&self) -> usize {
        self.idle.capacity() - self.permits.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_in_a_bounded_queue_for_a_bounded_time() {
        let pool = Pool::<()>::new(1);
        let held = pool.permit().await.unwrap();
        assert_eq!(pool.in_use(), 1);
        let waiters = (0..=QUEUE).map(|_| pool.permit());
        let began = tokio::time::Instant::now();
        let results = futures_join(waiters).await;
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(results.iter().all(Result::is_err));
        assert_eq!(pool.waiting.load(Relaxed), 0);
        drop(held);
        assert!(pool.permit().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_served() {
        let pool = Pool::<()>::new(1);
        let held = pool.permit().await.unwrap();
        let (got, ()) = tokio::join!(pool.permit(), async { drop(held) });
        assert!(got.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once() {
        let pool = Pool::<()>::new(1);
        let _held = pool.permit().await.unwrap();
        pool.waiting.store(QUEUE, Relaxed);
        let began = tokio::time::Instant::now();
        assert!(pool.permit().await.is_err());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[test]
    fn gives_the_first_that_will_do_and_keeps_the_others() {
        let pool = Pool::new(3);
        (1..=3).for_each(|item| pool.put(item));
        assert_eq!(pool.take_where(|item| *item == 2), Some(2));
        assert_eq!(pool.take_where(|item| *item == 2), None);
        assert_eq!(pool.idle(), 2);
    }

    #[test]
    fn gives_back_what_was_put() {
        let pool = Pool::new(2);
        assert_eq!(pool.take(), None);
        pool.put(1);
        pool.put(2);
        pool.put(3);
        assert_eq!(pool.idle(), 2);
        assert_eq!(pool.take(), Some(1));
    }

    async fn futures_join<'a, F: Future<Output = Result<SemaphorePermit<'a>, Busy>>>(
        futures: impl Iterator<Item = F>,
    ) -> Vec<Result<SemaphorePermit<'a>, Busy>> {
        let mut running: Vec<_> = futures.map(Box::pin).collect();
        let mut results = Vec::new();
        std::future::poll_fn(|context| {
            running.retain_mut(|future| match future.as_mut().poll(context) {
                std::task::Poll::Ready(result) => {
                    results.push(result);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if running.is_empty() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        results
    }
}
