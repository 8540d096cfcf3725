//! The state of one row, cell by cell, and how two states merge: last write wins.
//!
//! This is the general path: rows whose cells come from several writes, or that were deleted, or that travel between
//! replicas. A row written whole by one INSERT stays the bytes of that INSERT (see `store`) and becomes a [`RowState`]
//! only when it is read or merged.
//!
//! Which of two values of a cell wins (`scylla-semantics` section 4, ties seen on Cassandra): the higher timestamp; a
//! tombstone over a live value; a value with TTL over one without; the later expiry; the smaller TTL (it was written
//! later); the larger value as unsigned bytes. It is a total order, so merging is commutative, associative, idempotent.

use super::fold::Fold;
use super::store::Purge;
use crate::model::parts::{Part, Shards, split_path};
use crate::model::{ClusteringKey, ColumnId, OpKind, OpView, Row};
use std::cmp::Ordering;

/// A deletion of a row, a range of rows or a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deletion {
    /// Write timestamp, microseconds: hides everything at or below it.
    pub timestamp_us: i64,
    /// When it was made, wall clock seconds.
    pub at_s: u32,
}

impl Deletion {
    /// The deletion that an operation makes.
    pub fn of_op(op: &OpView<'_>) -> Deletion {
        Deletion {
            timestamp_us: op.raw_timestamp(),
            at_s: op.wall_s(),
        }
    }
}

/// That a row was INSERTed, so that it exists without live cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Write timestamp, microseconds.
    pub timestamp_us: i64,
    /// TTL, seconds; 0 is none.
    pub ttl_s: u32,
    /// When it expires, wall clock seconds; 0 without TTL.
    pub expiry_s: u32,
}

/// The TTL of a marker that is no marker: it takes away those of its timestamp and older ones, and nothing else, so that a
/// newer one brings the row back with the cells that it has (C `LivenessInfo.EXPIRED_LIVENESS_TTL`; S has shadowable
/// tombstones for it). Only rows of views have such. No statement can give it: TTLs end at 20 years.
pub const EXPIRED_TTL_S: u32 = i32::MAX as u32;

impl Marker {
    /// What takes away markers up to this timestamp; see [`EXPIRED_TTL_S`].
    pub fn expired(timestamp_us: i64, now_s: u32) -> Marker {
        Marker {
            timestamp_us,
            ttl_s: EXPIRED_TTL_S,
            expiry_s: now_s.saturating_add(EXPIRED_TTL_S),
        }
    }

    fn is_expired(&self) -> bool {
        self.ttl_s == EXPIRED_TTL_S
    }

    fn prefer(&self, other: &Marker) -> Ordering {
        let rank = |m: &Marker| (m.timestamp_us, m.is_expired(), m.ttl_s != 0, m.expiry_s);
        rank(self).cmp(&rank(other)).then(other.ttl_s.cmp(&self.ttl_s))
    }

    /// Whether the row exists by this marker alone at `now_s`, given the deletion that covers it.
    pub fn is_live(&self, deletion: Option<Deletion>, now_s: u32) -> bool {
        deletion.is_none_or(|d| self.timestamp_us > d.timestamp_us)
            && (self.ttl_s == 0 || now_s < self.expiry_s && !self.is_expired())
    }
}

/// What a cell is. Cells of one column are of one kind, except that elements stand behind the deletion of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CellKind {
    /// A column's only cell.
    Whole,
    /// The deletion of all elements up to its timestamp; dead, and no element with that timestamp or a lower one is kept.
    Emptied,
    /// An element of a collection: its value is the path's length (`u32` little-endian), the path, and its own value.
    Element,
    /// A counter: its value is its shards. Deletions win over it whatever their time (C `Cells.resolveCounter`).
    Counter,
}

/// One cell, its value apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Column.
    pub column: u16,
    /// What it is.
    pub kind: CellKind,
    /// Whether it is a tombstone.
    pub dead: bool,
    /// Write timestamp, microseconds.
    pub timestamp_us: i64,
    /// TTL, seconds; 0 is none.
    pub ttl_s: u32,
    /// Wall clock seconds: expiry of a cell with TTL, deletion of a tombstone, else 0.
    pub local_s: u32,
    start: u32,
    end: u32,
}

impl Cell {
    /// Whether everything but the value is the same.
    pub fn same_as(&self, other: &Cell) -> bool {
        let all = |c: &Cell| (c.column, c.kind, c.dead, c.timestamp_us, c.ttl_s, c.local_s);
        all(self) == all(other)
    }

    /// Whether it has a value at `now_s`, deletions of its row aside.
    pub fn is_live(&self, now_s: u32) -> bool {
        !self.dead && (self.ttl_s == 0 || now_s < self.local_s)
    }

    /// A new cell; where its value is will be said when it is put into a row.
    fn new(column: u16, kind: CellKind, dead: bool, timestamp_us: i64, ttl_s: u32, local_s: u32) -> Cell {
        Cell {
            column,
            kind,
            dead,
            timestamp_us,
            ttl_s,
            local_s,
            start: 0,
            end: 0,
        }
    }
}

/// The order of cells in a row: by column, the deletion of all elements first, elements by their paths.
fn place(a: (&Cell, &[u8]), b: (&Cell, &[u8])) -> Ordering {
    let by_column = a.0.column.cmp(&b.0.column);
    if by_column != Ordering::Equal || a.0.kind == CellKind::Whole && b.0.kind == CellKind::Whole {
        return by_column;
    }
    // A counter's deletion is a whole cell, and stands in the counter's place.
    let rank = |c: &Cell| match c.kind {
        CellKind::Whole | CellKind::Counter => CellKind::Whole,
        other => other,
    };
    rank(a.0)
        .cmp(&rank(b.0))
        .then_with(|| path_of(a.0, a.1).cmp(path_of(b.0, b.1)))
}

/// The path of an element; nothing for other cells.
fn path_of<'a>(cell: &Cell, value: &'a [u8]) -> &'a [u8] {
    match cell.kind {
        CellKind::Element => split_path(value).map_or(&[][..], |(path, _)| path),
        _ => &[],
    }
}

/// Which of two cells of one column wins; `Equal` only for cells that are the same in every respect.
pub fn prefer(a: (&Cell, &[u8]), b: (&Cell, &[u8])) -> Ordering {
    if a.0.kind == CellKind::Counter || b.0.kind == CellKind::Counter {
        return a.0.dead.cmp(&b.0.dead).then(a.0.timestamp_us.cmp(&b.0.timestamp_us));
    }
    let rank = |c: &Cell| (c.timestamp_us, c.dead, !c.dead && c.ttl_s != 0, c.local_s);
    rank(a.0)
        .cmp(&rank(b.0))
        .then(b.0.ttl_s.cmp(&a.0.ttl_s))
        .then_with(|| a.1.cmp(b.1))
}

/// Everything known of one row (or of the static part of a partition).
#[derive(Debug, Clone, Default)]
pub struct RowState {
    /// Clustering key, then the values of the cells.
    data: Vec<u8>,
    key_bytes: u32,
    /// INSERT marker.
    pub marker: Option<Marker>,
    /// Deletion of the row as a whole.
    pub deletion: Option<Deletion>,
    /// Cells, by column.
    cells: Vec<Cell>,
}

/// Two states are equal when they know the same, however their bytes lie in memory.
impl PartialEq for RowState {
    fn eq(&self, other: &RowState) -> bool {
        self.marker == other.marker
            && self.deletion == other.deletion
            && self.clustering() == other.clustering()
            && self.cells.len() == other.cells.len()
            && self
                .cells()
                .zip(other.cells())
                .all(|((a, av), (b, bv))| a.same_as(b) && av == bv)
    }
}

impl Eq for RowState {}

impl RowState {
    /// A row of which nothing is known yet but its clustering key.
    pub fn empty(clustering: &[u8]) -> RowState {
        RowState {
            data: clustering.to_vec(),
            key_bytes: clustering.len() as u32,
            ..RowState::default()
        }
    }

    /// The row as one operation leaves it. `RangeDelete` and `PartitionDelete` are not about one row and give an empty
    /// state.
    pub fn from_op(op: &OpView<'_>) -> RowState {
        let clustering = if op.kind().is_static() {
            &[][..]
        } else {
            op.clustering()
        };
        let mut row = RowState {
            data: Vec::with_capacity(op.bytes().len() - crate::model::write::HEADER_BYTES),
            key_bytes: clustering.len() as u32,
            ..RowState::default()
        };
        row.data.extend_from_slice(clustering);
        let (timestamp_us, ttl_s) = (op.raw_timestamp(), op.ttl_s());
        let expiry_s = expiry_s(op);
        match op.kind() {
            OpKind::RowDelete => {
                row.deletion = Some(Deletion {
                    timestamp_us,
                    at_s: op.wall_s(),
                })
            }
            OpKind::Row | OpKind::Static => {
                row.marker = op.has_marker().then_some(Marker {
                    timestamp_us,
                    ttl_s,
                    expiry_s,
                });
                row.cells.reserve_exact(op.cell_count());
                if ttl_s == 0 && !op.has_nulls() {
                    row.put_plain(op);
                    return row;
                }
                for (column, value) in op.cells() {
                    match value {
                        Some(v) => row.put(column.0, false, timestamp_us, ttl_s, expiry_s, v),
                        None => row.put(column.0, true, timestamp_us, 0, op.wall_s(), &[]),
                    }
                }
                row.sort_cells();
            }
            OpKind::Parts | OpKind::StaticParts => {
                row.marker = op.has_marker().then_some(Marker {
                    timestamp_us,
                    ttl_s,
                    expiry_s,
                });
                row.put_parts(op);
            }
            OpKind::RangeDelete | OpKind::PartitionDelete => {}
        }
        row
    }

    /// The cells of a record without TTL and without nulls, which nearly all are.
    fn put_plain(&mut self, op: &OpView<'_>) {
        let plain = Cell::new(0, CellKind::Whole, false, op.raw_timestamp(), 0, 0);
        let (mut start, mut in_order) = (self.data.len() as u32, true);
        for (column, value) in op.cells() {
            let value = value.unwrap_or_default();
            match <[u8; 8]>::try_from(value) {
                Ok(word) => self.data.extend_from_slice(&word),
                Err(_) => self.data.extend_from_slice(value),
            }
            let end = self.data.len() as u32;
            in_order &= self.cells.last().is_none_or(|last| last.column < column.0);
            let column = column.0;
            self.cells.push(Cell {
                column,
                start,
                end,
                ..plain
            });
            start = end;
        }
        if !in_order {
            self.sort_cells();
        }
    }

    fn put_parts(&mut self, op: &OpView<'_>) {
        let (timestamp_us, ttl_s, wall_s) = (op.raw_timestamp(), op.ttl_s(), op.wall_s());
        let expiry_s = expiry_s(op);
        for (column, value) in op.cells() {
            let cell = |kind, live: bool, us: i64| match live {
                true => Cell::new(column.0, kind, false, us, ttl_s, expiry_s),
                false => Cell::new(column.0, kind, true, us, 0, wall_s),
            };
            match Part::of(value) {
                Some(Part::Whole(v)) => {
                    self.push(cell(CellKind::Whole, v.is_some(), timestamp_us), v.unwrap_or_default())
                }
                Some(Part::Element { path, value }) => {
                    let mut bytes = (path.len() as u32).to_le_bytes().to_vec();
                    bytes.extend_from_slice(path);
                    bytes.extend_from_slice(value.unwrap_or_default());
                    self.push(cell(CellKind::Element, value.is_some(), timestamp_us), &bytes);
                }
                Some(Part::Emptied { only_older }) => {
                    let until_us = timestamp_us.saturating_sub(i64::from(only_older));
                    self.push(cell(CellKind::Emptied, false, until_us), &[]);
                }
                Some(Part::Counter(shards)) => {
                    // Counters have no TTL.
                    let cell = Cell::new(column.0, CellKind::Counter, false, timestamp_us, 0, 0);
                    self.push(cell, &shards.merged(&shards));
                }
                // An addition is no state: leaders turn it into shards before it is logged.
                Some(Part::Addition(_)) | None => {}
            }
        }
        self.sort_cells();
        self.drop_emptied();
    }

    fn push(&mut self, cell: Cell, value: &[u8]) {
        let start = self.data.len() as u32;
        self.data.extend_from_slice(value);
        let end = self.data.len() as u32;
        self.cells.push(Cell { start, end, ..cell });
    }

    /// Drops the elements that a deletion of all of them covers: for good, whatever comes in which order.
    fn drop_emptied(&mut self) {
        let emptied: Vec<(u16, i64)> = self
            .cells
            .iter()
            .filter(|c| c.kind == CellKind::Emptied)
            .map(|c| (c.column, c.timestamp_us))
            .collect();
        if !emptied.is_empty() {
            let covered = |c: &Cell| {
                emptied
                    .iter()
                    .any(|(column, us)| *column == c.column && c.timestamp_us <= *us)
            };
            self.cells.retain(|c| c.kind != CellKind::Element || !covered(c));
        }
    }

    /// Adds a cell; columns must be distinct. Call [`RowState::sort_cells`] when they may be out of order.
    pub fn put(&mut self, column: u16, dead: bool, timestamp_us: i64, ttl_s: u32, local_s: u32, value: &[u8]) {
        self.push(
            Cell::new(column, CellKind::Whole, dead, timestamp_us, ttl_s, local_s),
            value,
        );
    }

    /// Restores the order of cells; of two of one column, or of one element, the preferred stays.
    pub fn sort_cells(&mut self) {
        if self.cells.windows(2).all(|w| w[0].column < w[1].column) {
            return;
        }
        let data = &self.data;
        let value = |c: &Cell| &data[c.start as usize..c.end as usize];
        self.cells
            .sort_by(|a, b| place((a, value(a)), (b, value(b))).then_with(|| prefer((b, value(b)), (a, value(a)))));
        self.cells
            .dedup_by(|a, b| place((a, value(a)), (b, value(b))) == Ordering::Equal);
    }

    /// Clustering key, encoded as [`ClusteringKey`].
    pub fn clustering(&self) -> &[u8] {
        &self.data[..self.key_bytes as usize]
    }

    /// Clustering key, owned.
    pub fn clustering_key(&self) -> ClusteringKey {
        ClusteringKey(self.clustering().to_vec())
    }

    /// Cells with their values, by column.
    pub fn cells(&self) -> impl Iterator<Item = (&Cell, &[u8])> {
        self.cells.iter().map(|c| (c, self.value(c)))
    }

    fn value(&self, c: &Cell) -> &[u8] {
        &self.data[c.start as usize..c.end as usize]
    }

    /// Whether nothing is known of the row.
    pub fn is_blank(&self) -> bool {
        self.marker.is_none() && self.deletion.is_none() && self.cells.is_empty()
    }

    /// Takes in everything known by another state of the same row. True if that changed anything.
    pub fn merge(&mut self, other: &RowState) -> bool {
        let before = (self.marker, self.deletion);
        self.marker = match (self.marker, other.marker) {
            (Some(a), Some(b)) => Some(if a.prefer(&b) == Ordering::Less { b } else { a }),
            (a, b) => a.or(b),
        };
        self.deletion = self.deletion.max(other.deletion);
        let cells_changed = self.merge_cells(other);
        cells_changed || before != (self.marker, self.deletion)
    }

    fn merge_cells(&mut self, other: &RowState) -> bool {
        let (mut changed, mut has_elements) = (false, false);
        for (cell, value) in other.cells() {
            has_elements |= matches!(cell.kind, CellKind::Element | CellKind::Emptied);
            let at = self
                .cells
                .binary_search_by(|c| place((c, self.value(c)), (cell, value)));
            if let Ok(i) = at
                && cell.kind == CellKind::Counter
                && self.cells[i].kind == CellKind::Counter
            {
                changed |= self.merge_counter(i, cell, value);
                continue;
            }
            if let Ok(i) = at
                && prefer((&self.cells[i], self.value(&self.cells[i])), (cell, value)) != Ordering::Less
            {
                continue;
            }
            changed = true;
            let start = self.data.len() as u32;
            self.data.extend_from_slice(value);
            let new = Cell {
                start,
                end: self.data.len() as u32,
                ..*cell
            };
            match at {
                Ok(i) => self.cells[i] = new,
                Err(i) => self.cells.insert(i, new),
            }
        }
        if has_elements {
            self.drop_emptied();
        }
        if changed {
            self.compact();
        }
        changed
    }

    /// Joins the shards of a counter. True if that changed anything.
    fn merge_counter(&mut self, at: usize, cell: &Cell, value: &[u8]) -> bool {
        let old = self.value(&self.cells[at]).to_vec();
        let merged = Shards::new(&old).merged(&Shards::new(value));
        let timestamp_us = self.cells[at].timestamp_us.max(cell.timestamp_us);
        if merged == old && timestamp_us == self.cells[at].timestamp_us {
            return false;
        }
        let start = self.data.len() as u32;
        self.data.extend_from_slice(&merged);
        let end = self.data.len() as u32;
        let cell = &mut self.cells[at];
        (cell.start, cell.end, cell.timestamp_us) = (start, end, timestamp_us);
        true
    }

    /// Drops values that no cell refers to any more once they are most of the data: a row overwritten for ever stays
    /// within twice its size.
    fn compact(&mut self) {
        let live: usize =
            self.key_bytes as usize + self.cells.iter().map(|c| (c.end - c.start) as usize).sum::<usize>();
        if self.data.len() < 256 || self.data.len() < live * 2 {
            return;
        }
        let mut data = Vec::with_capacity(live);
        data.extend_from_slice(&self.data[..self.key_bytes as usize]);
        for c in &mut self.cells {
            let start = data.len() as u32;
            data.extend_from_slice(&self.data[c.start as usize..c.end as usize]);
            (c.start, c.end) = (start, data.len() as u32);
        }
        self.data = data;
    }

    /// Whether a write of these columns at this timestamp leaves nothing of this state visible or needed: every cell
    /// and the marker are older, and all of them are written again.
    pub fn is_covered_by(&self, op: &OpView<'_>) -> bool {
        let ts = op.raw_timestamp();
        op.kind() == OpKind::Row
            && self.deletion.is_none()
            && self.marker.is_none_or(|m| op.has_marker() && m.timestamp_us < ts)
            && self
                .cells
                .iter()
                .all(|c| c.column < 63 && op.column_mask() & (1 << c.column) != 0 && c.timestamp_us < ts)
    }

    /// What a client sees of the row at `now_s`, given the deletion that covers it; `None` when it does not exist. `strict`
    /// says that it exists by its marker only (`TableStore::is_strict`). `hidden_until` says up to which timestamp a column's cells are invisible (it was dropped and added again, or is
    /// gone: `i64::MAX`).
    pub fn live(
        &self,
        covering: Option<Deletion>,
        now_s: u32,
        strict: bool,
        hidden_until: impl Fn(ColumnId) -> Option<i64>,
    ) -> Option<Row> {
        let deletion = covering.max(self.deletion);
        let is_marked = self.marker.is_some_and(|m| m.is_live(deletion, now_s));
        if strict && !is_marked {
            return None;
        }
        let mut row = Row::with_capacity(self.clustering(), self.cells.len(), self.data.len());
        for (c, value) in self.cells() {
            let visible = c.is_live(now_s)
                && deletion.is_none_or(|d| c.timestamp_us > d.timestamp_us)
                && hidden_until(ColumnId(c.column)).is_none_or(|t| c.timestamp_us > t);
            if visible {
                let ttl = (c.ttl_s != 0).then(|| c.local_s - now_s);
                let column = ColumnId(c.column);
                match c.kind {
                    CellKind::Element => row.push_element(column, value, c.timestamp_us, ttl),
                    CellKind::Counter => {
                        let total = Shards::new(value).total().to_be_bytes();
                        row.push(column, &total, c.timestamp_us, ttl);
                    }
                    CellKind::Whole | CellKind::Emptied => row.push(column, value, c.timestamp_us, ttl),
                }
            }
        }
        (is_marked || !row.has_no_cells()).then_some(row)
    }

    /// As [`RowState::live`], for a row that nobody needs any more: when all of it is visible, its bytes are the client's.
    pub fn into_live(
        self,
        covering: Option<Deletion>,
        now_s: u32,
        strict: bool,
        hidden_until: impl Fn(ColumnId) -> Option<i64>,
    ) -> Option<Row> {
        let mut end = self.key_bytes;
        let is_whole = |c: &Cell| {
            let follows = std::mem::replace(&mut end, c.end) == c.start;
            follows
                && !c.dead
                && c.kind == CellKind::Whole
                && c.ttl_s == 0
                && hidden_until(ColumnId(c.column)).is_none()
        };
        let is_plain = covering.is_none() && self.deletion.is_none() && !self.cells.is_empty() && !strict;
        if !is_plain || !self.cells.iter().all(is_whole) || end as usize != self.data.len() {
            return self.live(covering, now_s, strict, hidden_until);
        }
        let cells = self
            .cells
            .iter()
            .map(|c| (ColumnId(c.column), c.timestamp_us, c.start, c.end));
        Some(Row::of_parts(cells, self.data, self.key_bytes))
    }

    /// Whether the row exists for a client, without building it; `strict` as for [`RowState::live`].
    pub fn is_live(&self, covering: Option<Deletion>, now_s: u32, strict: bool) -> bool {
        let deletion = covering.max(self.deletion);
        self.marker.is_some_and(|m| m.is_live(deletion, now_s))
            || !strict
                && self
                    .cells
                    .iter()
                    .any(|c| deletion.is_none_or(|d| c.timestamp_us > d.timestamp_us) && c.is_live(now_s))
    }

    /// Takes in a deletion that covers the row, and drops for good what any deletion of it hides.
    pub(super) fn shadow(&mut self, covering: Option<Deletion>) {
        self.deletion = self.deletion.max(covering);
        let Some(deletion) = self.deletion else { return };
        self.marker = self.marker.filter(|m| m.timestamp_us > deletion.timestamp_us);
        self.cells.retain(|c| c.timestamp_us > deletion.timestamp_us);
    }

    /// Drops for good what deletions hide, and deletions and expired cells that are too old to be kept; `covering` is the
    /// deletion that covers the row, which stays where it is. True if that changed anything.
    pub(super) fn purge(&mut self, covering: Option<Deletion>, purge: Purge) -> bool {
        let before = (self.marker, self.deletion, self.cells.len());
        let hidden = |us: i64, by: Option<Deletion>| by.is_some_and(|d| us <= d.timestamp_us);
        let all = covering.max(self.deletion);
        self.marker = self
            .marker
            .filter(|m| !hidden(m.timestamp_us, all) && !purge.takes_marker(m));
        self.cells
            .retain(|c| !hidden(c.timestamp_us, all) && !purge.takes_cell(c));
        self.deletion = self
            .deletion
            .filter(|d| !hidden(d.timestamp_us, covering) && !purge.takes(*d));
        before != (self.marker, self.deletion, self.cells.len())
    }

    /// How many tombstones a read comes across in the row: cells that are deleted or have expired, or else its deletion if
    /// nothing of it is live (C `ReadCommand.MetricRecording`).
    pub(super) fn tombstones(&self, now_s: u32, is_live: bool) -> u32 {
        let dead = self.cells.iter().filter(|c| !c.is_live(now_s)).count() as u32;
        let is_deleted = !is_live && self.deletion.is_some();
        dead.max(u32::from(is_deleted))
    }

    /// The whole cell of a column, if it is there and live.
    pub(super) fn live_cell(&self, column: ColumnId, now_s: u32) -> Option<(&Cell, &[u8])> {
        let mut own = self.cells().filter(|(c, _)| c.column == column.0);
        own.find(|(c, _)| c.kind == CellKind::Whole && c.is_live(now_s))
    }

    /// Whether this very cell is in the row.
    pub(super) fn has_cell(&self, cell: &Cell, value: &[u8]) -> bool {
        let at = self
            .cells
            .binary_search_by(|c| place((c, self.value(c)), (cell, value)));
        at.is_ok_and(|i| self.cells[i].same_as(cell) && self.value(&self.cells[i]) == value)
    }

    /// Takes over a cell of another row, for this column, with this value. Call [`RowState::sort_cells`] after the last.
    pub(super) fn take_cell(&mut self, column: ColumnId, cell: &Cell, value: &[u8]) {
        self.push(
            Cell {
                column: column.0,
                ..*cell
            },
            value,
        );
    }

    /// Folds everything known of the row in: equal states give equal digests.
    pub fn digest_into(&self, out: &mut Fold) {
        out.add_bytes(self.clustering());
        if let Some(marker) = &self.marker {
            digest_marker(out, marker);
        }
        if let Some(d) = self.deletion {
            out.add(2 | u64::from(d.at_s) << 32, d.timestamp_us as u64);
        }
        let mut before_us = self.marker.map(|marker| marker.timestamp_us);
        for (c, value) in self.cells() {
            digest_cell(out, c, value, before_us.replace(c.timestamp_us));
        }
    }
}

/// The low bits of the first word tell markers, deletions and cells apart. `before_us` is the timestamp of what was folded
/// in before: nearly every cell has the same one, and a value of eight bytes.
#[inline(always)]
fn digest_cell(out: &mut Fold, cell: &Cell, value: &[u8], before_us: Option<i64>) {
    let is_plain = cell.kind == CellKind::Whole && !cell.dead && cell.ttl_s == 0 && cell.local_s == 0;
    if is_plain
        && before_us == Some(cell.timestamp_us)
        && let Ok(word) = value.try_into()
    {
        return out.add(7 | u64::from(cell.column) << 8, u64::from_le_bytes(word));
    }
    // 1, 2, 5, 6 and 7 are others' words; whole cells are 3 and 4, and the rest has multiples of 8 on top.
    let kind = 3 + u64::from(cell.dead) + 8 * cell.kind as u64;
    out.add(
        kind | u64::from(cell.column) << 8 | u64::from(cell.ttl_s) << 32,
        cell.timestamp_us as u64,
    );
    if cell.local_s != 0 {
        out.add(5, cell.local_s.into());
    }
    out.add_bytes(value);
}

/// What [`RowState::digest_into`] gives for the row that a record is by itself, without building it; `None`, and nothing
/// added, when the record's cells are not in order of column. The record is a whole-row write.
pub(super) fn digest_record(op: &OpView<'_>, out: &mut Fold) -> Option<()> {
    let (before, timestamp_us, ttl_s) = (*out, op.raw_timestamp(), op.ttl_s());
    let expiry_s = expiry_s(op);
    out.add_bytes(op.clustering());
    if op.has_marker() {
        let marker = Marker {
            timestamp_us,
            ttl_s,
            expiry_s,
        };
        digest_marker(out, &marker);
    }
    let mut next = 0;
    let mut before_us = op.has_marker().then_some(timestamp_us);
    for (column, value) in op.cells() {
        if column.0 < next {
            *out = before;
            return None;
        }
        next = column.0 + 1;
        let cell = Cell {
            column: column.0,
            kind: CellKind::Whole,
            dead: value.is_none(),
            timestamp_us,
            ttl_s: if value.is_some() { ttl_s } else { 0 },
            local_s: if value.is_some() { expiry_s } else { op.wall_s() },
            start: 0,
            end: 0,
        };
        digest_cell(out, &cell, value.unwrap_or_default(), before_us);
        before_us = Some(timestamp_us);
    }
    Some(())
}

fn digest_marker(out: &mut Fold, marker: &Marker) {
    out.add(1 | u64::from(marker.ttl_s) << 32, marker.timestamp_us as u64);
    if marker.expiry_s != 0 {
        out.add(6, marker.expiry_s.into());
    }
}

/// When what an operation writes expires, wall clock seconds; 0 without TTL.
fn expiry_s(op: &OpView<'_>) -> u32 {
    match op.ttl_s() {
        0 => 0,
        ttl_s => op.wall_s().saturating_add(ttl_s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TableId, WriteSet};
    use proptest::prelude::*;

    /// A row as one record: few values of everything, so that equal ones come up too. Values of eight bytes and others, in
    /// and out of order of column, with nulls and TTLs.
    fn record() -> impl Strategy<Value = WriteSet> {
        let value = prop_oneof![
            3 => (0u8..2).prop_map(|n| Some(vec![n; 8])),
            1 => (0u8..2, 0usize..17).prop_map(|(n, length)| Some(vec![n; length])),
            1 => Just(None),
        ];
        let cells = prop::collection::vec((0u16..3, value), 0..3);
        (
            any::<bool>(),
            0i64..2,
            prop_oneof![3 => Just(0u32), 1 => 1u32..3],
            cells,
        )
            .prop_map(|(marker, timestamp_us, ttl_s, cells)| {
                let mut set = WriteSet::new();
                set.begin(OpKind::Row, TableId(1), b"p", Some(timestamp_us)).ttl(ttl_s);
                if marker {
                    set.marker();
                }
                let mut written = std::collections::BTreeSet::new();
                for (column, value) in cells.iter().filter(|(column, _)| written.insert(*column)) {
                    match value {
                        Some(value) => set.cell(ColumnId(*column), value),
                        None => set.null(ColumnId(*column)),
                    };
                }
                set.end();
                set
            })
    }

    fn digest(state: &RowState) -> u128 {
        let mut fold = Fold::default();
        state.digest_into(&mut fold);
        fold.value()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn digests_are_equal_where_rows_are_and_nowhere_else(records in prop::collection::vec(record(), 4)) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| RowState::from_op(&records[i].op(0)));
            let merged = |a: &RowState, b: &RowState| {
                let mut both = a.clone();
                both.merge(b);
                both
            };
            let (one, other) = (merged(&a, &b), merged(&c, &d));
            for (left, right) in [(&a, &b), (&a, &one), (&one, &other), (&one, &merged(&b, &a))] {
                prop_assert_eq!(left == right, digest(left) == digest(right), "{:?} and {:?}", left, right);
            }
        }

        #[test]
        fn a_record_has_the_digest_of_its_row(record in record()) {
            let (op, mut fold) = (record.op(0), Fold::default());
            match digest_record(&op, &mut fold) {
                Some(()) => prop_assert_eq!(fold.value(), digest(&RowState::from_op(&op))),
                None => prop_assert_eq!(fold, Fold::default()),
            }
        }
    }
}
