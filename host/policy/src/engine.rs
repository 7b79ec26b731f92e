//! The engine: one for a node, shared by all policies and their generations.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use wasmtime::{Config, PoolingAllocationConfig};

use crate::compiled_cache::CompiledCache;
use crate::compiler::Compiler;
use crate::compiling::Compiling;
use crate::lane::Lane;
use crate::ticker::{Running, Ticker};

/// Options of the engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where compiled code is kept; absent: compiled anew each time.
    pub cache_dir: Option<PathBuf>,
    /// What compiles; absent: threads of this process, which slow the others.
    pub compiler: Option<Compiler>,
    /// How finely CPU limits are measured; and a guest that computes for longer than two of it
    /// goes on aside, on a thread that serves no requests. Default 1 ms, at least that.
    pub tick: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            compiler: None,
            tick: Duration::from_millis(1),
        }
    }
}

/// An engine that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot be made: {0}")]
pub struct EngineError(String);

/// Compiles and runs policies. A clone is a reference count; the thread that measures
/// CPU time ends with the last clone and the last policy.
#[derive(Debug, Clone)]
pub struct Engine(pub(crate) Arc<EngineInner>);

#[derive(Debug)]
pub(crate) struct EngineInner {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) cache: Option<CompiledCache>,
    pub(crate) compiling: Compiling,
    pub(crate) lane: Lane,
    pub(crate) tick: Duration,
    /// Word that a call has cost an instance.
    pub(crate) costly: Notify,
    ticker: Ticker,
}

/// Slots of the pooling allocator. They cost address space, not memory.
const POOL_MEMORIES: u32 = 512;
const POOL_TABLES: u32 = 2_048;
const POOL_CORE_INSTANCES: u32 = 4_096;
const TABLE_ELEMENTS: usize = 100_000;
/// Memory that a slot keeps from one instance to the next, in bytes, wiped in place. To give pages
/// back and to take new ones locks the whole process again and again, and holds up the threads that
/// serve. Not by what the kernel says was written to (`pagemap_scan`): wasmtime 48 then passes over
/// pages that were swapped out, and the next instance would find what they held.
const KEPT_MEMORY: usize = 2 * 1024 * 1024;
/// The same of a table.
const KEPT_TABLE: usize = 64 * 1024;
/// Stack of a guest, in bytes; its own part is 512 KiB.
const ASYNC_STACK: usize = 1024 * 1024;

fn config(pooling: bool) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .async_stack_size(ASYNC_STACK);
    if pooling {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_memories(POOL_MEMORIES)
            .total_tables(POOL_TABLES)
            .total_stacks(POOL_MEMORIES)
            .total_component_instances(POOL_MEMORIES)
            .total_core_instances(POOL_CORE_INSTANCES)
            .max_memories_per_module(4)
            .max_tables_per_module(8)
            .max_core_instance_size(4 * 1024 * 1024)
            .max_component_instance_size(4 * 1024 * 1024)
            .table_elements(TABLE_ELEMENTS)
            .linear_memory_keep_resident(KEPT_MEMORY)
            .table_keep_resident(KEPT_TABLE);
        config.allocation_strategy(pool);
    }
    config
}

/// The same for all that compile and run policies on this machine.
pub(crate) fn wasmtime_engine() -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&config(true)).or_else(|error| {
        tracing::info!("no pool of instances, they are made on demand: {error:#}");
        wasmtime::Engine::new(&config(false))
    })
}

impl Engine {
    /// Makes an engine with pooled instances, or, where the address space is too small
    /// for them, with instances on demand (slower to make).
    ///
    /// # Errors
    /// When wasmtime does not support the machine, or no thread can be made.
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        let wasmtime = wasmtime_engine().map_err(|error| EngineError(format!("{error:#}")))?;
        let tick = options.tick.max(Duration::from_millis(1));
        let counted = wasmtime.clone();
        let ticker = Ticker::start(tick, move || counted.increment_epoch())
            .map_err(|error| EngineError(format!("no thread for its clock: {error}")))?;
        let lane = Lane::new()
            .map_err(|error| EngineError(format!("no thread for calls that take long: {error}")))?;
        let cache = options
            .cache_dir
            .map(|dir| CompiledCache::new(dir, &wasmtime));
        Ok(Self(Arc::new(EngineInner {
            wasmtime,
            cache,
            compiling: Compiling::new(options.compiler),
            lane,
            tick,
            costly: Notify::new(),
            ticker,
        })))
    }
}

impl Engine {
    /// Are instances pooled? Else the address space was too small, and each instance
    /// costs some system calls.
    pub fn pools_instances(&self) -> bool {
        self.0.wasmtime.get_pooling_config().is_some()
    }

    /// Says whether requests are served, for which compiling then leaves half of the cores.
    pub fn set_serving(&self, serving: bool) {
        self.0.compiling.set_serving(serving);
    }
}

impl Engine {
    /// Waits until a call of some policy has failed so that its instance was dropped, or has done so
    /// since this was last waited for. One at a time is told.
    pub async fn costly_failure(&self) {
        self.0.costly.notified().await;
    }
}

impl EngineInner {
    /// Has guests interrupted until this is dropped.
    pub(crate) fn clock(&self) -> Running<'_> {
        self.ticker.run()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticker_ends_with_the_last_clone() {
        let engine = Engine::new(EngineOptions::default()).unwrap();
        let weak = engine.0.wasmtime.weak();
        let clone = engine.clone();
        drop(engine);
        assert!(weak.upgrade().is_some());
        drop(clone);
        assert!(
            weak.upgrade().is_none(),
            "the ticker still holds the engine"
        );
    }
}
