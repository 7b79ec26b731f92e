//! The harness of the whole-system tests: real processes, real sockets.
//!
//! A test builds what it needs ([`Origin`], [`RedisServer`], [`Weir`]), talks to it
//! ([`Answer`], [`Admin`], [`raw`]), and polls for what it expects ([`poll::until`]).
//! Nothing here sleeps to let something happen. Whatever a test starts ends with it,
//! by its own process id.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a harness fails the test that uses it, there and then, with the reason"
)]

pub mod access_log;
pub mod admin;
pub mod answer;
pub mod artifact;
pub mod cases;
pub mod chaos;
pub mod charity;
pub mod component;
pub mod guests;
pub mod h2_client;
pub mod load;
pub mod names;
pub mod origin;
pub mod poll;
pub mod port;
pub mod process;
pub mod raw;
pub mod raw_origin;
pub mod redis_cluster;
pub mod redis_sentinel;
pub mod redis_server;
pub mod relay;
pub mod scratch;
pub mod smuggling;
pub mod tls;
pub mod transcript;
pub mod versions;
pub mod weir;

pub use admin::Admin;
pub use answer::{Answer, CacheStatus};
pub use guests::{Guests, guests};
pub use origin::{Call, Gate, Origin, Reply};
pub use poll::until;
pub use redis_cluster::RedisCluster;
pub use redis_sentinel::RedisSentinel;
pub use redis_server::RedisServer;
pub use relay::Relay;
pub use scratch::Scratch;
pub use weir::{Config, Run, Weir, weir_command};
