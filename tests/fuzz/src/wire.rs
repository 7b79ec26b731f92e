//! A client's HTTP/1 bytes, as they come from its socket.

use http::{Method, Uri};
use httparse::Status;
use weir_proxy::wire::{Limits, Scanner, Stop};

const FIELDS: usize = 16;
const LIMITS: Limits = Limits {
    header_size: 1024,
    headers: FIELDS,
    target: 256,
};

/// What the scanner made of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    passed: Vec<u8>,
    /// Where in `passed` each head ended.
    heads: Vec<usize>,
    stop: Option<Stop>,
}

/// A line whose bytes are the lengths of the pieces, then the stream that is cut so. With
/// an empty line, requests for another protocol are not declined.
pub fn wire(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (cuts, stream) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let stays = !cuts.is_empty();
    let singly = scan(stream.chunks(1), stays);
    let at_once = scan([stream], stays);
    assert_eq!(
        at_once.passed, singly.passed,
        "the splits decide what passes"
    );
    assert_eq!(at_once.stop, singly.stop, "the splits decide the answer");
    if stays {
        let cut = scan(pieces(stream, cuts), stays);
        assert_eq!(cut.passed, singly.passed, "the splits decide what passes");
        assert_eq!(cut.stop, singly.stop, "the splits decide the answer");
    }
    assert!(
        stream.starts_with(&singly.passed),
        "what passes is the stream"
    );
    read_again(&singly);
}

fn pieces<'a>(mut rest: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut cuts = cuts.iter().cycle();
    std::iter::from_fn(move || {
        let length = usize::from(*cuts.next()?).max(1).min(rest.len());
        let (piece, after) = rest.split_at(length);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, stays: bool) -> Seen {
    let mut scanner = Scanner::new(LIMITS);
    let mut seen = Seen::default();
    let mut kept = Vec::new();
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let heads = scanner.heads();
            let progress = scanner.feed(&kept);
            assert!(progress.passed <= kept.len(), "more than there is");
            let stopped = matches!(seen.stop, Some(Stop::Head(_) | Stop::Body(_)));
            assert!(!stopped || progress.passed == 0, "bytes pass after a stop");
            assert!(!stopped || progress.stop == seen.stop, "the reason changes");
            seen.passed.extend(kept.drain(..progress.passed));
            seen.stop = progress.stop;
            if scanner.heads() > heads {
                seen.heads.push(seen.passed.len());
            }
            if progress.stop != Some(Stop::Undecided) || !stays {
                break;
            }
            assert_eq!(scanner.feed(&kept).passed, 0, "bytes pass undecided");
            scanner.stays();
            seen.stop = None;
        }
    }
    seen
}

/// Reads what passed as the parser behind the scanner does. It must find the same heads,
/// of bodies that end in the same places: it was fed byte by byte, so each head has its
/// own end.
fn read_again(seen: &Seen) {
    let mut rest = &seen.passed[..];
    for end in &seen.heads {
        let at = seen.passed.len() - rest.len();
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(rest);
        assert_eq!(parsed, Ok(Status::Complete(end - at)), "another head");
        let method = request.method.unwrap_or_default().parse::<Method>();
        assert!(method.is_ok(), "no method");
        let target = request.path.unwrap_or_default();
        let uri = Uri::try_from(target).expect("a target that the http crate takes");
        if target.starts_with('/') {
            assert_eq!(uri.to_string(), target, "the target was changed");
        }
        rest = &rest[end - at..];
        rest = match Framing::of(request.headers) {
            Framing::None => rest,
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                &rest[length.min(rest.len())..]
            }
            Framing::Chunked => behind_chunks(rest),
        };
    }
    // Of a head that is not whole, nothing passes.
    assert!(rest.is_empty(), "bytes between requests");
}

enum Framing {
    None,
    Length(u64),
    Chunked,
}

impl Framing {
    /// RFC 9112 section 6.3, and that nothing is left to choose.
    fn of(fields: &[httparse::Header<'_>]) -> Self {
        let mut found = Self::None;
        for field in fields {
            let framing = if field.name.eq_ignore_ascii_case("content-length") {
                let text = std::str::from_utf8(field.value).expect("digits");
                Self::Length(text.parse().expect("one number"))
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                assert!(field.value.eq_ignore_ascii_case(b"chunked"), "a coding");
                Self::Chunked
            } else {
                continue;
            };
            assert!(matches!(found, Self::None), "two framings");
            found = framing;
        }
        found
    }
}

/// What follows a chunked body; nothing where it is not whole.
fn behind_chunks(mut rest: &[u8]) -> &[u8] {
    loop {
        let (at, size) = match httparse::parse_chunk_size(rest) {
            Ok(Status::Complete(found)) => found,
            Ok(Status::Partial) => return &[],
            Err(_) => panic!("a chunk's size that the parser behind refuses"),
        };
        rest = &rest[at..];
        if size == 0 {
            return behind_trailers(rest);
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some(after) = rest.get(size..).filter(|after| after.len() >= 2) else {
            return &[];
        };
        assert!(after.starts_with(b"\r\n"), "data without an end");
        rest = &after[2..];
    }
}

fn behind_trailers(rest: &[u8]) -> &[u8] {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    match httparse::parse_headers(rest, &mut fields) {
        Ok(Status::Complete((at, fields))) => {
            for field in fields {
                let forbidden = weir_proxy::wire::is_forbidden_trailer(field.name.as_bytes());
                assert!(!forbidden, "a trailer that may not be one");
            }
            &rest[at..]
        }
        Ok(Status::Partial) => &[],
        Err(error) => panic!("trailers that the parser behind refuses: {error}"),
    }
}
