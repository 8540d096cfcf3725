//! [`WriteSet`]: the operations of one statement or batch, encoded once at the edge and never copied cell by cell again.
//!
//! Each operation is one self-contained record; a replica keeps an INSERT's row as exactly these bytes in its log
//! ("a row is its bytes"), so whoever changes the layout changes the log format. Layout, little-endian, 48-byte header:
//!
//! | at | size | what |
//! |---|---|---|
//! | 0 | 4 | length of the record, header included |
//! | 4 | 1 | kind ([`OpKind`]) |
//! | 5 | 1 | flags: 1 row marker (INSERT), 2 deletes cells, 4 start bound exclusive, 8 end bound exclusive, 16 has list elements without a path yet |
//! | 6 | 2 | table |
//! | 8 | 8 | timestamp, microseconds; `i64::MIN` until the coordinator stamps it |
//! | 16 | 8 | token of the partition |
//! | 24 | 8 | columns: bit `min(column, 63)` per cell |
//! | 32 | 4 | TTL, seconds; 0 is none |
//! | 36 | 4 | the coordinator's wall clock when it stamped, seconds since the Unix epoch; 0 where nothing depends on it |
//! | 40 | 2 | length of the partition key |
//! | 42 | 2 | length of the clustering key (start bound of a range) |
//! | 44 | 2 | number of cells; 65,535 for more |
//! | 46 | 2 | length of the end bound of a range |
//! | 48 | | partition key, clustering key, end bound, cells: column, length, bytes |
//!
//! A cell's column is one byte below 0xff, else 0xff and two bytes; its length one byte below 0xfe, 0xfe and four bytes,
//! or 0xff for null.

use super::{ColumnId, Components, TableId, Token};
use crate::core::murmur3;

/// Length of a record's header, bytes.
pub const HEADER_BYTES: usize = 48;
/// The timestamp of an operation that the coordinator has yet to stamp.
pub const UNSTAMPED: i64 = i64::MIN;
/// The column byte that announces two more.
const WIDE_COLUMN: u8 = 0xff;
/// The length byte that announces four more.
const WIDE_LENGTH: u8 = 0xfe;
/// Bytes of the commonest value: `bigint`, `timestamp`.
const SHORT_CELL_BYTES: usize = 8;
/// The length byte of a null cell.
const NULL_LENGTH: u8 = 0xff;

pub(crate) const FLAG_MARKER: u8 = 1;
pub(crate) const FLAG_NULLS: u8 = 2;
pub(crate) const FLAG_START_EXCLUSIVE: u8 = 4;
pub(crate) const FLAG_END_EXCLUSIVE: u8 = 8;
/// New elements of lists whose paths the coordinator makes when it stamps.
pub(crate) const FLAG_UNMADE_PATHS: u8 = 16;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum OpKind {
    /// Cells of one row (INSERT with marker, UPDATE without; null cells delete).
    Row = 1,
    /// Deletes one row.
    RowDelete = 2,
    /// Deletes the rows between two bounds of the clustering key.
    RangeDelete = 3,
    /// Deletes a partition.
    PartitionDelete = 4,
    /// Static cells of a partition.
    Static = 5,
    /// As `Row`, and its cells are [`super::parts::Part`]s: elements of collections, counters.
    Parts = 6,
    /// As `Static`, with parts.
    StaticParts = 7,
}

impl OpKind {
    /// The kind with that number.
    pub fn from_code(code: u8) -> Option<OpKind> {
        [
            OpKind::Row,
            OpKind::RowDelete,
            OpKind::RangeDelete,
            OpKind::PartitionDelete,
            OpKind::Static,
            OpKind::Parts,
            OpKind::StaticParts,
        ]
        .into_iter()
        .find(|k| *k as u8 == code)
    }

    /// Whether it is about the static part of a partition.
    pub fn is_static(self) -> bool {
        matches!(self, OpKind::Static | OpKind::StaticParts)
    }

    /// Whether it deletes a partition, or a range of rows.
    pub fn is_wide_deletion(self) -> bool {
        matches!(self, OpKind::RangeDelete | OpKind::PartitionDelete)
    }

    /// Whether its cells are parts.
    pub fn has_parts(self) -> bool {
        matches!(self, OpKind::Parts | OpKind::StaticParts)
    }
}

/// The operations of one statement or batch, in statement order.
///
/// Build with [`begin`](WriteSet::begin), then [`clustering`](WriteSet::clustering) per key component, then cells, then
/// [`end`](WriteSet::end). The buffer can be cleared and reused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteSet {
    bytes: Vec<u8>,
    starts: Vec<u32>,
    /// Cells and columns of the operation being built; they go into its header when it ends.
    cells: u16,
    columns: u64,
    open: bool,
    /// Records with list elements that have no path yet.
    unmade_paths: u32,
    /// See [`WriteSet::oversized_bytes`].
    oversized_bytes: usize,
}

impl WriteSet {
    /// An empty set.
    pub fn new() -> WriteSet {
        WriteSet::default()
    }

    /// An empty set with room for `bytes` bytes of records and `ops` operations.
    pub fn with_capacity(bytes: usize, ops: usize) -> WriteSet {
        WriteSet {
            bytes: Vec::with_capacity(bytes),
            starts: Vec::with_capacity(ops),
            ..WriteSet::default()
        }
    }

    /// Empties the set, keeping its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
        self.unmade_paths = 0;
        self.oversized_bytes = 0;
        self.open = false;
    }

    /// Begins an operation on the partition with this serialized key ([`super::partition_key_bytes`]).
    ///
    /// `timestamp_us` is `USING TIMESTAMP` of the statement; `None` leaves it to the request's default or the
    /// coordinator's clock. `i64::MIN` is not a valid CQL timestamp and means `None`.
    #[inline]
    pub fn begin(
        &mut self,
        kind: OpKind,
        table: TableId,
        partition_key: &[u8],
        timestamp_us: Option<i64>,
    ) -> &mut Self {
        debug_assert!(!self.open, "the previous operation was not ended");
        debug_assert!(
            partition_key.len() <= usize::from(u16::MAX),
            "the edge limits keys to 65535 bytes"
        );
        self.starts.push(self.bytes.len() as u32);
        (self.cells, self.columns, self.open) = (0, 0, true);
        let mut header = [0u8; HEADER_BYTES];
        header[4] = kind as u8;
        header[6..8].copy_from_slice(&table.0.to_le_bytes());
        header[8..16].copy_from_slice(&timestamp_us.unwrap_or(UNSTAMPED).to_le_bytes());
        header[16..24].copy_from_slice(&murmur3::token(partition_key).0.to_le_bytes());
        header[40..42].copy_from_slice(&(partition_key.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(partition_key);
        self
    }

    /// Marks the row as INSERTed: it exists even when all its cells are null.
    pub fn marker(&mut self) -> &mut Self {
        let at = self.at();
        self.bytes[at + 5] |= FLAG_MARKER;
        self
    }

    /// `USING TTL`, or the table's default; 0 is none.
    pub fn ttl(&mut self, ttl_s: u32) -> &mut Self {
        let at = self.at();
        self.bytes[at + 32..at + 36].copy_from_slice(&ttl_s.to_le_bytes());
        self
    }

    /// The wall clock, in seconds, that TTLs and deletions count from: for operations that repeat an older write.
    pub(crate) fn wall(&mut self, wall_s: u32) -> &mut Self {
        let at = self.at();
        self.bytes[at + 36..at + 40].copy_from_slice(&wall_s.to_le_bytes());
        self
    }

    /// Appends a component of the clustering key (or of a range's start bound), in order.
    pub fn clustering(&mut self, component: &[u8]) -> &mut Self {
        self.component(component, 42)
    }

    /// Appends a component of a range's end bound, in order, after all of the start bound.
    pub fn end_bound(&mut self, component: &[u8]) -> &mut Self {
        self.component(component, 46)
    }

    /// Says which bounds of a range exclude the rows that start with them. Bounds are in storage order, as in
    /// [`super::Slice`].
    pub fn exclusive(&mut self, start: bool, end: bool) -> &mut Self {
        let at = self.at();
        self.bytes[at + 5] |= (u8::from(start) * FLAG_START_EXCLUSIVE) | (u8::from(end) * FLAG_END_EXCLUSIVE);
        self
    }

    /// A live cell. Cells in ascending column order make replicas faster; any order is correct. An unset value is
    /// simply not written.
    #[inline]
    pub fn cell(&mut self, column: ColumnId, value: &[u8]) -> &mut Self {
        if column.0 < u16::from(WIDE_COLUMN).min(63) && value.len() == SHORT_CELL_BYTES {
            return self.short_cell(column, value);
        }
        self.cell_header(column, Some(value.len()));
        self.bytes.extend_from_slice(value);
        self
    }

    /// A cell of one of the first columns whose value has the commonest length: written in one piece.
    #[inline]
    fn short_cell(&mut self, column: ColumnId, value: &[u8]) -> &mut Self {
        debug_assert!(self.open, "no operation was begun");
        self.cells = self.cells.saturating_add(1);
        self.columns |= 1 << column.0;
        let mut cell = [0; 2 + SHORT_CELL_BYTES];
        cell[0] = column.0 as u8;
        cell[1] = SHORT_CELL_BYTES as u8;
        cell[2..].copy_from_slice(value);
        self.bytes.extend_from_slice(&cell);
        self
    }

    /// A null cell: a tombstone.
    pub fn null(&mut self, column: ColumnId) -> &mut Self {
        self.cell_header(column, None);
        let at = self.at();
        self.bytes[at + 5] |= FLAG_NULLS;
        self
    }

    /// Says that the operation deletes cells, so that its wall clock matters.
    pub(super) fn deletes(&mut self) {
        let at = self.at();
        self.bytes[at + 5] |= FLAG_NULLS;
    }

    /// Says that paths of list elements are still to be made.
    pub(super) fn wants_paths(&mut self) {
        let at = self.at();
        if self.bytes[at + 5] & FLAG_UNMADE_PATHS == 0 {
            self.bytes[at + 5] |= FLAG_UNMADE_PATHS;
            self.unmade_paths += 1;
        }
    }

    /// Ends the operation.
    pub fn end(&mut self) {
        let at = self.at();
        let length = (self.bytes.len() - at) as u32;
        let header = &mut self.bytes[at..at + HEADER_BYTES];
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[24..32].copy_from_slice(&self.columns.to_le_bytes());
        header[44..46].copy_from_slice(&self.cells.to_le_bytes());
        // So that equal sets compare equal however they came about.
        (self.cells, self.columns, self.open) = (0, 0, false);
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Records with list elements whose paths are still to be made.
    pub(crate) fn unmade_paths(&self) -> u32 {
        self.unmade_paths
    }

    /// Bytes of the components of a clustering key that no record has room for; 0 if all have. The records are worth nothing
    /// then.
    pub fn oversized_bytes(&self) -> usize {
        self.oversized_bytes
    }

    /// Bytes of all records.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The operations in statement order.
    pub fn ops(&self) -> impl ExactSizeIterator<Item = OpView<'_>> {
        self.starts.iter().map(|s| OpView::at(&self.bytes, *s as usize))
    }

    /// One operation.
    pub fn op(&self, index: usize) -> OpView<'_> {
        OpView::at(&self.bytes, self.starts[index] as usize)
    }

    fn at(&self) -> usize {
        debug_assert!(self.open, "no operation was begun");
        *self.starts.last().expect("begin() came first") as usize
    }

    #[inline]
    fn component(&mut self, component: &[u8], length_at: usize) -> &mut Self {
        let at = self.at() + length_at;
        let before = u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]);
        let Ok(length) = u16::try_from(usize::from(before) + 2 + component.len()) else {
            let earlier = &self.bytes[self.bytes.len() - usize::from(before)..];
            let sum = Components::new(earlier).map(<[u8]>::len).sum::<usize>() + component.len();
            self.oversized_bytes = self.oversized_bytes.max(sum);
            return self;
        };
        self.bytes[at..at + 2].copy_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&(component.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(component);
        self
    }

    #[inline]
    fn cell_header(&mut self, column: ColumnId, length: Option<usize>) {
        debug_assert!(self.open, "no operation was begun");
        self.cells = self.cells.saturating_add(1);
        self.columns |= 1 << column.0.min(63);
        match (u8::try_from(column.0), length) {
            (Ok(c), Some(n)) if c < WIDE_COLUMN && n < usize::from(WIDE_LENGTH) => {
                self.bytes.extend_from_slice(&[c, n as u8]);
                return;
            }
            (Ok(c), _) if c < WIDE_COLUMN => self.bytes.push(c),
            _ => {
                self.bytes.push(WIDE_COLUMN);
                self.bytes.extend_from_slice(&column.0.to_le_bytes());
            }
        }
        match length {
            None => self.bytes.push(NULL_LENGTH),
            Some(n) if n < usize::from(WIDE_LENGTH) => self.bytes.push(n as u8),
            Some(n) => {
                self.bytes.push(WIDE_LENGTH);
                self.bytes.extend_from_slice(&(n as u32).to_le_bytes());
            }
        }
    }
}

/// A record, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpView<'a> {
    bytes: &'a [u8],
}

impl<'a> OpView<'a> {
    /// The record at `offset` of bytes known to hold whole records.
    pub(crate) fn at(bytes: &'a [u8], offset: usize) -> OpView<'a> {
        let length = u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("4 bytes")) as usize;
        OpView {
            bytes: &bytes[offset..offset + length],
        }
    }

    /// The first record of `bytes` and what follows it; `None` when the bytes do not hold a whole, well-formed record.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<(OpView<'a>, &'a [u8])> {
        let length = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
        if length < HEADER_BYTES || length > bytes.len() {
            return None;
        }
        let (record, rest) = bytes.split_at(length);
        let op = OpView { bytes: record };
        OpKind::from_code(record[4])?;
        (op.cells_at() <= length).then_some((op, rest))
    }

    /// The bytes of the record.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
    /// What it does.
    pub fn kind(&self) -> OpKind {
        OpKind::from_code(self.bytes[4]).expect("records are checked where they enter")
    }
    pub(crate) fn flags(&self) -> u8 {
        self.bytes[5]
    }
    /// Whether it is an INSERT's row.
    pub fn has_marker(&self) -> bool {
        self.flags() & FLAG_MARKER != 0
    }
    /// Whether it deletes cells.
    pub fn has_nulls(&self) -> bool {
        self.flags() & FLAG_NULLS != 0
    }
    /// Table.
    pub fn table(&self) -> TableId {
        TableId(self.u16_at(6))
    }
    /// Timestamp in microseconds, when it has one.
    pub fn timestamp_us(&self) -> Option<i64> {
        let t = self.raw_timestamp();
        (t != UNSTAMPED).then_some(t)
    }
    pub(crate) fn raw_timestamp(&self) -> i64 {
        i64::from_le_bytes(self.bytes[8..16].try_into().expect("8 bytes"))
    }
    /// Token of its partition.
    pub fn token(&self) -> Token {
        Token(i64::from_le_bytes(self.bytes[16..24].try_into().expect("8 bytes")))
    }
    pub(crate) fn column_mask(&self) -> u64 {
        u64::from_le_bytes(self.bytes[24..32].try_into().expect("8 bytes"))
    }
    /// TTL in seconds; 0 is none.
    pub fn ttl_s(&self) -> u32 {
        self.u32_at(32)
    }
    /// The coordinator's wall clock when it stamped, seconds.
    pub fn wall_s(&self) -> u32 {
        self.u32_at(36)
    }
    /// Whether nothing differs but the wall clock: the same write, perhaps stamped again.
    pub(crate) fn same_but_wall(&self, other: &OpView<'_>) -> bool {
        self.bytes.len() == other.bytes.len()
            && self.bytes[..36] == other.bytes[..36]
            && self.bytes[40..] == other.bytes[40..]
    }
    /// Serialized partition key.
    pub fn partition_key(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..HEADER_BYTES + usize::from(self.u16_at(40))]
    }
    /// Clustering key, or start bound of a range, encoded as [`super::ClusteringKey`].
    #[inline(always)]
    pub fn clustering(&self) -> &'a [u8] {
        let start = HEADER_BYTES + usize::from(self.u16_at(40));
        &self.bytes[start..start + usize::from(self.u16_at(42))]
    }
    /// End bound of a range.
    pub fn end_bound(&self) -> &'a [u8] {
        let end = self.cells_at();
        &self.bytes[end - usize::from(self.u16_at(46))..end]
    }
    /// Cells in the order written: column, and value or null.
    pub fn cells(&self) -> Cells<'a> {
        Cells {
            rest: &self.bytes[self.cells_at()..],
        }
    }
    /// Number of cells; 65,535 for more.
    pub fn cell_count(&self) -> usize {
        usize::from(self.u16_at(44))
    }
    #[inline(always)]
    fn cells_at(&self) -> usize {
        HEADER_BYTES + usize::from(self.u16_at(40)) + usize::from(self.u16_at(42)) + usize::from(self.u16_at(46))
    }
    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }
    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("4 bytes"))
    }
}

/// Iterator over the cells of a record.
#[derive(Debug, Clone)]
pub struct Cells<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Cells<'a> {
    type Item = (ColumnId, Option<&'a [u8]>);
    fn next(&mut self) -> Option<Self::Item> {
        let (column, rest) = match self.rest {
            [WIDE_COLUMN, low, high, rest @ ..] => (u16::from_le_bytes([*low, *high]), rest),
            [column, rest @ ..] => (u16::from(*column), rest),
            [] => return None,
        };
        let (length, rest) = match rest {
            [NULL_LENGTH, rest @ ..] => {
                self.rest = rest;
                return Some((ColumnId(column), None));
            }
            [WIDE_LENGTH, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
            [length, rest @ ..] => (usize::from(*length), rest),
            [] => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some((ColumnId(column), Some(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_every_width_come_back() {
        let cells: Vec<(u16, Option<usize>)> = vec![
            (0, Some(0)),
            (1, None),
            (62, Some(8)),
            (63, Some(0xfd)),
            (254, Some(0xfe)),
            (255, Some(0xff)),
            (256, None),
            (65_535, Some(70_000)),
            (7, Some(1)),
        ];
        let mut set = WriteSet::new();
        set.begin(OpKind::Row, TableId(3), b"key", Some(-7))
            .marker()
            .ttl(9)
            .clustering(b"one")
            .clustering(b"");
        for (c, n) in &cells {
            match n {
                Some(n) => set.cell(ColumnId(*c), &vec![*c as u8; *n]),
                None => set.null(ColumnId(*c)),
            };
        }
        set.end();
        let op = set.op(0);
        let read: Vec<(u16, Option<usize>)> = op.cells().map(|(c, v)| (c.0, v.map(<[u8]>::len))).collect();
        assert_eq!((read, op.cell_count()), (cells, 9));
        assert_eq!(
            (op.kind(), op.table(), op.timestamp_us(), op.ttl_s(), op.has_marker()),
            (OpKind::Row, TableId(3), Some(-7), 9, true)
        );
        assert_eq!((op.partition_key(), op.token()), (&b"key"[..], murmur3::token(b"key")));
        assert_eq!(
            super::super::Components::new(op.clustering()).collect::<Vec<_>>(),
            [&b"one"[..], b""]
        );
        assert_eq!(op.column_mask(), 0b11 | 1 << 62 | 1 << 63 | 1 << 7);
    }

    #[test]
    fn truncated_records_are_refused() {
        let mut set = WriteSet::new();
        set.begin(OpKind::RangeDelete, TableId(0), b"k", None)
            .clustering(b"a")
            .end_bound(b"b")
            .exclusive(true, false)
            .end();
        let bytes = set.op(0).bytes().to_vec();
        let (op, rest) = OpView::parse(&bytes).expect("whole");
        assert_eq!(
            (op.end_bound(), rest.len(), op.timestamp_us()),
            (&[0, 1, b'b'][..], 0, None)
        );
        assert!((0..bytes.len()).all(|n| OpView::parse(&bytes[..n]).is_none()));
    }
}
