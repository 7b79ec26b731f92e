//! Compiling off the data path: seconds of work for a large component, on what the requests
//! leave of the processor.
//!
//! A node has it done by a process of its own: all threads of one process share its address
//! space, and a compiler that takes and gives back memory all the time has each of them wait.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compiler::{Code, Compiler, Failure, lower_priority};

/// A component larger than this, in bytes, takes seconds, for which others do not wait.
const LARGE: usize = 1024 * 1024;

/// Compiles one component at a time, and a large one beside it. Threads are made when the first
/// one comes.
#[derive(Debug, Default)]
pub(crate) struct Compiling {
    small: Mutex<()>,
    large: Mutex<()>,
    pool: Mutex<Option<Arc<ThreadPool>>>,
    compiler: Option<Compiler>,
    serving: AtomicBool,
}

impl Compiling {
    /// `compiler` is the process that does it; absent: this one.
    pub(crate) fn new(compiler: Option<Compiler>) -> Self {
        Self {
            compiler,
            ..Self::default()
        }
    }

    /// Whether requests are served meanwhile. To take the time that they leave of all cores still
    /// makes those wait longer that come in these seconds, so a large component then gets half of
    /// the cores.
    pub(crate) fn set_serving(&self, serving: bool) {
        self.serving.store(serving, Relaxed);
    }

    /// On how many threads a component of so many bytes is compiled, if not on all.
    fn threads_for(&self, bytes: usize) -> Option<usize> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        (bytes > LARGE && self.serving.load(Relaxed)).then_some((cores / 2).max(1))
    }

    /// Compiles a component. Blocks.
    ///
    /// # Errors
    /// wasmtime's, when it does not compile; and when the process that was to compile it died.
    pub(crate) fn component(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        let _turn = match bytes.len() > LARGE {
            true => self.large.lock(),
            false => self.small.lock(),
        };
        let here = || self.run(|| Component::from_binary(engine, bytes));
        let slowly = |why: &str| {
            tracing::warn!("a policy is compiled within the node, which slows requests: {why}");
            here()
        };
        let Some(compiler) = &self.compiler else {
            return here();
        };
        match compiler.compile(bytes, self.threads_for(bytes.len())) {
            // An engine of other options, where the address space is short.
            Ok(code) => self
                .run(|| map(engine, &code))
                .or_else(|error| slowly(&format!("{error:#}"))),
            Err(Failure::Start(why)) => slowly(&why),
            Err(Failure::Refused(text) | Failure::Died(text)) => Err(wasmtime::Error::msg(text)),
        }
    }

    /// Does the work on the threads for it, which have the lowest priority; it may divide it by
    /// rayon.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self.threads() {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    fn threads(&self) -> Option<Arc<ThreadPool>> {
        let mut pool = self.pool.lock();
        if pool.is_none() {
            let made = ThreadPoolBuilder::new()
                .thread_name(|_| "weir-compile".to_owned())
                .start_handler(|_| {
                    if let Err(error) = lower_priority() {
                        tracing::warn!(%error, "policies are compiled at the priority of requests");
                    }
                })
                .build();
            match made {
                Ok(made) => *pool = Some(Arc::new(made)),
                Err(error) => tracing::warn!(%error, "no threads for compiling alone"),
            }
        }
        pool.clone()
    }
}

#[expect(
    unsafe_code,
    reason = "wasmtime cannot verify compiled code: whoever made it is trusted like this program"
)]
fn map(engine: &Engine, code: &Code) -> wasmtime::Result<Component> {
    // SAFETY: this very program wrote `code` with wasmtime's compiler and has ended; nobody
    // else can reach the memory that it wrote to. wasmtime tests that the engine's version and
    // options are those it was made for.
    unsafe { Component::deserialize_file(engine, code.path()) }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;
    use crate::compiler::NICE;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

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

    /// `script` in place of the compiler.
    fn by(script: &str) -> wasmtime::Result<Component> {
        let compiler = Compiler::new("/bin/sh", ["-c", script]);
        Compiling::new(Some(compiler)).component(&Engine::default(), EMPTY)
    }

    #[test]
    fn a_compiler_that_cannot_start_is_done_without() {
        let compiler = Compiler::new("/nonexistent", [""; 0]);
        let compiling = Compiling::new(Some(compiler));
        compiling.component(&Engine::default(), EMPTY).unwrap();
    }

    #[test]
    fn what_a_compiler_says_against_a_component_is_the_error() {
        let error = by("cat >/dev/null; printf 'no such type'; exit 3").unwrap_err();
        assert_eq!(error.to_string(), "no such type");
    }

    #[test]
    fn a_compiler_that_is_starved_begins_anew_with_a_part_for_itself() {
        let script = r#"cat >/dev/null; test "$0" = --idle-for && exit 4; printf anew; exit 3"#;
        assert_eq!(by(script).unwrap_err().to_string(), "anew");
    }

    #[test]
    fn a_large_component_leaves_cores_to_the_requests() {
        let script = r#"cat >/dev/null; printf '%s' "${RAYON_NUM_THREADS-all}"; exit 3"#;
        let compiling = Compiling::new(Some(Compiler::new("/bin/sh", ["-c", script])));
        let threads = |bytes| {
            let component = vec![0; bytes];
            let error = compiling.component(&Engine::default(), &component);
            error.unwrap_err().to_string()
        };
        let all = threads(LARGE + 1);
        compiling.set_serving(true);
        assert_eq!(threads(LARGE), all, "it takes no time to speak of");
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(threads(LARGE + 1), (cores / 2).max(1).to_string());
        compiling.set_serving(false);
        assert_eq!(threads(LARGE + 1), all);
    }

    #[test]
    fn a_compiler_that_dies_is_named_and_not_done_without() {
        for script in ["kill -9 $$", "cat >/dev/null; kill -9 $$"] {
            let error = by(script).unwrap_err().to_string();
            assert!(error.contains("signal: 9"), "{error}");
            assert!(error.contains("memory"), "{error}");
        }
    }

    #[test]
    fn code_for_another_engine_is_not_used() {
        by("cat >/dev/null; printf 'code'").unwrap();
    }
}
