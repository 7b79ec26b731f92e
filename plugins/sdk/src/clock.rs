//! The time. Needs the grant `clock`; a decision that asked for it is not remembered.
//! Expiry at an absolute time needs none: see [`crate::Response::set_expiry`].

use std::time::Duration;

/// The time since the Unix epoch, to the millisecond. One request sees one instant, however
/// often it asks. In native tests: what [`crate::testing::set_now`] says, else zero.
pub fn now() -> Duration {
    #[cfg(target_arch = "wasm32")]
    {
        Duration::from_millis(crate::bindings::weir::policy::clock::now())
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        crate::testing::now()
    }
}
