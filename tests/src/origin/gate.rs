//! A door that the test opens.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Holds whoever waits at it until it is opened. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Opens it for all, for ever.
    pub fn open(&self) {
        self.0.close();
    }

    /// Lets `count` of those who wait, or come next, through.
    pub fn admit(&self, count: usize) {
        self.0.add_permits(count);
    }

    /// Waits to be let through.
    pub async fn pass(&self) {
        // An error means that the gate stands open.
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
