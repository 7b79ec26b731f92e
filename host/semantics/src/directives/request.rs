use std::time::Duration;

use http::{
    HeaderMap,
    header::{CACHE_CONTROL, PRAGMA},
};

use super::list::{Argument, Member, Members, delta_seconds};

/// How stale a response the client takes: RFC 9111 section 5.2.1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxStale {
    /// However stale.
    Any,
    /// For at most so long after its lifetime.
    For(Duration),
}

/// What the client asks of caches: RFC 9111 section 5.2.1.
///
/// A directive that is malformed is ignored, since obeying is optional; of a repeated one
/// the most demanding counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-store`: neither the request nor its response may be stored.
    pub no_store: bool,
    /// `no-cache`, or `Pragma: no-cache` in a request without Cache-Control.
    pub no_cache: bool,
    /// `only-if-cached`: rather a 504 (Gateway Timeout) than a request to the origin.
    pub only_if_cached: bool,
    /// `max-age`: the greatest age the client takes, and nothing stale.
    pub max_age: Option<Duration>,
    /// `min-fresh`: for how long the response must stay fresh.
    pub min_fresh: Option<Duration>,
    /// `max-stale`.
    pub max_stale: Option<MaxStale>,
}

impl RequestDirectives {
    /// Reads them from a request. Never allocates.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut this = Self::default();
        // One look at the names costs less than to look up what most requests do not have.
        let mut names = headers.keys();
        if !names.any(|name| matches!(*name, CACHE_CONTROL | PRAGMA)) {
            return this;
        }
        if headers.contains_key(CACHE_CONTROL) {
            for line in headers.get_all(CACHE_CONTROL) {
                for member in Members::new(line.as_bytes()) {
                    if let Member::Directive(name, argument) = member {
                        this.take(name, argument);
                    }
                }
            }
        } else {
            this.no_cache = headers.get_all(PRAGMA).iter().any(|line| {
                Members::new(line.as_bytes()).any(|member| {
                    matches!(member, Member::Directive(name, Argument::Absent)
                        if name.eq_ignore_ascii_case(b"no-cache"))
                })
            });
        }
        this
    }

    fn take(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        let seconds = match argument {
            Argument::Value(value) => delta_seconds(value).map(Duration::from_secs),
            Argument::Absent => None,
        };
        if is(b"no-store") {
            self.no_store = true;
        } else if is(b"no-cache") {
            self.no_cache = true;
        } else if is(b"only-if-cached") {
            self.only_if_cached = true;
        } else if is(b"max-age") {
            self.max_age = shortest(self.max_age, seconds);
        } else if is(b"min-fresh") {
            self.min_fresh = self.min_fresh.max(seconds);
        } else if is(b"max-stale") {
            self.max_stale = match (self.max_stale, argument, seconds) {
                (None, Argument::Absent, _) => Some(MaxStale::Any),
                (None | Some(MaxStale::Any), _, Some(limit)) => Some(MaxStale::For(limit)),
                (Some(MaxStale::For(earlier)), _, Some(limit)) => {
                    Some(MaxStale::For(earlier.min(limit)))
                }
                (earlier, _, _) => earlier,
            };
        }
    }
}

fn shortest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(lines: &[(&'static str, &'static str)]) -> RequestDirectives {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        RequestDirectives::parse(&headers)
    }

    fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn reads_every_directive_in_any_case() {
        let parsed = parse(&[
            ("cache-control", "nothing-to-see-here, No-Cache, NO-STORE"),
            (
                "cache-control",
                "max-age=\"5\", min-fresh=7,max-stale=9, only-if-cached",
            ),
        ]);
        assert_eq!(
            parsed,
            RequestDirectives {
                no_store: true,
                no_cache: true,
                only_if_cached: true,
                max_age: secs(5),
                min_fresh: secs(7),
                max_stale: Some(MaxStale::For(Duration::from_secs(9))),
            }
        );
    }

    #[test]
    fn the_most_demanding_of_repeated_ones_counts() {
        let parsed = parse(&[(
            "cache-control",
            "max-age=5, max-age=3, max-age=x, min-fresh=1, min-fresh=2, max-stale, max-stale=4, max-stale=6, max-stale",
        )]);
        assert_eq!(parsed.max_age, secs(3));
        assert_eq!(parsed.min_fresh, secs(2));
        assert_eq!(
            parsed.max_stale,
            Some(MaxStale::For(Duration::from_secs(4)))
        );
        assert_eq!(
            parse(&[("cache-control", "max-stale")]).max_stale,
            Some(MaxStale::Any)
        );
        assert_eq!(parse(&[("cache-control", "max-stale=x")]).max_stale, None);
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        assert!(parse(&[("pragma", "foo, no-cache")]).no_cache);
        assert!(!parse(&[("pragma", "no-cache"), ("cache-control", "x")]).no_cache);
        assert_eq!(parse(&[("pragma", "foo")]), RequestDirectives::default());
    }

    proptest! {
        #[test]
        fn any_bytes_parse(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4)) {
            let mut headers = HeaderMap::new();
            for line in &lines {
                if let Ok(value) = HeaderValue::from_bytes(line) {
                    headers.append(CACHE_CONTROL, value.clone());
                    headers.append(PRAGMA, value);
                }
            }
            RequestDirectives::parse(&headers);
        }
    }
}
