//! One request's head: request line, fields, and what they say of the body.

use http::Uri;
use memchr::memchr;

use super::chars::{controls, is_target, is_token, trim};
use super::{Limits, Refusal};

/// What a request line may have besides its target: a method, two spaces, the version.
const AROUND_TARGET: usize = 64;
/// A body may not be longer: some recipients count in signed numbers.
const LONGEST: u64 = i64::MAX as u64;

/// A head on its way in. Positions count from its first byte.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Where the first line begins whose end has not come.
    line: usize,
    /// Up to where no line end is left to find.
    searched: usize,
    lines: usize,
    stage: Stage,
    facts: Facts,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Begin,
    /// After an empty line.
    BeginAgain,
    Fields,
}

#[derive(Debug, Default)]
struct Facts {
    old_version: bool,
    connect: bool,
    host: bool,
    upgrade: bool,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
}

/// What a head says of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) body: Body,
    /// Whether it asks for another protocol.
    pub(super) asks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(u64),
    Chunked,
}

impl Head {
    /// Goes on with `bytes`, which begin where the head does. Returns its length when it
    /// is whole.
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<(usize, Message)>, Refusal> {
        loop {
            let found = memchr(b'\n', &bytes[self.searched..]);
            // Where the line's LF stands at the earliest: a limit must not be told by how
            // the bytes came.
            let end = found.map_or(bytes.len(), |at| self.searched + at);
            if self.stage != Stage::Fields && end - self.line > limits.target + AROUND_TARGET + 1 {
                return Err(Refusal::TargetTooLong);
            }
            if end >= limits.header_size {
                return Err(Refusal::HeaderTooLarge);
            }
            self.searched = end;
            if found.is_none() {
                return Ok(None);
            }
            if end == self.line || bytes[end - 1] != b'\r' {
                return Err(Refusal::BareLineEnd);
            }
            let line = &bytes[self.line..end - 1];
            self.line = end + 1;
            self.searched = end + 1;
            self.lines += 1;
            match self.stage {
                Stage::Begin if line.is_empty() => self.stage = Stage::BeginAgain,
                Stage::BeginAgain if line.is_empty() => return Err(Refusal::EmptyLines),
                Stage::Begin | Stage::BeginAgain => {
                    self.facts.request_line(line, limits)?;
                    self.stage = Stage::Fields;
                }
                Stage::Fields if line.is_empty() => {
                    let head = &bytes[..self.line];
                    // The line ends are the only ones there may be.
                    if controls(head) != 2 * self.lines {
                        return Err(Refusal::ControlCharacter);
                    }
                    return Ok(Some((self.line, self.facts.message()?)));
                }
                Stage::Fields => self.facts.field(line, limits)?,
            }
        }
    }
}

impl Facts {
    fn request_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let method_end = line
            .iter()
            .position(|&byte| !is_token(byte))
            .ok_or(Refusal::RequestLine)?;
        match line[method_end] {
            b' ' if method_end > 0 => {}
            b' ' | b'\t' if method_end == 0 => return Err(Refusal::FoldedLine),
            _ => return Err(Refusal::Method),
        }
        let (method, rest) = (&line[..method_end], &line[method_end + 1..]);
        let space = memchr(b' ', rest).ok_or(Refusal::RequestLine)?;
        let (target, version) = (&rest[..space], &rest[space + 1..]);
        match version {
            b"HTTP/1.1" => {}
            b"HTTP/1.0" => self.old_version = true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal::Version);
            }
            _ => return Err(Refusal::RequestLine),
        }
        if target.len() > limits.target {
            return Err(Refusal::TargetTooLong);
        }
        if !is_target(target) {
            return Err(Refusal::Target);
        }
        self.connect = method == b"CONNECT";
        let good = match target.first() {
            Some(b'/') => !self.connect,
            Some(b'*') => target.len() == 1 && method == b"OPTIONS",
            _ => is_other_form(target, self.connect),
        };
        if good { Ok(()) } else { Err(Refusal::Target) }
    }

    fn field(&mut self, line: &[u8], limits: &Limits) -> Result<(), Refusal> {
        self.fields += 1;
        if self.fields > limits.headers {
            return Err(Refusal::TooManyFields);
        }
        let (name, value) = field(line)?;
        // Few names count here, so most are let go by their first letter and length.
        match (name[0] | 0x20, name.len()) {
            (b'h', 4) if name.eq_ignore_ascii_case(b"host") => {
                once(&mut self.host, Refusal::ManyHosts)?;
            }
            (b'u', 7) if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            (b'c', 14) if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::ManyLengths);
                }
                self.length = Some(length(trim(value))?);
            }
            (b't', 17) if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                coding(trim(value))?;
                once(&mut self.chunked, Refusal::BadCoding)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn message(&self) -> Result<Message, Refusal> {
        if !self.host && !self.old_version {
            return Err(Refusal::NoHost);
        }
        let body = match (self.length, self.chunked) {
            (Some(_), true) => return Err(Refusal::LengthAndCoding),
            (None, true) if self.old_version => return Err(Refusal::CodingInOldVersion),
            (None, true) => Body::Chunked,
            (Some(length), false) if length > 0 => Body::Length(length),
            _ => Body::None,
        };
        if self.connect && (self.length.is_some() || self.chunked) {
            return Err(Refusal::ConnectBody);
        }
        Ok(Message {
            body,
            asks: self.connect || (self.upgrade && !self.old_version),
        })
    }
}

fn once(seen: &mut bool, again: Refusal) -> Result<(), Refusal> {
    match std::mem::replace(seen, true) {
        true => Err(again),
        false => Ok(()),
    }
}

/// RFC 9112 sections 3.2.2 and 3.2.3, both rare: a whole URI, or an authority.
fn is_other_form(target: &[u8], connect: bool) -> bool {
    let Ok(uri) = Uri::try_from(target) else {
        return false;
    };
    match uri.scheme_str() {
        Some(scheme) => !connect && matches!(scheme, "http" | "https") && uri.authority().is_some(),
        None => connect && uri.port().is_some() && uri.path_and_query().is_none(),
    }
}

/// Name and value of a field line.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if let [b' ' | b'\t', ..] = line {
        return Err(Refusal::FoldedLine);
    }
    match line.iter().position(|&byte| !is_token(byte)) {
        Some(colon) if colon > 0 && line[colon] == b':' => Ok((&line[..colon], &line[colon + 1..])),
        _ => Err(Refusal::FieldName),
    }
}

fn length(value: &[u8]) -> Result<u64, Refusal> {
    let plain = match value {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !plain {
        return Err(Refusal::BadLength);
    }
    // At most 19 digits do not overflow.
    let length = value
        .iter()
        .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    if length > LONGEST {
        return Err(Refusal::BadLength);
    }
    Ok(length)
}

/// Exactly `chunked`. A list that ends with it has an end that can be told, and a coding
/// that this node does not know.
fn coding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_chunked = |member: &[u8]| trim(member).eq_ignore_ascii_case(b"chunked");
    let mut members = value.rsplit(|&byte| byte == b',');
    let last = members.next().is_some_and(is_chunked);
    if last && members.all(|member| !trim(member).is_empty() && !is_chunked(member)) {
        return Err(Refusal::UnknownCoding);
    }
    Err(Refusal::BadCoding)
}
