//! The few objects and selectors that a schedule is made of, and what names what: written
//! down here once more, so that a mistake of the log's own names is found.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use weir_semantics::{Freshness, Timestamp, VaryKey};
use weir_store::log::{Purge, Selector, Target};
use weir_store::{Key, Object, ObjectParts, Position, StoredHeaders, Tags};

use crate::server::bucket;
use crate::world::World;

/// How many objects there are.
pub const OBJECTS: usize = 4;

/// One object of the universe.
#[derive(Debug)]
pub struct Subject {
    /// Its key.
    pub key: Key,
    /// Its target URI.
    pub url: &'static str,
    /// Tags known from the request.
    pub early: Tags,
    /// All tags: more come with the head.
    pub tags: Tags,
}

/// All that is the same in every schedule.
#[derive(Debug)]
pub struct Universe {
    /// The objects.
    pub subjects: Vec<Subject>,
    /// Hard selectors, and which objects each names.
    pub selectors: Vec<(Selector, [bool; OBJECTS])>,
    /// The header fields of every response.
    pub headers: StoredHeaders,
    /// The status of every response.
    pub status: StatusCode,
}

/// The one there is.
pub fn universe() -> &'static Universe {
    static UNIVERSE: OnceLock<Universe> = OnceLock::new();
    UNIVERSE.get_or_init(make)
}

#[expect(clippy::expect_used, reason = "the names below are good ones")]
fn make() -> Universe {
    let subject = |key: &str, url, early: &[&str], tags: &[&str]| Subject {
        key: Key::parse(key).expect("a key"),
        url,
        early: Tags::new(early.iter().copied()).expect("tags"),
        tags: Tags::new(tags.iter().copied()).expect("tags"),
    };
    let subjects = vec![
        subject(
            "http://a|user:profile:1",
            "http://a/users/1",
            &["team"],
            &["team", "u1"],
        ),
        subject(
            "http://a|user:profile:2",
            "http://a/users/2",
            &[],
            &["team", "u2"],
        ),
        subject("http://b|help:faq", "http://b/help", &["help"], &["help"]),
        subject(
            "user:shared:3",
            "http://b/shared",
            &["team"],
            &["team", "s"],
        ),
    ];
    let any = |target| Selector::new(target);
    let tag = |tag: &str| any(Target::Tag(tag.into()));
    let prefix = |prefix: &str| any(Target::Prefix(prefix.into()));
    let namespace = |name: &str| any(Target::Namespace(name.into()));
    let mut selectors = vec![
        (tag("team"), [true, true, false, true]),
        (tag("u1"), [true, false, false, false]),
        (tag("help"), [false, false, true, false]),
        (tag("team").on_host("a"), [true, true, false, true]),
        (tag("team").on_host("b"), [false, false, false, true]),
        (
            any(Target::Key("user:profile:1".into())),
            [true, false, false, false],
        ),
        (
            any(Target::Key("user:profile:2".into())).on_host("A"),
            [false, true, false, false],
        ),
        (any(Target::Key("user:profile:".into())), [false; 4]),
        (
            any(Target::Url("http://a/users/1".into())),
            [true, false, false, false],
        ),
        (
            any(Target::Url("http://b/shared".into())).on_host("a"),
            [false, false, false, true],
        ),
        (namespace("user"), [true, true, false, true]),
        (namespace("help").on_host("b"), [false, false, true, false]),
        (prefix("user:pro"), [true, true, false, false]),
        (prefix("user:profile:2"), [false, true, false, false]),
        (prefix("help"), [false, false, true, false]),
        (prefix("user:").on_host("a"), [true, true, false, true]),
        (tag("user:pro"), [false; 4]),
        (any(Target::All), [true; 4]),
        (any(Target::All).on_host("b"), [false, false, true, true]),
    ];
    // Neighbours in the buckets, which drive the others out.
    let bucket_of = |selector: &Selector| {
        let purge = Purge::new(vec![selector.clone()], Timestamp::default());
        purge.members().first().map_or(0, |member| bucket(member))
    };
    let wanted = [bucket_of(&tag("team")), bucket_of(&tag("u1"))];
    let neighbours = (0..)
        .map(|n| tag(&format!("n{n}")))
        .filter(|selector| wanted.contains(&bucket_of(selector)))
        .take(8);
    selectors.extend(neighbours.map(|selector| (selector, [false; 4])));
    Universe {
        subjects,
        selectors,
        headers: StoredHeaders::from_map(&HeaderMap::new()),
        status: StatusCode::OK,
    }
}

/// What the body of an object says which response it is.
pub(crate) fn content_of(object: &Object) -> u64 {
    object
        .body
        .first_chunk()
        .map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

/// An object of the universe.
pub fn object(key: usize, content: u64, received: Timestamp, position: Position) -> Object {
    let universe = universe();
    let subject = &universe.subjects[key];
    Object::new(ObjectParts {
        key: subject.key.clone(),
        url: subject.url.into(),
        status: universe.status,
        headers: universe.headers.clone(),
        body: Bytes::copy_from_slice(&content.to_le_bytes()),
        trailers: None,
        vary: VaryKey::default(),
        tags: subject.tags.clone(),
        freshness: Freshness {
            received,
            initial_age: Duration::ZERO,
            lifetime: Duration::from_secs(20),
            stale_while_revalidate: Duration::from_secs(20),
            stale_if_error: Duration::ZERO,
            keep: Duration::from_secs(10),
            must_revalidate: false,
            no_cache: false,
            immutable: false,
            heuristic: false,
        },
        memory_until: None,
        shared: true,
        position,
        policy: None,
        fetch_took: Duration::ZERO,
    })
}

/// How an old object, as Redis would have it, fares with a node.
pub fn old_object(key: usize, position: Position, world: &World, at: usize) -> Object {
    let stored = Position {
        node: 0,
        at: Timestamp::default(),
        ..position
    };
    object(key, 0, world.clock(at), stored)
}
