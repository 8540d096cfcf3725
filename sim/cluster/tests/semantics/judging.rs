//! What judges are told of replicas: marks notice every change of a cell or its timestamp and nothing else; replicas with
//! the same signature hold the same.

use crate::harness::*;
use sim_cluster::core::Flavor;
use sim_cluster::model::*;

fn rows(writes: &[(i64, i64, i64, i64)]) -> WriteSet {
    let mut set = WriteSet::new();
    for (p, c, v, ts) in writes {
        insert(&mut set, ROWS, *p, *c, *v, Some(*ts));
    }
    set
}

fn write(c: &mut Cluster, writes: &[(i64, i64, i64, i64)]) {
    c.ok(0, WriteKind::Unlogged, Consistency::All, rows(writes));
}

/// Six rows, marked; then `more` happens; returns how many rows changed and how many are gone on node 1.
fn changed(more: impl FnOnce(&mut Cluster)) -> (usize, usize) {
    let mut c = Cluster::new(3, Flavor::Scylla);
    let six: Vec<_> = (0..6).map(|i| (i % 2, i, i * 10, 1_000 + i)).collect();
    write(&mut c, &six);
    let marks = c.node(1).mark(&[ROWS, OTHER], c.now);
    more(&mut c);
    let changes = c.node(1).changes_since(&marks, c.now).expect("the same start");
    assert_eq!(changes.is_empty(), changes.rows.is_empty() && changes.gone.is_empty());
    (changes.rows.len(), changes.gone.iter().map(|(_, rows)| rows).sum())
}

#[test]
fn the_same_again_is_no_change() {
    assert_eq!(changed(|_| {}), (0, 0));
    assert_eq!(
        changed(|c| write(c, &[(1, 3, 30, 1_003), (0, 2, 20, 1_002)])),
        (0, 0),
        "to the bit"
    );
    assert_eq!(
        changed(|c| write(c, &[(1, 3, -1, 900)])),
        (0, 0),
        "an older write leaves no trace"
    );
}

#[test]
fn every_change_is_noticed() {
    assert_eq!(
        changed(|c| write(c, &[(1, 3, 30, 2_000)])),
        (1, 0),
        "the same value, another timestamp"
    );
    assert_eq!(changed(|c| write(c, &[(1, 3, 31, 2_000)])), (1, 0), "another value");
    assert_eq!(
        changed(|c| write(c, &[(1, 3, 99, 1_003)])),
        (1, 0),
        "a larger value wins the tie"
    );
    assert_eq!(
        changed(|c| write(c, &[(0, 1, 5, 5_000)])),
        (1, 0),
        "a row between the others"
    );
    assert_eq!(changed(|c| write(c, &[(7, 7, 7, 7_000)])), (1, 0), "a new partition");
}

#[test]
fn what_is_deleted_is_gone() {
    let delete = |c: &mut Cluster, kind| {
        let mut set = WriteSet::new();
        let mut op = set.begin(kind, ROWS, &1i64.to_be_bytes(), Some(9_000));
        if kind == OpKind::RowDelete {
            op = op.clustering(&3i64.to_be_bytes());
        }
        op.end();
        c.ok(0, WriteKind::Single, Consistency::All, set);
    };
    assert_eq!(changed(|c| delete(c, OpKind::RowDelete)), (0, 1));
    assert_eq!(changed(|c| delete(c, OpKind::PartitionDelete)), (0, 3));
}

#[test]
fn a_new_start_makes_marks_worthless() {
    let mut c = Cluster::new(1, Flavor::Scylla);
    write(&mut c, &[(1, 1, 1, 1)]);
    let marks = c.node(0).mark(&[ROWS], c.now);
    c.run_for(20 * S);
    c.kill(0);
    c.restart(0);
    c.run_for(S);
    assert_eq!(c.node(0).changes_since(&marks, c.now), None);
}

#[test]
fn signatures_tell_what_was_applied_in_whatever_order() {
    let signature = |batches: &[&[(i64, i64, i64, i64)]]| {
        let mut c = Cluster::new(1, Flavor::Scylla);
        for batch in batches {
            for row in *batch {
                write(&mut c, &[*row]);
            }
        }
        c.node(0).store().table(ROWS).expect("a table").signature()
    };
    let (a, b, other) = ((1, 1, 1, 1), (2, 2, 2, 2), (2, 2, 3, 2));
    assert_eq!(signature(&[&[a, b]]), signature(&[&[b], &[a]]));
    assert_ne!(signature(&[&[a, b]]), signature(&[&[a, other]]), "one value differs");
    assert_ne!(signature(&[&[a, b]]), signature(&[&[a]]));
    assert_ne!(signature(&[&[]]), signature(&[&[a]]));
}
