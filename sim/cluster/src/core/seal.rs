//! From the operations of a request to mutations: grouped, stamped, checked, and laid out as log entries.
//!
//! Sealing happens once, on the coordinator, at the moment it executes. The result is shared by every message that
//! carries it, and each mutation in it is already the entry that a replica's log will hold, checksum included, so a
//! replica copies bytes and nothing else.

use super::flavor::{BatchSize, MutationUnit};
use super::key::{Key, KeyLayout};
use super::log::{ENTRY_HEADER_BYTES, EntryKind, close_entry, open_entry};
use crate::model::parts::{Part, make_paths};
use crate::model::write::{FLAG_UNMADE_PATHS, UNSTAMPED};
use crate::model::{OpKind, OpView, Schema, TableId, Token, WriteSet};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The first operation of each mutation, found by token: in a row while there are few, in a map when there are many.
#[derive(Default)]
struct Leaders {
    few: Vec<(Token, u32)>,
    many: BTreeMap<Token, Vec<u32>>,
}

/// Up to this many leaders a look along the row is quicker than a map, and takes one allocation.
const FEW_LEADERS: usize = 32;

impl Leaders {
    /// The leader of operation `i`: an earlier one of the same mutation, or itself.
    fn leader(&mut self, token: Token, i: u32, same: impl Fn(u32) -> bool) -> u32 {
        if self.many.is_empty() {
            if let Some((_, l)) = self.few.iter().find(|(t, l)| *t == token && same(*l)) {
                return *l;
            }
            self.few.push((token, i));
            if self.few.len() > FEW_LEADERS {
                for (t, l) in self.few.drain(..) {
                    self.many.entry(t).or_default().push(l);
                }
            }
            return i;
        }
        let leaders = self.many.entry(token).or_default();
        if let Some(l) = leaders.iter().find(|l| same(**l)) {
            return *l;
        }
        leaders.push(i);
        i
    }
}

/// One mutation of a [`Sealed`] write: everything for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutation {
    /// Where its log entry starts and ends in the bytes.
    pub start: u32,
    /// End of its log entry.
    pub end: u32,
    /// Token of its partition.
    pub token: Token,
    /// Table of its first operation.
    pub table: TableId,
    /// Index of its first operation among all of the write.
    first_op: u32,
}

/// The mutations of one request, stamped and ready to be logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Log entries, shared with every log that holds them.
    bytes: Bytes,
    mutations: Vec<Mutation>,
    /// Storage key of each operation (of the row, or of the partition for what is about a partition), computed once for
    /// all replicas. Empty when it came from a log or a repair: replicas then compute their own.
    keys: Vec<Key>,
    /// Number of the schema change that it was made with; 0 when that is not known.
    schema_change: u64,
}

/// Why a write cannot be sealed: the request is wrong, nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SealError {
    #[error("no table has number {0:?} in this node's schema")]
    NoTable(TableId),
    #[error(transparent)]
    Key(#[from] super::key::KeyError),
    #[error("a row of table number {table:?} has {found} clustering components of {expected}")]
    Clustering {
        table: TableId,
        found: usize,
        expected: usize,
    },
}

/// What sealing needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Timestamp for operations without one, microseconds.
    pub timestamp_us: i64,
    /// The same for deletions of partitions and ranges.
    pub deletion_us: i64,
    /// The coordinator's wall clock, seconds.
    pub wall_s: u32,
    /// How operations merge into mutations.
    pub unit: MutationUnit,
    /// The coordinator's wall clock, microseconds, which puts new elements of lists into their order; strictly increasing
    /// by more than a request has records. `None`: the timestamps of their writes do.
    pub list_us: Option<i64>,
    /// What tells the coordinator's uuids from those of others.
    pub node: u64,
}

/// A [`Sealed`] in the making.
struct Builder {
    bytes: Vec<u8>,
    mutations: Vec<Mutation>,
    /// Records whose list paths were made.
    made: i64,
}

impl Builder {
    fn push<'a>(&mut self, ops: impl Iterator<Item = OpView<'a>>, first_op: u32, stamp: Stamp) {
        let start = open_entry(&mut self.bytes, EntryKind::Mutation);
        let (mut token, mut table) = (Token(0), None);
        for op in ops {
            token = op.token();
            table.get_or_insert(op.table());
            let at = self.bytes.len();
            self.bytes.extend_from_slice(op.bytes());
            if op.raw_timestamp() == UNSTAMPED {
                let timestamp_us = match op.kind().is_wide_deletion() {
                    true => stamp.deletion_us,
                    false => stamp.timestamp_us,
                };
                self.bytes[at + 8..at + 16].copy_from_slice(&timestamp_us.to_le_bytes());
            }
            // Wall time stays 0 where nothing depends on it, so that a resent row is the same bytes.
            let needs_wall = op.ttl_s() != 0 || op.has_nulls() || !matches!(op.kind(), OpKind::Row | OpKind::Static);
            let wall_s = if needs_wall { stamp.wall_s } else { 0 };
            self.bytes[at + 36..at + 40].copy_from_slice(&wall_s.to_le_bytes());
            if op.flags() & FLAG_UNMADE_PATHS != 0 {
                // Each record of a request has a microsecond of its own, so that later statements come later.
                let at_us = stamp
                    .list_us
                    .unwrap_or_else(|| OpView::at(&self.bytes, at).raw_timestamp());
                make_paths(&mut self.bytes[at..], at_us.saturating_add(self.made), stamp.node);
                self.made += 1;
            }
        }
        close_entry(&mut self.bytes, start);
        let table = table.expect("a mutation has an operation");
        self.mutations.push(Mutation {
            start: start as u32,
            end: self.bytes.len() as u32,
            token,
            table,
            first_op,
        });
    }
}

impl Sealed {
    /// Seals the operations of a request. `layout` gives the key encoding of a table.
    pub fn seal<'l>(
        writes: &WriteSet,
        stamp: Stamp,
        schema: &Schema,
        layout: impl Fn(TableId) -> Option<&'l KeyLayout>,
    ) -> Result<Sealed, SealError> {
        let mut order: Vec<(u32, u32)> = Vec::with_capacity(writes.len());
        let mut leaders = Leaders::default();
        let mut keys: Vec<Key> = Vec::with_capacity(writes.len());
        for (i, op) in writes.ops().enumerate() {
            keys.push(check_op(
                &op,
                layout(op.table()).ok_or(SealError::NoTable(op.table()))?,
            )?);
            let same = |leader: u32| same_mutation(&writes.op(leader as usize), &op, stamp.unit, schema);
            order.push((leaders.leader(op.token(), i as u32, same), i as u32));
        }
        order.sort_unstable();
        let mut builder = Builder {
            bytes: Vec::with_capacity(writes.size_bytes() + ENTRY_HEADER_BYTES * writes.len()),
            mutations: Vec::with_capacity(writes.len()),
            made: 0,
        };
        let mut first_op = 0;
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            builder.push(group.iter().map(|(_, o)| writes.op(*o as usize)), first_op, stamp);
            first_op += group.len() as u32;
        }
        let in_order = order.iter().enumerate().all(|(i, (_, o))| i == *o as usize);
        let keys = if in_order {
            keys
        } else {
            order.iter().map(|(_, o)| keys[*o as usize].clone()).collect()
        };
        Ok(Sealed {
            bytes: builder.bytes.into(),
            mutations: builder.mutations,
            keys,
            schema_change: schema.change,
        })
    }

    /// One mutation made of ready operations (read repair), already stamped.
    pub fn of_ops(ops: &WriteSet) -> Sealed {
        Sealed::of_mutations(std::iter::once(ops))
    }

    /// Mutations made of ready operations, each of those of one partition.
    pub fn of_mutations<'a>(mutations: impl Iterator<Item = &'a WriteSet>) -> Sealed {
        let mut sealed = Sealed::default();
        let mut bytes = Vec::new();
        for ops in mutations.filter(|ops| !ops.is_empty()) {
            bytes.reserve(ENTRY_HEADER_BYTES + ops.size_bytes());
            let start = open_entry(&mut bytes, EntryKind::Mutation);
            for op in ops.ops() {
                bytes.extend_from_slice(op.bytes());
            }
            close_entry(&mut bytes, start);
            let first = ops.op(0);
            sealed.mutations.push(Mutation {
                start: start as u32,
                end: bytes.len() as u32,
                token: first.token(),
                table: first.table(),
                first_op: 0,
            });
        }
        sealed.bytes = bytes.into();
        sealed
    }

    /// Of those of these mutations that have several rows, the first: what a torn update shows at first. A row is whole, even
    /// where it takes several operations (a read repair gives marker and cells their own timestamps). `None` if there is no
    /// such mutation.
    pub(super) fn firsts(&self, which: impl Iterator<Item = usize>) -> Option<Sealed> {
        let mut sealed = Sealed {
            schema_change: self.schema_change,
            ..Sealed::default()
        };
        let mut bytes = Vec::new();
        for index in which {
            let Some(first) = self.ops(index).next() else { continue };
            let is_of_first = |op: &OpView<'_>| (op.table(), op.clustering()) == (first.table(), first.clustering());
            if self.ops(index).all(|op| is_of_first(&op)) {
                continue;
            }
            let start = open_entry(&mut bytes, EntryKind::Mutation);
            for op in self.ops(index).filter(is_of_first) {
                bytes.extend_from_slice(op.bytes());
            }
            close_entry(&mut bytes, start);
            sealed.mutations.push(Mutation {
                start: start as u32,
                end: bytes.len() as u32,
                first_op: 0,
                ..self.mutations[index]
            });
        }
        sealed.bytes = bytes.into();
        (!sealed.mutations.is_empty()).then_some(sealed)
    }

    /// The same rows with another timestamp, and deletions of partitions and ranges just before it
    /// (`Rules::cas_deletions_are_older`; who stamps anew does that too).
    pub(super) fn restamped(&self, timestamp_us: i64) -> Option<Sealed> {
        let mut all = Vec::with_capacity(self.bytes.len());
        for index in 0..self.mutations.len() {
            let mut entry = self.entry(index).to_vec();
            let mut at = ENTRY_HEADER_BYTES;
            while at < entry.len() {
                let op = OpView::at(&entry, at);
                let (length, is_wide) = (op.bytes().len(), op.kind().is_wide_deletion());
                let own_us = timestamp_us - i64::from(is_wide);
                entry[at + 8..at + 16].copy_from_slice(&own_us.to_le_bytes());
                at += length;
            }
            close_entry(&mut entry, 0);
            all.append(&mut entry);
        }
        Sealed::from_entries(&all)
    }

    /// The same, from the entries of a log (a stored batch, a stored hint). `None` when the bytes are not whole entries.
    pub fn from_entries(bytes: &[u8]) -> Option<Sealed> {
        let mut sealed = Sealed {
            bytes: Bytes::copy_from_slice(bytes),
            ..Sealed::default()
        };
        let mut at = 0;
        while at < bytes.len() {
            let length = u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize;
            let payload = bytes.get(at + ENTRY_HEADER_BYTES..at + ENTRY_HEADER_BYTES + length)?;
            let (first, _) = OpView::parse(payload)?;
            let end = at + ENTRY_HEADER_BYTES + length;
            let (token, table) = (first.token(), first.table());
            sealed.mutations.push(Mutation {
                start: at as u32,
                end: end as u32,
                token,
                table,
                first_op: 0,
            });
            at = end;
        }
        Some(sealed)
    }

    /// The mutations.
    pub fn mutations(&self) -> &[Mutation] {
        &self.mutations
    }

    /// Number of the schema change that it was made with; 0 when that is not known.
    pub fn schema_change(&self) -> u64 {
        self.schema_change
    }

    /// All log entries, one after the other.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The log entry of one mutation.
    pub fn entry(&self, index: usize) -> &[u8] {
        let m = &self.mutations[index];
        &self.bytes[m.start as usize..m.end as usize]
    }

    /// The log entries of consecutive mutations, for a log to share.
    pub fn shared_entries(&self, first: usize, last: usize) -> Bytes {
        let (from, to) = (self.mutations[first].start, self.mutations[last].end);
        self.bytes.slice(from as usize..to as usize)
    }

    /// Storage keys of the operations from this mutation on; empty when they are not known.
    pub fn keys_from(&self, index: usize) -> &[Key] {
        if self.keys.is_empty() {
            &[]
        } else {
            &self.keys[self.mutations[index].first_op as usize..]
        }
    }

    /// The operations of one mutation.
    pub fn ops(&self, index: usize) -> Ops<'_> {
        Ops {
            rest: &self.entry(index)[ENTRY_HEADER_BYTES..],
        }
    }

    /// All operations, in order of mutations.
    pub fn all_ops(&self) -> impl Iterator<Item = OpView<'_>> {
        (0..self.mutations.len()).flat_map(|i| self.ops(i))
    }

    /// Size of the batch for the limits, bytes.
    pub fn size_bytes(&self, rule: BatchSize) -> u64 {
        match rule {
            BatchSize::MutationBytes => self.bytes.len() as u64,
            BatchSize::DataSize => (0..self.mutations.len()).map(|i| data_size(self.ops(i))).sum(),
        }
    }

    /// Tables in order of first appearance.
    pub fn tables(&self) -> Vec<TableId> {
        let mut tables = vec![];
        for op in self.all_ops() {
            if !tables.contains(&op.table()) {
                tables.push(op.table());
            }
        }
        tables
    }
}

/// Iterator over the operations of a log entry's payload.
#[derive(Debug, Clone)]
pub struct Ops<'a> {
    rest: &'a [u8],
}

impl<'a> Ops<'a> {
    /// The operations in these bytes; ends early on malformed ones.
    pub fn new(payload: &'a [u8]) -> Ops<'a> {
        Ops { rest: payload }
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = OpView<'a>;
    fn next(&mut self) -> Option<OpView<'a>> {
        let (op, rest) = OpView::parse(self.rest)?;
        self.rest = rest;
        Some(op)
    }
}

fn same_mutation(a: &OpView<'_>, b: &OpView<'_>, unit: MutationUnit, schema: &Schema) -> bool {
    if a.partition_key() != b.partition_key() {
        return false;
    }
    let keyspace = |t| schema.table(t).map(|t| t.keyspace.as_str());
    a.table() == b.table() || unit == MutationUnit::KeyspacePartition && keyspace(a.table()) == keyspace(b.table())
}

/// Checks an operation's keys; returns its storage key.
fn check_op(op: &OpView<'_>, layout: &KeyLayout) -> Result<Key, SealError> {
    match op.kind() {
        OpKind::Row | OpKind::RowDelete | OpKind::Parts => {
            let found = crate::model::Components::new(op.clustering()).count();
            let expected = layout.clustering_columns();
            if found != expected {
                return Err(SealError::Clustering {
                    table: op.table(),
                    found,
                    expected,
                });
            }
        }
        OpKind::RangeDelete => {
            layout.slice(
                op.token(),
                op.partition_key(),
                (op.clustering(), true),
                (op.end_bound(), true),
            )?;
        }
        OpKind::PartitionDelete | OpKind::Static | OpKind::StaticParts => {}
    }
    Ok(layout.of_op(op)?)
}

/// Cassandra's `PartitionUpdate.dataSize`, summed over the tables of one mutation: 8 deletion info, 21 static row; per row
/// its clustering and 21; per cell its value and 20. Seen: 5176 bytes for cells of 8, 5000 and 8 bytes in two partitions.
/// An addition to a counter is the context of one shard, whatever it adds (C `CounterContext.createUpdate`).
fn data_size<'a>(ops: impl Iterator<Item = OpView<'a>>) -> u64 {
    let mut tables: Vec<TableId> = vec![];
    let mut total = 0u64;
    for op in ops {
        if !tables.contains(&op.table()) {
            tables.push(op.table());
            total += 29;
        }
        total += 21
            + crate::model::Components::new(op.clustering())
                .map(|c| c.len() as u64)
                .sum::<u64>();
        total += op
            .cells()
            .map(|(_, v)| 20 + v.map_or(0, |v| value_size(op.kind(), v)))
            .sum::<u64>();
    }
    total
}

/// Bytes of a counter's context with one shard: a header of 4, an id of 16, clock and count.
const SHARD_BYTES: u64 = 36;

fn value_size(kind: OpKind, value: &[u8]) -> u64 {
    let has_parts = matches!(kind, OpKind::Parts | OpKind::StaticParts);
    match has_parts && matches!(Part::of(Some(value)), Some(Part::Addition(_))) {
        true => SHARD_BYTES,
        false => value.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutation(rows: &[(&[u8], i64)]) -> Sealed {
        let mut ops = WriteSet::new();
        for (clustering, timestamp_us) in rows {
            ops.begin(OpKind::Row, TableId(7), b"p", Some(*timestamp_us));
            ops.clustering(clustering).end();
        }
        Sealed::of_ops(&ops)
    }

    #[test]
    fn what_a_torn_update_shows_at_first_is_a_whole_row() {
        let shown = |sealed: &Sealed| {
            let firsts = sealed.firsts(0..1)?;
            Some(firsts.ops(0).map(|op| op.raw_timestamp()).collect::<Vec<_>>())
        };
        assert_eq!(shown(&mutation(&[(b"a", 1), (b"b", 2)])), Some(vec![1]));
        // Two operations of one row are never seen apart, and alone they are nothing to be torn.
        assert_eq!(shown(&mutation(&[(b"a", 1), (b"a", 2), (b"b", 3)])), Some(vec![1, 2]));
        assert_eq!(shown(&mutation(&[(b"a", 1), (b"a", 2)])), None);
    }
}
