//! Read repair: what a replica lacks of what the others know, as operations to send to it.
//!
//! Operations carry the original timestamps, TTLs and deletion times, so a repaired replica has the same cells as the
//! one that knew them, not newer ones.

use super::partition::PartitionHead;
use super::query::{ReplicaPartition, ReplicaRows};
use super::row::{CellKind, Deletion, RowState};
use super::seal::Sealed;
use super::store::PartitionState;
use crate::model::parts::{Part, Shards, split_path};
use crate::model::{ColumnId, Components, OpKind, TableId, WriteSet};

/// What `have` lacks of `merged`, as one mutation per partition.
pub fn difference(table: TableId, merged: &ReplicaRows, have: &ReplicaRows) -> Vec<Sealed> {
    let lacking = |p: &ReplicaPartition| {
        let known = have.partitions.iter().find(|h| h.key == p.key);
        let mut ops = WriteSet::new();
        partition_difference(table, p, known, &mut ops);
        (!ops.is_empty()).then(|| Sealed::of_ops(&ops))
    };
    merged.partitions.iter().filter_map(lacking).collect()
}

/// What a partition has beside its rows, as operations that bring all of it about.
pub(super) fn whole_partition_state(table: TableId, state: &PartitionState, ops: &mut WriteSet) {
    head_difference(table, &state.key.bytes, &state.head, None, ops);
}

/// A row as operations that bring all of it about.
pub(super) fn whole_row(table: TableId, key: &[u8], kind: OpKind, row: &RowState, ops: &mut WriteSet) {
    row_difference(table, key, kind, row, None, ops);
}

fn partition_difference(
    table: TableId,
    merged: &ReplicaPartition,
    known: Option<&ReplicaPartition>,
    ops: &mut WriteSet,
) {
    let key = &merged.key.bytes;
    head_difference(table, key, &merged.head, known.map(|k| &k.head), ops);
    for (storage_key, row) in &merged.rows {
        let at = known.and_then(|k| {
            k.rows
                .binary_search_by(|(k, _)| k.cmp(storage_key))
                .ok()
                .map(|i| &k.rows[i].1)
        });
        row_difference(table, key, OpKind::Row, row, at, ops);
    }
}

fn head_difference(
    table: TableId,
    key: &[u8],
    merged: &PartitionHead,
    known: Option<&PartitionHead>,
    ops: &mut WriteSet,
) {
    if let Some(d) = merged.deletion
        && known.and_then(|k| k.deletion) < Some(d)
    {
        ops.begin(OpKind::PartitionDelete, table, key, Some(d.timestamp_us))
            .wall(d.at_s)
            .end();
    }
    for r in &merged.ranges {
        if known.is_some_and(|k| k.ranges.contains(r)) {
            continue;
        }
        ops.begin(OpKind::RangeDelete, table, key, Some(r.deletion.timestamp_us))
            .wall(r.deletion.at_s);
        Components::new(&r.start.0).for_each(|c| {
            ops.clustering(c);
        });
        Components::new(&r.end.0).for_each(|c| {
            ops.end_bound(c);
        });
        ops.exclusive(!r.start.1, !r.end.1).end();
    }
    let statics = known.map(|k| &k.statics);
    row_difference(table, key, OpKind::Static, &merged.statics, statics, ops);
}

fn row_difference(
    table: TableId,
    key: &[u8],
    kind: OpKind,
    merged: &RowState,
    known: Option<&RowState>,
    ops: &mut WriteSet,
) {
    if known == Some(merged) {
        return;
    }
    if let Some(Deletion { timestamp_us, at_s }) = merged.deletion
        && known.and_then(|k| k.deletion) != merged.deletion
    {
        ops.begin(OpKind::RowDelete, table, key, Some(timestamp_us)).wall(at_s);
        Components::new(merged.clustering()).for_each(|c| {
            ops.clustering(c);
        });
        ops.end();
    }
    if let Some(m) = merged.marker
        && known.and_then(|k| k.marker) != merged.marker
    {
        begin_row(
            table,
            key,
            kind,
            merged,
            m.timestamp_us,
            m.ttl_s,
            m.expiry_s.saturating_sub(m.ttl_s),
            ops,
        );
        ops.marker().end();
    }
    // One operation per cell: cells of one row seldom differ one by one, and then each has its own times.
    for (c, value) in merged.cells() {
        let same = known.is_some_and(|k| k.cells().any(|(kc, kv)| kc.same_as(c) && kv == value));
        if same {
            continue;
        }
        let wall_s = if c.dead {
            c.local_s
        } else {
            c.local_s.saturating_sub(c.ttl_s)
        };
        let column = ColumnId(c.column);
        if c.kind != CellKind::Whole {
            let kind = if kind == OpKind::Static {
                OpKind::StaticParts
            } else {
                OpKind::Parts
            };
            begin_row(table, key, kind, merged, c.timestamp_us, c.ttl_s, wall_s, ops);
            ops.part(column, part(c.kind, c.dead, value));
            ops.end();
            continue;
        }
        begin_row(table, key, kind, merged, c.timestamp_us, c.ttl_s, wall_s, ops);
        match c.dead {
            true => ops.null(column).end(),
            false => ops.cell(column, value).end(),
        }
    }
}

/// A cell of a row with parts, to be written again.
pub(super) fn part(kind: CellKind, dead: bool, value: &[u8]) -> Part<'_> {
    match kind {
        CellKind::Whole => Part::Whole(Some(value).filter(|_| !dead)),
        CellKind::Emptied => Part::Emptied { only_older: false },
        CellKind::Counter => Part::Counter(Shards::new(value)),
        CellKind::Element => {
            let (path, value) = split_path(value).unwrap_or_default();
            let value = Some(value).filter(|_| !dead);
            Part::Element { path, value }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the header of one operation")]
fn begin_row(
    table: TableId,
    key: &[u8],
    kind: OpKind,
    row: &RowState,
    timestamp_us: i64,
    ttl_s: u32,
    wall_s: u32,
    ops: &mut WriteSet,
) {
    ops.begin(kind, table, key, Some(timestamp_us)).ttl(ttl_s).wall(wall_s);
    Components::new(row.clustering()).for_each(|c| {
        ops.clustering(c);
    });
}
