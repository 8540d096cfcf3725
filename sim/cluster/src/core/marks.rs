//! What became of a replica's rows since an earlier look, at the price of a word or two per row: a row that is a place in
//! the log is remembered as that place, which never changes; any other by the hash of what a client sees of it.
//!
//! The question it answers is that of idempotence: after everything was written again, is every cell, with its
//! timestamp, what it was?

use super::Node;
use super::fold::Fold;
use super::log::{CommitLog, LogPos};
use super::snapshot::{self, SnapshotRow};
use super::store::{StoredRow, TableStore};
use crate::model::{PartitionKey, Row, TableId, Token};
use std::collections::BTreeSet;

/// A row as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    /// The record at this place of the log.
    Logged(LogPos),
    /// What [`row_hash`] says of it; `None` when it was deleted. Boxed: hardly a row is such.
    Seen(Option<Box<u128>>),
}

/// The rows of some tables of one running node, in the order in which they came, as they were at one moment. Worthless once the node has started again.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    generation: u32,
    tables: Vec<(TableId, Vec<Mark>)>,
}

/// What differs from the marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rows that are not what a marked row was, with their tables and hashes.
    pub rows: Vec<(TableId, SnapshotRow, u128)>,
    /// Tables that have fewer live rows than were marked, and how many fewer.
    pub gone: Vec<(TableId, usize)>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.gone.is_empty()
    }
}

/// A hash of a row's key and live cells, write times included: the same on every replica that holds the same.
pub fn row_hash(partition: &[u8], row: &Row) -> u128 {
    let mut fold = Fold::default();
    fold.add_bytes(partition);
    fold.add_bytes(row.clustering());
    for cell in row.cells() {
        fold.add(cell.column.0.into(), cell.timestamp_us as u64);
        if let Some(path) = cell.path {
            fold.add_bytes(path);
        }
        fold.add_bytes(cell.value);
    }
    fold.value()
}

/// Looks at rows of one table as a client would see them at `now_s`.
struct Looker<'a> {
    table: &'a TableStore,
    log: &'a CommitLog,
    now_s: u32,
    scratch: Row,
}

impl<'a> Looker<'a> {
    fn new(node: &'a Node, table: &'a TableStore, now_us: u64) -> Self {
        Looker {
            table,
            log: node.log(),
            now_s: snapshot::wall_s(node.config(), now_us),
            scratch: Row::default(),
        }
    }

    fn hash(&mut self, key: &super::key::Key, row: StoredRow<'_>) -> Option<u128> {
        let covering = self.table.covering(key, row);
        let hidden = |column| self.table.hidden_until(column);
        row.live_into(&mut self.scratch, covering, self.now_s, self.table.is_strict(), hidden)
            .then(|| row_hash(row.partition().1, &self.scratch))
    }

    fn mark(&mut self, key: &super::key::Key, row: StoredRow<'_>) -> Mark {
        match row.logged_at() {
            Some(pos) if !self.table.has_partition_states() => Mark::Logged(pos),
            _ => Mark::Seen(self.hash(key, row).map(Box::new)),
        }
    }

    /// The hash of what was marked. A record in the log is what it was.
    fn was(&mut self, mark: &Mark) -> Option<u128> {
        let pos = match mark {
            Mark::Seen(hash) => return hash.as_deref().copied(),
            Mark::Logged(pos) => *pos,
        };
        let row = StoredRow::of_record(self.log, pos);
        let hidden = |column| self.table.hidden_until(column);
        row.live_into(&mut self.scratch, None, self.now_s, self.table.is_strict(), hidden)
            .then(|| row_hash(row.partition().1, &self.scratch))
    }

    fn seen(&self, row: StoredRow<'_>) -> SnapshotRow {
        let (token, bytes): (Token, &[u8]) = row.partition();
        SnapshotRow {
            partition: PartitionKey {
                token,
                bytes: bytes.to_vec(),
            },
            row: self.scratch.clone(),
        }
    }
}

impl Node {
    /// Remembers the rows of these tables.
    pub fn mark(&self, tables: &[TableId], now_us: u64) -> Marks {
        let of = |id: &TableId| {
            let table = self.store().table(*id)?;
            let mut looker = Looker::new(self, table, now_us);
            let rows = table.arrivals(self.log());
            Some((*id, rows.map(|(key, row)| looker.mark(key, row)).collect()))
        };
        Marks {
            generation: self.generation(),
            tables: tables.iter().filter_map(of).collect(),
        }
    }

    /// What differs from the marks now; `None` when the node has started again since, so that they say nothing.
    pub fn changes_since(&self, marks: &Marks, now_us: u64) -> Option<Changes> {
        if marks.generation != self.generation() {
            return None;
        }
        let mut changes = Changes::default();
        for (id, marked) in &marks.tables {
            let Some(table) = self.store().table(*id) else {
                changes.gone.push((*id, marked.len()));
                continue;
            };
            self.table_changes(*id, table, marked, now_us, &mut changes);
        }
        Some(changes)
    }

    fn table_changes(&self, id: TableId, table: &TableStore, marked: &[Mark], now_us: u64, changes: &mut Changes) {
        let mut looker = Looker::new(self, table, now_us);
        let differs = |looker: &mut Looker<'_>, key: &_, row: StoredRow<'_>, mark: Option<&Mark>| {
            mark.is_none_or(|mark| *mark != looker.mark(key, row) && looker.was(mark) != looker.hash(key, row))
        };
        // In step while no row is taken away, for new ones come last: the rule. Whatever is out of step is looked for
        // among all.
        let rows = table
            .arrivals(self.log())
            .zip(marked.iter().map(Some).chain(std::iter::repeat(None)));
        let suspects: Vec<_> = rows
            .filter(|((key, row), mark)| differs(&mut looker, key, *row, *mark))
            .map(|(row, _)| row)
            .collect();
        if suspects.is_empty() && table.row_count() >= marked.len() {
            return;
        }
        let known: BTreeSet<u128> = marked.iter().filter_map(|mark| looker.was(mark)).collect();
        let live = table
            .arrivals(self.log())
            .filter(|(key, row)| looker.hash(key, *row).is_some());
        let live = live.count();
        if live < known.len() {
            changes.gone.push((id, known.len() - live));
        }
        for (key, row) in suspects {
            if let Some(hash) = looker.hash(key, row).filter(|hash| !known.contains(hash)) {
                changes.rows.push((id, looker.seen(row), hash));
            }
        }
    }

    /// The hashes of a table's rows as they were marked.
    pub fn marked_rows(&self, marks: &Marks, table: TableId, now_us: u64) -> BTreeSet<u128> {
        let Some(store) = self.store().table(table) else {
            return BTreeSet::new();
        };
        let mut looker = Looker::new(self, store, now_us);
        let marked = marks.tables.iter().filter(|(id, _)| *id == table);
        marked
            .flat_map(|(_, marked)| marked)
            .filter_map(|mark| looker.was(mark))
            .collect()
    }
}
