//! Batchlog replay: when it runs, what each flavour does with an entry it cannot deliver, truncated tables, restarts.

use crate::harness::*;
use sim_cluster::core::{Boundary, Event, Flavor, Point, Verdict};
use sim_cluster::model::*;

const N: i64 = 3;

/// A batch that only the batchlog of nodes 1 and 2 knows, left by coordinator 0 at about `at`.
fn left_behind(c: &mut Cluster, at: u64, v: i64) {
    c.run_until(at);
    let mut done = false;
    c.hook = Some(Box::new(move |b: &Boundary<'_>| {
        if b.point == Point::BatchlogWritten && !std::mem::replace(&mut done, true) {
            Verdict::Drop
        } else {
            Verdict::Continue
        }
    }));
    c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(N, v)));
    c.run_for(100 * MS);
    c.hook = None;
}

fn replay_times(c: &Cluster) -> Vec<u64> {
    let mut t: Vec<u64> = c
        .events
        .iter()
        .filter(|(_, _, e)| matches!(e, Event::BatchReplayed { complete: true, .. }))
        .map(|e| e.0 / S)
        .collect();
    t.dedup();
    t
}

#[test]
fn replay_runs_after_30_s_then_every_60_or_10_and_spares_the_young() {
    // Written at 27 s: too young for the run at 30 s.
    for (flavor, second) in [(Flavor::Scylla, 90), (Flavor::Cassandra, 40)] {
        let mut c = Cluster::new(3, flavor);
        left_behind(&mut c, 5 * S, 1);
        left_behind(&mut c, 27 * S, 2);
        c.run_until(29 * S);
        assert_eq!(replay_times(&c), [0u64; 0]);
        c.run_until(100 * S);
        assert_eq!(replay_times(&c), [30, second], "{flavor:?}");
        assert_eq!(c.kept_batches(), 0);
    }
}

#[test]
fn scylla_keeps_an_entry_while_a_partition_lacks_its_quorum() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    left_behind(&mut c, 5 * S, 1);
    // Node 1 holds the batch; the others are gone before the first replay.
    c.kill(0);
    c.kill(2);
    c.run_until(155 * S);
    assert_eq!(c.node(1).kept_batches().count(), 1, "tried at 30, 90 and 150 s, kept");
    assert!(c.saw(|e| matches!(e, Event::BatchReplayed { complete: false, .. })) >= 3);
    c.restart(0);
    c.run_until(220 * S);
    assert_eq!(c.node(1).kept_batches().count(), 0);
    assert_eq!(c.stored(0, 1, 0).map(|v| v.0), Some(1));
}

#[test]
fn cassandra_sends_to_who_lives_hints_the_rest_and_forgets() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    left_behind(&mut c, 5 * S, 1);
    c.kill(0);
    c.kill(2);
    c.run_until(35 * S);
    assert_eq!(
        c.node(1).kept_batches().count(),
        0,
        "forgotten though two replicas are down"
    );
    assert_eq!(c.stored(1, 1, 0).map(|v| v.0), Some(1));
    assert_eq!(c.node(1).pending_hints(), 2 * N as usize);
    c.restart(0);
    c.run_until(60 * S);
    assert_eq!(c.stored(0, 3, 0).map(|v| v.0), Some(1), "by hint");
}

#[test]
fn cassandra_hints_a_silent_replica_when_its_replay_times_out() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    left_behind(&mut c, 20 * S, 1);
    c.run_until(29 * S);
    c.pause(0);
    c.run_until(31 * S);
    assert_eq!(c.kept_batches(), 2);
    c.run_until(33 * S);
    assert_eq!(c.kept_batches(), 0);
    assert_eq!(
        c.node(1).pending_hints() + c.node(2).pending_hints(),
        2 * N as usize,
        "each holder replays for itself"
    );
    c.resume(0);
    c.run_until(60 * S);
    assert_eq!(c.stored(0, 1, 0).map(|v| v.0), Some(1));
}

#[test]
fn tables_truncated_since_are_left_out() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        c.run_until(5 * S);
        let mut done = false;
        c.hook = Some(Box::new(move |b: &Boundary<'_>| {
            if b.point == Point::BatchlogWritten && !std::mem::replace(&mut done, true) {
                Verdict::Drop
            } else {
                Verdict::Continue
            }
        }));
        let mut set = batch(2, 1);
        insert(&mut set, OTHER, 1, 0, 8, None);
        insert(&mut set, OTHER, 5, 0, 9, None);
        c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, set));
        c.run_for(S);
        c.hook = None;
        assert!(matches!(c.call(1, Request::Truncate(ROWS)), Response::Done { .. }));
        c.run_until(100 * S);
        let other = |c: &Cluster, p| find(&sim_cluster::core::snapshot::live(c.node(2), c.now), "other", p, 0);
        assert_eq!(c.stored(2, 1, 0), None, "{flavor:?}: truncated");
        assert_eq!(other(&c, 5).map(|v| v.0), Some(9), "{flavor:?}: not truncated");
        assert_eq!(c.kept_batches(), 0);
    }
}

#[test]
fn a_kept_batch_survives_the_holders_kill_once_its_log_was_flushed() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    left_behind(&mut c, 5 * S, 1);
    c.run_for(200 * MS);
    for n in [1, 2] {
        c.kill(n);
    }
    c.run_for(S);
    for n in [1, 2] {
        c.restart(n);
    }
    c.run_until(c.now + 45 * S);
    assert_eq!(c.stored(1, 1, 0).map(|v| v.0), Some(1));
    assert_eq!(c.kept_batches(), 0);
}

#[test]
fn both_holders_losing_their_unflushed_log_lose_the_batch_for_good() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    left_behind(&mut c, 5 * S, 1);
    for n in [1, 2] {
        c.kill(n);
        c.restart(n);
    }
    c.run_until(200 * S);
    assert_eq!((0..3).filter(|n| c.stored(*n, 1, 0).is_some()).count(), 0);
}
