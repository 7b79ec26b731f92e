//! The body of a request on its way to an origin, which says when it last moved.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::incoming::IncomingError;
use crate::upload::Upload;

/// How long an origin may take to say whether it wants the body. Some never do.
const GO_AHEAD: Duration = Duration::from_secs(1);

/// When a request body last moved.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    start: Instant,
    moved_ms: Arc<AtomicU64>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            moved_ms: Arc::default(),
        }
    }

    /// How long ago the body last moved.
    pub(super) fn idle(&self) -> Duration {
        let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(moved)
    }

    fn moved(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now, Ordering::Relaxed);
    }
}

/// An origin's 100 (Continue).
#[derive(Debug, Default)]
pub(super) struct GoAhead {
    given: AtomicBool,
    waker: AtomicWaker,
}

impl GoAhead {
    pub(super) fn give(&self) {
        self.given.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        match self.given.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// A client's body. With an expectation, it is asked for when the origin wants it.
#[derive(Debug)]
pub(super) struct ClientBody {
    inner: Upload,
    progress: Progress,
    held: Option<(Arc<GoAhead>, Pin<Box<Sleep>>)>,
}

impl ClientBody {
    pub(super) fn new(inner: Upload, progress: Progress, go_ahead: Option<Arc<GoAhead>>) -> Self {
        Self {
            inner,
            progress,
            held: go_ahead.map(|go_ahead| (go_ahead, Box::pin(tokio::time::sleep(GO_AHEAD)))),
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        if let Some((go_ahead, patience)) = &mut self.held {
            if go_ahead.poll(cx).is_pending() && patience.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.held = None;
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_ready() {
            self.progress.moved();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
