use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::testing::{NOW, fresh_for, headers, parts, vary};

const KEY: &str = "http://api.example.org|user:profile:42";

/// What was encoded when version 1 was released. It is never written again.
static VERSION_1: &[u8] = include_bytes!("../../tests/fixtures/record-v1.bin");

/// The same of version 2.
static VERSION_2: &[u8] = include_bytes!("../../tests/fixtures/record-v2.bin");

fn full() -> Object {
    Object::new(full_parts())
}

fn full_parts() -> ObjectParts {
    ObjectParts {
        url: "http://api.example.org/users/42?full=1".into(),
        status: StatusCode::NOT_FOUND,
        headers: StoredHeaders::from_map(&headers(&[
            ("content-type", "application/json"),
            ("x-one", "1"),
            ("x-two", "\u{e9}"),
            ("link", "</a>"),
            ("link", "</b>"),
        ])),
        trailers: Some(StoredHeaders::from_map(&headers(&[("x-checksum", "abc")]))),
        vary: vary("accept-language, x-a", &[("accept-language", "de")]),
        tags: Tags::new(["user-42", "team/7", "\u{fc}"]).unwrap(),
        freshness: Freshness {
            initial_age: Duration::from_secs(2),
            stale_while_revalidate: Duration::from_secs(3),
            stale_if_error: Duration::from_secs(4),
            keep: Duration::from_secs(5),
            must_revalidate: true,
            immutable: true,
            ..fresh_for(Duration::from_secs(300))
        },
        fetch_took: Duration::from_millis(21),
        memory_until: Some(NOW + Duration::from_secs(10)),
        position: Position {
            epoch: 0x0123_4567_89ab_cdef,
            fleet: 77,
            node: 5,
            at: NOW,
        },
        policy: Some("charity@0123456789ab".into()),
        ..parts(KEY, "{\"name\":\"Ada\"}")
    }
}

fn assert_same(read: &Object, written: &Object) {
    assert_eq!(read.key, written.key);
    assert_eq!(read.url(), written.url());
    assert_eq!(read.status, written.status);
    assert_eq!(read.headers, written.headers);
    assert_eq!(read.body, written.body);
    assert_eq!(read.trailers(), written.trailers());
    assert_eq!(read.vary(), written.vary());
    assert_eq!(read.tags, written.tags);
    assert_eq!(read.freshness(), written.freshness());
    assert_eq!(read.memory_until(), written.memory_until());
    assert_eq!(
        read.position(),
        Position {
            node: 0,
            at: Timestamp::default(),
            ..written.position()
        }
    );
    assert_eq!(read.policy(), written.policy());
    assert!(read.shared);
}

#[test]
fn version_1_is_read_for_ever() {
    let record = Bytes::from_static(VERSION_1);
    let written = Object::new(ObjectParts {
        fetch_took: Duration::ZERO,
        ..full_parts()
    });
    assert_same(&decode(&record, KEY).unwrap(), &written);
    assert_eq!(key_of(&record).unwrap().as_str(), KEY);
}

#[test]
fn version_2_is_read_for_ever_and_is_what_is_written() {
    let record = Bytes::from_static(VERSION_2);
    assert_same(&decode(&record, KEY).unwrap(), &full());
    assert_eq!(key_of(&record).unwrap().as_str(), KEY);
    assert_eq!(
        encode(&full()),
        VERSION_2,
        "a change of the format is a new version"
    );
}

#[test]
fn a_compressed_body_reads_back_and_one_that_would_not_shrink_stays_as_it_is() {
    for body in [vec![b'a'; 50_000], b"{\"n\": 1}".repeat(9_000)] {
        let object = Object::new(ObjectParts {
            body: body.into(),
            ..full_parts()
        });
        let packed = Packed::compressed(&object.body);
        let record = encode_packed(&object, &packed);
        assert!(record.len() < object.body.len() / 10);
        assert_same(&decode(&record, KEY).unwrap(), &object);
    }
    let noise: Vec<u8> = (0..5_000).map(|_| fastrand::u8(..)).collect();
    let noise = Bytes::from(noise);
    assert_eq!(Packed::compressed(&noise).bytes(), &noise);
}

#[test]
fn a_compressed_body_is_not_believed_about_its_length() {
    // One that shrinks to next to nothing, and one as pages are.
    let half: Vec<u8> = (0..50_000)
        .map(|at| fastrand::u8(..) & (at as u8))
        .collect();
    for body in [vec![b'a'; 50_000], half] {
        let object = Object::new(ObjectParts {
            body: body.into(),
            ..full_parts()
        });
        let packed = Packed::compressed(&object.body);
        assert!(packed.bytes().len() < 45_000);
        let record = encode_packed(&object, &packed).to_vec();
        assert_same(&decode(&seal(record.clone()), KEY).unwrap(), &object);
        for lie in [0_u64, 49_999, 50_001, u64::MAX] {
            let mut forged = record.clone();
            forged[HEADER_BYTES + 1..HEADER_BYTES + 9].copy_from_slice(&lie.to_le_bytes());
            assert_eq!(
                decode(&seal(forged), KEY).err(),
                Some(RecordError::Field("compressed body")),
                "{lie}"
            );
        }
    }
}

#[test]
fn a_body_in_chunks_is_put_together_from_all_of_them_in_order_and_from_nothing_else() {
    let body: Vec<u8> = (0..3 * CHUNK_BYTES + 7).map(|_| fastrand::u8(..)).collect();
    let object = Object::new(ObjectParts {
        body: body.into(),
        ..full_parts()
    });
    let packed = Packed::plain(&object.body);
    assert!(packed.wants_chunks());
    let record = encode_beside_chunks(&object, &packed, 77);
    let Decoded::InChunks(read, chunks) = read(&record, KEY).unwrap() else {
        panic!("the body is not in the record");
    };
    assert!(read.body.is_empty());
    assert_eq!((chunks.fill, chunks.count()), (77, 4));
    assert_eq!(Chunks::peek(&record[..PEEK_BYTES]), Some(chunks));
    assert!(decode(&record, KEY).is_err());
    let mut parts: Vec<Bytes> = packed.chunks().collect();
    assert_eq!(chunks.assemble(&parts).unwrap(), object.body);
    assert_eq!(chunks.assemble(&parts[1..]), Err(RecordError::Length));
    parts.swap(0, 1);
    assert_eq!(chunks.assemble(&parts), Err(RecordError::Checksum));
    assert_eq!(Chunks::peek(&encode(&full())[..PEEK_BYTES]), None);
    // As garbage in Redis would read: nobody begins to list that many names.
    let mut forged = record.to_vec();
    forged[HEADER_BYTES + 9..HEADER_BYTES + 17].fill(0xff);
    assert_eq!(Chunks::peek(&forged[..PEEK_BYTES]), None);
    assert!(super::read(&seal(forged), KEY).is_err());
}

#[test]
fn says_what_is_wrong() {
    let read = |bytes: &[u8], key| decode(&Bytes::copy_from_slice(bytes), key).err();
    assert_eq!(read(b"", KEY), Some(RecordError::Magic));
    assert_eq!(read(b"{\"json\": true}", KEY), Some(RecordError::Magic));
    assert_eq!(
        read(VERSION_2, "http://other.example.org|user:profile:42"),
        Some(RecordError::Key)
    );
    assert_eq!(
        read(&VERSION_2[..VERSION_2.len() - 1], KEY),
        Some(RecordError::Length)
    );
    let mut other = VERSION_2.to_vec();
    other[4] = 3;
    assert_eq!(read(&other, KEY), Some(RecordError::Version(3)));
    let mut other = VERSION_2.to_vec();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(read(&other, KEY), Some(RecordError::Checksum));
}

#[test]
fn a_header_that_would_split_the_response_is_refused() {
    // As someone who can write to Redis would forge it, checksum included.
    let mut forged = VERSION_2.to_vec();
    let at = forged
        .windows(4)
        .position(|bytes| bytes == b"json")
        .unwrap();
    forged[at..at + 4].copy_from_slice(b"\r\na:");
    assert_eq!(
        decode(&seal(forged), KEY).err(),
        Some(RecordError::Field("header value"))
    );
}

#[test]
fn a_large_body_is_not_copied() {
    let large = Object::new(ObjectParts {
        body: Bytes::from(vec![7; 100_000]),
        ..full_parts()
    });
    let record = encode(&large);
    let body = decode(&record, KEY).unwrap().body;
    assert!(record.as_ptr_range().contains(&body.as_ptr()));
    let small = decode(&Bytes::from_static(VERSION_2), KEY).unwrap().body;
    assert!(!VERSION_2.as_ptr_range().contains(&small.as_ptr()));
}

fn objects() -> impl Strategy<Value = Object> {
    let lines = prop::collection::vec(("[a-z][a-z0-9-]{0,9}", "[!-~]{0,20}"), 0..6);
    let tags = prop::collection::vec("[a-z\u{e9}]{1,10}", 0..5);
    let times = (
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        any::<Option<u64>>(),
    );
    let flags = any::<[bool; 4]>();
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (200..400_usize).prop_map(|length| vec![9; length]),
    ];
    (
        lines,
        tags,
        times,
        flags,
        body,
        any::<(u64, u64)>(),
        any::<bool>(),
    )
        .prop_map(|(lines, tags, times, flags, body, position, rich)| {
            let lines: Vec<_> = lines
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            let map = StoredHeaders::from_map(&headers(&lines));
            let base = if rich { full_parts() } else { parts(KEY, "") };
            Object::new(ObjectParts {
                trailers: rich.then(|| map.clone()),
                headers: map,
                tags: Tags::new(tags.iter().map(String::as_str)).unwrap(),
                freshness: Freshness {
                    received: Timestamp::from_millis(times.0),
                    initial_age: Duration::from_millis(times.1),
                    lifetime: Duration::from_millis(times.2),
                    must_revalidate: flags[0],
                    no_cache: flags[1],
                    immutable: flags[2],
                    heuristic: flags[3],
                    ..base.freshness
                },
                fetch_took: Duration::from_millis(times.1),
                memory_until: times.3.map(Timestamp::from_millis),
                body: body.into(),
                position: Position {
                    epoch: position.0,
                    fleet: position.1,
                    ..Position::default()
                },
                ..base
            })
        })
}

proptest! {
    #[test]
    fn reads_back_what_was_written(object in objects()) {
        let record = encode(&object);
        assert_same(&decode(&record, KEY).unwrap(), &object);
        prop_assert_eq!(key_of(&record).unwrap(), object.key);
    }

    #[test]
    fn refuses_a_record_that_was_cut_or_damaged(
        object in objects(),
        cut: prop::sample::Index,
        flip: prop::sample::Index,
        bit in 0..8_u32,
    ) {
        let record = encode(&object);
        prop_assert!(decode(&record.slice(..cut.index(record.len())), KEY).is_err());
        let mut damaged = record.to_vec();
        damaged[flip.index(record.len())] ^= 1 << bit;
        prop_assert!(decode(&damaged.into(), KEY).is_err());
        let mut longer = record.to_vec();
        longer.push(0);
        prop_assert!(decode(&longer.into(), KEY).is_err());
    }

    #[test]
    fn never_panics_on_anything(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes.clone().into(), KEY).is_err());
        // Behind a header that fits, too.
        let mut forged = vec![0; HEADER_BYTES];
        forged.extend_from_slice(&bytes);
        prop_assert!(decode(&seal(forged), KEY).is_err());
    }

    #[test]
    fn never_panics_on_a_forged_record(
        object in objects(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: prop::sample::Index,
    ) {
        let mut forged = encode(&object).to_vec();
        for (at, byte) in changes {
            let length = forged.len() - HEADER_BYTES;
            forged[HEADER_BYTES + at.index(length)] = byte;
        }
        let _ = decode(&seal(forged.clone()), KEY);
        forged.truncate(HEADER_BYTES + cut.index(forged.len() - HEADER_BYTES));
        prop_assert!(decode(&seal(forged), KEY).is_err());
    }
}
