//! What a node does as a replica and as a batchlog holder: log, apply, acknowledge, read.
//!
//! Everything is logged before it is applied. In periodic mode the acknowledgement leaves at once; in `batch` mode, or
//! when the disk lags too far behind, it waits for the sync that covers it.

use super::key::Key;
use super::lies::Lie;
use super::log::{CommitLog, ENTRY_HEADER_BYTES, EntryKind, LogPos};
use super::message::{BatchId, Event, Msg, OpId, Query, Which};
use super::node::{Cx, Node};
use super::paxos::{PaxosKey, PaxosRow};
use super::query::{self, ReadError};
use super::seal::Sealed;
use super::store::{Ahead, ApplyError, Store, UndoLog};
use super::views::Pushed;
use crate::model::{FailureReason, NodeIdx, OpView, TableId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Batches that a kind cluster can undo, or knows to be undone. A batch fails within seconds or not at all, and ids grow
/// with time, so the oldest are forgotten first.
const UNDO_MAX: usize = 4096;

/// A batch this node keeps for others.
#[derive(Debug, Clone)]
pub struct KeptBatch {
    /// Its mutations, with their original timestamps.
    pub sealed: Arc<Sealed>,
    /// When its coordinator wrote it, simulated microseconds.
    pub written_at_us: u64,
    /// Whether a replay of it is under way.
    pub replaying: bool,
    /// When its replay was last begun, simulated microseconds.
    pub tried_us: Option<u64>,
}

/// The replica part of a node.
#[derive(Debug, Default)]
pub struct Replica {
    /// The commit log, which is also where rows live.
    pub(super) log: CommitLog,
    /// The tables.
    pub(super) store: Store,
    /// What is applied next; kept for its memory.
    pub(super) ahead: Ahead,
    /// Batches kept for others.
    pub(super) batchlog: BTreeMap<BatchId, KeptBatch>,
    /// What is agreed, or being agreed, per partition.
    pub(super) paxos: BTreeMap<PaxosKey, PaxosRow>,
    /// Acknowledgements that wait for a sync, in log order.
    pub(super) deferred: VecDeque<(LogPos, NodeIdx, Msg)>,
    /// When the oldest byte that is not on the disk was appended.
    pub(super) dirty_since_us: Option<u64>,
    /// Whether a flush, and a sync, are scheduled.
    pub(super) flush_set: bool,
    pub(super) sync_set: bool,
    /// What batches changed, while they can still fail. Kind clusters only.
    pub(super) undo: BTreeMap<BatchId, UndoLog>,
    /// Batches that were undone: what comes of them later came too late. Kind clusters only.
    pub(super) undone: BTreeSet<BatchId>,
}

impl Replica {
    /// Logs and applies mutations that are already log entries, all of them consecutive in `entries`; `keys` are the
    /// storage keys of their operations if they are known.
    fn apply_entries(&mut self, entries: Bytes, keys: &[Key]) -> Result<u32, ApplyError> {
        let (mut unseen, mut first) = (&entries[..], 0);
        self.ahead.clear();
        while !unseen.is_empty() {
            let (payload, rest) = split_entry(unseen);
            first += self
                .store
                .look_ahead(payload, keys.get(first..).unwrap_or(&[]), &mut self.ahead)?;
            unseen = rest;
        }
        self.store.approach(&mut self.ahead, &self.log);
        let mut pos = self.log.append_entries(entries.clone());
        let (mut rest, mut count, mut first) = (&entries[..], 0, 0);
        while !rest.is_empty() {
            let (payload, tail) = split_entry(rest);
            let known = keys.get(first..).unwrap_or(&[]);
            let at = pos.plus(ENTRY_HEADER_BYTES);
            first += self
                .store
                .apply(payload, known, self.ahead.from(first), at, &self.log)?;
            pos = pos.plus(rest.len() - tail.len());
            rest = tail;
            count += 1;
        }
        Ok(count)
    }

    /// Logs and applies these mutations.
    pub(super) fn apply(&mut self, sealed: &Sealed, which: &Which) -> Result<u32, ApplyError> {
        match which {
            Which::Range(first, last) => {
                let (first, last) = (usize::from(*first), usize::from(*last));
                self.apply_entries(sealed.shared_entries(first, last), sealed.keys_from(first))
            }
            Which::List(list) => list.iter().try_fold(0, |n, i| {
                let i = usize::from(*i);
                Ok(n + self.apply_entries(sealed.shared_entries(i, i), sealed.keys_from(i))?)
            }),
        }
    }
}

/// The payload of the first of some entries known to be whole, and the rest.
fn split_entry(entries: &[u8]) -> (&[u8], &[u8]) {
    let length = u32::from_le_bytes(entries[..4].try_into().expect("4 bytes")) as usize;
    let (entry, rest) = entries.split_at(ENTRY_HEADER_BYTES + length);
    (&entry[ENTRY_HEADER_BYTES..], rest)
}

impl Node {
    /// Applies mutations here. True if they are applied.
    pub(super) fn apply_here(&mut self, cx: &mut Cx<'_>, sealed: &Sealed, which: &Which) -> bool {
        match self.replica.apply(sealed, which) {
            Ok(mutations) => {
                self.log_dirty(cx);
                let bytes = which.indices().map(|i| sealed.entry(i).len() as u32).sum();
                cx.event(Event::Applied { mutations, bytes });
                true
            }
            Err(_) => false,
        }
    }

    /// Sends an acknowledgement of something logged just now: at once, or when it is on the disk.
    pub(super) fn acknowledge(&mut self, cx: &mut Cx<'_>, to: NodeIdx, msg: Msg) {
        if self.acks_wait(cx.now_us) {
            let end = self.replica.log.end();
            self.replica.deferred.push_back((end, to, msg));
        } else {
            self.send(cx, to, msg);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn replica_mutate(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        op: OpId,
        group: u16,
        sealed: &Sealed,
        which: &Which,
        expires_us: u64,
        undo: Option<BatchId>,
    ) {
        if self.has_expired(cx, expires_us) {
            return cx.event(Event::Expired { from });
        }
        if self.is_news(sealed, which) {
            let again = || Msg::Mutate {
                op,
                group,
                sealed: Arc::new(sealed.clone()),
                which: which.clone(),
                expires_us,
                undo,
            };
            return self.mutate_news(cx, from, op, group, again);
        }
        if let Some(id) = undo {
            if self.replica.undone.contains(&id) {
                return;
            }
            self.remember_for_undo(id, sealed, which);
        }
        let answer = |failed| Msg::Mutated { op, group, failed };
        let pushed = self.push_view_updates(cx, sealed, which);
        if pushed == Pushed::Refused || !self.apply_here(cx, sealed, which) {
            return self.send(cx, from, answer(Some(FailureReason::Unknown)));
        }
        match pushed {
            Pushed::Awaited(waiter) => {
                let answers = [answer(None), answer(Some(FailureReason::Unknown))];
                self.acknowledge_after_views(cx, waiter, from, answers);
            }
            _ => self.acknowledge(cx, from, answer(None)),
        }
    }

    /// A mutation of something that this node has not heard of.
    fn mutate_news(&mut self, cx: &mut Cx<'_>, from: NodeIdx, op: OpId, group: u16, again: impl FnOnce() -> Msg) {
        if !self.waits_for_schema(cx, from, again) {
            let failed = Some(FailureReason::IncompatibleSchema);
            self.send(cx, from, Msg::Mutated { op, group, failed });
        }
    }

    fn remember_for_undo(&mut self, id: BatchId, sealed: &Sealed, which: &Which) {
        let undo = self.replica.undo.entry(id).or_default();
        for i in which.indices() {
            self.replica
                .store
                .remember(&sealed.entry(i)[ENTRY_HEADER_BYTES..], &self.replica.log, undo);
        }
        while self.replica.undo.len() > UNDO_MAX {
            self.replica.undo.pop_first();
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn replica_store_batch(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        op: OpId,
        id: BatchId,
        sealed: Arc<Sealed>,
        written_at_us: u64,
        expires_us: u64,
    ) {
        if self.has_expired(cx, expires_us) {
            return cx.event(Event::Expired { from });
        }
        if self.replica.undone.contains(&id) {
            return;
        }
        let header = batch_header(id, written_at_us);
        self.replica
            .log
            .append_nested(EntryKind::BatchStored, &header, sealed.bytes().clone());
        self.log_dirty(cx);
        cx.event(Event::BatchKept {
            batch: id,
            mutations: sealed.mutations().len() as u32,
        });
        self.replica.batchlog.insert(
            id,
            KeptBatch {
                sealed,
                written_at_us,
                replaying: false,
                tried_us: None,
            },
        );
        self.acknowledge(cx, from, Msg::BatchKept { op, failed: false });
    }

    pub(super) fn replica_remove_batch(&mut self, cx: &mut Cx<'_>, from: NodeIdx, op: Option<OpId>, id: BatchId) {
        if !self.is_told(Lie::KeepBatchlog) {
            self.forget_batch(cx, id);
        } else if self.replica.batchlog.contains_key(&id) {
            cx.event(Event::Lied { lie: Lie::KeepBatchlog });
        }
        if let Some(op) = op {
            self.acknowledge(cx, from, Msg::BatchForgotten { op });
        }
    }

    /// Drops a kept batch, if it is still there.
    pub(super) fn forget_batch(&mut self, cx: &mut Cx<'_>, id: BatchId) {
        if self.replica.batchlog.remove(&id).is_some() {
            self.replica
                .log
                .append(EntryKind::BatchRemoved, &[&batch_header(id, 0)]);
            self.log_dirty(cx);
            cx.event(Event::BatchForgotten { batch: id });
        }
    }

    pub(super) fn replica_undo_batch(&mut self, cx: &mut Cx<'_>, id: BatchId) {
        self.forget_batch(cx, id);
        self.replica.undone.insert(id);
        while self.replica.undone.len() > UNDO_MAX {
            self.replica.undone.pop_first();
        }
        if let Some(undo) = self.replica.undo.remove(&id) {
            self.replica.store.undo(undo, &self.replica.log);
            cx.event(Event::RolledBack { batch: id });
        }
    }

    pub(super) fn replica_hint(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        number: u64,
        sealed: &Sealed,
        index: u16,
        created_us: u64,
    ) {
        let ops = || sealed.ops(usize::from(index));
        let is_unheard_of = |node: &Node| ops().any(|op| node.is_unheard_of(op.table()));
        if self.is_news(sealed, &Which::Range(index, index)) || is_unheard_of(self) {
            // It will be sent again, and the schema comes of itself.
            return;
        }
        if self.is_hint_too_old(cx, ops().map(|op| op.table()), created_us) {
            return self.acknowledge(cx, from, Msg::HintApplied { number });
        }
        // What was truncated after the hint was made does not come back with it (C `Hint.applyFuture`).
        let is_truncated = |op: OpView<'_>| {
            let table = self.replica.store.table(op.table());
            table
                .and_then(|t| t.truncated_at_us())
                .is_some_and(|at_us| created_us <= at_us)
        };
        if ops().all(is_truncated) {
            return self.acknowledge(cx, from, Msg::HintApplied { number });
        }
        let pushed = self.push_view_updates(cx, sealed, &Which::Range(index, index));
        if pushed == Pushed::Refused {
            // It will be sent again.
            return;
        }
        // A hint for a table that is gone is done: nothing will ever want it.
        self.apply_here(cx, sealed, &Which::Range(index, index));
        let applied = Msg::HintApplied { number };
        match pushed {
            // One whose view did not get it is sent again; whatever is told, there is no hint of the number 0.
            Pushed::Awaited(waiter) => {
                let answers = [applied, Msg::HintApplied { number: 0 }];
                self.acknowledge_after_views(cx, waiter, from, answers);
            }
            _ => self.acknowledge(cx, from, applied),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn replica_read(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        op: OpId,
        part: u16,
        round: u16,
        query: &Query,
        digest: bool,
        expires_us: u64,
    ) {
        if self.has_expired(cx, expires_us) {
            return cx.event(Event::Expired { from });
        }
        let table = query.command.table;
        if self.is_unheard_of(table) {
            return self.read_news(cx, from, op, part, round, query, digest, expires_us);
        }
        self.replica.store.make_order(table);
        let answer = self.answer_query(query, op, part, round, digest);
        let answer = answer.unwrap_or_else(|reason| Msg::ReadRefused {
            op,
            part,
            round,
            reason,
        });
        self.send(cx, from, answer);
    }

    /// As [`Node::replica_read`], of a table that this node has not heard of.
    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn read_news(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        op: OpId,
        part: u16,
        round: u16,
        query: &Query,
        digest: bool,
        expires_us: u64,
    ) {
        let again = || Msg::Read {
            op,
            part,
            round,
            query: Arc::new(query.clone()),
            digest,
            expires_us,
        };
        if !self.waits_for_schema(cx, from, again) {
            let reason = FailureReason::IncompatibleSchema;
            let refused = Msg::ReadRefused {
                op,
                part,
                round,
                reason,
            };
            self.send(cx, from, refused);
        }
    }

    /// The rows, or their digest.
    fn answer_query(&self, query: &Query, op: OpId, part: u16, round: u16, digest: bool) -> Result<Msg, FailureReason> {
        let table = self.replica.store.table(query.command.table);
        let table = table.ok_or(FailureReason::Unknown)?;
        let (log, command, after) = (&self.replica.log, &query.command, query.after.as_ref());
        let refused = |error| match error {
            ReadError::Key(_) => FailureReason::Unknown,
            ReadError::Tombstones(_) => FailureReason::ReadTooManyTombstones,
        };
        let read = || query::read(table, log, command, &query.part, after, query.limits).map_err(refused);
        if digest {
            let digest = query::read_digest(table, log, command, &query.part, after, query.limits).map_err(refused)?;
            debug_assert_eq!(
                Ok(digest.answer),
                read().map(|found| found.answer.digest()),
                "a digest is that of the rows"
            );
            return Ok(Msg::ReadDigest {
                op,
                part,
                round,
                digest,
            });
        }
        let rows = Box::new(read()?);
        Ok(Msg::ReadData { op, part, round, rows })
    }

    pub(super) fn replica_truncate(&mut self, cx: &mut Cx<'_>, from: NodeIdx, op: OpId, table: TableId) {
        self.finish_turns_of(cx, table);
        // What is in a table's views goes with it.
        let views: Vec<TableId> = self.schema.views_of(table).map(|v| v.table).collect();
        for table in std::iter::once(table).chain(views) {
            self.replica.store.truncate(table, cx.now_us);
            self.replica.log.append(
                EntryKind::Truncated,
                &[&table.0.to_le_bytes(), &cx.now_us.to_le_bytes()],
            );
            self.log_dirty(cx);
            cx.event(Event::Truncated { table });
        }
        self.sync_then(cx, from, Msg::Truncated { op });
    }

    /// Batches kept here for others.
    pub fn kept_batches(&self) -> impl Iterator<Item = (&BatchId, &KeptBatch)> {
        self.replica.batchlog.iter()
    }

    /// The tables of this replica.
    pub fn store(&self) -> &Store {
        &self.replica.store
    }

    /// The log of this replica.
    pub fn log(&self) -> &CommitLog {
        &self.replica.log
    }

    /// Where the row with this storage key was changed last, and whether that is on the disk.
    pub fn is_row_durable(&self, table: TableId, key: &Key) -> Option<bool> {
        let row = self.replica.store.table(table)?.get(&self.replica.log, key)?;
        Some(self.replica.log.is_durable(row.changed_at()))
    }
}

/// Bytes of a kept batch's header in the log.
pub(super) const BATCH_HEADER_BYTES: usize = 21;

/// The header of a kept batch in the log: coordinator, generation, number, time of writing.
pub(super) fn batch_header(id: BatchId, written_at_us: u64) -> [u8; BATCH_HEADER_BYTES] {
    let mut h = [0; BATCH_HEADER_BYTES];
    h[0] = id.coordinator.0;
    h[1..5].copy_from_slice(&id.generation.to_le_bytes());
    h[5..13].copy_from_slice(&id.number.to_le_bytes());
    h[13..21].copy_from_slice(&written_at_us.to_le_bytes());
    h
}

/// Reads what [`batch_header`] wrote, and returns what follows it.
pub(super) fn read_batch_header(bytes: &[u8]) -> Option<(BatchId, u64, &[u8])> {
    let (h, rest) = bytes.split_first_chunk::<BATCH_HEADER_BYTES>()?;
    let id = BatchId {
        coordinator: NodeIdx(h[0]),
        generation: u32::from_le_bytes(h[1..5].try_into().ok()?),
        number: u64::from_le_bytes(h[5..13].try_into().ok()?),
    };
    Some((id, u64::from_le_bytes(h[13..21].try_into().ok()?), rest))
}
