//! The variants of a key in the second tier: an index of the request fields that select them, and
//! one key for each variant. RFC 9111 section 4.1.

use http::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, VARY};
use weir_semantics::{VaryKey, VaryRule};
use xxhash_rust::xxh3::Xxh3Default;

/// What an index begins with; records begin otherwise.
const MAGIC: &[u8] = b"WVI1\n";

/// How many sets of fields an index keeps, the newest first.
pub(crate) const MAX_SETS: usize = 8;

/// Begins a line whose variants are for those who take certain codings; these and a space
/// follow.
const CODINGS: char = '=';

/// Is it an index, rather than a record?
pub(crate) fn is_index(value: &[u8]) -> bool {
    value.starts_with(MAGIC)
}

/// The line of the index that leads to a variant.
pub(crate) fn line(vary: &VaryKey) -> String {
    let mut line = String::new();
    if let Some(codings) = vary.codings() {
        line.push(CODINGS);
        line.push_str(&String::from_utf8_lossy(codings));
        line.push(' ');
    }
    for (at, name) in vary.names().enumerate() {
        if at > 0 {
            line.push(',');
        }
        line.push_str(name.as_str());
    }
    line
}

/// The lines of an index, for a person. `None` for an index that no node wrote.
pub(crate) fn lines(index: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(index.strip_prefix(MAGIC)?).ok()?;
    Some(text.lines().map(str::to_owned).collect())
}

/// An index with this line first, and what else the one so far held. The script that does
/// this in Redis is `put_variant.lua`.
pub(crate) fn with_line(index: Option<&[u8]>, line: &str) -> Vec<u8> {
    let known = index
        .and_then(|index| index.strip_prefix(MAGIC))
        .and_then(|known| std::str::from_utf8(known).ok())
        .unwrap_or_default();
    let others = known
        .lines()
        .filter(|other| *other != line)
        .take(MAX_SETS - 1);
    let lines: Vec<&str> = std::iter::once(line).chain(others).collect();
    [MAGIC, lines.join("\n").as_bytes()].concat()
}

/// What a request would have selected, for each line of an index. `None` for an index
/// that no node wrote.
pub(crate) fn candidates(index: &[u8], request: &HeaderMap) -> Option<Vec<VaryKey>> {
    let text = std::str::from_utf8(index.strip_prefix(MAGIC)?).ok()?;
    text.lines()
        .take(MAX_SETS)
        .map(|line| select(line, request))
        .collect()
}

fn select(line: &str, request: &HeaderMap) -> Option<VaryKey> {
    // The rule is read from what the response said, as it was when it was stored.
    let mut response = HeaderMap::new();
    let names = match line.strip_prefix(CODINGS) {
        Some(rest) => {
            let (codings, names) = rest.split_once(' ')?;
            response.insert(CONTENT_ENCODING, HeaderValue::from_str(codings).ok()?);
            names
        }
        None => line,
    };
    if !names
        .split(',')
        .all(|name| HeaderName::from_bytes(name.as_bytes()).is_ok())
    {
        return None;
    }
    response.insert(VARY, HeaderValue::from_str(names).ok()?);
    VaryRule::parse(&response).select(request)
}

/// Names the key of a variant. What it stands for is compared after reading.
pub(crate) fn hash(vary: &VaryKey) -> u128 {
    let mut hash = Xxh3Default::new();
    let mut field = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for (name, value) in vary.selecting() {
        field(name.as_str().as_bytes());
        match value {
            Some(value) => {
                field(b"1");
                field(value);
            }
            None => field(b"0"),
        }
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_that_says_its_language_is_found_by_who_selected_it() {
        let mut response = HeaderMap::new();
        response.insert(VARY, HeaderValue::from_static("accept-language"));
        response.insert("content-language", HeaderValue::from_static("de"));
        let request = request("gzip", "de, en;q=0.5");
        let vary = VaryRule::parse(&response).select(&request).unwrap();
        let index = [MAGIC, line(&vary).as_bytes(), b"\n"].concat();
        let found = candidates(&index, &request).unwrap();
        assert_eq!(hash(&found[0]), hash(&vary));
    }

    fn request(encoding: &'static str, language: &'static str) -> HeaderMap {
        let mut request = HeaderMap::new();
        request.insert("accept-encoding", HeaderValue::from_static(encoding));
        request.insert("accept-language", HeaderValue::from_static(language));
        request
    }

    fn stored(coding: Option<&'static str>, request: &HeaderMap) -> VaryKey {
        let mut response = HeaderMap::new();
        response.insert(
            VARY,
            HeaderValue::from_static("Accept-Encoding, Accept-Language"),
        );
        if let Some(coding) = coding {
            response.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        VaryRule::parse(&response).select(request).unwrap()
    }

    #[test]
    fn an_index_leads_a_request_to_its_variant_and_to_no_other() {
        for coding in [None, Some("gzip"), Some("compress")] {
            let variant = stored(coding, &request("gzip, compress", "de"));
            let index = format!("WVI1\naccept\n{}", line(&variant));
            let found = |request: &HeaderMap| {
                candidates(index.as_bytes(), request)
                    .unwrap()
                    .iter()
                    .any(|vary| hash(vary) == hash(&variant))
            };
            assert!(found(&request("gzip, compress", "de")), "{coding:?}");
            assert!(!found(&request("gzip, compress", "en")), "{coding:?}");
            assert!(!found(&request("br", "de")), "{coding:?}");
            assert!(!found(&HeaderMap::new()), "{coding:?}");
        }
    }

    #[test]
    fn an_index_keeps_the_newest_sets_of_fields_each_once() {
        let mut index = None;
        for line in (0..=MAX_SETS)
            .map(|at| format!("x-{at}"))
            .chain(["x-3".into()])
        {
            index = Some(with_line(index.as_deref(), &line));
        }
        assert_eq!(
            index.unwrap(),
            b"WVI1\nx-3\nx-8\nx-7\nx-6\nx-5\nx-4\nx-2\nx-1"
        );
        assert_eq!(with_line(Some(b"damaged"), "x"), b"WVI1\nx");
    }

    #[test]
    fn a_damaged_index_is_recognised() {
        for damaged in [
            "",
            "WVI1",
            "WVI1\na b",
            "WVI1\n\u{1}",
            "WVI1\n\n",
            "WVI1\n=accept",
            "WVI1\n=br ",
        ] {
            assert_eq!(
                candidates(damaged.as_bytes(), &HeaderMap::new()),
                None,
                "{damaged:?}"
            );
        }
        assert_eq!(candidates(b"WVI1\n\xff", &HeaderMap::new()), None);
    }

    #[test]
    fn absent_and_empty_values_name_different_keys() {
        let name = HeaderName::from_static("accept");
        let with = |value| hash(&VaryKey::from_parts([(name.clone(), value)]));
        assert_ne!(with(None), with(Some(Box::from(*b""))));
        assert_ne!(with(None), with(Some(Box::from(*b"0"))));
    }
}
