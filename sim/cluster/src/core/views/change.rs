//! What a write does to rows of its table, seen before it is applied: each row as it is, and as it will be.
//!
//! Deletions of ranges and partitions are told as deletions of the rows that are there: those that are not have no row in
//! any view.

use crate::core::key::{Key, KeyError, KeyRange};
use crate::core::log::CommitLog;
use crate::core::partition::{PartitionHead, RangeTombstone};
use crate::core::row::{Deletion, RowState};
use crate::core::store::TableStore;
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
    head: PartitionHead,
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
    let known = table.partition_head(&key);
    let mut looker = Looker {
        table,
        log,
        rows: BTreeMap::new(),
        head: known.cloned().unwrap_or_default(),
    };
    for op in ops {
        looker.take(op)?;
    }
    let Looker { rows, head, .. } = looker;
    let covering = |key: &Key| known.and_then(|h| h.covering(key));
    let change = |(key, written): (Key, RowState)| {
        let stored = table.get(log, &key).map(|row| row.state());
        let mut before = stored.unwrap_or_else(|| RowState::empty(written.clustering()));
        let mut after = before.clone();
        after.merge(&written);
        before.shadow(covering(&key));
        after.shadow(head.covering(&key));
        Change { before, after }
    };
    Ok(rows.into_iter().map(change).collect())
}

impl Looker<'_> {
    fn take(&mut self, op: &OpView<'_>) -> Result<(), KeyError> {
        match op.kind() {
            OpKind::Row | OpKind::Parts | OpKind::RowDelete => {
                let key = self.table.layout().of_op(op)?;
                let row = self.rows.entry(key);
                row.or_insert_with(|| RowState::empty(op.clustering()))
                    .merge(&RowState::from_op(op));
            }
            OpKind::RangeDelete => {
                let tombstone = RangeTombstone::of_op(op, self.table.layout())?;
                self.touch(&tombstone.range);
                self.head.add_range(tombstone);
            }
            OpKind::PartitionDelete => {
                let layout = self.table.layout();
                self.touch(&layout.slice(op.token(), op.partition_key(), (&[], true), (&[], true))?);
                self.head.delete(Deletion::of_op(op));
            }
            // No view shows static columns.
            OpKind::Static | OpKind::StaticParts => {}
        }
        Ok(())
    }

    /// Notes the rows that are there in a range.
    fn touch(&mut self, range: &KeyRange) {
        for (key, row) in self.table.range(self.log, range) {
            let rows = self.rows.entry(key.clone());
            rows.or_insert_with(|| RowState::empty(row.state().clustering()));
        }
    }
}
