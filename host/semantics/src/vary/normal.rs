//! The normal form of a request field, written in pieces so that comparing allocates
//! nothing.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, GetAll, PROXY_AUTHORIZATION,
    },
};

use super::languages::Languages;

/// The codings whose acceptance tells variants apart, sorted.
const CODINGS: [&[u8]; 4] = [b"br", b"gzip", b"identity", b"zstd"];
const IDENTITY: usize = 2;
/// Begins an Accept-Encoding or Accept-Language that is kept as it came. No normal form
/// begins with it, for it is no character of a coding or language.
const EXACT: &[u8] = b"=";

/// One of [`CODINGS`], by its place there.
pub(super) fn coding(name: &[u8]) -> Option<usize> {
    if name.eq_ignore_ascii_case(b"x-gzip") {
        return coding(b"gzip");
    }
    CODINGS
        .iter()
        .position(|known| name.eq_ignore_ascii_case(known))
}

/// Was this stored value kept as it came?
pub(super) fn is_exact(name: &HeaderName, value: &[u8]) -> bool {
    *name == ACCEPT_ENCODING && value.starts_with(EXACT)
}

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
    /// Which of [`CODINGS`] are acceptable.
    Codings([bool; CODINGS.len()]),
    /// An Accept-Encoding as a plain list, marked with [`EXACT`].
    ExactCodings(GetAll<'a, HeaderValue>),
}

impl<'a> Normal<'a> {
    /// The normal form of the field in `request`; `None` when the field is absent.
    pub(super) fn of(
        name: &HeaderName,
        request: &'a HeaderMap,
        exact_encoding: bool,
    ) -> Option<Self> {
        if !request.contains_key(name) {
            return None;
        }
        let lines = request.get_all(name);
        Some(match *name {
            ACCEPT_ENCODING if exact_encoding => Self::ExactCodings(lines),
            ACCEPT_ENCODING => acceptable(&lines).map_or(Self::ExactCodings(lines), Self::Codings),
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
            Self::ExactCodings(lines) => sink(EXACT) && write_list(lines, sink),
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
            Self::Codings(acceptable) => {
                let mut names = CODINGS.iter().zip(acceptable).filter(|(_, yes)| **yes);
                names.next().is_none_or(|(first, _)| {
                    sink(first) && names.all(|(name, _)| sink(b",") && sink(name))
                })
            }
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

/// Which of [`CODINGS`] an Accept-Encoding takes (RFC 9110 section 12.5.3). `None` when
/// it cannot be read, or names a coding twice: others may read it otherwise.
fn acceptable(lines: &GetAll<'_, HeaderValue>) -> Option<[bool; CODINGS.len()]> {
    let mut named = [None; CODINGS.len()];
    let mut others = None;
    for line in lines {
        for member in line.as_bytes().split(|&byte| byte == b',') {
            let mut parts = member.splitn(2, |&byte| byte == b';');
            let name = parts.next().unwrap_or_default().trim_ascii();
            if name.is_empty() && parts.next().is_none() {
                continue;
            }
            let takes = match parts.next() {
                None => true,
                Some(weight) => has_weight(weight)?,
            };
            if !crate::directives::is_token(name) {
                return None;
            }
            let slot = match coding(name) {
                Some(at) => &mut named[at],
                None if name == b"*" => &mut others,
                None => continue,
            };
            if slot.replace(takes).is_some() {
                return None;
            }
        }
    }
    let mut acceptable = named.map(|takes| takes.or(others).unwrap_or(false));
    acceptable[IDENTITY] = named[IDENTITY].or(others).unwrap_or(true);
    Some(acceptable)
}

/// Is this `q=` above zero? `None` when it is no weight.
fn has_weight(parameter: &[u8]) -> Option<bool> {
    weight(parameter).map(|weight| weight > 0)
}

/// The thousandths of a `q=` (RFC 9110 section 12.4.2). `None` when it is no weight.
pub(super) fn weight(parameter: &[u8]) -> Option<u16> {
    let parameter = parameter.trim_ascii();
    let weight = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, digits) = match weight {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let mut thousandths = u16::from(whole - b'0') * 1000;
    for (digit, unit) in digits.iter().zip([100, 10, 1]) {
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(digit - b'0') * unit;
    }
    (thousandths <= 1000).then_some(thousandths)
}
