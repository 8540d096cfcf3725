//! A log that is compacted: the snapshot says all that the log said, and rows are where they were after the memory of dead
//! entries is given back.

use crate::harness::*;
use sim_cluster::core::{Boundary, ClusterConfig, CommitlogSync, Flavor, Input, Node, Point, Start, Verdict, snapshot};
use sim_cluster::model::*;
use std::convert::Infallible;

pub fn compacted(node: &Node) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written: Result<(), Infallible> = node.write_snapshot(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    written.expect("it cannot fail");
    bytes
}

fn booted(c: &Cluster, node: u8, log: &[u8]) -> Node {
    let mut again = Node::new(c.config.clone(), NodeIdx(node), 1);
    again.boot(c.now, log, Start::Alone, &mut vec![]);
    again
}

fn in_batch_mode(nodes: usize, flavor: Flavor) -> Cluster {
    let mut config = ClusterConfig::new(nodes, flavor);
    config.commitlog_sync = CommitlogSync::Batch;
    Cluster::with(config)
}

#[test]
fn a_snapshot_holds_what_is_kept_for_others_too() {
    let mut c = in_batch_mode(3, Flavor::Cassandra);
    c.run_until(S);
    for p in 1..=40 {
        c.ok(0, WriteKind::Single, Consistency::All, one(p, p));
        c.ok(0, WriteKind::Single, Consistency::All, one(p, p + 1));
    }
    assert!(matches!(c.call(1, Request::Truncate(OTHER)), Response::Done { .. }));
    c.hook = Some(Box::new(|b: &Boundary<'_>| match b.point {
        Point::BatchlogWritten => Verdict::Drop,
        _ => Verdict::Continue,
    }));
    c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(3, 7)));
    c.run_for(100 * MS);
    c.hook = None;
    c.kill(2);
    // Hints reach the log every ten seconds; by then the dead node is convicted.
    c.run_for(25 * S);
    c.ok(0, WriteKind::Single, Consistency::Quorum, one(100, 1));
    c.run_for(3 * S);
    let node = c.node(0);
    assert!(node.is_log_settled());
    let log = compacted(node);
    assert!(log.len() < c.hosts[0].file.len(), "overwritten rows are gone");
    let again = booted(&c, 0, &log);
    assert!(again.generation() > node.generation());
    assert_eq!(snapshot::live(&again, c.now), snapshot::live(node, c.now));
    let kept = |n: &Node| {
        n.kept_batches()
            .map(|(id, b)| (*id, b.written_at_us))
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(&again), kept(node));
    let truncated = |n: &Node| n.store().table(OTHER).and_then(|t| t.truncated_at_us());
    assert!(truncated(&again).is_some() && truncated(&again) == truncated(node));
    // The same that the log itself gives, hints included.
    let from_log = booted(&c, 0, &c.hosts[0].file);
    assert_eq!(again.pending_hints(), from_log.pending_hints());
    assert!(
        c.node(1).pending_hints() + node.pending_hints() > 0,
        "the dead node is owed something"
    );
}

#[test]
fn rows_stay_where_they_are_found_and_memory_is_given_back() {
    let mut c = in_batch_mode(1, Flavor::Cassandra);
    for round in 0..30 {
        for p in 1..=20 {
            c.ok(0, WriteKind::Logged, Consistency::One, batch(p, round * 1000 + p));
        }
        // A row of two writes, which is no record any more.
        let mut set = WriteSet::new();
        set.begin(OpKind::Row, ROWS, &1i64.to_be_bytes(), None)
            .clustering(&0i64.to_be_bytes())
            .cell(W, &round.to_be_bytes())
            .end();
        c.ok(0, WriteKind::Single, Consistency::One, set);
        c.run_for(10 * MS);
        let before = snapshot::live(c.node(0), c.now);
        let node = c.hosts[0].node.as_mut().expect("it runs");
        assert!(node.is_log_settled());
        node.shed_log();
        assert!(node.is_log_settled());
        assert_eq!(snapshot::live(c.node(0), c.now), before, "round {round}");
    }
    let node = c.node(0);
    let (live, kept) = (node.live_log_bytes(), node.log().bytes_in_memory());
    assert!(kept <= live * 4 / 3, "{live} bytes of {kept} are alive");
    // The file was not touched, and what came after each shedding is in it.
    let from_log = booted(&c, 0, &c.hosts[0].file);
    assert_eq!(snapshot::live(&from_log, c.now), snapshot::live(c.node(0), c.now));
    c.input(0, Input::Shutdown);
    c.run_for(S);
}
