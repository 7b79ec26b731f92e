//! The body of a client's request, of which the beginning may have been read already.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::incoming::{Incoming, IncomingError};

/// A request's body on its way to an origin.
#[derive(Debug)]
pub struct Upload {
    begun: Bytes,
    rest: Option<Incoming>,
}

/// What reading a body within a bound gave.
#[derive(Debug)]
pub(crate) enum Taken {
    /// All of it. Trailers are dropped, which RFC 9110 section 6.5.1 lets a recipient do.
    Whole(Bytes),
    /// It is larger, and goes on as if nothing had been read.
    TooLarge(Upload),
}

impl From<Incoming> for Upload {
    fn from(rest: Incoming) -> Self {
        Self {
            begun: Bytes::new(),
            rest: Some(rest),
        }
    }
}

impl From<Bytes> for Upload {
    fn from(whole: Bytes) -> Self {
        Self {
            begun: whole,
            rest: None,
        }
    }
}

impl Upload {
    /// Reads it whole if it has at most `limit` bytes. The first read is what makes hyper
    /// send 100 (Continue) to a client that expects it.
    pub(crate) async fn take(mut self, limit: u64) -> Result<Taken, IncomingError> {
        if self.size_hint().lower() > limit {
            return Ok(Taken::TooLarge(self));
        }
        let mut whole = BytesMut::from(std::mem::take(&mut self.begun));
        while let Some(rest) = &mut self.rest {
            let Some(frame) = rest.frame().await else {
                break;
            };
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            whole.extend_from_slice(&data);
            if whole.len() as u64 > limit {
                self.begun = whole.freeze();
                return Ok(Taken::TooLarge(self));
            }
        }
        Ok(Taken::Whole(whole.freeze()))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        if !self.begun.is_empty() {
            let begun = std::mem::take(&mut self.begun);
            return Poll::Ready(Some(Ok(Frame::data(begun))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let begun = self.begun.len() as u64;
        let rest = match &self.rest {
            Some(rest) => rest.size_hint(),
            None => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(begun.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(begun.saturating_add(upper));
        }
        hint
    }
}
