//! Long bodies in pieces, and compressed ones.

use super::*;

const BASE: &str = "weir:{http://a.example|user:profile:1}";

fn long(node: &Redis, bytes: usize) -> Object {
    let body: Vec<u8> = (0..bytes).map(|_| fastrand::u8(..)).collect();
    Object::new(ObjectParts {
        body: body.into(),
        ..parts("1", &["team"], node.log().position())
    })
}

fn chunks(server: &Server) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("*:c:*")
        .query(&mut server.connect())
        .unwrap();
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_comes_back_whole_and_its_pieces_end_after_their_record() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let object = long(&one, 3_000_000);
    put(&one, object.to_parts().into()).await;
    let found = get(&two, "1").await.expect("found");
    assert!(found.body == object.body, "byte for byte");
    let names = chunks(&server);
    assert_eq!(names.len(), 3_000_000_usize.div_ceil(256 * 1_024));
    let ttl = |name: &str| -> u64 {
        let mut call = redis::cmd("PTTL");
        call.arg(name).query(&mut server.connect()).unwrap()
    };
    assert!(names.iter().all(|name| ttl(name) > ttl(BASE)));
    one.log().invalidate(&[tag("team")], now()).await;
    assert!(get(&two, "1").await.is_none(), "purged like any other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_with_a_piece_missing_or_changed_is_not_found() {
    let server = Server::start();
    let redis = node(&server).await;
    for damage in ["UNLINK", "APPEND", "SETRANGE"] {
        put(&redis, long(&redis, 600_000)).await;
        assert!(get(&redis, "1").await.is_some());
        let mut record: Vec<u8> = redis::cmd("GET")
            .arg(BASE)
            .query(&mut server.connect())
            .unwrap();
        record.truncate(weir_store::record::PEEK_BYTES);
        let fill = weir_store::record::Chunks::peek(&record).unwrap().fill;
        let mut call = redis::cmd(damage);
        call.arg(format!("{BASE}:c:{fill:016x}:1"));
        match damage {
            "APPEND" => call.arg("x"),
            "SETRANGE" => call.arg(1_000).arg("other bytes than were written"),
            _ => &mut call,
        };
        call.query::<()>(&mut server.connect()).unwrap();
        assert!(get(&redis, "1").await.is_none(), "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_that_a_new_record_replaces_end_soon() {
    let server = Server::start();
    let redis = node(&server).await;
    put(&redis, long(&redis, 600_000)).await;
    let old = chunks(&server);
    put(&redis, long(&redis, 600_000)).await;
    assert!(get(&redis, "1").await.is_some());
    for name in old {
        let ttl: i64 = redis::cmd("PTTL")
            .arg(&name)
            .query(&mut server.connect())
            .unwrap();
        assert!(ttl <= 10_000, "{name} stands for {ttl} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_body_is_shorter_in_redis_and_the_same_on_the_way_out() {
    let server = Server::start();
    let config = RedisConfig {
        compress_above: Some(1_000),
        ..config(&server)
    };
    let redis = node_with(&config, Limits::default()).await;
    for length in [999, 1_000, 4_000_000] {
        let object = Object::new(ObjectParts {
            body: Bytes::from("all alike ".repeat(length / 10 + 1)).slice(..length),
            ..parts("1", &[], redis.log().position())
        });
        put(&redis, object.to_parts().into()).await;
        assert!(get(&redis, "1").await.expect("found").body == object.body);
        let stored: usize = redis::cmd("STRLEN")
            .arg(BASE)
            .query(&mut server.connect())
            .unwrap();
        assert_eq!(stored < length, length >= 1_000, "{stored} of {length}");
    }
}
