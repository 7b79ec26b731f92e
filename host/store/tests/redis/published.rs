//! Documents that a fleet agrees on, and what they need.

use weir_store::published::{Document, Published};

use super::*;

fn document(revision: u64, text: &str) -> Document {
    Document {
        revision,
        text: text.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_higher_revision_stands_whoever_comes_last() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let [one, two] = [&one, &two].map(|redis| Published::new(redis, "policies"));
    assert_eq!(two.changed().await.unwrap(), None);
    let second = document(2, "two words");
    assert_eq!(one.publish("p", &second, &[], &[]).await.unwrap(), None);
    let changed = two.changed().await.unwrap();
    assert!(changed.is_some());
    for lower in [document(1, "one"), document(2, "another")] {
        let stands = two.publish("p", &lower, &[], &[]).await.unwrap();
        assert_eq!(stands, Some(second.clone()));
    }
    assert_eq!(two.changed().await.unwrap(), changed, "nothing has changed");
    // More than 2^31, as a time in milliseconds is.
    let third = document(1_795_000_000_001, "");
    assert_eq!(two.publish("p", &third, &[], &[]).await.unwrap(), None);
    assert_eq!(
        two.publish("p", &document(1_795_000_000_000, ""), &[], &[])
            .await
            .unwrap(),
        Some(third.clone())
    );
    assert_ne!(one.changed().await.unwrap(), changed);
    assert_eq!(one.publish("q", &second, &[], &[]).await.unwrap(), None);
    let all = one.documents().await.unwrap();
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        [("p".to_owned(), third), ("q".to_owned(), second)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contents_stand_while_a_document_needs_them() {
    let server = Server::start();
    let node = node(&server).await;
    let published = Published::new(&node, "policies");
    let content = Bytes::from_iter((0..1_000_000_u32).map(|n| (n % 251) as u8));
    let bytes = content.len();
    assert_eq!(published.get("p", "aa", bytes).await.unwrap(), None);
    published.put("p", "aa", &content).await.unwrap();
    let ttl = |hash: &str| {
        let key = format!("weir:{{policies}}:content:p:{hash}");
        let mut call = redis::cmd("PTTL");
        call.arg(key).query::<i64>(&mut server.connect()).unwrap()
    };
    assert!(ttl("aa") > 0, "it would stand for ever");
    let got = published.get("p", "aa", bytes).await.unwrap();
    assert_eq!(got, Some(content.clone()));
    assert!(published.has("p", "aa", bytes).await.unwrap());
    assert!(!published.has("p", "aa", bytes + 1).await.unwrap());
    // Cut short, it is none.
    assert_eq!(published.get("p", "aa", bytes + 1).await.unwrap(), None);

    let first = document(1, "");
    published.publish("p", &first, &["aa"], &[]).await.unwrap();
    assert_eq!(ttl("aa"), -1, "needed, it stands");
    published.put("p", "aa", &content).await.unwrap();
    assert_eq!(ttl("aa"), -1, "written again, it still does");
    published.put("p", "bb", &content).await.unwrap();
    // What does not come to stand lets nothing go.
    let no = document(1, "no");
    let stands = published.publish("p", &no, &["bb"], &["aa"]);
    assert_eq!(stands.await.unwrap(), Some(first));
    assert_eq!(ttl("aa"), -1);
    let second = document(2, "");
    published
        .publish("p", &second, &["bb"], &["aa"])
        .await
        .unwrap();
    assert_eq!(ttl("bb"), -1);
    assert!(ttl("aa") > 0, "let go, it still stands for a while");
}
