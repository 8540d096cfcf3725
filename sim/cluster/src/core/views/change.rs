//! What a write does to rows of its table, seen before it is applied: each row as it is, and as it will be.
//!
//! Deletions of ranges and partitions are told as deletions of the rows that are there: those that are not have no row in
//! any view.

use crate::core::key::{Key, KeyError};
use crate::core::log::CommitLog;
use crate::core::row::{Deletion, RowState};
use crate::core::store::{PartitionState, RangeTombstone, TableStore};
use crate::model::write::{FLAG_END_EXCLUSIVE, FLAG_START_EXCLUSIVE};
use crate::model::{OpKind, OpView};
use std::collections::BTreeMap;

/// A row before and after a write. Neither has what a deletion hides.
#[derive(Debug)]
pub(super) struct Change {
    /// As it is; blank if nothing is known of it.
    pub before: RowState,
    /// As it will be.
    pub after: RowState,
}

/// Operations of one mutation on one partition of one table.
struct Looker<'a> {
    table: &'a TableStore,
    log: &'a CommitLog,
    /// Rows that are touched, with what is written to each.
    rows: BTreeMap<Key, RowState>,
    /// What the partition will have beside rows.
    partition: PartitionState,
}

/// What these operations, all of them on one partition of this table, do to its rows.
///
/// # Errors
/// Keys that are not of the table's types.
pub(super) fn changes(table: &TableStore, log: &CommitLog, ops: &[OpView<'_>]) -> Result<Vec<Change>, KeyError> {
    let Some(first) = ops.first() else {
        return Ok(vec![]);
    };
    let key = table.layout().partition(first.token(), first.partition_key())?;
    let known = table.partition_state(&key);
    let mut looker = Looker {
        table,
        log,
        rows: BTreeMap::new(),
        partition: known.cloned().unwrap_or_default(),
    };
    for op in ops {
        looker.take(op)?;
    }
    let Looker { rows, partition, .. } = looker;
    let covering = |key: &Key| known.and_then(|p| p.covering(key));
    let change = |(key, written): (Key, RowState)| {
        let stored = table.get(log, &key).map(|row| row.state());
        let mut before = stored.unwrap_or_else(|| RowState::empty(written.clustering()));
        let mut after = before.clone();
        after.merge(&written);
        before.shadow(covering(&key));
        after.shadow(partition.covering(&key));
        Change { before, after }
    };
    Ok(rows.into_iter().map(change).collect())
}

impl Looker<'_> {
    fn take(&mut self, op: &OpView<'_>) -> Result<(), KeyError> {
        let deletion = Deletion {
            timestamp_us: op.raw_timestamp(),
            at_s: op.wall_s(),
        };
        match op.kind() {
            OpKind::Row | OpKind::Parts | OpKind::RowDelete => {
                let key = self.table.layout().of_op(op)?;
                let row = self.rows.entry(key);
                row.or_insert_with(|| RowState::empty(op.clustering()))
                    .merge(&RowState::from_op(op));
            }
            OpKind::RangeDelete => {
                let inclusive = |flag| op.flags() & flag == 0;
                let start = (op.clustering(), inclusive(FLAG_START_EXCLUSIVE));
                let end = (op.end_bound(), inclusive(FLAG_END_EXCLUSIVE));
                self.touch(op, start, end)?;
                let layout = self.table.layout();
                let range = layout.slice(op.token(), op.partition_key(), start, end)?;
                self.partition.add_range(RangeTombstone {
                    start: (start.0.to_vec(), start.1),
                    end: (end.0.to_vec(), end.1),
                    range,
                    deletion,
                });
            }
            OpKind::PartitionDelete => {
                self.touch(op, (&[], true), (&[], true))?;
                self.partition.deletion = self.partition.deletion.max(Some(deletion));
            }
            // No view shows static columns.
            OpKind::Static | OpKind::StaticParts => {}
        }
        Ok(())
    }

    /// Notes the rows that are there between two bounds.
    fn touch(&mut self, op: &OpView<'_>, start: (&[u8], bool), end: (&[u8], bool)) -> Result<(), KeyError> {
        let layout = self.table.layout();
        let range = layout.slice(op.token(), op.partition_key(), start, end)?;
        for (key, row) in self.table.range(self.log, &range) {
            let rows = self.rows.entry(key.clone());
            rows.or_insert_with(|| RowState::empty(row.state().clustering()));
        }
        Ok(())
    }
}
