//! A body of several pieces, none of them copied: the parts of a multipart/byteranges
//! response (RFC 9110 section 14.6).

use std::collections::VecDeque;
use std::fmt::Write;
use std::ops::Range;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use weir_semantics::content_range;

/// Pieces of a body, in order.
#[derive(Debug, Default)]
pub struct Pieces {
    queue: VecDeque<Bytes>,
    left: u64,
}

impl Pieces {
    /// The spans of `body` as multipart/byteranges, and the Content-Type to go with them:
    /// each part has the type that `stored` gives the whole.
    pub(crate) fn multipart(
        body: &Bytes,
        spans: &[Range<u64>],
        stored: &HeaderMap,
    ) -> (Self, HeaderValue) {
        // Whoever wrote the body cannot know it, so the body does not contain it.
        let boundary: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(32)
            .collect();
        let mut this = Self::default();
        for (at, span) in spans.iter().enumerate() {
            let mut head = String::with_capacity(160);
            // Writing to a String cannot fail.
            let _ = write!(
                head,
                "{}--{boundary}\r\n",
                if at == 0 { "" } else { "\r\n" }
            );
            let mut head = head.into_bytes();
            if let Some(kind) = stored.get(CONTENT_TYPE) {
                head.extend_from_slice(b"Content-Type: ");
                head.extend_from_slice(kind.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(b"Content-Range: ");
            head.extend_from_slice(content_range(span, body.len() as u64).as_bytes());
            head.extend_from_slice(b"\r\n\r\n");
            this.push(head.into());
            // The spans lie within the body, whose length is a usize.
            this.push(body.slice(span.start as usize..span.end as usize));
        }
        this.push(format!("\r\n--{boundary}--\r\n").into());
        let kind = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"));
        let kind = kind.unwrap_or(HeaderValue::from_static("multipart/byteranges"));
        (this, kind)
    }

    fn push(&mut self, piece: Bytes) {
        self.left += piece.len() as u64;
        self.queue.push_back(piece);
    }

    /// The next piece.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let piece = self.queue.pop_front()?;
        self.left -= piece.len() as u64;
        Some(piece)
    }

    /// How many bytes are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_says_what_it_is() {
        let mut stored = HeaderMap::new();
        stored.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let body = Bytes::from_static(b"0123456789");
        let (mut pieces, kind) = Pieces::multipart(&body, &[7..9, 0..1], &stored);
        let kind = std::str::from_utf8(kind.as_bytes()).unwrap().to_owned();
        let boundary = kind
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let announced = pieces.left();
        let mut text = Vec::new();
        while let Some(piece) = pieces.pop() {
            text.extend_from_slice(&piece);
        }
        assert_eq!(announced, text.len() as u64);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            format!(
                "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-8/10\r\n\r\n78\r\n\
                 --{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n\
                 --{boundary}--\r\n"
            )
        );
    }
}
