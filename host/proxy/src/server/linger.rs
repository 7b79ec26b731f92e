//! Closing a connection on which the client may still be sending. To close at once would
//! make the kernel reset it, and the client could lose the answer that says why.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::ReadBuf;

use super::stall::Stall;
use super::transport::Transport;

/// How long, and how much, is still read and thrown away.
const TIME: Duration = Duration::from_secs(2);
const BYTES: usize = 1 << 20;
const PIECE: usize = 4096;

/// The end of a connection.
#[derive(Debug, Default)]
pub(super) struct Linger {
    is_shut: bool,
    read: usize,
    clock: Stall,
}

impl Linger {
    /// Ends our side; with `unread`, waits for the client to end its own.
    pub(super) fn poll<S: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut S,
        unread: bool,
    ) -> Poll<io::Result<()>> {
        if !self.is_shut {
            match Pin::new(&mut *io).poll_shutdown(cx) {
                Poll::Ready(ended) => ended?,
                // It has a last word of its own to write, and the client does not read.
                Poll::Pending if self.clock.lasts(cx, TIME) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
            self.is_shut = true;
            self.clock.moved();
        }
        while unread && self.read < BYTES {
            let mut piece = [0; PIECE];
            let mut buf = ReadBuf::new(&mut piece);
            match Pin::new(&mut *io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => self.read += buf.filled().len(),
                Poll::Ready(_) => break,
                Poll::Pending if self.clock.lasts(cx, TIME) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}
