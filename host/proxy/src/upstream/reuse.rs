//! Whether a connection to an origin has answered before. An origin may close it just when
//! the next request is on its way, which says nothing of the request: RFC 9112 section 9.3.1
//! lets an idempotent one be sent again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::Extensions;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};

/// A mark that goes with a connection, its responses and its errors.
#[derive(Debug, Clone, Default)]
struct Answered(Arc<AtomicBool>);

/// A response came by its connection.
pub(super) fn answered(response: &Extensions) {
    if let Some(Answered(mark)) = response.get() {
        mark.store(true, Ordering::Relaxed);
    }
}

/// Did the connection that failed answer before?
pub(super) fn had_answered(error: &legacy::Error) -> bool {
    let mut extensions = Extensions::new();
    if let Some(connected) = error.connect_info() {
        connected.get_extras(&mut extensions);
    }
    extensions
        .get()
        .is_some_and(|Answered(mark)| mark.load(Ordering::Relaxed))
}

/// A connection with that mark.
#[derive(Debug)]
pub(super) struct Marked<S> {
    stream: S,
    mark: Answered,
}

impl<S> From<S> for Marked<S> {
    fn from(stream: S) -> Self {
        Self {
            stream,
            mark: Answered::default(),
        }
    }
}

impl<S: Connection> Connection for Marked<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.mark.clone())
    }
}

impl<S: Read + Unpin> Read for Marked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Write + Unpin> Write for Marked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }
}
