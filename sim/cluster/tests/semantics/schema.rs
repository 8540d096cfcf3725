//! Schema changes, truncation, dropped columns, clocks and server timestamps.

use crate::harness::*;
use sim_cluster::core::{ClockSpec, Flavor};
use sim_cluster::model::*;

fn create(name: &str, if_not_exists: bool) -> Request {
    Request::Schema(SchemaChange::CreateTable {
        table: table(name),
        if_not_exists,
    })
}

fn versions(c: &Cluster) -> Vec<u64> {
    c.hosts
        .iter()
        .filter_map(|h| h.node.as_ref())
        .map(|n| n.schema().change)
        .collect()
}

#[test]
fn a_change_is_answered_when_its_coordinator_has_it_and_others_follow() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    let r = c.call(2, create("new", false));
    let target = SchemaTarget::Table {
        keyspace: "k".into(),
        table: "new".into(),
    };
    assert!(matches!(r, Response::Schema(SchemaEffect::Created(t)) if t == target));
    assert_eq!(versions(&c)[2], 4);
    c.run_for(10 * MS);
    assert_eq!(versions(&c), [4, 4, 4]);
    assert!(matches!(
        c.call(1, create("new", true)),
        Response::Schema(SchemaEffect::Nothing)
    ));
    let e = error(c.call(0, create("new", false)));
    assert_eq!(
        e,
        CoordinatorError::Schema(SchemaError::TableExists {
            keyspace: "k".into(),
            table: "new".into()
        })
    );
}

#[test]
fn two_migrations_at_once_through_two_nodes_agree() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    let ids: Vec<u64> = (0..20)
        .map(|i| c.ask((i % 3) as u8, create(&format!("t{}", i / 2), true)))
        .collect();
    for id in ids {
        assert!(matches!(c.answer_within(id, 20 * S).unwrap().1, Response::Schema(_)));
    }
    assert_eq!(versions(&c), [13, 13, 13]);
    let of = |n: u8| c.node(n).schema().clone();
    assert!(of(0) == of(1) && of(1) == of(2));
}

#[test]
fn a_node_that_was_away_fetches_the_schema_and_one_that_restarts_remembers_it() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.kill(2);
    c.run_until(25 * S);
    c.call(0, create("new", false));
    c.restart(2);
    c.run_for(3 * S);
    assert_eq!(versions(&c), [4, 4, 4]);
    c.power_off(2);
    c.restart(2);
    assert_eq!(c.node(2).schema().change, 4, "it was synced at once");
}

#[test]
fn without_a_majority_a_change_is_unknown() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.pause(1);
    c.pause(2);
    let e = error(c.call(0, create("new", false)));
    assert!(matches!(e, CoordinatorError::SchemaUnknown { .. }), "{e:?}");
}

#[test]
fn truncate_needs_everybody() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 1));
    assert!(matches!(c.call(1, Request::Truncate(ROWS)), Response::Done { .. }));
    assert_eq!(c.value(2, Consistency::All, 1, 0), None);
    c.kill(2);
    c.run_until(25 * S);
    assert_eq!(error(c.call(0, Request::Truncate(ROWS))), CoordinatorError::Truncate);
    c.restart(2);
    c.run_for(2 * S);
    assert_eq!(c.stored(2, 1, 0), None, "truncation survives a restart");
}

#[test]
fn a_column_dropped_and_added_again_hides_what_was_written_before_the_drop() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 7));
    let drop = SchemaChange::DropColumns {
        keyspace: "k".into(),
        table: "rows".into(),
        columns: vec!["v".into()],
        at_us: None,
    };
    c.call(0, Request::Schema(drop));
    assert_eq!(c.value(1, Consistency::Quorum, 1, 0), None, "dropped");
    let v = NewColumn {
        name: "v".into(),
        kind: ColumnKind::Regular,
        order: ClusteringOrder::Asc,
        ty: CqlType::Bigint,
    };
    c.call(
        0,
        Request::Schema(SchemaChange::AddColumns {
            keyspace: "k".into(),
            table: "rows".into(),
            columns: vec![v],
        }),
    );
    assert_eq!(c.value(1, Consistency::Quorum, 1, 0), None, "still hidden");
    // A hand-made timestamp below the drop stays hidden for ever; the clock's own is visible.
    let mut low = WriteSet::new();
    insert(&mut low, ROWS, 1, 0, 8, Some(4096));
    c.ok(0, WriteKind::Single, Consistency::All, low);
    assert_eq!(c.value(1, Consistency::Quorum, 1, 0), None);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 9));
    assert_eq!(c.value(1, Consistency::Quorum, 1, 0), Some(9));
}

#[test]
fn a_fast_coordinator_silently_beats_later_writes() {
    let mut config = sim_cluster::core::ClusterConfig::new(3, Flavor::Scylla);
    config.nodes[1].clock = ClockSpec {
        skew_us: 5_000_000,
        drift_ppm: 0,
    };
    let mut c = Cluster::with(config);
    c.ok(1, WriteKind::Single, Consistency::All, one(1, 1));
    c.run_for(S);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 2));
    assert_eq!(
        c.value(2, Consistency::All, 1, 0),
        Some(1),
        "the later write is gone without an error"
    );
    // An operator sets the clock right: later writes win again.
    let now = c.now;
    c.hosts[1].node.as_mut().unwrap().set_clock(now, ClockSpec::default());
    c.run_for(6 * S);
    c.ok(1, WriteKind::Single, Consistency::All, one(1, 3));
    assert_eq!(c.value(2, Consistency::All, 1, 0), Some(3));
}

#[test]
fn equal_timestamps_happen_between_connections_in_scylla_and_never_on_one_cassandra_coordinator() {
    for (flavor, equal) in [(Flavor::Scylla, true), (Flavor::Cassandra, false)] {
        let mut c = Cluster::new(1, flavor);
        for conn in [1, 2] {
            c.ask_on(
                0,
                conn,
                write_request(WriteKind::Single, Consistency::One, one(conn as i64, 0)),
            );
        }
        c.run_for(S);
        let stamps = [1, 2].map(|p| c.stored(0, p, 0).unwrap().1);
        assert_eq!(stamps[0] == stamps[1], equal, "{flavor:?}");
    }
}

#[test]
fn what_does_not_exist_here_is_refused_loudly() {
    let mut c = Cluster::new(1, Flavor::Scylla);
    let e = error(c.call(
        0,
        Request::Unsupported {
            what: "counters".into(),
        },
    ));
    assert_eq!(e.to_string(), "not supported by the simulated cluster: counters");
    let command = ReadCommand::row(ROWS, pk(1), ck(0));
    let read = Request::Read(ReadRequest {
        command,
        consistency: Consistency::Serial,
        timeout_ms: None,
    });
    assert!(matches!(
        error(c.call(0, read)),
        CoordinatorError::BadConsistency { .. }
    ));
    let e = error(c.write(0, WriteKind::Single, Consistency::Serial, one(1, 1)));
    assert!(matches!(e, CoordinatorError::BadConsistency { .. }));
    let mut unknown = WriteSet::new();
    insert(&mut unknown, TableId(77), 1, 0, 0, None);
    assert!(matches!(
        error(c.write(0, WriteKind::Single, Consistency::One, unknown)),
        CoordinatorError::Invalid { .. }
    ));
    let mut short = WriteSet::new();
    short
        .begin(OpKind::Row, ROWS, &[1, 2], None)
        .marker()
        .clustering(&1i64.to_be_bytes())
        .end();
    assert!(matches!(
        error(c.write(0, WriteKind::Single, Consistency::One, short)),
        CoordinatorError::Invalid { .. }
    ));
}
