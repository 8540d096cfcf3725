//! Counters: who adds, what replicas get, what a timeout leaves unknown, what survives.

use crate::harness::*;
use sim_cluster::core::{Flavor, Msg};
use sim_cluster::model::parts::Part;
use sim_cluster::model::*;

/// UPDATE rows SET v = v + n WHERE p = … AND c = 0.
fn added(p: i64, n: i64) -> WriteSet {
    let mut set = WriteSet::new();
    set.begin(OpKind::Parts, ROWS, &p.to_be_bytes(), None)
        .clustering(&0i64.to_be_bytes());
    set.part(V, Part::Addition(n));
    set.end();
    set
}

fn add(c: &mut Cluster, node: u8, consistency: Consistency, p: i64, n: i64) -> Response {
    c.call(node, write_request(WriteKind::Counter, consistency, added(p, n)))
}

fn done(response: Response) {
    assert!(matches!(response, Response::Done { .. }), "{response:?}");
}

fn value(c: &mut Cluster, node: u8, consistency: Consistency, p: i64) -> Option<i64> {
    let read = c.read(node, consistency, ReadCommand::partition(ROWS, pk(p)));
    let row = read.partitions.first()?.rows.first()?.clone();
    row.cell(V).map(|cell| number(cell.value))
}

#[test]
fn every_coordinator_adds_and_every_replica_has_the_sum() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        // Five nodes and three copies: some coordinators hand the addition to a replica.
        let mut c = Cluster::new(5, flavor);
        for node in 0..5 {
            done(add(&mut c, node, Consistency::Quorum, 1, 10 + i64::from(node)));
        }
        done(add(&mut c, 0, Consistency::All, 1, -5));
        assert_eq!(value(&mut c, 4, Consistency::All, 1), Some(55));
        for node in 0..5 {
            assert_eq!(
                value(&mut c, node, Consistency::One, 1),
                Some(55),
                "{flavor:?}, by node {node}"
            );
        }
    }
}

#[test]
fn additions_to_one_counter_in_one_batch_add_up() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    let mut set = WriteSet::new();
    for (p, n) in [(1, 1), (1, 2), (2, 5), (1, 4)] {
        set.begin(OpKind::Parts, ROWS, &i64::to_be_bytes(p), None)
            .clustering(&0i64.to_be_bytes());
        set.part(V, Part::Addition(n));
        set.end();
    }
    done(c.call(0, write_request(WriteKind::Counter, Consistency::Quorum, set)));
    assert_eq!(value(&mut c, 1, Consistency::All, 1), Some(7));
    assert_eq!(value(&mut c, 1, Consistency::All, 2), Some(5));
}

#[test]
fn a_timeout_says_counter_and_the_addition_counts_unless_its_leader_was_away() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    let timeout = |consistency, received, required| CoordinatorError::WriteTimeout {
        consistency,
        received,
        required,
        write_type: WriteType::Counter,
    };
    let (mut counted, mut not_counted) = (vec![], vec![]);
    for key in 1..=12 {
        c.route = Box::new(|_, to, _| (to != NodeIdx(2)).then_some(300));
        let told = error(add(&mut c, 0, Consistency::All, key, 1));
        if told == timeout(Consistency::All, 2, 3) {
            assert_eq!(value(&mut c, 0, Consistency::Quorum, key), Some(1), "it was added");
            counted.push(key);
        } else {
            assert_eq!(told, timeout(Consistency::One, 0, 1), "any replica may lead");
            match value(&mut c, 0, Consistency::Quorum, key) {
                None => not_counted.push(key),
                // Another one led and did not reach ALL; it does not tell the coordinator.
                found => assert_eq!(found, Some(1)),
            }
        }
        c.route = healthy();
        c.run_for(2 * S);
    }
    assert!(
        !counted.is_empty() && !not_counted.is_empty(),
        "{counted:?} {not_counted:?}"
    );
    done(add(&mut c, 0, Consistency::Quorum, counted[0], 1));
    assert_eq!(
        value(&mut c, 0, Consistency::Quorum, counted[0]),
        Some(2),
        "a retry cannot be told from a second addition"
    );
    c.run_for(30 * S);
    assert_eq!(
        value(&mut c, 2, Consistency::One, counted[0]),
        Some(2),
        "hints carry shards"
    );
}

#[test]
fn a_leader_that_stays_silent_leaves_the_flavours_own_timeout() {
    for (flavor, consistency) in [
        (Flavor::Cassandra, Consistency::One),
        (Flavor::Scylla, Consistency::Quorum),
    ] {
        let mut c = Cluster::new(5, flavor);
        c.route = Box::new(|_, _, msg| (!matches!(msg, Msg::Lead { .. })).then_some(300));
        let mut remote = 0i64;
        // Four times through each node.
        for node in (0..20).map(|n| n % 5) {
            let response = add(&mut c, node, Consistency::Quorum, 1, 1);
            if let Response::Error(found) = response {
                remote += 1;
                let expected = CoordinatorError::WriteTimeout {
                    consistency,
                    received: 0,
                    required: 1,
                    write_type: WriteType::Counter,
                };
                assert_eq!(found, expected, "{flavor:?}");
            }
        }
        match flavor {
            Flavor::Scylla => assert_eq!(remote, 8, "two of five are no replicas, and a replica leads itself"),
            Flavor::Cassandra => assert!((9..20).contains(&remote), "{remote}: of replicas another may lead"),
        }
        c.route = healthy();
        assert_eq!(value(&mut c, 0, Consistency::All, 1), Some(20 - remote));
    }
}

#[test]
fn a_leader_of_cassandra_waits_for_the_others_only_until_its_mutations_expire() {
    for (flavor, expected) in [(Flavor::Cassandra, 3..20), (Flavor::Scylla, 0..1)] {
        let mut c = Cluster::new(3, flavor);
        c.route = Box::new(|_, to, _| (to != NodeIdx(2)).then_some(300));
        let mut early = 0;
        for key in 1..=24 {
            let began = c.now;
            error(add(&mut c, 0, Consistency::All, key, 1));
            let took = c.now - began;
            if took < 3_100 * MS {
                assert!(took >= 2 * S, "{took} us");
                early += 1;
            } else {
                // Another node leads, which tells nothing, or in ScyllaDB takes a counter's time.
                assert!((5 * S..5_100 * MS).contains(&took), "{flavor:?}: {took} us");
            }
        }
        assert!(expected.contains(&early), "{flavor:?}: {early} of 24");
    }
}

#[test]
fn too_few_replicas_alive_refuse_before_anything_is_added() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.kill(1);
    c.kill(2);
    c.run_for(40 * S);
    let error = error(add(&mut c, 0, Consistency::Quorum, 1, 1));
    assert!(matches!(error, CoordinatorError::Unavailable { .. }), "{error}");
    assert_eq!(value(&mut c, 0, Consistency::One, 1), None);
}

#[test]
fn counters_survive_kill_and_recovery_and_go_on_from_there() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    for node in 0..3 {
        done(add(&mut c, node, Consistency::All, 1, 100));
    }
    c.run_for(S);
    (0..3).for_each(|n| c.kill(n));
    (0..3).for_each(|n| c.restart(n));
    c.run_for(5 * S);
    for node in 0..3 {
        assert_eq!(value(&mut c, node, Consistency::One, 1), Some(300), "node {node}");
    }
    done(add(&mut c, 1, Consistency::All, 1, 7));
    assert_eq!(value(&mut c, 2, Consistency::All, 1), Some(307));
}

#[test]
fn a_leader_that_lost_its_log_goes_on_from_what_it_has_and_loses_what_it_counted() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.run_until(10_100 * MS);
    done(add(&mut c, 0, Consistency::All, 1, 5));
    c.run_until(21 * S);
    // Acknowledged, and nowhere on this node's disk.
    done(add(&mut c, 0, Consistency::All, 1, 100));
    c.kill(0);
    c.restart(0);
    c.run_for(5 * S);
    assert_eq!(value(&mut c, 1, Consistency::One, 1), Some(105), "the others know");
    done(add(&mut c, 0, Consistency::All, 1, 1));
    assert_eq!(
        value(&mut c, 1, Consistency::All, 1),
        Some(6),
        "its newer clock wins, with the older count"
    );
}

#[test]
fn a_deleted_counter_stays_deleted_whatever_is_added() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    done(add(&mut c, 0, Consistency::All, 1, 5));
    let mut set = WriteSet::new();
    set.begin(OpKind::Row, ROWS, &1i64.to_be_bytes(), None)
        .clustering(&0i64.to_be_bytes())
        .null(V);
    set.end();
    done(c.call(0, write_request(WriteKind::Counter, Consistency::All, set)));
    done(add(&mut c, 1, Consistency::All, 1, 7));
    assert_eq!(value(&mut c, 2, Consistency::All, 1), None);
}
