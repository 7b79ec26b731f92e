//! Byte ranges of a complete stored body: RFC 9110 section 14.

use std::ops::Range as Span;

use http::{
    HeaderMap, HeaderValue,
    header::{ETAG, IF_RANGE, RANGE},
};

use crate::{
    conditional::{is_strong_date, strong_match},
    time::Timestamp,
};

/// More ranges than that in one request are ignored (RFC 9110 section 14.2): it costs
/// more to answer them than to send the whole.
const MOST_RANGES: usize = 16;

/// What a request wants of a stored body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range {
    /// These bytes, not empty and within the body: a 206 (Partial Content).
    Satisfiable(Span<u64>),
    /// At least two such spans in the order asked for, no two of which overlap: a 206 of
    /// the type multipart/byteranges (RFC 9110 section 14.6).
    Several(Vec<Span<u64>>),
    /// Nothing that there is: a 416 (Range Not Satisfiable).
    Unsatisfiable,
    /// All of it: no Range, one that is not understood or asks for more than is sensible,
    /// or If-Range does not hold.
    Ignore,
}

/// Evaluates Range and If-Range of a GET request against a stored 200 whose body has
/// `len` bytes, after the other conditions (RFC 9110 section 13.2.2).
pub fn range(request: &HeaderMap, stored: &HeaderMap, len: u64) -> Range {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Range::Ignore;
    };
    if !if_range_holds(request, stored) {
        return Range::Ignore;
    }
    parse(line.as_bytes(), len).unwrap_or(Range::Ignore)
}

/// The Content-Range of a 206 with the bytes `span` of `len`.
pub fn content_range(span: &Span<u64>, len: u64) -> HeaderValue {
    let last = span.end.saturating_sub(1);
    ascii(format!("bytes {}-{last}/{len}", span.start))
}

/// The Content-Range of a 416 for a body of `len` bytes.
pub fn unsatisfied_range(len: u64) -> HeaderValue {
    ascii(format!("bytes */{len}"))
}

#[expect(clippy::expect_used, reason = "digits and ASCII punctuation only")]
fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits are valid in a field value")
}

fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(validator) = request
        .get(IF_RANGE)
        .map(|value| value.as_bytes().trim_ascii())
    else {
        return true;
    };
    if validator.contains(&b'"') {
        strong_match(validator, stored.get(ETAG).map(|etag| etag.as_bytes()))
    } else {
        Timestamp::parse_http_date(validator).is_some_and(|date| is_strong_date(stored, date))
    }
}

/// `None` for what is no set of byte ranges, and for a set that is not worth its answer:
/// too many ranges, or ranges that overlap.
fn parse(value: &[u8], len: u64) -> Option<Range> {
    let (unit, set) = value.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut spans: Vec<Span<u64>> = Vec::new();
    for (count, member) in set.split(|&byte| byte == b',').enumerate() {
        if count >= MOST_RANGES {
            return None;
        }
        let span = span(member.trim_ascii(), len)?;
        if spans.iter().any(|other| overlap(other, &span)) {
            return None;
        }
        // Those beyond the end are left out (section 14.1.2).
        if !span.is_empty() {
            spans.push(span);
        }
    }
    Some(match (spans.pop(), spans.is_empty()) {
        (None, _) => Range::Unsatisfiable,
        (Some(only), true) => Range::Satisfiable(only),
        (Some(last), false) => {
            spans.push(last);
            Range::Several(spans)
        }
    })
}

fn overlap(one: &Span<u64>, other: &Span<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// One member of a set; empty when it is beyond the end.
fn span(member: &[u8], len: u64) -> Option<Span<u64>> {
    let mut halves = member.splitn(2, |&byte| byte == b'-');
    let (first, last) = (halves.next()?, halves.next()?);
    if first.is_empty() {
        return Some(len.saturating_sub(number(last)?)..len);
    }
    let first = number(first)?;
    let end = match last {
        b"" => len,
        last => {
            let last = number(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(len)
        }
    };
    Some(first..end)
}

/// Saturates: no body is that long.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| {
        byte.is_ascii_digit().then(|| {
            sum.saturating_mul(10)
                .saturating_add(u64::from(byte - b'0'))
        })
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::{Range::*, *};

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        map
    }

    fn of_ten(value: &'static str) -> Range {
        range(&map(&[("range", value)]), &HeaderMap::new(), 10)
    }

    #[test]
    fn single_ranges() {
        assert_eq!(of_ten("bytes=0-1"), Satisfiable(0..2));
        assert_eq!(of_ten("Bytes=1-"), Satisfiable(1..10));
        assert_eq!(of_ten("bytes=-1"), Satisfiable(9..10));
        assert_eq!(of_ten("bytes=-99999999999999999999999"), Satisfiable(0..10));
        assert_eq!(
            of_ten("bytes=9-99999999999999999999999"),
            Satisfiable(9..10)
        );
        for none in [
            "bytes=10-",
            "bytes=10-11",
            "bytes=-0",
            "bytes=99999999999999999999999-",
        ] {
            assert_eq!(of_ten(none), Unsatisfiable, "{none}");
        }
    }

    #[test]
    fn anything_else_is_ignored() {
        for odd in [
            "bytes=",
            "bytes=-",
            "bytes=2-1",
            "bytes=0-1,",
            "bytes=,",
            "bytes=0-1,a-b",
            "bytes=a-b",
            "items=0-1",
            "bytes 0-1",
            "bytes=0",
            "bytes=+0-1",
            "bytes=0--1",
            "",
        ] {
            assert_eq!(of_ten(odd), Ignore, "{odd}");
        }
        let twice = map(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
        assert_eq!(range(&twice, &HeaderMap::new(), 10), Ignore);
        assert_eq!(range(&HeaderMap::new(), &HeaderMap::new(), 10), Ignore);
    }

    #[test]
    fn several_ranges() {
        assert_eq!(
            of_ten("bytes=0-1, 4-5,-1"),
            Several(vec![0..2, 4..6, 9..10])
        );
        assert_eq!(of_ten("bytes=4-5,0-1"), Several(vec![4..6, 0..2]));
        assert_eq!(of_ten("bytes=0-1,20-30"), Satisfiable(0..2));
        assert_eq!(of_ten("bytes=20-,30-40"), Unsatisfiable);
        assert_eq!(of_ten("bytes=0-5,5-6"), Ignore, "they overlap");
        assert_eq!(of_ten("bytes=0-,0-,0-"), Ignore);
        let most: Vec<_> = (0..MOST_RANGES).map(|at| format!("{at}-{at}")).collect();
        let of_all = |set: &[String]| parse(format!("bytes={}", set.join(",")).as_bytes(), 100);
        assert!(matches!(of_all(&most), Some(Several(spans)) if spans.len() == MOST_RANGES));
        let more: Vec<_> = (0..=MOST_RANGES).map(|at| format!("{at}-{at}")).collect();
        assert_eq!(of_all(&more), None);
    }

    #[test]
    fn if_range_needs_a_strong_validator() {
        const OLD: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
        const NOW: &str = "Thu, 01 Jan 2026 00:00:01 GMT";
        let stored = map(&[("etag", "\"a\""), ("last-modified", OLD), ("date", NOW)]);
        let holds = |validator, stored: &HeaderMap| {
            range(
                &map(&[("range", "bytes=0-0"), ("if-range", validator)]),
                stored,
                10,
            ) != Ignore
        };
        assert!(holds("\"a\"", &stored));
        assert!(holds(OLD, &stored));
        for other in ["\"b\"", "W/\"a\"", "*", NOW, "a", ""] {
            assert!(!holds(other, &stored), "{other}");
        }
        assert!(!holds("W/\"a\"", &map(&[("etag", "W/\"a\"")])));
        assert!(
            !holds(OLD, &map(&[("last-modified", OLD), ("date", OLD)])),
            "weak date"
        );
        assert!(!holds(OLD, &map(&[("last-modified", OLD)])));
    }

    #[test]
    fn content_ranges() {
        assert_eq!(content_range(&(2..5), 10), "bytes 2-4/10");
        assert_eq!(unsatisfied_range(10), "bytes */10");
    }

    proptest! {
        #[test]
        fn a_satisfiable_range_lies_within(value in "bytes=[0-9]{0,21}-[0-9]{0,21}", len: u64) {
            let mut request = HeaderMap::new();
            request.insert(RANGE, HeaderValue::from_str(&value).unwrap());
            if let Satisfiable(span) = range(&request, &HeaderMap::new(), len) {
                prop_assert!(span.start < span.end && span.end <= len);
            }
        }

        #[test]
        fn several_lie_within_and_apart(set in "bytes=([0-9]{0,2}-[0-9]{0,2},){0,5}[0-9]{0,2}-[0-9]{0,2}", len in 0u64..99) {
            if let Some(Several(spans)) = parse(set.as_bytes(), len) {
                prop_assert!(spans.len() > 1);
                for (at, span) in spans.iter().enumerate() {
                    prop_assert!(span.start < span.end && span.end <= len);
                    prop_assert!(spans[..at].iter().all(|other| !overlap(other, span)));
                }
            }
        }

        #[test]
        fn any_bytes_parse(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&value, 10);
        }
    }
}
