//! The invalidation log over two nodes.

use weir_store::log::Scope;
use weir_store::log::Verdict;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_reaches_the_other_node() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let fetched = object("1", &["team"], two.log().position());
    let other = object("2", &["others"], two.log().position());
    let receipt = one.log().invalidate(&[tag("team")], now()).await;
    assert_eq!((receipt.sequence, receipt.scope), (Some(1), Scope::Fleet));
    until("the other node obeys", async || {
        two.log().verdict(&fetched) == Verdict::Dead
    })
    .await;
    assert_eq!(two.log().verdict(&other), Verdict::Valid);
    // A fetch that began before the purge, and ends after it, is as dead.
    let late = object("1", &["team"], fetched.position());
    assert_eq!(two.log().verdict(&late), Verdict::Dead);
    let fresh = object("1", &["team"], two.log().position());
    assert_eq!(two.log().verdict(&fresh), Verdict::Valid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soft_prefix_and_host_mean_the_same_on_every_node_and_on_one_that_comes_later() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let position = two.log().position();
    let selectors = [
        tag("team").soft(),
        Selector::new(Target::Prefix("user:profile:2".into())),
        Selector::new(Target::Prefix("user:profile:3".into())).on_host("a.example"),
    ];
    let at = now();
    one.log().invalidate(&selectors, at).await;
    // It has no entries to follow: it reads counters.
    let late = node(&server).await;
    for node in [&two, &late] {
        // Of its own: an object remembers under which version of one log it was valid.
        let soft = object("1", &["team"], position);
        let prefixed = object("21", &[], position);
        let elsewhere = Object::new(ObjectParts {
            key: key("b.example", "31"),
            ..parts("31", &[], position)
        });
        let here = object("31", &[], position);
        until("the purge arrives", async || {
            node.log().verdict(&prefixed) == Verdict::Dead
        })
        .await;
        assert_eq!(node.log().verdict(&soft), Verdict::Soft(at));
        assert_eq!(node.log().verdict(&here), Verdict::Dead);
        assert_eq!(node.log().verdict(&elsewhere), Verdict::Valid);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_behind_catches_up_before_it_trusts_what_it_read() {
    let server = Server::start();
    let one = node(&server).await;
    // Its follower blocks for a second, but a read must not wait for it.
    let window = Duration::from_secs(3_600);
    let limits = Limits {
        coherence_window: window,
        ..Limits::default()
    };
    let two = node_with(&config(&server), limits).await;
    for round in 0..50 {
        put(&one, object("1", &["team"], one.log().position())).await;
        assert!(get(&two, "1").await.is_some(), "round {round}");
        one.log().invalidate(&[tag("team")], now()).await;
        assert!(get(&two, "1").await.is_none(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_object_survives_the_purge_that_made_it_necessary() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    for _ in 0..50 {
        // The other node's purge leaves a gap before this node's own.
        two.log().invalidate(&[tag("x")], now()).await;
        one.log().invalidate(&[tag("team")], now()).await;
        let fetched = object("1", &["team"], one.log().position());
        assert_eq!(one.log().verdict(&fetched), Verdict::Valid);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushing_redis_begins_an_epoch_in_which_older_objects_are_dead() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let fetched = object("1", &[], two.log().position());
    let epoch = two.log().position().epoch;
    redis::cmd("FLUSHALL").exec(&mut server.connect()).unwrap();
    for node in [&one, &two] {
        until("a new epoch", async || node.log().position().epoch != epoch).await;
    }
    until("one epoch", async || {
        one.log().position().epoch == two.log().position().epoch
    })
    .await;
    assert_eq!(two.log().verdict(&fetched), Verdict::Dead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_its_last_entry_begins_a_new_epoch() {
    let server = Server::start();
    let one = node(&server).await;
    one.log().invalidate(&[tag("a")], now()).await;
    one.log().invalidate(&[tag("b")], now()).await;
    let before = one.log().position();
    let mut link = server.connect();
    // As after a failover to a replica that lacks the last purge, and then took another.
    let last = one.log().standing().entry.unwrap().id;
    redis::cmd("XDEL")
        .arg("weir:{log}:stream")
        .arg(&last)
        .exec(&mut link)
        .unwrap();
    redis::cmd("XADD")
        .arg(&[
            "weir:{log}:stream",
            "*",
            "e",
            &before.epoch.to_string(),
            "s",
            "2",
            "i",
            "x",
        ])
        .arg(&["n", "1", "t", "0", "p", "[]"])
        .exec(&mut link)
        .unwrap();
    one.log().synchronise(now()).await.unwrap();
    assert_ne!(one.log().position().epoch, before.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_are_capped_and_what_is_forgotten_leaves_floors() {
    let server = Server::start();
    let limits = Limits {
        counters: 1_024,
        prefixes: 4,
        ..Limits::default()
    };
    let one = node_with(&config(&server), limits).await;
    let tagged = object("1", &["first"], one.log().position());
    one.log().invalidate(&[tag("first")], now()).await;
    one.log()
        .invalidate(
            &[Selector::new(Target::Prefix("user:profile:7".into()))],
            now(),
        )
        .await;
    let prefixed = object("7", &[], tagged.position());
    for at in 0..5 {
        let many: Vec<_> = (0..1_000).map(|it| tag(&format!("{at}-{it}"))).collect();
        one.log().invalidate(&many, now()).await;
        one.log()
            .invalidate(&[Selector::new(Target::Prefix(format!("x:{at}")))], now())
            .await;
    }
    let mut link = server.connect();
    let cards = ["counters", "prefixes"].map(|set| {
        redis::cmd("ZCARD")
            .arg(format!("weir:{{log}}:{set}"))
            .query::<u64>(&mut link)
            .unwrap()
    });
    assert_eq!(cards, [1_024, 4]);
    // Large enough to forget nothing by itself.
    let late = node(&server).await;
    assert_eq!(late.log().verdict(&tagged), Verdict::Dead);
    assert_eq!(late.log().verdict(&prefixed), Verdict::Dead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_counters_are_read_in_pages() {
    let server = Server::start();
    let one = node(&server).await;
    let position = one.log().position();
    let tags: Vec<_> = (0..10_000).map(|it| tag(&it.to_string()).soft()).collect();
    let at = now();
    let receipt = one.log().invalidate(&tags, at).await;
    assert_eq!(receipt.sequence, Some(10));
    let late = node(&server).await;
    assert_eq!(late.log().position().fleet, 10);
    for it in (0..10_000).step_by(97) {
        let tagged = object("1", &[&it.to_string()], position);
        assert_eq!(late.log().verdict(&tagged), Verdict::Soft(at), "{it}");
    }
}
