//! Choosing a language: RFC 4647 section 3.4 over Accept-Language (RFC 9110
//! section 12.5.4).

use std::cell::RefCell;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::recent::Recent;

/// The most ranges that are looked at: the rest of a longer field is ignored.
const MAX_RANGES: usize = 32;
/// The most languages to choose from that an answer is kept for.
const MAX_KEPT: usize = 32;
/// The longest of them, in bytes.
const LONGEST_TAG: usize = 35;

struct Range<'a> {
    tag: &'a str,
    /// Thousandths.
    weight: u16,
}

/// A field, and the languages that were chosen from.
type Question = (Box<[u8]>, Arc<[String]>);

thread_local! {
    static RECENT: RefCell<Recent<Question, usize>> = RefCell::new(Recent::new());
}

/// Where the best of `available` stands; 0, its first, when nothing fits.
///
/// A range of weight zero excludes what it matches as a prefix, the default
/// excepted. `*` says nothing that lookup could use and is passed over.
pub(crate) fn lookup<'f>(
    mut fields: impl Iterator<Item = &'f [u8]>,
    available: &Arc<[String]>,
) -> usize {
    match (fields.next(), fields.next()) {
        (None, _) => 0,
        (Some(one), None) => known(one, available),
        (Some(one), other) => best([one].into_iter().chain(other).chain(fields), available),
    }
}

/// A policy may give lists of any length, which are none of its memory here.
fn may_be_kept(available: &[String]) -> bool {
    available.len() <= MAX_KEPT && available.iter().all(|it| it.len() <= LONGEST_TAG)
}

fn known(field: &[u8], available: &Arc<[String]>) -> usize {
    // A remembered decision names the same list each time.
    let is_same = |(text, list): &Question| {
        **text == *field && (Arc::ptr_eq(list, available) || list == available)
    };
    let find = || best(std::iter::once(field), available);
    let keep = || may_be_kept(available).then(|| (field.into(), Arc::clone(available)));
    RECENT
        .with_borrow_mut(|recent| recent.get(field, (field, available.len()), is_same, keep, find))
}

fn best<'f>(fields: impl Iterator<Item = &'f [u8]>, available: &[String]) -> usize {
    let mut ranges: SmallVec<[Range<'f>; 8]> = fields
        .flat_map(|field| field.split(|&b| b == b','))
        .take(MAX_RANGES)
        .filter_map(parse)
        .collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.weight));
    let excluded = |tag: &str| {
        ranges
            .iter()
            .any(|r| r.weight == 0 && is_prefix(r.tag, tag))
    };
    for range in ranges.iter().filter(|r| r.weight > 0 && r.tag != "*") {
        let mut wanted = range.tag;
        loop {
            let fits = |it: &String| it.eq_ignore_ascii_case(wanted) && !excluded(it);
            if let Some(found) = available.iter().position(fits) {
                return found;
            }
            match truncated(wanted) {
                Some(shorter) => wanted = shorter,
                None => break,
            }
        }
    }
    0
}

/// Without the last subtag, and without a single letter or digit before it.
fn truncated(tag: &str) -> Option<&str> {
    let (rest, _) = tag.rsplit_once('-')?;
    match rest.rsplit_once('-') {
        Some((before, single)) if single.len() == 1 => Some(before),
        _ => Some(rest),
    }
}

fn is_prefix(range: &str, tag: &str) -> bool {
    let (range, tag) = (range.as_bytes(), tag.as_bytes());
    tag.len() >= range.len()
        && tag[..range.len()].eq_ignore_ascii_case(range)
        && tag.get(range.len()).is_none_or(|&b| b == b'-')
}

fn parse(element: &[u8]) -> Option<Range<'_>> {
    let element = std::str::from_utf8(element).ok()?;
    let (tag, parameters) = element.split_once(';').unwrap_or((element, ""));
    let tag = tag.trim_ascii();
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'*';
    if tag.is_empty() || !tag.bytes().all(legal) {
        return None;
    }
    let weight = match parameters.trim_ascii() {
        "" => 1000,
        text => {
            let (name, value) = text.split_once('=')?;
            if !name.trim_ascii().eq_ignore_ascii_case("q") {
                return None;
            }
            thousandths(value.trim_ascii())?
        }
    };
    Some(Range { tag, weight })
}

/// `0`, `0.5`, `1.000`: RFC 9110 section 12.4.2.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(3)
        .fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(field: &str, available: &[&str]) -> String {
        let available: Arc<[String]> = available.iter().map(|tag| (*tag).to_owned()).collect();
        let found = lookup(std::iter::once(field.as_bytes()), &available);
        available.get(found).cloned().unwrap_or_default()
    }

    #[test]
    fn order_of_weights_decides() {
        assert_eq!(
            pick("de;q=0.5, fr;q=0.9, en;q=0.1", &["en", "de", "fr"]),
            "fr"
        );
        assert_eq!(pick("de, fr", &["en", "fr", "de"]), "de");
    }

    #[test]
    fn ranges_are_shortened_from_the_end() {
        assert_eq!(pick("de-AT-1996", &["en", "de"]), "de");
        // RFC 4647 section 3.4: zh-Hant-CN-x-private1-private2 goes on with zh-Hant-CN.
        assert_eq!(pick("zh-Hant-CN-x-p1", &["en", "zh-hant-cn"]), "zh-hant-cn");
        // The other direction is filtering, not lookup.
        assert_eq!(pick("de", &["en", "de-AT"]), "en");
    }

    #[test]
    fn default_is_the_first() {
        assert_eq!(pick("ja", &["en", "de"]), "en");
        assert_eq!(pick("*", &["en", "de"]), "en");
        assert_eq!(lookup(std::iter::empty(), &["en".to_owned()].into()), 0);
        assert_eq!(pick("en", &[]), "");
    }

    #[test]
    fn weight_zero_excludes() {
        assert_eq!(pick("de-AT, de;q=0", &["en", "de"]), "en");
        assert_eq!(pick("*, de;q=0, fr;q=0.1", &["en", "de", "fr"]), "fr");
    }

    #[test]
    fn malformed_elements_are_passed_over() {
        assert_eq!(
            pick(
                "de;q=2, \u{fc}b, fr;q=0.8888, en-US;q=.5, nl",
                &["x", "de", "fr", "nl"]
            ),
            "nl"
        );
    }
}
