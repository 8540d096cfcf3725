//! Compaction of a node's log: everything that the node knows as one snapshot, to take the place of the log's file; and
//! the memory of entries that nothing needs any more given back.
//!
//! A snapshot is a log like any other: a start, the schema, truncations, one mutation for each row, what is kept for
//! others, conditional writes. Recovery knows no difference, and what is appended after it is its tail. Merging does not
//! depend on the order of mutations, so the order of rows in it means nothing.
//!
//! Only a host on real files asks for it, and only while the log is settled ([`Node::is_log_settled`]): then every place in
//! it is on the disk, and places may be counted anew.

use super::log::{EntryKind, close_entry, open_entry};
use super::node::Node;
use super::repair;
use super::replica::{Replica, batch_header};
use super::store::TableStore;
use crate::model::{OpKind, WriteSet};

/// Bytes of a snapshot that are handed over at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A snapshot being written.
struct Writer<'a, E> {
    piece: Vec<u8>,
    out: &'a mut dyn FnMut(&[u8]) -> Result<(), E>,
}

impl<E> Writer<'_, E> {
    fn entry(&mut self, kind: EntryKind, parts: &[&[u8]]) -> Result<(), E> {
        let start = open_entry(&mut self.piece, kind);
        parts.iter().for_each(|part| self.piece.extend_from_slice(part));
        close_entry(&mut self.piece, start);
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        self.flush()
    }

    fn ops(&mut self, ops: &mut WriteSet) -> Result<(), E> {
        if ops.is_empty() {
            return Ok(());
        }
        let parts: Vec<&[u8]> = ops.ops().map(|op| op.bytes()).collect();
        self.entry(EntryKind::Mutation, &parts)?;
        ops.clear();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), E> {
        (self.out)(&self.piece)?;
        self.piece.clear();
        Ok(())
    }
}

impl Node {
    /// Whether everything appended to the log is on the disk, and nobody waits for it.
    pub fn is_log_settled(&self) -> bool {
        let log = &self.replica.log;
        log.is_synced() && !log.is_syncing() && self.replica.deferred.is_empty()
    }

    /// Hands over everything that this node would recover from its log, as log entries, piece by piece.
    ///
    /// # Errors
    /// What `out` returns; the snapshot is then of no use.
    pub fn write_snapshot<E>(&self, out: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut writer = Writer {
            piece: Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4),
            out,
        };
        writer.entry(EntryKind::Boot, &[&self.generation.to_le_bytes()])?;
        for record in self.membership_records() {
            writer.entry(EntryKind::Membership, &[&record])?;
        }
        if let Ok(schema) = self.schema.to_bytes() {
            writer.entry(EntryKind::Schema, &[&schema])?;
        }
        for table in self.replica.store.tables() {
            if let Some(at_us) = table.truncated_at_us() {
                let id = table.table().id.0;
                writer.entry(EntryKind::Truncated, &[&id.to_le_bytes(), &at_us.to_le_bytes()])?;
            }
            self.write_table(table, &mut writer)?;
        }
        for (id, kept) in &self.replica.batchlog {
            let header = batch_header(*id, kept.written_at_us);
            writer.entry_of_entries(EntryKind::BatchStored, &header, kept.sealed.bytes())?;
        }
        for (header, entry) in self.hints.logged() {
            writer.entry_of_entries(EntryKind::HintStored, &header, entry)?;
        }
        for record in self.paxos_records() {
            writer.entry(EntryKind::Paxos, &[&record])?;
        }
        for view in self.views.built() {
            writer.entry(EntryKind::ViewBuilt, &[&view.0.to_le_bytes()])?;
        }
        writer.flush()
    }

    fn write_table<E>(&self, table: &TableStore, writer: &mut Writer<'_, E>) -> Result<(), E> {
        let (log, id) = (&self.replica.log, table.table().id);
        let mut ops = WriteSet::new();
        for (_, partition) in table.partition_states() {
            repair::whole_partition_state(id, partition, &mut ops);
            writer.ops(&mut ops)?;
        }
        for (_, row) in table.arrivals(log) {
            if let Some(record) = row.record() {
                writer.entry(EntryKind::Mutation, &[record.bytes()])?;
                continue;
            }
            repair::whole_row(id, row.partition().1, OpKind::Row, &row.state(), &mut ops);
            writer.ops(&mut ops)?;
        }
        Ok(())
    }

    /// Bytes of log records that are rows just now.
    pub fn live_log_bytes(&self) -> u64 {
        let Replica { log, store, .. } = &self.replica;
        store.live_bytes(log).iter().sum()
    }

    /// Gives back the memory of log entries that nothing needs any more. Segments of which a quarter or more is dead lose
    /// what is alive to new ones, so that what is dead stays below a third of what is alive, apart from entries of a few
    /// bytes that share a buffer with live ones. Only while the log is settled.
    pub fn shed_log(&mut self) {
        debug_assert!(self.is_log_settled(), "places of the log are counted anew");
        let Replica { log, store, .. } = &mut self.replica;
        let live = store.live_bytes(log);
        let mut moving = log.shed(&live);
        store.move_rows(|pos| moving.move_record(pos));
        log.settle(moving);
    }
}

impl<E> Writer<'_, E> {
    /// An entry that holds entries, whose checksum covers its head only.
    fn entry_of_entries(&mut self, kind: EntryKind, head: &[u8], entries: &[u8]) -> Result<(), E> {
        let start = open_entry(&mut self.piece, kind);
        self.piece.extend_from_slice(head);
        self.piece.extend_from_slice(entries);
        close_entry(&mut self.piece, start);
        self.flush()
    }
}
