//! Bodies of answers: in pieces, held at gates, cut short, endless.

use std::collections::VecDeque;
use std::io;
use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;

use super::gate::Gate;

/// The body type of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A step in sending a body.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Send this.
    Data(Bytes),
    /// Wait here.
    Wait(Gate),
    /// Cut the connection: the body never ends clean.
    Cut,
    /// Send so many bytes of [`Pattern`], from its beginning.
    Pattern(u64),
}

impl From<&str> for Piece {
    fn from(text: &str) -> Self {
        Self::Data(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<&Gate> for Piece {
    fn from(gate: &Gate) -> Self {
        Self::Wait(gate.clone())
    }
}

/// An endless sequence of bytes of which any part can be checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pattern {
    at: u64,
}

const PERIOD: usize = 65_521;
static BLOCK: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..PERIOD).map(next).collect()
});

impl Pattern {
    /// The next at most `limit` bytes, without a copy.
    pub fn take(&mut self, limit: u64) -> Bytes {
        let start = (self.at % PERIOD as u64) as usize;
        let length = limit.min((PERIOD - start) as u64) as usize;
        self.at += length as u64;
        BLOCK.slice(start..start + length)
    }

    /// Do these bytes come next? Moves behind them.
    pub fn goes_on_with(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = self.take(bytes.len() as u64);
            let (head, tail) = bytes.split_at(expected.len());
            if head != &expected[..] {
                return false;
            }
            bytes = tail;
        }
        true
    }

    /// How many bytes have been taken or compared.
    pub fn position(&self) -> u64 {
        self.at
    }
}

pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(super) fn pieces(pieces: Vec<Piece>) -> Body {
    let state = (VecDeque::from(pieces), Pattern::default());
    let frames = futures_util::stream::unfold(state, async |(mut left, mut pattern)| {
        loop {
            let frame = match left.pop_front()? {
                Piece::Data(bytes) => Ok(Frame::data(bytes)),
                Piece::Wait(gate) => {
                    gate.pass().await;
                    continue;
                }
                Piece::Cut => {
                    left.clear();
                    // While a body waits, hyper sends what it holds back: the client has
                    // seen all that came before the cut.
                    tokio::task::yield_now().await;
                    Err(io::Error::other("cut short by the test"))
                }
                Piece::Pattern(total) if pattern.position() >= total => continue,
                Piece::Pattern(total) => {
                    left.push_front(Piece::Pattern(total));
                    Ok(Frame::data(pattern.take(total - pattern.position())))
                }
            };
            return Some((frame, (left, pattern)));
        }
    });
    StreamBody::new(frames.boxed()).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_pattern_knows_its_own_bytes_however_they_are_cut() {
        let (mut made, mut seen) = (Pattern::default(), Pattern::default());
        let mut bytes = Vec::new();
        while bytes.len() < 200_000 {
            bytes.extend_from_slice(&made.take(70_001));
        }
        assert!(bytes.chunks(777).all(|chunk| seen.goes_on_with(chunk)));
        bytes[150_000] ^= 1;
        assert!(!Pattern::default().goes_on_with(&bytes));
    }
}
