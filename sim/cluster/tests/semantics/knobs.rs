//! Rules that no source decides can turn out either way: with its knob turned, a flavour does what the other one does. What a
//! strike keeps from leaving (`Unsent`) is the host's, see `tests/driver/hooks.rs`.

use crate::harness::*;
use crate::parts::list_added_backwards;
use crate::replacing::written_meanwhile;
use crate::second_look::is_back_after_a_truncation;
use crate::waking::*;
use sim_cluster::core::{Flavor, Knob};
use sim_cluster::model::*;

/// A write at ALL while the connections to a killed node are being reset.
fn beside_a_killed_node(like: impl Behaviour) -> CoordinatorError {
    let mut c = Cluster::new(3, like);
    c.run_for(5 * S);
    c.kill(2);
    error(c.write(0, WriteKind::Single, Consistency::All, one(1, 1)))
}

#[test]
fn a_reset_is_a_failure_or_silence() {
    let told = beside_a_killed_node(Flavor::Scylla);
    assert!(matches!(told, CoordinatorError::WriteFailure { .. }), "{told}");
    for told in [
        beside_a_killed_node(Flavor::Cassandra),
        beside_a_killed_node(Knob::Resets),
    ] {
        assert!(matches!(told, CoordinatorError::WriteTimeout { .. }), "{told}");
    }
}

#[test]
fn batches_may_be_serial_or_not() {
    let is_written = |mut c: Cluster| {
        let answer = c.call(0, write_request(WriteKind::Unlogged, Consistency::Serial, batch(2, 1)));
        matches!(answer, Response::Done { .. })
    };
    assert!(!is_written(Cluster::new(3, Flavor::Scylla)));
    assert!(is_written(Cluster::new(3, Flavor::Cassandra)));
    assert!(is_written(Cluster::new(3, Knob::SerialBatches)));
}

#[test]
fn the_others_turn_what_their_flavours_are_seen_to_do() {
    assert_eq!(
        list_added_backwards(Knob::ListOrder),
        list_added_backwards(Flavor::Cassandra)
    );
    assert_eq!(
        written_meanwhile(Knob::ReplaceWrites),
        written_meanwhile(Flavor::Cassandra)
    );
    assert!(!is_back_after_a_truncation(Knob::PaxosTruncation));
    let told = serial_read_alone(Knob::SerialReads);
    assert!(matches!(told, CoordinatorError::ReadTimeout { .. }), "{told}");
    assert_eq!(lost_of_those_that_waited(Knob::LostRequests), 3);
    assert!((1..16).contains(&missed_answers(Knob::LostMessages)));
    assert!(taken_though_expired(Knob::ExpiredPass) >= 5);
}

#[test]
fn late_answers_count_or_do_not() {
    let refused = |like| {
        let (_, answers) = answered_on_waking(like, WriteKind::Single, 10);
        answers
            .iter()
            .filter(|answer| matches!(answer, Response::Error(_)))
            .count()
    };
    assert_eq!(refused(Knob::LateAnswers), 10);
    assert_eq!(refused(Knob::LostMessages), 0);
}

#[test]
fn rounds_that_waited_are_deaf_or_not() {
    assert!(deaf_rounds(Knob::DeafRounds) > 0);
    assert_eq!(deaf_rounds(Knob::LostMessages), 0);
}
