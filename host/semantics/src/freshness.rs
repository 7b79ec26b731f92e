//! How long a response may be reused: RFC 9111 section 4.2, RFC 5861.

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{AGE, DATE, ETAG, EXPIRES, LAST_MODIFIED},
};

use crate::{
    directives::{ResponseDirectives, delta_seconds},
    storable::{Exchange, Rules},
    time::Timestamp,
};

/// The longest heuristic lifetime (RFC 9111 section 4.2.2).
const LONGEST_HEURISTIC: Duration = Duration::from_secs(24 * 60 * 60);
/// How long after its lifetime a response with a validator stays worth keeping, so that a
/// 304 can bring it back.
const KEEP_FOR_VALIDATION: Duration = Duration::from_secs(60 * 60);

/// The facts that decide whether a stored response is fresh, stale or dead.
///
/// All durations have millisecond precision and are counted from when the origin made or
/// validated the response, `initial_age` before `received`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// When the response arrived: `response_time` of RFC 9111 section 4.2.3.
    pub received: Timestamp,
    /// Its age on arrival: `corrected_initial_age`.
    pub initial_age: Duration,
    /// The age at which it becomes stale: `freshness_lifetime`.
    pub lifetime: Duration,
    /// For how long after its lifetime it may be served while it is being validated.
    pub stale_while_revalidate: Duration,
    /// For how long after its lifetime it may be served when the origin fails.
    pub stale_if_error: Duration,
    /// For how long after its lifetime it is kept as the base of a validation, or for the
    /// time that its origin cannot be reached. Not a permission to serve it.
    pub keep: Duration,
    /// Stale, it is served only within the two windows above, whatever the client takes.
    pub must_revalidate: bool,
    /// Never served without validation.
    pub no_cache: bool,
    /// It does not change while fresh, so that a client's `max-age` is no reason to
    /// validate it (RFC 8246 section 2).
    pub immutable: bool,
    /// The lifetime is a guess of ours (section 4.2.2).
    pub heuristic: bool,
}

impl Freshness {
    /// The age at `now`; never less than `initial_age`, also when the clock stepped back.
    pub fn age(&self, now: Timestamp) -> Duration {
        self.initial_age.saturating_add(now.since(self.received))
    }

    /// When its lifetime ends.
    pub fn expires(&self) -> Timestamp {
        self.received + self.lifetime - self.initial_age
    }

    /// When it is of no more use: not even stale, and not as the base of a validation.
    pub fn retain_until(&self) -> Timestamp {
        let window = self
            .stale_while_revalidate
            .max(self.stale_if_error)
            .max(self.keep);
        self.received + self.lifetime.saturating_add(window) - self.initial_age
    }

    /// Whole seconds of lifetime left at `now`, rounded down; negative once it is stale.
    pub fn ttl_secs(&self, now: Timestamp) -> i64 {
        let age = self.age(now);
        let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        match self.lifetime.checked_sub(age) {
            Some(left) => whole(left),
            None => {
                let over = age.saturating_sub(self.lifetime);
                -whole(over) - i64::from(over.subsec_nanos() > 0)
            }
        }
    }

    /// Whether a hit at `now` should have it fetched anew already, though it is fresh: the
    /// more likely, the less of its lifetime is left beside what a fetch takes, so that
    /// what is asked for often is renewed before it expires, and by one request. `draw`
    /// gives a number drawn from (0, 1]. After Vattani, Chierichetti and Lowenstein,
    /// "Optimal Probabilistic Cache Stampede Prevention" (VLDB 2015), within the last
    /// fifth of the lifetime.
    pub fn refresh_early(
        &self,
        now: Timestamp,
        fetch_took: Duration,
        draw: impl FnOnce() -> f64,
    ) -> bool {
        let Some(left) = self.lifetime.checked_sub(self.age(now)) else {
            return false;
        };
        let usable = self.lifetime.saturating_sub(self.initial_age);
        // Less likely than one in 160,000 before that: not worth a draw.
        if left > fetch_took * 12 || left > usable / 5 {
            return false;
        }
        left.as_secs_f64() <= -draw().ln() * fetch_took.as_secs_f64()
    }

    /// Gives it `remaining` of lifetime from `now` on, explicitly.
    pub fn set_remaining(&mut self, now: Timestamp, remaining: Duration) {
        self.lifetime = self.age(now).saturating_add(remaining);
        self.no_cache = false;
        self.heuristic = false;
    }

    /// Shortens lifetime and windows so that nothing outlives `received + longest_life`.
    pub fn cap(&mut self, longest_life: Duration) {
        let end = self.initial_age.saturating_add(longest_life);
        self.lifetime = self.lifetime.min(end);
        let window = end - self.lifetime;
        self.stale_while_revalidate = self.stale_while_revalidate.min(window);
        self.stale_if_error = self.stale_if_error.min(window);
        self.keep = self.keep.min(window);
    }

    /// Computes it for a response that has just arrived; with it, where the lifetime comes
    /// from.
    pub(crate) fn compute(
        exchange: &Exchange<'_>,
        directives: &ResponseDirectives,
        rules: &Rules,
    ) -> (Self, Source) {
        let (lifetime, source) = lifetime(exchange, directives, rules);
        let must_revalidate = directives.must_revalidate || directives.proxy_revalidate;
        let forbidden = must_revalidate || directives.no_cache;
        let window = |asked: Option<Duration>| asked.filter(|_| !forbidden).unwrap_or_default();
        // s-maxage means proxy-revalidate (section 5.2.2.10), but a window that stands
        // beside it is the origin's own exception, as CDNs read it.
        let must_revalidate = must_revalidate || directives.s_maxage.is_some();
        let disconnected = match must_revalidate || directives.no_cache {
            true => Duration::ZERO,
            false => rules.disconnected,
        };
        let mut this = Self {
            received: exchange.response_time,
            initial_age: initial_age(exchange),
            lifetime,
            stale_while_revalidate: window(directives.stale_while_revalidate),
            stale_if_error: window(directives.stale_if_error),
            keep: match has_validator(exchange.response_headers) {
                true => KEEP_FOR_VALIDATION.max(disconnected),
                false => disconnected,
            },
            must_revalidate,
            no_cache: directives.no_cache,
            immutable: directives.immutable,
            heuristic: source == Source::Heuristic,
        };
        this.cap(rules.longest_life);
        (this, source)
    }
}

/// Where a lifetime comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Explicit,
    Heuristic,
    /// The operator's, for errors that come without one.
    Negative,
    Nowhere,
}

fn lifetime(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    rules: &Rules,
) -> (Duration, Source) {
    let headers = exchange.response_headers;
    let date = date(headers).unwrap_or(exchange.response_time);
    let explicit = directives
        .s_maxage
        .or(directives.max_age)
        .or_else(|| {
            if directives.targeted {
                None
            } else {
                expires(headers, date)
            }
        })
        .or(directives.no_cache.then_some(Duration::ZERO));
    if let Some(lifetime) = explicit {
        return (lifetime, Source::Explicit);
    }
    let guessable = is_heuristically_cacheable(exchange.status) || directives.public;
    if let Some(modified) = single_date(headers, LAST_MODIFIED)
        && guessable
        && modified < date
    {
        let guess = (date.since(modified) / 10).min(LONGEST_HEURISTIC);
        return (guess, Source::Heuristic);
    }
    let negative = rules
        .negative
        .iter()
        .find(|(status, _)| *status == exchange.status);
    match negative {
        // From its arrival on: an error that says nothing of its lifetime has no age either.
        Some((_, lifetime)) => (
            lifetime.saturating_add(initial_age(exchange)),
            Source::Negative,
        ),
        None => (Duration::ZERO, Source::Nowhere),
    }
}

/// Statuses that RFC 9110 section 15.1 and RFC 7725 make cacheable without being told.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 451 | 501
    )
}

/// Expires minus Date; zero when it is invalid, and the earliest of several.
fn expires(headers: &HeaderMap, date: Timestamp) -> Option<Duration> {
    headers
        .get_all(EXPIRES)
        .iter()
        .map(|line| Timestamp::parse_http_date(line.as_bytes()))
        .map(|expires| expires.map_or(Duration::ZERO, |expires| expires.since(date)))
        .min()
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    Timestamp::parse_http_date(headers.get(DATE)?.as_bytes())
}

/// The date in a field that occurs once.
pub(crate) fn single_date(headers: &HeaderMap, name: http::HeaderName) -> Option<Timestamp> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    Timestamp::parse_http_date(line.as_bytes())
}

/// Can a 304 bring it back?
pub(crate) fn has_validator(headers: &HeaderMap) -> bool {
    headers.get(ETAG).is_some_and(|etag| !etag.is_empty())
        || single_date(headers, LAST_MODIFIED).is_some()
}

/// `corrected_initial_age` of RFC 9111 section 4.2.3. A Date has whole seconds, so the
/// fraction of the arrival does not count against it.
fn initial_age(exchange: &Exchange<'_>) -> Duration {
    let headers = exchange.response_headers;
    let arrival = Timestamp::from_secs(exchange.response_time.as_secs());
    let apparent_age = date(headers).map_or(Duration::ZERO, |date| arrival.since(date));
    let delay = exchange.response_time.since(exchange.request_time);
    apparent_age.max(age_field(headers).saturating_add(delay))
}

/// The first member of the first Age line; zero when that is no number (section 5.1).
fn age_field(headers: &HeaderMap) -> Duration {
    let first = headers
        .get(AGE)
        .and_then(|line| line.as_bytes().split(|&byte| byte == b',').next())
        .unwrap_or_default()
        .trim_ascii();
    delta_seconds(first).map_or(Duration::ZERO, Duration::from_secs)
}

#[cfg(test)]
mod tests;
