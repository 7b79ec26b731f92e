//! Runs the invalidation log of several nodes through random schedules of failures, and
//! holds what the nodes serve against the promise of `docs/invalidation.md`.
//!
//! The logs are the real ones: [`weir_store::log::Log`] waits for nothing but the traits
//! [`Fleet`](weir_store::log::Fleet) and [`Journal`](weir_store::log::Journal), so that an
//! executor of a page ([`schedule`]) owns every order in which things can happen. Around
//! them: a Redis ([`server`]), links, disks and clocks that fail ([`world`]), and what a
//! node does with its log ([`node`]). [`oracle`] knows when each purge was answered, and
//! says what each node may still serve.
//!
//! A schedule is a number: the same one gives the same steps.

pub mod calls;
pub mod coverage;
pub mod disk;
pub mod executor;
pub mod fault;
pub mod fill;
pub mod ledger;
mod mood;
pub mod node;
pub mod oracle;
pub mod report;
pub mod schedule;
pub mod server;
mod settle;
pub mod tier;
mod trouble;
pub mod universe;
pub mod world;
