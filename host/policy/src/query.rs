//! Query strings: `&`-separated parameters, percent-decoded. `+` is a plus sign.

use std::borrow::Cow;
use std::collections::HashSet;

use memchr::memchr;
use smallvec::SmallVec;

use crate::globs::Globs;

/// Decodes `%XX`; what is no valid escape stays as it is.
pub fn percent_decode(text: &str) -> Cow<'_, [u8]> {
    // Most texts have no escape, which is found out faster than by decoding.
    match memchr(b'%', text.as_bytes()) {
        None => Cow::Borrowed(text.as_bytes()),
        Some(_) => percent_encoding::percent_decode_str(text).into(),
    }
}

/// The parameters as they were sent: the whole text, its name and its value.
/// Empty ones (`a&&b`) are passed over.
fn segments(query: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    query
        .split('&')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            let (name, value) = segment.split_once('=').unwrap_or((segment, ""));
            (segment, name, value)
        })
}

/// The decoded values of one parameter, in order.
pub(crate) fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    segments(query)
        .filter(move |(_, found, _)| *percent_decode(found) == *name.as_bytes())
        .map(|(_, _, value)| percent_decode(value))
}

/// The decoded names in order, repeated ones once; bytes that are not UTF-8 are
/// replaced by U+FFFD.
pub(crate) fn names(query: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    segments(query)
        .map(|(_, name, _)| percent_decode(name))
        .filter(|name| seen.insert(name.clone()))
        .map(|name| String::from_utf8_lossy(&name).into_owned())
        .collect()
}

/// Which parameters [`sorted`] keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep<'a> {
    /// Those whose name matches none of the globs.
    Without(&'a Globs),
    /// Those whose name matches one of them.
    Only(&'a Globs),
}

impl Keep<'_> {
    #[inline]
    fn keeps(self, name: &[u8]) -> bool {
        match self {
            Self::Without(globs) => !globs.matches_bytes(name),
            Self::Only(globs) => globs.matches_bytes(name),
        }
    }
}

/// The parameters sorted by decoded name, repeated ones in their order, each written
/// as it was sent. Absent when there is no query, or when a filter left nothing of it.
pub(crate) fn sorted<'q>(query: Option<&'q str>, keep: Keep<'_>) -> Option<Cow<'q, str>> {
    let query = query?;
    unescaped(query, keep).unwrap_or_else(|| decoded(query, keep).map(Cow::Owned))
}

/// The same where no name has an escape, as in most queries; else nothing. This runs for each hit.
fn unescaped<'q>(query: &'q str, keep: Keep<'_>) -> Option<Option<Cow<'q, str>>> {
    let bytes = query.as_bytes();
    // The name, and where the parameter begins and ends.
    let mut kept = SmallVec::<[(&[u8], usize, usize); 8]>::new();
    let (mut at, mut is_empty) = (0, true);
    // Most of them lie in the query as they are wanted: in one piece, and in order.
    let mut lie = true;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let (length, name) = first(rest)?;
        let end = at + length;
        if length > 0 {
            is_empty = false;
            if keep.keeps(name) {
                if let Some((last, _, before)) = kept.last() {
                    lie &= before + 1 == at && *last <= name;
                }
                kept.push((name, at, end));
            }
        }
        at = end + 1;
    }
    let (Some((_, begin, _)), Some((_, _, end))) = (kept.first(), kept.last()) else {
        return Some(none_kept(is_empty, keep).map(Cow::Borrowed));
    };
    if lie {
        return Some(Some(Cow::Borrowed(query.get(*begin..*end)?)));
    }
    kept.sort_by_key(|(name, ..)| *name);
    let texts = kept
        .iter()
        .filter_map(|(_, from, to)| query.get(*from..*to));
    Some(Some(Cow::Owned(joined(query, texts))))
}

/// The same for any query.
fn decoded(query: &str, keep: Keep<'_>) -> Option<String> {
    let all: Vec<_> = segments(query).collect();
    let named = all
        .iter()
        .map(|(text, name, _)| (percent_decode(name), *text));
    let mut kept: Vec<_> = named
        .filter(|(name, _)| keep.keeps(String::from_utf8_lossy(name).as_bytes()))
        .collect();
    if kept.is_empty() {
        return none_kept(all.is_empty(), keep).map(str::to_owned);
    }
    kept.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(joined(query, kept.iter().map(|(_, text)| *text)))
}

fn joined<'q>(query: &str, texts: impl Iterator<Item = &'q str>) -> String {
    let mut joined = String::with_capacity(query.len());
    for text in texts {
        if !joined.is_empty() {
            joined.push('&');
        }
        joined.push_str(text);
    }
    joined
}

/// What a query comes to of which nothing is kept.
fn none_kept(is_empty: bool, keep: Keep<'_>) -> Option<&'static str> {
    let is_none = !is_empty || matches!(keep, Keep::Only(_));
    (!is_none).then_some("")
}

/// What a name ends with, and what makes it one to decode.
const ENDS_NAME: [bool; 256] = {
    let mut table = [false; 256];
    table[b'&' as usize] = true;
    table[b'=' as usize] = true;
    table[b'%' as usize] = true;
    table
};

/// Where the first parameter of a query ends, and its name. Nothing where that has an escape.
#[inline]
fn first(query: &[u8]) -> Option<(usize, &[u8])> {
    let special = |byte: &u8| ENDS_NAME[usize::from(*byte)];
    let name_end = query.iter().position(special).unwrap_or(query.len());
    let (name, rest) = query.split_at(name_end);
    match rest.first() {
        Some(b'%') => None,
        Some(b'=') => {
            let length = rest.iter().position(|byte| *byte == b'&');
            Some((name_end + length.unwrap_or(rest.len()), name))
        }
        _ => Some((name_end, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn without<'q>(query: Option<&'q str>, globs: &[&str]) -> Option<Cow<'q, str>> {
        sorted(query, Keep::Without(&Globs::compile(globs).unwrap()))
    }

    #[test]
    fn values_are_decoded_and_compared_decoded() {
        let got: Vec<_> = values("%61=x%20y&b=1&a&a=%zz", "a").collect();
        assert_eq!(got, [&b"x y"[..], b"", b"%zz"]);
    }

    #[test]
    fn plus_stays_a_plus() {
        assert_eq!(values("q=a+b", "q").next().unwrap(), &b"a+b"[..]);
    }

    #[test]
    fn names_come_once_in_order() {
        assert_eq!(names("b=1&a=2&&b=3&%62=4"), ["b", "a"]);
    }

    #[test]
    fn sorting_is_stable_and_keeps_the_text() {
        assert_eq!(
            without(Some("b=2&a=%41&b=1&c"), &[]).unwrap(),
            "a=%41&b=2&b=1&c"
        );
    }

    #[test]
    fn escaped_names_are_sorted_and_filtered_decoded() {
        let query = Some("%62=2&a=1&b=3&b=0");
        assert_eq!(without(query, &[]).unwrap(), "a=1&%62=2&b=3&b=0");
        let query = Some("utm%5Fx=1&p=2&%71=3");
        assert_eq!(without(query, &["utm_*"]).unwrap(), "p=2&%71=3");
        let only = Globs::compile(&["q"]).unwrap();
        assert_eq!(sorted(query, Keep::Only(&only)).unwrap(), "%71=3");
        // Nothing decodes to that.
        assert_eq!(without(Some("b=1&a%=2"), &[]).unwrap(), "a%=2&b=1");
    }

    #[test]
    fn filters_by_name() {
        let query = Some("utm_source=x&page=2&fbclid=1");
        assert_eq!(without(query, &["utm_*", "fbclid"]).unwrap(), "page=2");
        let only = Globs::compile(&["page", "q"]).unwrap();
        assert_eq!(sorted(query, Keep::Only(&only)).unwrap(), "page=2");
    }

    #[test]
    fn nothing_left_is_absent_but_an_empty_query_is_not() {
        assert_eq!(without(Some("utm_a=1"), &["utm_*"]), None);
        assert_eq!(without(None, &[]), None);
        assert_eq!(without(Some(""), &[]).unwrap(), "");
    }

    proptest! {
        #[test]
        fn shortcuts_change_nothing(query in "[ab%6=&c\u{fc}]{0,24}") {
            for globs in [&["a*"][..], &["b", "c"], &[]] {
                let globs = Globs::compile(globs).unwrap();
                for keep in [Keep::Without(&globs), Keep::Only(&globs)] {
                    let got = sorted(Some(&query), keep).map(Cow::into_owned);
                    prop_assert_eq!(got, decoded(&query, keep));
                }
            }
        }

        /// Sorting loses nothing and does not depend on the order of other names.
        #[test]
        fn sorted_is_a_permutation(query in "[ab%&=c41]{0,40}") {
            let text = without(Some(&query), &[]).unwrap();
            let mut sent: Vec<&str> = query.split('&').filter(|s| !s.is_empty()).collect();
            let mut got: Vec<&str> = text.split('&').filter(|s| !s.is_empty()).collect();
            sent.sort_unstable();
            got.sort_unstable();
            prop_assert_eq!(sent, got);
            prop_assert_eq!(&without(Some(&text), &[]).unwrap(), &text);
        }
    }
}
