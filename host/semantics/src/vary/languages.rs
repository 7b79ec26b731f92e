//! Accept-Language as the set of weighted ranges that it is (RFC 9110 section 12.5.4):
//! neither their order nor their case tells variants apart.

use std::cmp::Ordering;

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_LANGUAGE, GetAll},
};
use smallvec::SmallVec;

/// A field with more ranges than that is compared as it came.
const MOST_RANGES: usize = 32;
/// A weight of 1, in thousandths.
const FULL: u16 = 1000;
/// Stands between the set that selected a response and the language it is in. No normal
/// form contains it.
const MARK: u8 = b'\n';

/// The ranges of a field with their weights, sorted, each once.
#[derive(Debug)]
pub(super) struct Languages<'a>(SmallVec<[(&'a [u8], u16); 8]>);

impl<'a> Languages<'a> {
    /// `None` when the field cannot be read, or gives one range two weights: others may
    /// read it otherwise.
    pub(super) fn parse(lines: &GetAll<'a, HeaderValue>) -> Option<Self> {
        let mut ranges: SmallVec<[_; 8]> = SmallVec::new();
        for line in lines.iter() {
            for member in line.as_bytes().split(|&byte| byte == b',') {
                let mut parts = member.splitn(2, |&byte| byte == b';');
                let range = parts.next().unwrap_or_default().trim_ascii();
                let weight = match parts.next() {
                    None if range.is_empty() => continue,
                    None => FULL,
                    Some(parameter) => crate::encoding::weight(parameter)?,
                };
                if !is_range(range) || ranges.len() == MOST_RANGES {
                    return None;
                }
                ranges.push((range, weight));
            }
        }
        ranges.sort_unstable_by(|(a, _), (b, _)| compare(a, b));
        ranges.dedup_by(|(a, one), (b, other)| one == other && a.eq_ignore_ascii_case(b));
        let contradicts = |pair: &[(&[u8], u16)]| pair[0].0.eq_ignore_ascii_case(pair[1].0);
        (!ranges.windows(2).any(contradicts)).then_some(Self(ranges))
    }

    /// Hands the normal form to `sink`, piece by piece, until that says no.
    pub(super) fn write(&self, sink: &mut (impl FnMut(&[u8]) -> bool + ?Sized)) -> bool {
        self.0.iter().enumerate().all(|(at, (range, weight))| {
            let mut letters = range.iter();
            (at == 0 || sink(b","))
                && letters.all(|letter| sink(&[letter.to_ascii_lowercase()]))
                && (*weight == FULL || (sink(b";") && sink(&digits(*weight))))
        })
    }

    /// The one range that weighs more than every other.
    fn first_choice(&self) -> Option<&'a [u8]> {
        let most = self.0.iter().map(|(_, weight)| *weight).max()?;
        let mut best = self.0.iter().filter(|(_, weight)| *weight == most);
        match (best.next(), best.next()) {
            (Some((range, _)), None) if most > 0 && *range != b"*" => Some(range),
            _ => None,
        }
    }

    /// Is a response in `language` the best that this field could get? Whatever else the
    /// origin has, the client would rather have this.
    pub(super) fn prefers(&self, language: &[u8]) -> bool {
        self.first_choice()
            .is_some_and(|choice| choice.eq_ignore_ascii_case(language))
    }
}

/// The language a response is in, if it says just one.
pub(super) fn of_response(response: &HeaderMap) -> Option<Box<[u8]>> {
    let mut lines = response.get_all(CONTENT_LANGUAGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let tag = line.as_bytes().trim_ascii();
    (is_range(tag) && !tag.contains(&b'*')).then(|| tag.to_ascii_lowercase().into_boxed_slice())
}

/// Notes behind a stored value which language the response is in.
pub(super) fn mark(value: &mut Vec<u8>, language: &[u8]) {
    value.push(MARK);
    value.extend_from_slice(language);
}

/// A stored value: the normal form that selected the response, and the response's language.
pub(super) fn marked(stored: &[u8]) -> (&[u8], Option<&[u8]>) {
    match stored.iter().position(|&byte| byte == MARK) {
        Some(at) => (&stored[..at], stored.get(at + 1..)),
        None => (stored, None),
    }
}

fn is_range(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'*'))
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let lower = |byte: &u8| byte.to_ascii_lowercase();
    a.iter().map(lower).cmp(b.iter().map(lower))
}

/// The three digits of a weight below 1.
fn digits(thousandths: u16) -> [u8; 3] {
    // Each is below ten.
    [100, 10, 1].map(|unit| b'0' + (thousandths / unit % 10) as u8)
}
