//! The side that is served.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use super::state::Fill;
use super::{FillError, Head};
use crate::headers::StoredHeaders;
use crate::object::Object;

/// How a fill turned out, as soon as that can be said.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The response head is known; the body follows.
    Head(Arc<Head>),
    /// The whole object is known.
    Complete(Arc<Object>),
    /// The response may not be stored: ask the origin yourself, without waiting for
    /// anyone.
    Uncacheable,
    /// There is no response. After [`FillError::Dropped`], join again.
    Failed(FillError),
}

/// A step in reading a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The next bytes.
    Data(Bytes),
    /// The honest end, with the trailer fields if there are any.
    End(Option<StoredHeaders>),
}

/// Reads one fill from its start, whenever it joined. Dropping it leaves the fill.
pub struct Reader {
    fill: Arc<Fill>,
    seat: usize,
}

impl Reader {
    pub(super) fn join(fill: &Arc<Fill>, request_headers: &HeaderMap) -> Option<Self> {
        let seat = fill.lock().join(request_headers)?;
        Some(Self {
            fill: fill.clone(),
            seat,
        })
    }

    pub(super) fn sit(fill: &Arc<Fill>) -> Self {
        let seat = fill.lock().sit();
        Self {
            fill: fill.clone(),
            seat,
        }
    }

    /// The fill that it reads.
    pub fn fill(&self) -> &Fill {
        &self.fill
    }

    /// Waits until the outcome is known. May be asked again, and dropped at any time.
    pub async fn head(&mut self) -> Outcome {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    /// As [`Reader::head`].
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.fill.lock().poll_head(self.seat, cx)
    }

    /// Waits for the next piece of the body. Nothing is lost when it is dropped.
    ///
    /// # Errors
    /// A fill that failed ends with its error, never with [`Piece::End`]: the response
    /// must then be broken off so that its receiver notices.
    pub async fn next(&mut self) -> Result<Piece, FillError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Reader::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, FillError>> {
        let (piece, wake) = {
            let mut state = self.fill.lock();
            let piece = state.poll_next(self.seat, cx);
            (piece, state.wake_writer())
        };
        wake.wake();
        piece
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let wake = self.fill.lock().leave(self.seat);
        wake.wake();
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(self.fill.key()).finish()
    }
}
