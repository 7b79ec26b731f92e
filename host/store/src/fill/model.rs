//! Random orders of everything that can happen to the fills of one key, against a model
//! that knows what each writer did.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use proptest::prelude::*;

use super::tests::{begin, head, key};
use super::*;
use crate::testing::{headers, object, vary};

#[derive(Clone, Debug)]
enum Event {
    Join {
        language: usize,
        valid: bool,
    },
    Head {
        writer: usize,
        varies: bool,
        announced: Option<u64>,
    },
    Push {
        writer: usize,
        length: usize,
    },
    Finish {
        writer: usize,
    },
    Fail {
        writer: usize,
    },
    Drop {
        writer: usize,
    },
    Uncacheable {
        writer: usize,
    },
    Refreshed {
        writer: usize,
    },
    Read {
        reader: usize,
    },
    Leave {
        reader: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let writer = 0..4_usize;
    let reader = 0..8_usize;
    let announced = prop_oneof![4 => Just(None), 1 => (0..2_000_u64).prop_map(Some)];
    prop_oneof![
        6 => (0..2_usize, prop::bool::weighted(0.9))
            .prop_map(|(language, valid)| Event::Join { language, valid }),
        3 => (writer.clone(), any::<bool>(), announced)
            .prop_map(|(writer, varies, announced)| Event::Head { writer, varies, announced }),
        8 => (writer.clone(), 0..400_usize).prop_map(|(writer, length)| Event::Push { writer, length }),
        2 => writer.clone().prop_map(|writer| Event::Finish { writer }),
        1 => writer.clone().prop_map(|writer| Event::Fail { writer }),
        1 => writer.clone().prop_map(|writer| Event::Drop { writer }),
        1 => writer.clone().prop_map(|writer| Event::Uncacheable { writer }),
        1 => writer.prop_map(|writer| Event::Refreshed { writer }),
        12 => reader.clone().prop_map(|reader| Event::Read { reader }),
        1 => reader.prop_map(|reader| Event::Leave { reader }),
    ]
}

const LANGUAGES: [&str; 2] = ["de", "fr"];

enum Hand {
    Obliged(Obligation),
    Writing(Writer),
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Running,
    Clean,
    Broken,
    NoBody,
}

struct Writing {
    hand: Hand,
    /// The last with this address is meant, since a fill that is gone frees it.
    fill: *const Fill,
    body: Vec<u8>,
    language: usize,
    varies: bool,
    listed: bool,
    end: End,
}

struct Reading {
    reader: Reader,
    of: usize,
    got: Vec<u8>,
    flag: Arc<Flag>,
    waits: bool,
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct World {
    fills: Fills,
    writings: Vec<Writing>,
    readings: Vec<Reading>,
}

fn limits() -> Limits {
    Limits {
        max_object: 1_000,
        max_buffered: 3_000,
        window: 500,
        ..Limits::default()
    }
}

impl World {
    fn new() -> Self {
        Self {
            fills: Fills::new(limits()),
            writings: Vec::new(),
            readings: Vec::new(),
        }
    }

    fn seat(&mut self, reader: Reader) {
        let fill: *const Fill = reader.fill();
        let of = self
            .writings
            .iter()
            .rposition(|writing| writing.fill == fill)
            .unwrap();
        let flag = Arc::default();
        self.readings.push(Reading {
            reader,
            of,
            got: Vec::new(),
            flag,
            waits: false,
        });
    }

    fn join(&mut self, language: usize, valid: bool) {
        let request = headers(&[("accept-language", LANGUAGES[language])]);
        if !valid {
            self.writings
                .iter_mut()
                .for_each(|writing| writing.listed = false);
        }
        let suits = |writing: &Writing| {
            let headless = matches!(writing.hand, Hand::Obliged(_));
            writing.listed && (headless || !writing.varies || writing.language == language)
        };
        match self.fills.join(&key(), &request, begin, |_| valid) {
            Joined::Start(obligation) => {
                assert!(
                    !self.writings.iter().any(suits),
                    "a second fetch of the same"
                );
                let reader = obligation.reader();
                self.writings.push(Writing {
                    fill: obligation.fill(),
                    hand: Hand::Obliged(obligation),
                    body: Vec::new(),
                    language,
                    varies: false,
                    listed: true,
                    end: End::Running,
                });
                self.seat(reader);
            }
            Joined::Wait(reader) => {
                let fill: *const Fill = reader.fill();
                let writing = self
                    .writings
                    .iter()
                    .rfind(|writing| writing.fill == fill)
                    .unwrap();
                assert!(suits(writing), "joined what does not suit");
                self.seat(reader);
            }
        }
    }

    /// Anything that one of the writers does.
    fn write(&mut self, at: usize, event: &Event) {
        let Some(at) = at.checked_rem(self.writings.len()) else {
            return;
        };
        let writing = &mut self.writings[at];
        let hand = std::mem::replace(&mut writing.hand, Hand::Ended);
        let (hand, end) = match (hand, event) {
            (
                Hand::Obliged(obligation),
                Event::Head {
                    varies, announced, ..
                },
            ) => {
                let request = [("accept-language", LANGUAGES[writing.language])];
                let names = if *varies { "accept-language" } else { "" };
                writing.varies = *varies;
                writing.listed &= announced.is_none_or(|length| length <= limits().max_object);
                let head = Head {
                    vary: vary(names, &request),
                    length: *announced,
                    ..head()
                };
                (Hand::Writing(obligation.head(head)), End::Running)
            }
            (Hand::Obliged(obligation), Event::Uncacheable { .. }) => {
                obligation.uncacheable();
                (Hand::Ended, End::NoBody)
            }
            (Hand::Obliged(obligation), Event::Refreshed { .. }) => {
                writing.body = b"hello".to_vec();
                obligation.refreshed(Arc::new(object("http://a|/x", "hello")));
                (Hand::Ended, End::Clean)
            }
            (Hand::Obliged(obligation), Event::Fail { .. }) => {
                obligation.fail(FillError::Timeout);
                (Hand::Ended, End::Broken)
            }
            (Hand::Writing(writer), Event::Fail { .. }) => {
                writer.fail(FillError::Timeout);
                (Hand::Ended, End::Broken)
            }
            (Hand::Obliged(_) | Hand::Writing(_), Event::Drop { .. }) => (Hand::Ended, End::Broken),
            (Hand::Writing(writer), Event::Finish { .. }) => {
                let announced = writer.fill().head().unwrap().length;
                let body = writing.body.clone();
                let finished = writer.finish(None, |object| assert_eq!(object.body, body));
                let honest = announced.is_none_or(|length| length == body.len() as u64);
                assert_eq!(finished.is_ok(), honest);
                (Hand::Ended, if honest { End::Clean } else { End::Broken })
            }
            (Hand::Writing(mut writer), Event::Push { length, .. }) => {
                let from = writing.body.len();
                let piece: Vec<u8> = (from..from + length).map(|n| (n * 7 + at) as u8).collect();
                let demand = {
                    let pushing = pin!(writer.push(Bytes::from(piece.clone())));
                    pushing.poll(&mut Context::from_waker(Waker::noop()))
                };
                match demand {
                    Poll::Ready(Demand::Readers | Demand::Store) => writing.body.extend(piece),
                    // Nobody is left who could miss it.
                    Poll::Ready(Demand::Nobody) => {}
                    Poll::Pending => {
                        let behind = self.readings.iter().any(|reading| {
                            reading.of == at && reading.got.len() < writing.body.len()
                        });
                        assert!(behind, "waits for room though all has been read");
                    }
                }
                // A body that is not stored any more waits or has been unlisted.
                writing.listed &= writing.body.len() as u64 <= limits().max_object
                    && self.fills.0.running.get(&key()).is_some_and(|fills| {
                        fills.iter().any(|fill| std::ptr::eq(&**fill, writing.fill))
                    });
                (Hand::Writing(writer), End::Running)
            }
            (hand, _) => (hand, writing.end),
        };
        writing.hand = hand;
        writing.end = end;
        if end != End::Running {
            writing.listed = false;
            for reading in self
                .readings
                .iter()
                .filter(|reading| reading.of == at && reading.waits)
            {
                assert!(
                    reading.flag.0.load(Ordering::SeqCst),
                    "left waiting by a writer that is gone"
                );
            }
        }
    }

    /// Polls a reader once; says whether that was its last piece.
    fn read(&mut self, at: usize) -> bool {
        let Some(at) = at.checked_rem(self.readings.len()) else {
            return false;
        };
        let reading = &mut self.readings[at];
        let writing = &self.writings[reading.of];
        let waker = Waker::from(reading.flag.clone());
        let mut cx = Context::from_waker(&waker);
        let head = reading.reader.poll_head(&mut cx);
        // What completes the announced length waits for the object.
        let withheld = match &writing.hand {
            Hand::Obliged(_) => true,
            Hand::Writing(writer) => {
                let announced = writer.fill().head().unwrap().length;
                assert!(head.is_ready() || announced == Some(0), "a head is known");
                announced.is_some_and(|announced| writing.body.len() as u64 >= announced)
            }
            Hand::Ended => false,
        };
        assert!(head.is_ready() || withheld, "no head though nobody writes");
        reading.flag.0.store(false, Ordering::SeqCst);
        let piece = reading.reader.poll_next(&mut cx);
        reading.waits = piece.is_pending();
        let all = reading.got.len() == writing.body.len();
        match piece {
            Poll::Pending => assert!(
                writing.end == End::Running && (all || withheld),
                "waits though there is more"
            ),
            Poll::Ready(Ok(Piece::Data(bytes))) => {
                reading.got.extend_from_slice(&bytes);
                assert!(
                    writing.body.starts_with(&reading.got),
                    "other bytes than were written"
                );
            }
            Poll::Ready(Ok(Piece::End(_))) => {
                assert!(
                    writing.end == End::Clean && all,
                    "a clean end of a body cut short"
                );
                return true;
            }
            Poll::Ready(Err(_)) => {
                assert!(
                    matches!(writing.end, End::Broken | End::NoBody),
                    "a clean body broke"
                );
                return true;
            }
        }
        false
    }

    fn step(&mut self, event: &Event) {
        match *event {
            Event::Join { language, valid } => self.join(language, valid),
            Event::Read { reader } => {
                self.read(reader);
            }
            Event::Leave { reader } => {
                if let Some(at) = reader.checked_rem(self.readings.len()) {
                    self.readings.swap_remove(at);
                }
            }
            Event::Head { writer, .. }
            | Event::Push { writer, .. }
            | Event::Finish { writer }
            | Event::Fail { writer }
            | Event::Drop { writer }
            | Event::Uncacheable { writer }
            | Event::Refreshed { writer } => self.write(writer, event),
        }
        assert!(self.fills.buffered() <= limits().max_buffered);
    }

    fn end(mut self) {
        for writer in 0..self.writings.len() {
            self.write(writer, &Event::Drop { writer });
        }
        for reader in 0..self.readings.len() {
            // Each poll takes at least one byte or is the last.
            assert!(
                (0..10_000).any(|_| self.read(reader)),
                "a reader never came to an end"
            );
        }
        assert!(self.fills.is_empty());
        assert_eq!(self.fills.buffered(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_keeps_the_promises(events in prop::collection::vec(event(), 1..120)) {
        // A push that waits asks for the runtime's timer.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let mut world = World::new();
        for event in &events {
            world.step(event);
        }
        world.end();
    }
}
