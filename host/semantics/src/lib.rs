//! HTTP caching rules: no I/O, no async, no clock of its own.
//!
//! Everything here is a pure function of header fields and instants. Weir is a *shared*
//! cache (RFC 9111), so that where the RFC distinguishes, this crate takes that side; and
//! where a field can be read in two ways, it takes the one that stores less.
//!
//! | question | answered by | specification |
//! |---|---|---|
//! | May this response be stored, and for how long is it fresh? | [`assess`] | RFC 9111 §3, §4.2; RFC 9213 |
//! | Which requests does it answer? | [`VaryRule`], [`VaryKey`] | RFC 9111 §4.1 |
//! | May it be served now? | [`reuse`], [`may_serve_on_error`], [`may_serve_disconnected`] | RFC 9111 §4, §5.2.1; RFC 5861 |
//! | In which coding is it sent? | [`AcceptEncoding`], [`may_be_coded`] | RFC 9110 §8.4, §12.5.3 |
//! | What does the client have already? | [`evaluate`], [`range()`] | RFC 9110 §13, §14 |
//! | How is it validated, and what does a 304 change? | [`conditional_headers`], [`validates`], [`freshen`] | RFC 9111 §3.2, §4.3 |
//! | What does an unsafe request make invalid? | [`uris_to_invalidate`] | RFC 9111 §4.4 |
//! | May a response to POST answer a GET? | [`represents_target`] | RFC 9110 §9.3.3 |
//! | Which fields stop here? | [`strip_hop_by_hop`] | RFC 9110 §7.6.1 |
//! | What is it purged by? | [`response_tags`] | |
//! | Which part is it, and what does it answer? | [`Part`], [`same_representation`] | RFC 9110 §15.3.7, RFC 9111 §3.3, §3.4 |
//! | What else goes with it? | [`cache_groups`], [`groups_to_invalidate`] | RFC 9875 |
//! | What happened? | [`CacheStatus`] | RFC 9211 |
//!
//! The way of a hit allocates only for the Cache-Status it sends:
//! [`RequestDirectives::parse`], [`VaryKey::matches`] and [`reuse`] do not at all.

mod cache_status;
mod conditional;
mod directives;
mod encoding;
mod freshness;
mod groups;
mod hop;
mod invalidation;
mod partial;
mod range;
mod reuse;
mod storable;
mod tags;
mod time;
mod vary;

pub use cache_status::{CacheStatus, Fwd};
pub use conditional::{
    Condition, conditional_headers, evaluate, freshen, head_agrees, strip_conditions,
    strip_content_fields, validates,
};
pub use directives::{MaxStale, RequestDirectives, ResponseDirectives};
pub use encoding::{
    AcceptEncoding, Coding, MediaTypes, code_fields, forbids_transformation, may_be_coded,
    normalise_accept_encoding, unvary_by_encoding, vary_by_encoding,
};
pub use freshness::Freshness;
pub use groups::{cache_groups, groups_to_invalidate};
pub use hop::strip_hop_by_hop;
pub use invalidation::{represents_target, uris_to_invalidate};
pub use partial::{Part, same_representation};
pub use range::{Range, content_range, range, unsatisfied_range};
pub use reuse::{Reuse, Why, may_serve_disconnected, may_serve_on_error, reuse};
pub use storable::{Assessment, Exchange, Overrides, Refusal, Rules, assess, assess_overridden};
pub use tags::{LONGEST_TAG, MOST_TAGS, TagError, response_tags};
pub use time::Timestamp;
pub use vary::{VaryFields, VaryKey, VaryRule};
