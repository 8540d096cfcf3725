//! A node that stood still and goes on: answers that came too late, requests and messages that waited in its sockets.
//! What is expected of Cassandra was counted on real nodes (`conformance/cases/frequencies.cassandra-5.0.5.json`).

use crate::harness::*;
use crate::paxos::serial_read;
use sim_cluster::core::Flavor;
use sim_cluster::model::*;

const STANDSTILL: u64 = 4 * S;

/// A batch of two partitions of its own.
fn pair(k: i64) -> WriteSet {
    let mut set = WriteSet::new();
    insert(&mut set, ROWS, 2 * k + 1, 0, 1, None);
    insert(&mut set, ROWS, 2 * k + 2, 0, 1, None);
    set
}

/// A cluster that is up for a while, and what a node answers to requests that it had begun when it fell asleep.
pub fn answered_on_waking(like: impl Behaviour, kind: WriteKind, requests: i64) -> (Cluster, Vec<Response>) {
    let mut c = Cluster::new(3, like);
    c.run_for(5 * S);
    let asked: Vec<u64> = (0..requests)
        .map(|k| {
            let writes = match kind {
                WriteKind::Logged => pair(k),
                _ => one(k, 1),
            };
            c.ask(0, write_request(kind, Consistency::Quorum, writes))
        })
        .collect();
    c.pause(0);
    c.run_for(STANDSTILL);
    c.resume(0);
    let answers = asked
        .into_iter()
        .map(|id| c.answer_within(id, S).expect("it is awake").1);
    let answers = answers.collect();
    (c, answers)
}

#[test]
fn answers_that_waited_too_long_are_one_too_few_for_cassandra() {
    let (mut c, answers) = answered_on_waking(Flavor::Cassandra, WriteKind::Single, 40);
    let mut told = [0; 2];
    for answer in answers {
        match answer {
            Response::Error(CoordinatorError::WriteTimeout {
                received, required: 2, ..
            }) if received < 2 => told[received as usize] += 1,
            other => panic!("its time was over: {other:?}"),
        }
    }
    assert!(
        told[0] > 0 && told[1] > 3 * told[0],
        "{told:?}: mostly one fewer than needed"
    );
    c.run_for(S);
    for k in 0..40 {
        assert_eq!(c.stored(1, k, 0).map(|v| v.0), Some(1), "and everybody has it");
    }
    let (_, answers) = answered_on_waking(Flavor::Scylla, WriteKind::Single, 5);
    assert!(
        answers.iter().all(|a| matches!(a, Response::Done { .. })),
        "{answers:?}"
    );
}

#[test]
fn a_batch_whose_batchlog_was_acknowledged_too_late_is_refused_and_comes_by_replay() {
    let (mut c, answers) = answered_on_waking(Flavor::Cassandra, WriteKind::Logged, 1);
    let late = |a: &Response| {
        matches!(
            a,
            Response::Error(CoordinatorError::WriteTimeout {
                consistency: Consistency::Two,
                write_type: WriteType::BatchLog,
                required: 2,
                ..
            })
        )
    };
    assert!(answers.iter().all(late), "{answers:?}");
    assert_eq!(c.stored(1, 1, 0), None);
    c.run_for(30 * S);
    assert_eq!(c.stored(1, 1, 0).map(|v| v.0), Some(1));
}

/// A node that wakes, and requests that reached it in its sleep.
fn asked_in_its_sleep(like: impl Behaviour, requests: i64, of: impl Fn(i64) -> Request) -> (Cluster, Vec<u64>) {
    let mut c = Cluster::new(3, like);
    c.run_for(5 * S);
    c.pause(0);
    c.run_for(STANDSTILL);
    let asked = (0..requests).map(|k| c.ask(0, of(k))).collect();
    c.resume(0);
    (c, asked)
}

/// LOGGED batches that reach a node in its sleep: how many of them never left it.
pub fn lost_of_those_that_waited(like: impl Behaviour) -> usize {
    let of = |k| write_request(WriteKind::Logged, Consistency::Quorum, pair(k));
    let (mut c, asked) = asked_in_its_sleep(like, 24, of);
    let answers: Vec<Response> = asked
        .into_iter()
        .map(|id| c.answer_within(id, 5 * S).expect("it is awake").1)
        .collect();
    c.run_for(60 * S);
    let mut lost = 0;
    for (k, answer) in answers.iter().enumerate() {
        let is_there = c.stored(1, 2 * k as i64 + 1, 0).is_some();
        let is_done = matches!(answer, Response::Done { .. });
        assert_eq!(is_there, is_done, "batch {k}: {answer:?}");
        lost += usize::from(!is_done);
    }
    lost
}

#[test]
fn some_batches_that_waited_in_the_sockets_of_a_cassandra_never_leave_it() {
    assert_eq!(lost_of_those_that_waited(Flavor::Cassandra), 3);
    assert_eq!(lost_of_those_that_waited(Flavor::Scylla), 0);
}

/// Of 400 writes at ALL that reach a node in its sleep, how many miss an answer of a replica although all of them have it.
pub fn missed_answers(like: impl Behaviour) -> usize {
    let of = |k| write_request(WriteKind::Single, Consistency::All, one(k, 1));
    let (mut c, asked) = asked_in_its_sleep(like, 400, of);
    let mut missed = 0;
    for (k, id) in asked.into_iter().enumerate() {
        match c.answer_within(id, 5 * S).expect("it is awake").1 {
            Response::Done { .. } => {}
            Response::Error(CoordinatorError::WriteTimeout {
                received: 2,
                required: 3,
                ..
            }) => missed += usize::from((0..3).all(|n| c.stored(n, k as i64, 0).is_some())),
            other => panic!("{like:?}: {other:?}"),
        }
    }
    missed
}

#[test]
fn few_messages_are_lost_around_a_cassandra_that_wakes() {
    // Two acknowledgements each, of which one in 150 is lost.
    assert!((1..16).contains(&missed_answers(Flavor::Cassandra)));
    assert_eq!(missed_answers(Flavor::Scylla), 0);
}

/// Of 200 serial reads that reach a node in its sleep, how many hear no answer to what they propose.
pub fn deaf_rounds(like: impl Behaviour) -> usize {
    let (mut c, asked) = asked_in_its_sleep(like, 200, serial_read);
    let is_deaf = |answer: Response| match answer {
        Response::Rows(_) => false,
        Response::Error(CoordinatorError::ReadTimeout { .. } | CoordinatorError::CasTimeout { .. }) => true,
        other => panic!("{like:?}: {other:?}"),
    };
    let answers = asked
        .into_iter()
        .map(|id| c.answer_within(id, 10 * S).expect("awake").1);
    answers.filter(|a| is_deaf(a.clone())).count()
}

#[test]
fn rounds_that_waited_behind_others_may_hear_no_answer() {
    // One in 16 behind the first 32, and three that never leave.
    assert!((5..30).contains(&deaf_rounds(Flavor::Cassandra)));
    assert_eq!(deaf_rounds(Flavor::Scylla), 0);
}

#[test]
fn a_hint_that_waited_in_the_socket_of_a_sleeping_node_is_sent_again() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.run_for(5 * S);
    c.pause(2);
    // Nobody misses it yet, so hints are sent to it, and expire there.
    c.ok(0, WriteKind::Single, Consistency::Quorum, one(1, 1));
    c.run_for(15 * S);
    c.resume(2);
    assert_eq!(
        c.stored(2, 1, 0),
        None,
        "neither the write nor its hint counts any more"
    );
    c.run_for(30 * S);
    assert_eq!(c.stored(2, 1, 0).map(|v| v.0), Some(1));
}

/// What a serial read is told whose coordinator hears nobody.
pub fn serial_read_alone(like: impl Behaviour) -> CoordinatorError {
    let mut c = Cluster::new(3, like);
    c.run_for(5 * S);
    c.pause(1);
    c.pause(2);
    error(c.call(0, serial_read(1)))
}

#[test]
fn a_serial_read_whose_round_times_out_is_a_read_that_timed_out() {
    let told = serial_read_alone(Flavor::Cassandra);
    assert!(
        matches!(
            told,
            CoordinatorError::ReadTimeout {
                received: 0,
                required: 2,
                data_present: false,
                ..
            }
        ),
        "{told}"
    );
    let told = serial_read_alone(Flavor::Scylla);
    assert!(
        matches!(
            told,
            CoordinatorError::CasTimeout {
                received: 1,
                required: 2,
                ..
            }
        ),
        "{told}"
    );
}

/// Of 200 writes that expired in the sockets of a frozen node, how many it takes when it goes on.
pub fn taken_though_expired(like: impl Behaviour) -> usize {
    let mut c = Cluster::new(3, like);
    c.run_for(5 * S);
    c.pause(2);
    for k in 0..200 {
        c.ok(0, WriteKind::Single, Consistency::Quorum, one(k, 1));
    }
    c.run_for(STANDSTILL);
    c.resume(2);
    (0..200).filter(|k| c.stored(2, *k, 0).is_some()).count()
}

#[test]
fn some_messages_that_expired_in_a_socket_are_taken_all_the_same_by_cassandra() {
    assert!((5..=45).contains(&taken_though_expired(Flavor::Cassandra)));
    assert_eq!(taken_though_expired(Flavor::Scylla), 0);
}

#[test]
fn cassandra_now_and_then_asks_a_frozen_node_for_the_data_and_no_third_one() {
    for (flavor, expected, elsewhere) in [(Flavor::Cassandra, 4..=60, 1..=20), (Flavor::Scylla, 0..=0, 0..=0)] {
        let mut c = Cluster::new(3, flavor);
        c.run_for(5 * S);
        c.ok(0, WriteKind::Single, Consistency::All, one(1, 1));
        c.pause(2);
        let asked: Vec<u64> = (0..400).map(|_| c.ask(0, quorum_read())).collect();
        let (mut without_data, mut without_digest) = (0, 0);
        for id in asked {
            match c.answer_within(id, 10 * S).expect("answered").1 {
                Response::Rows(_) => {}
                Response::Error(CoordinatorError::ReadTimeout {
                    received: 1,
                    required: 2,
                    data_present: false,
                    ..
                }) => without_data += 1,
                // It asked the two others only, and the one that is not frozen for the data.
                Response::Error(CoordinatorError::ReadTimeout {
                    received: 1,
                    required: 2,
                    data_present: true,
                    ..
                }) => without_digest += 1,
                other => panic!("{flavor:?}: {other:?}"),
            }
        }
        assert!(expected.contains(&without_data), "{flavor:?}: {without_data} of 400");
        assert!(
            elsewhere.contains(&without_digest),
            "{flavor:?}: {without_digest} of 400"
        );
    }
}
