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

/// A parameter that is kept.
struct Kept<'q> {
    name: Cow<'q, [u8]>,
    /// All of it as it was sent.
    text: &'q str,
    /// Where that begins in the query.
    at: usize,
}

/// The parameters sorted by decoded name, repeated ones in their order, each written
/// as it was sent. Absent when there is no query, or when a filter left nothing of it.
pub(crate) fn sorted<'q>(query: Option<&'q str>, keep: Keep<'_>) -> Option<Cow<'q, str>> {
    let query = query?;
    let mut is_empty = true;
    let mut kept = SmallVec::<[Kept<'q>; 8]>::new();
    let mut at = 0;
    while let Some(rest) = query.get(at..).filter(|rest| !rest.is_empty()) {
        let (text, name, is_escaped) = first(rest);
        if !text.is_empty() {
            is_empty = false;
            let decoded = match is_escaped {
                true => percent_decode(name),
                false => Cow::Borrowed(name.as_bytes()),
            };
            let is_kept = match &decoded {
                // Nothing in it was escaped.
                Cow::Borrowed(_) => keep.keeps(name),
                Cow::Owned(decoded) => keep.keeps(&String::from_utf8_lossy(decoded)),
            };
            if is_kept {
                let name = decoded;
                kept.push(Kept { name, text, at });
            }
        }
        at += text.len() + 1;
    }
    let ([first, ..], [.., last]) = (&*kept, &*kept) else {
        let is_none = !is_empty || matches!(keep, Keep::Only(_));
        return (!is_none).then_some(Cow::Borrowed(""));
    };
    // Most of them lie in the query as they are wanted.
    let follows = |pair: &[Kept<'_>]| match pair {
        [a, b] => a.at + a.text.len() + 1 == b.at && a.name <= b.name,
        _ => true,
    };
    if kept.windows(2).all(follows) {
        return query
            .get(first.at..last.at + last.text.len())
            .map(Cow::Borrowed);
    }
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = String::with_capacity(query.len());
    for parameter in kept {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(parameter.text);
    }
    Some(Cow::Owned(text))
}

/// The first parameter of a query, its name, and whether anything in that is escaped. In one
/// pass by hand: this runs for each hit.
fn first(query: &str) -> (&str, &str, bool) {
    let (mut name, mut is_escaped) = (None, false);
    let mut end = query.len();
    for (at, byte) in query.bytes().enumerate() {
        match byte {
            b'&' => {
                end = at;
                break;
            }
            b'=' if name.is_none() => name = Some(at),
            b'%' if name.is_none() => is_escaped = true,
            _ => {}
        }
    }
    // Both ends lie beside ASCII, so on character boundaries.
    let to = |end: usize| query.get(..end).unwrap_or(query);
    (to(end), to(name.unwrap_or(end)), is_escaped)
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

    /// The same, without any of the shortcuts.
    fn plainly(query: &str, keep: Keep<'_>) -> Option<String> {
        let all: Vec<_> = segments(query).collect();
        let mut kept: Vec<_> = all.clone();
        kept.retain(|(_, name, _)| keep.keeps(&String::from_utf8_lossy(&percent_decode(name))));
        kept.sort_by_key(|(_, name, _)| percent_decode(name).into_owned());
        let texts: Vec<_> = kept.into_iter().map(|(text, ..)| text).collect();
        let is_none = texts.is_empty() && (!all.is_empty() || matches!(keep, Keep::Only(_)));
        (!is_none).then(|| texts.join("&"))
    }

    proptest! {
        #[test]
        fn shortcuts_change_nothing(query in "[ab%6=&c\u{fc}]{0,24}") {
            for globs in [&["a*"][..], &["b", "c"], &[]] {
                let globs = Globs::compile(globs).unwrap();
                for keep in [Keep::Without(&globs), Keep::Only(&globs)] {
                    let got = sorted(Some(&query), keep).map(Cow::into_owned);
                    prop_assert_eq!(got, plainly(&query, keep));
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
