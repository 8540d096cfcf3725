//! Anti-entropy repair on demand: what it brings about, what it leaves alone, and how it ends when something is away.

use crate::harness::*;
use sim_cluster::core::query::{self, Part, ReadLimits};
use sim_cluster::core::{Event, Flavor, Input, Msg, NodeSet, RepairScope, RepairState, ViewFault};
use sim_cluster::model::*;
use std::cell::Cell;
use std::rc::Rc;

const FLAVORS: [Flavor; 2] = [Flavor::Scylla, Flavor::Cassandra];

pub fn begin(c: &mut Cluster, by: u8, number: u64, table: Option<&str>) {
    let scope = RepairScope {
        keyspace: "k".into(),
        table: table.map(str::to_owned),
        whole_ring: false,
    };
    c.input(by, Input::Repair { number, scope });
}

/// How a repair ends, within two minutes.
pub fn ended(c: &mut Cluster, by: u8, number: u64) -> Result<u64, String> {
    for _ in 0..1200 {
        match c.node(by).repair_state(number) {
            Some(RepairState::Done { mutations }) => return Ok(*mutations),
            Some(RepairState::Failed { reason }) => return Err(reason.clone()),
            Some(RepairState::Running) => c.run_for(100 * MS),
            None => panic!("the repair was not begun"),
        }
    }
    panic!("a repair has an end");
}

fn repair(c: &mut Cluster, by: u8) -> Result<u64, String> {
    begin(c, by, 1, None);
    ended(c, by, 1)
}

/// Nobody keeps hints, and writes do not reach these nodes.
pub fn deaf(c: &mut Cluster, nodes: &[u8]) {
    for n in 0..c.hosts.len() as u8 {
        c.input(n, Input::Handoff { on: false });
    }
    let deaf = nodes
        .iter()
        .fold(NodeSet::default(), |s, n| s.or(NodeSet::one(NodeIdx(*n))));
    c.route = Box::new(move |_, to, msg| (!(is_mutate(msg) && deaf.contains(to))).then_some(300));
}

/// A digest of everything that each node has of a table, deletions and times included.
pub fn held(c: &Cluster, table: TableId) -> Vec<u128> {
    let limits = ReadLimits {
        rows: u32::MAX,
        per_partition: u32::MAX,
        now_s: 0,
        is_sweep: false,
        drops_purgeable: false,
        tombstones_max: u32::MAX,
    };
    let of = |n: u8| {
        let (store, log) = (c.node(n).store().table(table).expect("a table"), c.node(n).log());
        let all = Part::Range(TokenRange::default());
        let rows = query::read(store, log, &ReadCommand::scan(table), &all, None, limits);
        rows.expect("a read").answer.digest()
    };
    (0..c.hosts.len() as u8).map(of).collect()
}

fn agree(c: &Cluster, table: TableId) -> bool {
    held(c, table).windows(2).all(|w| w[0] == w[1])
}

/// Of everything that a table can hold: rows, cells of their own, TTLs, statics, deletions of all kinds.
fn of_all_kinds(p: i64) -> WriteSet {
    let mut set = WriteSet::new();
    let key = p.to_be_bytes();
    for c in 0..6 {
        insert(&mut set, ROWS, p, c, c, Some(1_000 + c));
    }
    set.begin(OpKind::Row, ROWS, &key, Some(2_000))
        .clustering(&1i64.to_be_bytes())
        .ttl(86_400)
        .cell(W, &7i64.to_be_bytes())
        .end();
    set.begin(OpKind::Static, ROWS, &key, Some(3_000))
        .cell(ST, &9i64.to_be_bytes())
        .end();
    set.begin(OpKind::RowDelete, ROWS, &key, Some(4_000))
        .clustering(&2i64.to_be_bytes())
        .end();
    set.begin(OpKind::RangeDelete, ROWS, &key, Some(5_000))
        .clustering(&4i64.to_be_bytes())
        .end_bound(&5i64.to_be_bytes())
        .end();
    set
}

#[test]
fn every_replica_has_what_one_had_with_its_times() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        deaf(&mut c, &[1, 2]);
        c.ok(0, WriteKind::Unlogged, Consistency::One, of_all_kinds(1));
        deaf(&mut c, &[0, 2]);
        let mut gone = WriteSet::new();
        gone.begin(OpKind::PartitionDelete, ROWS, &2i64.to_be_bytes(), Some(9_000))
            .end();
        c.ok(1, WriteKind::Single, Consistency::One, gone);
        c.ok(1, WriteKind::Single, Consistency::One, one(3, 3));
        c.route = healthy();
        c.run_for(3 * S);
        assert!(!agree(&c, ROWS), "{flavor:?}: the replicas differ");
        let lacking = repair(&mut c, 2).expect("done");
        assert_eq!(lacking, 2 + 2 + 2, "{flavor:?}: three partitions, each on two replicas");
        assert!(agree(&c, ROWS), "{flavor:?}: {:?}", held(&c, ROWS));
        assert_eq!(c.stored(2, 1, 3), Some((3, 1_003)), "with its own timestamp");
        assert_eq!(repair(&mut c, 0), Ok(0), "nothing is lacking any more");
        assert_eq!(c.saw(|e| matches!(e, Event::RepairBegun { .. })), 2);
        assert_eq!(c.saw(|e| matches!(e, Event::RepairEnded { failed: None, .. })), 2);
    }
}

#[test]
fn a_table_of_any_size_goes_in_messages_of_a_few_hundred_rows() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    deaf(&mut c, &[1, 2]);
    for p in 0..4 {
        let mut many = WriteSet::new();
        for row in 0..700 {
            insert(&mut many, ROWS, p, row, row, Some(1));
            // Deleted rows are as long as others.
            many.begin(OpKind::RowDelete, ROWS, &p.to_be_bytes(), Some(2))
                .clustering(&(10_000 + row).to_be_bytes())
                .end();
        }
        c.ok(0, WriteKind::Unlogged, Consistency::One, many);
    }
    let mut gone = WriteSet::new();
    for p in 100..900i64 {
        gone.begin(OpKind::PartitionDelete, OTHER, &p.to_be_bytes(), Some(3))
            .end();
    }
    c.ok(0, WriteKind::Unlogged, Consistency::One, gone);
    let most = Rc::new(Cell::new(0));
    let seen = most.clone();
    c.route = Box::new(move |_, _, msg| {
        if let Msg::ReadData { rows, .. } = msg {
            let rows: usize = rows.answer.partitions.iter().map(|p| p.rows.len().max(1)).sum();
            seen.set(seen.get().max(rows));
        }
        Some(300)
    });
    c.run_for(3 * S);
    repair(&mut c, 1).expect("done");
    assert!(agree(&c, ROWS) && agree(&c, OTHER));
    assert_eq!(most.get(), 256);
}

#[test]
fn wide_rows_end_a_step_before_there_are_many() {
    let mut config = sim_cluster::core::ClusterConfig::new(3, Flavor::Scylla);
    config.schema = std::sync::Arc::new(schema(3));
    let mut c = Cluster::with(config);
    deaf(&mut c, &[1, 2]);
    let value = vec![7; 3 << 20];
    for p in 0..9i64 {
        let mut wide = WriteSet::new();
        wide.begin(OpKind::Row, ROWS, &p.to_be_bytes(), Some(1))
            .marker()
            .clustering(&0i64.to_be_bytes())
            .cell(V, &value)
            .end();
        c.ok(0, WriteKind::Single, Consistency::One, wide);
    }
    let most = Rc::new(Cell::new(0));
    let seen = most.clone();
    c.route = Box::new(move |_, _, msg| {
        if let Msg::ReadData { rows, .. } = msg {
            seen.set(seen.get().max(rows.answer.partitions.len()));
        }
        Some(300)
    });
    c.run_for(3 * S);
    repair(&mut c, 1).expect("done");
    assert!(agree(&c, ROWS));
    assert_eq!(most.get(), 3, "8 MiB, and the row that reaches them");
}

#[test]
fn with_a_replica_down_cassandra_refuses_and_scylla_repairs_the_others() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        deaf(&mut c, &[1]);
        c.ok(0, WriteKind::Single, Consistency::One, one(1, 1));
        c.route = healthy();
        c.kill(2);
        c.run_for(25 * S);
        let reason = repair(&mut c, 0).expect_err("a replica is down");
        match flavor {
            Flavor::Cassandra => {
                assert_eq!(reason, "Endpoint not alive: node 3");
                assert_eq!(c.stored(1, 1, 0), None, "nothing was done");
            }
            Flavor::Scylla => {
                assert_eq!(reason, "2 out of 2 ranges failed: a replica of them is down");
                assert_eq!(c.stored(1, 1, 0).map(|v| v.0), Some(1), "those that live agree");
            }
        }
    }
}

#[test]
fn a_replica_that_is_killed_in_the_middle_ends_it() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        deaf(&mut c, &[1]);
        c.ok(0, WriteKind::Single, Consistency::One, one(1, 1));
        c.route = healthy();
        begin(&mut c, 0, 7, None);
        c.kill(2);
        let reason = ended(&mut c, 0, 7).expect_err("it died");
        let expected = match flavor {
            Flavor::Cassandra => "Endpoint node 3 died",
            Flavor::Scylla => "ranges failed",
        };
        assert!(reason.contains(expected), "{flavor:?}: {reason}");
        assert!(c.now < 25 * S, "as soon as it is known to be dead: {}", c.now);
        assert_eq!(c.node(0).operations(), 0);
    }
}

#[test]
fn a_cut_that_heals_only_delays_it_and_one_that_does_not_ends_it() {
    for flavor in FLAVORS {
        for heals in [true, false] {
            let mut c = Cluster::new(3, flavor);
            deaf(&mut c, &[1]);
            c.ok(0, WriteKind::Single, Consistency::One, one(1, 1));
            // Heartbeats go through: nobody is convicted, and answers do not come.
            c.route = Box::new(|_, to, msg| (to != NodeIdx(1) || !matches!(msg, Msg::Read { .. })).then_some(300));
            begin(&mut c, 0, 1, Some("rows"));
            c.run_for(5 * S);
            if heals {
                c.route = healthy();
            }
            let outcome = ended(&mut c, 0, 1);
            match heals {
                true => assert_eq!(outcome, Ok(1), "{flavor:?}"),
                false => assert_eq!(outcome, Err("no answer from node 2 for 30 s".into()), "{flavor:?}"),
            }
            assert_eq!(c.stored(1, 1, 0).is_some(), heals);
        }
    }
}

#[test]
fn a_frozen_replica_is_waited_for() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    deaf(&mut c, &[1]);
    c.ok(0, WriteKind::Single, Consistency::One, one(1, 1));
    c.route = healthy();
    c.pause(1);
    begin(&mut c, 0, 1, None);
    c.run_for(12 * S);
    assert_eq!(c.node(0).repair_state(1), Some(&RepairState::Running));
    c.resume(1);
    assert_eq!(ended(&mut c, 0, 1), Ok(1));
}

#[test]
fn what_cannot_be_repaired_is_said() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    let scope = |keyspace: &str, table: Option<&str>| RepairScope {
        keyspace: keyspace.into(),
        table: table.map(str::to_owned),
        whole_ring: true,
    };
    let mut told = |number, scope| {
        c.input(0, Input::Repair { number, scope });
        ended(&mut c, 0, number).expect_err("refused")
    };
    assert_eq!(told(1, scope("nope", None)), "Keyspace [nope] does not exist.");
    assert_eq!(told(2, scope("k", Some("nope"))), "Unknown keyspace/cf pair (k.nope)");
    c.pause(1);
    for number in 10..14 {
        begin(&mut c, 0, number, None);
    }
    begin(&mut c, 0, 14, None);
    let reason = ended(&mut c, 0, 14).expect_err("one too many");
    assert_eq!(reason, "4 repairs run on this node already");
    // A node that stops takes its repairs with it, and stops.
    c.input(0, Input::Shutdown);
    c.run_for(S);
    assert!(c.hosts[0].stopped);
}

/// One node of six repairs what it has copies of, or all ranges.
#[test]
fn a_node_repairs_its_own_ranges_or_all() {
    for (whole_ring, expected) in [(false, false), (true, true)] {
        let mut c = Cluster::new(6, Flavor::Cassandra);
        deaf(&mut c, &[1, 2, 4, 5]);
        for p in 0..60 {
            c.write(0, WriteKind::Single, Consistency::Any, one(p, p));
        }
        c.route = healthy();
        c.run_for(3 * S);
        let scope = RepairScope {
            keyspace: "k".into(),
            table: None,
            whole_ring,
        };
        c.input(3, Input::Repair { number: 1, scope });
        assert!(ended(&mut c, 3, 1).expect("done") > 0);
        let is_whole = |p: i64| {
            let copies = (0..6).filter(|n| c.stored(*n, p, 0).is_some()).count();
            copies == 3 || copies == 0
        };
        assert_eq!((0..60).all(is_whole), expected, "whole_ring {whole_ring}");
    }
}

#[test]
fn of_a_base_it_updates_views_and_what_a_view_alone_lost_it_does_not_find() {
    for flavor in FLAVORS {
        let mut c = super::views::cluster_of_three(flavor);
        let view = super::views::VIEW;
        deaf(&mut c, &[1]);
        c.ok(0, WriteKind::Single, Consistency::One, one(1, 10));
        c.route = healthy();
        c.run_for(3 * S);
        let rows = |c: &Cluster, n: u8| c.node(n).store().table(view).expect("a view").row_count();
        assert_eq!([rows(&c, 0), rows(&c, 1)], [1, 0], "{flavor:?}");
        begin(&mut c, 2, 1, Some("rows"));
        assert_eq!(ended(&mut c, 2, 1), Ok(1));
        assert_eq!(rows(&c, 1), 1, "{flavor:?}: the row went through the write path");
        // All replicas of the view lost the same: they agree, and nothing is found.
        let fault = |c: &mut Cluster, fault| (0..3).for_each(|n| c.input(n, Input::ViewUpdates { fault }));
        fault(&mut c, ViewFault::Lose);
        c.ok(0, WriteKind::Single, Consistency::All, one(2, 20));
        fault(&mut c, ViewFault::None);
        begin(&mut c, 2, 2, None);
        assert_eq!(ended(&mut c, 2, 2), Ok(0), "{flavor:?}");
        assert_eq!(rows(&c, 0), 1, "{flavor:?}: base and view differ still");
    }
}

#[test]
fn a_coordinator_that_dies_takes_it_along_and_the_next_one_repairs() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    deaf(&mut c, &[1]);
    c.ok(0, WriteKind::Single, Consistency::One, one(1, 1));
    c.route = healthy();
    begin(&mut c, 2, 1, None);
    c.kill(2);
    c.restart(2);
    assert!(c.node(2).repair_state(1).is_none(), "its process knows nothing of it");
    c.run_for(5 * S);
    let lacking = repair(&mut c, 1).expect("done");
    assert!(lacking >= 1, "what the killed node lost of it, it lacks too");
    assert!(agree(&c, ROWS));
}
