use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use weir_semantics::VaryKey;

use super::*;
use crate::headers::StoredHeaders;
use crate::object::Object;
use crate::testing::{NOW, fresh_for, headers, object, vary};

pub(super) fn key() -> Key {
    Key::parse("http://a|/x").unwrap()
}

pub(super) fn begin() -> Begin {
    Begin {
        url: "http://a/x".into(),
        tags: Tags::none(),
        position: Position::default(),
    }
}

pub(super) fn head() -> Head {
    Head {
        status: StatusCode::OK,
        headers: StoredHeaders::default(),
        length: None,
        vary: VaryKey::default(),
        tags: Tags::none(),
        freshness: fresh_for(Duration::from_secs(60)),
        fetch_took: Duration::ZERO,
        memory_until: None,
        shared: true,
        policy: None,
    }
}

fn small() -> Limits {
    Limits {
        max_object: 1_000,
        window: 400,
        ..Limits::default()
    }
}

fn join(fills: &Fills) -> Joined {
    fills.join(&key(), &HeaderMap::new(), begin, |_| true)
}

fn start(fills: &Fills) -> Obligation {
    match join(fills) {
        Joined::Start(obligation) => obligation,
        Joined::Wait(_) => panic!("a fill is running already"),
    }
}

fn wait(fills: &Fills) -> Reader {
    match join(fills) {
        Joined::Wait(reader) => reader,
        Joined::Start(_) => panic!("no fill is running"),
    }
}

async fn read_all(reader: &mut Reader) -> Result<Vec<u8>, FillError> {
    let mut body = Vec::new();
    loop {
        match reader.next().await? {
            Piece::Data(bytes) => body.extend_from_slice(&bytes),
            Piece::End(_) => return Ok(body),
        }
    }
}

fn bytes(length: usize) -> Bytes {
    Bytes::from(vec![b'x'; length])
}

#[tokio::test]
async fn streams_to_all_and_late_joiners_read_from_the_start() {
    let fills = Fills::new(small());
    let obligation = start(&fills);
    let mut first = wait(&fills);
    let mut writer = obligation.head(head());
    assert!(matches!(first.head().await, Outcome::Head(_)));
    assert_eq!(
        writer.push(Bytes::from_static(b"ab")).await,
        Demand::Readers
    );
    assert_eq!(
        first.next().await,
        Ok(Piece::Data(Bytes::from_static(b"ab")))
    );

    let mut late = wait(&fills);
    writer.push(Bytes::from_static(b"cd")).await;
    let mut stored = None;
    let trailers = StoredHeaders::from_map(&headers(&[("x-sum", "1")]));
    let object = writer
        .finish(Some(trailers.clone()), |object| {
            stored = Some(object.clone());
        })
        .unwrap();
    assert!(Arc::ptr_eq(&object.unwrap(), stored.as_ref().unwrap()));
    assert_eq!(stored.unwrap().body, "abcd");

    assert_eq!(read_all(&mut late).await.unwrap(), b"abcd");
    assert_eq!(
        first.next().await,
        Ok(Piece::Data(Bytes::from_static(b"cd")))
    );
    assert_eq!(first.next().await, Ok(Piece::End(Some(trailers))));
    assert!(fills.is_empty());
    assert_eq!(fills.buffered(), 0);
}

#[tokio::test]
async fn a_fill_that_fails_never_ends_clean() {
    for drop_writer in [false, true] {
        let fills = Fills::new(small());
        let obligation = start(&fills);
        let readers: Vec<_> = (0..100).map(|_| wait(&fills)).collect();
        let tasks: Vec<_> = readers
            .into_iter()
            .map(|mut reader| tokio::spawn(async move { read_all(&mut reader).await }))
            .collect();
        let mut writer = obligation.head(head());
        writer.push(bytes(10)).await;
        tokio::task::yield_now().await;
        let expected = if drop_writer {
            drop(writer);
            FillError::Dropped
        } else {
            writer.fail(FillError::Timeout);
            FillError::Timeout
        };
        for task in tasks {
            assert_eq!(task.await.unwrap(), Err(expected.clone()));
        }
        start(&fills).uncacheable();
    }
}

#[tokio::test]
async fn a_body_of_another_length_fails_and_is_not_stored() {
    let fills = Fills::new(small());
    let obligation = start(&fills);
    let mut reader = obligation.reader();
    let mut writer = obligation.head(Head {
        length: Some(11),
        ..head()
    });
    writer.push(bytes(10)).await;
    let error = FillError::Length {
        announced: 11,
        received: 10,
    };
    assert_eq!(
        writer.finish(None, |_| panic!("stored")).err(),
        Some(error.clone())
    );
    assert_eq!(reader.next().await, Err(error));
}

#[tokio::test]
async fn nobody_has_all_of_an_announced_body_before_it_is_stored() {
    for pieces in [&[][..], &["abcd"], &["ab", "cd"]] {
        let fills = Fills::new(small());
        let obligation = start(&fills);
        let mut reader = obligation.reader();
        let mut writer = obligation.head(Head {
            length: Some(pieces.concat().len() as u64),
            ..head()
        });
        for piece in pieces {
            writer.push(Bytes::from_static(piece.as_bytes())).await;
        }
        let mut cx = Context::from_waker(Waker::noop());
        if pieces.len() == 2 {
            assert_eq!(
                reader.next().await,
                Ok(Piece::Data(Bytes::from_static(b"ab")))
            );
        }
        assert!(reader.poll_next(&mut cx).is_pending(), "{pieces:?}");
        assert_eq!(reader.poll_head(&mut cx).is_pending(), pieces.is_empty());
        writer.finish(None, |_| ()).unwrap();
        assert!(reader.poll_head(&mut cx).is_ready());
        let rest = read_all(&mut reader).await.unwrap();
        assert!(pieces.concat().as_bytes().ends_with(&rest));
        assert_eq!(rest.is_empty(), pieces.is_empty());
    }
}

#[tokio::test]
async fn outcomes_without_a_body_reach_every_waiter() {
    let fills = Fills::new(small());
    let (obligation, mut a, mut b) = (start(&fills), wait(&fills), wait(&fills));
    obligation.uncacheable();
    assert!(matches!(a.head().await, Outcome::Uncacheable));
    assert!(matches!(b.head().await, Outcome::Uncacheable));
    assert!(b.next().await.is_err());

    let (obligation, mut a) = (start(&fills), wait(&fills));
    obligation.refreshed(Arc::new(object("http://a|/x", "hello")));
    assert!(matches!(a.head().await, Outcome::Complete(object) if object.body == "hello"));
    assert_eq!(read_all(&mut a).await.unwrap(), b"hello");

    let (obligation, mut a) = (start(&fills), wait(&fills));
    drop(obligation);
    assert!(matches!(
        a.head().await,
        Outcome::Failed(FillError::Dropped)
    ));
}

#[tokio::test]
async fn another_variant_starts_its_own_fill() {
    let fills = Fills::new(small());
    let german = [("accept-language", "de")];
    let ask = |language| {
        fills.join(
            &key(),
            &headers(&[("accept-language", language)]),
            begin,
            |_| true,
        )
    };
    let Joined::Start(obligation) = ask("de") else {
        panic!()
    };
    let Joined::Wait(_) = ask("fr") else {
        panic!("the head is not known yet")
    };
    let writer = obligation.head(Head {
        vary: vary("accept-language", &german),
        ..head()
    });
    let Joined::Wait(_) = ask("de") else {
        panic!("it suits")
    };
    let Joined::Start(french) = ask("fr") else {
        panic!("it does not suit")
    };
    let Joined::Wait(_) = ask("it") else {
        panic!("the French one has no head yet")
    };
    writer.finish(None, |_| ()).unwrap();
    let Joined::Wait(_) = ask("de") else {
        panic!("only the French one runs, without a head")
    };
    drop(french);
    assert!(fills.is_empty());
}

#[tokio::test]
async fn an_invalid_fill_is_replaced_but_ends_for_those_who_joined() {
    let fills = Fills::new(small());
    let obligation = start(&fills);
    let mut reader = wait(&fills);
    let Joined::Start(second) = fills.join(&key(), &HeaderMap::new(), begin, |_| false) else {
        panic!("an invalid fill was joined");
    };
    let mut later = wait(&fills);
    let mut writer = obligation.head(head());
    writer.push(Bytes::from_static(b"old")).await;
    writer.finish(None, |_| ()).unwrap();
    assert_eq!(read_all(&mut reader).await.unwrap(), b"old");
    second.refreshed(Arc::new(object("http://a|/x", "new")));
    assert_eq!(read_all(&mut later).await.unwrap(), b"new");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_holds_nobody_back_while_the_body_can_be_stored() {
    let fills = Fills::new(Limits {
        max_object: 1 << 20,
        ..small()
    });
    let obligation = start(&fills);
    let (mut slow, mut fast) = (wait(&fills), wait(&fills));
    let mut writer = obligation.head(head());
    let before = tokio::time::Instant::now();
    for _ in 0..100 {
        writer.push(bytes(5_000)).await;
        assert_eq!(fast.next().await, Ok(Piece::Data(bytes(5_000))));
    }
    assert_eq!(before.elapsed(), Duration::ZERO, "the writer waited");
    writer.finish(None, |_| ()).unwrap();
    assert_eq!(read_all(&mut slow).await.unwrap().len(), 500_000);
}

#[tokio::test]
async fn a_body_too_large_goes_as_fast_as_its_readers_and_is_not_stored() {
    let fills = Fills::new(small());
    let obligation = start(&fills);
    let mut reader = wait(&fills);
    let mut writer = obligation.head(head());
    writer.push(bytes(900)).await;
    assert_eq!(fills.buffered(), 964);
    let writing = tokio::spawn(async move {
        for _ in 0..1_000 {
            assert_eq!(writer.push(bytes(300)).await, Demand::Readers);
        }
        writer
            .finish(None, |_| panic!("stored"))
            .unwrap()
            .map(|object| object.body.len())
    });
    tokio::task::yield_now().await;
    assert!(fills.is_empty(), "still joinable");
    assert_eq!(fills.buffered(), 0);
    assert!(!writing.is_finished(), "it did not wait");
    assert_eq!(read_all(&mut reader).await.unwrap().len(), 300_900);
    assert_eq!(writing.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_is_cut_when_others_wait_for_it() {
    let fills = Fills::new(small());
    let obligation = start(&fills);
    let (mut stalled, mut fast) = (wait(&fills), wait(&fills));
    let mut writer = obligation.head(Head {
        length: Some(9_000),
        ..head()
    });
    let reading = tokio::spawn(async move { read_all(&mut fast).await });
    for _ in 0..30 {
        writer.push(bytes(300)).await;
    }
    writer.finish(None, |_| panic!("stored")).unwrap();
    assert_eq!(reading.await.unwrap().unwrap().len(), 9_000);
    assert_eq!(stalled.next().await, Err(FillError::TooSlow));
}

#[tokio::test(start_paused = true)]
async fn a_lone_slow_reader_is_waited_for() {
    let fills = Fills::new(small());
    let obligation = start(&fills);
    let mut slow = obligation.reader();
    let mut writer = obligation.head(Head {
        length: Some(9_000),
        ..head()
    });
    let writing = tokio::spawn(async move {
        for _ in 0..30 {
            writer.push(bytes(300)).await;
        }
        writer.finish(None, |_| panic!("stored")).is_ok()
    });
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(read_all(&mut slow).await.unwrap().len(), 9_000);
    assert!(writing.await.unwrap());
}

#[tokio::test]
async fn the_writer_learns_who_still_wants_it() {
    let fills = Fills::new(small());
    let obligation = start(&fills);
    let reader = wait(&fills);
    let mut writer = obligation.head(head());
    assert_eq!(writer.push(bytes(10)).await, Demand::Readers);
    drop(reader);
    assert_eq!(writer.push(bytes(10)).await, Demand::Store);
    assert_eq!(writer.push(bytes(1_000)).await, Demand::Nobody);
}

#[tokio::test]
async fn a_writer_that_waits_is_told_when_its_readers_leave() {
    let fills = Fills::new(small());
    let obligation = start(&fills);
    let reader = obligation.reader();
    let mut writer = obligation.head(Head {
        length: Some(5_000),
        ..head()
    });
    assert_eq!(writer.push(bytes(400)).await, Demand::Readers);
    let pushing = tokio::spawn(async move { writer.push(bytes(400)).await });
    tokio::task::yield_now().await;
    assert!(!pushing.is_finished());
    drop(reader);
    assert_eq!(pushing.await.unwrap(), Demand::Nobody);
}

#[tokio::test]
async fn what_all_fills_keep_is_bounded() {
    let fills = Fills::new(Limits {
        max_buffered: 1_500,
        ..small()
    });
    let other = Key::parse("http://a|/y").unwrap();
    let mut first = start(&fills).head(head());
    first.push(bytes(900)).await;
    let mut second = fills.alone(&other, begin()).head(head());
    assert_eq!(second.push(bytes(900)).await, Demand::Nobody);
    assert_eq!(fills.buffered(), 964);
    drop(first);
    assert_eq!(fills.buffered(), 0);
    let mut third = start(&fills).head(head());
    assert_eq!(third.push(bytes(900)).await, Demand::Store);
}

#[tokio::test]
async fn tiny_chunks_do_not_cost_a_multiple_of_the_largest_object() {
    let fills = Fills::new(Limits {
        max_object: 100_000,
        ..Limits::default()
    });
    let mut writer = start(&fills).head(head());
    let mut pushed = 0;
    while writer.push(bytes(1)).await == Demand::Store {
        pushed += 1;
        assert!(fills.buffered() <= 200_000);
    }
    assert!(pushed > 1_000);
}

#[test]
fn an_object_of_a_fill_has_all_that_its_head_said() {
    let fills = Fills::new(small());
    let position = Position {
        epoch: 1,
        fleet: 2,
        node: 3,
        at: NOW,
    };
    let begin = || Begin {
        position,
        ..begin()
    };
    let Joined::Start(obligation) = fills.join(&key(), &HeaderMap::new(), begin, |_| true) else {
        panic!();
    };
    let said = Head {
        status: StatusCode::NOT_FOUND,
        tags: Tags::new(["t"]).unwrap(),
        vary: vary("x", &[("x", "1")]),
        shared: false,
        memory_until: Some(NOW),
        policy: Some("p@1".into()),
        headers: StoredHeaders::from_map(&headers(&[("a", "b")])),
        ..head()
    };
    let made: Arc<Object> = obligation
        .head(said.clone())
        .finish(None, |_| ())
        .unwrap()
        .unwrap();
    assert_eq!(
        (made.status, &made.tags, made.vary()),
        (said.status, &said.tags, &said.vary)
    );
    assert_eq!(
        (made.shared, made.memory_until(), made.policy()),
        (false, said.memory_until, said.policy.as_ref())
    );
    assert_eq!(
        (&made.headers, made.freshness()),
        (&said.headers, said.freshness)
    );
    assert_eq!(
        (made.position(), made.key.as_str(), &*made.url()),
        (position, "http://a|/x", "http://a/x")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_ask_at_once_make_one_fetch() {
    for _ in 0..50 {
        let fills = Fills::new(Limits::default());
        let tier = Arc::new(parking_lot::Mutex::new(None::<Arc<Object>>));
        let fetches = Arc::new(AtomicU64::new(0));
        let ask = |fills: Fills,
                   tier: Arc<parking_lot::Mutex<Option<Arc<Object>>>>,
                   fetches: Arc<AtomicU64>| async move {
            let mut reader = match join(&fills) {
                Joined::Wait(reader) => reader,
                Joined::Start(obligation) => {
                    let reader = obligation.reader();
                    let stored = tier.lock().clone();
                    if let Some(object) = stored {
                        obligation.refreshed(object);
                    } else {
                        fetches.fetch_add(1, Ordering::SeqCst);
                        tokio::spawn(async move {
                            let mut writer = obligation.head(head());
                            for _ in 0..20 {
                                writer.push(bytes(50)).await;
                                tokio::task::yield_now().await;
                            }
                            writer.finish(None, |object| *tier.lock() = Some(object.clone()))
                        });
                    }
                    reader
                }
            };
            read_all(&mut reader).await.map(|body| body.len())
        };
        let tasks: Vec<_> = (0..32)
            .map(|_| tokio::spawn(ask(fills.clone(), tier.clone(), fetches.clone())))
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(1_000));
        }
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
        assert!(fills.is_empty());
    }
}
