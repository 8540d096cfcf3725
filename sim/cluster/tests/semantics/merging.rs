//! Last write wins: the ties as seen on a real Cassandra, the algebra of the merge, and storage against a simple model.

use crate::harness::*;
use proptest::prelude::*;
use sim_cluster::core::row::RowState;
use sim_cluster::core::{ClusterConfig, CommitlogSync, Flavor, snapshot};
use sim_cluster::model::*;
use std::collections::BTreeMap;

/// One write of a cell, as a test sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct W {
    ts: i64,
    value: Option<i64>,
    ttl: u32,
}

fn put(set: &mut WriteSet, w: W) {
    set.begin(OpKind::Row, ROWS, &1i64.to_be_bytes(), Some(w.ts))
        .ttl(w.ttl)
        .clustering(&0i64.to_be_bytes());
    match w.value {
        Some(v) => set.cell(super::harness::V, &v.to_be_bytes()).end(),
        None => set.null(super::harness::V).end(),
    }
}

/// What a client reads after both writes, in either order.
fn winner(a: W, b: W) -> Option<i64> {
    let mut seen = vec![];
    for order in [[a, b], [b, a]] {
        let mut c = Cluster::new(1, Flavor::Cassandra);
        for w in order {
            let mut set = WriteSet::new();
            put(&mut set, w);
            c.ok(0, WriteKind::Single, Consistency::One, set);
        }
        seen.push(c.value(0, Consistency::One, 1, 0));
    }
    assert_eq!(seen[0], seen[1], "the order of arrival does not matter");
    seen[0]
}

#[test]
fn ties_at_equal_timestamps() {
    let w = |value, ttl| W { ts: 1000, value, ttl };
    assert_eq!(winner(w(Some(-5), 0), w(Some(100), 0)), Some(-5), "bytes are unsigned");
    assert_eq!(winner(w(Some(-5), 0), w(Some(5), 0)), Some(-5));
    assert_eq!(
        winner(w(Some(7), 0), w(None, 0)),
        None,
        "a tombstone beats a live value"
    );
    assert_eq!(winner(w(Some(9), 0), w(Some(1), 100)), Some(1), "TTL beats none");
    assert_eq!(
        winner(w(Some(9), 100), w(Some(1), 200)),
        Some(1),
        "the later expiry wins"
    );
    assert_eq!(
        winner(
            W {
                ts: 1001,
                ..w(Some(1), 0)
            },
            w(Some(9), 500)
        ),
        Some(1),
        "and above all the timestamp"
    );
    assert_eq!(
        winner(
            W {
                ts: 1001,
                ..w(Some(1), 0)
            },
            w(None, 0)
        ),
        Some(1)
    );
}

#[test]
fn rows_of_equal_timestamp_mix_their_columns() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    let row = |v: i64, w: i64| {
        let mut set = WriteSet::new();
        set.begin(OpKind::Row, ROWS, &1i64.to_be_bytes(), Some(1000))
            .marker()
            .clustering(&0i64.to_be_bytes());
        set.cell(super::harness::V, &v.to_be_bytes())
            .cell(super::harness::W, &w.to_be_bytes())
            .end();
        set
    };
    c.ok(0, WriteKind::Single, Consistency::All, row(10, 2));
    c.ok(1, WriteKind::Single, Consistency::All, row(1, 20));
    let r = c.read(2, Consistency::All, ReadCommand::row(ROWS, pk(1), ck(0)));
    let got: Vec<i64> = r
        .rows()
        .flat_map(|(_, row)| row.cells().map(|c| number(c.value)).collect::<Vec<_>>())
        .collect();
    assert_eq!(got, [10, 20]);
}

#[test]
fn an_update_alone_makes_no_row_that_outlives_its_cells_and_an_insert_does() {
    for (marker, exists) in [(false, 0), (true, 1)] {
        let mut c = Cluster::new(1, Flavor::Scylla);
        let mut set = WriteSet::new();
        set.begin(OpKind::Row, ROWS, &1i64.to_be_bytes(), Some(10))
            .clustering(&0i64.to_be_bytes())
            .cell(super::harness::V, &[0; 8]);
        if marker {
            set.marker();
        }
        set.end();
        put(
            &mut set,
            W {
                ts: 11,
                value: None,
                ttl: 0,
            },
        );
        c.ok(0, WriteKind::Unlogged, Consistency::One, set);
        let r = c.read(0, Consistency::One, ReadCommand::partition(ROWS, pk(1)));
        assert_eq!(r.rows().count(), exists);
    }
}

// ---- the algebra ----

#[derive(Debug, Clone, PartialEq, Eq)]
enum Op {
    Cell {
        row: i64,
        column: u16,
        w: W,
    },
    Insert {
        row: i64,
        ts: i64,
        ttl: u32,
        values: Vec<(u16, Option<i64>)>,
    },
    DeleteRow {
        row: i64,
        ts: i64,
    },
    DeleteRange {
        from: i64,
        to: i64,
        open: (bool, bool),
        ts: i64,
    },
    DeletePartition {
        ts: i64,
    },
}

fn ts() -> impl Strategy<Value = i64> {
    0i64..6
}

fn value() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![4 => (-2i64..3).prop_map(Some), 1 => Just(None)]
}

fn ttl() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0u32), 1 => 1u32..4]
}

fn op() -> impl Strategy<Value = Op> {
    let cells = prop::collection::btree_map(0u16..2, value(), 0..=2);
    prop_oneof![
        4 => (0i64..4, 0u16..2, ts(), value(), ttl())
            .prop_map(|(row, column, ts, value, ttl)| Op::Cell { row, column, w: W { ts, value, ttl } }),
        6 => (0i64..4, ts(), ttl(), cells)
            .prop_map(|(row, ts, ttl, values)| Op::Insert { row, ts, ttl, values: values.into_iter().collect() }),
        1 => (0i64..4, ts()).prop_map(|(row, ts)| Op::DeleteRow { row, ts }),
        1 => (0i64..4, 0i64..4, any::<(bool, bool)>(), ts())
            .prop_map(|(a, b, open, ts)| Op::DeleteRange { from: a.min(b), to: a.max(b), open, ts }),
        1 => ts().prop_map(|ts| Op::DeletePartition { ts }),
    ]
}

fn column(c: u16) -> ColumnId {
    ColumnId(super::harness::V.0 + c)
}

fn write(op: &Op, set: &mut WriteSet) {
    let p = 1i64.to_be_bytes();
    match op {
        Op::Cell { row, column: c, w } => {
            set.begin(OpKind::Row, ROWS, &p, Some(w.ts))
                .ttl(w.ttl)
                .clustering(&row.to_be_bytes());
            match w.value {
                Some(v) => set.cell(column(*c), &v.to_be_bytes()).end(),
                None => set.null(column(*c)).end(),
            }
        }
        Op::Insert { row, ts, ttl, values } => {
            set.begin(OpKind::Row, ROWS, &p, Some(*ts))
                .marker()
                .ttl(*ttl)
                .clustering(&row.to_be_bytes());
            for (c, v) in values {
                match v {
                    Some(v) => set.cell(column(*c), &v.to_be_bytes()),
                    None => set.null(column(*c)),
                };
            }
            set.end();
        }
        Op::DeleteRow { row, ts } => {
            set.begin(OpKind::RowDelete, ROWS, &p, Some(*ts))
                .clustering(&row.to_be_bytes())
                .end();
        }
        Op::DeleteRange { from, to, open, ts } => {
            set.begin(OpKind::RangeDelete, ROWS, &p, Some(*ts));
            set.clustering(&from.to_be_bytes())
                .end_bound(&to.to_be_bytes())
                .exclusive(open.0, open.1)
                .end();
        }
        Op::DeletePartition { ts } => set.begin(OpKind::PartitionDelete, ROWS, &p, Some(*ts)).end(),
    }
}

/// The simplest thing that could be right: all writes kept, each cell the maximum of a tuple, deletions applied last.
#[derive(Default)]
struct Model {
    ops: Vec<Op>,
}

impl Model {
    fn deleted_at(&self, row: i64) -> i64 {
        let hit = |op: &Op| match op {
            Op::DeleteRow { row: r, ts } if *r == row => Some(*ts),
            Op::DeletePartition { ts } => Some(*ts),
            Op::DeleteRange { from, to, open, ts } => {
                let after = if open.0 { row > *from } else { row >= *from };
                let before = if open.1 { row < *to } else { row <= *to };
                (after && before).then_some(*ts)
            }
            _ => None,
        };
        self.ops.iter().filter_map(hit).max().unwrap_or(i64::MIN)
    }

    /// The cells of a row `age` seconds after everything was written; `None` when it does not exist.
    fn row(&self, row: i64, age: u32) -> Option<BTreeMap<u16, i64>> {
        let deleted = self.deleted_at(row);
        let lives = |ts: i64, ttl: u32| ts > deleted && (ttl == 0 || age < ttl);
        let mut cells: BTreeMap<u16, Vec<W>> = BTreeMap::new();
        let mut markers: Vec<(i64, bool, u32)> = vec![];
        for op in &self.ops {
            match op {
                Op::Cell { row: r, column, w } if *r == row => cells.entry(*column).or_default().push(*w),
                Op::Insert {
                    row: r,
                    ts,
                    ttl,
                    values,
                } if *r == row => {
                    markers.push((*ts, *ttl != 0, *ttl));
                    for (c, value) in values {
                        cells.entry(*c).or_default().push(W {
                            ts: *ts,
                            value: *value,
                            ttl: *ttl,
                        });
                    }
                }
                _ => {}
            }
        }
        let rank = |w: &W| {
            (
                w.ts,
                w.value.is_none(),
                w.value.is_some() && w.ttl != 0,
                w.value.map_or(0, |_| w.ttl),
                w.value.map(i64::to_be_bytes),
            )
        };
        let live: BTreeMap<u16, i64> = cells
            .into_iter()
            .filter_map(|(c, writes)| {
                let best = writes.into_iter().max_by_key(rank)?;
                best.value.filter(|_| lives(best.ts, best.ttl)).map(|v| (c, v))
            })
            .collect();
        let marked = markers.into_iter().max().is_some_and(|(ts, _, ttl)| lives(ts, ttl));
        (marked || !live.is_empty()).then_some(live)
    }
}

fn rows_of(r: &ReadResult) -> Vec<(i64, BTreeMap<u16, i64>)> {
    r.rows()
        .map(|(_, row)| {
            let cells = row
                .cells()
                .map(|c| (c.column.0 - super::harness::V.0, number(c.value)))
                .collect();
            (number(&row.clustering()[2..]), cells)
        })
        .collect()
}

fn state(op: &Op) -> RowState {
    let mut set = WriteSet::new();
    write(op, &mut set);
    RowState::from_op(&set.op(0))
}

fn merged(a: &RowState, b: &RowState) -> RowState {
    let mut m = a.clone();
    m.merge(b);
    m
}

fn row_op() -> impl Strategy<Value = Op> {
    op().prop_filter("about row 0", |op| match op {
        Op::Cell { row, .. } | Op::Insert { row, .. } | Op::DeleteRow { row, .. } => *row == 0,
        _ => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn merging_is_commutative_associative_and_idempotent(ops in prop::collection::vec(row_op(), 3)) {
        let [a, b, c] = [&ops[0], &ops[1], &ops[2]].map(state);
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &a), a.clone());
        let ab = merged(&a, &b);
        prop_assert_eq!(merged(&ab, &b), ab);
    }

    #[test]
    fn a_replica_answers_like_the_simplest_model_whatever_the_order(
        ops in prop::collection::vec(op(), 1..14), from in 0i64..4, to in 0i64..4, age in 0u32..5, shuffle in any::<u64>(),
    ) {
        let mut c = Cluster::new(1, Flavor::Scylla);
        let mut order: Vec<usize> = (0..ops.len()).collect();
        sim_cluster::core::rng::Rng::new(shuffle).shuffle(&mut order);
        for i in order {
            let mut set = WriteSet::new();
            write(&ops[i], &mut set);
            c.ok(0, WriteKind::Single, Consistency::One, set);
        }
        prop_assert!(c.now < S, "all written within one second of the wall clock");
        c.run_until(u64::from(age) * S + 900 * MS);
        let model = Model { ops };
        let expected = |rows: std::ops::RangeInclusive<i64>| -> Vec<(i64, BTreeMap<u16, i64>)> {
            rows.filter_map(|r| Some((r, model.row(r, age)?))).collect()
        };
        let all = c.read(0, Consistency::One, ReadCommand::partition(ROWS, pk(1)));
        prop_assert_eq!(rows_of(&all), expected(0..=3));
        let t = c.node(0).schema().table(ROWS).unwrap().clone();
        let slice = Slice::relations(&t, &[], Some((&from.to_be_bytes(), true)), Some((&to.to_be_bytes(), true)));
        let command = ReadCommand { clustering: ClusteringSelect::Slices(vec![slice]), ..ReadCommand::partition(ROWS, pk(1)) };
        prop_assert_eq!(rows_of(&c.read(0, Consistency::One, command.clone())), expected(from..=to));
        let mut reversed = rows_of(&c.read(0, Consistency::One, ReadCommand { reversed: true, ..command }));
        reversed.reverse();
        prop_assert_eq!(reversed, expected(from..=to));
        // Recovery from the log gives the same rows.
        c.input(0, sim_cluster::core::Input::Shutdown);
        c.run_for(S);
        let snap = sim_cluster::core::snapshot::recoverable(&c.config, &c.hosts[0].file, u64::from(age) * S);
        let recovered = snap.table("k", "rows").map_or(0, |t| t.rows.len());
        prop_assert_eq!(recovered, expected(0..=3).len());
    }

    #[test]
    fn a_compacted_log_says_what_the_log_said(ops in prop::collection::vec(op(), 1..20), more in prop::collection::vec(op(), 0..5)) {
        let mut config = ClusterConfig::new(1, Flavor::Scylla);
        config.commitlog_sync = CommitlogSync::Batch;
        let mut c = Cluster::with(config);
        let put = |c: &mut Cluster, op: &Op| {
            let mut set = WriteSet::new();
            write(op, &mut set);
            c.ok(0, WriteKind::Single, Consistency::One, set);
        };
        ops.iter().for_each(|op| put(&mut c, op));
        c.run_for(10 * MS);
        // Everything known, deletions and expiries too, which only merging with more can show.
        let log = super::compaction::compacted(c.node(0));
        let file = std::mem::replace(&mut c.hosts[0].file, log);
        let live = snapshot::live(c.node(0), c.now);
        let same = snapshot::recoverable(&c.config, &c.hosts[0].file, c.now);
        prop_assert_eq!(&same, &live);
        let node = c.hosts[0].node.as_mut().expect("it runs");
        node.shed_log();
        more.iter().for_each(|op| put(&mut c, op));
        c.run_for(10 * MS);
        let live = snapshot::live(c.node(0), c.now);
        let mut plain = Cluster::new(1, Flavor::Scylla);
        ops.iter().chain(&more).for_each(|op| put(&mut plain, op));
        prop_assert_eq!(&snapshot::live(plain.node(0), c.now).tables, &live.tables);
        prop_assert_eq!(snapshot::recoverable(&c.config, &c.hosts[0].file, c.now), live);
        prop_assert!(!file.is_empty());
    }

    #[test]
    fn replicas_that_saw_different_halves_agree_after_one_read_at_all(ops in prop::collection::vec((op(), 0u8..7), 1..16)) {
        let mut c = Cluster::new(3, Flavor::Cassandra);
        for (op, mask) in &ops {
            let mask = *mask + 1;
            let home = mask.trailing_zeros() as u8;
            c.route = Box::new(move |_, to, msg| if is_mutate(msg) && mask & (1 << to.0) == 0 { None } else { Some(10) });
            let mut set = WriteSet::new();
            write(op, &mut set);
            c.ok(home, WriteKind::Single, Consistency::One, set);
            c.run_for(MS);
        }
        c.route = healthy();
        prop_assert!(c.now < S);
        let model = Model { ops: ops.into_iter().map(|(op, _)| op).collect() };
        let expected: Vec<_> = (0..=3).filter_map(|r| Some((r, model.row(r, 0)?))).collect();
        let merged = c.read(1, Consistency::All, ReadCommand::partition(ROWS, pk(1)));
        prop_assert_eq!(rows_of(&merged), expected);
        for n in 0..3 {
            let own = c.read(n, Consistency::One, ReadCommand::partition(ROWS, pk(1)));
                prop_assert_eq!(&own.partitions, &merged.partitions, "node {}", n);
        }
    }
}
