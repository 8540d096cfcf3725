//! Anomalies on record, on command: what of them nobody but a replica sees.

use crate::harness::*;
use sim_cluster::core::{Event, Flavor, Input, Lie};
use sim_cluster::model::*;

fn tell(c: &mut Cluster, lie: Lie, on: bool) {
    for n in 0..3 {
        c.input(n, Input::Lie { lie, on });
    }
}

fn shown(c: &Cluster, wanted: Lie) -> usize {
    c.saw(|e| matches!(e, Event::Lied { lie } if *lie == wanted))
}

#[test]
fn entries_of_finished_batches_are_replayed() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        for lies in [true, false] {
            let mut c = Cluster::new(3, flavor);
            tell(&mut c, Lie::KeepBatchlog, lies);
            c.ok(0, WriteKind::Logged, Consistency::All, batch(3, 1));
            c.run_for(S);
            tell(&mut c, Lie::KeepBatchlog, false);
            c.run_for(100 * S);
            let replayed = c.saw(|e| matches!(e, Event::BatchReplayed { complete: true, .. }));
            assert_eq!(
                (shown(&c, Lie::KeepBatchlog) > 0, replayed > 0),
                (lies, lies),
                "{flavor:?}"
            );
            assert_eq!(c.kept_batches(), 0, "{flavor:?}: the replay ends it");
        }
    }
}

#[test]
fn a_held_replay_comes_when_it_is_not_held_any_more() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        tell(&mut c, Lie::KeepBatchlog, true);
        c.ok(0, WriteKind::Logged, Consistency::All, batch(3, 1));
        c.run_for(S);
        tell(&mut c, Lie::KeepBatchlog, false);
        tell(&mut c, Lie::HoldReplay, true);
        c.run_for(50 * S);
        let replayed = |c: &Cluster| c.saw(|e| matches!(e, Event::BatchReplayed { .. }));
        assert!(shown(&c, Lie::HoldReplay) > 0 && replayed(&c) == 0, "{flavor:?}");
        tell(&mut c, Lie::HoldReplay, false);
        c.run_for(70 * S);
        assert!(replayed(&c) > 0 && c.kept_batches() == 0, "{flavor:?}");
    }
}

#[test]
fn a_torn_update_shows_its_first_row_before_the_others_and_is_whole_in_the_end() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    tell(&mut c, Lie::TearPartitions, true);
    let mut rows = WriteSet::new();
    for r in 0..3 {
        insert(&mut rows, ROWS, 1, r, 7, None);
    }
    let id = c.ask(0, write_request(WriteKind::Unlogged, Consistency::All, rows));
    c.run_for(5 * MS);
    let stored = |c: &Cluster, n| (0..3).filter(|r| c.stored(n, 1, *r).is_some()).count();
    for n in 0..3 {
        assert_eq!(stored(&c, n), 1, "node {n}");
    }
    assert!(!c.replies.contains_key(&id), "not acknowledged");
    let (_, answer) = c.answer_within(id, S).expect("it is whole");
    assert!(matches!(answer, Response::Done { .. }), "{answer:?}");
    for n in 0..3 {
        assert_eq!(stored(&c, n), 3, "node {n}");
    }
    assert_eq!(shown(&c, Lie::TearPartitions), 3);
    // One row is never torn.
    c.ok(0, WriteKind::Single, Consistency::All, one(2, 5));
    assert_eq!(shown(&c, Lie::TearPartitions), 3);
}
