//! The Cache-Status field: RFC 9211.

use std::cell::RefCell;
use std::io::Write;

use http::{HeaderValue, StatusCode};

thread_local! {
    /// Where values are written, so that the [`HeaderValue`] is the only allocation.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The detail of the answer before: most hits of a thread have the same.
    static DETAIL: RefCell<Detail> = const { RefCell::new(Detail::new()) };
}

/// `; detail="…"` as it is written, and of what.
struct Detail {
    of: String,
    /// Where the first of the two texts ends; the second one follows.
    first: usize,
    written: Vec<u8>,
}

impl Detail {
    const fn new() -> Self {
        Self {
            of: String::new(),
            first: 0,
            written: Vec::new(),
        }
    }

    /// Written anew where the one before was of other texts.
    fn of(&mut self, detail: &str, by: &str) -> &[u8] {
        let is_same = self.first == detail.len() && self.of.strip_prefix(detail) == Some(by);
        if !is_same || self.written.is_empty() {
            detail.clone_into(&mut self.of);
            self.of.push_str(by);
            self.first = detail.len();
            self.written.clear();
            let texts = [detail, by].map(|text| (!text.is_empty()).then_some(text));
            push_string(&mut self.written, b"; detail=", texts);
        }
        &self.written
    }
}

/// Why a request went forward: RFC 9211 section 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fwd {
    /// The cache was configured not to handle it.
    Bypass,
    /// Its method has to go forward.
    Method,
    /// Nothing is stored for its URI.
    UriMiss,
    /// Something is stored for its URI, but not this variant.
    VaryMiss,
    /// Nothing stored fits it.
    Miss,
    /// What is stored is fresh, but the request wants it validated.
    Request,
    /// What is stored is stale.
    Stale,
    /// Only a part of it is stored.
    Partial,
}

impl Fwd {
    /// The token of RFC 9211.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// How a node handled a request. Parameters that are `None` or false are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// Served from the cache. Left out when `fwd` is there: they exclude each other.
    pub hit: bool,
    /// Why it went forward.
    pub fwd: Option<Fwd>,
    /// What the origin answered, where that differs from what the client got.
    pub fwd_status: Option<StatusCode>,
    /// Seconds of lifetime left; negative when stale.
    pub ttl: Option<i64>,
    /// The response was stored. Said only with `fwd`.
    pub stored: bool,
    /// It waited for another request's fetch. Said only with `fwd`.
    pub collapsed: bool,
    /// The cache key.
    pub key: Option<&'a str>,
    /// The tier or the reason: for people, in `detail`.
    pub detail: Option<&'a str>,
    /// Who decided, behind it in `detail`.
    pub by: Option<&'a str>,
}

impl CacheStatus<'_> {
    /// The member for this node, `weir`. One allocation.
    /// Characters that a Structured Field string cannot hold are percent-encoded.
    pub fn to_header_value(&self) -> HeaderValue {
        TEXT.with_borrow_mut(|text| {
            text.clear();
            self.write(text);
            HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static("weir"))
        })
    }

    fn write(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"weir");
        if self.hit && self.fwd.is_none() {
            text.extend_from_slice(b"; hit");
        }
        if let Some(fwd) = self.fwd {
            text.extend_from_slice(b"; fwd=");
            text.extend_from_slice(fwd.as_str().as_bytes());
            if let Some(status) = self.fwd_status {
                text.extend_from_slice(b"; fwd-status=");
                text.extend_from_slice(status.as_str().as_bytes());
            }
        }
        if let Some(ttl) = self.ttl {
            let ttl = ttl.clamp(-GREATEST_INTEGER, GREATEST_INTEGER);
            text.extend_from_slice(b"; ttl=");
            text.extend_from_slice(itoa::Buffer::new().format(ttl).as_bytes());
        }
        if self.fwd.is_some() && self.stored {
            text.extend_from_slice(b"; stored");
        }
        if self.fwd.is_some() && self.collapsed {
            text.extend_from_slice(b"; collapsed");
        }
        if let Some(key) = self.key {
            push_string(text, b"; key=", [Some(key), None]);
        }
        if self.detail.is_some() || self.by.is_some() {
            let [detail, by] = [self.detail, self.by].map(Option::unwrap_or_default);
            DETAIL.with_borrow_mut(|before| text.extend_from_slice(before.of(detail, by)));
        }
    }
}

/// A Structured Field integer has at most 15 digits.
const GREATEST_INTEGER: i64 = 999_999_999_999_999;

/// Which bytes stand for themselves in a string: RFC 9651 section 3.3.3.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        table[byte as usize] = !matches!(byte, b'"' | b'\\');
        byte += 1;
    }
    table
};

/// The texts, with a space between them.
fn push_string(out: &mut Vec<u8>, name: &[u8], texts: [Option<&str>; 2]) {
    out.extend_from_slice(name);
    out.push(b'"');
    for (index, text) in texts.into_iter().flatten().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        push_escaped(out, text);
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let special = rest.iter().position(|&byte| !PLAIN[usize::from(byte)]);
        let (plain, special) = rest.split_at(special.unwrap_or(rest.len()));
        out.extend_from_slice(plain);
        match special.split_first() {
            None => return,
            Some((byte @ (b'"' | b'\\'), _)) => out.extend_from_slice(&[b'\\', *byte]),
            // Writing into memory cannot fail.
            Some((byte, _)) => drop(write!(out, "%{byte:02X}")),
        }
        rest = special.get(1..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sfv::{BareItem, List, ListEntry, Parser};

    use super::*;

    #[test]
    fn a_hit() {
        let status = CacheStatus {
            hit: true,
            ttl: Some(-3),
            key: Some("http://a|user:profile:42"),
            detail: Some("memory"),
            by: Some("charity@0a1b"),
            ..CacheStatus::default()
        };
        assert_eq!(
            status.to_header_value(),
            r#"weir; hit; ttl=-3; key="http://a|user:profile:42"; detail="memory charity@0a1b""#
        );
    }

    #[test]
    fn a_forward_is_no_hit() {
        let status = CacheStatus {
            hit: true,
            fwd: Some(Fwd::Stale),
            fwd_status: Some(StatusCode::NOT_MODIFIED),
            stored: true,
            collapsed: true,
            ..CacheStatus::default()
        };
        assert_eq!(
            status.to_header_value(),
            "weir; fwd=stale; fwd-status=304; stored; collapsed"
        );
    }

    #[test]
    fn who_decided_may_be_all_there_is_to_tell() {
        let status = CacheStatus {
            fwd: Some(Fwd::UriMiss),
            by: Some("a\"b\\c\u{fc}"),
            ..CacheStatus::default()
        };
        assert_eq!(
            status.to_header_value(),
            r#"weir; fwd=uri-miss; detail="a\"b\\c%C3%BC""#
        );
    }

    #[test]
    fn what_is_told_is_not_that_of_the_answer_before() {
        let told = |detail, by| {
            let status = CacheStatus {
                detail,
                by,
                ..CacheStatus::default()
            };
            let value = status.to_header_value();
            String::from_utf8(value.as_bytes().to_vec()).unwrap()
        };
        for _ in 0..2 {
            assert_eq!(told(Some("ab"), Some("c")), r#"weir; detail="ab c""#);
            assert_eq!(told(Some("a"), Some("bc")), r#"weir; detail="a bc""#);
            assert_eq!(told(None, Some("abc")), r#"weir; detail="abc""#);
            assert_eq!(told(Some("abc"), None), r#"weir; detail="abc""#);
            assert_eq!(told(None, None), "weir");
        }
    }

    proptest! {
        #[test]
        fn it_is_always_a_structured_field(key: String, detail: String, ttl: i64) {
            let status = CacheStatus {
                fwd: Some(Fwd::UriMiss),
                ttl: Some(ttl),
                key: Some(&key),
                detail: Some(&detail),
                ..CacheStatus::default()
            };
            let value = status.to_header_value();
            let list: List = Parser::new(value.as_bytes()).parse().unwrap();
            let [ListEntry::Item(item)] = &list[..] else { panic!("{list:?}") };
            let names: Vec<_> = item.params.keys().map(|name| name.as_str()).collect();
            prop_assert_eq!(names, ["fwd", "ttl", "key", "detail"]);
            prop_assert!(matches!(item.params["key"], BareItem::String(_)));
        }
    }
}
