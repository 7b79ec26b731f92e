//! Waiting for a condition instead of for a time.

use std::time::{Duration, Instant};

/// How long a condition may take when a test does not care how long: generous, because a
/// loaded machine is no defect of the node.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `probe` every few milliseconds until it answers `Some`, at most for `deadline`;
/// then panics, saying `what` did not come.
pub async fn until_within<T, F>(deadline: Duration, what: &str, mut probe: F) -> T
where
    F: AsyncFnMut() -> Option<T>,
{
    let begun = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(
            begun.elapsed() < deadline,
            "waited {:?} in vain: {what}",
            begun.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// [`until_within`] with [`PATIENCE`].
pub async fn until<T, F>(what: &str, probe: F) -> T
where
    F: AsyncFnMut() -> Option<T>,
{
    until_within(PATIENCE, what, probe).await
}
