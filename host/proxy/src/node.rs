//! A node: the tiers, the log and the fills, which outlive generations, and the
//! generation in force.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use weir_store::fill::Limits;
use weir_store::log::Log;
use weir_store::redis::{Redis, RedisState};
use weir_store::{Clock, Fills, Marks, MemoryTier, SecondTier};

use crate::compress::Compressor;
use crate::generation::{Generation, GenerationError, PolicySlot};
use crate::metrics::Metrics;
use crate::pipeline::unkeyed::Unkeyed;
use crate::settings::{CacheSettings, RouteSettings};
use crate::tunnels::Tunnels;
use crate::upstream::Upstream;

/// What the table of uncacheable keys may take, in bytes.
const MARKS_BYTES: u64 = 16 << 20;

/// What the table of keys that are being refreshed may take, in bytes.
const REFRESHING_BYTES: u64 = 1 << 20;

/// The parts of a node that outlive generations.
#[derive(Debug)]
pub struct Parts {
    /// Time.
    pub clock: Clock,
    /// The first tier.
    pub memory: MemoryTier,
    /// The second tier, when there is one.
    pub second: Option<SecondTier>,
    /// What was purged.
    pub log: Log,
    /// Bounds of the cache.
    pub cache: CacheSettings,
}

/// One node of the data plane.
#[derive(Debug)]
pub struct Node {
    pub(crate) clock: Clock,
    pub(crate) memory: MemoryTier,
    pub(crate) second: Option<SecondTier>,
    pub(crate) log: Log,
    pub(crate) fills: Fills,
    pub(crate) marks: Marks,
    /// Keys for which a fetch in the background has begun, and brought nothing yet.
    pub(crate) refreshing: Marks,
    pub(crate) cache: CacheSettings,
    pub(crate) compressor: Compressor,
    pub(crate) unkeyed: Unkeyed,
    generation: ArcSwap<Generation>,
    metrics: Metrics,
    tunnels: Arc<Tunnels>,
    /// Held while a generation is made, so that two changes cannot undo one another.
    building: Mutex<u64>,
}

impl Node {
    /// A node without routes: every request is answered 404 until [`Node::install`].
    ///
    /// # Errors
    /// None in practice: an empty generation has nothing that could clash.
    pub fn new(parts: Parts) -> Result<Arc<Self>, GenerationError> {
        let metrics = Metrics::default();
        let empty = Generation::build(
            0,
            &[],
            &HashMap::new(),
            &HashMap::new(),
            &parts.cache,
            &metrics,
        )?;
        Ok(Arc::new(Self {
            fills: Fills::new(Limits {
                max_object: parts.cache.max_object,
                ..Limits::default()
            }),
            marks: Marks::new(MARKS_BYTES),
            refreshing: Marks::new(REFRESHING_BYTES),
            clock: parts.clock,
            memory: parts.memory,
            second: parts.second,
            log: parts.log,
            cache: parts.cache,
            compressor: Compressor::new(&metrics),
            unkeyed: Unkeyed::default(),
            generation: ArcSwap::from_pointee(empty),
            tunnels: Tunnels::new(&metrics),
            metrics,
            building: Mutex::new(0),
        }))
    }

    /// Puts new routes and policies in force, all at once. Requests under way finish with
    /// what they began with.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn install(
        &self,
        routes: &[RouteSettings],
        upstreams: &HashMap<String, Arc<Upstream>>,
        policies: &HashMap<String, PolicySlot>,
    ) -> Result<u64, GenerationError> {
        let mut number = self.building.lock();
        let next = Generation::build(
            *number + 1,
            routes,
            upstreams,
            policies,
            &self.cache,
            &self.metrics,
        )?;
        *number += 1;
        self.generation.store(Arc::new(next));
        Ok(*number)
    }

    /// The generation in force.
    #[must_use]
    pub fn generation(&self) -> Arc<Generation> {
        self.generation.load_full()
    }

    /// The generation in force, borrowed for a moment.
    pub(crate) fn generation_now(&self) -> arc_swap::Guard<Arc<Generation>> {
        self.generation.load()
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The upgraded connections.
    #[must_use]
    pub fn tunnels(&self) -> &Arc<Tunnels> {
        &self.tunnels
    }

    /// The invalidation log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The memory tier.
    #[must_use]
    pub fn memory(&self) -> &MemoryTier {
        &self.memory
    }

    /// The tier behind memory, when there is one.
    #[must_use]
    pub fn second(&self) -> Option<&SecondTier> {
        self.second.as_ref()
    }

    /// The Redis tier, when that is the second.
    #[must_use]
    pub fn redis(&self) -> Option<&Arc<Redis>> {
        self.second.as_ref()?.redis()
    }

    /// Whether there is a Redis and it does not answer.
    pub(crate) fn redis_is_out(&self) -> bool {
        self.redis()
            .is_some_and(|redis| matches!(redis.state(), RedisState::Down { .. }))
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}
