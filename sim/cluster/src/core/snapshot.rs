//! What a replica holds, for judges: live rows, rows that would survive a loss of power, cells with their timestamps.
//!
//! A snapshot changes nothing (a read at ALL would repair the evidence). It is plain data, in storage order.

use super::config::ClusterConfig;
use super::log::{CommitLog, ENTRY_HEADER_BYTES, EntryKind, LogReader};
use super::purge;
use super::replica::read_batch_header;
use super::store::{Store, TableStore};
use super::{BatchId, Node, murmur3};
use crate::model::{ColumnId, OpKind, OpView, PartitionKey, Row, Schema, TableId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A live row of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its partition.
    pub partition: PartitionKey,
    /// Clustering key and live cells with their write times.
    pub row: Row,
}

/// The live rows of one table on one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSnapshot {
    /// Table number.
    pub table: TableId,
    /// Keyspace.
    pub keyspace: String,
    /// Name.
    pub name: String,
    /// Rows in storage order.
    pub rows: Vec<SnapshotRow>,
    /// Static cells of partitions that have any.
    pub statics: Vec<SnapshotRow>,
}

/// Everything one replica holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaSnapshot {
    /// Its tables, by number.
    pub tables: Vec<TableSnapshot>,
    /// Batches kept for others that nobody removed.
    pub batches: Vec<BatchId>,
}

impl ReplicaSnapshot {
    /// The table of that name.
    pub fn table(&self, keyspace: &str, name: &str) -> Option<&TableSnapshot> {
        self.tables.iter().find(|t| t.keyspace == keyspace && t.name == name)
    }
}

/// What a node holds in memory: what it would answer from now.
pub fn live(node: &Node, now_us: u64) -> ReplicaSnapshot {
    let now_s = wall_s(node.config(), now_us);
    ReplicaSnapshot {
        tables: tables(node.store(), node.log(), now_s),
        batches: node.kept_batches().map(|(id, _)| *id).collect(),
    }
}

/// What a node holds of one table in memory.
pub fn live_table(node: &Node, table: TableId, now_us: u64) -> Option<TableSnapshot> {
    let now_s = wall_s(node.config(), now_us);
    let table = node.store().table(table)?;
    Some(table_snapshot(table, node.log(), now_s))
}

/// What a node would hold after starting from these bytes of its log file: give it what is on the platter to see what a
/// loss of power would leave, or the file as the kernel has it to see what kill -9 would.
pub fn recoverable(config: &ClusterConfig, log_file: &[u8], now_us: u64) -> ReplicaSnapshot {
    let mut store = Store::default();
    let mut schema: Arc<Schema> = config.schema.clone();
    store.set_schema(&schema);
    let mut batches = BTreeMap::new();
    let mut log = CommitLog::default();
    let mut whole = std::iter::once(Bytes::copy_from_slice(log_file));
    let mut reader = LogReader::new(&mut whole);
    while let Some((kind, entry)) = reader.next() {
        let payload = &entry[ENTRY_HEADER_BYTES..];
        match kind {
            EntryKind::Mutation => {
                let pos = log.recovered(&entry);
                // A mutation for a table dropped since is of no use to anybody.
                let _unknown_table = store.apply(payload, &[], &[], pos, &log);
            }
            EntryKind::BatchStored => {
                batches.extend(read_batch_header(payload).map(|(id, _, _)| (id, ())));
            }
            EntryKind::BatchRemoved => {
                if let Some((id, _, _)) = read_batch_header(payload) {
                    batches.remove(&id);
                }
            }
            EntryKind::Schema => {
                if let Ok(s) = Schema::from_bytes(payload) {
                    schema = Arc::new(s);
                    store.set_schema(&schema);
                }
            }
            EntryKind::Purged => purge::recover(payload, &mut store, &log),
            EntryKind::Truncated => {
                if let (Some(t), Some(at)) = (payload.first_chunk::<2>(), payload.last_chunk::<8>()) {
                    store.truncate(TableId(u16::from_le_bytes(*t)), u64::from_le_bytes(*at));
                }
            }
            EntryKind::HintStored
            | EntryKind::HintDone
            | EntryKind::Boot
            | EntryKind::Paxos
            | EntryKind::ViewBuilt
            | EntryKind::Membership => {}
        }
    }
    ReplicaSnapshot {
        tables: tables(&store, &log, wall_s(config, now_us)),
        batches: batches.into_keys().collect(),
    }
}

pub(super) fn wall_s(config: &ClusterConfig, now_us: u64) -> u32 {
    ((config.wall_base_us + now_us as i64) / 1_000_000).clamp(0, i64::from(u32::MAX)) as u32
}

fn tables(store: &Store, log: &CommitLog, now_s: u32) -> Vec<TableSnapshot> {
    store.tables().map(|t| table_snapshot(t, log, now_s)).collect()
}

/// A live row, lent for a look.
#[derive(Debug, Clone, Copy)]
pub enum LentRow<'a> {
    /// The record that it is, all of it visible.
    Record(OpView<'a>),
    /// What is visible of it.
    Built(&'a Row),
}

impl<'a> LentRow<'a> {
    /// Its clustering key, encoded as [`crate::model::ClusteringKey`].
    pub fn clustering(&self) -> &'a [u8] {
        match self {
            LentRow::Record(op) => op.clustering(),
            LentRow::Built(row) => row.clustering(),
        }
    }

    /// Columns and values of its live cells.
    pub fn cells(&self) -> impl Iterator<Item = (ColumnId, &'a [u8])> + use<'a> {
        let (record, built) = match *self {
            LentRow::Record(op) => (Some(op.cells()), None),
            LentRow::Built(row) => (None, Some(row.cells())),
        };
        let record = record.into_iter().flatten();
        let record = record.filter_map(|(column, value)| Some((column, value?)));
        let built = built.into_iter().flatten().map(|cell| (cell.column, cell.value));
        record.chain(built)
    }

    /// `WRITETIME`s, microseconds: of a record the one of all its cells and its marker, else of each live cell.
    pub fn timestamps_us(&self) -> impl Iterator<Item = i64> + use<'a> {
        let (record, built) = match *self {
            LentRow::Record(op) => (op.timestamp_us(), None),
            LentRow::Built(row) => (None, Some(row.cells())),
        };
        let built = built.into_iter().flatten().map(|cell| cell.timestamp_us);
        record.into_iter().chain(built)
    }
}

/// Gives `each` the partition key and the live cells of every row a node holds of one table in memory, in the order in which
/// rows came while none is undone: that is how they lie in memory, and sorting them would cost more than the visit.
pub fn visit(node: &Node, table: TableId, now_us: u64, mut each: impl FnMut(&[u8], LentRow<'_>)) {
    let Some(t) = node.store().table(table) else { return };
    let now_s = wall_s(node.config(), now_us);
    let has_no_exceptions = !t.has_partition_states() && !t.hides_columns();
    let mut row = Row::default();
    for (key, stored) in t.arrivals(node.log()) {
        if let Some(op) = stored.record().filter(|op| has_no_exceptions && is_all_visible(op)) {
            each(op.partition_key(), LentRow::Record(op));
        } else if stored.live_into(&mut row, t.covering(key, stored), now_s, t.is_strict(), |c| {
            t.hidden_until(c)
        }) {
            each(stored.partition().1, LentRow::Built(&row));
        }
    }
}

/// Whether a record shows, by itself and at any time, a row of which each column is there once.
fn is_all_visible(op: &OpView<'_>) -> bool {
    let columns = op.column_mask();
    // Bit 63 may stand for several columns.
    let are_distinct = columns >> 63 == 0 && columns.count_ones() as usize == op.cell_count();
    op.kind() == OpKind::Row && op.ttl_s() == 0 && op.has_marker() && are_distinct
}

fn visit_rows(t: &TableStore, log: &CommitLog, now_s: u32, mut each: impl FnMut(&[u8], &Row)) {
    let mut row = Row::default();
    for (key, stored) in t.rows(log) {
        if stored.live_into(&mut row, t.covering(key, stored), now_s, t.is_strict(), |c| {
            t.hidden_until(c)
        }) {
            each(stored.partition().1, &row);
        }
    }
}

fn table_snapshot(t: &TableStore, log: &CommitLog, now_s: u32) -> TableSnapshot {
    let hidden = |c| t.hidden_until(c);
    let mut rows = vec![];
    visit_rows(t, log, now_s, |bytes, row| {
        rows.push(SnapshotRow {
            partition: PartitionKey {
                token: murmur3::token(bytes),
                bytes: bytes.to_vec(),
            },
            row: row.clone(),
        });
    });
    let statics = t
        .partition_states()
        .filter_map(|(_, p)| {
            let row = p.head.statics.live(p.head.deletion, now_s, false, hidden)?;
            Some(SnapshotRow {
                partition: p.key.clone(),
                row,
            })
        })
        .collect();
    let table = t.table();
    TableSnapshot {
        table: table.id,
        keyspace: table.keyspace.clone(),
        name: table.name.clone(),
        rows,
        statics,
    }
}
