//! Objects, keys, tiers, fills and the invalidation log.
//!
//! In reading order:
//! - [`Key`] and [`KeyBuilder`]: what an object is found by.
//! - [`Object`]: a stored response, with its [`StoredHeaders`], [`Tags`] and
//!   [`Position`] in the log, and its body in other codings, [`Coded`].
//! - [`MemoryTier`]: decoded objects on this node; [`record`]: their bytes in Redis.
//! - [`Fills`]: one fetch per object at a time, streamed to everyone who asks;
//!   [`Marks`]: keys whose answers cannot be stored, so that nobody waits for them.
//! - [`log`]: what was invalidated, and whether an object is still valid.
//! - [`SecondTier`]: [`disk`], where objects outlive the process, or
//!   [`redis`], which nodes share, and what becomes of it when Redis is away; [`kv`] and
//!   [`rate_limit`]: small state that policies share through it; [`roster`]: what nodes
//!   tell of themselves there; [`published`]: what they agree on.
//!
//! Nothing here knows of policies, and nothing decides freshness: that is
//! `weir-semantics`. Every table is bounded; no lock is held across an await.

mod ages;
mod clock;
mod coded;
mod count;
pub mod disk;
pub mod fill;
mod headers;
mod idle;
mod inspected;
mod key;
pub mod kv;
pub mod log;
mod marks;
mod memory;
mod object;
mod partial;
mod position;
pub mod published;
pub mod rate_limit;
pub mod record;
pub mod redis;
pub mod roster;
mod second;
mod tags;
#[cfg(test)]
mod testing;
mod variants;

pub use ages::{AGE_CLASSES, AgeCounts, Ages};
pub use clock::Clock;
pub use coded::Coded;
pub use count::Count;
pub use fill::{Fill, FillError, Fills};
pub use headers::{Line, Lines, StoredHeaders};
pub use inspected::{Inspected, InspectedChunks, InspectedRecord};
pub use key::{Key, KeyBuilder, KeyError, MAX_KEY_BYTES, MAX_NAMESPACE_BYTES};
pub use marks::{LONGEST_MARK, Marks};
pub use memory::{MemoryStats, MemoryTier, NamespaceUsage};
pub use object::{Object, ObjectParts};
pub use partial::Partial;
pub use position::Position;
pub use second::SecondTier;
pub use tags::{MAX_TAG_BYTES, MAX_TAGS, Tags, TagsError, TagsIter};
