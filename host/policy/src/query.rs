//! Query strings: `&`-separated parameters, percent-decoded. `+` is a plus sign.

use std::borrow::Cow;
use std::collections::HashSet;

use smallvec::SmallVec;

use crate::globs::Globs;

/// Decodes `%XX`; what is no valid escape stays as it is.
pub fn percent_decode(text: &str) -> Cow<'_, [u8]> {
    percent_encoding::percent_decode_str(text).into()
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

/// The decoded name, and the whole text as it was sent.
type Parameter<'q> = (Cow<'q, [u8]>, &'q str);

/// Which parameters [`sorted`] keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep<'a> {
    /// Those whose name matches none of the globs.
    Without(&'a Globs),
    /// Those whose name matches one of them.
    Only(&'a Globs),
}

impl Keep<'_> {
    fn keeps(self, name: &str) -> bool {
        match self {
            Self::Without(globs) => !globs.matches(name),
            Self::Only(globs) => globs.matches(name),
        }
    }
}

/// The parameters sorted by decoded name, repeated ones in their order, each written
/// as it was sent. Absent when there is no query, or when a filter left nothing of it.
pub(crate) fn sorted<'q>(query: Option<&'q str>, keep: Keep<'_>) -> Option<Cow<'q, str>> {
    let query = query?;
    let mut total = 0_usize;
    let mut kept: SmallVec<[Parameter<'q>; 8]> = segments(query)
        .inspect(|_| total += 1)
        .filter_map(|(segment, name, _)| {
            let decoded = percent_decode(name);
            let is_kept = match &decoded {
                // Nothing in it was escaped.
                Cow::Borrowed(_) => keep.keeps(name),
                Cow::Owned(decoded) => keep.keeps(&String::from_utf8_lossy(decoded)),
            };
            is_kept.then_some((decoded, segment))
        })
        .collect();
    match &*kept {
        [] if total > 0 || matches!(keep, Keep::Only(_)) => return None,
        [(_, one)] => return Some(Cow::Borrowed(one)),
        _ => {}
    }
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    let mut text = String::with_capacity(query.len());
    for (_, segment) in kept {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(segment);
    }
    Some(Cow::Owned(text))
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
