//! Whether an object in memory costs what its weight says. Alone in its process, since
//! it looks at the memory of the whole process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};
use weir_semantics::{Freshness, Timestamp, VaryKey};
use weir_store::{Clock, Key, MemoryTier, Object, ObjectParts, Position, StoredHeaders, Tags};

/// What the binary uses: its size classes are part of the cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OBJECTS: u64 = 100_000;
const BODY: usize = 1_024;

/// Resident memory in bytes; absent where there is no `/proc`.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[expect(
    clippy::unwrap_used,
    reason = "a test helper whose inputs are written here"
)]
fn object(n: u64, now: Timestamp) -> Object {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "100"),
        ("etag", "\"5e1f-5a0b0a1c\""),
        ("last-modified", "Tue, 03 Nov 2026 10:00:00 GMT"),
        ("cache-control", "public, max-age=300"),
        ("date", "Mon, 23 Nov 2026 04:00:00 GMT"),
        ("server", "origin"),
        ("x-unusual", "1"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Object::new(ObjectParts {
        key: Key::parse(&format!("http://example.org|/{n}")).unwrap(),
        url: format!("http://example.org/{n}").into(),
        status: StatusCode::OK,
        headers: StoredHeaders::from_map(&headers),
        body: Bytes::copy_from_slice(&[b'x'; BODY]),
        trailers: None,
        vary: VaryKey::default(),
        tags: Tags::new(["one", "two"]).unwrap(),
        freshness: Freshness {
            received: now,
            initial_age: Duration::ZERO,
            lifetime: Duration::from_secs(3600),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            keep: Duration::ZERO,
            must_revalidate: false,
            no_cache: false,
            immutable: false,
            heuristic: false,
        },
        fetch_took: Duration::ZERO,
        memory_until: None,
        shared: true,
        position: Position::default(),
        policy: None,
    })
}

#[test]
fn an_object_costs_what_it_weighs() {
    let Some(before) = resident() else {
        eprintln!("skipped: no /proc/self/status here");
        return;
    };
    let clock = Clock::system();
    let tier = MemoryTier::new(1 << 30, clock.clone());
    for n in 0..OBJECTS {
        assert!(tier.insert(Arc::new(object(n, clock.now()))));
    }
    tier.maintain();
    let used = resident().unwrap().saturating_sub(before);
    let stats = tier.stats();
    assert_eq!(stats.entries, OBJECTS);
    let (real, weighed) = (used / OBJECTS, stats.bytes / OBJECTS);
    println!("bytes for each object: {real} resident, {weighed} weighed");
    // An operator sizes a node by the weight: it must not be exceeded by much, nor
    // leave memory unused.
    assert!(
        real * 100 <= weighed * 110,
        "{real} resident, {weighed} weighed"
    );
    assert!(
        real * 100 >= weighed * 75,
        "{real} resident, {weighed} weighed"
    );
}
