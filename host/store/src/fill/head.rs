//! What is known of a response before its body.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use weir_semantics::{Freshness, Timestamp, VaryKey};

use crate::headers::StoredHeaders;
use crate::tags::Tags;

/// Why a fill failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// The fetch was given up; whoever still wants the object joins again.
    #[error("the fetch was given up before it ended; try again")]
    Dropped,
    /// The origin failed, as the text says.
    #[error("{0}")]
    Origin(Arc<str>),
    /// The origin could not be reached, or broke off before its response began.
    #[error("{0}")]
    Unreachable(Arc<str>),
    /// The origin was too slow.
    #[error("the origin did not answer in time; raise the route's timeouts if it needs longer")]
    Timeout,
    /// The body has not the length that its head gave. RFC 9112 section 6.3.
    #[error("the origin sent {received} bytes of a body of {announced}; see its log")]
    Length {
        /// What Content-Length said.
        announced: u64,
        /// What came.
        received: u64,
    },
    /// This reader took nothing for so long that it held the others back.
    #[error("the client read too slowly while others waited for it; it may try again")]
    TooSlow,
}

/// The head of a response that is being stored: all of an [`Object`](crate::Object) but its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status code.
    pub status: StatusCode,
    /// The header fields to be stored.
    pub headers: StoredHeaders,
    /// The length of the body in bytes, where the origin gave it. Another length fails
    /// the fill.
    pub length: Option<u64>,
    /// The request header fields that selected this variant. RFC 9111 section 4.1.
    pub vary: VaryKey,
    /// All tags of the object. Readers test those that are new to them.
    pub tags: Tags,
    /// For how long it may be used.
    pub freshness: Freshness,
    /// How long the origin took to begin this answer.
    pub fetch_took: Duration,
    /// When memory lets go of it, if earlier than its life ends.
    pub memory_until: Option<Timestamp>,
    /// Whether it may go to Redis.
    pub shared: bool,
    /// `name@version` of the policy that stores it.
    pub policy: Option<Arc<str>>,
}
