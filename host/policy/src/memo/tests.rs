use proptest::prelude::*;

use super::*;
use crate::decision::Pass;
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
    (0..20).find_map(|_| memo.serve(request))
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
        .filter(|_| memo.serve(&request).is_none())
        .count();
    assert!(
        (1..rounds as usize / 10).contains(&asked),
        "{asked} of {rounds}"
    );
}

#[test]
fn random_requests_fill_it_up_and_drive_nothing_out() {
    let memo = Memo::default();
    let learn = |path: &str| {
        let request = head(path, &[]);
        let reads = played(&request, &[ReadInput::Path]);
        memo.learn(&reads, &pass(path), 1);
        memo.learn(&reads, &pass(path), 2);
    };
    learn("/wanted");
    for n in 0..2 * MAX_NODES {
        learn(&format!("/random/{n}"));
    }
    assert!(memo.tree.read().nodes.len() <= MAX_NODES);
    assert_eq!(known(&memo, &head("/wanted", &[])), Some(pass("/wanted")));
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
