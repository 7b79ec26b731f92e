//! Cache directives: RFC 9111 section 5.2, RFC 5861, RFC 8246, RFC 9213.
//!
//! Lenient where that is safe, and strict where it is not: whatever forbids is honoured
//! even in a list that is malformed, and whatever permits is believed only when it is
//! written as its grammar says. A freshness lifetime that makes no sense counts as zero
//! (section 4.2.1), and of two that differ the shorter one counts.

mod list;
mod request;
mod response;
mod targeted;

pub(crate) use list::{delta_seconds, is_token, mentions};
pub use request::{MaxStale, RequestDirectives};
pub use response::ResponseDirectives;
pub(crate) use targeted::joined_lines;
