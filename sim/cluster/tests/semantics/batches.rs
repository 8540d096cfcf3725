//! LOGGED and UNLOGGED batches: every prefix of a batch whose coordinator dies, and what the flavours do when holders
//! are silent or gone. Counts and types are those seen on a real Cassandra, or read from ScyllaDB's source.

use crate::harness::*;
use sim_cluster::core::{Boundary, Event, Flavor, Point, Verdict};
use sim_cluster::model::*;

const N: i64 = 4;

/// Kills the coordinator (node 0) at one point of its first batch.
fn killed_at(flavor: Flavor, kind: WriteKind, point: Point) -> Cluster {
    let mut c = Cluster::new(3, flavor);
    let mut done = false;
    c.hook = Some(Box::new(move |b: &Boundary<'_>| {
        if b.point == point && !std::mem::replace(&mut done, true) {
            Verdict::KillNode
        } else {
            Verdict::Continue
        }
    }));
    let id = c.ask(0, write_request(kind, Consistency::Quorum, batch(N, 1)));
    c.run_for(S);
    assert!(!c.replies.contains_key(&id), "a dead coordinator answers nothing");
    c
}

/// Which mutations of the batch a node has, in the order in which they leave.
fn applied_on(c: &Cluster, node: u8) -> Vec<bool> {
    let leaving = leaving(N).into_iter();
    leaving.map(|p| c.stored(node, p, 0).is_some()).collect()
}

#[test]
fn every_prefix_of_a_logged_batch_rolls_forward_once_the_batchlog_has_it() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut points = vec![Point::RequestArrived, Point::BatchlogWritten];
        points.extend((0..=N as u16).map(|k| Point::MutationsSent { k, of: N as u16 }));
        points.push(Point::ResponseLeaving);
        for point in points {
            let mut c = killed_at(flavor, WriteKind::Logged, point);
            let sent = match point {
                Point::RequestArrived | Point::BatchlogWritten => 0,
                Point::MutationsSent { k, .. } => usize::from(k),
                Point::ResponseLeaving => N as usize,
            };
            let before: Vec<bool> = (0..N as usize).map(|i| i < sent).collect();
            for survivor in [1, 2] {
                assert_eq!(
                    applied_on(&c, survivor),
                    before,
                    "{flavor:?} {point:?}: what was sent, and no more"
                );
            }
            // First replay 30 s after start; the coordinator is convicted by then.
            c.run_until(100 * S);
            let all = point != Point::RequestArrived;
            for survivor in [1, 2] {
                assert_eq!(
                    applied_on(&c, survivor),
                    [all; N as usize],
                    "{flavor:?} {point:?} after replay"
                );
            }
            assert_eq!(c.kept_batches(), 0, "{flavor:?} {point:?}");
        }
    }
}

#[test]
fn a_prefix_of_an_unlogged_batch_stays_a_prefix_for_ever() {
    for k in 0..=N as u16 {
        let mut c = killed_at(
            Flavor::Cassandra,
            WriteKind::Unlogged,
            Point::MutationsSent { k, of: N as u16 },
        );
        c.run_until(300 * S);
        let prefix: Vec<bool> = (0..N as u16).map(|i| i < k).collect();
        assert_eq!(applied_on(&c, 1), prefix);
        assert_eq!(c.saw(|e| matches!(e, Event::BatchKept { .. })), 0);
    }
}

#[test]
fn one_mutation_needs_no_batchlog_and_the_flavours_count_mutations_differently() {
    for (flavor, kept) in [(Flavor::Scylla, 2), (Flavor::Cassandra, 0)] {
        let mut c = Cluster::new(3, flavor);
        let mut set = WriteSet::new();
        insert(&mut set, ROWS, 1, 0, 5, None);
        insert(&mut set, ROWS, 1, 1, 6, None);
        c.ok(0, WriteKind::Logged, Consistency::Quorum, set.clone());
        assert_eq!(
            c.saw(|e| matches!(e, Event::BatchKept { .. })),
            0,
            "{flavor:?}: one table, one partition"
        );
        insert(&mut set, OTHER, 1, 0, 7, None);
        c.ok(0, WriteKind::Logged, Consistency::Quorum, set);
        assert_eq!(
            c.saw(|e| matches!(e, Event::BatchKept { .. })),
            kept,
            "{flavor:?}: one key, two tables"
        );
    }
}

#[test]
fn one_frozen_holder_stops_cassandras_logged_batches_and_replay_applies_them() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.run_for(S);
    c.pause(2);
    let started = c.now;
    let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
    let (at, answer) = c.answer_within(id, 10 * S).unwrap();
    assert_eq!(at - started, 2 * S);
    let expected = CoordinatorError::WriteTimeout {
        consistency: Consistency::Two,
        received: 1,
        required: 2,
        write_type: WriteType::BatchLog,
    };
    assert_eq!(error(answer), expected);
    // Everything that is not a LOGGED batch goes on.
    c.ok(0, WriteKind::Single, Consistency::Quorum, one(50, 1));
    c.ok(0, WriteKind::Unlogged, Consistency::Quorum, batch(2, 1));
    let two: Vec<bool> = leaving(N).into_iter().map(|p| p <= 2).collect();
    assert_eq!(applied_on(&c, 1), two);
    c.run_until(45 * S);
    assert_eq!(applied_on(&c, 1), [true; N as usize], "applied in full by replay");
}

#[test]
fn one_frozen_holder_does_not_stop_scyllas_logged_batches() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.pause(2);
    c.ok(0, WriteKind::Logged, Consistency::Quorum, batch(N, 1));
    assert_eq!(applied_on(&c, 1), [true; N as usize]);
}

#[test]
fn two_frozen_holders_give_none_of_two_in_cassandra_and_none_of_one_in_scylla() {
    for (flavor, consistency, required) in [
        (Flavor::Cassandra, Consistency::Two, 2),
        (Flavor::Scylla, Consistency::One, 1),
    ] {
        let mut c = Cluster::new(3, flavor);
        c.pause(1);
        c.pause(2);
        let e = error(c.write(0, WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
        assert_eq!(
            e,
            CoordinatorError::WriteTimeout {
                consistency,
                received: 0,
                required,
                write_type: WriteType::BatchLog
            }
        );
        // The request to keep the batch expired in the holders' queues: resumed late, they drop it.
        c.run_for(S);
        c.resume(1);
        c.resume(2);
        c.run_until(200 * S);
        assert_eq!(applied_on(&c, 1), [false; N as usize], "{flavor:?}: never applied");
    }
}

#[test]
fn holders_resumed_before_the_message_expires_keep_the_batch_and_replay_it() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.run_for(S);
    c.pause(1);
    c.pause(2);
    let id = c.ask(0, write_request(WriteKind::Logged, Consistency::All, batch(N, 1)));
    c.run_for(1_999 * MS);
    c.resume(1);
    let (_, r) = c.answer_within(id, 5 * S).unwrap();
    assert!(matches!(
        error(r),
        CoordinatorError::WriteTimeout {
            received: 1,
            required: 2,
            write_type: WriteType::BatchLog,
            ..
        }
    ));
    c.resume(2);
    c.run_until(100 * S);
    assert_eq!(applied_on(&c, 0), [true; N as usize]);
}

#[test]
fn convicted_holders_lower_what_is_waited_for_until_none_is_left() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.kill(2);
    c.run_until(25 * S);
    c.ok(0, WriteKind::Logged, Consistency::Quorum, batch(N, 1));
    c.pause(1);
    let e = error(c.write(0, WriteKind::Logged, Consistency::One, batch(N, 2)));
    let batchlog = WriteType::BatchLog;
    assert_eq!(
        e,
        CoordinatorError::WriteTimeout {
            consistency: Consistency::One,
            received: 0,
            required: 1,
            write_type: batchlog
        }
    );
    c.run_until(60 * S);
    let e = error(c.write(0, WriteKind::Logged, Consistency::One, batch(N, 2)));
    assert_eq!(
        e,
        CoordinatorError::Unavailable {
            consistency: Consistency::Two,
            required: 2,
            alive: 0,
            batchlog: true
        }
    );

    let mut c = Cluster::new(3, Flavor::Scylla);
    c.kill(1);
    c.kill(2);
    c.run_until(25 * S);
    let e = error(c.write(0, WriteKind::Logged, Consistency::One, batch(N, 2)));
    assert_eq!(
        e,
        CoordinatorError::Unavailable {
            consistency: Consistency::One,
            required: 1,
            alive: 0,
            batchlog: true
        }
    );
    // At ANY the coordinator keeps the batch itself.
    c.ok(0, WriteKind::Logged, Consistency::Any, batch(N, 2));
}

#[test]
fn unavailable_for_the_mutations_own_level_leaves_no_trace() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        c.kill(2);
        c.run_until(25 * S);
        let e = error(c.write(0, WriteKind::Logged, Consistency::All, batch(N, 1)));
        assert_eq!(
            e,
            CoordinatorError::Unavailable {
                consistency: Consistency::All,
                required: 3,
                alive: 2,
                batchlog: false
            }
        );
        c.run_until(200 * S);
        assert_eq!(applied_on(&c, 0), [false; N as usize]);
        assert_eq!(c.saw(|e| matches!(e, Event::BatchKept { .. })), 0);
    }
}

#[test]
fn a_timeout_of_the_mutations_says_batch_and_is_applied_in_full_with_its_original_timestamp() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        c.run_for(S);
        // Mutations to the peers are lost, everything else passes.
        c.route = Box::new(|_, to, msg| if is_mutate(msg) && to.0 != 0 { None } else { Some(300) });
        let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
        let (_, r) = c.answer_within(id, 5 * S).unwrap();
        let write_type = WriteType::Batch;
        let expected = CoordinatorError::WriteTimeout {
            consistency: Consistency::Quorum,
            received: 1,
            required: 2,
            write_type,
        };
        assert_eq!(error(r), expected);
        let original = c.stored(0, 1, 0).unwrap().1;
        assert_eq!(applied_on(&c, 1), [false; N as usize]);
        c.route = healthy();
        // A newer write of another row's value must not be clobbered by the replay.
        c.ok(1, WriteKind::Single, Consistency::Quorum, one(2, 99));
        c.run_until(100 * S);
        for n in 0..3 {
            assert_eq!(c.stored(n, 1, 0), Some((1, original)), "{flavor:?}");
            assert_eq!(c.stored(n, 2, 0).unwrap().0, 99, "{flavor:?}");
        }
    }
}

#[test]
fn sizes_are_checked_as_each_flavour_computes_them() {
    // Cassandra counts 70 bytes for a partition with one row of one cell, values and clustering apart: here 70 + 8 + 8.
    let mut c = Cluster::new(3, Flavor::Cassandra);
    let warnings = |r: Response| match r {
        Response::Done { warnings } => warnings,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        warnings(c.write(0, WriteKind::Logged, Consistency::Quorum, batch(59, 1))),
        []
    );
    let w = warnings(c.write(0, WriteKind::Logged, Consistency::Quorum, batch(60, 1)));
    assert_eq!(
        w,
        [Warning::BatchSize {
            size_bytes: 60 * 86,
            threshold_bytes: 5120,
            tables: vec![ROWS]
        }]
    );
    let w = warnings(c.write(0, WriteKind::Unlogged, Consistency::Quorum, batch(11, 1)));
    assert_eq!(
        w,
        [Warning::UnloggedPartitions {
            partitions: 11,
            tables: vec![ROWS]
        }]
    );
    let e = error(c.write(0, WriteKind::Unlogged, Consistency::Quorum, batch(596, 1)));
    assert_eq!(
        e,
        CoordinatorError::BatchTooLarge {
            size_bytes: 596 * 86,
            threshold_bytes: 51_200
        }
    );

    let mut c = Cluster::new(3, Flavor::Scylla);
    assert_eq!(
        warnings(c.write(0, WriteKind::Logged, Consistency::Quorum, batch(2000, 1))),
        [],
        "ScyllaDB only logs"
    );
    let e = error(c.write(0, WriteKind::Logged, Consistency::Quorum, batch(20_000, 1)));
    assert!(matches!(
        e,
        CoordinatorError::BatchTooLarge {
            threshold_bytes: 1_048_576,
            ..
        }
    ));
}

#[test]
fn an_empty_batch_is_fine_and_65535_statements_are_too() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.ok(0, WriteKind::Logged, Consistency::Quorum, WriteSet::new());
    let mut set = WriteSet::new();
    for i in 0..65_535 {
        insert(&mut set, ROWS, 1, i, i, None);
    }
    c.ok(0, WriteKind::Logged, Consistency::Quorum, set);
    assert_eq!(c.value(1, Consistency::Quorum, 1, 65_534), Some(65_534));
}

#[test]
fn of_two_values_for_one_cell_in_one_batch_the_larger_stays() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    let mut set = WriteSet::new();
    insert(&mut set, ROWS, 1, 0, 100, None);
    insert(&mut set, ROWS, 1, 0, -5, None);
    insert(&mut set, ROWS, 1, 0, 5, None);
    c.ok(0, WriteKind::Logged, Consistency::Quorum, set);
    assert_eq!(c.value(0, Consistency::Quorum, 1, 0), Some(-5), "as unsigned bytes");
}

#[test]
fn a_killed_replica_is_a_failure_at_once_in_scylla_and_a_timeout_in_cassandra() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.kill(1);
    c.kill(2);
    let started = c.now;
    let id = c.ask(0, write_request(WriteKind::Single, Consistency::Quorum, one(1, 1)));
    let (at, r) = c.answer_within(id, 5 * S).unwrap();
    assert!(at - started < 10 * MS);
    match error(r) {
        CoordinatorError::WriteFailure {
            received: 1,
            required: 2,
            failures,
            write_type: WriteType::Simple,
            ..
        } => {
            assert_eq!(failures.len(), 2, "both connections were refused by then");
        }
        other => panic!("{other:?}"),
    }
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.kill(1);
    c.kill(2);
    let e = error(c.write(0, WriteKind::Single, Consistency::Quorum, one(1, 1)));
    assert!(matches!(
        e,
        CoordinatorError::WriteTimeout {
            received: 1,
            required: 2,
            write_type: WriteType::Simple,
            ..
        }
    ));
}

#[test]
fn the_kind_cluster_takes_a_failed_batch_back() {
    let mut config = sim_cluster::core::ClusterConfig::new(3, Flavor::Scylla);
    config.kindness.rollback_failed_batch = true;
    let mut c = Cluster::with(config);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 7));
    // One mutation of the batch never reaches the peers: the batch times out after part of it was applied.
    c.route = Box::new(|_, to, msg| if is_mutate(msg) && to.0 == 2 { None } else { Some(300) });
    let e = error(c.write(0, WriteKind::Logged, Consistency::All, batch(N, 1)));
    assert!(matches!(
        e,
        CoordinatorError::WriteTimeout {
            write_type: WriteType::Batch,
            ..
        }
    ));
    c.route = healthy();
    c.run_until(200 * S);
    for n in 0..3 {
        assert_eq!(
            c.stored(n, 1, 0).map(|v| v.0),
            Some(7),
            "the old row is back on node {n}"
        );
        assert_eq!(c.stored(n, 2, 0), None, "the new row is gone on node {n}");
    }
}
