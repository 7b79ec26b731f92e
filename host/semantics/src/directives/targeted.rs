//! Targeted cache control: RFC 9213.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, Item, ListEntry, Parser};

use super::{ResponseDirectives, list::GREATEST_DELTA};

const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Reads one targeted field, a Structured Field dictionary. `None` when it is absent,
/// empty or invalid, in which case it counts as not there (section 2.1).
pub(super) fn parse(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let dictionary: Dictionary = Parser::new(&*joined_lines(headers, name)?).parse().ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let nothing = ResponseDirectives {
        targeted: true,
        ..ResponseDirectives::default()
    };
    let mut this = nothing;
    for (name, value) in &dictionary {
        take(&mut this, name.as_str(), value)?;
    }
    // `Surrogate-Control: content="ESI/1.0"` is older than RFC 9213 and says nothing about
    // caching, so that a `private` in Cache-Control must stand.
    let says_nothing = this == nothing && *name == SURROGATE_CONTROL;
    (!says_nothing).then_some(this)
}

/// All lines of a Structured Field as one (RFC 9651 section 4.2); `None` when it is absent.
pub(crate) fn joined_lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let mut text = Cow::Borrowed(lines.next()?);
    for line in lines {
        let text = text.to_mut();
        text.extend_from_slice(b", ");
        text.extend_from_slice(line);
    }
    Some(text)
}

/// `None` when the value has a type that the directive cannot have.
fn take(this: &mut ResponseDirectives, name: &str, value: &ListEntry) -> Option<()> {
    let bare = match value {
        ListEntry::Item(Item { bare_item, .. }) => Some(bare_item),
        ListEntry::InnerList(_) => None,
    };
    if let Some(slot) = this.lifetime(name.as_bytes()) {
        let Some(BareItem::Integer(seconds)) = bare else {
            return None;
        };
        let seconds = u64::try_from(i64::from(*seconds)).unwrap_or(0);
        *slot = Some(Duration::from_secs(seconds.min(GREATEST_DELTA)));
    } else if !matches!(bare, Some(BareItem::Boolean(false))) {
        let truth = matches!(bare, Some(BareItem::Boolean(true)));
        match name {
            "public" => this.public = truth,
            "must-understand" => this.must_understand = truth,
            "immutable" => this.immutable = truth,
            _ => {
                this.restrict(name.as_bytes());
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

    fn read(lines: &[&'static str]) -> Option<ResponseDirectives> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CDN, HeaderValue::from_static(line));
        }
        parse(&headers, &CDN)
    }

    fn max_age(lines: &[&'static str]) -> Option<u64> {
        Some(read(lines)?.max_age?.as_secs())
    }

    #[test]
    fn reads_a_dictionary() {
        let parsed = read(&[
            "max-age=60, no-store, private=?0",
            "no-cache=(\"a\" \"b\"), foo;x=1",
        ]);
        let parsed = parsed.unwrap();
        assert!(parsed.targeted && parsed.no_store && parsed.no_cache && !parsed.private);
        assert_eq!(parsed.max_age, Some(Duration::from_secs(60)));
        assert_eq!(max_age(&["max-age=99999999999"]), Some(GREATEST_DELTA));
        assert_eq!(max_age(&["max-age=-1"]), Some(0));
        assert_eq!(
            max_age(&["max-age=1, max-age=3"]),
            Some(3),
            "the last one, as SF says"
        );
    }

    #[test]
    fn what_is_invalid_or_empty_counts_as_absent() {
        for line in [
            "",
            "  ",
            "max-age=10000, &&&&&",
            "max-age=\"10000\"",
            "max-age=1.5",
            "MaX-aGe=3600",
            "max-age =100",
            "max-age= 100",
            "max-age",
            "a=(1",
        ] {
            assert_eq!(read(&[line]), None, "{line}");
        }
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn a_surrogate_control_about_other_things_leaves_cache_control_in_force() {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static("private"));
        headers.insert(
            SURROGATE_CONTROL,
            HeaderValue::from_static("content=\"ESI/1.0\""),
        );
        let parsed = ResponseDirectives::parse(&headers, &[SURROGATE_CONTROL]);
        assert!(parsed.private && !parsed.targeted);
        headers.insert(
            SURROGATE_CONTROL,
            HeaderValue::from_static("content=\"ESI/1.0\", max-age=60"),
        );
        let parsed = ResponseDirectives::parse(&headers, &[SURROGATE_CONTROL]);
        assert!(!parsed.private && parsed.targeted);
    }

    #[test]
    fn the_first_valid_field_replaces_cache_control() {
        let other = HeaderName::from_static("weir-cache-control");
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        headers.insert(CDN, HeaderValue::from_static("max-age=60"));
        headers.insert(&other, HeaderValue::from_static("&"));
        let parsed = ResponseDirectives::parse(&headers, &[other, CDN]);
        assert!(parsed.targeted && !parsed.no_store);
        assert!(ResponseDirectives::parse(&headers, &[]).no_store);
    }
}
