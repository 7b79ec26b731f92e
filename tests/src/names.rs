//! Names of the product that tests rely on beyond those of the design page, in one place:
//! a rename is one edit here.

/// Gauge: 1 while Redis answers, else 0.
pub const REDIS_UP: &str = "weir_redis_up";
/// Counter: how often the log was read from Redis.
pub const LOG_SYNCHRONISED: &str = "weir_log_synchronised_total";
/// Counter: records from Redis that did not decode.
pub const CORRUPT_RECORDS: &str = "weir_redis_corrupt_total";
/// Gauge: generations that something still holds.
pub const GENERATIONS: &str = "weir_generations_alive";
/// Counter: failed calls of policies, by policy, hook and reason.
pub const POLICY_ERRORS: &str = "weir_policy_errors_total";
