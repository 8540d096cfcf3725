//! What only a planted bug or a second look had shown to be missing in the other files: rounds of Paxos, updates of views,
//! hints, schemas, repairs and nodes that join, each in the moment that its developer would not think of.

use crate::harness::*;
use crate::paxos::serial_read;
pub use crate::repair::deaf;
use crate::repair::{begin, ended};
use sim_cluster::core::{ClockSpec, ClusterConfig, Flavor, Input, Msg, RepairScope, RepairState};
use sim_cluster::model::*;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

pub const FLAVORS: [Flavor; 2] = [Flavor::Scylla, Flavor::Cassandra];

pub fn repaired(c: &mut Cluster, by: u8, table: Option<&str>) -> Result<u64, String> {
    begin(c, by, 1, table);
    ended(c, by, 1)
}

#[test]
fn an_acknowledgement_of_an_earlier_step_does_not_count_for_a_later_one() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        deaf(&mut c, &[1]);
        let mut many = WriteSet::new();
        for row in 0..400 {
            insert(&mut many, ROWS, 1, row, row, Some(1));
        }
        c.ok(0, WriteKind::Unlogged, Consistency::One, many);
        c.route = healthy();
        c.run_for(3 * S);
        // The first acknowledgement is eleven seconds late, after what was sent again is acknowledged; the first message of
        // the second step is lost.
        let (mut sent, mut told) = (0, 0);
        c.route = Box::new(move |from, to, msg| match msg {
            Msg::Mutate { .. } if to == NodeIdx(1) => {
                sent += 1;
                (sent != 3).then_some(300)
            }
            Msg::Mutated { .. } if from == NodeIdx(1) => {
                told += 1;
                Some(if told == 1 { 11 * S } else { 300 })
            }
            _ => Some(300),
        });
        assert_eq!(repaired(&mut c, 0, Some("rows")), Ok(2), "{flavor:?}");
        let there = (0..400).filter(|row| c.stored(1, 1, *row).is_some()).count();
        assert_eq!(there, 400, "{flavor:?}: it said that it was done");
    }
}

#[test]
fn an_answer_of_an_earlier_step_does_not_count_for_a_later_one() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        deaf(&mut c, &[0, 2]);
        c.ok(1, WriteKind::Single, Consistency::One, one(1, 1));
        c.route = healthy();
        c.run_for(3 * S);
        // What node 2 answers of the first table comes eleven seconds late, a second time in time; what it answers of the
        // second table is lost once.
        let mut told = 0;
        c.route = Box::new(move |from, _, msg| match msg {
            Msg::ReadData { .. } if from == NodeIdx(1) => {
                told += 1;
                match told {
                    1 => Some(11 * S),
                    3 => None,
                    _ => Some(300),
                }
            }
            _ => Some(300),
        });
        assert_eq!(repaired(&mut c, 0, None), Ok(2), "{flavor:?}");
        assert!(c.stored(0, 1, 0).is_some() && c.stored(2, 1, 0).is_some(), "{flavor:?}");
    }
}

#[test]
fn a_replacing_node_that_is_lost_itself_is_not_waited_for_for_ever() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 1));
    c.run_for(2 * S);
    c.replace(2);
    c.run_for(S);
    c.kill(2);
    c.run_for(120 * S);
    c.ok(0, WriteKind::Single, Consistency::Quorum, one(1, 2));
}

pub fn change(c: &mut Cluster, n: u8, change: SchemaChange) {
    match c.call(n, Request::Schema(change)) {
        Response::Schema(_) => {}
        other => panic!("{other:?}"),
    }
}

pub fn create(name: &str) -> SchemaChange {
    SchemaChange::CreateTable {
        table: table(name),
        if_not_exists: false,
    }
}

#[test]
fn a_change_that_somebody_else_ordered_meanwhile_is_not_made_again() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        c.run_for(5 * S);
        // Node 1 orders a change, and waits for node 2, which asked for it and stands still.
        c.ask(1, Request::Schema(create("new")));
        c.pause(1);
        c.run_for(MS);
        let drop = SchemaChange::DropTable {
            keyspace: "k".into(),
            table: "other".into(),
            if_exists: false,
        };
        change(&mut c, 2, drop);
        change(&mut c, 2, create("other"));
        let id = c.node(2).schema().keyspaces["k"].tables["other"];
        let mut row = WriteSet::new();
        insert(&mut row, id, 1, 0, 7, None);
        c.ok(2, WriteKind::Single, Consistency::Quorum, row);
        let changes = c.node(2).schema().change;
        c.run_for(30 * S);
        c.resume(1);
        c.run_for(10 * S);
        assert_eq!(
            c.node(2).schema().keyspaces["k"].tables["other"],
            id,
            "{flavor:?}: dropped a second time"
        );
        assert_eq!(c.node(2).schema().change, changes, "{flavor:?}");
    }
}

#[derive(Debug)]
struct Always;
impl Condition for Always {
    fn holds(&self, _: &ReadResult) -> bool {
        true
    }
}

pub fn cas(p: i64, to: i64) -> Request {
    Request::Cas(Box::new(CasRequest {
        read: ReadCommand::row(ROWS, pk(p), ck(0)),
        action: CasAction::Write {
            condition: Arc::new(Always),
            writes: one(p, to),
            derived: None,
        },
        serial: Consistency::Serial,
        commit: Consistency::Quorum,
    }))
}

pub fn applied(r: Response) {
    assert!(matches!(r, Response::Cas { applied: true, .. }), "{r:?}");
}

/// Of a decision that one node has not heard of when the table is truncated: whether anybody finds it afterwards.
pub fn is_back_after_a_truncation(like: impl Behaviour) -> bool {
    let mut c = Cluster::new(3, like);
    for n in 0..3 {
        c.input(n, Input::Handoff { on: false });
    }
    c.route = Box::new(|_, to, msg| (to != NodeIdx(2) || !matches!(msg, Msg::Commit { .. })).then_some(300));
    applied(c.call(0, cas(1, 5)));
    c.route = healthy();
    c.run_for(20 * S);
    assert!(matches!(c.call(0, Request::Truncate(ROWS)), Response::Done { .. }));
    let mut found = 0;
    for n in [2, 0, 2, 1] {
        let Response::Rows(read) = c.call(n, serial_read(1)) else {
            panic!("rows")
        };
        found += read.rows().count();
    }
    c.run_for(S);
    let is_stored = (0..3).any(|n| c.stored(n, 1, 0).is_some());
    assert_eq!(found > 0, is_stored, "{like:?}");
    is_stored
}

#[test]
fn what_was_decided_before_a_truncation_does_not_come_back_in_scylla() {
    assert!(!is_back_after_a_truncation(Flavor::Scylla));
    assert!(is_back_after_a_truncation(Flavor::Cassandra));
}

#[test]
fn what_waits_for_its_turn_is_done_before_a_truncation() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        for p in 0..60 {
            applied(c.call(0, cas(p, 5)));
            assert!(matches!(c.call(0, Request::Truncate(ROWS)), Response::Done { .. }));
            c.run_for(S);
            let left = (0..3).filter(|n| c.stored(*n, p, 0).is_some()).count();
            assert_eq!(left, 0, "{flavor:?}: partition {p} on {left} nodes");
        }
    }
}

#[test]
fn who_finishes_a_proposal_gives_it_its_own_time_in_cassandra() {
    for (flavor, last) in [(Flavor::Scylla, 8), (Flavor::Cassandra, 5)] {
        let mut c = Cluster::new(3, flavor);
        c.route = Box::new(|_, _, msg| match msg {
            Msg::Accepted { .. } => None,
            _ => Some(300),
        });
        let answer = c.call(0, cas(1, 5));
        assert!(matches!(error(answer), CoordinatorError::CasTimeout { .. }));
        c.route = healthy();
        c.ok(1, WriteKind::Single, Consistency::All, one(1, 8));
        c.run_for(S);
        c.call(1, serial_read(1));
        c.run_for(S);
        assert_eq!(c.value(0, Consistency::All, 1, 0), Some(last), "{flavor:?}");
    }
}

#[test]
fn a_table_dropped_in_the_middle_of_a_repair_is_passed_over_in_scylla() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.route = Box::new(|_, _, msg| Some(if matches!(msg, Msg::Read { .. }) { 2 * S } else { 300 }));
    let scope = RepairScope {
        keyspace: "k".into(),
        table: None,
        whole_ring: false,
    };
    c.input(0, Input::Repair { number: 1, scope });
    c.run_for(100 * MS);
    let drop = SchemaChange::DropTable {
        keyspace: "k".into(),
        table: "rows".into(),
        if_exists: false,
    };
    change(&mut c, 0, drop);
    c.run_for(20 * S);
    assert_eq!(c.node(0).repair_state(1), Some(&RepairState::Done { mutations: 0 }));
}

pub fn read_value(r: Response) -> Option<i64> {
    match r {
        Response::Rows(read) => read
            .rows()
            .next()
            .and_then(|(_, row)| row.cell(V))
            .map(|cell| number(cell.value)),
        other => panic!("expected rows, got {other:?}"),
    }
}

pub fn unknown(c: &mut Cluster, node: u8, request: Request) {
    let id = c.ask(node, request);
    let (_, answer) = c.answer_within(id, 10 * S).expect("answered");
    assert!(matches!(error(answer), CoordinatorError::CasTimeout { .. }));
}

#[test]
fn of_two_accepted_proposals_the_newer_one_is_finished() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        // Node 0 alone accepts the first one.
        c.route = Box::new(|_, _, msg| (!matches!(msg, Msg::Propose { .. })).then_some(300));
        unknown(&mut c, 0, cas(1, 5));
        // Nodes 1 and 2, which know nothing of it, accept the second one: it is decided.
        c.route = Box::new(|_, to, msg| match msg {
            Msg::Prepare { .. } | Msg::Propose { .. } if to == NodeIdx(0) => None,
            Msg::Accepted { .. } => None,
            _ => Some(300),
        });
        unknown(&mut c, 1, cas(1, 6));
        // Whoever meets both has to choose.
        c.route = Box::new(|_, to, msg| (to != NodeIdx(2) || !matches!(msg, Msg::Prepare { .. })).then_some(300));
        assert_eq!(read_value(c.call(0, serial_read(1))), Some(6), "{flavor:?}");
        c.route = healthy();
        assert_eq!(read_value(c.call(2, serial_read(1))), Some(6), "{flavor:?}");
    }
}

#[test]
fn a_late_commit_does_not_take_a_newer_accepted_proposal_away() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        c.route = Box::new(|_, to, msg| match msg {
            Msg::Commit { .. } if to == NodeIdx(2) => Some(8 * S),
            _ => Some(300),
        });
        applied(c.call(0, cas(1, 5)));
        c.route = Box::new(|_, to, msg| match msg {
            Msg::Prepare { .. } | Msg::Propose { .. } if to == NodeIdx(0) => None,
            Msg::Accepted { .. } => None,
            _ => Some(300),
        });
        unknown(&mut c, 1, cas(1, 6));
        c.route = healthy();
        c.run_for(10 * S);
        c.route = Box::new(|_, to, msg| (to != NodeIdx(1) || !matches!(msg, Msg::Prepare { .. })).then_some(300));
        assert_eq!(
            read_value(c.call(0, serial_read(1))),
            Some(6),
            "{flavor:?}: two of three had accepted it"
        );
    }
}

pub fn with_slow_clock(flavor: Flavor, node: usize) -> Cluster {
    let mut config = ClusterConfig::new(3, flavor);
    config.nodes[node].clock = ClockSpec {
        skew_us: -3_600_000_000,
        drift_ppm: 0,
    };
    Cluster::with(config)
}

#[test]
fn a_promise_is_kept_over_a_restart() {
    for flavor in FLAVORS {
        let mut c = with_slow_clock(flavor, 1);
        c.route = Box::new(|_, _, msg| (!matches!(msg, Msg::Propose { .. })).then_some(300));
        unknown(&mut c, 0, cas(1, 5));
        c.route = healthy();
        c.run_for(11 * S);
        c.kill(2);
        c.restart(2);
        c.run_for(5 * S);
        let granted = Rc::new(Cell::new(None));
        let seen = granted.clone();
        c.route = Box::new(move |from, _, msg| {
            if let Msg::Promised { promise, .. } = msg
                && from == NodeIdx(2)
                && seen.get().is_none()
            {
                seen.set(Some(promise.granted));
            }
            Some(300)
        });
        c.call(1, cas(1, 6));
        assert_eq!(granted.get(), Some(false), "{flavor:?}: a ballot an hour older");
    }
}

#[test]
fn a_coordinator_whose_clock_is_slow_outbids_what_was_promised() {
    for flavor in FLAVORS {
        let mut c = with_slow_clock(flavor, 1);
        applied(c.call(0, cas(1, 5)));
        applied(c.call(1, cas(1, 6)));
        assert_eq!(read_value(c.call(2, serial_read(1))), Some(6), "{flavor:?}");
    }
}

#[test]
fn what_is_decided_has_the_time_of_its_ballot() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        let ballot = Rc::new(Cell::new(0));
        let seen = ballot.clone();
        c.route = Box::new(move |_, _, msg| match msg {
            Msg::Commit { proposal, .. } => {
                seen.set(proposal.ballot.time_us);
                Some(300)
            }
            // The read takes its time.
            Msg::ReadData { .. } | Msg::ReadDigest { .. } => Some(50 * MS),
            _ => Some(300),
        });
        applied(c.call(0, cas(1, 5)));
        c.run_for(S);
        for n in 0..3 {
            assert_eq!(c.stored(n, 1, 0), Some((5, ballot.get())), "{flavor:?}");
        }
    }
}

#[test]
fn a_serial_read_finishes_what_was_accepted() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        c.route = Box::new(|_, _, msg| (!matches!(msg, Msg::Accepted { .. })).then_some(300));
        unknown(&mut c, 0, cas(1, 5));
        c.route = healthy();
        assert_eq!(read_value(c.call(1, serial_read(1))), Some(5), "{flavor:?}");
        assert_eq!(
            c.value(2, Consistency::Quorum, 1, 0),
            Some(5),
            "{flavor:?}: and commits it"
        );
    }
}

#[test]
fn replicas_that_did_not_answer_a_commit_are_hinted_in_cassandra() {
    for (flavor, hinted) in [(Flavor::Cassandra, true), (Flavor::Scylla, false)] {
        let mut c = Cluster::new(3, flavor);
        c.route = Box::new(|_, _, msg| (!matches!(msg, Msg::Commit { .. })).then_some(300));
        unknown(&mut c, 0, cas(1, 5));
        c.route = healthy();
        c.run_for(40 * S);
        assert_eq!([1, 2].map(|n| c.stored(n, 1, 0).is_some()), [hinted; 2], "{flavor:?}");
    }
}

#[test]
fn hints_of_a_coordinators_next_life_do_not_replace_those_of_the_one_before() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        c.kill(2);
        c.run_for(25 * S);
        c.ok(0, WriteKind::Single, Consistency::Quorum, one(1, 1));
        c.run_for(25 * S);
        c.kill(0);
        c.restart(0);
        c.run_for(5 * S);
        c.ok(0, WriteKind::Single, Consistency::Quorum, one(2, 2));
        assert_eq!(c.node(0).pending_hints(), 2, "{flavor:?}");
        c.restart(2);
        c.run_for(60 * S);
        assert_eq!(
            [1, 2].map(|p| c.stored(2, p, 0).map(|v| v.0)),
            [Some(1), Some(2)],
            "{flavor:?}"
        );
    }
}

#[test]
fn hints_that_were_delivered_are_not_found_again_after_a_restart() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        c.kill(2);
        c.run_for(25 * S);
        c.ok(0, WriteKind::Single, Consistency::Quorum, one(1, 1));
        c.run_for(25 * S);
        c.restart(2);
        c.run_for(60 * S);
        assert_eq!(c.pending_hints(), 0);
        c.kill(0);
        c.restart(0);
        assert_eq!(c.node(0).pending_hints(), 0, "{flavor:?}");
    }
}

#[test]
fn all_that_waits_for_a_schema_is_done_when_it_is_there() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.input(2, Input::HoldSchema { on: true });
    change(&mut c, 0, create("new"));
    let asked: Vec<u64> = (0..20)
        .map(|p| {
            let mut set = WriteSet::new();
            insert(&mut set, TableId(2), p, 0, p, None);
            c.ask(0, write_request(WriteKind::Single, Consistency::All, set))
        })
        .collect();
    for id in asked {
        let (_, answer) = c.answer_within(id, S).expect("answered");
        assert!(matches!(answer, Response::Done { .. }), "{answer:?}");
    }
    assert_eq!(c.node(2).store().table(TableId(2)).map(|t| t.row_count()), Some(20));
}

#[test]
fn two_schemas_of_as_many_changes_do_not_stay_apart() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        c.run_for(2 * S);
        c.route = Box::new(|from, to, _| ((from == NodeIdx(0)) == (to == NodeIdx(0))).then_some(300));
        c.run_for(40 * S);
        for (n, name) in [(0, "a"), (1, "b")] {
            let id = c.ask(n, Request::Schema(create(name)));
            c.answer_within(id, 30 * S);
        }
        let version = |c: &Cluster, n: u8| c.node(n).schema().version;
        assert_ne!(version(&c, 0), version(&c, 1), "{flavor:?}: apart");
        c.route = healthy();
        c.run_for(120 * S);
        assert_eq!(version(&c, 0), version(&c, 1), "{flavor:?}");
        assert_eq!(version(&c, 1), version(&c, 2), "{flavor:?}");
    }
}

#[test]
fn a_node_that_joins_gives_up_as_soon_as_its_source_is_known_to_be_dead() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        for p in 0..5 {
            let mut many = WriteSet::new();
            (0..700).for_each(|row| insert(&mut many, ROWS, p, row, row, Some(1)));
            c.ok(0, WriteKind::Unlogged, Consistency::All, many);
        }
        c.run_for(15 * S);
        c.replace(2);
        c.route = Box::new(|_, to, _| Some(if to == NodeIdx(2) { 400 * MS } else { 300 }));
        c.run_for(4 * S);
        c.kill(0);
        c.kill(1);
        c.run_for(26 * S);
        assert!(
            c.hosts[2].stopped,
            "{flavor:?}: it does not try its reads again for half a minute"
        );
    }
}

#[test]
fn a_repair_writes_nothing_that_a_replica_has_behind_what_it_told() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        deaf(&mut c, &[1, 2]);
        let rows = |rows: Vec<i64>| {
            let mut set = WriteSet::new();
            rows.into_iter()
                .for_each(|row| insert(&mut set, ROWS, 1, row, row, Some(1)));
            set
        };
        c.ok(0, WriteKind::Unlogged, Consistency::One, rows((0..600).collect()));
        c.route = healthy();
        c.ok(
            0,
            WriteKind::Unlogged,
            Consistency::All,
            rows((0..300).map(|i| 2 * i).collect()),
        );
        let sent = Rc::new(Cell::new(0));
        let seen = sent.clone();
        c.route = Box::new(move |_, to, msg| {
            seen.set(seen.get() + usize::from(is_mutate(msg) && to == NodeIdx(0)));
            Some(300)
        });
        assert_eq!(
            repaired(&mut c, 1, Some("rows")),
            Ok(6),
            "{flavor:?}: three steps, two replicas"
        );
        assert_eq!(sent.get(), 0, "{flavor:?}: the first node lacks nothing");
    }
}

#[test]
fn a_hint_from_before_a_truncation_does_not_bring_the_row_back() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.kill(2);
    c.run_for(25 * S);
    for p in 1..=20 {
        c.ok(0, WriteKind::Single, Consistency::Quorum, one(p, p));
    }
    c.run_for(15 * S);
    c.restart(2);
    // As soon as it is up again; its hints wait for some seconds more.
    for _ in 0..100 {
        c.run_for(50 * MS);
        if c.node(0).sees_up(NodeIdx(2)) {
            break;
        }
    }
    assert!(matches!(c.call(0, Request::Truncate(ROWS)), Response::Done { .. }));
    assert_eq!(c.pending_hints(), 20);
    c.run_for(60 * S);
    assert_eq!(c.pending_hints(), 0);
    assert!((1..=20).all(|p| c.stored(2, p, 0).is_none()));
}

#[test]
fn a_stop_of_a_node_that_joins_is_no_failure() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 1));
    c.run_for(2 * S);
    c.replace(2);
    c.route = Box::new(|_, to, _| Some(if to == NodeIdx(2) { 400 * MS } else { 300 }));
    c.run_for(3 * S);
    let mut fx = vec![];
    let now = c.now;
    let mut node = c.hosts[2].node.take().expect("it joins");
    node.step(now, Input::Shutdown, None, &mut fx);
    assert!(node.is_joining());
    let halted = fx.iter().any(|e| matches!(e, sim_cluster::core::Effect::Halted { .. }));
    assert!(!halted, "it was told to stop");
}
