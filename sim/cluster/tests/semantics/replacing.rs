//! A node in the place of a lost one: what it gets from whom, what reaches it meanwhile, and how it ends when a source dies.

use crate::harness::*;
use sim_cluster::core::{ClusterConfig, Event, Flavor, Input, RepairScope};
use sim_cluster::model::*;

const FLAVORS: [Flavor; 2] = [Flavor::Scylla, Flavor::Cassandra];

/// A cluster of three with twenty rows everywhere.
fn with_rows(like: impl Behaviour) -> Cluster {
    let mut c = Cluster::new(3, like);
    for p in 0..20 {
        c.ok(0, WriteKind::Single, Consistency::All, one(p, p));
    }
    // Everybody has heard of everybody.
    c.run_for(2 * S);
    c
}

fn joined(c: &mut Cluster, n: u8) -> bool {
    for _ in 0..100 {
        if c.hosts[usize::from(n)].ready {
            return true;
        }
        c.run_for(100 * MS);
    }
    false
}

fn rows(c: &Cluster, n: u8) -> usize {
    (0..200).filter(|p| c.stored(n, *p, 0).is_some()).count()
}

#[test]
fn it_has_nothing_and_serves_nobody_until_it_has_what_others_have() {
    for flavor in FLAVORS {
        let mut c = with_rows(flavor);
        let (before, generation) = (c.node(2).host_id(), c.node(2).generation());
        c.replace(2);
        assert!(c.node(2).is_joining());
        assert_eq!(rows(&c, 2), 0);
        c.run_for(S);
        assert!(!c.hosts[2].ready && !c.node(0).sees_up(NodeIdx(2)), "{flavor:?}");
        let answer = c.call(
            2,
            Request::Read(ReadRequest {
                command: ReadCommand::scan(ROWS),
                consistency: Consistency::One,
                timeout_ms: None,
            }),
        );
        assert!(
            matches!(error(answer), CoordinatorError::Overloaded { .. }),
            "it does not serve"
        );
        assert!(joined(&mut c, 2), "{flavor:?}");
        assert_eq!(rows(&c, 2), 20, "{flavor:?}");
        assert!(c.node(2).generation() > generation);
        c.run_for(S);
        assert!(
            c.node(0).sees_up(NodeIdx(2)) && c.node(1).sees_up(NodeIdx(2)),
            "{flavor:?}"
        );
        c.ok(2, WriteKind::Single, Consistency::All, one(1, 2));
        // In ScyllaDB it is another host, in Cassandra at the same address it is the same.
        let after = c.node(2).host_id();
        assert_eq!(after == before, flavor == Flavor::Cassandra);
        for by in [0, 1] {
            let told = c.node(by).facts()[2].host_id;
            assert_eq!(told.unwrap_or(before), after, "{flavor:?}");
        }
        assert_eq!(c.saw(|e| matches!(e, Event::Joined { .. })), 1);
        // It stays who it is.
        c.power_off(2);
        c.restart(2);
        c.run_for(3 * S);
        assert_eq!((c.node(2).host_id(), c.node(2).is_joining()), (after, false));
        assert_eq!(rows(&c, 2), 20, "{flavor:?}");
    }
}

/// Acknowledged by nodes 0 and 2, and not known to node 1; then node 2 is replaced. Whether node 2 has it then.
fn keeps_what_a_quorum_had(flavor: Flavor, p: i64) -> bool {
    let mut c = Cluster::new(3, flavor);
    for n in 0..3 {
        c.input(n, Input::Handoff { on: false });
    }
    // Draws differ from run to run of this.
    c.run_for(p as u64 * 77 * MS);
    for _ in 0..p {
        c.value(2, Consistency::One, 1, 0);
    }
    c.route = Box::new(|_, to, msg| (!(is_mutate(msg) && to == NodeIdx(1))).then_some(300));
    c.ok(0, WriteKind::Single, Consistency::Quorum, one(p, 7));
    c.route = healthy();
    c.run_for(3 * S);
    // Which source is drawn depends on the new node's seed, which depends on its lives.
    for _ in 0..p {
        c.power_off(2);
        c.restart(2);
    }
    c.run_for(3 * S);
    c.replace(2);
    assert!(joined(&mut c, 2));
    c.run_for(S);
    let has = c.stored(2, p, 0).is_some();
    if !has {
        // A quorum without node 0 does not find what was acknowledged, until a repair.
        c.pause(0);
        assert_eq!(
            c.value(2, Consistency::Quorum, p, 0),
            None,
            "an acknowledged write is missing"
        );
        c.resume(0);
        c.run_for(S);
        let scope = RepairScope {
            keyspace: "k".into(),
            table: None,
            whole_ring: true,
        };
        c.input(0, Input::Repair { number: 1, scope });
        c.run_for(S);
        assert!(c.stored(2, p, 0).is_some() && c.stored(1, p, 0).is_some());
    }
    has
}

#[test]
fn cassandra_reads_one_source_and_may_miss_what_a_quorum_had_and_scylla_reads_all() {
    let of = |flavor| (1..13).filter(|p| keeps_what_a_quorum_had(flavor, *p)).count();
    assert_eq!(of(Flavor::Scylla), 12);
    let kept = of(Flavor::Cassandra);
    assert!((1..12).contains(&kept), "by chance: {kept} of 12");
}

/// A write while a node joins: the rows that it has and the hints for it then, and when it has joined.
pub fn written_meanwhile(like: impl Behaviour) -> [(usize, usize); 2] {
    let mut c = with_rows(like);
    c.replace(2);
    c.run_for(2 * S);
    c.ok(0, WriteKind::Single, Consistency::Quorum, one(100, 1));
    let has_joined = c.hosts[2].ready;
    assert!(!has_joined);
    let meanwhile = (rows(&c, 2), c.pending_hints());
    assert!(joined(&mut c, 2));
    c.run_for(35 * S);
    [meanwhile, (rows(&c, 2), c.pending_hints())]
}

#[test]
fn writes_meanwhile_reach_it_at_once_or_by_hints() {
    let [meanwhile, in_the_end] = written_meanwhile(Flavor::Scylla);
    assert_eq!((meanwhile, in_the_end), ((1, 0), (21, 0)), "it is a pending replica");
    let [meanwhile, in_the_end] = written_meanwhile(Flavor::Cassandra);
    assert_eq!((meanwhile, in_the_end), ((0, 1), (21, 0)), "it counts as dead");
}

#[test]
fn a_pending_replica_is_waited_for_beside_the_level() {
    let mut c = with_rows(Flavor::Scylla);
    c.replace(2);
    c.run_for(2 * S);
    c.route = Box::new(|_, to, msg| (!(is_mutate(msg) && to == NodeIdx(2))).then_some(300));
    let e = error(c.write(0, WriteKind::Single, Consistency::Quorum, one(100, 1)));
    let CoordinatorError::WriteTimeout { received, required, .. } = e else {
        panic!("{e:?}");
    };
    assert_eq!((received, required), (2, 3));
}

#[test]
fn hints_for_the_lost_node_are_for_the_new_one_only_in_cassandra() {
    for flavor in FLAVORS {
        let mut c = with_rows(flavor);
        c.kill(2);
        c.run_until(c.now + 25 * S);
        c.ok(0, WriteKind::Single, Consistency::Quorum, one(100, 1));
        assert_eq!(c.pending_hints(), 1);
        c.replace(2);
        c.run_for(2 * S);
        let left = if flavor == Flavor::Scylla { 0 } else { 1 };
        assert_eq!(c.pending_hints(), left, "{flavor:?}");
        assert!(joined(&mut c, 2));
        c.run_for(15 * S);
        assert_eq!((rows(&c, 2), c.pending_hints()), (21, 0), "{flavor:?}");
    }
}

#[test]
fn a_source_that_is_killed_in_the_middle_ends_it_and_it_can_be_tried_again() {
    for flavor in FLAVORS {
        let mut c = Cluster::new(3, flavor);
        for p in 0..5 {
            let mut many = WriteSet::new();
            for row in 0..700 {
                insert(&mut many, ROWS, p, row, row, Some(1));
            }
            c.ok(0, WriteKind::Unlogged, Consistency::All, many);
        }
        c.run_for(15 * S);
        c.replace(2);
        // Its reads are slow, so that there is a middle.
        c.route = Box::new(|_, to, _| Some(if to == NodeIdx(2) { 400 * MS } else { 300 }));
        c.run_for(4 * S);
        let some = c.node(2).store().table(ROWS).expect("a table").row_count();
        assert!((1..3_500).contains(&some), "{flavor:?}: in the middle, {some} rows");
        c.kill(0);
        c.kill(1);
        c.run_for(60 * S);
        assert!(c.hosts[2].stopped && !c.hosts[2].ready, "{flavor:?}: it gave up");
        c.route = healthy();
        c.restart(0);
        c.restart(1);
        c.run_for(5 * S);
        c.replace(2);
        assert!(joined(&mut c, 2), "{flavor:?}");
        assert_eq!(
            c.node(2).store().table(ROWS).expect("a table").row_count(),
            3_500,
            "{flavor:?}"
        );
    }
}

#[test]
fn one_that_dies_in_the_middle_begins_anew_and_one_without_sources_gives_up() {
    for flavor in FLAVORS {
        let mut c = with_rows(flavor);
        c.run_for(15 * S);
        c.replace(2);
        c.run_for(S);
        c.kill(2);
        c.restart(2);
        assert!(
            c.node(2).is_joining(),
            "{flavor:?}: it is not taken for a node that has its data"
        );
        assert!(joined(&mut c, 2));
        assert_eq!(rows(&c, 2), 20);
        c.run_for(S);
        c.kill(0);
        c.kill(1);
        c.run_for(25 * S);
        c.replace(2);
        c.run_for(10 * S);
        assert!(c.hosts[2].stopped, "{flavor:?}");
    }
}

/// What had one copy is lost with it.
#[test]
fn with_one_copy_it_joins_without_what_is_lost() {
    for flavor in FLAVORS {
        let mut config = ClusterConfig::new(3, flavor);
        config.schema = std::sync::Arc::new(schema(1));
        let mut c = Cluster::with(config);
        for p in 0..30 {
            c.ok(0, WriteKind::Single, Consistency::One, one(p, p));
        }
        let lost = rows(&c, 2);
        assert!(lost > 0);
        c.replace(2);
        assert!(joined(&mut c, 2));
        assert_eq!(rows(&c, 2), 0, "{flavor:?}");
    }
}

#[test]
fn views_come_as_tables_and_are_not_built_again() {
    for flavor in FLAVORS {
        let mut c = super::views::cluster_of_three(flavor);
        c.ok(0, WriteKind::Single, Consistency::All, one(1, 10));
        c.run_for(3 * S);
        c.replace(2);
        assert!(joined(&mut c, 2));
        c.run_for(3 * S);
        let view = c.node(2).store().table(super::views::VIEW).expect("a view");
        assert_eq!(view.row_count(), 1, "{flavor:?}");
        let is_built = |by: u8| c.node(by).view_builds().get(&(super::views::VIEW, NodeIdx(2))).copied();
        assert_eq!([is_built(0), is_built(2)], [Some(true); 2], "{flavor:?}");
        let builds = |e: &Event| matches!(e, Event::ViewBuilt { .. });
        assert_eq!(c.saw(builds), 3, "{flavor:?}: one by each node, before");
    }
}
