//! What a partition has beside its rows: its deletion, deletions of ranges of rows, static cells.

use super::fold::Fold;
use super::key::{Key, KeyError, KeyLayout, KeyRange};
use super::row::{Deletion, RowState};
use super::store::Purge;
use crate::model::OpView;
use crate::model::write::{FLAG_END_EXCLUSIVE, FLAG_START_EXCLUSIVE};

/// A deletion of the rows between two bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeTombstone {
    /// Start bound (clustering prefix) and whether it is included.
    pub start: (Vec<u8>, bool),
    /// End bound and whether it is included.
    pub end: (Vec<u8>, bool),
    /// The same as a range of storage keys.
    pub range: KeyRange,
    /// The deletion.
    pub deletion: Deletion,
}

impl RangeTombstone {
    /// What an operation that deletes a range of rows leaves in a table with these keys.
    ///
    /// # Errors
    /// Keys that are not of the table's types.
    pub fn of_op(op: &OpView<'_>, layout: &KeyLayout) -> Result<RangeTombstone, KeyError> {
        let inclusive = |flag| op.flags() & flag == 0;
        let start = (op.clustering(), inclusive(FLAG_START_EXCLUSIVE));
        let end = (op.end_bound(), inclusive(FLAG_END_EXCLUSIVE));
        Ok(RangeTombstone {
            range: layout.slice(op.token(), op.partition_key(), start, end)?,
            start: (start.0.to_vec(), start.1),
            end: (end.0.to_vec(), end.1),
            deletion: Deletion::of_op(op),
        })
    }
}

/// What a partition has beside its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionHead {
    /// Deletion of the partition.
    pub deletion: Option<Deletion>,
    /// Deletions of ranges of rows.
    pub ranges: Vec<RangeTombstone>,
    /// Static cells.
    pub statics: RowState,
}

impl PartitionHead {
    /// Whether there is nothing.
    pub fn is_blank(&self) -> bool {
        self.deletion.is_none() && self.ranges.is_empty() && self.statics.is_blank()
    }

    /// The strongest deletion that covers the row with this storage key, the row's own aside.
    pub fn covering(&self, key: &Key) -> Option<Deletion> {
        let ranges = self
            .ranges
            .iter()
            .filter(|r| r.range.contains(key))
            .map(|r| r.deletion)
            .max();
        self.deletion.max(ranges)
    }

    /// Takes in a deletion of the partition.
    pub fn delete(&mut self, deletion: Deletion) {
        self.deletion = self.deletion.max(Some(deletion));
    }

    /// Adds a range tombstone, unless it is known.
    pub fn add_range(&mut self, new: RangeTombstone) {
        match self.ranges.iter_mut().find(|r| r.range == new.range) {
            Some(known) => known.deletion = known.deletion.max(new.deletion),
            None => self.ranges.push(new),
        }
    }

    /// Takes in what another replica knows of the same partition.
    pub fn merge(&mut self, other: &PartitionHead) {
        self.deletion = self.deletion.max(other.deletion);
        self.statics.merge(&other.statics);
        for range in &other.ranges {
            self.add_range(range.clone());
        }
    }

    /// Leaves out deletions that are too old, and of the static cells what they hide. True if that changed anything.
    pub fn purge(&mut self, purge: Purge) -> bool {
        let before = (self.deletion, self.ranges.len());
        let changed = self.statics.purge(self.deletion, purge);
        let over = self.deletion;
        self.ranges
            .retain(|r| over.is_none_or(|d| r.deletion.timestamp_us > d.timestamp_us) && !purge.takes(r.deletion));
        self.deletion = self.deletion.filter(|d| !purge.takes(*d));
        changed || before != (self.deletion, self.ranges.len())
    }

    /// Adds it to the digest of a partition.
    pub(super) fn digest_into(&self, digest: &mut Fold) {
        if let Some(d) = self.deletion {
            digest.add(u64::from(b'P'), d.timestamp_us as u64);
        }
        let mut ranges: Vec<_> = self.ranges.iter().collect();
        ranges.sort_by(|a, b| (&a.range.start, &a.range.end).cmp(&(&b.range.start, &b.range.end)));
        for r in ranges {
            let inclusive = u64::from(r.start.1) << 8 | u64::from(r.end.1) << 9;
            digest.add(u64::from(b'R') | inclusive, r.deletion.timestamp_us as u64);
            digest.add_bytes(&r.start.0);
            digest.add_bytes(&r.end.0);
        }
        digest.add(u64::from(b'S'), 0);
        self.statics.digest_into(digest);
    }
}
