//! The body of a response to a client, whatever it comes from.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::fill_body::FillBody;
use crate::pieces::Pieces;
use crate::upstream::OriginBody;

/// Why a body ended before it was complete. The connection is reset, so that no client
/// takes the part for the whole.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub(crate) String);

/// The body of a response to a client.
pub enum Body {
    /// A stored body, or one made by the node.
    Full(Bytes),
    /// A stored body that has trailers. Its length is not told: only what is sent in
    /// chunks can have them (RFC 9112 section 7.1.2).
    Trailing(Box<(Bytes, Option<HeaderMap>)>),
    /// Parts of a stored body.
    Pieces(Box<Pieces>),
    /// Streamed from the origin to this client alone.
    Origin(OriginBody),
    /// Streamed from a fill that other clients may read too.
    Fill(FillBody),
    /// From the origin, kept on its way for a write-through.
    Tee(Box<crate::tee::TeeBody>),
}

impl Body {
    /// No body at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::Full(Bytes::new())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Full(_) => "Full",
            Self::Trailing(_) => "Trailing",
            Self::Pieces(_) => "Pieces",
            Self::Origin(_) => "Origin",
            Self::Fill(_) => "Fill",
            Self::Tee(_) => "Tee",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::Full(bytes.into())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(if bytes.is_empty() {
                None
            } else {
                Some(Ok(Frame::data(std::mem::take(bytes))))
            }),
            Self::Trailing(rest) => Poll::Ready(if rest.0.is_empty() {
                rest.1.take().map(|trailers| Ok(Frame::trailers(trailers)))
            } else {
                Some(Ok(Frame::data(std::mem::take(&mut rest.0))))
            }),
            Self::Pieces(pieces) => Poll::Ready(pieces.pop().map(|piece| Ok(Frame::data(piece)))),
            Self::Origin(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|error| BodyError(error.to_string())),
            Self::Fill(body) => Pin::new(body).poll_frame(cx),
            Self::Tee(body) => Pin::new(body.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Trailing(rest) => rest.0.is_empty() && rest.1.is_none(),
            Self::Pieces(pieces) => pieces.left() == 0,
            Self::Origin(body) => body.is_end_stream(),
            Self::Fill(_) | Self::Tee(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(pieces) => SizeHint::with_exact(pieces.left()),
            Self::Origin(body) => body.size_hint(),
            Self::Trailing(_) => SizeHint::default(),
            Self::Fill(body) => body.size_hint(),
            Self::Tee(body) => body.size_hint(),
        }
    }
}
