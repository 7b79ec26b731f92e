//! The normal form of a request field, written in pieces so that comparing allocates
//! nothing.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, GetAll, PROXY_AUTHORIZATION,
    },
};

use super::languages::Languages;
use crate::encoding::AcceptEncoding;

/// Begins an Accept-Language that is kept as it came. No normal form begins with it, for it
/// is no character of a language.
const EXACT: &[u8] = b"=";

/// All lines of one field, and the way to normalise them.
#[derive(Debug)]
pub(super) enum Normal<'a> {
    /// A list: members trimmed, one separator.
    List(GetAll<'a, HeaderValue>),
    /// As it came, lines joined.
    Verbatim(GetAll<'a, HeaderValue>),
    /// A set of weighted ranges.
    Languages(Languages<'a>),
    /// An Accept-Language that cannot be read, marked with [`EXACT`]: lower case, no
    /// whitespace.
    ExactLanguages(GetAll<'a, HeaderValue>),
    /// The codings that tell variants apart.
    Codings(AcceptEncoding),
}

impl<'a> Normal<'a> {
    /// The normal form of the field in `request`; `None` when the field is absent.
    pub(super) fn of(name: &HeaderName, request: &'a HeaderMap) -> Option<Self> {
        if !request.contains_key(name) {
            return None;
        }
        let lines = request.get_all(name);
        Some(match *name {
            ACCEPT_ENCODING => Self::Codings(AcceptEncoding::parse(request)?),
            ACCEPT_LANGUAGE => {
                Languages::parse(&lines).map_or(Self::ExactLanguages(lines), Self::Languages)
            }
            AUTHORIZATION | PROXY_AUTHORIZATION | COOKIE => Self::Verbatim(lines),
            _ => Self::List(lines),
        })
    }

    /// Hands the normal form to `sink`, piece by piece, until that says no.
    pub(super) fn write(&self, sink: &mut (impl FnMut(&[u8]) -> bool + ?Sized)) -> bool {
        match self {
            Self::List(lines) => write_list(lines, sink),
            Self::Verbatim(lines) => lines
                .iter()
                .enumerate()
                .all(|(at, line)| (at == 0 || sink(b", ")) && sink(line.as_bytes().trim_ascii())),
            Self::Languages(languages) => languages.write(&mut *sink),
            Self::ExactLanguages(lines) => {
                sink(EXACT)
                    && lines.iter().enumerate().all(|(at, line)| {
                        let mut bytes = line
                            .as_bytes()
                            .iter()
                            .filter(|byte| !byte.is_ascii_whitespace());
                        (at == 0 || sink(b","))
                            && bytes.all(|byte| sink(&[byte.to_ascii_lowercase()]))
                    })
            }
            Self::Codings(accepted) => accepted.write(sink),
        }
    }
}

fn write_list(
    lines: &GetAll<'_, HeaderValue>,
    sink: &mut (impl FnMut(&[u8]) -> bool + ?Sized),
) -> bool {
    lines.iter().enumerate().all(|(at, line)| {
        let mut rest = line.as_bytes();
        if at > 0 && !sink(b", ") {
            return false;
        }
        loop {
            let end = member_len(rest);
            if !sink(rest[..end].trim_ascii()) {
                return false;
            }
            match rest.get(end + 1..) {
                None => return true,
                Some(after) => rest = after,
            }
            if !sink(b", ") {
                return false;
            }
        }
    })
}

/// Up to the first comma outside of a quoted string. One without an end takes the rest of
/// the line.
fn member_len(bytes: &[u8]) -> usize {
    let (mut at, mut quoted) = (0, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b',' if !quoted => return at,
            b'"' => quoted = !quoted,
            b'\\' if quoted => at += 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}
