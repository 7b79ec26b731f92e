//! Partial content: RFC 9110 section 15.3.7, RFC 9111 sections 3.3 and 3.4.

use std::ops::Range as Span;

use http::{
    HeaderMap,
    header::{CONTENT_RANGE, ETAG, LAST_MODIFIED},
};

use crate::{
    conditional::{is_strong_date, strong_match},
    freshness::single_date,
    range::{Range, number, range},
};

/// Which bytes of a representation a 206 (Partial Content) carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The bytes, not empty and within `complete`.
    pub span: Span<u64>,
    /// The length of the whole representation.
    pub complete: u64,
}

impl Part {
    /// Reads the Content-Range of a 206 whose body has `len` bytes. `None` when there is
    /// none, or several, when it is malformed, when it leaves the length of the whole open,
    /// and when it tells of another number of bytes than came.
    pub fn parse(headers: &HeaderMap, len: u64) -> Option<Self> {
        let mut lines = headers.get_all(CONTENT_RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return None;
        };
        let (unit, rest) = line.as_bytes().split_at_checked(6)?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let mut halves = rest.trim_ascii().splitn(2, |&byte| byte == b'/');
        let (bounds, complete) = (halves.next()?, number(halves.next()?)?);
        let mut bounds = bounds.splitn(2, |&byte| byte == b'-');
        let (first, last) = (number(bounds.next()?)?, number(bounds.next()?)?);
        let span = first..last.checked_add(1)?;
        let whole = span.start < span.end && span.end <= complete && span.end - span.start == len;
        whole.then_some(Self { span, complete })
    }

    /// Is it all there is?
    pub fn is_whole(&self) -> bool {
        self.span == (0..self.complete)
    }

    /// Which bytes of the part's own body answer a request, if it asks for one range that
    /// lies within (RFC 9111 section 3.3).
    pub fn answers(&self, request: &HeaderMap, stored: &HeaderMap) -> Option<Span<u64>> {
        match range(request, stored, self.complete) {
            Range::Satisfiable(asked)
                if self.span.start <= asked.start && asked.end <= self.span.end =>
            {
                Some(asked.start - self.span.start..asked.end - self.span.start)
            }
            _ => None,
        }
    }

    /// The part that this one and `other` make together, if they touch.
    pub fn joined(&self, other: &Self) -> Option<Self> {
        let touch = self.span.start <= other.span.end && other.span.start <= self.span.end;
        (touch && self.complete == other.complete).then(|| Self {
            span: self.span.start.min(other.span.start)..self.span.end.max(other.span.end),
            complete: self.complete,
        })
    }
}

/// Are two partial responses of one and the same representation? Only a strong validator
/// that both share says so (RFC 9110 section 15.3.7.3): an entity tag, or where neither
/// has one, a Last-Modified that is older than each response by a second at least.
pub fn same_representation(one: &HeaderMap, other: &HeaderMap) -> bool {
    match (one.get(ETAG), other.get(ETAG)) {
        (Some(one), Some(other)) => strong_match(one.as_bytes(), Some(other.as_bytes())),
        (None, None) => single_date(one, LAST_MODIFIED)
            .is_some_and(|date| is_strong_date(one, date) && is_strong_date(other, date)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, header::RANGE};
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        map
    }

    fn part(value: &str, len: u64) -> Option<Part> {
        Part::parse(&map(&[("content-range", value)]), len)
    }

    #[test]
    fn a_content_range_must_agree_with_the_body() {
        let two_of_ten = Part {
            span: 4..6,
            complete: 10,
        };
        assert_eq!(part("bytes 4-5/10", 2), Some(two_of_ten.clone()));
        assert_eq!(part("Bytes 4-5/10", 2), Some(two_of_ten));
        for odd in [
            "bytes 4-6/10",
            "bytes 4-5/*",
            "bytes */10",
            "bytes 5-4/10",
            "bytes 9-10/10",
            "bytes=4-5/10",
            "items 4-5/10",
            "bytes 4-5",
            "bytes -4-5/10",
            "bytes 4-18446744073709551615/18446744073709551615",
            "",
        ] {
            assert_eq!(part(odd, 2), None, "{odd}");
        }
        let twice = map(&[
            ("content-range", "bytes 4-5/10"),
            ("content-range", "bytes 4-5/10"),
        ]);
        assert_eq!(Part::parse(&twice, 2), None);
    }

    #[test]
    fn a_part_answers_ranges_within_it() {
        let part = part("bytes 4-7/10", 4).unwrap();
        let answers = |value| part.answers(&map(&[("range", value)]), &HeaderMap::new());
        assert_eq!(answers("bytes=4-7"), Some(0..4));
        assert_eq!(answers("bytes=5-6"), Some(1..3));
        for outside in [
            "bytes=3-7",
            "bytes=4-8",
            "bytes=4-",
            "bytes=-3",
            "bytes=5-5,7-7",
            "bytes=20-",
        ] {
            assert_eq!(answers(outside), None, "{outside}");
        }
        assert_eq!(part.answers(&HeaderMap::new(), &HeaderMap::new()), None);
    }

    #[test]
    fn parts_join_where_they_touch() {
        let part = |span: Span<u64>| Part { span, complete: 10 };
        assert_eq!(part(0..4).joined(&part(4..10)), Some(part(0..10)));
        assert_eq!(part(2..6).joined(&part(0..3)), Some(part(0..6)));
        assert_eq!(part(0..4).joined(&part(5..10)), None);
        let other = Part {
            span: 4..10,
            complete: 11,
        };
        assert_eq!(part(0..4).joined(&other), None);
        assert!(part(0..10).is_whole() && !part(0..9).is_whole());
    }

    #[test]
    fn only_strong_validators_say_that_it_is_the_same() {
        const OLD: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
        const NOW: &str = "Thu, 01 Jan 2026 00:00:01 GMT";
        let same = |one: &[_], other: &[_]| same_representation(&map(one), &map(other));
        assert!(same(&[("etag", "\"a\"")], &[("etag", "\"a\"")]));
        assert!(!same(&[("etag", "\"a\"")], &[("etag", "\"b\"")]));
        assert!(!same(&[("etag", "W/\"a\"")], &[("etag", "W/\"a\"")]));
        let dated = [("last-modified", OLD), ("date", NOW)];
        assert!(same(&dated, &dated));
        assert!(!same(&dated, &[("last-modified", OLD), ("date", OLD)]));
        assert!(!same(
            &dated,
            &[("last-modified", OLD), ("date", NOW), ("etag", "\"a\"")]
        ));
        assert!(!same(&[], &[]));
    }

    proptest! {
        #[test]
        fn what_a_part_answers_with_is_in_its_body(
            first in 0u64..20, len in 1u64..20, more in 0u64..20, asked in "bytes=[0-9]{0,2}-[0-9]{0,2}",
        ) {
            let part = Part { span: first..first + len, complete: first + len + more };
            let request = map(&[(RANGE.as_str().to_owned().leak(), &asked)]);
            if let Some(within) = part.answers(&request, &HeaderMap::new()) {
                prop_assert!(within.start < within.end && within.end <= len);
            }
        }

        #[test]
        fn any_bytes_parse(value in proptest::collection::vec(any::<u8>(), 0..40), len: u64) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut headers = HeaderMap::new();
                headers.insert(CONTENT_RANGE, value);
                Part::parse(&headers, len);
            }
        }
    }
}
