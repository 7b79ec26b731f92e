//! Each rule that the promise rests on, broken once, is noticed.
//!
//! A test begins with a seed that shows its fault, so that it is quick. When the simulator
//! or the log has changed, other seeds show it; then the test searches, and takes longer:
//! `cargo run --release -p weir-simulator -- --broken NAME` finds one.

use weir_simulator::fault::Fault;
use weir_simulator::report;

/// After so many schedules a fault should have been noticed.
const ENOUGH: u64 = 30_000;

/// Random steps of a schedule.
const STEPS: u64 = 200;

fn is_noticed(fault: Fault, seed: u64) {
    let seeds = seed..seed + ENOUGH;
    let report = report::run(seeds, STEPS, Some(fault), 1, true, |_| {});
    let first = report.violations.first();
    assert!(
        first.is_some(),
        "{fault:?} in {} schedules: nothing",
        report.schedules
    );
    println!("after {} schedules: {first:?}", report.schedules);
}

macro_rules! noticed {
    ($($name:ident: $fault:ident, $seed:literal;)*) => {
        $(#[test]
        fn $name() {
            is_noticed(Fault::$fault, $seed);
        })*

        #[test]
        fn no_fault_is_left_out() {
            assert_eq!([$(Fault::$fault),*], Fault::ALL);
        }
    };
}

noticed! {
    a_fill_is_joined_across_a_purge: JoinAcrossPurge, 12;
    the_sequence_is_read_after_the_fetch: PositionAfterFetch, 12;
    a_late_304_makes_a_purged_object_new: LateRefresh, 210;
    a_failover_that_loses_the_tail_begins_no_new_epoch: LostTail, 73;
    a_redis_that_goes_back_to_an_old_epoch_begins_no_new_one: OldEpoch, 1_343;
    an_evicted_counter_leaves_no_floor: NoFloor, 40;
    a_prefix_is_taken_for_a_tag: PrefixIsTag, 8;
    a_replayed_journal_is_applied_twice: ReplayedTwice, 1;
    a_node_behind_on_the_stream_trusts_the_tier_in_redis: BehindTrustsRedis, 387;
    a_purge_is_answered_before_the_journal_has_it: AnswerBeforeDisk, 3_828;
    the_journal_is_gone_after_a_crash: JournalForgotten, 897;
    memory_is_trusted_without_word_from_redis: TrustedForEver, 1;
    word_from_redis_counts_from_when_it_came: ContactAtAnswer, 1_557;
    a_hard_purge_is_taken_for_a_soft_one: SoftForHard, 1;
    an_object_of_another_epoch_is_accepted: AnyEpoch, 11;
    entries_do_not_say_what_they_follow: NoChain, 9_766;
    a_fetch_counts_as_recent_from_when_its_response_came: TrustedFromResponse, 821;
    a_fill_is_joined_however_long_ago_it_began: JoinOldFill, 92;
    an_object_from_redis_counts_as_fetched_here: ForeignClock, 5_493;
}
