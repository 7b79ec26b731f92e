use proptest::prelude::*;

use super::*;
use crate::decision::Pass;
use crate::globs::Globs;
use crate::reads::Read;
use crate::request::tests::head;

fn pass(reason: &str) -> Decision {
    Decision::Pass(Pass {
        reason: reason.to_owned(),
        note: bytes::Bytes::new(),
    })
}

/// Plays a policy that reads these inputs, in order, on one instance.
fn played(request: &RequestHead, inputs: &[ReadInput]) -> Reads {
    Reads {
        list: inputs
            .iter()
            .map(|input| Read {
                input: input.clone(),
                answer: input.answer(request),
            })
            .collect(),
        impure: false,
    }
}

fn header(name: &str) -> ReadInput {
    ReadInput::Header(name.into())
}

/// Samples are asked again at random, so a few tries are needed to see what is known.
fn known(memo: &Memo, request: &RequestHead) -> Option<Decision> {
    (0..20).find_map(|_| memo.serve(request, Decision::clone))
}

#[test]
fn a_leaf_serves_once_two_instances_agreed() {
    let memo = Memo::default();
    let request = head("/a", &[("x-plan", "gold")]);
    let reads = played(&request, &[ReadInput::Method, header("x-plan")]);
    assert_eq!(memo.recall(&request), Recall::Ask { but_not: 0 });
    memo.learn(&reads, &pass("gold"), 1);
    assert_eq!(memo.recall(&request), Recall::Ask { but_not: 1 });
    memo.learn(&reads, &pass("gold"), 1);
    assert_eq!(
        known(&memo, &request),
        None,
        "one instance does not agree with itself"
    );
    memo.learn(&reads, &pass("gold"), 2);
    assert_eq!(known(&memo, &request), Some(pass("gold")));
    let other = head("/a", &[("x-plan", "free")]);
    assert_eq!(
        known(&memo, &other),
        None,
        "another answer is another branch"
    );
}

#[test]
fn each_memo_gives_its_own_whoever_was_asked_before_or_asks_meanwhile() {
    let request = head("/a", &[]);
    let reads = played(&request, &[]);
    // Some share a place among the trees at hand.
    let memos: Vec<_> = (0..2 * AT_HAND)
        .map(|number| (pass(&number.to_string()), Memo::default()))
        .collect();
    for (own, memo) in &memos {
        memo.learn(&reads, own, 1);
        memo.learn(&reads, own, 2);
    }
    for _ in 0..3 {
        for (own, memo) in &memos {
            assert_eq!(memo.recall(&request), Recall::Known(own.clone()));
            let all = memo.find(&request, |_| {
                let known = memos.iter().map(|(_, other)| other.recall(&request));
                known.collect::<Vec<_>>()
            });
            let owns = memos.iter().map(|(own, _)| Recall::Known(own.clone()));
            assert_eq!(all, owns.collect::<Vec<_>>());
        }
    }
    let (_, memo) = &memos[0];
    memo.turn_off();
    assert_eq!(memo.recall(&request), Recall::Ask { but_not: 0 });
}

#[test]
fn what_is_not_read_makes_no_branch() {
    let memo = Memo::default();
    for instance in [1, 2] {
        let request = head("/first?x=1", &[("user-agent", "a")]);
        memo.learn(
            &played(&request, &[ReadInput::Method]),
            &pass("all"),
            instance,
        );
    }
    for path in ["/second", "/third?y=2"] {
        assert_eq!(
            known(&memo, &head(path, &[("user-agent", "b")])),
            Some(pass("all"))
        );
    }
}

#[test]
fn another_decision_on_the_same_reads_switches_it_off() {
    let memo = Memo::default();
    let request = head("/a", &[]);
    let reads = played(&request, &[ReadInput::Path]);
    memo.learn(&reads, &pass("one"), 1);
    memo.learn(&reads, &pass("one"), 2);
    assert!(
        memo.learn(&reads, &pass("two"), 3),
        "hidden state was found"
    );
    assert!(memo.is_off());
    assert_eq!(known(&memo, &request), None);
    assert!(!memo.learn(&reads, &pass("one"), 4), "off is told once");
}

#[test]
fn reads_that_depart_from_the_tree_switch_it_off() {
    let request = head("/a", &[]);
    let reads = |inputs: &[ReadInput]| played(&request, inputs);
    for departed in [
        reads(&[]),
        reads(&[ReadInput::Method]),
        reads(&[ReadInput::Path, ReadInput::Host, ReadInput::Client]),
        reads(&[ReadInput::Path, ReadInput::Scheme]),
    ] {
        let memo = Memo::default();
        memo.learn(&reads(&[ReadInput::Path, ReadInput::Host]), &pass("x"), 1);
        assert!(memo.learn(&departed, &pass("x"), 2), "{departed:?}");
    }
}

#[test]
fn a_call_that_touched_a_capability_is_not_remembered() {
    let memo = Memo::default();
    let request = head("/a", &[]);
    let mut reads = played(&request, &[ReadInput::Path]);
    reads.impure = true;
    for instance in [1, 2, 3] {
        assert!(!memo.learn(&reads, &pass("limited"), instance));
    }
    assert_eq!(known(&memo, &request), None);
}

#[test]
fn a_pure_leaf_and_a_capability_on_the_same_reads_contradict() {
    let memo = Memo::default();
    let request = head("/a", &[]);
    let mut reads = played(&request, &[ReadInput::Path]);
    memo.learn(&reads, &pass("x"), 1);
    reads.impure = true;
    assert!(memo.learn(&reads, &pass("x"), 2));
}

#[test]
fn a_sample_of_what_is_known_is_asked_again() {
    let memo = Memo::default();
    let request = head("/a", &[]);
    let reads = played(&request, &[]);
    memo.learn(&reads, &pass("x"), 1);
    memo.learn(&reads, &pass("x"), 2);
    fastrand::seed(7);
    let rounds = SAMPLE * 40;
    let asked = (0..rounds)
        .filter(|_| {
            let asked = memo.serve(&request, Decision::clone).is_none();
            memo.sample_after.store(0, Ordering::Relaxed);
            asked
        })
        .count();
    assert!(
        (1..rounds as usize / 10).contains(&asked),
        "{asked} of {rounds}"
    );
}

#[test]
fn samples_take_a_small_share_of_the_time_however_slow_the_policy_is() {
    let (memo, ms) = (Memo::default(), Duration::from_millis);
    assert!(memo.may_sample(memo.began));
    assert!(!memo.may_sample(memo.began), "one is under way");
    let took = ms(3);
    memo.sampled(memo.began + took, took);
    let again = took + took * SAMPLE_SHARE;
    assert!(!memo.may_sample(memo.began + again - ms(1)));
    assert!(memo.may_sample(memo.began + again));
    // After a fast one too, it takes a while.
    let now = memo.began + again;
    memo.sampled(now, Duration::from_micros(1));
    assert!(!memo.may_sample(now + SAMPLE_PAUSE - ms(1)));
    let again = again + SAMPLE_PAUSE;
    assert!(memo.may_sample(memo.began + again));
    // This one never ends.
    assert!(memo.may_sample(memo.began + again + SAMPLE_PATIENCE));
}

/// A memo with a policy that reads the path.
struct Paths {
    memo: Memo,
    now: Instant,
}

impl Paths {
    fn new() -> Self {
        let memo = Memo::default();
        let now = memo.began;
        Self { memo, now }
    }

    /// Is it remembered? If not, the policy is called, and remembers it the second time.
    fn ask(&self, path: &str) -> bool {
        let request = head(path, &[]);
        if self.memo.recall(&request) == Recall::Known(pass(path)) {
            return true;
        }
        let reads = played(&request, &[ReadInput::Path]);
        for by in [1, 2] {
            if self.memo.tree.load().compare(&reads, &pass(path), by) == Lesson::New {
                self.memo.add(&reads, &pass(path), by, self.now);
            }
        }
        false
    }

    fn flood(&self, name: &str) {
        for n in 0..2 * tree::MAX_NODES {
            self.ask(&format!("/random/{name}/{n}"));
        }
        assert!(self.memo.writer.lock().size.nodes <= tree::MAX_NODES);
    }
}

#[test]
fn random_requests_drive_out_nothing_that_is_in_use() {
    let mut paths = Paths::new();
    paths.ask("/wanted");
    paths.ask("/forgotten");
    for round in 0..5 {
        assert!(paths.ask("/wanted"), "in round {round}");
        paths.flood(&round.to_string());
        paths.now += SWEEP_EVERY;
    }
    assert!(paths.ask("/wanted"));
    assert!(!paths.ask("/forgotten"), "nobody asked for it");
}

#[test]
fn a_full_tree_makes_room_for_what_comes_into_use_but_not_all_the_time() {
    let mut paths = Paths::new();
    paths.flood("first");
    assert!(!paths.ask("/new"));
    assert!(!paths.ask("/new"), "it is full");
    paths.now += SWEEP_EVERY;
    assert!(!paths.ask("/new"));
    assert!(paths.ask("/new"), "it was swept");
    paths.flood("second");
    assert!(!paths.ask("/newer"));
    assert!(!paths.ask("/newer"), "it was swept a moment ago");
    assert!(paths.ask("/new"));
}

#[test]
fn long_answers_fill_a_tree_by_their_bytes_and_drive_out_nothing_that_is_in_use() {
    const LENGTH: usize = 4 * 1024;
    let mut paths = Paths::new();
    paths.ask("/wanted");
    for round in 0..3 {
        assert!(paths.ask("/wanted"), "in round {round}");
        // Fewer than there are nodes, and twice as long as there is room for.
        let all = (0..2 * tree::MAX_BYTES / LENGTH).map(|n| format!("/{round}/{n:0>LENGTH$}"));
        let all: Vec<String> = all.collect();
        for path in &all {
            let reads = played(&head(path, &[]), &[ReadInput::Path]);
            for by in [1, 2] {
                paths.memo.add(&reads, &pass("x"), by, paths.now);
            }
        }
        let size = paths.memo.writer.lock().size;
        assert!(size.bytes <= tree::MAX_BYTES, "{size:?}");
        assert!(size.nodes < tree::MAX_NODES / 2, "{size:?}");
        let tree = paths.memo.tree.load();
        let kept = all
            .iter()
            .filter(|path| tree.find(&head(path, &[]), |_| ()).is_some());
        let kept = kept.count() * LENGTH;
        assert!(
            (tree::MAX_BYTES / 2..=tree::MAX_BYTES).contains(&kept),
            "{kept} bytes are held"
        );
        paths.now += SWEEP_EVERY;
    }
    assert!(paths.ask("/wanted"));
    assert!(!paths.ask("/new"));
    assert!(paths.ask("/new"), "it was swept");
    assert!(paths.ask("/wanted"));
}

#[test]
fn the_bytes_of_decisions_count_as_those_of_answers_do() {
    let memo = Memo::default();
    let long = pass(&"x".repeat(tree::MAX_DECISION));
    for n in 0..2 * tree::MAX_BYTES / tree::MAX_DECISION {
        let reads = played(&head(&format!("/{n}"), &[]), &[ReadInput::Path]);
        memo.learn(&reads, &long, 1);
    }
    let size = memo.writer.lock().size;
    assert!(size.bytes <= tree::MAX_BYTES, "{size:?}");
    // A branch for the path, and a leaf for each.
    let most = tree::MAX_BYTES / tree::MAX_DECISION + 1;
    assert!((most / 2..=most).contains(&size.nodes), "{size:?}");
}

#[test]
fn a_decision_that_is_too_large_is_not_remembered_and_drives_nothing_out() {
    let mut paths = Paths::new();
    paths.ask("/unasked");
    paths.now += SWEEP_EVERY;
    for (length, remembered) in [
        (tree::MAX_DECISION, true),
        (tree::MAX_DECISION + 1, false),
        (2 * tree::MAX_BYTES, false),
    ] {
        let request = head(&format!("/{length}"), &[]);
        let reads = played(&request, &[ReadInput::Path]);
        let decision = pass(&"x".repeat(length));
        for by in [1, 2] {
            paths.memo.add(&reads, &decision, by, paths.now);
        }
        let recalled = paths.memo.recall(&request);
        assert_eq!(
            recalled == Recall::Known(decision),
            remembered,
            "{length} bytes"
        );
    }
    assert!(paths.ask("/unasked"), "there was no need of a sweep");
}

#[test]
fn a_sweep_counts_what_it_keeps() {
    let paths = Paths::new();
    let kept = Paths::new();
    for n in 0..300 {
        let path = format!("/{n}");
        paths.ask(&path);
        if n % 3 == 0 {
            assert!(paths.ask(&path));
            kept.ask(&path);
        }
    }
    for n in 0..300 {
        assert!(paths.ask(&format!("/{n}")));
    }
    let (tree, size) = paths.memo.tree.load().swept();
    assert_eq!(size, paths.memo.writer.lock().size, "all are in use");
    let (_, none) = tree.swept();
    assert_eq!(none, Size::default(), "nobody asked since");
    for n in (0..300).step_by(3) {
        let request = head(&format!("/{n}"), &[]);
        tree.find(&request, |_| ()).unwrap().touch();
    }
    assert_eq!(tree.swept().1, kept.memo.writer.lock().size);
}

#[test]
fn many_read_while_one_adds_and_sweeps() {
    let mut paths = Paths::new();
    paths.ask("/wanted");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let request = head("/wanted", &[]);
                while !ended.load(Ordering::Relaxed) {
                    assert_eq!(paths.memo.recall(&request), Recall::Known(pass("/wanted")));
                }
            });
        }
        for round in 0_u32..4 {
            let now = paths.memo.began + SWEEP_EVERY * round;
            // The threads may not have run since the last sweep.
            assert!(paths.ask("/wanted"));
            for n in 0..tree::MAX_NODES {
                let path = format!("/random/{round}/{n}");
                let reads = played(&head(&path, &[]), &[ReadInput::Path]);
                paths.memo.add(&reads, &pass(&path), 1, now);
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    paths.now += SWEEP_EVERY;
    assert!(paths.ask("/wanted"));
}

/// Requests that differ in all to which there are few answers.
fn few_answers() -> (Vec<ReadInput>, Vec<RequestHead>) {
    let list = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    let many: Vec<String> = ('a'..='z')
        .flat_map(|a| [format!("{a}a"), format!("{a}b")])
        .collect();
    let inputs = vec![
        ReadInput::PathMatches(Globs::compile(&["/a*"]).unwrap()),
        ReadInput::HasParam("id".into()),
        ReadInput::HasParam("no".into()),
        ReadInput::Language(list(&["de", "DE", "fr", "de"]).into()),
        ReadInput::Device,
        // Around the most that have a place each, far more, and none.
        ReadInput::Language(many[..32].into()),
        ReadInput::Language(many[..33].into()),
        ReadInput::Language(many.into()),
        ReadInput::Language(list(&["fr"]).into()),
        ReadInput::Language(list(&[]).into()),
    ];
    let mut requests = Vec::new();
    for path in ["/a", "/b"] {
        for language in ["de", "fr", "da, fr", "zb"] {
            for agent in ["Mozilla", "x Mobile", "iPad", "Googlebot/2"] {
                let headers = [("accept-language", language), ("user-agent", agent)];
                requests.push(head(path, &headers));
            }
        }
    }
    (inputs, requests)
}

#[test]
fn what_has_few_answers_is_told_apart_as_all_else_is() {
    let (inputs, requests) = few_answers();
    let memo = Memo::default();
    let decided = |request: &RequestHead| {
        let reads = played(request, &inputs);
        let decision = pass(&format!("{:?}", reads.list));
        (reads, decision)
    };
    for by in [1, 2] {
        for request in &requests {
            assert_eq!(memo.recall(request), Recall::Ask { but_not: by - 1 });
            let (reads, decision) = decided(request);
            assert!(!memo.learn(&reads, &decision, by));
        }
    }
    for request in &requests {
        assert_eq!(memo.recall(request), Recall::Known(decided(request).1));
        assert_eq!(memo.inputs(request), inputs);
    }
    let (kept, size) = memo.tree.load().swept();
    assert_eq!(size, memo.writer.lock().size, "all are in use");
    for request in requests.iter().step_by(3) {
        kept.find(request, |_| ()).unwrap().touch();
    }
    let (kept, _) = kept.swept();
    for (at, request) in requests.iter().enumerate() {
        let leaf = kept.find(request, |_| ()).map(|leaf| leaf.decision.clone());
        assert_eq!(leaf, (at % 3 == 0).then(|| decided(request).1));
    }
    assert_eq!(kept.swept().1, Size::default(), "nobody asked since");
    // What departs from it is found out as elsewhere.
    let (mut reads, decision) = decided(&requests[0]);
    reads.list[2].input = ReadInput::Device;
    assert!(memo.learn(&reads, &decision, 3));
}

proptest! {
    /// Whatever a pure policy reads, what is recalled is what it would decide.
    #[test]
    fn recalls_what_the_policy_would_decide(
        requests in prop::collection::vec(("[ab]", "[xyz]", "[01]"), 1..60),
    ) {
        // Reads the header b only when a says so.
        let policy = |request: &RequestHead| {
            let reads: Vec<_> = match request.header("a").next() {
                Some(b"a") => vec![header("a"), header("b")],
                _ => vec![header("a"), header("c"), ReadInput::Method],
            };
            let reads = played(request, &reads);
            let decision = pass(&format!("{:?}", reads.list));
            (reads, decision)
        };
        let memo = Memo::default();
        for (instance, (a, b, c)) in requests.iter().enumerate() {
            let request = head("/", &[("a", a), ("b", b), ("c", c)]);
            let (reads, decision) = policy(&request);
            if let Recall::Known(recalled) = memo.recall(&request) {
                prop_assert_eq!(&recalled, &decision);
            }
            prop_assert!(!memo.learn(&reads, &decision, instance as u64 + 1));
        }
    }
}
