//! Read commands and the rows that come back.
//!
//! A command names partitions (or a token range), clustering slices in *storage order*, a direction and limits. The
//! result holds live cells only, with their write times; tombstones stay inside the core.

use super::parts::split_path;
use super::{ClusteringKey, ColumnId, ColumnKind, Table, TableId, Token};
use crate::core::murmur3;
use serde::{Deserialize, Serialize};

/// A partition: its serialized key and its token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionKey {
    /// Place on the ring.
    pub token: Token,
    /// Serialized as [`super::partition_key_bytes`] says.
    pub bytes: Vec<u8>,
}

impl PartitionKey {
    /// The partition with this serialized key.
    pub fn new(bytes: Vec<u8>) -> PartitionKey {
        PartitionKey {
            token: murmur3::token(&bytes),
            bytes,
        }
    }
}

/// Tokens from `start` to `end`, each with whether it belongs to the range. `None` is unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenRange {
    /// Lower bound: the token, and whether it is included.
    pub start: Option<(Token, bool)>,
    /// Upper bound: the token, and whether it is included.
    pub end: Option<(Token, bool)>,
}

/// Which partitions a read is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadTarget {
    /// These, in this order of the result (the edge sorts an IN by value, as servers do).
    Partitions(Vec<PartitionKey>),
    /// All partitions of a token range, in token order.
    Scan(TokenRange),
}

/// A bound of a clustering slice: a prefix of the clustering key. Inclusive covers every row that starts with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Prefix of the clustering key; an empty one is unbounded.
    pub prefix: ClusteringKey,
    /// Whether rows that start with the prefix belong to the slice.
    pub inclusive: bool,
}

impl Bound {
    /// No bound.
    pub fn open() -> Bound {
        Bound {
            prefix: ClusteringKey::default(),
            inclusive: true,
        }
    }
}

/// A range of rows within a partition, in storage order: `start` is what is met first when the partition is read
/// forward, which for a DESC column is its larger value. Use [`Slice::relations`] to build one from CQL's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// First bound in storage order.
    pub start: Bound,
    /// Last bound in storage order.
    pub end: Bound,
}

impl Slice {
    /// The rows whose clustering key is, or starts with, `prefix`.
    pub fn prefix(prefix: ClusteringKey) -> Slice {
        Slice {
            start: Bound {
                prefix: prefix.clone(),
                inclusive: true,
            },
            end: Bound {
                prefix,
                inclusive: true,
            },
        }
    }

    /// The rows where the first clustering columns equal `equal` and the next one lies between `lower` and `upper`
    /// (value, inclusive) as CQL means them; the column's order decides which bound comes first in storage.
    pub fn relations(
        table: &Table,
        equal: &[&[u8]],
        lower: Option<(&[u8], bool)>,
        upper: Option<(&[u8], bool)>,
    ) -> Slice {
        let base = ClusteringKey::of(equal);
        let bound = |b: Option<(&[u8], bool)>| match b {
            None => Bound {
                prefix: base.clone(),
                inclusive: true,
            },
            Some((value, inclusive)) => {
                let mut prefix = base.clone();
                prefix.push(value);
                Bound { prefix, inclusive }
            }
        };
        let descending = table
            .clustering()
            .get(equal.len())
            .is_some_and(|c| c.order == super::ClusteringOrder::Desc);
        let (first, last) = if descending { (upper, lower) } else { (lower, upper) };
        Slice {
            start: bound(first),
            end: bound(last),
        }
    }
}

/// Which rows of each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusteringSelect {
    /// All of them.
    All,
    /// Those of these slices. They must be disjoint; the result is in clustering order whatever their order here.
    Slices(Vec<Slice>),
}

/// A place in a result, after which the next page goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Partition of the last row returned.
    pub partition: PartitionKey,
    /// Its clustering key; `None` when the partition is finished.
    pub clustering: Option<ClusteringKey>,
    /// Rows of that partition returned so far, for the per-partition limit.
    pub rows_of_partition: u32,
}

/// A read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadCommand {
    /// Table read.
    pub table: TableId,
    /// Partitions.
    pub target: ReadTarget,
    /// Rows of each.
    pub clustering: ClusteringSelect,
    /// Whether each partition is read against its clustering order.
    pub reversed: bool,
    /// Rows wanted: the smaller of page size and what is left of LIMIT. `u32::MAX` is no limit.
    pub limit: u32,
    /// `PER PARTITION LIMIT`; `u32::MAX` is none.
    pub per_partition_limit: u32,
    /// Continue strictly after this place.
    pub after: Option<Position>,
}

impl ReadCommand {
    /// All rows of one partition, forward, without a limit.
    pub fn partition(table: TableId, key: PartitionKey) -> ReadCommand {
        ReadCommand {
            table,
            target: ReadTarget::Partitions(vec![key]),
            clustering: ClusteringSelect::All,
            reversed: false,
            limit: u32::MAX,
            per_partition_limit: u32::MAX,
            after: None,
        }
    }

    /// One row.
    pub fn row(table: TableId, key: PartitionKey, clustering: ClusteringKey) -> ReadCommand {
        ReadCommand {
            clustering: ClusteringSelect::Slices(vec![Slice::prefix(clustering)]),
            ..ReadCommand::partition(table, key)
        }
    }

    /// Every row of the table, in token order.
    pub fn scan(table: TableId) -> ReadCommand {
        ReadCommand {
            target: ReadTarget::Scan(TokenRange::default()),
            ..ReadCommand::partition(
                table,
                PartitionKey {
                    token: Token(0),
                    bytes: vec![],
                },
            )
        }
    }
}

/// A live cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellView<'a> {
    /// Column.
    pub column: ColumnId,
    /// CQL bytes.
    pub value: &'a [u8],
    /// `WRITETIME`, microseconds.
    pub timestamp_us: i64,
    /// Remaining `TTL` in seconds, when it has one.
    pub ttl_s: Option<u32>,
    /// For an element of a collection, which.
    pub path: Option<&'a [u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CellRef {
    column: ColumnId,
    /// An element: its bytes are the path's length, the path and the value.
    is_element: bool,
    timestamp_us: i64,
    ttl_s: u32,
    start: u32,
    end: u32,
}

/// One row (or the static part of a partition): its clustering key and its live cells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    bytes: Vec<u8>,
    clustering_bytes: u32,
    cells: Vec<CellRef>,
}

impl Row {
    /// An empty row with this clustering key (encoded as [`ClusteringKey`]).
    pub fn new(clustering: &[u8]) -> Row {
        Row {
            bytes: clustering.to_vec(),
            clustering_bytes: clustering.len() as u32,
            cells: vec![],
        }
    }
    /// As [`Row::new`], with room for cells and their values.
    pub fn with_capacity(clustering: &[u8], cells: usize, value_bytes: usize) -> Row {
        let mut bytes = Vec::with_capacity(clustering.len() + value_bytes);
        bytes.extend_from_slice(clustering);
        Row {
            bytes,
            clustering_bytes: clustering.len() as u32,
            cells: Vec::with_capacity(cells),
        }
    }
    /// A row whose bytes are there: the clustering key, then the values; cells by column, without TTL, with the places of
    /// their values.
    pub(crate) fn of_parts(
        cells: impl Iterator<Item = (ColumnId, i64, u32, u32)>,
        bytes: Vec<u8>,
        clustering_bytes: u32,
    ) -> Row {
        let cells = cells.map(|(column, timestamp_us, start, end)| CellRef {
            column,
            is_element: false,
            timestamp_us,
            ttl_s: 0,
            start,
            end,
        });
        Row {
            cells: cells.collect(),
            bytes,
            clustering_bytes,
        }
    }
    /// Makes it an empty row with this clustering key, and keeps its memory.
    pub fn reset(&mut self, clustering: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(clustering);
        self.clustering_bytes = clustering.len() as u32;
        self.cells.clear();
    }
    /// Adds a cell; columns in ascending order.
    pub fn push(&mut self, column: ColumnId, value: &[u8], timestamp_us: i64, ttl_s: Option<u32>) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.cells.push(CellRef {
            column,
            is_element: false,
            timestamp_us,
            ttl_s: ttl_s.unwrap_or(0),
            start,
            end: self.bytes.len() as u32,
        });
    }
    /// Adds an element of a collection, given as its path's length (`u32` little-endian), path and value; after all
    /// cells of earlier columns.
    pub(crate) fn push_element(&mut self, column: ColumnId, bytes: &[u8], timestamp_us: i64, ttl_s: Option<u32>) {
        self.push(column, bytes, timestamp_us, ttl_s);
        if let Some(last) = self.cells.last_mut() {
            last.is_element = true;
        }
    }
    /// Clustering key, encoded as [`ClusteringKey`].
    pub fn clustering(&self) -> &[u8] {
        &self.bytes[..self.clustering_bytes as usize]
    }
    /// The cell of a column, when it is live.
    pub fn cell(&self, column: ColumnId) -> Option<CellView<'_>> {
        // Rows have all their columns, as a rule: then a column is as far from the first one as its number says.
        let first = self.cells.first()?.column;
        let guess = self.cells.get(usize::from(column.0.wrapping_sub(first.0)));
        let found = guess.filter(|c| c.column == column && !c.is_element);
        let found = found.or_else(|| self.cells.iter().find(|c| c.column == column));
        found.map(|c| self.view(c))
    }
    /// The live elements of a collection, by the bytes of their paths.
    pub fn elements(&self, column: ColumnId) -> impl Iterator<Item = CellView<'_>> {
        self.cells
            .iter()
            .filter(move |c| c.column == column)
            .map(|c| self.view(c))
    }
    /// All live cells.
    pub fn cells(&self) -> impl Iterator<Item = CellView<'_>> {
        self.cells.iter().map(|c| self.view(c))
    }
    /// Bytes of its clustering key and its values.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }
    /// Whether it has no cells (a row of INSERTed keys only has none and is still a row).
    pub fn has_no_cells(&self) -> bool {
        self.cells.is_empty()
    }
    fn view(&self, c: &CellRef) -> CellView<'_> {
        let bytes = &self.bytes[c.start as usize..c.end as usize];
        let (path, value) = match c.is_element.then(|| split_path(bytes)).flatten() {
            Some((path, value)) => (Some(path), value),
            None => (None, bytes),
        };
        CellView {
            column: c.column,
            value,
            timestamp_us: c.timestamp_us,
            ttl_s: (c.ttl_s != 0).then_some(c.ttl_s),
            path,
        }
    }
}

/// The rows of one partition, in the order read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRows {
    /// Its key.
    pub key: PartitionKey,
    /// Live static cells; `None` when there are none. A partition with static cells and no rows is still one CQL row
    /// with null clustering columns, when the read was not restricted by clustering; the edge makes it.
    pub statics: Option<Row>,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// What a replica came across while it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// Live rows.
    pub live: u32,
    /// Tombstones, and cells that have expired.
    pub tombstones: u32,
    /// The last partition.
    pub token: Token,
}

/// What a read returned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadResult {
    /// Partitions with something in them, in order.
    pub partitions: Vec<PartitionRows>,
    /// Where to go on; `None` when there is nothing more (it may be `Some` with nothing behind it, as on real servers).
    pub more: Option<Position>,
    /// What the coordinator came across in its own copy, by partition (or range: `None`), where there were tombstones.
    pub scanned: Vec<(Option<PartitionKey>, Scanned)>,
}

impl ReadResult {
    /// Rows in all; a partition with only static cells counts one.
    pub fn row_count(&self) -> usize {
        self.partitions
            .iter()
            .map(|p| p.rows.len().max(usize::from(p.statics.is_some())))
            .sum()
    }
    /// Every row with its partition, in order; partitions with static cells only are left out.
    pub fn rows(&self) -> impl Iterator<Item = (&PartitionKey, &Row)> {
        self.partitions
            .iter()
            .flat_map(|p| p.rows.iter().map(move |r| (&p.key, r)))
    }
}

/// Whether a column's cells live in the static part of a partition.
pub fn is_static(table: &Table, column: ColumnId) -> bool {
    table.column_by_id(column).is_some_and(|c| c.kind == ColumnKind::Static)
}
