//! May a response be stored? RFC 9111 section 3, for a shared cache.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{AUTHORIZATION, RANGE, SET_COOKIE, VARY},
};

use crate::{
    directives::{RequestDirectives, ResponseDirectives},
    freshness::{Freshness, Source, has_validator},
    time::Timestamp,
    vary::VaryRule,
};

/// A request and the final response to it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The method that the origin saw.
    pub method: &'a Method,
    /// The header fields that the origin saw, Authorization included.
    pub request_headers: &'a HeaderMap,
    /// The status of the response; after a 304, the status of what it validated.
    pub status: StatusCode,
    /// The header fields of the response; after a 304, those that
    /// [`freshen`](crate::freshen) made.
    pub response_headers: &'a HeaderMap,
    /// When the request was sent: `request_time` of section 4.2.3.
    pub request_time: Timestamp,
    /// When the head of the response arrived: `response_time`.
    pub response_time: Timestamp,
}

/// What the operator decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether a response with Set-Cookie may be stored when it is explicitly fresh.
    pub store_set_cookie: bool,
    /// The longest time for which anything is kept, stale windows included.
    pub longest_life: Duration,
    /// Targeted fields such as CDN-Cache-Control, most specific first (RFC 9213).
    pub targeted: Vec<HeaderName>,
    /// For how long a response with such a status is fresh that says nothing about it.
    pub negative: Vec<(StatusCode, Duration)>,
    /// For how long after its lifetime a response may be served while its origin cannot be
    /// reached, where the origin did not forbid it (RFC 9111 section 4.2.4).
    pub disconnected: Duration,
}

/// Which refusals the operator lets a policy override, by name, though they protect users.
/// The others never are: `no-store` least of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// [`Refusal::Private`].
    pub private: bool,
    /// [`Refusal::Authorization`].
    pub authorization: bool,
    /// [`Refusal::SetCookie`].
    pub set_cookie: bool,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The method is not GET. (A response to HEAD can only update what is stored.)
    Method,
    /// The status must not be stored, or answers something that no key contains.
    Status,
    /// A 206 (Partial Content) to a request that named no range.
    ContentRange,
    /// The request said `no-store`.
    RequestNoStore,
    /// `must-understand` with a status unknown here (section 5.2.2.3).
    MustUnderstand,
    /// `no-store`.
    NoStore,
    /// `private`.
    Private,
    /// The request carried Authorization and nothing allows to store it (section 3.5).
    Authorization,
    /// It sets a cookie.
    SetCookie,
    /// `Vary: *`, or a Vary that cannot be read.
    VaryStar,
    /// `no-cache` without a validator: there would be no way to reuse it.
    NoCache,
    /// Neither explicitly nor heuristically fresh, or too old already and without a
    /// validator.
    NoFreshness,
}

impl Refusal {
    /// A short token for Cache-Status, metrics and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::ContentRange => "content-range",
            Self::RequestNoStore => "request-no-store",
            Self::MustUnderstand => "must-understand",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::VaryStar => "vary-star",
            Self::NoCache => "no-cache",
            Self::NoFreshness => "no-freshness",
        }
    }

    /// Whether storing it nevertheless could serve one user's response to another, or a
    /// wrong one to anybody. A policy may override only those for which this is false, and
    /// those that its route grants (see [`Overrides`]).
    pub const fn protects_users(self) -> bool {
        !matches!(self, Self::NoCache | Self::NoFreshness)
    }
}

/// What RFC 9111 says about storing a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// Why it must not be stored; `None` when it may be. Where several reasons hold, one
    /// that protects users is named.
    pub refusal: Option<Refusal>,
    /// How long it may be reused. Meaningful also for a refusal that does not protect
    /// users, so that a policy can start from it.
    pub freshness: Freshness,
}

/// Decides whether a response may be stored, and for how long it may be reused
/// (RFC 9111 sections 3 and 4.2).
///
/// To be asked of the response as it came, before [`strip_hop_by_hop`] and before any
/// field is added.
///
/// [`strip_hop_by_hop`]: crate::strip_hop_by_hop
pub fn assess(exchange: &Exchange<'_>, rules: &Rules) -> Assessment {
    assess_overridden(exchange, rules, Overrides::default())
}

/// As [`assess`], without the refusals that a policy may override and does.
pub fn assess_overridden(
    exchange: &Exchange<'_>,
    rules: &Rules,
    overrides: Overrides,
) -> Assessment {
    let directives = ResponseDirectives::parse(exchange.response_headers, &rules.targeted);
    let (freshness, source) = Freshness::compute(exchange, &directives, rules);
    let refusal = protection(exchange, rules, &directives, source, overrides)
        .or_else(|| uselessness(&freshness, source, has_validator(exchange.response_headers)));
    Assessment { refusal, freshness }
}

fn protection(
    exchange: &Exchange<'_>,
    rules: &Rules,
    directives: &ResponseDirectives,
    source: Source,
    overrides: Overrides,
) -> Option<Refusal> {
    let response = exchange.response_headers;
    let understood = is_understood(exchange.status);
    if exchange.method != Method::GET {
        Some(Refusal::Method)
    } else if exchange.status == StatusCode::PARTIAL_CONTENT
        && !exchange.request_headers.contains_key(RANGE)
    {
        Some(Refusal::ContentRange)
    } else if is_never_stored(exchange.status)
        // What was not acceptable stands in fields that no key contains without a Vary.
        || (exchange.status == StatusCode::NOT_ACCEPTABLE && !response.contains_key(VARY))
    {
        Some(Refusal::Status)
    } else if RequestDirectives::parse(exchange.request_headers).no_store {
        Some(Refusal::RequestNoStore)
    } else if directives.must_understand && !understood {
        Some(Refusal::MustUnderstand)
    } else if directives.no_store && !directives.must_understand {
        Some(Refusal::NoStore)
    } else if directives.private && !overrides.private {
        Some(Refusal::Private)
    } else if exchange.request_headers.contains_key(AUTHORIZATION)
        && !allows_authorization(directives)
        && !overrides.authorization
    {
        Some(Refusal::Authorization)
    } else if response.contains_key(SET_COOKIE)
        && !(rules.store_set_cookie && source == Source::Explicit)
        && !overrides.set_cookie
    {
        Some(Refusal::SetCookie)
    } else if VaryRule::parse(response) == VaryRule::Star {
        Some(Refusal::VaryStar)
    } else {
        None
    }
}

/// RFC 9111 section 3.5.
fn allows_authorization(directives: &ResponseDirectives) -> bool {
    !directives.malformed
        && (directives.public
            || directives.must_revalidate
            || directives
                .s_maxage
                .is_some_and(|lifetime| !lifetime.is_zero()))
}

fn uselessness(freshness: &Freshness, source: Source, can_validate: bool) -> Option<Refusal> {
    let window = freshness
        .stale_while_revalidate
        .max(freshness.stale_if_error);
    let is_over = freshness.lifetime.saturating_add(window) <= freshness.initial_age;
    if source == Source::Nowhere {
        Some(Refusal::NoFreshness)
    } else if freshness.no_cache && !can_validate {
        Some(Refusal::NoCache)
    } else if !can_validate && is_over {
        Some(Refusal::NoFreshness)
    } else {
        None
    }
}

/// Interim and validating answers; those that RFC 6585 forbids to store (428, 429, 431,
/// 511); and those that answer what no key contains: preconditions, ranges, the
/// connection, the size of fields and bodies. To store the last kind is to let one client
/// poison the object for all.
fn is_never_stored(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        ..200 | 304 | 407 | 408 | 412 | 413 | 416 | 417 | 421 | 425 | 426 | 428 | 429 | 431 | 511
    )
}

/// The final statuses whose caching requirements this cache implements: those of
/// RFC 9110, and those that ask for nothing special.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=303 | 307 | 308 | 400..=406 | 409..=411 | 414 | 415 | 422 | 451
            | 500..=505
    )
}

#[cfg(test)]
mod tests;
