//! What a policy may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use wasmtime::ResourceLimiter;

/// Limits on one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time that the guest may run in one hook call; waiting for `kv` and `rate-limit`
    /// does not count. CPU time, from the first millisecond on. Default 20 ms.
    pub cpu: Duration,
    /// The same for making an instance and its `configure`. Default 1 s.
    pub configure_cpu: Duration,
    /// Bytes of one instance: all its memories and tables together. Default 64 MiB.
    pub memory: usize,
    /// Bytes of all instances of the policy together. Default 2 GiB.
    pub total_memory: usize,
    /// The most instances, and so the most calls at once. Default 32, at least 1.
    pub instances: usize,
    /// The most calls of one instance before it is replaced; the real number is random
    /// between a half of this and this, so that guests cannot lean on it. Default
    /// 10,000, at least 1; 1 makes an instance for each call.
    pub reuse: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu: Duration::from_millis(20),
            configure_cpu: Duration::from_secs(1),
            memory: 64 * 1024 * 1024,
            total_memory: 2 * 1024 * 1024 * 1024,
            instances: 32,
            reuse: 10_000,
        }
    }
}

impl Limits {
    /// The first thing that is out of bounds.
    pub(crate) fn check(&self) -> Result<(), String> {
        let cpu = Duration::from_millis(1)..=Duration::from_secs(60);
        if !cpu.contains(&self.cpu) || !cpu.contains(&self.configure_cpu) {
            return Err("the CPU limits must lie between 1 ms and 60 s".to_owned());
        }
        if !(1..=10_000).contains(&self.instances) {
            return Err("the limit on instances must lie between 1 and 10,000".to_owned());
        }
        if self.reuse == 0 {
            return Err(
                "an instance must serve at least one call: set `reuse` to 1 or more".to_owned(),
            );
        }
        if self.memory < 64 * 1024 {
            return Err("the memory limit must be at least 64 KiB, one page".to_owned());
        }
        if self.total_memory < self.memory {
            return Err(
                "the limit on the memory of all instances must not be below that of one".to_owned(),
            );
        }
        Ok(())
    }

    /// How many calls the next instance serves.
    pub(crate) fn next_reuse(&self) -> u32 {
        fastrand::u32(self.reuse.div_ceil(2)..=self.reuse)
    }
}

/// What all instances of a policy use together.
#[derive(Debug)]
pub(crate) struct Total {
    limit: usize,
    used: AtomicUsize,
}

impl Total {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
        }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

/// Sums all memories and tables of a store.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: usize,
    total: Arc<Total>,
    used: usize,
    last: usize,
    /// The guest was refused memory since [`Limiter::begin`].
    refused: bool,
}

/// The size of a table element on the host.
const ELEMENT: usize = size_of::<usize>();

impl Limiter {
    pub(crate) fn new(limit: usize, total: Arc<Total>) -> Self {
        Self {
            limit,
            total,
            used: 0,
            last: 0,
            refused: false,
        }
    }

    pub(crate) fn begin(&mut self) {
        self.refused = false;
    }

    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    fn grow(&mut self, by: usize) -> bool {
        let sum = self.used.checked_add(by).filter(|sum| *sum <= self.limit);
        match sum.filter(|_| self.total.take(by)) {
            Some(sum) => {
                self.used = sum;
                self.last = by;
                true
            }
            None => {
                self.refused = true;
                false
            }
        }
    }

    fn undo(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.used -= last;
        self.total.give_back(last);
        self.refused = true;
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.total.give_back(self.used);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.last = 0;
        // Growing beyond the memory's own maximum fails whatever is answered here.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.last = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(ELEMENT)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 64 * 1024;

    #[test]
    fn memories_and_tables_are_summed() {
        let total = Arc::new(Total::new(usize::MAX));
        let mut limiter = Limiter::new(3 * PAGE, Arc::clone(&total));
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(limiter.table_growing(0, 1000, None).unwrap());
        assert_eq!(total.used(), 2 * PAGE + 1000 * ELEMENT);
        assert!(!limiter.refused());
        assert!(!limiter.memory_growing(PAGE, 2 * PAGE, None).unwrap());
        assert!(limiter.refused());
        limiter.begin();
        assert!(!limiter.refused());
    }

    #[test]
    fn all_instances_share_a_limit_and_give_back_what_they_had() {
        let total = Arc::new(Total::new(3 * PAGE));
        let mut one = Limiter::new(10 * PAGE, Arc::clone(&total));
        let mut other = Limiter::new(10 * PAGE, Arc::clone(&total));
        assert!(one.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(!other.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(other.refused() && !one.refused());
        drop(one);
        assert_eq!(total.used(), 0);
        assert!(other.memory_growing(0, 3 * PAGE, None).unwrap());
    }

    #[test]
    fn growth_that_failed_is_not_counted() {
        let total = Arc::new(Total::new(usize::MAX));
        let mut limiter = Limiter::new(10 * PAGE, Arc::clone(&total));
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        limiter
            .memory_grow_failed(wasmtime::Error::msg("no"))
            .unwrap();
        assert_eq!(total.used(), 0);
        assert!(!limiter.memory_growing(0, 2 * PAGE, Some(PAGE)).unwrap());
        limiter
            .memory_grow_failed(wasmtime::Error::msg("no"))
            .unwrap();
        assert_eq!(total.used(), 0);
    }

    #[test]
    fn reuse_is_random_within_bounds() {
        let limits = Limits::default();
        for _ in 0..100 {
            assert!((5_000..=10_000).contains(&limits.next_reuse()));
        }
        let one = Limits { reuse: 1, ..limits };
        assert_eq!(one.next_reuse(), 1);
    }

    #[test]
    fn limits_out_of_bounds_are_refused() {
        let fine = Limits::default();
        assert!(fine.check().is_ok());
        for wrong in [
            Limits {
                cpu: Duration::ZERO,
                ..fine
            },
            Limits {
                configure_cpu: Duration::MAX,
                ..fine
            },
            Limits {
                instances: 0,
                ..fine
            },
            Limits { reuse: 0, ..fine },
            Limits { memory: 1, ..fine },
            Limits {
                total_memory: fine.memory - 1,
                ..fine
            },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
