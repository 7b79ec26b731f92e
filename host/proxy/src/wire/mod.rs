//! HTTP/1 requests at the bytes: a strict scanner in front of hyper's parser.
//!
//! hyper forgives what two parsers read in two ways: a bare LF, two Host fields, a
//! Content-Length beside a Transfer-Encoding (it drops the former before a service sees
//! it). So each head and each chunk is looked at here first. The scanner does no I/O and
//! keeps no bytes: it says how many of those it was shown may pass. Its answer does not
//! depend on how they are split.

mod chars;
mod chunked;
mod head;
mod refusal;
#[cfg(test)]
mod tests;

use self::chunked::{Chunked, Scan};
use self::head::{Body, Head};

pub use self::chunked::is_forbidden_trailer;
pub use self::refusal::Refusal;

/// How large a request's head may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the head, from the request line to the empty line.
    pub header_size: usize,
    /// Header fields.
    pub headers: usize,
    /// Bytes of the request target; less than `header_size`.
    pub target: usize,
}

/// What a look at the bytes gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// So many of the bytes may pass. The rest must be shown again, with more behind it.
    pub passed: usize,
    /// Why no more bytes pass; absent: there are none, or they do not suffice.
    pub stop: Option<Stop>,
}

/// Why the scanner goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The request that has just passed asks for another protocol (Upgrade, CONNECT). The
    /// bytes behind it are HTTP only if that is declined: see [`Scanner::stays`].
    Undecided,
    /// The next head is refused; none of its bytes pass.
    Head(Refusal),
    /// The body under way is refused, in its middle.
    Body(Refusal),
}

/// Where in the stream of requests the scanner is.
#[derive(Debug)]
enum State {
    Head(Head),
    /// Bytes left of a body.
    Length(u64),
    Chunked(Chunked),
    Stopped(Stop),
}

/// Follows a client's bytes from one request to the next.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    state: State,
    /// Whether the request under way asks for another protocol.
    asks: bool,
    heads: u64,
}

impl Scanner {
    /// A scanner at the beginning of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Head(Head::default()),
            asks: false,
            heads: 0,
        }
    }

    /// How many heads have passed.
    #[must_use]
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next byte belongs to a head.
    #[must_use]
    pub fn at_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Whether the next byte belongs to a body.
    #[must_use]
    pub fn in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_))
    }

    /// The request for another protocol was declined: what follows is HTTP.
    pub fn stays(&mut self) {
        if let State::Stopped(Stop::Undecided) = self.state {
            self.state = State::Head(Head::default());
        }
    }

    /// Looks at `bytes`: those that did not pass in the last call, and more behind them.
    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        let mut passed = 0;
        loop {
            let rest = &bytes[passed..];
            if rest.is_empty() && !matches!(self.state, State::Stopped(_)) {
                return Progress { passed, stop: None };
            }
            match &mut self.state {
                State::Head(head) => match head.scan(rest, &self.limits) {
                    Ok(None) => return Progress { passed, stop: None },
                    Ok(Some((length, message))) => {
                        passed += length;
                        self.heads += 1;
                        self.asks = message.asks;
                        match message.body {
                            Body::None => self.ended(),
                            Body::Length(length) => self.state = State::Length(length),
                            Body::Chunked => self.state = State::Chunked(Chunked::default()),
                        }
                    }
                    Err(refusal) => self.state = State::Stopped(Stop::Head(refusal)),
                },
                State::Length(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    passed += here;
                    *left -= here as u64;
                    if *left == 0 {
                        self.ended();
                    }
                }
                State::Chunked(chunked) => {
                    let (here, scan) = chunked.scan(rest, self.limits.headers);
                    passed += here;
                    match scan {
                        Scan::More => return Progress { passed, stop: None },
                        Scan::Ended => self.ended(),
                        Scan::Refused(refusal) => {
                            self.state = State::Stopped(Stop::Body(refusal));
                        }
                    }
                }
                State::Stopped(stop) => {
                    return Progress {
                        passed,
                        stop: Some(*stop),
                    };
                }
            }
        }
    }

    fn ended(&mut self) {
        self.state = if self.asks {
            State::Stopped(Stop::Undecided)
        } else {
            State::Head(Head::default())
        };
    }
}
