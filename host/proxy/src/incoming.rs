//! The body of a client's request, whatever protocol it comes by.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::server::Http2Body;
use crate::wire::Refusal;

/// Why a request's body ended before it was complete.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// It is not what a body may be, or came too slowly.
    #[error("{0}")]
    Refused(Refusal),
    /// The client left, or broke the protocol.
    #[error("the client's request broke off: {0}")]
    BrokeOff(String),
}

impl IncomingError {
    /// The gate's refusal comes up through hyper as the cause of its error.
    fn of(error: &hyper::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = error.source();
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<std::io::Error>()
                && let Some(refusal) = io.get_ref().and_then(|inner| inner.downcast_ref())
            {
                return Self::Refused(*refusal);
            }
            cause = error.source();
        }
        Self::BrokeOff(error.to_string())
    }
}

/// The body of a client's request.
#[derive(Debug)]
pub enum Incoming {
    /// By HTTP/1.
    Http1(hyper::body::Incoming),
    /// By HTTP/2.
    Http2(Box<Http2Body>),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|error| IncomingError::of(&error)),
            Self::Http2(body) => Pin::new(body.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
