//! A healthy cluster: writes, reads, batches, pages.

use crate::harness::*;
use sim_cluster::core::{Event, Flavor};
use sim_cluster::model::*;

#[test]
fn a_write_at_quorum_is_read_at_quorum_through_any_node() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        c.ok(0, WriteKind::Single, Consistency::Quorum, one(7, 42));
        for n in 0..3 {
            assert_eq!(
                c.value(n, Consistency::Quorum, 7, 0),
                Some(42),
                "{flavor:?} through node {n}"
            );
        }
        assert_eq!(c.value(1, Consistency::Quorum, 8, 0), None);
    }
}

#[test]
fn a_logged_batch_goes_through_two_holders_and_leaves_nothing_behind() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        c.ok(0, WriteKind::Logged, Consistency::Quorum, batch(5, 1));
        c.run_for(100 * MS);
        assert_eq!(c.saw(|e| matches!(e, Event::BatchKept { mutations: 5, .. })), 2);
        assert_eq!(c.saw(|e| matches!(e, Event::BatchForgotten { .. })), 2);
        assert_eq!((c.kept_batches(), c.node(0).operations()), (0, 0));
        for n in 0..3 {
            assert!(
                (1..=5).all(|p| c.stored(n, p, 0).is_some_and(|(v, _)| v == 1)),
                "{flavor:?} node {n}"
            );
        }
    }
}

#[test]
fn a_cluster_of_one_works_and_keeps_its_own_batchlog() {
    let mut c = Cluster::new(1, Flavor::Scylla);
    c.ok(0, WriteKind::Logged, Consistency::One, batch(3, 9));
    assert_eq!(c.value(0, Consistency::One, 3, 0), Some(9));
    c.run_for(S);
    assert_eq!(c.kept_batches(), 0);
}

#[test]
fn six_nodes_hold_three_copies_each_and_a_batch_spans_replica_sets() {
    let mut c = Cluster::new(6, Flavor::Scylla);
    c.ok(2, WriteKind::Logged, Consistency::Quorum, batch(40, 5));
    c.run_for(S);
    for p in 1..=40 {
        assert_eq!(
            (0..6).filter(|n| c.stored(*n, p, 0).is_some()).count(),
            3,
            "partition {p}"
        );
        assert_eq!(c.value((p % 6) as u8, Consistency::Quorum, p, 0), Some(5));
    }
}

#[test]
fn equal_seeds_and_inputs_give_equal_events_and_equal_bytes() {
    let run = || {
        let mut c = Cluster::new(6, Flavor::Cassandra);
        for i in 0..40 {
            c.ask(
                (i % 6) as u8,
                write_request(WriteKind::Logged, Consistency::Quorum, batch(3 + i % 4, i)),
            );
            c.run_for(7 * MS);
            if i == 20 {
                c.kill(3);
            }
        }
        c.run_for(30 * S);
        c.restart(3);
        c.run_for(40 * S);
        let files: Vec<Vec<u8>> = c.hosts.iter().map(|h| h.file.clone()).collect();
        (format!("{:?}", c.events), format!("{:?}", c.statuses), files)
    };
    let (first, second) = (run(), run());
    assert!(first.0.len() > 10_000, "there is something to compare");
    assert!(first == second);
}

#[test]
fn a_coordinator_refuses_more_than_it_can_hold() {
    let mut config = sim_cluster::core::ClusterConfig::new(3, Flavor::Scylla);
    config.in_flight_max = 5;
    let mut c = Cluster::with(config);
    c.route = Box::new(|_, _, _| None);
    let ids: Vec<u64> = (0..8)
        .map(|p| c.ask(0, write_request(WriteKind::Single, Consistency::Quorum, one(p, 1))))
        .collect();
    let refused = ids.iter().filter(|id| {
        matches!(
            c.replies.get(id),
            Some((_, Response::Error(CoordinatorError::Overloaded { .. })))
        )
    });
    assert_eq!(refused.count(), 3);
    assert_eq!(c.stored(0, 7, 0), None, "an overloaded coordinator writes nothing");
    c.run_for(3 * S);
    assert_eq!(c.node(0).operations(), 0, "deadlines free the room");
}
