//! As `second_look`, for materialized views: what of them no test had looked at until a bug was planted there.

use crate::harness::*;
use crate::second_look::*;
use sim_cluster::core::{ClusterConfig, Flavor, Input, Msg, ViewFault};
use sim_cluster::model::*;
use std::sync::Arc;

#[test]
fn a_conditional_write_waits_for_views_that_are_waited_for() {
    for flavor in FLAVORS {
        let mut config = ClusterConfig::new(3, flavor);
        let schema = schema(1)
            .apply(&crate::views::create_view(flavor), 0)
            .expect("a view")
            .0;
        config.schema = Arc::new(schema);
        config.kindness.synchronous_views = true;
        let mut c = Cluster::with(config);
        c.run_for(5 * S);
        // What another node is to have of a view takes its time.
        c.route = Box::new(|from, to, msg| match msg {
            Msg::Mutate { .. } if from != to => Some(20 * MS),
            _ => Some(300),
        });
        let mut missed = 0;
        for p in 0..100 {
            applied(c.call(0, cas(p, 1_000 + p)));
            let command = ReadCommand::partition(crate::views::VIEW, pk(1_000 + p));
            missed += usize::from(c.read(0, Consistency::One, command).rows().count() == 0);
        }
        assert_eq!(missed, 0, "{flavor:?}");
    }
}

fn view_cluster(flavor: Flavor, rf: u8, nodes: usize) -> Cluster {
    let mut config = ClusterConfig::new(nodes, flavor);
    // Racks would put all copies apart from each other.
    config.nodes.iter_mut().for_each(|n| n.rack = "r1".to_owned());
    config.schema = Arc::new(
        schema(rf)
            .apply(&crate::views::create_view(flavor), 0)
            .expect("a view")
            .0,
    );
    let mut c = Cluster::with(config);
    c.run_for(5 * S);
    c
}

/// `p` and `w` of the view's rows with this `v`.
fn in_view(c: &mut Cluster, v: i64) -> Vec<(i64, i64)> {
    let found = c.read(0, Consistency::One, ReadCommand::partition(crate::views::VIEW, pk(v)));
    let p = |row: &Row| number(Components::new(row.clustering()).next().expect("a key"));
    let w = |row: &Row| row.cell(ColumnId(3)).map_or(0, |cell| number(cell.value));
    found.rows().map(|(_, row)| (p(row), w(row))).collect()
}

fn base_row(p: i64, v: i64, w: Option<i64>, at: Option<i64>, ttl: u32) -> WriteSet {
    let mut set = WriteSet::new();
    set.begin(OpKind::Row, ROWS, &p.to_be_bytes(), at)
        .marker()
        .ttl(ttl)
        .clustering(&0i64.to_be_bytes())
        .cell(V, &v.to_be_bytes());
    if let Some(w) = w {
        set.cell(W, &w.to_be_bytes());
    }
    set.end();
    set
}

#[test]
fn a_view_follows_conditional_writes() {
    for flavor in FLAVORS {
        let mut c = view_cluster(flavor, 1, 3);
        for p in 0..20 {
            applied(c.call(0, cas(p, 1_000 + p)));
        }
        c.run_for(5 * S);
        for p in 0..20 {
            assert_eq!(in_view(&mut c, 1_000 + p), [(p, 0)], "{flavor:?}");
        }
    }
}

#[test]
fn a_build_of_many_steps_leaves_no_row_out() {
    for flavor in FLAVORS {
        let mut config = ClusterConfig::new(3, flavor);
        config.schema = Arc::new(schema(1));
        config.views.build_rows = 7;
        let mut c = Cluster::with(config);
        for p in 0..100 {
            c.ok(
                0,
                WriteKind::Single,
                Consistency::One,
                base_row(p, 1_000 + p, Some(p), None, 0),
            );
        }
        change(&mut c, 0, crate::views::create_view(flavor));
        c.run_for(20 * S);
        for p in 0..100 {
            assert_eq!(in_view(&mut c, 1_000 + p), [(p, p)], "{flavor:?}");
        }
    }
}

#[test]
fn a_build_that_cannot_reach_a_partner_tries_its_rows_again() {
    for flavor in FLAVORS {
        let mut config = ClusterConfig::new(3, flavor);
        config.schema = Arc::new(schema(1));
        let mut c = Cluster::with(config);
        for p in 0..60 {
            c.ok(
                0,
                WriteKind::Single,
                Consistency::One,
                base_row(p, 1_000 + p, Some(p), None, 0),
            );
        }
        deaf(&mut c, &[]);
        c.run_for(11 * S);
        if flavor == Flavor::Cassandra {
            c.kill(2);
            c.run_for(30 * S);
            change(&mut c, 0, crate::views::create_view(flavor));
            c.run_for(20 * S);
            c.restart(2);
        } else {
            change(&mut c, 0, crate::views::create_view(flavor));
            // Only updates of the view are lost, and nobody is convicted.
            c.route = Box::new(|_, to, msg| (to != NodeIdx(2) || !is_mutate(msg)).then_some(300));
            c.run_for(400 * S);
            c.route = healthy();
        }
        c.run_for(400 * S);
        let missing: Vec<i64> = (0..60).filter(|p| in_view(&mut c, 1_000 + p).is_empty()).collect();
        assert_eq!(missing, [0i64; 0], "{flavor:?}");
    }
}

#[test]
fn each_replica_of_the_base_has_a_partner_of_its_own() {
    for flavor in FLAVORS {
        let mut c = view_cluster(flavor, 2, 6);
        c.run_for(S);
        let placed = |c: &Cluster, key: i64| {
            let node = c.node(0);
            let set = node
                .ring()
                .placement(&node.schema().keyspaces["k"].replication)
                .replicas(pk(key).token);
            node.ring().in_order(set, pk(key).token)
        };
        let mut tried = 0;
        for p in 0..40 {
            let (v, of_base) = (1_000 + p, placed(&c, p));
            let of_view = placed(&c, v);
            if of_view.iter().any(|n| of_base.contains(n)) {
                continue;
            }
            tried += 1;
            // Only the first replica of the base gets the row: the first of the view has it afterwards, and no other.
            let other = of_base[1];
            for n in 0..6 {
                c.input(n, Input::Handoff { on: false });
            }
            c.route = Box::new(move |from, to, msg| {
                let is_base = |m: &Msg| match m {
                    Msg::Mutate { sealed, .. } => sealed.mutations().iter().any(|m| m.table == ROWS),
                    _ => false,
                };
                (to != other || from == to || !is_base(msg)).then_some(300)
            });
            c.write(
                of_base[0].0,
                WriteKind::Single,
                Consistency::One,
                base_row(p, v, Some(p), None, 0),
            );
            c.run_for(3 * S);
            let has = |n: NodeIdx| {
                let held = sim_cluster::core::snapshot::live(c.node(n.0), c.now);
                let rows = &held.table("k", "by_v").expect("the view").rows;
                rows.iter().any(|r| r.partition == pk(v))
            };
            assert_eq!([has(of_view[0]), has(of_view[1])], [true, false], "{flavor:?}: {p}");
        }
        assert!(tried > 3);
    }
}

#[test]
fn a_row_of_a_view_that_is_made_again_hides_what_was_deleted_in_the_base() {
    for flavor in FLAVORS {
        let mut c = view_cluster(flavor, 3, 3);
        c.ok(
            0,
            WriteKind::Single,
            Consistency::All,
            base_row(1, 50, Some(7), Some(10), 0),
        );
        let fault = |c: &mut Cluster, fault| (0..3).for_each(|n| c.input(n, Input::ViewUpdates { fault }));
        fault(&mut c, ViewFault::Lose);
        let mut gone = WriteSet::new();
        gone.begin(OpKind::RowDelete, ROWS, &1i64.to_be_bytes(), Some(20))
            .clustering(&0i64.to_be_bytes())
            .end();
        c.ok(0, WriteKind::Single, Consistency::All, gone);
        fault(&mut c, ViewFault::None);
        c.ok(
            0,
            WriteKind::Single,
            Consistency::All,
            base_row(1, 50, None, Some(30), 0),
        );
        c.run_for(S);
        assert_eq!(in_view(&mut c, 50), [(1, 0)], "{flavor:?}: w was deleted at 20");
    }
}

#[test]
fn what_expires_in_the_base_expires_in_the_view() {
    for flavor in FLAVORS {
        let mut c = view_cluster(flavor, 3, 3);
        c.ok(0, WriteKind::Single, Consistency::All, base_row(1, 50, None, None, 0));
        let mut set = WriteSet::new();
        set.begin(OpKind::Row, ROWS, &1i64.to_be_bytes(), None)
            .ttl(100)
            .clustering(&0i64.to_be_bytes())
            .cell(W, &7i64.to_be_bytes())
            .end();
        c.ok(0, WriteKind::Single, Consistency::All, set);
        c.run_for(90 * S);
        assert_eq!(in_view(&mut c, 50), [(1, 7)], "{flavor:?}");
        c.run_for(15 * S);
        assert_eq!(in_view(&mut c, 50), [(1, 0)], "{flavor:?}");
    }
}

#[test]
fn a_row_of_a_view_is_taken_away_up_to_the_time_of_its_key_and_no_further() {
    for flavor in FLAVORS {
        let mut c = view_cluster(flavor, 3, 3);
        for (v, at) in [(7, 10), (3, 11), (7, 11)] {
            let mut set = WriteSet::new();
            set.begin(OpKind::Row, ROWS, &1i64.to_be_bytes(), Some(at))
                .clustering(&0i64.to_be_bytes())
                .cell(V, &i64::to_be_bytes(v))
                .end();
            c.ok(0, WriteKind::Single, Consistency::All, set);
        }
        c.run_for(S);
        assert_eq!(
            c.value(0, Consistency::All, 1, 0),
            Some(7),
            "of equal times the larger value"
        );
        assert_eq!(in_view(&mut c, 7), [(1, 0)], "{flavor:?}");
        assert_eq!(in_view(&mut c, 3), [], "{flavor:?}");
    }
}

#[test]
fn a_row_that_is_the_same_again_but_younger_is_sent() {
    for flavor in FLAVORS {
        let mut c = view_cluster(flavor, 3, 3);
        c.ok(
            0,
            WriteKind::Single,
            Consistency::All,
            base_row(1, 50, Some(7), Some(10), 0),
        );
        c.ok(
            0,
            WriteKind::Single,
            Consistency::All,
            base_row(1, 50, Some(7), Some(20), 0),
        );
        c.run_for(S);
        let found = c.read(0, Consistency::All, ReadCommand::partition(crate::views::VIEW, pk(50)));
        let times: Vec<i64> = found
            .rows()
            .filter_map(|(_, row)| row.cell(ColumnId(3)))
            .map(|c| c.timestamp_us)
            .collect();
        assert_eq!(times, [20], "{flavor:?}");
    }
}
