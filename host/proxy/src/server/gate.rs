//! The gate: what stands between a client's stream and the HTTP library. It lets pass
//! what the scanner has looked at, watches the clocks, and puts interim responses in
//! their place.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Exchange;
use super::linger::Linger;
use super::stall::Stall;
use super::transport::Transport;
use crate::settings::ServerSettings;
use crate::wire::{Limits, Refusal, Scanner, Stop};

/// What an HTTP/2 client sends first: RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is read at once while bytes are kept.
const PIECE: usize = 4096;
/// What is read ahead while nobody knows yet which protocol it is of.
const AHEAD: usize = 4096;

/// The heads that stand for a refused one. They say nothing: the service knows by their
/// number what to answer.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
const STAND_IN_HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// Pieces of so many bytes in all are copied together, as those of most responses: to write one
/// costs the kernel less than to gather some.
const SMALL: usize = 4096;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(SMALL));
}

#[derive(Debug)]
enum Mode {
    /// HTTP/1: only what the scanner has seen passes.
    Scanned(Scanner),
    /// As long as the request that asks for another protocol is not answered.
    Undecided(Scanner),
    /// A head was refused: nothing more is read.
    Refused,
    /// A body was refused: it ends in an error.
    Broken(Refusal),
    /// HTTP/2, or what was switched to.
    Raw,
}

/// How patient the gate is.
#[derive(Debug, Clone, Copy)]
struct Patience {
    header: Duration,
    body: Duration,
    /// Absent: writes may wait for ever.
    write: Option<Duration>,
}

/// A client's stream with the checks in front of it.
#[derive(Debug)]
pub(super) struct Gate<S: Transport> {
    io: S,
    mode: Mode,
    /// Read and not handed on. The first `passed` bytes may go, the scanner has seen
    /// `seen`.
    kept: BytesMut,
    passed: usize,
    seen: usize,
    exchange: Arc<Exchange>,
    patience: Patience,
    reading: Stall,
    writing: Stall,
    /// Interim responses of which not every byte is written.
    interim: BytesMut,
    linger: Linger,
    reset: bool,
}

impl<S: Transport> Gate<S> {
    pub(super) fn new(io: S, settings: &ServerSettings) -> Self {
        let limits = Limits {
            header_size: settings.max_header_size,
            headers: settings.max_headers,
            target: settings.longest_target(),
        };
        Self {
            io,
            mode: Mode::Scanned(Scanner::new(limits)),
            kept: BytesMut::new(),
            passed: 0,
            seen: 0,
            exchange: Arc::new(Exchange::new()),
            patience: Patience {
                header: settings.header_timeout,
                body: settings.body_timeout,
                write: Some(settings.write_timeout),
            },
            reading: Stall::default(),
            writing: Stall::default(),
            interim: BytesMut::new(),
            linger: Linger::default(),
            reset: false,
        }
    }

    /// What the service above hyper shares with the gate.
    pub(super) fn exchange(&self) -> Arc<Exchange> {
        Arc::clone(&self.exchange)
    }

    /// Reads until it is clear which protocol the client speaks. True: HTTP/2, and the
    /// gate lets all of it pass. Nothing: the client has left, or kept us waiting.
    pub(super) async fn is_http2(&mut self) -> Option<bool> {
        std::future::poll_fn(|cx| self.poll_is_http2(cx)).await
    }

    fn poll_is_http2(&mut self, cx: &mut Context<'_>) -> Poll<Option<bool>> {
        loop {
            let known = self.kept.len().min(PREFACE.len());
            if self.kept[..known] != PREFACE[..known] {
                return Poll::Ready(Some(false));
            }
            if known == PREFACE.len() {
                self.mode = Mode::Raw;
                self.passed = self.kept.len();
                self.reading.moved();
                return Poll::Ready(Some(true));
            }
            match self.read_ahead(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if self.reading.lasts(cx, self.patience.header) => {
                    // Some of it may be the beginning of an HTTP/1 request.
                    return Poll::Ready((!self.kept.is_empty()).then_some(false));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads a piece into what is kept.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [0; PIECE];
        let mut buf = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        self.kept.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.passed.min(buf.remaining());
        buf.put_slice(&self.kept[..length]);
        self.kept.advance(length);
        self.passed -= length;
        self.seen = self.seen.saturating_sub(length);
    }

    /// Shows what is kept to the scanner.
    fn scan(&mut self) {
        let Mode::Scanned(scanner) = &mut self.mode else {
            return;
        };
        let progress = scanner.feed(&self.kept);
        self.seen = self.kept.len();
        self.passed = progress.passed;
        if progress.passed > 0 {
            self.reading.moved();
        }
        if let Some(stop) = progress.stop {
            self.stop(stop);
        }
    }

    #[cold]
    fn stop(&mut self, stop: Stop) {
        let mode = std::mem::replace(&mut self.mode, Mode::Refused);
        let Mode::Scanned(scanner) = mode else {
            self.mode = mode;
            return;
        };
        match stop {
            Stop::Undecided => self.mode = Mode::Undecided(scanner),
            Stop::Head(refusal) => self.refuse(scanner.heads(), refusal),
            Stop::Body(refusal) => {
                self.kept.truncate(self.passed);
                self.exchange.breaks();
                self.mode = Mode::Broken(refusal);
            }
        }
    }

    /// Puts a head of our own in the place of what did not pass.
    fn refuse(&mut self, heads: u64, refusal: Refusal) {
        let refused = &self.kept[self.passed..];
        let stand_in = match refused.trim_ascii_start() {
            [b'H', b'E', b'A', b'D', b' ', ..] => STAND_IN_HEAD,
            _ => STAND_IN,
        };
        self.exchange.refuse(heads + 1, refusal);
        self.kept.truncate(self.passed);
        self.kept.extend_from_slice(stand_in);
        self.passed = self.kept.len();
        self.mode = Mode::Refused;
    }

    /// The client is waited for. True when it was for too long: the reading ends, one way
    /// or the other.
    fn is_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let Mode::Scanned(scanner) = &self.mode else {
            return false;
        };
        let in_body = scanner.in_body();
        if !in_body && self.exchange.is_responding() {
            // It waits for us.
            self.reading.moved();
            return false;
        }
        let limit = if in_body {
            self.patience.body
        } else {
            self.patience.header
        };
        self.reading.lasts(cx, limit)
    }

    /// What a client that kept us waiting gets: an error in the middle of a body, an
    /// answer for half a head, the end of an idle connection.
    fn time_out(&mut self) {
        if let Mode::Scanned(scanner) = &self.mode {
            if scanner.in_body() {
                self.kept.clear();
                self.exchange.breaks();
                self.mode = Mode::Broken(Refusal::BodyTimeout);
            } else if !self.kept.is_empty() {
                let heads = scanner.heads();
                self.refuse(heads, Refusal::HeaderTimeout);
            }
        }
    }

    /// Counts a write, or the wait for one.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Pending => {
                if let Some(limit) = self.patience.write
                    && self.writing.lasts(cx, limit)
                {
                    self.reset = true;
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the client does not read its response",
                    )));
                }
            }
            Poll::Ready(_) => {
                self.writing.moved();
                if let Mode::Scanned(scanner) = &self.mode
                    && scanner.at_head()
                {
                    // Idle is who has got all of its response.
                    self.reading.moved();
                }
            }
        }
        polled
    }

    /// Writes interim responses that have been taken. They go before anything else.
    fn write_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let polled = Pin::new(&mut self.io).poll_write(cx, &self.interim);
            let length = ready!(self.wrote(cx, polled))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(length);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncRead for Gate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.passed > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            match &mut this.mode {
                Mode::Raw => return Pin::new(&mut this.io).poll_read(cx, buf),
                // The service answers; nobody needs to be woken.
                Mode::Refused => return Poll::Pending,
                Mode::Broken(refusal) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, *refusal)));
                }
                Mode::Undecided(scanner) => {
                    let switched = this.exchange.switched(scanner.heads());
                    match (switched, std::mem::replace(&mut this.mode, Mode::Raw)) {
                        (Some(true), _) => {
                            this.passed = this.kept.len();
                            this.patience.write = None;
                        }
                        (Some(false), Mode::Undecided(mut scanner)) => {
                            scanner.stays();
                            this.mode = Mode::Scanned(scanner);
                            this.seen = 0;
                        }
                        (_, mode) => {
                            this.mode = mode;
                            // Looked at all the same, to see a client leave.
                            if this.kept.len() >= AHEAD || ready!(this.read_ahead(cx))? == 0 {
                                return match this.kept.len() >= AHEAD {
                                    true => Poll::Pending,
                                    false => Poll::Ready(Ok(())),
                                };
                            }
                        }
                    }
                }
                Mode::Scanned(_) if this.kept.len() > this.seen => this.scan(),
                Mode::Scanned(_) if !this.kept.is_empty() => match this.read_ahead(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                    Poll::Ready(read) => drop(read?),
                    Poll::Pending if this.is_stalled(cx) => this.time_out(),
                    Poll::Pending => return Poll::Pending,
                },
                Mode::Scanned(scanner) => {
                    // The common case: what is read stays where it is.
                    let before = buf.filled().len();
                    match Pin::new(&mut this.io).poll_read(cx, buf) {
                        Poll::Ready(read) => read?,
                        Poll::Pending if this.is_stalled(cx) => {
                            this.time_out();
                            if let Mode::Scanned(_) = this.mode {
                                // Idle: an end without an answer.
                                return Poll::Ready(Ok(()));
                            }
                            continue;
                        }
                        Poll::Pending => return Poll::Pending,
                    }
                    let read = &buf.filled()[before..];
                    if read.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    let progress = scanner.feed(read);
                    if progress.passed < read.len() {
                        this.kept.extend_from_slice(&read[progress.passed..]);
                        this.seen = this.kept.len();
                        buf.set_filled(before + progress.passed);
                    }
                    if let Some(stop) = progress.stop {
                        this.stop(stop);
                    }
                    if progress.passed > 0 {
                        this.reading.moved();
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<S: Transport> AsyncWrite for Gate<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.write_interim(cx))?;
        let polled = Pin::new(&mut this.io).poll_write(cx, data);
        this.wrote(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.write_interim(cx))?;
        let length = data.iter().map(|piece| piece.len()).sum::<usize>();
        let polled = match (data, length) {
            ([_, _, ..], 0..=SMALL) => SCRATCH.with_borrow_mut(|scratch| {
                scratch.clear();
                data.iter()
                    .for_each(|piece| scratch.extend_from_slice(piece));
                Pin::new(&mut this.io).poll_write(cx, scratch)
            }),
            _ => Pin::new(&mut this.io).poll_write_vectored(cx, data),
        };
        this.wrote(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// hyper flushes when it has written all it holds, so an interim response that waits
    /// can go here: after the response before, and before its own.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.write_interim(cx))?;
        if let Some(bytes) = this.exchange.take_interim(cx.waker()) {
            this.interim.extend_from_slice(&bytes);
            ready!(this.write_interim(cx))?;
            // The final response may wait for this.
            cx.waker().wake_by_ref();
        }
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        // After a response hyper does not ask for the next request before it is woken.
        let asks_again = match &this.mode {
            Mode::Scanned(scanner) => {
                scanner.at_head()
                    && !this.exchange.is_responding()
                    && this.reading.lasts(cx, this.patience.header)
            }
            Mode::Undecided(scanner) => {
                let decided = this.exchange.switched(scanner.heads());
                decided.is_some() && !this.exchange.is_responding()
            }
            Mode::Refused | Mode::Broken(_) | Mode::Raw => false,
        };
        if asks_again {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let unread = match &this.mode {
            Mode::Refused | Mode::Broken(_) => true,
            Mode::Scanned(scanner) => scanner.in_body(),
            Mode::Undecided(_) | Mode::Raw => false,
        };
        this.linger.poll(cx, &mut this.io, unread)
    }
}

impl<S: Transport> Drop for Gate<S> {
    fn drop(&mut self) {
        if self.reset || self.exchange.must_reset() {
            self.io.reset();
        }
    }
}

#[cfg(test)]
mod tests;
