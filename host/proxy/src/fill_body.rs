//! A fill as the body of a response. It ends cleanly only when the fill did.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use weir_store::fill::{Piece, Reader};

use crate::body::BodyError;

/// The body of a response that is being stored while it is read.
pub struct FillBody {
    reader: Reader,
    length: Option<u64>,
    ended: bool,
}

impl FillBody {
    pub(crate) fn new(reader: Reader, length: Option<u64>) -> Self {
        Self {
            reader,
            length,
            ended: false,
        }
    }
}

impl fmt::Debug for FillBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FillBody").field(&self.reader).finish()
    }
}

impl Body for FillBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.reader.poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Piece::Data(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(Ok(Piece::End(trailers))) => {
                self.ended = true;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers.to_header_map()))))
            }
            Poll::Ready(Err(error)) => {
                self.ended = true;
                Poll::Ready(Some(Err(BodyError(error.to_string()))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
