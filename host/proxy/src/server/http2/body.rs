//! The body of an HTTP/2 request.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::incoming::IncomingError;
use crate::interim::Interim;
use crate::server::stall::Stall;
use crate::wire::{Refusal, is_forbidden_trailer};

/// The body of a request by HTTP/2. The client may send on only as fast as it is read.
pub struct Http2Body {
    stream: RecvStream,
    /// Bytes still to come, where the client said how many.
    left: Option<u64>,
    timeout: Duration,
    stall: Stall,
    interim: Interim,
    data_ended: bool,
}

impl fmt::Debug for Http2Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Body")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Http2Body {
    pub(super) fn new(
        stream: RecvStream,
        length: Option<u64>,
        timeout: Duration,
        interim: Interim,
    ) -> Self {
        Self {
            stream,
            left: length,
            timeout,
            stall: Stall::default(),
            interim,
            data_ended: false,
        }
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        while !self.data_ended {
            match self.stream.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(data))) => {
                    // It is handed on at once; whoever reads it holds the client back by
                    // not asking for more.
                    if let Err(error) = self.stream.flow_control().release_capacity(data.len()) {
                        return Poll::Ready(Some(Err(broke_off(&error))));
                    }
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // RFC 9113 section 8.1: the rest of the request is not wanted, which is no
                // error.
                Poll::Ready(Some(Err(error))) if error.reason() == Some(Reason::NO_ERROR) => {
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(broke_off(&error)))),
                Poll::Ready(None) => self.data_ended = true,
            }
        }
        self.stream
            .poll_trailers(cx)
            .map(|trailers| match trailers {
                Ok(trailers) => trailers.map(|trailers| match allowed(&trailers) {
                    true => Ok(Frame::trailers(trailers)),
                    false => Err(IncomingError::Refused(Refusal::TrailerField)),
                }),
                Err(error) => Some(Err(broke_off(&error))),
            })
    }
}

fn broke_off(error: &h2::Error) -> IncomingError {
    IncomingError::BrokeOff(error.to_string())
}

fn allowed(trailers: &HeaderMap) -> bool {
    !trailers
        .keys()
        .any(|name| is_forbidden_trailer(name.as_str().as_bytes()))
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        let this = self.get_mut();
        let polled = this.poll_stream(cx);
        if polled.is_ready() {
            this.stall.moved();
            return polled;
        }
        this.interim.go_on();
        if this.stall.lasts(cx, this.timeout) {
            return Poll::Ready(Some(Err(IncomingError::Refused(Refusal::BodyTimeout))));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
