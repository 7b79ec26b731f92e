//! Whether Redis can be used.

use weir_semantics::Timestamp;

/// What readiness and the dashboard say about Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisState {
    /// This node is alone.
    NotConfigured,
    /// It answers.
    Up,
    /// It does not, or too late.
    Down {
        /// Since when.
        since: Timestamp,
        /// The failure that decided it.
        reason: String,
    },
}
