//! From a row of the base, before and after a write, to what is written to a view. Pure.
//!
//! The rules are those of C `ViewUpdateGenerator` and S `view_updates::generate_update` (`db/view/view.cc`). In both a row of
//! a view whose key has a regular column of the base lives as long as that column's value: its marker is that cell, and a
//! marker that is none takes it away without touching the cells beside it, for the row may come back
//! (`row::EXPIRED_TTL_S`). Where the key has no such column the view's row lives as the base's does; what the two servers
//! do there about columns that the view does not show is `Rules::view_liveness`.

use crate::core::flavor::{Rules, ViewLiveness};
use crate::core::key;
use crate::core::row::{Cell, CellKind, Marker, RowState};
use crate::model::views::{Filter, Test};
use crate::model::{
    ClusteringKey, Column, ColumnId, ColumnKind, Components, Table, View, partition_key_bytes, partition_key_components,
};
use std::cmp::Ordering;

/// What is written to one row of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ViewRow {
    /// Serialized partition key in the view.
    pub partition: Vec<u8>,
    /// The row: what is in it is merged into the view's.
    pub state: RowState,
}

/// One view, and one partition of its base.
#[derive(Debug, Clone, Copy)]
pub(super) struct Generator<'a> {
    pub view: &'a View,
    pub base: &'a Table,
    /// The view as a table.
    pub table: &'a Table,
    /// Serialized partition key of the base.
    pub partition: &'a [u8],
    /// Wall clock of this replica, seconds.
    pub now_s: u32,
    pub rules: &'a Rules,
}

impl Generator<'_> {
    /// What is written to the view for a row of the base that was `before` and will be `after`.
    pub(super) fn updates(&self, before: &RowState, after: &RowState) -> Vec<ViewRow> {
        let rows = match (self.entry(before), self.entry(after)) {
            (None, None) => vec![],
            (None, Some(_)) => vec![self.create(after)],
            (Some(_), None) => vec![self.delete(before, after)],
            (Some(was), Some(is)) if was == is => vec![self.update(before, after)],
            (Some(_), Some(_)) => vec![self.create(after), self.delete(before, after)],
        };
        rows.into_iter().flatten().filter(|r| !r.state.is_blank()).collect()
    }

    /// What of a row of the base decides which row of the view is its own; `None` if it has none, filters aside.
    fn entry<'r>(&self, row: &'r RowState) -> Option<&'r [u8]> {
        match self.view.extra_key {
            Some(column) => row.live_cell(column, self.now_s).map(|(_, value)| value),
            None => row.is_live(None, self.now_s, false).then_some(&[][..]),
        }
    }

    fn create(&self, row: &RowState) -> Option<ViewRow> {
        if !self.shows(row) {
            return None;
        }
        let mut new = self.blank(row)?;
        new.state.marker = self.marker(row);
        new.state.deletion = row.deletion;
        self.take_cells(row, None, &mut new.state);
        Some(new)
    }

    fn update(&self, before: &RowState, after: &RowState) -> Option<ViewRow> {
        if !self.shows(before) {
            return self.create(after);
        }
        if !self.shows(after) {
            return self.take_away(before, after);
        }
        if self.rules.view_skips_unchanged && self.is_unchanged(before, after) {
            return None;
        }
        let mut new = self.blank(after)?;
        new.state.marker = self.marker(after);
        new.state.deletion = after.deletion;
        self.take_cells(after, Some(before), &mut new.state);
        Some(new)
    }

    fn delete(&self, before: &RowState, after: &RowState) -> Option<ViewRow> {
        if self.shows(before) {
            self.take_away(before, after)
        } else {
            None
        }
    }

    /// Takes the row away that the base's row had before.
    fn take_away(&self, before: &RowState, after: &RowState) -> Option<ViewRow> {
        let mut old = self.blank(before)?;
        let own_cell = self.view.extra_key.and_then(|c| before.live_cell(c, self.now_s));
        let expired = |timestamp_us| Some(Marker::expired(timestamp_us, self.now_s));
        match (self.rules.view_liveness, own_cell) {
            (ViewLiveness::VirtualColumns, Some((cell, _))) => old.state.marker = expired(cell.timestamp_us),
            (ViewLiveness::VirtualColumns, None) => {
                old.state.marker = after.marker;
                self.take_cells(after, Some(before), &mut old.state);
            }
            (ViewLiveness::Markers, _) => {
                let deleted_us = after.deletion.map_or(i64::MIN, |d| d.timestamp_us);
                let until_us = self.taken_away_at(before, deleted_us, own_cell.map(|(c, _)| c));
                old.state.marker = expired(until_us).filter(|_| until_us > deleted_us);
                self.take_cells(after, Some(before), &mut old.state);
            }
        }
        old.state.deletion = after.deletion;
        Some(old)
    }

    /// Up to when markers of the old row are taken away (C `computeTimestampForEntryDeletion`).
    fn taken_away_at(&self, before: &RowState, deleted_us: i64, own_cell: Option<&Cell>) -> i64 {
        if let Some(cell) = own_cell {
            return if deleted_us >= cell.timestamp_us {
                deleted_us
            } else {
                cell.timestamp_us
            };
        }
        let marked_us = before.marker.map_or(i64::MIN, |m| m.timestamp_us);
        let unseen = self.unselected(before).map(|c| c.timestamp_us).max();
        deleted_us.max(marked_us).max(unseen.unwrap_or(i64::MIN))
    }

    /// Cells of columns that the view does not have.
    fn unselected<'r>(&self, row: &'r RowState) -> impl Iterator<Item = &'r Cell> {
        let view = self.view;
        let cells = row.cells().map(|(cell, _)| cell);
        cells.filter(move |c| view.of_base(ColumnId(c.column)).is_none())
    }

    /// The marker of the view's row.
    fn marker(&self, row: &RowState) -> Option<Marker> {
        if let Some(column) = self.view.extra_key {
            let (cell, _) = row.live_cell(column, self.now_s)?;
            return Some(Marker {
                timestamp_us: cell.timestamp_us,
                ttl_s: cell.ttl_s,
                expiry_s: if cell.ttl_s == 0 { 0 } else { cell.local_s },
            });
        }
        match self.rules.view_liveness {
            ViewLiveness::VirtualColumns => row.marker,
            ViewLiveness::Markers => self.marker_for_unselected(row),
        }
    }

    /// The base's marker, made to last as long as what the view does not show (C `computeLivenessInfoForEntry`).
    fn marker_for_unselected(&self, row: &RowState) -> Option<Marker> {
        let live = || self.unselected(row).filter(|c| c.is_live(self.now_s));
        let newest = live()
            .map(|c| c.timestamp_us)
            .chain(row.marker.map(|m| m.timestamp_us))
            .max();
        let timestamp_us = newest?;
        let is_marked = row.marker.is_some_and(|m| m.is_live(None, self.now_s));
        let is_lasting = is_marked && row.marker.is_some_and(|m| m.ttl_s == 0);
        if is_lasting || live().any(|c| c.ttl_s == 0) {
            return Some(Marker {
                timestamp_us,
                ttl_s: 0,
                expiry_s: 0,
            });
        }
        let longest = live().max_by_key(|c| c.local_s);
        match (row.marker, longest) {
            (marker, Some(cell)) if !is_marked || marker.is_some_and(|m| cell.local_s > m.expiry_s) => Some(Marker {
                timestamp_us,
                ttl_s: cell.ttl_s,
                expiry_s: cell.local_s,
            }),
            (marker, _) => marker,
        }
    }

    /// Whether the write changed nothing that the view has (S `can_skip_view_updates`).
    fn is_unchanged(&self, before: &RowState, after: &RowState) -> bool {
        let is_lasting = after
            .marker
            .is_some_and(|m| m.ttl_s == 0 && m.is_live(None, self.now_s));
        let of_column = |row: &RowState, id: ColumnId| -> Option<(Cell, Vec<u8>)> {
            let mut own = row.cells().filter(|(c, _)| c.column == id.0);
            own.next().map(|(c, value)| (*c, value.to_vec()))
        };
        let same_life = |a: &Cell, b: &Cell| {
            let (live, other) = (a.is_live(self.now_s), b.is_live(self.now_s));
            live == other && (!live || (a.ttl_s != 0, a.local_s) == (b.ttl_s != 0, b.local_s))
        };
        let mut columns = self.base.values().iter().filter(|c| c.kind == ColumnKind::Regular);
        columns.all(|column| {
            let selected = self.view.of_base(column.id);
            if column.ty.is_multicell() {
                return false;
            }
            match (of_column(before, column.id), of_column(after, column.id)) {
                (None, None) => true,
                (Some(a), Some(b)) => match selected {
                    Some(c) if c.is_virtual => same_life(&a.0, &b.0),
                    Some(_) => a.0.same_as(&b.0) && a.1 == b.1,
                    None => is_lasting || same_life(&a.0, &b.0),
                },
                _ => selected.is_none() && is_lasting,
            }
        })
    }

    /// Whether a row that has a key is one that WHERE asks for.
    fn shows(&self, row: &RowState) -> bool {
        self.view.filters.iter().all(|f| self.passes(f, row))
    }

    fn passes(&self, filter: &Filter, row: &RowState) -> bool {
        let Some(column) = self.base.column_by_id(filter.column) else {
            return false;
        };
        let Some(value) = self.value(column, row) else {
            return false;
        };
        let order = |bound: &[u8]| key::compare(&column.ty, value, bound);
        match &filter.test {
            Test::Among(values) => values.iter().any(|v| v == value),
            Test::Above { bound, inclusive } => match order(bound) {
                Some(Ordering::Greater) => true,
                Some(Ordering::Equal) => *inclusive,
                _ => false,
            },
            Test::Below { bound, inclusive } => match order(bound) {
                Some(Ordering::Less) => true,
                Some(Ordering::Equal) => *inclusive,
                _ => false,
            },
        }
    }

    /// The value of a column of the base, if it has one: of a key column always.
    fn value<'v>(&'v self, column: &Column, row: &'v RowState) -> Option<&'v [u8]> {
        let position = usize::from(column.position);
        match column.kind {
            ColumnKind::PartitionKey => {
                let components = partition_key_components(self.partition, self.base.partition_columns)?;
                components.get(position).copied()
            }
            ColumnKind::Clustering => Components::new(row.clustering()).nth(position),
            _ => row.live_cell(column.id, self.now_s).map(|(_, value)| value),
        }
    }

    /// The view's row for a row of the base, with nothing but its key; `None` if some column of the key has no value.
    fn blank(&self, row: &RowState) -> Option<ViewRow> {
        let key_value = |column: &Column| {
            let own = self.view.columns.iter().find(|c| c.view == column.id)?;
            self.value(self.base.column_by_id(own.base)?, row)
        };
        let values = |columns: &[Column]| -> Option<Vec<Vec<u8>>> {
            columns.iter().map(|c| key_value(c).map(<[u8]>::to_vec)).collect()
        };
        let (key, clustering) = (values(self.table.partition_key())?, values(self.table.clustering())?);
        let parts: Vec<&[u8]> = key.iter().map(Vec::as_slice).collect();
        let mut partition = vec![];
        partition_key_bytes(&parts, &mut partition);
        let parts: Vec<&[u8]> = clustering.iter().map(Vec::as_slice).collect();
        Some(ViewRow {
            partition,
            state: RowState::empty(&ClusteringKey::of(&parts).0),
        })
    }

    /// Takes over the cells that the view has, except those that were in the row `before`.
    fn take_cells(&self, row: &RowState, before: Option<&RowState>, into: &mut RowState) {
        let keys = self.table.partition_columns + self.table.clustering_columns;
        for (cell, value) in row.cells() {
            let Some(own) = self.view.of_base(ColumnId(cell.column)) else {
                continue;
            };
            let is_key = self.table.columns[..keys].iter().any(|c| c.id == own.view);
            if is_key || before.is_some_and(|b| b.has_cell(cell, value)) {
                continue;
            }
            let value = if own.is_virtual {
                without_value(cell, value)
            } else {
                value
            };
            into.take_cell(own.view, cell, value);
        }
        into.sort_cells();
    }
}

/// What is left of a cell's bytes when nobody is to see its value: the path of an element, nothing of others.
fn without_value<'v>(cell: &Cell, value: &'v [u8]) -> &'v [u8] {
    match cell.kind {
        CellKind::Element => {
            let path = crate::model::parts::split_path(value).map_or(0, |(path, _)| path.len());
            &value[..value.len().min(4 + path)]
        }
        _ => &[],
    }
}
