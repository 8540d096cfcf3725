//! Deletions that are older than gc_grace: what a major compaction drops, what a replica still tells of them before, and
//! what comes back because nobody remembers that it was deleted.

use crate::harness::*;
use crate::repair::{begin, deaf, ended, held};
use sim_cluster::core::store::TableStore;
use sim_cluster::core::{ClusterConfig, Event, Flavor, Input, Lie};
use sim_cluster::model::read::Bound;
use sim_cluster::model::*;
use std::sync::Arc;

const FLAVORS: [Flavor; 2] = [Flavor::Scylla, Flavor::Cassandra];
const GC_GRACE_S: u32 = 60;

/// Three nodes, and the tables' gc_grace.
fn cluster(flavor: Flavor, gc_grace_s: u32) -> Cluster {
    let mut tables = schema(3);
    for table in tables.tables.iter_mut().flatten() {
        Arc::make_mut(table).options.gc_grace_s = gc_grace_s;
    }
    let mut config = ClusterConfig::new(3, flavor);
    config.schema = Arc::new(tables);
    Cluster::with(config)
}

fn compact(c: &mut Cluster, nodes: &[u8]) -> u64 {
    let before = c.events.len();
    for n in nodes {
        let tables = c.node(*n).tables_named("k", None).expect("a keyspace");
        c.input(*n, Input::Compact { tables });
    }
    let rows = |e: &(u64, NodeIdx, Event)| match e.2 {
        Event::Purged { rows, .. } => rows,
        _ => 0,
    };
    c.events[before..].iter().map(rows).sum()
}

fn delete(p: i64, r: i64) -> WriteSet {
    let mut set = WriteSet::new();
    set.begin(OpKind::RowDelete, ROWS, &p.to_be_bytes(), None)
        .clustering(&r.to_be_bytes())
        .end();
    set
}

/// A row that all have, and whose deletion one of them missed.
fn missed_by_one(flavor: Flavor) -> Cluster {
    let mut c = cluster(flavor, GC_GRACE_S);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 5));
    deaf(&mut c, &[2]);
    c.ok(0, WriteKind::Single, Consistency::Quorum, delete(1, 0));
    c.run_for(S);
    c.route = healthy();
    c
}

#[test]
fn within_gc_grace_a_missed_deletion_is_made_good_and_nothing_is_dropped() {
    for flavor in FLAVORS {
        let mut c = missed_by_one(flavor);
        c.run_for(u64::from(GC_GRACE_S - 5) * S);
        assert_eq!(
            compact(&mut c, &[0, 1, 2]),
            2,
            "{flavor:?}: what the deletion hides, on the two that know of it"
        );
        assert_eq!(c.value(2, Consistency::All, 1, 0), None, "{flavor:?}");
        assert_eq!(c.stored(2, 1, 0), None, "{flavor:?}: repaired by the read");
    }
}

#[test]
fn after_gc_grace_and_a_compaction_the_deleted_row_comes_back() {
    for flavor in FLAVORS {
        let mut c = missed_by_one(flavor);
        c.run_for(u64::from(GC_GRACE_S + 5) * S);
        assert_eq!(compact(&mut c, &[0, 1]), 2, "{flavor:?}");
        assert_eq!(c.stored(0, 1, 0), None, "{flavor:?}: nothing is there");
        assert_eq!(c.value(0, Consistency::All, 1, 0), Some(5), "{flavor:?}");
        assert_eq!(
            c.stored(0, 1, 0).map(|(v, _)| v),
            Some(5),
            "{flavor:?}: the read has repaired it"
        );
        // So does a repair.
        let mut c = missed_by_one(flavor);
        c.run_for(u64::from(GC_GRACE_S + 5) * S);
        compact(&mut c, &[0, 1]);
        begin(&mut c, 1, 1, None);
        ended(&mut c, 1, 1).expect("a repair");
        assert_eq!(c.stored(0, 1, 0).map(|(v, _)| v), Some(5), "{flavor:?}");
    }
}

#[test]
fn cassandra_tells_nobody_of_an_old_deletion_that_is_still_there() {
    for (flavor, seen) in [(Flavor::Scylla, None), (Flavor::Cassandra, Some(5))] {
        let mut c = missed_by_one(flavor);
        c.run_for(u64::from(GC_GRACE_S + 5) * S);
        assert_eq!(c.value(0, Consistency::All, 1, 0), seen, "{flavor:?}");
        // The deletion is there all the same: what the read wrote beneath it is hidden.
        assert_eq!(c.stored(0, 1, 0), None, "{flavor:?}");
        assert_eq!(c.value(0, Consistency::One, 1, 0), None, "{flavor:?}");
    }
}

#[test]
fn a_batch_replayed_after_gc_grace_brings_a_deleted_row_back_in_scylla() {
    for (flavor, back) in [(Flavor::Scylla, true), (Flavor::Cassandra, false)] {
        let mut c = cluster(flavor, GC_GRACE_S);
        let tell = |c: &mut Cluster, lie, on| (0..3).for_each(|n| c.input(n, Input::Lie { lie, on }));
        tell(&mut c, Lie::KeepBatchlog, true);
        tell(&mut c, Lie::HoldReplay, true);
        c.ok(0, WriteKind::Logged, Consistency::All, batch(3, 7));
        c.ok(0, WriteKind::Single, Consistency::All, delete(1, 0));
        c.run_for(u64::from(GC_GRACE_S + 5) * S);
        compact(&mut c, &[0, 1, 2]);
        tell(&mut c, Lie::KeepBatchlog, false);
        tell(&mut c, Lie::HoldReplay, false);
        c.run_for(90 * S);
        let found = c.value(0, Consistency::All, 1, 0);
        assert_eq!(found.is_some(), back, "{flavor:?}");
    }
}

fn held_by_first(c: &Cluster) -> &TableStore {
    c.node(0).store().table(ROWS).expect("a table")
}

/// Everything that can be too old, and beside each something that is not.
fn graveyard(c: &mut Cluster) {
    let all = |c: &mut Cluster, set| c.ok(0, WriteKind::Unlogged, Consistency::All, set);
    let mut rows = WriteSet::new();
    for p in 1..=6 {
        for r in 0..4 {
            insert(&mut rows, ROWS, p, r, 10 * p + r, None);
        }
    }
    all(c, rows);
    let mut set = WriteSet::new();
    let at = |p: i64| p.to_be_bytes();
    // A cell, a row, a range, a partition, a static cell, a cell that expires.
    set.begin(OpKind::Row, ROWS, &at(1), None)
        .clustering(&at(0))
        .null(V)
        .end();
    set.begin(OpKind::RowDelete, ROWS, &at(2), None)
        .clustering(&at(1))
        .end();
    set.begin(OpKind::RangeDelete, ROWS, &at(3), None)
        .clustering(&at(1))
        .end_bound(&at(2))
        .end();
    set.begin(OpKind::PartitionDelete, ROWS, &at(4), None).end();
    set.begin(OpKind::Static, ROWS, &at(5), None).null(ST).end();
    set.begin(OpKind::Row, ROWS, &at(6), None)
        .ttl(10)
        .clustering(&at(3))
        .cell(W, &at(9))
        .end();
    all(c, set);
    // And a row that was written again.
    c.ok(0, WriteKind::Single, Consistency::All, one(4, 99));
}

#[test]
fn a_compaction_changes_nothing_for_a_client_and_leaves_no_old_deletion() {
    for flavor in FLAVORS {
        let mut c = cluster(flavor, GC_GRACE_S);
        graveyard(&mut c);
        c.run_for(20 * S);
        let everything = |c: &mut Cluster| c.read(0, Consistency::All, ReadCommand::scan(ROWS)).partitions;
        let before = everything(&mut c);
        let rows = c.node(0).store().table(ROWS).expect("a table").row_count();
        // Six writes deleted something, and the rows of one partition and of a range are hidden; one of them is alive again.
        assert!(compact(&mut c, &[0]) > 0, "{flavor:?}");
        assert!(
            held_by_first(&c).has_partition_states(),
            "{flavor:?}: deletions are kept for gc_grace"
        );
        assert_eq!(everything(&mut c), before, "{flavor:?}");
        c.run_for(u64::from(GC_GRACE_S) * S);
        compact(&mut c, &[0, 1, 2]);
        assert!(!held_by_first(&c).has_partition_states(), "{flavor:?}: none is left");
        assert_eq!(held_by_first(&c).row_count(), rows - 1 - 2 - 3, "{flavor:?}");
        assert_eq!(everything(&mut c), before, "{flavor:?}");
        // Nor does a start bring them back, though the log tells of them.
        let known = held(&c, ROWS);
        assert_eq!(known[0], known[1]);
        c.run_for(S);
        c.kill(0);
        c.restart(0);
        c.run_for(5 * S);
        assert_eq!(held(&c, ROWS), known, "{flavor:?}");
        assert!(!held_by_first(&c).has_partition_states(), "{flavor:?}");
        // There is nothing left to do.
        assert_eq!(compact(&mut c, &[0, 1, 2]), 0, "{flavor:?}");
    }
}

#[test]
fn a_read_of_too_many_tombstones_fails_in_cassandra() {
    for (flavor, fails) in [(Flavor::Scylla, false), (Flavor::Cassandra, true)] {
        let mut c = cluster(flavor, GC_GRACE_S);
        let mut first = 0i64;
        while first < 100_001 {
            let mut set = WriteSet::new();
            for r in first..(first + 20_001).min(100_001) {
                set.begin(OpKind::RowDelete, ROWS, &1i64.to_be_bytes(), None)
                    .clustering(&r.to_be_bytes())
                    .end();
            }
            first += 20_001;
            c.ok(0, WriteKind::Unlogged, Consistency::All, set);
        }
        let mut request = |from: i64| {
            let mut command = ReadCommand::partition(ROWS, pk(1));
            let lower = Bound {
                prefix: ck(from),
                inclusive: true,
            };
            let end = Bound::open();
            command.clustering = ClusteringSelect::Slices(vec![Slice {
                start: lower.clone(),
                end: end.clone(),
            }]);
            c.call(
                0,
                Request::Read(ReadRequest {
                    command,
                    consistency: Consistency::Quorum,
                    timeout_ms: None,
                }),
            )
        };
        match request(0) {
            Response::Error(CoordinatorError::ReadFailure { failures, .. }) if fails => {
                assert!(
                    failures
                        .iter()
                        .all(|(_, why)| *why == FailureReason::ReadTooManyTombstones)
                );
            }
            Response::Rows(result) if !fails => assert_eq!(result.scanned[0].1.tombstones, 100_001),
            other => panic!("{flavor:?}: {other:?}"),
        }
        // As many as a read may come across.
        let Response::Rows(result) = request(1) else {
            panic!("{flavor:?}: one less")
        };
        assert_eq!(
            (result.row_count(), result.scanned[0].1.tombstones),
            (0, 100_000),
            "{flavor:?}"
        );
        c.run_for(u64::from(GC_GRACE_S + 1) * S);
    }
}
