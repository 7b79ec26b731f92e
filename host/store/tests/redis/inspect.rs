//! Looking at what stands in Redis.

use http::HeaderValue;
use http::header::ACCEPT_LANGUAGE;
use weir_store::log::Verdict;
use weir_store::record::RecordError;

use super::*;

fn language(value: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(value));
    headers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_object_is_shown_with_its_ttl_and_what_purged_it() {
    let server = Server::start();
    let redis = node(&server).await;
    let stored = object("1", &["t"], redis.log().position());
    let key = stored.key.clone();
    put(&redis, stored).await;
    let receipt = redis.log().invalidate(&[tag("t")], now()).await;
    assert!(get(&redis, "1").await.is_none(), "requests do not get it");
    let found = redis.inspect(key.as_str(), &[], &[]).await.unwrap();
    let [record] = &found.records[..] else {
        panic!("{found:?}");
    };
    assert_eq!(record.name, "weir:{http://a.example|user:profile:1}");
    let ttl = record.ttl.unwrap();
    assert!(ttl > Duration::from_secs(60) && ttl <= Duration::from_secs(90));
    let object = record.object.as_ref().unwrap();
    assert_eq!(redis.log().verdict(object), Verdict::Dead);
    let causes = redis.log().causes(object);
    assert_eq!((causes.len(), causes[0].named), (1, "tag"));
    assert_eq!(Some(causes[0].sequence), receipt.sequence);
    assert!(!causes[0].of_node && !causes[0].soft);
    let nothing = redis.inspect("http://a|user:2", &[], &[]).await.unwrap();
    assert!(nothing.records.is_empty() && nothing.selected_by.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variants_are_found_by_a_request_or_by_what_is_known_of_them() {
    let server = Server::start();
    let redis = node(&server).await;
    let in_language = |value: &'static str| {
        Object::new(ObjectParts {
            vary: VaryKey::from_parts([(ACCEPT_LANGUAGE, Some(Box::from(value.as_bytes())))]),
            ..parts("1", &[], redis.log().position())
        })
    };
    let german = in_language("de");
    let (key, vary) = (german.key.clone(), german.vary().clone());
    put(&redis, german).await;
    put(&redis, in_language("fr")).await;
    let look = async |requests: &[HeaderMap], known: &[VaryKey]| {
        let found = redis.inspect(key.as_str(), requests, known).await.unwrap();
        assert_eq!(found.selected_by, ["accept-language"]);
        found.records.len()
    };
    assert_eq!(look(&[], &[]).await, 0);
    assert_eq!(look(&[language("fr")], &[]).await, 1);
    assert_eq!(look(&[language("fr")], &[vary]).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_chunks_is_told_and_so_is_a_chunk_that_is_gone() {
    let server = Server::start();
    let redis = node(&server).await;
    let body: Vec<u8> = (0..600_000).map(|_| fastrand::u8(..)).collect();
    let stored = Object::new(ObjectParts {
        body: body.into(),
        ..parts("1", &[], redis.log().position())
    });
    let key = stored.key.clone();
    put(&redis, stored).await;
    let chunks = async || {
        let found = redis.inspect(key.as_str(), &[], &[]).await.unwrap();
        let chunks = found.records[0].chunks.expect("too long for the record");
        assert_eq!(chunks.told.body_length(), 600_000);
        (chunks.told, chunks.there)
    };
    let (told, there) = chunks().await;
    assert_eq!((told.count(), there), (3, 3));
    let chunk = format!(
        "weir:{{http://a.example|user:profile:1}}:c:{:016x}:1",
        told.fill
    );
    let gone: usize = redis::cmd("UNLINK")
        .arg(chunk)
        .query(&mut server.connect())
        .unwrap();
    assert_eq!((gone, chunks().await.1), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_record_is_told_and_left_where_it_is() {
    let mut server = Server::start();
    let redis = node(&server).await;
    let stored = object("1", &[], redis.log().position());
    let key = stored.key.clone();
    put(&redis, stored).await;
    let mut link = server.connect();
    let name = "weir:{http://a.example|user:profile:1}";
    let length: usize = redis::cmd("STRLEN").arg(name).query(&mut link).unwrap();
    let _: usize = redis::cmd("SETRANGE")
        .arg(name)
        .arg(length - 1)
        .arg("!")
        .query(&mut link)
        .unwrap();
    let found = redis.inspect(key.as_str(), &[], &[]).await.unwrap();
    let error = found.records[0].object.as_ref().unwrap_err();
    assert_eq!(*error, RecordError::Checksum);
    let left: u32 = redis::cmd("EXISTS").arg(name).query(&mut link).unwrap();
    assert_eq!(left, 1);
    server.kill();
    assert!(redis.inspect(key.as_str(), &[], &[]).await.is_err());
}
