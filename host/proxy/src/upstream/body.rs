//! An origin's response body, with a bound on the time between two pieces.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::error::{UpstreamError, UpstreamErrorKind};
use crate::wire::is_forbidden_trailer;

/// An origin's response body. Ends in an error when the origin stalls or breaks off,
/// never as if it were complete.
pub struct OriginBody {
    inner: Incoming,
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for OriginBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginBody").finish_non_exhaustive()
    }
}

impl OriginBody {
    pub(super) fn new(inner: Incoming, timeout: Duration) -> Self {
        Self {
            inner,
            timeout,
            timer: None,
        }
    }
}

/// Takes out of a trailer section what counts only in a header section (RFC 9110 section
/// 6.5.1): on HTTP/2 a client may merge it.
fn without_header_fields(frame: Frame<Bytes>) -> Frame<Bytes> {
    let mut trailers = match frame.into_trailers() {
        Ok(trailers) => trailers,
        Err(frame) => return frame,
    };
    let forbidden: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| is_forbidden_trailer(name.as_str().as_bytes()))
        .cloned()
        .collect();
    for name in forbidden {
        trailers.remove(name);
    }
    Frame::trailers(trailers)
}

impl Body for OriginBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                // The clock runs only while the origin is waited for, so that a slow
                // client is not taken for a stalled origin.
                this.timer = None;
                Poll::Ready(Some(Ok(without_header_fields(frame))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(UpstreamError::new(
                UpstreamErrorKind::Broken,
                format!("the origin broke off in the middle of its body: {error}"),
            )))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let timeout = this.timeout;
                let timer = this.timer.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + timeout))
                });
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(UpstreamError::new(
                        UpstreamErrorKind::Broken,
                        format!("the origin sent no more of its body within {timeout:?}"),
                    )))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
