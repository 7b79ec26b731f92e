//! The clock's times as the system counts them, to be written for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_store::Clock;

/// Now.
pub(crate) fn now(clock: &Clock) -> SystemTime {
    of(clock.now().as_millis())
}

/// So many milliseconds after 1970 began.
pub(crate) fn of(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}
