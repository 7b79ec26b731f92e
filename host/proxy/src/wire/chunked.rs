//! A chunked body: RFC 9112 section 7.1, with nothing forgiven.

use memchr::memchr;

use super::Refusal;
use super::chars::controls;
use super::head::field;

/// The longest line of a chunk's size, its extension included.
const LONGEST_LINE: usize = 256;
/// The most bytes of a trailer section.
const LARGEST_TRAILERS: usize = 8 * 1024;
/// Hexadecimal digits of a size below 2^63.
const DIGITS: usize = 16;

/// Names that count only in a header section (RFC 9110 section 6.5.1): framing, routing,
/// authentication, conditions, and how the content is read. An origin that merged them
/// would act on what nobody checked.
const FORBIDDEN: [&[u8]; 22] = [
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"keep-alive",
    b"max-forwards",
    b"pragma",
    b"proxy-authorization",
    b"proxy-connection",
    b"range",
    b"set-cookie",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];
const FORBIDDEN_PREFIXES: [&[u8]; 2] = [b"if-", b"x-forwarded-"];

/// Whether a field of this name may not stand in a request's trailer section.
#[must_use]
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    FORBIDDEN
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
        || FORBIDDEN_PREFIXES.iter().any(|prefix| {
            name.get(..prefix.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        })
}

/// A chunked body on its way in.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    stage: Stage,
    /// Up to where the bytes that did not pass hold no line end.
    searched: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
}

#[derive(Debug, Default, Clone, Copy)]
enum Stage {
    #[default]
    Size,
    /// Bytes left of a chunk's data.
    Data(u64),
    DataEnd,
    Trailers,
}

/// How a look at the bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// More bytes are needed.
    More,
    Ended,
    Refused(Refusal),
}

impl Chunked {
    /// Goes on with `bytes`, those that did not pass before first. Returns how many pass.
    pub(super) fn scan(&mut self, bytes: &[u8], max_fields: usize) -> (usize, Scan) {
        let mut passed = 0;
        loop {
            match self.step(&bytes[passed..], max_fields) {
                Ok(Some((length, ended))) => {
                    passed += length;
                    if ended {
                        return (passed, Scan::Ended);
                    }
                }
                Ok(None) => return (passed, Scan::More),
                Err(refusal) => return (passed, Scan::Refused(refusal)),
            }
        }
    }

    /// One line, or a piece of data: its length, and whether it was the last.
    fn step(&mut self, bytes: &[u8], max_fields: usize) -> Result<Option<(usize, bool)>, Refusal> {
        match self.stage {
            Stage::Data(left) => {
                if bytes.is_empty() {
                    return Ok(None);
                }
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - here as u64;
                self.stage = if left == 0 {
                    Stage::DataEnd
                } else {
                    Stage::Data(left)
                };
                Ok(Some((here, false)))
            }
            Stage::DataEnd => match bytes {
                [] | [b'\r'] => Ok(None),
                [b'\r', b'\n', ..] => {
                    self.stage = Stage::Size;
                    Ok(Some((2, false)))
                }
                _ => Err(Refusal::ChunkEnd),
            },
            Stage::Size => {
                let Some(line) = self.line(bytes, LONGEST_LINE, Refusal::ChunkExtension)? else {
                    return Ok(None);
                };
                self.stage = match size(line)? {
                    0 => Stage::Trailers,
                    size => Stage::Data(size),
                };
                Ok(Some((line.len() + 2, false)))
            }
            Stage::Trailers => {
                let room = LARGEST_TRAILERS - self.trailer_bytes;
                let Some(line) = self.line(bytes, room, Refusal::TrailersTooLarge)? else {
                    return Ok(None);
                };
                let length = line.len() + 2;
                if line.is_empty() {
                    return Ok(Some((length, true)));
                }
                self.trailer_fields += 1;
                self.trailer_bytes = (self.trailer_bytes + length).min(LARGEST_TRAILERS);
                if self.trailer_fields > max_fields {
                    return Err(Refusal::TrailersTooLarge);
                }
                let (name, _) = field(line)?;
                if is_forbidden_trailer(name) {
                    return Err(Refusal::TrailerField);
                }
                if controls(line) > 0 {
                    return Err(Refusal::ControlCharacter);
                }
                Ok(Some((length, false)))
            }
        }
    }

    /// The line that `bytes` begin with, without its end; nothing while it is not whole.
    fn line<'a>(
        &mut self,
        bytes: &'a [u8],
        longest: usize,
        too_long: Refusal,
    ) -> Result<Option<&'a [u8]>, Refusal> {
        let found = memchr(b'\n', &bytes[self.searched..]);
        let end = found.map_or(bytes.len(), |at| self.searched + at);
        if end > longest + 1 {
            return Err(too_long);
        }
        self.searched = end;
        if found.is_none() {
            return Ok(None);
        }
        self.searched = 0;
        match bytes[..end].split_last() {
            Some((b'\r', line)) => Ok(Some(line)),
            _ => Err(Refusal::BareLineEnd),
        }
    }
}

fn size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (number, extension) = line.split_at(digits);
    if digits == 0 || digits > DIGITS {
        return Err(Refusal::ChunkSize);
    }
    match extension.first() {
        None => {}
        Some(b';') if controls(extension) == 0 => {}
        Some(b';') => return Err(Refusal::ChunkExtension),
        Some(_) => return Err(Refusal::ChunkSize),
    }
    let size = number.iter().fold(0_u64, |sum, &digit| {
        let value = char::from(digit).to_digit(16).unwrap_or_default();
        (sum << 4) | u64::from(value)
    });
    if size > i64::MAX as u64 {
        return Err(Refusal::ChunkSize);
    }
    Ok(size)
}
