//! Materialized views: when the view has what the base has, what is lost on the way, who sends what to whom, and how a view
//! comes to what was there before it. (`scylla-semantics` section 7; Cassandra as seen and as in its source.)

use crate::harness::*;
use sim_cluster::core::{ClusterConfig, CommitlogSync, Flavor, Input, Msg, Node, ViewFault, snapshot};
use sim_cluster::model::views::Clause;
use sim_cluster::model::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// `k.by_v`: `rows` by `v`, `p`, `c`; also has `w`.
pub const VIEW: TableId = TableId(2);
/// `w` in the view.
const VIEW_W: ColumnId = ColumnId(3);
const FLAVORS: [Flavor; 2] = [Flavor::Scylla, Flavor::Cassandra];

pub fn create_view(flavor: Flavor) -> SchemaChange {
    let column = |name: &str, kind| NewColumn {
        name: name.into(),
        kind,
        order: ClusteringOrder::Asc,
        ty: CqlType::Bigint,
    };
    let view = NewView {
        keyspace: "k".into(),
        name: "by_v".into(),
        base: "rows".into(),
        columns: vec![
            column("v", ColumnKind::PartitionKey),
            column("p", ColumnKind::Clustering),
            column("c", ColumnKind::Clustering),
            column("w", ColumnKind::Regular),
        ],
        options: TableOptions::default(),
        includes_all: false,
        where_clause: ["v", "p", "c"]
            .map(|column| Clause {
                column: column.into(),
                rest: "IS NOT NULL".into(),
            })
            .to_vec(),
        filters: vec![],
        keeps_unselected: flavor == Flavor::Scylla,
    };
    SchemaChange::CreateView {
        view: Box::new(view),
        if_not_exists: false,
    }
}

/// A cluster with the view, whose build is over.
fn cluster(nodes: usize, rf: u8, flavor: Flavor, edit: impl FnOnce(&mut ClusterConfig)) -> Cluster {
    let mut config = ClusterConfig::new(nodes, flavor);
    config.schema = Arc::new(schema(rf).apply(&create_view(flavor), 0).expect("a new view").0);
    edit(&mut config);
    let mut c = Cluster::with(config);
    c.run_for(5 * S);
    c
}

/// Three nodes with three copies, for other chapters.
pub fn cluster_of_three(flavor: Flavor) -> Cluster {
    cluster(3, 3, flavor, |_| {})
}

/// INSERT INTO rows (p, c, v, w).
fn row(p: i64, v: i64, w: i64, timestamp_us: Option<i64>) -> WriteSet {
    let mut set = WriteSet::new();
    set.begin(OpKind::Row, ROWS, &p.to_be_bytes(), timestamp_us)
        .marker()
        .clustering(&0i64.to_be_bytes())
        .cell(V, &v.to_be_bytes())
        .cell(W, &w.to_be_bytes())
        .end();
    set
}

/// `p` and `w` of the view's rows with this `v`, as a client reads them.
fn seen(c: &mut Cluster, node: u8, level: Consistency, v: i64) -> Vec<(i64, i64)> {
    let found = c.read(node, level, ReadCommand::partition(VIEW, pk(v)));
    let p = |row: &Row| number(Components::new(row.clustering()).next().expect("a key"));
    let w = |row: &Row| row.cell(VIEW_W).map_or(0, |cell| number(cell.value));
    found.rows().map(|(_, row)| (p(row), w(row))).collect()
}

/// Writes rows and reads each through the view at once: how often it was not there yet.
fn misses(c: &mut Cluster) -> usize {
    let mut missed = 0;
    for p in 0..300 {
        c.ok(0, WriteKind::Single, Consistency::One, row(p, 1_000 + p, p, None));
        missed += usize::from(seen(c, 0, Consistency::One, 1_000 + p).is_empty());
    }
    c.run_for(5 * S);
    for p in 0..300 {
        assert_eq!(seen(c, 0, Consistency::One, 1_000 + p), [(p, p)], "it comes in the end");
    }
    missed
}

#[test]
fn a_view_lags_behind_its_base() {
    for flavor in FLAVORS {
        let missed = misses(&mut cluster(3, 1, flavor, |_| {}));
        assert!((1..150).contains(&missed), "{flavor:?}: {missed} of 300");
    }
}

#[test]
fn a_cluster_that_waits_for_its_views_is_found_out() {
    for flavor in FLAVORS {
        let kind = |config: &mut ClusterConfig| config.kindness.synchronous_views = true;
        assert_eq!(
            misses(&mut cluster(3, 1, flavor, kind)),
            0,
            "{flavor:?}: no real one is so"
        );
    }
}

/// The nodes that hold a key, with one copy.
fn holder(c: &Cluster, key: i64) -> u8 {
    let placement = c
        .node(0)
        .ring()
        .placement(&c.node(0).schema().keyspaces["k"].replication);
    let set = placement.replicas(pk(key).token);
    set.iter().next().expect("a replica").0
}

/// A row and a value such that the base's row is on node 1, the view's on node 2; the client asks node 0.
fn apart(c: &Cluster) -> (i64, i64) {
    let p = (0..).find(|p| holder(c, *p) == 1).expect("some");
    let v = (0..).find(|v| holder(c, *v) == 2).expect("some");
    (p, v)
}

#[test]
fn an_update_under_way_is_lost_with_its_replica_in_scylla_and_replayed_in_cassandra() {
    for (flavor, rows) in [(Flavor::Scylla, vec![]), (Flavor::Cassandra, vec![(0, 7)])] {
        let mut c = cluster(3, 1, flavor, |config| {
            config.commitlog_sync = CommitlogSync::Batch;
            config.views.prompt_us = 2 * S;
            config.views.late_one_in = u64::MAX;
        });
        let (p, v) = apart(&c);
        // The delay is drawn: a write whose update has not left yet.
        c.ok(0, WriteKind::Single, Consistency::One, row(p, v, 7, None));
        c.kill(1);
        c.run_for(S);
        c.restart(1);
        c.run_for(120 * S);
        let rows: Vec<(i64, i64)> = rows.into_iter().map(|(_, w)| (p, w)).collect();
        assert_eq!(seen(&mut c, 0, Consistency::One, v), rows, "{flavor:?}");
        assert_eq!(c.value(0, Consistency::One, p, 0), Some(v), "the base has it");
    }
}

/// Counts messages that write to the view, by their addressee.
fn count_updates(c: &mut Cluster) -> Rc<RefCell<BTreeMap<NodeIdx, usize>>> {
    let counts = Rc::new(RefCell::new(BTreeMap::new()));
    let sent = counts.clone();
    c.route = Box::new(move |_, to, msg| {
        if let Msg::Mutate { sealed, which, .. } = msg
            && which.indices().any(|i| sealed.mutations()[i].table == VIEW)
        {
            *sent.borrow_mut().entry(to).or_default() += 1;
        }
        Some(300)
    });
    counts
}

#[test]
fn a_row_that_is_the_same_again_sends_nothing_in_scylla() {
    for (flavor, again) in [(Flavor::Scylla, 0), (Flavor::Cassandra, 1)] {
        let mut c = cluster(3, 1, flavor, |_| {});
        let (p, v) = apart(&c);
        let counts = count_updates(&mut c);
        let count = |c: &mut Cluster| {
            c.run_for(S);
            std::mem::take(&mut *counts.borrow_mut()).values().sum::<usize>()
        };
        c.ok(0, WriteKind::Single, Consistency::One, row(p, v, 7, Some(1_000)));
        assert_eq!(count(&mut c), 1, "{flavor:?}: a new row");
        c.ok(0, WriteKind::Single, Consistency::One, row(p, v, 7, Some(1_000)));
        assert_eq!(count(&mut c), again, "{flavor:?}: the same row");
        c.ok(0, WriteKind::Single, Consistency::One, row(p, v, 8, Some(1_001)));
        assert_eq!(count(&mut c), 1, "{flavor:?}: another one");
    }
}

#[test]
fn each_replica_of_the_base_writes_to_one_replica_of_the_view() {
    for flavor in FLAVORS {
        let mut c = cluster(6, 2, flavor, |config| {
            // Racks would put all copies apart from each other.
            config.nodes.iter_mut().for_each(|n| n.rack = "r1".to_owned());
        });
        for p in 0..50 {
            c.ok(0, WriteKind::Single, Consistency::All, row(p, 5_000 + p, p, None));
        }
        c.run_for(5 * S);
        for n in 0..6 {
            let node = c.node(n);
            let placement = node.ring().placement(&node.schema().keyspaces["k"].replication);
            let held = snapshot::live(node, c.now);
            let rows = &held.table("k", "by_v").expect("the view").rows;
            let wanted = (0..50).filter(|p| placement.replicas(pk(5_000 + p).token).contains(NodeIdx(n)));
            assert_eq!(
                rows.len(),
                wanted.count(),
                "{flavor:?}, node {n}: every replica of the view has its rows"
            );
        }
    }
}

#[test]
fn a_partner_that_is_down_fails_the_write_in_cassandra_and_is_hinted_in_scylla() {
    for flavor in FLAVORS {
        let mut c = cluster(3, 1, flavor, |_| {});
        let (p, v) = apart(&c);
        c.power_off(2);
        c.run_for(30 * S);
        let answer = c.write(0, WriteKind::Single, Consistency::One, row(p, v, 7, None));
        match flavor {
            Flavor::Scylla => assert!(matches!(answer, Response::Done { .. }), "{answer:?}"),
            Flavor::Cassandra => {
                let failed = matches!(
                    error(answer),
                    CoordinatorError::WriteFailure {
                        received: 0,
                        required: 1,
                        ..
                    }
                );
                assert!(failed);
                assert_eq!(c.value(0, Consistency::One, p, 0), None, "nor has the base it");
            }
        }
        c.restart(2);
        c.run_for(60 * S);
        // In Cassandra the coordinator kept a hint for the replica that failed.
        assert_eq!(seen(&mut c, 0, Consistency::One, v), [(p, 7)], "{flavor:?}");
        assert_eq!(c.value(0, Consistency::One, p, 0), Some(v), "{flavor:?}");
    }
}

#[test]
fn a_view_is_built_from_what_was_there_and_stays_built() {
    for flavor in FLAVORS {
        let mut config = ClusterConfig::new(3, flavor);
        config.schema = Arc::new(schema(1));
        config.views.build_rows = 7;
        let mut c = Cluster::with(config);
        for p in 0..100 {
            c.ok(0, WriteKind::Single, Consistency::One, row(p, p % 10, p, None));
        }
        let mut deleted = WriteSet::new();
        deleted
            .begin(OpKind::PartitionDelete, ROWS, &11i64.to_be_bytes(), None)
            .end();
        c.ok(0, WriteKind::Single, Consistency::One, deleted);
        let answer = c.call(0, Request::Schema(create_view(flavor)));
        assert!(
            matches!(answer, Response::Schema(SchemaEffect::Created(_))),
            "{answer:?}"
        );
        assert_eq!(built(&c), 0, "not at once");
        assert!(seen(&mut c, 0, Consistency::One, 1).is_empty());
        c.run_for(10 * S);
        assert_eq!(built(&c), 9, "{flavor:?}: every node knows of every node");
        let rows: Vec<(i64, i64)> = (0..10)
            .map(|i| i * 10 + 1)
            .filter(|p| *p != 11)
            .map(|p| (p, p))
            .collect();
        assert_eq!(seen(&mut c, 0, Consistency::One, 1), rows, "{flavor:?}");
        c.run_for(20 * S);
        let counts = count_updates(&mut c);
        c.kill(1);
        c.run_for(S);
        c.restart(1);
        c.run_for(30 * S);
        assert_eq!(built(&c), 9, "{flavor:?}: it is told after a restart");
        assert!(counts.borrow().is_empty(), "{flavor:?}: and not built again");
    }
}

/// How many builds are over, summed over what each node knows.
fn built(c: &Cluster) -> usize {
    let of = |node: &Node| node.view_builds().values().filter(|b| **b).count();
    c.hosts.iter().filter_map(|h| h.node.as_ref()).map(of).sum()
}

#[test]
fn a_node_that_stops_in_good_order_leaves_its_updates_to_hints() {
    for flavor in FLAVORS {
        let mut c = cluster(3, 1, flavor, |config| config.views.prompt_us = 60 * S);
        let (p, v) = apart(&c);
        c.ok(0, WriteKind::Single, Consistency::One, row(p, v, 7, None));
        c.input(1, Input::Shutdown);
        c.run_for(2 * S);
        assert!(c.hosts[1].stopped, "{flavor:?}: it does not wait");
        c.restart(1);
        c.run_for(60 * S);
        assert_eq!(seen(&mut c, 0, Consistency::One, v), [(p, 7)], "{flavor:?}");
    }
}

#[test]
fn updates_are_held_back_and_lost_on_command() {
    for flavor in FLAVORS {
        let mut c = cluster(3, 3, flavor, |_| {});
        let all = |c: &mut Cluster, fault| (0..3).for_each(|n| c.input(n, Input::ViewUpdates { fault }));
        all(&mut c, ViewFault::Hold);
        c.ok(0, WriteKind::Single, Consistency::All, row(1, 10, 7, None));
        assert!(
            seen(&mut c, 0, Consistency::All, 10).is_empty(),
            "{flavor:?}: held back"
        );
        all(&mut c, ViewFault::None);
        c.run_for(S);
        assert_eq!(seen(&mut c, 0, Consistency::All, 10), [(1, 7)], "{flavor:?}");
        all(&mut c, ViewFault::Lose);
        c.ok(0, WriteKind::Single, Consistency::All, row(2, 20, 7, None));
        all(&mut c, ViewFault::None);
        c.run_for(120 * S);
        assert!(
            seen(&mut c, 0, Consistency::All, 20).is_empty(),
            "{flavor:?}: lost for good"
        );
        assert_eq!(c.value(0, Consistency::All, 2, 0), Some(20));
    }
}

#[test]
fn with_a_copy_on_every_node_the_view_is_written_with_the_base() {
    for flavor in FLAVORS {
        let mut c = cluster(3, 3, flavor, |_| {});
        for p in 0..200 {
            c.ok(0, WriteKind::Single, Consistency::Quorum, row(p, 1_000 + p, p, None));
            let level = Consistency::Quorum;
            assert_eq!(
                seen(&mut c, 1, level, 1_000 + p),
                [(p, p)],
                "{flavor:?} (6,500 reads, seen)"
            );
        }
    }
}

#[test]
fn a_snapshot_of_the_log_keeps_views() {
    let c = cluster(3, 3, Flavor::Scylla, |_| {});
    let mut snapshot = vec![];
    let taken: Result<(), ()> = c.node(0).write_snapshot(&mut |piece| {
        snapshot.extend_from_slice(piece);
        Ok(())
    });
    taken.expect("memory takes it");
    let mut node = Node::new(c.config.clone(), NodeIdx(0), 7);
    node.boot(c.now, &snapshot, sim_cluster::core::Start::Alone, &mut vec![]);
    assert!(node.schema().view(VIEW).is_some());
    assert_eq!(node.view_builds().get(&(VIEW, NodeIdx(0))), Some(&true));
}
