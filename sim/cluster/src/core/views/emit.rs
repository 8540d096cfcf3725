//! A row of a view as operations on it: with the timestamps, TTLs and deletion times that it has from the base, and in as
//! few records as those allow, so that the ordinary INSERT is one record in the view as it is in the base.

use super::generate::ViewRow;
use crate::core::repair::part;
use crate::core::row::{Cell, CellKind, RowState};
use crate::model::{ColumnId, Components, OpKind, TableId, WriteSet};
use std::collections::BTreeMap;

/// What the cells of one record have in common: timestamp, TTL, and the wall clock that TTLs and deletions count from.
type Times = (i64, u32, u32);

/// The cells of one record.
#[derive(Default)]
struct Record<'a> {
    marker: bool,
    cells: Vec<(&'a Cell, &'a [u8])>,
}

/// Appends the operations that bring about what is known of this row.
pub(super) fn emit(table: TableId, row: &ViewRow, out: &mut WriteSet) {
    let (key, state) = (&row.partition, &row.state);
    if let Some(d) = state.deletion {
        out.begin(OpKind::RowDelete, table, key, Some(d.timestamp_us))
            .wall(d.at_s);
        put_clustering(state, out);
        out.end();
    }
    let mut records: BTreeMap<Times, Record<'_>> = BTreeMap::new();
    if let Some(m) = state.marker {
        let times = (m.timestamp_us, m.ttl_s, m.expiry_s.saturating_sub(m.ttl_s));
        records.entry(times).or_default().marker = true;
    }
    for (cell, value) in state.cells() {
        let wall_s = match (cell.dead, cell.ttl_s) {
            (true, _) => cell.local_s,
            (false, 0) => 0,
            (false, ttl_s) => cell.local_s.saturating_sub(ttl_s),
        };
        let times = (cell.timestamp_us, cell.ttl_s, wall_s);
        records.entry(times).or_default().cells.push((cell, value));
    }
    for ((timestamp_us, ttl_s, wall_s), record) in records {
        let has_parts = record.cells.iter().any(|(c, _)| c.kind != CellKind::Whole);
        let kind = if has_parts { OpKind::Parts } else { OpKind::Row };
        out.begin(kind, table, key, Some(timestamp_us)).ttl(ttl_s).wall(wall_s);
        put_clustering(state, out);
        if record.marker {
            out.marker();
        }
        for (cell, value) in record.cells {
            put_cell(cell, value, has_parts, out);
        }
        out.end();
    }
}

fn put_clustering(state: &RowState, out: &mut WriteSet) {
    Components::new(state.clustering()).for_each(|c| {
        out.clustering(c);
    });
}

fn put_cell(cell: &Cell, value: &[u8], as_part: bool, out: &mut WriteSet) {
    let column = ColumnId(cell.column);
    match (as_part, cell.dead) {
        (true, _) => out.part(column, part(cell.kind, cell.dead, value)),
        (false, true) => {
            out.null(column);
        }
        (false, false) => {
            out.cell(column, value);
        }
    }
}
