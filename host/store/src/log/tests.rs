//! Claims about one log, and about two that share a fleet in memory.

use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use weir_semantics::{Freshness, VaryKey};

use super::*;
use crate::{KeyBuilder, ObjectParts, StoredHeaders};

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_000_000);

/// The fleet's log, without Redis.
#[derive(Debug, Default)]
pub(super) struct Simulated {
    pub(super) taken: Mutex<(u64, Vec<Purge>)>,
    away: AtomicBool,
}

impl Simulated {
    pub(super) fn new() -> Arc<Self> {
        let fleet = Self::default();
        fleet.taken.lock().0 = 7;
        Arc::new(fleet)
    }

    pub(super) fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
    }

    fn available(&self) -> Result<(), FleetUnavailable> {
        if self.away.load(Ordering::Acquire) {
            Err(FleetUnavailable)
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Fleet for Simulated {
    async fn purge(&self, purge: &Purge) -> Result<Sequenced, FleetUnavailable> {
        self.available()?;
        let mut taken = self.taken.lock();
        let known = taken.1.iter().position(|it| it.id == purge.id);
        let at = known.unwrap_or_else(|| {
            taken.1.push(purge.clone());
            taken.1.len() - 1
        });
        let raises = purge.raises();
        let earlier = (1..).zip(&taken.1[..at]).filter(|(_, other)| {
            other
                .raises()
                .iter()
                .any(|raise| raises.iter().any(|mine| mine.counter == raise.counter))
        });
        Ok(Sequenced {
            epoch: taken.0,
            sequence: at as u64 + 1,
            entry: EntryMark {
                id: format!("{}-0", at + 1),
                nonce: at as u64 + 1,
            },
            earlier: earlier.map(|(sequence, _)| sequence).max().unwrap_or(0),
            previous: None,
        })
    }

    async fn snapshot(&self, have: &Standing, since: u64) -> Result<Snapshot, FleetUnavailable> {
        self.available()?;
        let taken = self.taken.lock();
        let since = if have.epoch == taken.0 { since } else { 0 };
        let mut snapshot = Snapshot {
            epoch: taken.0,
            sequence: taken.1.len() as u64,
            ..Snapshot::default()
        };
        for (sequence, purge) in (1..)
            .zip(&taken.1)
            .filter(|(sequence, _)| *sequence > since)
        {
            snapshot.add(purge, sequence);
        }
        Ok(snapshot)
    }
}

pub(super) fn alone() -> Log {
    Log::new(Limits::default(), None)
}

async fn node(fleet: &Arc<Simulated>) -> Log {
    let log = Log::new(Limits::default(), Some(Arc::clone(fleet) as Arc<dyn Fleet>));
    let _ = log.synchronise(NOW).await;
    log
}

fn key(host: Option<&str>, parts: &[&str]) -> Key {
    let mut builder = KeyBuilder::new();
    match host {
        Some(host) => builder.origin("http", host).unwrap(),
        None => builder.shared(),
    };
    builder.namespace(parts[0]).unwrap();
    for part in &parts[1..] {
        builder.part(part.as_bytes());
    }
    builder.key().unwrap()
}

fn object(key: Key, tags: &[&str], position: Position) -> Object {
    Object::new(ObjectParts {
        key,
        url: "http://a.example/users/42".into(),
        status: StatusCode::OK,
        headers: StoredHeaders::from_map(&HeaderMap::new()),
        body: Bytes::new(),
        trailers: None,
        vary: VaryKey::default(),
        tags: Tags::new(tags.iter().copied()).unwrap(),
        freshness: Freshness {
            received: NOW,
            initial_age: Duration::ZERO,
            lifetime: Duration::from_secs(60),
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
        position,
        policy: None,
    })
}

pub(super) fn profile(host: &str, position: Position) -> Object {
    object(
        key(Some(host), &["user", "profile", "42"]),
        &["user-42", "team"],
        position,
    )
}

fn every_target() -> Vec<Target> {
    vec![
        Target::Url("http://a.example/users/42".into()),
        Target::Key("user:profile:42".into()),
        Target::Tag("team".into()),
        Target::Namespace("user".into()),
        Target::Prefix("user:pro".into()),
        Target::All,
    ]
}

#[tokio::test]
async fn every_selector_kills_what_it_names_and_nothing_fetched_later() {
    for target in every_target() {
        let log = alone();
        let before = profile("a.example", log.position());
        assert_eq!(log.verdict(&before), Verdict::Valid);
        log.invalidate(&[Selector::new(target.clone())], NOW).await;
        assert_eq!(log.verdict(&before), Verdict::Dead, "{target:?}");
        assert_eq!(
            log.verdict(&profile("a.example", log.position())),
            Verdict::Valid
        );
    }
}

#[tokio::test]
async fn others_stay_valid() {
    let log = alone();
    let object = profile("a.example", log.position());
    let others = [
        Target::Url("http://a.example/users/43".into()),
        Target::Key("user:profile:4".into()),
        Target::Tag("teams".into()),
        Target::Namespace("use".into()),
        Target::Prefix("user:profile:43".into()),
    ];
    log.invalidate(&others.map(Selector::new), NOW).await;
    assert_eq!(log.verdict(&object), Verdict::Valid);
}

#[tokio::test]
async fn soft_tells_when_and_hard_wins() {
    let log = alone();
    let object = profile("a.example", log.position());
    let tag = Selector::new(Target::Tag("team".into()));
    log.invalidate(&[tag.clone().soft()], NOW).await;
    assert_eq!(log.verdict(&object), Verdict::Soft(NOW));
    log.invalidate(&[tag], NOW).await;
    assert_eq!(log.verdict(&object), Verdict::Dead);
}

#[tokio::test]
async fn a_host_limits_a_purge_but_not_for_shared_objects() {
    for target in every_target().into_iter().skip(1) {
        let log = alone();
        let here = profile("a.example", log.position());
        let there = profile("b.example", log.position());
        let shared = object(
            key(None, &["user", "profile", "42"]),
            &["team"],
            log.position(),
        );
        log.invalidate(&[Selector::new(target.clone()).on_host("A.example")], NOW)
            .await;
        let verdicts = [&here, &there, &shared].map(|object| log.verdict(object));
        assert_eq!(
            verdicts,
            [Verdict::Dead, Verdict::Valid, Verdict::Dead],
            "{target:?}"
        );
    }
}

#[tokio::test]
async fn an_unchanged_log_answers_from_the_object_itself() {
    let log = alone();
    let object = profile("a.example", log.position());
    log.verdict(&object);
    assert_eq!(object.validated.load(Ordering::Acquire), log.version());
    let version = log.version();
    log.invalidate(&[Selector::new(Target::Tag("x".into()))], NOW)
        .await;
    assert!(log.version() > version);
}

#[tokio::test]
async fn forgotten_purges_leave_floors_and_collapsed_prefixes_their_namespace() {
    let limits = Limits {
        counters: 1_024,
        prefixes: 2,
        ..Limits::default()
    };
    let log = Log::new(limits, None);
    let object = profile("a.example", log.position());
    log.invalidate(&[Selector::new(Target::Tag("team".into()))], NOW)
        .await;
    for at in 0..20 {
        let tags: Vec<_> = (0..1_000)
            .map(|tag| Selector::new(Target::Tag(format!("{at}-{tag}"))))
            .collect();
        log.invalidate(&tags, NOW).await;
    }
    assert!(log.counters() <= 1_024);
    assert_eq!(log.verdict(&object), Verdict::Dead);

    let log = Log::new(limits, None);
    let object = profile("a.example", log.position());
    for prefix in ["user:profile:4", "help:a", "help:b", "help:c"] {
        log.invalidate(&[Selector::new(Target::Prefix(prefix.into()))], NOW)
            .await;
    }
    assert_eq!(log.verdict(&object), Verdict::Dead);
}

#[tokio::test]
async fn a_purge_reaches_the_other_node_through_entries_or_counters() {
    let fleet = Simulated::new();
    let (one, two) = (node(&fleet).await, node(&fleet).await);
    let object = profile("a.example", two.position());
    let receipt = one
        .invalidate(&[Selector::new(Target::Tag("team".into()))], NOW)
        .await;
    assert_eq!((receipt.sequence, receipt.scope), (Some(1), Scope::Fleet));
    assert_eq!(two.verdict(&object), Verdict::Valid);
    two.synchronise(NOW).await.unwrap();
    assert_eq!(two.verdict(&object), Verdict::Dead);
}

#[tokio::test]
async fn only_counters_that_were_read_and_applied_count_as_synchronised() {
    let fleet = Simulated::new();
    fleet.go_away(true);
    let log = node(&fleet).await;
    assert_eq!(
        (log.synchronised(), log.last_contact()),
        (0, Timestamp::default())
    );
    fleet.go_away(false);
    log.synchronise(NOW).await.unwrap();
    assert_eq!((log.synchronised(), log.last_contact()), (1, NOW));
}

#[tokio::test]
async fn an_entry_after_a_gap_holds_at_once_but_does_not_move_the_position() {
    let fleet = Simulated::new();
    let log = node(&fleet).await;
    let object = profile("a.example", log.position());
    let entry = Entry {
        epoch: 7,
        sequence: 5,
        mark: EntryMark {
            id: "5-0".into(),
            nonce: 1,
        },
        previous: None,
        at: NOW,
        selectors: vec![Selector::new(Target::Tag("team".into()))],
    };
    assert_eq!(log.apply(&entry, NOW), Applied::Gap);
    assert_eq!(log.verdict(&object), Verdict::Dead);
    assert_eq!(log.position().fleet, 0);
    assert_eq!(
        log.apply(&Entry { epoch: 8, ..entry }, NOW),
        Applied::OtherEpoch
    );
}

#[tokio::test]
async fn purges_from_while_the_fleet_was_away_are_sent_once_in_order() {
    let fleet = Simulated::new();
    let (one, two) = (node(&fleet).await, node(&fleet).await);
    let (here, there) = (
        profile("a.example", one.position()),
        profile("a.example", two.position()),
    );
    fleet.go_away(true);
    let receipt = one
        .invalidate(&[Selector::new(Target::Tag("team".into()))], NOW)
        .await;
    assert_eq!((receipt.sequence, receipt.scope), (None, Scope::Node));
    assert_eq!(one.verdict(&here), Verdict::Dead);
    one.invalidate(&[Selector::new(Target::Tag("x".into()))], NOW)
        .await;
    assert!(one.replay(NOW).await.is_err());
    assert_eq!(one.pending(), 2);

    fleet.go_away(false);
    assert_eq!(one.replay(NOW).await, Ok(2));
    assert_eq!(one.replay(NOW).await, Ok(0));
    let sent: Vec<_> = fleet
        .taken
        .lock()
        .1
        .iter()
        .map(|it| it.selectors[0].target.clone())
        .collect();
    assert_eq!(sent, [Target::Tag("team".into()), Target::Tag("x".into())]);
    two.synchronise(NOW).await.unwrap();
    assert_eq!(two.verdict(&there), Verdict::Dead);
    // What was read from Redis has no position in the node's own log.
    let fresh = Position {
        node: 0,
        ..one.position()
    };
    assert_eq!(one.verdict(&profile("a.example", fresh)), Verdict::Valid);
}

#[tokio::test]
async fn too_many_pending_purges_become_one_of_everything() {
    let fleet = Simulated::new();
    let limits = Limits {
        pending: 10,
        ..Limits::default()
    };
    let log = Log::new(limits, Some(Arc::clone(&fleet) as Arc<dyn Fleet>));
    log.synchronise(NOW).await.unwrap();
    let object = profile("a.example", log.position());
    fleet.go_away(true);
    for at in 0..=10 {
        log.invalidate(&[Selector::new(Target::Tag(at.to_string()))], NOW)
            .await;
    }
    assert_eq!(log.pending(), 1);
    assert_eq!(log.verdict(&object), Verdict::Dead);
    fleet.go_away(false);
    log.replay(NOW).await.unwrap();
    assert_eq!(
        fleet.taken.lock().1[0].selectors,
        [Selector::new(Target::All)]
    );
}

#[tokio::test]
async fn a_new_epoch_kills_everything_from_before() {
    let fleet = Simulated::new();
    let log = node(&fleet).await;
    let object = profile("a.example", log.position());
    *fleet.taken.lock() = (8, Vec::new());
    log.synchronise(NOW).await.unwrap();
    assert_eq!(log.verdict(&object), Verdict::Dead);
    assert_eq!(log.position().epoch, 8);
}

#[tokio::test]
async fn a_purge_that_finds_a_new_epoch_takes_the_node_there() {
    let fleet = Simulated::new();
    let log = node(&fleet).await;
    for _ in 0..3 {
        log.invalidate(&[Selector::new(Target::Tag("x".into()))], NOW)
            .await;
    }
    let object = profile("a.example", log.position());
    *fleet.taken.lock() = (8, Vec::new());
    let receipt = log
        .invalidate(&[Selector::new(Target::Tag("y".into()))], NOW)
        .await;
    assert_eq!((receipt.sequence, log.position().epoch), (Some(1), 8));
    assert_eq!(log.verdict(&object), Verdict::Dead);
}

#[tokio::test]
async fn two_entries_with_one_sequence_are_two_logs() {
    let log = node(&Simulated::new()).await;
    let entry = |id: &str, nonce| Entry {
        epoch: 7,
        sequence: 1,
        mark: EntryMark {
            id: id.into(),
            nonce,
        },
        previous: None,
        at: NOW,
        selectors: Vec::new(),
    };
    assert_eq!(log.apply(&entry("1-0", 1), NOW), Applied::Next);
    assert_eq!(log.apply(&entry("1-0", 1), NOW), Applied::Known);
    assert_eq!(log.apply(&entry("2-0", 2), NOW), Applied::Diverged);
    assert_eq!(
        log.standing().entry.unwrap().id,
        "1-0",
        "what the log must be asked for"
    );
}

/// A failover lost a purge, and another one took its place: the sequence is the same.
#[tokio::test]
async fn a_log_that_ends_with_another_entry_is_not_the_one_that_was_followed() {
    let log = node(&Simulated::new()).await;
    let entry = Entry {
        epoch: 7,
        sequence: 1,
        mark: EntryMark {
            id: "1-0".into(),
            nonce: 5,
        },
        previous: None,
        at: NOW,
        selectors: Vec::new(),
    };
    log.apply(&entry, NOW);
    let seen = |nonce| Seen {
        epoch: Some(7),
        sequence: 1,
        nonce,
    };
    let later = NOW + Duration::from_secs(1);
    assert!(!log.confirm(log.bearings(), seen(6), later));
    assert_eq!(log.last_contact(), NOW);
    assert!(log.confirm(log.bearings(), seen(5), later));
    assert_eq!(log.last_contact(), later);
}

/// A Redis that has been failed over since it told its counters.
#[derive(Debug)]
struct FailedOver;

#[async_trait]
impl Fleet for FailedOver {
    async fn purge(&self, _: &Purge) -> Result<Sequenced, FleetUnavailable> {
        Ok(Sequenced {
            epoch: 7,
            sequence: 5,
            entry: EntryMark {
                id: "9-0".into(),
                nonce: 9,
            },
            earlier: 0,
            previous: Some(4),
        })
    }

    async fn snapshot(&self, _: &Standing, _: u64) -> Result<Snapshot, FleetUnavailable> {
        Ok(Snapshot {
            epoch: 7,
            sequence: 7,
            last: Some(EntryMark {
                id: "7-0".into(),
                nonce: 7,
            }),
            ..Snapshot::default()
        })
    }
}

#[tokio::test]
async fn a_purge_holds_here_also_if_redis_took_it_before_the_place_that_is_known() {
    let log = Log::new(Limits::default(), Some(Arc::new(FailedOver)));
    log.synchronise(NOW).await.unwrap();
    let old = Position {
        epoch: 7,
        fleet: 4,
        ..Position::default()
    };
    let object = profile("a.example", old);
    assert_eq!(log.verdict(&object), Verdict::Valid);
    let receipt = log
        .invalidate(&[Selector::new(Target::Tag("team".into()))], NOW)
        .await;
    assert_eq!(receipt.scope, Scope::Fleet);
    assert_eq!(log.verdict(&object), Verdict::Dead);
}

#[tokio::test]
async fn memory_is_trusted_within_the_window_of_a_contact_or_of_its_own_fetch() {
    let log = node(&Simulated::new()).await;
    let later = NOW + Duration::from_secs(2);
    let too_late = NOW + Duration::from_millis(2_001);
    assert!(log.trusted(later, Timestamp::default));
    assert!(!log.trusted(too_late, Timestamp::default));
    assert!(log.trusted(too_late, || later));
    assert!(
        alone().trusted(too_late, Timestamp::default),
        "alone, nobody else purges"
    );
}

#[tokio::test]
async fn write_through_is_undone_by_any_other_purge_since_the_request_began() {
    let object_of = |receipt: &Receipt| profile("a.example", receipt.position);
    let purge = [Selector::new(Target::Key("user:profile:42".into()))];
    for (other, at) in every_target()
        .into_iter()
        .flat_map(|it| [(it.clone(), 0), (it, 1), (Target::Tag("x".into()), 0)])
    {
        for away in [false, true] {
            let fleet = Simulated::new();
            let (log, elsewhere) = (node(&fleet).await, node(&fleet).await);
            fleet.go_away(away);
            let began = log.position();
            // Before ours, by the other node or by this one; after ours, by this one.
            let by = if away { &log } else { &elsewhere };
            if at == 0 {
                by.invalidate(&[Selector::new(other.clone())], NOW).await;
            }
            let receipt = log.invalidate(&purge, NOW).await;
            if at == 1 {
                log.invalidate(&[Selector::new(other.clone())], NOW).await;
            }
            let object = object_of(&receipt);
            let may =
                log.may_write_through(&object.key, &object.url(), &object.tags, began, &receipt);
            assert_eq!(
                may,
                other == Target::Tag("x".into()),
                "{other:?} {at} away {away}"
            );
            assert!(!may || log.verdict(&object) == Verdict::Valid);
        }
    }
}

#[tokio::test]
async fn many_selectors_become_several_purges() {
    let fleet = Simulated::new();
    let log = node(&fleet).await;
    let many: Vec<_> = (0..2_500)
        .map(|tag| Selector::new(Target::Tag(tag.to_string())))
        .collect();
    let receipt = log.invalidate(&many, NOW).await;
    assert_eq!((receipt.sequence, receipt.scope), (Some(3), Scope::Fleet));
    let large = Selector::new(Target::Url("x".repeat(300_000)));
    assert_eq!(log.invalidate(&[large], NOW).await.sequence, Some(4));
    assert_eq!(
        log.invalidate(&[], NOW).await.sequence,
        Some(4),
        "nothing is no purge"
    );
}

/// Purges, each with the node that took it.
type Taken = Vec<(usize, Selector)>;

/// A step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Purge(usize, Selector),
    Begin(usize, usize),
    Away(bool),
    Replay(usize),
    Synchronise(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let target = prop::sample::select(vec![
        Target::Key("user:profile:0".into()),
        Target::Tag("t0".into()),
        Target::Tag("t1".into()),
        Target::Prefix("user:profile:1".into()),
        Target::Namespace("user".into()),
    ]);
    let step = prop_oneof![
        3 => (0..2_usize, target, any::<bool>()).prop_map(|(node, target, soft)| {
            let selector = Selector::new(target);
            Step::Purge(node, if soft { selector.soft() } else { selector })
        }),
        4 => (0..2_usize, 0..3_usize).prop_map(|(node, which)| Step::Begin(node, which)),
        1 => any::<bool>().prop_map(Step::Away),
        1 => (0..2_usize).prop_map(Step::Replay),
        2 => (0..2_usize).prop_map(Step::Synchronise),
    ];
    prop::collection::vec(step, 1..60)
}

fn names(selector: &Selector, which: usize) -> bool {
    match &selector.target {
        Target::Key(name) => *name == format!("user:profile:{which}"),
        Target::Tag(tag) => *tag == format!("t{which}"),
        Target::Prefix(prefix) => format!("user:profile:{which}").starts_with(prefix),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the order of purges, fetches, outages and replays: an object that a node
    /// fetched is never valid on that node after a purge that it acknowledged, nor on
    /// either node once both have caught up.
    #[test]
    fn nothing_purged_is_ever_served(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let fleet = Simulated::new();
            let nodes = [node(&fleet).await, node(&fleet).await];
            // Each with the node that fetched it, and the purges since.
            let mut objects: Vec<(usize, Object, Taken)> = Vec::new();
            for step in steps {
                match step {
                    Step::Begin(at, which) => {
                        let key = key(Some("a"), &["user", "profile", &which.to_string()]);
                        let tag = format!("t{which}");
                        let object = object(key, &[&tag], nodes[at].position());
                        objects.push((at, object, Vec::new()));
                    }
                    Step::Purge(at, selector) => {
                        nodes[at].invalidate(std::slice::from_ref(&selector), NOW).await;
                        for (_, object, since) in &mut objects {
                            let which = object.key.name().bytes().last().unwrap() - b'0';
                            if names(&selector, usize::from(which)) {
                                since.push((at, selector.clone()));
                            }
                        }
                    }
                    Step::Away(away) => fleet.go_away(away),
                    Step::Replay(at) => drop(nodes[at].replay(NOW).await),
                    Step::Synchronise(at) => drop(nodes[at].synchronise(NOW).await),
                }
                for (home, object, since) in &objects {
                    let acknowledged = since.iter().filter(|(at, _)| at == home);
                    check(&nodes[*home], object, acknowledged)?;
                }
            }
            fleet.go_away(false);
            for node in &nodes {
                node.replay(NOW).await.unwrap();
            }
            for (at, node) in nodes.iter().enumerate() {
                node.synchronise(NOW).await.unwrap();
                for (home, object, since) in &mut objects {
                    if at != *home {
                        // As it arrives by way of Redis.
                        let mut parts = object.to_parts();
                        parts.position.node = 0;
                        *object = Object::new(parts);
                    }
                    check(node, object, since.iter())?;
                }
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}

fn check<'a>(
    log: &Log,
    object: &Object,
    purges: impl Iterator<Item = &'a (usize, Selector)>,
) -> Result<(), TestCaseError> {
    let purges: Vec<_> = purges.collect();
    let verdict = log.verdict(object);
    if purges.iter().any(|(_, selector)| !selector.soft) {
        prop_assert_eq!(verdict, Verdict::Dead);
    } else if !purges.is_empty() {
        prop_assert_ne!(verdict, Verdict::Valid);
    }
    Ok(())
}
