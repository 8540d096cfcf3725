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
            assert_eq!(c.value(n, Consistency::Quorum, 7, 0), Some(42), "{flavor:?} through node {n}");
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
            assert!((1..=5).all(|p| c.stored(n, p, 0).is_some_and(|(v, _)| v == 1)), "{flavor:?} node {n}");
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
        assert_eq!((0..6).filter(|n| c.stored(*n, p, 0).is_some()).count(), 3, "partition {p}");
        assert_eq!(c.value((p % 6) as u8, Consistency::Quorum, p, 0), Some(5));
    }
}
