//! Boundary points: what a hook sees, and that each verdict does what it says, in every world of a timeout.

use crate::harness::*;
use sim_cluster::core::{Boundary, Event, Flavor, Point, Then, Verdict};
use sim_cluster::model::*;
use std::sync::{Arc, Mutex};

const N: i64 = 3;

fn once(point: Point, verdict: Verdict) -> Option<Box<dyn sim_cluster::core::BoundaryHook>> {
    let mut done = false;
    Some(Box::new(move |b: &Boundary<'_>| {
        if b.point == point && !std::mem::replace(&mut done, true) {
            verdict
        } else {
            Verdict::Continue
        }
    }))
}

fn timeout(then: Then) -> Verdict {
    Verdict::Timeout {
        write_type: WriteType::Batch,
        received: 1,
        required: 2,
        then,
    }
}

fn all(c: &Cluster, node: u8) -> Vec<Option<i64>> {
    (1..=N).map(|p| c.stored(node, p, 0).map(|v| v.0)).collect()
}

#[test]
fn a_hook_sees_the_points_in_order_and_the_rows_by_column_name() {
    let seen = Arc::new(Mutex::new(vec![]));
    let log = seen.clone();
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.hook = Some(Box::new(move |b: &Boundary<'_>| {
        let batch = b.batch.expect("a write");
        let row = batch.row_of("rows").expect("its table");
        let text = format!(
            "{:?} {} logged={} rows={} p={:?} c={:?} v={:?}",
            b.point,
            batch.keyspace().unwrap_or("?"),
            batch.is_logged(),
            batch.rows().count(),
            row.number("p"),
            row.number("c"),
            row.number("v"),
        );
        log.lock().unwrap().push(text);
        Verdict::Continue
    }));
    c.ok(0, WriteKind::Logged, Consistency::Quorum, batch(2, -9));
    let tail = "k logged=true rows=2 p=Some(1) c=Some(0) v=Some(-9)";
    let points = [
        "RequestArrived",
        "BatchlogWritten",
        "MutationsSent { k: 0, of: 2 }",
        "MutationsSent { k: 1, of: 2 }",
        "MutationsSent { k: 2, of: 2 }",
        "ResponseLeaving",
    ];
    let expected: Vec<String> = points.iter().map(|p| format!("{p} {tail}")).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn the_four_worlds_of_a_timeout() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        for then in [
            Then::NeverApply,
            Then::ApplyNow,
            Then::ByReplay,
            Then::ExecuteLate { after_ms: 20_000 },
        ] {
            let mut c = Cluster::new(3, flavor);
            c.run_for(S);
            c.hook = once(Point::RequestArrived, timeout(then));
            let asked_wall = c.node(0).wall_us(c.now);
            let asked = c.now;
            let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
            let (at, r) = c.answer_within(id, S).unwrap();
            assert_eq!(at, asked, "the timeout is answered at once");
            assert!(matches!(
                error(r),
                CoordinatorError::WriteTimeout {
                    received: 1,
                    required: 2,
                    write_type: WriteType::Batch,
                    ..
                }
            ));
            c.run_for(S);
            let soon = all(&c, 1);
            c.run_until(120 * S);
            let late = all(&c, 1);
            let stamp = c.stored(1, 1, 0).map(|v| v.1 - asked_wall);
            let (none, some) = (vec![None; N as usize], vec![Some(1); N as usize]);
            match then {
                Then::NeverApply => assert_eq!((soon, late), (none.clone(), none)),
                Then::ApplyNow => assert_eq!((soon, late), (some.clone(), some)),
                Then::ByReplay => {
                    assert_eq!((soon, late), (none, some), "{flavor:?}");
                    assert!(stamp.unwrap() < 1_000, "its original timestamp");
                }
                Then::ExecuteLate { .. } => {
                    assert_eq!((soon, late), (none, some));
                    assert!(stamp.unwrap() >= 20_000_000 - 1_000, "a new server timestamp");
                    assert_eq!(c.saw(|e| matches!(e, Event::ExecutedLate { .. })), 1);
                }
            }
        }
    }
}

#[test]
fn a_late_execution_keeps_a_pinned_timestamp() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.hook = once(Point::RequestArrived, timeout(Then::ExecuteLate { after_ms: 5_000 }));
    let mut set = WriteSet::new();
    insert(&mut set, ROWS, 1, 0, 5, Some(4096));
    insert(&mut set, ROWS, 2, 0, 6, None);
    let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, set));
    c.answer_within(id, S).unwrap();
    c.run_for(10 * S);
    assert_eq!(c.stored(1, 1, 0), Some((5, 4096)));
    assert!(c.stored(1, 2, 0).unwrap().1 > 4096);
}

#[test]
fn a_timeout_after_k_mutations_leaves_the_rest_to_the_world_chosen() {
    let point = Point::MutationsSent { k: 1, of: N as u16 };
    for (then, soon, late) in [
        (Then::NeverApply, 1, 1),
        (Then::ApplyNow, 3, 3),
        (Then::ByReplay, 1, 3),
        (Then::ExecuteLate { after_ms: 8_000 }, 1, 3),
    ] {
        let mut c = Cluster::new(3, Flavor::Scylla);
        c.run_for(S);
        c.hook = once(point, timeout(then));
        let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
        c.answer_within(id, S).unwrap();
        c.run_for(3 * S);
        assert_eq!(all(&c, 1).iter().flatten().count(), soon, "{then:?}");
        c.run_until(120 * S);
        assert_eq!(all(&c, 1).iter().flatten().count(), late, "{then:?}");
        assert_eq!(c.kept_batches(), 0, "{then:?}");
    }
}

#[test]
fn by_replay_without_a_batchlog_is_never() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.hook = once(Point::RequestArrived, timeout(Then::ByReplay));
    let id = c.ask(0, write_request(WriteKind::Single, Consistency::Quorum, one(1, 1)));
    c.answer_within(id, S).unwrap();
    c.run_until(120 * S);
    assert_eq!(c.stored(1, 1, 0), None);
    assert_eq!(c.node(0).operations(), 0);
}

#[test]
fn a_coordinator_paused_on_arrival_stamps_when_it_wakes() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.run_for(S);
    c.hook = once(Point::RequestArrived, Verdict::PauseNode { ms: 4_000 });
    let wall = c.node(0).wall_us(c.now);
    let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
    c.run_for(3 * S);
    // Meanwhile another coordinator writes the same row.
    c.ok(1, WriteKind::Single, Consistency::Quorum, one(1, 50));
    let (_, r) = c.answer_within(id, 10 * S).unwrap();
    assert!(matches!(r, Response::Done { .. }), "it has its full time again: {r:?}");
    let (v, ts) = c.stored(1, 1, 0).unwrap();
    assert_eq!(v, 1, "the late execution wins over the newer write");
    assert!(ts - wall >= 4_000_000);
}

#[test]
fn a_coordinator_paused_between_mutations_goes_on_from_there_with_its_old_timestamp() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.run_for(S);
    c.hook = once(
        Point::MutationsSent { k: 1, of: N as u16 },
        Verdict::PauseNode { ms: 5_000 },
    );
    let wall = c.node(0).wall_us(c.now);
    let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
    c.run_for(4 * S);
    let first = leaving(N)[0];
    let part: Vec<_> = (1..=N).map(|p| (p == first).then_some(1)).collect();
    assert_eq!(all(&c, 1), *part, "readers see a part");
    let (_, r) = c.answer_within(id, 10 * S).unwrap();
    assert!(matches!(r, Response::Done { .. }));
    assert_eq!(all(&c, 1), [Some(1); 3]);
    assert!(c.stored(1, 3, 0).unwrap().1 - wall < 1_000);
}

#[test]
fn drop_and_swallow_answer_nothing_but_only_one_of_them_applies() {
    for (verdict, applied) in [(Verdict::Drop, None), (Verdict::SwallowResponse, Some(1))] {
        let mut c = Cluster::new(3, Flavor::Cassandra);
        c.hook = once(Point::RequestArrived, verdict);
        let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
        assert!(c.answer_within(id, 30 * S).is_none(), "{verdict:?}");
        assert_eq!(c.stored(1, 1, 0).map(|v| v.0), applied, "{verdict:?}");
        assert_eq!(c.node(0).operations(), 0);
    }
}

#[test]
fn a_dropped_batch_that_the_batchlog_has_is_finished_by_replay() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.hook = once(Point::BatchlogWritten, Verdict::Drop);
    let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
    assert!(c.answer_within(id, 10 * S).is_none());
    assert_eq!(all(&c, 1), [None; 3]);
    c.run_until(100 * S);
    assert_eq!(all(&c, 1), [Some(1); 3]);
}

#[test]
fn the_answer_can_be_lost_or_turned_into_a_timeout_after_everything_was_done() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.hook = once(Point::ResponseLeaving, timeout(Then::ApplyNow));
    let e = error(c.write(0, WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
    assert!(matches!(e, CoordinatorError::WriteTimeout { .. }));
    assert_eq!(all(&c, 1), [Some(1); 3]);
    c.hook = once(Point::ResponseLeaving, Verdict::SwallowResponse);
    let id = c.ask(0, write_request(WriteKind::Single, Consistency::Quorum, one(9, 9)));
    assert!(c.answer_within(id, 5 * S).is_none());
    assert_eq!(c.stored(1, 9, 0).map(|v| v.0), Some(9));
}

#[test]
fn reads_have_boundaries_too() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 1));
    let read = |c: &mut Cluster| {
        let command = ReadCommand::row(ROWS, pk(1), ck(0));
        c.ask(
            0,
            Request::Read(ReadRequest {
                command,
                consistency: Consistency::Quorum,
                timeout_ms: None,
            }),
        )
    };
    for (point, verdict) in [
        (Point::RequestArrived, Verdict::Drop),
        (Point::ResponseLeaving, Verdict::SwallowResponse),
    ] {
        c.hook = once(point, verdict);
        let id = read(&mut c);
        assert!(c.answer_within(id, 10 * S).is_none(), "{point:?}");
    }
    c.hook = once(Point::RequestArrived, Verdict::PauseNode { ms: 1_000 });
    let (asked, id) = (c.now, read(&mut c));
    let (at, r) = c.answer_within(id, 10 * S).unwrap();
    assert!(matches!(r, Response::Rows(_)));
    assert!(at - asked >= S);
}

#[test]
fn the_kind_cluster_knows_only_one_world() {
    let mut config = sim_cluster::core::ClusterConfig::new(3, Flavor::Scylla);
    config.kindness.rollback_failed_batch = true;
    for then in [Then::ApplyNow, Then::ByReplay, Then::ExecuteLate { after_ms: 1_000 }] {
        let mut c = Cluster::with(config.clone());
        c.hook = once(Point::MutationsSent { k: 2, of: N as u16 }, timeout(then));
        let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(N, 1)));
        c.answer_within(id, S).unwrap();
        c.run_until(120 * S);
        assert_eq!(all(&c, 1), [None; 3], "{then:?}");
    }
}

/// Watches the write of one partition, and counts what it is shown.
struct Picky {
    shown: Arc<Mutex<Vec<i64>>>,
}

impl sim_cluster::core::BoundaryHook for Picky {
    fn watches(&mut self, write: &sim_cluster::core::BatchInfo<'_>) -> bool {
        write.row_of("rows").and_then(|r| r.number("v")) == Some(7)
    }
    fn at(&mut self, b: &Boundary<'_>) -> Verdict {
        let v = b.batch.and_then(|w| w.row_of("rows")).and_then(|r| r.number("v"));
        self.shown.lock().unwrap().push(v.unwrap_or(-1));
        Verdict::Continue
    }
}

#[test]
fn a_hook_is_shown_only_the_writes_it_watches_and_the_others_travel_together() {
    let shown = Arc::new(Mutex::new(vec![]));
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.hook = Some(Box::new(Picky { shown: shown.clone() }));
    let sent = Arc::new(Mutex::new(0));
    let count = sent.clone();
    c.route = Box::new(move |_, _, msg| {
        *count.lock().unwrap() += usize::from(is_mutate(msg));
        Some(300)
    });
    c.ok(0, WriteKind::Logged, Consistency::All, batch(N, 6));
    assert_eq!(std::mem::take(&mut *sent.lock().unwrap()), 2, "one message per peer");
    assert_eq!(*shown.lock().unwrap(), [0i64; 0]);
    c.ok(0, WriteKind::Logged, Consistency::All, batch(N, 7));
    assert_eq!(
        *sent.lock().unwrap(),
        2 * N as usize,
        "one message per mutation and peer"
    );
    assert_eq!(
        *shown.lock().unwrap(),
        vec![7; 7],
        "arrival, batchlog, four steps of three mutations, answer"
    );
}

#[test]
fn a_frozen_coordinator_is_not_asked_again_about_the_step_it_froze_at() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    let asked = Arc::new(Mutex::new(vec![]));
    let log = asked.clone();
    c.hook = Some(Box::new(move |b: &Boundary<'_>| {
        log.lock().unwrap().push(b.point);
        let point = Point::MutationsSent { k: 1, of: N as u16 };
        if b.point == point {
            Verdict::PauseNode { ms: 50 }
        } else {
            Verdict::Continue
        }
    }));
    c.ok(0, WriteKind::Logged, Consistency::All, batch(N, 1));
    let steps: Vec<u16> = (asked.lock().unwrap().iter())
        .filter_map(|p| {
            if let Point::MutationsSent { k, .. } = p {
                Some(*k)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(steps, [0, 1, 2, 3]);
}
