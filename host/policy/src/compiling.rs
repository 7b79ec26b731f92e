//! Compiling off the data path: seconds of work for a large component, on threads that
//! take what the requests leave.

use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The lowest priority that there is: beside a thread that serves, about one part in
/// seventy.
const NICE: i32 = 19;

/// Threads that compile, one component at a time. They are made when the first one comes.
#[derive(Debug, Default)]
pub(crate) struct Compiling {
    pool: Mutex<Option<ThreadPool>>,
}

impl Compiling {
    /// Does the work of a compiler, which may divide it by rayon. Blocks.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let mut pool = self.pool.lock();
        if pool.is_none() {
            let made = ThreadPoolBuilder::new()
                .thread_name(|_| "weir-compile".to_owned())
                .start_handler(|_| {
                    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                        tracing::warn!(%error, "policies are compiled at the priority of requests");
                    }
                })
                .build();
            match made {
                Ok(made) => *pool = Some(made),
                Err(error) => tracing::warn!(%error, "no threads for compiling alone"),
            }
        }
        match &*pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn all_of_the_work_is_done_at_the_lowest_priority() {
        let here = || {
            let nice = rustix::process::getpriority_process(None).unwrap();
            (nice, std::thread::current().name().map(str::to_owned))
        };
        let compiling = Compiling::default();
        let (outer, inner) = compiling.run(|| {
            let parts: Vec<_> = (0..64).into_par_iter().map(|_| here()).collect();
            (here(), parts)
        });
        let expected = (NICE, Some("weir-compile".to_owned()));
        assert!(inner.iter().chain([&outer]).all(|part| *part == expected));
        assert_ne!(here(), expected, "who waits for it keeps its own");
    }
}
