use std::time::Duration;

use http::{HeaderMap, HeaderName, header::CACHE_CONTROL};

use super::{
    list::{Argument, Member, Members, delta_seconds, is_token_byte},
    targeted,
};

/// What the origin asks of this cache: RFC 9111 section 5.2.2, RFC 5861, RFC 8246.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `no-store`.
    pub no_store: bool,
    /// `private`, with or without field names: a shared cache does not store it.
    pub private: bool,
    /// `no-cache`, with or without field names: validate before each reuse.
    pub no_cache: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `public`, written without an argument.
    pub public: bool,
    /// `must-understand`, written without an argument.
    pub must_understand: bool,
    /// `immutable`, written without an argument.
    pub immutable: bool,
    /// `max-age`; zero when it is invalid.
    pub max_age: Option<Duration>,
    /// `s-maxage`; zero when it is invalid.
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate`; zero when it is invalid.
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error`; zero when it is invalid.
    pub stale_if_error: Option<Duration>,
    /// They came from a targeted field, so that Expires has no say (RFC 9213 section 2.1).
    pub targeted: bool,
    /// A quoted string had no end. Nothing permissive is believed then.
    pub malformed: bool,
}

impl ResponseDirectives {
    /// Reads them from the first of the fields in `targeted` that is present, valid and
    /// not empty (RFC 9213 section 2.2), else from Cache-Control.
    pub fn parse(headers: &HeaderMap, targeted: &[HeaderName]) -> Self {
        targeted
            .iter()
            .find_map(|name| targeted::parse(headers, name))
            .unwrap_or_else(|| Self::parse_cache_control(headers))
    }

    fn parse_cache_control(headers: &HeaderMap) -> Self {
        let mut this = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            let mut members = Members::new(line.as_bytes());
            for member in &mut members {
                match member {
                    Member::Directive(name, argument) => this.take(name, argument),
                    Member::Malformed(text) => this.take_malformed(text),
                }
            }
            this.malformed |= members.unterminated();
        }
        if this.malformed {
            this.distrust();
        }
        this
    }

    fn take(&mut self, name: &[u8], argument: Argument<'_>) {
        if self.restrict(name) {
            return;
        }
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if let Some(slot) = self.lifetime(name) {
            let seconds = match argument {
                Argument::Value(value) => delta_seconds(value).unwrap_or(0),
                Argument::Absent => 0,
            };
            shorten(slot, seconds);
        } else if argument == Argument::Absent {
            self.public |= is(b"public");
            self.must_understand |= is(b"must-understand");
            self.immutable |= is(b"immutable");
        }
    }

    /// `private; max-age=60`, `max-age =60`, `max-age=60 no-store`: what restricts is
    /// taken from wherever it stands, and a lifetime is there but worth nothing.
    fn take_malformed(&mut self, text: &[u8]) {
        for word in text.split(|&byte| !is_token_byte(byte)) {
            if !self.restrict(word)
                && let Some(slot) = self.lifetime(word)
            {
                *slot = Some(Duration::ZERO);
            }
        }
    }

    /// Takes a directive that restricts what a cache may do, whatever its argument.
    pub(super) fn restrict(&mut self, name: &[u8]) -> bool {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"no-store") {
            self.no_store = true;
        } else if is(b"private") {
            self.private = true;
        } else if is(b"no-cache") {
            self.no_cache = true;
        } else if is(b"must-revalidate") {
            self.must_revalidate = true;
        } else if is(b"proxy-revalidate") {
            self.proxy_revalidate = true;
        } else {
            return false;
        }
        true
    }

    pub(super) fn lifetime(&mut self, name: &[u8]) -> Option<&mut Option<Duration>> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"max-age") {
            Some(&mut self.max_age)
        } else if is(b"s-maxage") {
            Some(&mut self.s_maxage)
        } else if is(b"stale-while-revalidate") {
            Some(&mut self.stale_while_revalidate)
        } else if is(b"stale-if-error") {
            Some(&mut self.stale_if_error)
        } else {
            None
        }
    }

    fn distrust(&mut self) {
        self.public = false;
        self.must_understand = false;
        self.immutable = false;
        self.max_age = Some(Duration::ZERO);
        self.s_maxage = None;
        self.stale_while_revalidate = None;
        self.stale_if_error = None;
    }
}

fn shorten(slot: &mut Option<Duration>, seconds: u64) {
    let found = Duration::from_secs(seconds);
    *slot = Some(slot.map_or(found, |earlier| earlier.min(found)));
}

#[cfg(test)]
mod tests;
