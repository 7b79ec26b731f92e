//! A body that is kept on its way to the client, for a write-through.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::body::BodyError;
use crate::upstream::OriginBody;

/// What is done with the whole body.
type Done = Box<dyn FnOnce(Bytes) + Send>;

/// Hands the body on, and its whole to `done` when it ended well and was not too large.
pub struct TeeBody {
    inner: OriginBody,
    kept: BytesMut,
    limit: u64,
    done: Option<Done>,
}

impl TeeBody {
    pub(crate) fn new(inner: OriginBody, limit: u64, done: Done) -> Self {
        Self {
            inner,
            kept: BytesMut::new(),
            limit,
            done: Some(done),
        }
    }

    fn finish(&mut self) {
        if let Some(done) = self.done.take() {
            // Copied to its exact size: what grows while it is read has room to spare.
            done(Bytes::copy_from_slice(&self.kept));
        }
    }
}

impl fmt::Debug for TeeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TeeBody")
            .field("kept", &self.kept.len())
            .finish_non_exhaustive()
    }
}

impl Body for TeeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref()
                    && this.done.is_some()
                {
                    if (this.kept.len() + data.len()) as u64 > this.limit {
                        this.done = None;
                        this.kept = BytesMut::new();
                    } else {
                        this.kept.extend_from_slice(data);
                    }
                }
                // A body of known length is not polled again after its last frame.
                if this.inner.is_end_stream() {
                    this.finish();
                }
            }
            Poll::Ready(None) => this.finish(),
            Poll::Ready(Some(Err(_))) => this.done = None,
            Poll::Pending => {}
        }
        polled.map_err(|error| BodyError(error.to_string()))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
