//! Nodes whose schema is old: what they tell, what they answer as replicas, and how they learn.

use crate::harness::*;
use sim_cluster::core::{Event, Flavor, Input};
use sim_cluster::model::*;

const FLAVORS: [Flavor; 2] = [Flavor::Scylla, Flavor::Cassandra];
/// The table that is made in these tests.
const NEW: TableId = TableId(2);

fn create(name: &str) -> Request {
    Request::Schema(SchemaChange::CreateTable {
        table: table(name),
        if_not_exists: false,
    })
}

/// `ALTER TABLE rows ADD x bigint`; the column gets this number.
const X: ColumnId = ColumnId(5);

fn add_column() -> Request {
    let x = NewColumn {
        name: "x".into(),
        kind: ColumnKind::Regular,
        order: ClusteringOrder::Asc,
        ty: CqlType::Bigint,
    };
    Request::Schema(SchemaChange::AddColumns {
        keyspace: "k".into(),
        table: "rows".into(),
        columns: vec![x],
    })
}

fn changed(r: Response) {
    assert!(matches!(r, Response::Schema(_)), "{r:?}");
}

fn hold(c: &mut Cluster, node: u8, on: bool) {
    c.input(node, Input::HoldSchema { on });
}

fn changes(c: &Cluster) -> Vec<u64> {
    (0..3).map(|n| c.node(n).schema().change).collect()
}

fn of_new(p: i64) -> WriteSet {
    let mut set = WriteSet::new();
    insert(&mut set, NEW, p, 0, p, None);
    set
}

/// Rows of the new table on one replica.
fn rows_of_new(c: &Cluster, node: u8) -> usize {
    c.node(node).store().table(NEW).map_or(0, |t| t.row_count())
}

#[test]
fn a_change_is_answered_without_a_node_that_does_not_learn_of_it() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        hold(&mut c, 2, true);
        let begun = c.now;
        changed(c.call(0, create("new")));
        assert!(c.now < begun + 100 * MS, "{flavor:?}: {}", c.now - begun);
        c.run_for(5 * S);
        assert_eq!(changes(&c), [4, 4, 3], "{flavor:?}");
        let version = |n: u8| c.node(n).schema().version;
        assert_ne!(version(0), version(2));
        for by in [0, 1] {
            let facts = c.node(by).facts();
            assert_eq!(facts[2].schema_version, Some(version(2)), "{flavor:?}: others are told");
            assert_eq!(facts[1 - usize::from(by)].schema_version, Some(version(0)));
        }
        hold(&mut c, 2, false);
        assert_eq!(
            changes(&c),
            [4, 4, 4],
            "{flavor:?}: what was put aside is taken over at once"
        );
    }
}

#[test]
fn a_replica_that_has_not_heard_of_a_table_fails_or_fetches_the_schema() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        hold(&mut c, 2, true);
        changed(c.call(0, create("new")));
        c.run_for(2 * S);
        let write = c.write(0, WriteKind::Single, Consistency::All, of_new(1));
        let read = c.call(
            0,
            Request::Read(ReadRequest {
                command: ReadCommand::scan(NEW),
                consistency: Consistency::All,
                timeout_ms: None,
            }),
        );
        assert!(c.saw(|e| matches!(e, Event::SchemaUnknown { .. })) >= 1);
        match flavor {
            Flavor::Scylla => {
                assert!(matches!(write, Response::Done { .. }), "{write:?}");
                assert!(matches!(read, Response::Rows(_)), "{read:?}");
                assert_eq!(changes(&c), [4, 4, 4], "it had to learn");
            }
            Flavor::Cassandra => {
                let of_third = [(NodeIdx(2), FailureReason::IncompatibleSchema)];
                let CoordinatorError::WriteFailure { failures, received, .. } = error(write) else {
                    panic!("a failure");
                };
                assert_eq!((&failures[..], received), (&of_third[..], 2));
                let CoordinatorError::ReadFailure { failures, .. } = error(read) else {
                    panic!("a failure");
                };
                assert_eq!(failures, of_third);
                assert_eq!(changes(&c), [4, 4, 3]);
                // A quorum does without, and the third gets a hint.
                c.ok(0, WriteKind::Single, Consistency::Quorum, of_new(2));
                c.run_for(3 * S);
                assert!(c.pending_hints() >= 1);
                assert_eq!(rows_of_new(&c, 2), 0);
            }
        }
    }
}

#[test]
fn a_hint_for_a_table_that_is_not_heard_of_yet_is_kept() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.pause(2);
    changed(c.call(0, create("new")));
    c.run_for(25 * S);
    c.ok(0, WriteKind::Single, Consistency::Quorum, of_new(1));
    assert_eq!(c.pending_hints(), 1);
    c.kill(2);
    // It does not see what it was told while it stood still, and hears nothing but hints and heartbeats.
    c.restart(2);
    hold(&mut c, 2, true);
    c.run_for(30 * S);
    assert_eq!((c.pending_hints(), changes(&c)), (1, vec![4, 4, 3]));
    hold(&mut c, 2, false);
    c.run_for(15 * S);
    assert_eq!((c.pending_hints(), rows_of_new(&c, 2)), (0, 1));
}

#[test]
fn a_column_that_is_not_heard_of_is_like_a_table() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        hold(&mut c, 1, true);
        changed(c.call(0, add_column()));
        c.run_for(2 * S);
        let mut set = one(1, 1);
        c.ok(0, WriteKind::Single, Consistency::All, set.clone());
        set.clear();
        set.begin(OpKind::Row, ROWS, &1i64.to_be_bytes(), None)
            .clustering(&0i64.to_be_bytes())
            .cell(X, &5i64.to_be_bytes())
            .end();
        let answer = c.write(0, WriteKind::Single, Consistency::All, set);
        match flavor {
            Flavor::Scylla => assert!(matches!(answer, Response::Done { .. })),
            Flavor::Cassandra => {
                let e = error(answer);
                assert!(matches!(e, CoordinatorError::WriteFailure { .. }), "{e:?}");
            }
        }
    }
}

#[test]
fn what_a_node_changes_itself_it_knows() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        hold(&mut c, 2, true);
        changed(c.call(0, create("new")));
        assert_eq!(c.node(2).schema().change, 3);
        changed(c.call(2, create("mine")));
        assert_eq!(changes(&c)[2], 5, "{flavor:?}: and what was changed before");
    }
}

#[test]
fn the_node_that_orders_changes_can_be_the_one_that_does_not_learn() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        hold(&mut c, 0, true);
        changed(c.call(1, create("new")));
        changed(c.call(2, create("newer")));
        c.run_for(2 * S);
        assert_eq!(changes(&c), [3, 5, 5], "{flavor:?}");
        hold(&mut c, 0, false);
        assert_eq!(changes(&c), [5, 5, 5]);
    }
}

#[test]
fn a_change_does_not_wait_for_a_node_that_stands_still() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        c.run_for(5 * S);
        // The node that orders changes, and nobody knows yet that it stands still.
        c.pause(0);
        let began = c.now;
        changed(c.call(1, create("new")));
        assert!(c.now - began < 3 * S, "{flavor:?}: {} us", c.now - began);
        c.run_for(S);
        c.ok(2, WriteKind::Single, Consistency::Quorum, of_new(1));
        c.resume(0);
        c.run_for(5 * S);
        assert_eq!(
            changes(&c),
            [changes(&c)[1]; 3],
            "what it was asked meanwhile is not carried out again"
        );
        changed(c.call(0, add_column()));
    }
}

#[test]
fn a_node_that_was_frozen_cut_off_or_down_learns_when_it_is_back() {
    for flavor in FLAVORS {
        for how in ["frozen", "cut off", "down"] {
            let mut c = Cluster::new(3, flavor);
            match how {
                "frozen" => c.pause(2),
                "cut off" => c.route = Box::new(|a, b, _| (a != NodeIdx(2) && b != NodeIdx(2)).then_some(300)),
                _ => c.kill(2),
            }
            let begun = c.now;
            changed(c.call(0, create("new")));
            changed(c.call(1, add_column()));
            assert!(
                c.now < begun + S,
                "{flavor:?}, {how}: answered after {} us",
                c.now - begun
            );
            c.run_for(5 * S);
            assert_eq!(c.node(0).schema().change, 5);
            match how {
                "frozen" => c.resume(2),
                "cut off" => c.route = healthy(),
                _ => c.restart(2),
            }
            c.run_for(1_500 * MS);
            assert_eq!(changes(&c), [5, 5, 5], "{flavor:?}, {how}");
            c.run_for(1_500 * MS);
            c.ok(2, WriteKind::Single, Consistency::All, of_new(1));
        }
    }
}

#[test]
fn a_replica_that_has_not_heard_of_a_view_builds_it_later() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        hold(&mut c, 2, true);
        changed(c.call(0, Request::Schema(super::views::create_view(flavor))));
        c.run_for(5 * S);
        c.ok(0, WriteKind::Single, Consistency::All, one(1, 1));
        let has_row = |c: &Cluster, n: u8| {
            let view = c.node(n).store().table(super::views::VIEW);
            view.is_some_and(|t| t.row_count() == 1)
        };
        assert_eq!([0, 1, 2].map(|n| has_row(&c, n)), [true, true, false], "{flavor:?}");
        hold(&mut c, 2, false);
        c.run_for(5 * S);
        assert!(has_row(&c, 2), "{flavor:?}: its part is built from its rows");
    }
}
