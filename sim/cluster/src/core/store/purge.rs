//! What a major compaction of a table drops (`nodetool compact`): what deletions hide, at once; the deletions themselves, and
//! what has expired, once they are older than the table's `gc_grace_seconds`. From then on nothing here tells a replica
//! that was away meanwhile that what it still has was deleted: it comes back with the next repair.
//!
//! Sources: C `DeletionPurger`, `AbstractCell.purge`, `CompactionIterator.Purger`; S `mutation_compactor.hh`,
//! `tombstone_gc.cc` (mode `timeout`). Both take an expired cell by when it was written, its expiry less its TTL.

use super::{CommitLog, MergedRow, OpKind, PartitionState, RowMap, Slot, StoredRow, TableStore, mixed};
use crate::core::key::{Key, KeyLayout};
use crate::core::row::{Cell, Deletion, Marker};
use crate::model::Table;
use std::collections::BTreeMap;

/// Which deletions are too old to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purge {
    /// Wall clock seconds, for what expires.
    pub now_s: u32,
    /// What was deleted before this has been deleted for longer than gc_grace, wall clock seconds.
    pub before_s: u32,
}

impl Purge {
    /// Of a table, by the clock of whoever asks.
    pub fn of(table: &Table, now_s: u32) -> Purge {
        Purge {
            now_s,
            before_s: now_s.saturating_sub(table.options.gc_grace_s),
        }
    }

    /// Whether a deletion made then is too old.
    pub fn takes(self, deletion: Deletion) -> bool {
        deletion.at_s < self.before_s
    }

    /// Whether a cell is a tombstone, or has expired, and is too old.
    pub fn takes_cell(self, cell: &Cell) -> bool {
        !cell.is_live(self.now_s) && cell.local_s.saturating_sub(cell.ttl_s) < self.before_s
    }

    /// Whether a marker has expired and is too old.
    pub fn takes_marker(self, marker: &Marker) -> bool {
        !marker.is_live(None, self.now_s) && marker.expiry_s.saturating_sub(marker.ttl_s) < self.before_s
    }
}

impl StoredRow<'_> {
    /// Whether [`crate::core::row::RowState::purge`] could find anything to drop.
    pub fn may_lose(&self, covering: Option<Deletion>, purge: Purge) -> bool {
        let is_whole = |op: &super::OpView<'_>| {
            op.kind() == OpKind::Row && op.ttl_s() == 0 && (!op.has_nulls() || op.wall_s() >= purge.before_s)
        };
        covering.is_some() || !self.record().is_some_and(|op| is_whole(&op))
    }
}

impl TableStore {
    /// Compacts the table; returns how many rows and partitions lost anything.
    pub(in crate::core) fn purge(&mut self, purge: Purge, log: &CommitLog) -> u64 {
        let mut changed = purge_rows(&mut self.rows, &self.layout, &self.partitions, purge, log);
        for partition in self.partitions.values_mut() {
            changed += u64::from(partition.head.purge(purge));
        }
        self.partitions.retain(|_, p| !p.head.is_blank());
        if changed > 0 {
            // What comes after a purge does not commute with it: the order is part of the signature.
            let moment = mixed(u64::from(purge.now_s) << 32 | u64::from(purge.before_s));
            self.signature = mixed(self.signature ^ moment);
        }
        changed
    }
}

fn purge_rows(
    rows: &mut RowMap<Slot>,
    layout: &KeyLayout,
    partitions: &BTreeMap<Key, PartitionState>,
    purge: Purge,
    log: &CommitLog,
) -> u64 {
    let (mut changed, mut emptied) = (0, Vec::new());
    for (key, slot) in rows.entries_mut() {
        let row = StoredRow {
            slot: (&*slot).into(),
            log,
        };
        let covering = super::covering(layout, partitions, key, row);
        if !row.may_lose(covering, purge) {
            continue;
        }
        let (mut state, changed_at) = (row.state(), row.changed_at());
        if !state.purge(covering, purge) {
            continue;
        }
        changed += 1;
        if state.is_blank() {
            emptied.push(key.clone());
            continue;
        }
        let (token, partition) = row.partition();
        let partition = partition.into();
        *slot = Slot::Merged(Box::new(MergedRow {
            token,
            partition,
            state,
            changed_at,
        }));
    }
    for key in &emptied {
        rows.remove(key);
    }
    changed
}
