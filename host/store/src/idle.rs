//! Waiting until a queue is empty.

use std::pin::pin;

use tokio::sync::Notify;

/// Waits until `idle`, which can have become true when `told` is told.
pub(crate) async fn until(told: &Notify, idle: impl Fn() -> bool) {
    loop {
        // Before it is tested, so that nothing is missed in between.
        let mut told = pin!(told.notified());
        told.as_mut().enable();
        if idle() {
            return;
        }
        told.await;
    }
}
