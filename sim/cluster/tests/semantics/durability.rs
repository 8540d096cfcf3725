//! What survives: kill -9 and loss of power, per flavour and sync mode, torn logs, slow and failing disks.

use crate::harness::*;
use sim_cluster::core::{ClusterConfig, CommitlogSync, Event, Flavor};
use sim_cluster::model::*;

fn restarted(mut c: Cluster, down: impl Fn(&mut Cluster, u8)) -> Cluster {
    for n in 0..3 {
        down(&mut c, n);
    }
    for n in 0..3 {
        c.restart(n);
    }
    c.run_for(2 * S);
    c
}

fn count(c: &Cluster, node: u8, rows: i64) -> usize {
    (1..=rows).filter(|p| c.stored(node, *p, 0).is_some()).count()
}

#[test]
fn scylla_killed_loses_up_to_ten_seconds_of_acknowledged_writes() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.run_until(10_100 * MS);
    for p in 1..=50 {
        c.ok(0, WriteKind::Single, Consistency::All, one(p, p));
    }
    c.run_until(15 * S);
    let c = restarted(c, |c, n| c.kill(n));
    let lost: Vec<usize> = (0..3).map(|n| 50 - count(&c, n, 50)).collect();
    assert!(
        lost.contains(&50),
        "a node whose sync was not due has nothing: {lost:?}"
    );
}

#[test]
fn cassandra_killed_loses_a_tenth_of_a_second_at_most() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.run_until(10_100 * MS);
    for p in 1..=50 {
        c.ok(0, WriteKind::Single, Consistency::All, one(p, p));
    }
    c.run_for(101 * MS);
    c.ok(0, WriteKind::Single, Consistency::All, one(51, 51));
    let c = restarted(c, |c, n| c.kill(n));
    for n in 0..3 {
        assert_eq!(count(&c, n, 50), 50, "node {n}");
    }
    assert!(
        (0..3).any(|n| c.stored(n, 51, 0).is_none()),
        "the last one was too young for somebody"
    );
}

#[test]
fn loss_of_power_loses_what_was_not_synced_in_both() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        c.run_until(10_100 * MS);
        c.ok(0, WriteKind::Single, Consistency::All, one(1, 1));
        c.run_until(12 * S);
        let early = c.now;
        assert!((0..3).any(|n| c.on_platter(n, 1, 0).is_none()), "{flavor:?} at {early}");
        c.run_until(21 * S);
        assert!(
            (0..3).all(|n| c.on_platter(n, 1, 0).is_some()),
            "{flavor:?}: a period later it is there"
        );
        let c = restarted(c, |c, n| c.power_off(n));
        assert_eq!((0..3).map(|n| count(&c, n, 1)).sum::<usize>(), 3);
    }
}

#[test]
fn batch_mode_loses_nothing_that_was_acknowledged() {
    for kind in [true, false] {
        let mut config = ClusterConfig::new(3, Flavor::Scylla);
        match kind {
            true => config.kindness.fsync_every_write = true,
            false => config.commitlog_sync = CommitlogSync::Batch,
        }
        let mut c = Cluster::with(config);
        c.sync_us = 5 * MS;
        let started = c.now;
        for p in 1..=20 {
            c.ok(0, WriteKind::Single, Consistency::All, one(p, p));
            c.ok(1, WriteKind::Logged, Consistency::All, batch(3, p));
        }
        assert!(c.now - started >= 20 * 5 * MS, "acknowledgements waited for the disk");
        let c = restarted(c, |c, n| c.power_off(n));
        for n in 0..3 {
            assert_eq!(count(&c, n, 20), 20, "node {n}");
        }
        assert_eq!(c.stored(1, 2, 0).map(|v| v.0), Some(20));
    }
}

#[test]
fn concurrent_writes_share_a_sync_in_batch_mode() {
    let mut config = ClusterConfig::new(1, Flavor::Scylla);
    config.commitlog_sync = CommitlogSync::Batch;
    let mut c = Cluster::with(config);
    c.sync_us = 10 * MS;
    let ids: Vec<u64> = (0..100)
        .map(|p| c.ask(0, write_request(WriteKind::Single, Consistency::One, one(p, p))))
        .collect();
    let started = c.now;
    for id in ids {
        c.answer_within(id, S).unwrap();
    }
    assert!(c.now - started <= 25 * MS, "two syncs at most, not a hundred");
}

#[test]
fn a_torn_tail_is_cut_off_and_the_log_goes_on_after_it() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 1));
    c.run_for(200 * MS);
    let whole = c.hosts[1].file.len();
    c.ok(0, WriteKind::Single, Consistency::All, one(2, 2));
    c.run_for(200 * MS);
    c.kill(1);
    let torn = (whole + c.hosts[1].file.len()) / 2;
    c.hosts[1].file.truncate(torn);
    c.restart(1);
    let lost = c.events.iter().rev().find_map(|(_, n, e)| match e {
        Event::Recovered { lost_bytes, .. } if n.0 == 1 => Some(*lost_bytes),
        _ => None,
    });
    assert_eq!(lost, Some((torn - whole) as u64));
    assert_eq!(
        (c.stored(1, 1, 0).is_some(), c.stored(1, 2, 0).is_some()),
        (true, false)
    );
    c.run_for(S);
    c.ok(0, WriteKind::Single, Consistency::All, one(3, 3));
    c.run_for(200 * MS);
    c.kill(1);
    c.restart(1);
    assert_eq!(
        (count(&c, 1, 3), c.stored(1, 3, 0).is_some()),
        (2, true),
        "what came after the cut is readable"
    );
}

#[test]
fn every_cut_of_a_log_recovers_a_prefix_of_its_mutations() {
    let mut c = Cluster::new(1, Flavor::Cassandra);
    for p in 1..=5 {
        c.ok(0, WriteKind::Single, Consistency::One, one(p, p));
    }
    c.run_for(200 * MS);
    let file = c.hosts[0].file.clone();
    let mut longest = 0;
    for cut in 0..=file.len() {
        let snap = sim_cluster::core::snapshot::recoverable(&c.config, &file[..cut], c.now);
        let there: Vec<bool> = (1..=5).map(|p| find(&snap, "rows", p, 0).is_some()).collect();
        let n = there.iter().filter(|b| **b).count();
        assert!(there.iter().take(n).all(|b| *b), "a prefix: {there:?}");
        assert!(n >= longest);
        longest = n;
    }
    assert_eq!(longest, 5);
    for byte in 0..file.len() {
        let mut damaged = file.clone();
        damaged[byte] ^= 0x10;
        // Whatever the damage, recovery ends without panic and invents nothing.
        let snap = sim_cluster::core::snapshot::recoverable(&c.config, &damaged, c.now);
        for p in 1..=5 {
            assert!(find(&snap, "rows", p, 0).is_none_or(|(v, _)| v == p));
        }
    }
}

#[test]
fn a_disk_that_stops_syncing_stops_acknowledgements_in_periodic_mode_too() {
    let mut c = Cluster::new(1, Flavor::Cassandra);
    c.run_for(S);
    c.sync_stuck = true;
    c.ok(0, WriteKind::Single, Consistency::One, one(1, 1));
    c.run_for(16 * S);
    let e = error(c.write(0, WriteKind::Single, Consistency::One, one(2, 2)));
    assert!(matches!(e, CoordinatorError::WriteTimeout { received: 0, .. }));
}

#[test]
fn an_error_of_the_log_takes_the_node_down() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.input(1, sim_cluster::core::Input::LogFailed { error: "EIO".into() });
    assert!(c.hosts[1].stopped);
    c.run_until(25 * S);
    c.ok(0, WriteKind::Single, Consistency::Quorum, one(1, 1));
}

#[test]
fn durability_of_a_single_row_can_be_asked_without_a_snapshot() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.run_until(10_100 * MS);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 1));
    let durable = |c: &Cluster, p| {
        let node = c.node(0);
        let key = node
            .store()
            .table(ROWS)
            .unwrap()
            .layout()
            .row(pk(p).token, &pk(p).bytes, &ck(0).0)
            .unwrap();
        node.is_row_durable(ROWS, &key)
    };
    assert_eq!((durable(&c, 1), durable(&c, 2)), (Some(false), None));
    c.run_until(21 * S);
    assert_eq!(durable(&c, 1), Some(true));
    // The same row sent again is the row that is on the disk.
    let ts = c.stored(0, 1, 0).unwrap().1;
    let mut again = WriteSet::new();
    insert(&mut again, ROWS, 1, 0, 1, Some(ts));
    c.ok(0, WriteKind::Single, Consistency::All, again);
    assert_eq!(durable(&c, 1), Some(true));
}

#[test]
fn a_holders_batchlog_is_acknowledged_before_it_is_synced() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.run_until(10_100 * MS);
    c.sync_stuck = true;
    c.ok(0, WriteKind::Logged, Consistency::Quorum, batch(3, 1));
}

#[test]
fn a_row_with_a_null_sent_again_later_is_still_one_record_and_all_replicas_agree() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    let row = || {
        let mut set = WriteSet::new();
        set.begin(OpKind::Row, ROWS, &1i64.to_be_bytes(), Some(4096))
            .marker()
            .clustering(&0i64.to_be_bytes());
        set.cell(V, &5i64.to_be_bytes()).null(W).end();
        set
    };
    // Each replica sees the write in other seconds: tombstones differ in when they were made, and in nothing else.
    for (mask, _) in [(0b011u8, 1), (0b110, 2), (0b101, 3)] {
        c.route = Box::new(move |_, to, msg| {
            if is_mutate(msg) && mask & (1 << to.0) == 0 {
                None
            } else {
                Some(300)
            }
        });
        c.ok(mask.trailing_zeros() as u8, WriteKind::Single, Consistency::One, row());
        c.run_for(2 * S);
    }
    c.route = healthy();
    assert_eq!(c.value(0, Consistency::All, 1, 0), Some(5));
    c.events.clear();
    assert_eq!(c.value(1, Consistency::All, 1, 0), Some(5));
    assert_eq!(c.saw(|e| matches!(e, Event::ReadRepair { .. })), 0);
}
