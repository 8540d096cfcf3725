//! The tables of one replica: maps (`rowmap`) from storage keys to rows that live in the log.
//!
//! A row whose latest write covers everything before it (the ordinary INSERT, and every resend of one) is a position in
//! the log: two words. Anything else (cells of several writes, deletions) is a [`RowState`] on the side. Partition and
//! range tombstones and static cells are kept per partition, and only where there are any.

mod purge;

pub use purge::Purge;

use super::fold::Fold;
use super::key::{Key, KeyError, KeyLayout, KeyRange};
use super::log::{CommitLog, LogPos};
use super::partition::{PartitionHead, RangeTombstone};
use super::row::{Deletion, RowState, digest_record};
use super::rowmap::{RowMap, Sight};
use super::seal::Ops;
use crate::model::{ColumnId, OpKind, OpView, PartitionKey, Row, Schema, Table, TableId, Token};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A row as it is kept.
#[derive(Debug)]
enum Slot {
    /// The record at this place in the log is the whole row.
    Logged(LogPos),
    /// The row is the outcome of several operations.
    Merged(Box<MergedRow>),
}

#[derive(Debug, Clone)]
struct MergedRow {
    token: Token,
    partition: Box<[u8]>,
    state: RowState,
    /// The latest operation that changed it.
    changed_at: LogPos,
}

/// A partition that has something beside its rows.
#[derive(Debug, Clone)]
pub struct PartitionState {
    /// Its key.
    pub key: PartitionKey,
    /// What it has.
    pub head: PartitionHead,
}

/// One table of a replica.
#[derive(Debug)]
pub struct TableStore {
    table: Arc<Table>,
    layout: KeyLayout,
    /// Per column number, the timestamp up to which its cells are invisible; empty when no column was ever dropped.
    hidden: Vec<i64>,
    /// See [`TableStore::is_strict`].
    strict: bool,
    rows: RowMap<Slot>,
    partitions: BTreeMap<Key, PartitionState>,
    /// When it was truncated last, simulated microseconds on this node.
    truncated_at_us: Option<u64>,
    /// See [`TableStore::signature`].
    signature: u64,
}

/// A row of a table, wherever it is kept.
#[derive(Debug, Clone, Copy)]
pub struct StoredRow<'a> {
    slot: StoredSlot<'a>,
    log: &'a CommitLog,
}

#[derive(Debug, Clone, Copy)]
enum StoredSlot<'a> {
    Logged(LogPos),
    Merged(&'a MergedRow),
}

impl<'a> From<&'a Slot> for StoredSlot<'a> {
    fn from(slot: &'a Slot) -> Self {
        match slot {
            Slot::Logged(pos) => StoredSlot::Logged(*pos),
            Slot::Merged(row) => StoredSlot::Merged(row),
        }
    }
}

/// The live cells of a whole row that is one record without TTL, and whether the row exists; `None` when its cells are
/// not in order of column, so that the general way must be taken.
fn record_into(
    row: &mut Row,
    op: &OpView<'_>,
    strict: bool,
    hidden_until: &impl Fn(ColumnId) -> Option<i64>,
) -> Option<bool> {
    row.reset(op.clustering());
    let timestamp_us = op.raw_timestamp();
    let mut next = 0;
    for (column, value) in op.cells() {
        if column.0 < next {
            return None;
        }
        next = column.0 + 1;
        let visible = hidden_until(column).is_none_or(|until| timestamp_us > until);
        if let Some(value) = value.filter(|_| visible) {
            row.push(column, value, timestamp_us, None);
        }
    }
    Some(op.has_marker() || !strict && !row.has_no_cells())
}

impl<'a> StoredRow<'a> {
    /// Token and serialized key of its partition.
    pub fn partition(&self) -> (Token, &'a [u8]) {
        match self.slot {
            StoredSlot::Logged(pos) => {
                let op = OpView::at(self.log.at(pos), 0);
                (op.token(), op.partition_key())
            }
            StoredSlot::Merged(m) => (m.token, &m.partition),
        }
    }

    /// Everything known of it.
    pub fn state(&self) -> RowState {
        match self.slot {
            StoredSlot::Logged(pos) => RowState::from_op(&OpView::at(self.log.at(pos), 0)),
            StoredSlot::Merged(m) => m.state.clone(),
        }
    }

    /// The row that a record in the log is by itself.
    pub(super) fn of_record(log: &'a CommitLog, pos: LogPos) -> StoredRow<'a> {
        StoredRow {
            slot: StoredSlot::Logged(pos),
            log,
        }
    }

    /// Its place in the log, if it is the record there.
    pub fn logged_at(&self) -> Option<LogPos> {
        match self.slot {
            StoredSlot::Logged(pos) => Some(pos),
            StoredSlot::Merged(_) => None,
        }
    }

    /// The record that it is, if it is one.
    pub(super) fn record(&self) -> Option<OpView<'a>> {
        Some(OpView::at(self.log.at(self.logged_at()?), 0))
    }

    /// What a client sees of it, given the deletion that covers it, written over `row`, whose memory is used again; false
    /// when it does not exist. As [`RowState::live`], without building a state for a row that is one record.
    pub fn live_into(
        &self,
        row: &mut Row,
        covering: Option<Deletion>,
        now_s: u32,
        strict: bool,
        hidden_until: impl Fn(ColumnId) -> Option<i64>,
    ) -> bool {
        let record = self.record().filter(|op| op.kind() == OpKind::Row && op.ttl_s() == 0);
        if let Some(op) = record
            && covering.is_none()
            && let Some(exists) = record_into(row, &op, strict, &hidden_until)
        {
            return exists;
        }
        match self.state().live(covering, now_s, strict, hidden_until) {
            Some(live) => {
                *row = live;
                true
            }
            None => false,
        }
    }

    /// Folds in what [`RowState::digest_into`] does for it, if it is one record without tombstones or TTL that nothing
    /// covers; returns whether the row is live. Nothing is folded in for any other.
    pub fn digest_whole(&self, out: &mut Fold, covering: Option<Deletion>, strict: bool) -> Option<bool> {
        let op = self.record()?;
        if op.kind() != OpKind::Row || op.ttl_s() != 0 || op.has_nulls() || covering.is_some() {
            return None;
        }
        digest_record(&op, out)?;
        Some(op.has_marker() || !strict && op.cells().next().is_some())
    }

    /// Where in the log it was changed last.
    pub fn changed_at(&self) -> LogPos {
        match self.slot {
            StoredSlot::Logged(pos) => pos,
            StoredSlot::Merged(m) => m.changed_at,
        }
    }
}

impl TableStore {
    fn new(table: Arc<Table>) -> TableStore {
        let layout = KeyLayout::new(&table);
        let hidden = hidden_columns(&table);
        TableStore {
            table,
            layout,
            hidden,
            strict: false,
            rows: RowMap::default(),
            partitions: BTreeMap::new(),
            truncated_at_us: None,
            signature: 0,
        }
    }

    /// Its definition.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Its key encoding.
    pub fn layout(&self) -> &KeyLayout {
        &self.layout
    }

    /// Up to which timestamp a column's cells are invisible.
    pub fn hidden_until(&self, column: ColumnId) -> Option<i64> {
        self.hidden
            .get(usize::from(column.0))
            .copied()
            .filter(|t| *t != i64::MIN)
    }

    /// Whether there are columns of which some cells are invisible.
    pub fn hides_columns(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// Whether rows exist by their markers only, whatever cells they have: views whose key has a regular column of the base
    /// (C `enforceStrictLiveness`, S `dead_marker_shadows_row`).
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Rows in a range of keys, in key order.
    pub fn range<'a>(
        &'a self,
        log: &'a CommitLog,
        range: &KeyRange,
    ) -> impl DoubleEndedIterator<Item = (&'a Key, StoredRow<'a>)> + use<'a> {
        let rows = self.rows.range(&range.start, range.end.as_ref());
        rows.map(move |(k, slot)| (k, StoredRow { slot: slot.into(), log }))
    }

    /// The row with this key.
    pub fn get<'a>(&'a self, log: &'a CommitLog, key: &Key) -> Option<StoredRow<'a>> {
        self.rows.get(key).map(|slot| StoredRow { slot: slot.into(), log })
    }

    /// All rows, in the order in which they came while none is undone.
    pub fn arrivals<'a>(&'a self, log: &'a CommitLog) -> impl Iterator<Item = (&'a Key, StoredRow<'a>)> {
        let rows = self.rows.arrivals();
        rows.map(move |(k, slot)| (k, StoredRow { slot: slot.into(), log }))
    }

    /// All rows, in key order.
    pub fn rows<'a>(&'a self, log: &'a CommitLog) -> impl Iterator<Item = (&'a Key, StoredRow<'a>)> {
        self.rows
            .iter()
            .map(move |(k, slot)| (k, StoredRow { slot: slot.into(), log }))
    }

    /// What a partition has beside its rows, by its partition-only key.
    pub fn partition_head(&self, key: &Key) -> Option<&PartitionHead> {
        match self.partitions.is_empty() {
            true => None,
            false => self.partitions.get(key).map(|p| &p.head),
        }
    }

    /// The deletion that covers a row of the table, the row's own aside.
    pub(super) fn covering(&self, key: &Key, row: StoredRow<'_>) -> Option<Deletion> {
        covering(&self.layout, &self.partitions, key, row)
    }

    /// Whether any partition has something beside rows, such as a deletion.
    pub fn has_partition_states(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// Every partition that has something beside rows.
    pub fn partition_states(&self) -> impl Iterator<Item = (&Key, &PartitionState)> {
        self.partitions.iter()
    }

    /// Partitions with something beside rows, from a key on.
    pub fn partition_states_from(&self, start: &Key) -> impl Iterator<Item = (&Key, &PartitionState)> {
        self.partitions.range(start.clone()..)
    }

    /// Makes the order in which reads walk the rows; without it they make it for themselves.
    pub(super) fn make_order(&mut self) {
        self.rows.make_order();
    }

    /// Number of rows kept, deleted ones included.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Says which operations were applied, in whatever order: replicas with the same signature hold the same rows, because
    /// merging does not depend on the order. It is made of the checksums of their log entries. Replicas with the same rows may have different ones: a write that came twice
    /// counts twice. (What expires by its TTL does so without a change of the signature.)
    pub fn signature(&self) -> u64 {
        self.signature
    }

    /// When it was truncated last, simulated microseconds.
    pub fn truncated_at_us(&self) -> Option<u64> {
        self.truncated_at_us
    }

    fn apply(
        &mut self,
        op: &OpView<'_>,
        (key, sight): (&Key, Sight),
        pos: LogPos,
        log: &CommitLog,
    ) -> Result<(), KeyError> {
        match op.kind() {
            OpKind::Row => {
                let over = |slot: &mut Slot| write_over(slot, op, pos, log);
                self.rows.upsert_sighted(key, sight, || Slot::Logged(pos), over);
            }
            OpKind::RowDelete | OpKind::Parts => merge_row(&mut self.rows, key, op, pos, log),
            OpKind::RangeDelete => {
                let range = RangeTombstone::of_op(op, &self.layout)?;
                self.head_mut(key, op).add_range(range);
            }
            OpKind::PartitionDelete => self.head_mut(key, op).delete(Deletion::of_op(op)),
            OpKind::Static | OpKind::StaticParts => {
                self.head_mut(key, op).statics.merge(&RowState::from_op(op));
            }
        }
        Ok(())
    }

    fn head_mut(&mut self, key: &Key, op: &OpView<'_>) -> &mut PartitionHead {
        let new = || PartitionState {
            key: PartitionKey {
                token: op.token(),
                bytes: op.partition_key().to_vec(),
            },
            head: PartitionHead::default(),
        };
        &mut self.partitions.entry(key.clone()).or_insert_with(new).head
    }
}

fn covering(
    layout: &KeyLayout,
    partitions: &BTreeMap<Key, PartitionState>,
    key: &Key,
    row: StoredRow<'_>,
) -> Option<Deletion> {
    if partitions.is_empty() {
        return None;
    }
    let (token, bytes) = row.partition();
    let partition = layout.partition(token, bytes).ok()?;
    partitions.get(&partition)?.head.covering(key)
}

fn hidden_columns(table: &Table) -> Vec<i64> {
    let mut hidden = vec![];
    let mut set = |column: ColumnId, until: i64| {
        let at = usize::from(column.0);
        if hidden.len() <= at {
            hidden.resize(at + 1, i64::MIN);
        }
        hidden[at] = until;
    };
    for d in &table.dropped {
        set(d.column.id, i64::MAX);
    }
    for c in &table.columns {
        if let Some(t) = c.hidden_until_us {
            set(c.id, t);
        }
    }
    hidden
}

/// A word whose sum with others tells sets of words apart (the finalizer of splitmix64).
fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// How a new whole-row write relates to the record that is the row now.
enum Relation {
    /// It leaves nothing of the old record.
    Replaces,
    /// It adds nothing to the old record.
    Redundant,
    /// Both matter.
    Mixes,
}

fn relation(old: &OpView<'_>, new: &OpView<'_>) -> Relation {
    if old.same_but_wall(new) {
        // Deletion times and expiries all move together with the wall clock, and the later ones win.
        return if new.wall_s() > old.wall_s() {
            Relation::Replaces
        } else {
            Relation::Redundant
        };
    }
    // Bit 63 stands for several columns: such masks say nothing about being a superset.
    let covers = |a: &OpView<'_>, b: &OpView<'_>| {
        a.raw_timestamp() > b.raw_timestamp()
            && b.column_mask() & !a.column_mask() == 0
            && b.column_mask() >> 63 == 0
            && (a.has_marker() || !b.has_marker())
    };
    if covers(new, old) {
        Relation::Replaces
    } else if covers(old, new) {
        Relation::Redundant
    } else {
        Relation::Mixes
    }
}

/// A whole-row write comes to a row that is there.
fn write_over(slot: &mut Slot, op: &OpView<'_>, pos: LogPos, log: &CommitLog) {
    match slot {
        Slot::Logged(old_pos) => {
            let old = OpView::at(log.at(*old_pos), 0);
            match relation(&old, op) {
                Relation::Replaces => *slot = Slot::Logged(pos),
                Relation::Redundant => {}
                Relation::Mixes => {
                    let mut state = RowState::from_op(&old);
                    let changed = state.merge(&RowState::from_op(op));
                    let changed_at = if changed { pos } else { *old_pos };
                    *slot = general(op, state, changed_at);
                }
            }
        }
        Slot::Merged(row) if row.state.is_covered_by(op) => *slot = Slot::Logged(pos),
        Slot::Merged(row) => {
            if row.state.merge(&RowState::from_op(op)) {
                row.changed_at = pos;
            }
        }
    }
}

/// A row in its general form, of the partition that an operation is about.
fn general(op: &OpView<'_>, state: RowState, changed_at: LogPos) -> Slot {
    Slot::Merged(Box::new(MergedRow {
        token: op.token(),
        partition: op.partition_key().into(),
        state,
        changed_at,
    }))
}

/// Merges an operation into the row with that key, in its general form.
fn merge_row(rows: &mut RowMap<Slot>, key: &Key, op: &OpView<'_>, pos: LogPos, log: &CommitLog) {
    let new = || general(op, RowState::from_op(op), pos);
    rows.upsert(key, new, |slot| {
        if let Slot::Logged(at) = *slot {
            *slot = general(op, RowState::from_op(&OpView::at(log.at(at), 0)), at);
        }
        if let Slot::Merged(row) = slot
            && row.state.merge(&RowState::from_op(op))
        {
            row.changed_at = pos;
        }
    });
}

/// Bytes that come from memory at once.
const CACHE_LINE: usize = 64;

/// An operation that is yet to be applied, and what is known of its row before the row is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coming {
    table: TableId,
    /// Bytes of the operation.
    bytes: u32,
    sight: Sight,
}

/// The operations that are applied next. Its memory is used again.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    ops: Vec<Coming>,
    /// Where the records are that they meet, and how many bytes of each are expected.
    met: Vec<(LogPos, u32)>,
}

impl Ahead {
    /// Forgets what was ahead.
    pub(super) fn clear(&mut self) {
        self.ops.clear();
        self.met.clear();
    }

    /// The operations from this one on.
    pub(super) fn from(&self, first: usize) -> &[Coming] {
        self.ops.get(first..).unwrap_or_default()
    }
}

/// All tables of a replica.
#[derive(Debug, Default)]
pub struct Store {
    tables: Vec<Option<TableStore>>,
}

/// Why a replica cannot apply a mutation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ApplyError {
    #[error("no table has number {0:?} in this replica's schema")]
    NoTable(TableId),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Rows that were there before a batch, so that it can be undone. Only the kind cluster keeps one.
#[derive(Debug, Default)]
pub struct UndoLog {
    before: Vec<(TableId, Key, Option<RowState>, LogPos)>,
}

impl Store {
    /// Takes over a schema: new tables appear, dropped ones disappear with their rows, altered ones keep theirs.
    pub fn set_schema(&mut self, schema: &Schema) {
        self.tables
            .resize_with(schema.tables.len().max(self.tables.len()), || None);
        for (i, slot) in self.tables.iter_mut().enumerate() {
            match (schema.tables.get(i).cloned().flatten(), slot.as_mut()) {
                (None, _) => *slot = None,
                (Some(table), None) => *slot = Some(TableStore::new(table)),
                (Some(table), Some(store)) if !Arc::ptr_eq(&table, &store.table) => {
                    store.hidden = hidden_columns(&table);
                    store.table = table;
                }
                _ => {}
            }
        }
        for view in schema.views.values().filter(|v| v.extra_key.is_some()) {
            if let Ok(table) = self.table_mut(view.table) {
                table.strict = true;
            }
        }
    }

    /// Makes the order of a table's rows: before reads, which only look.
    pub(super) fn make_order(&mut self, id: TableId) {
        if let Some(table) = self.tables.get_mut(usize::from(id.0)).and_then(Option::as_mut) {
            table.make_order();
        }
    }

    /// One table.
    pub fn table(&self, id: TableId) -> Option<&TableStore> {
        self.tables.get(usize::from(id.0))?.as_ref()
    }

    /// All tables.
    pub fn tables(&self) -> impl Iterator<Item = &TableStore> {
        self.tables.iter().flatten()
    }

    fn table_mut(&mut self, id: TableId) -> Result<&mut TableStore, ApplyError> {
        let table = self.tables.get_mut(usize::from(id.0)).and_then(Option::as_mut);
        table.ok_or(ApplyError::NoTable(id))
    }

    /// Looks ahead to the operations of one mutation: whether every table they touch exists here, and, added to `ahead`,
    /// what there is to know of their rows before any of them is looked at. `keys` as for [`Store::apply`].
    pub(super) fn look_ahead(&self, payload: &[u8], keys: &[Key], ahead: &mut Ahead) -> Result<usize, ApplyError> {
        let mut count = 0;
        for op in Ops::new(payload) {
            let id = op.table();
            let table = self.table(id).ok_or(ApplyError::NoTable(id))?;
            if let Some(key) = keys.get(count) {
                ahead.ops.push(Coming {
                    table: id,
                    bytes: op.bytes().len() as u32,
                    sight: table.rows.sight(key),
                });
            }
            count += 1;
        }
        Ok(count)
    }

    /// Brings the rows that were looked ahead to into the processor's caches. What a resent batch costs is waiting for the
    /// memory of the rows it meets; here all of it is asked for before any of it is needed, step by step, so that no step
    /// waits for the one before it of the same row alone.
    pub(super) fn approach(&self, ahead: &mut Ahead, log: &CommitLog) {
        for coming in &ahead.ops {
            let row = self.table(coming.table).and_then(|t| t.rows.at_sight(coming.sight));
            if let Some(Slot::Logged(pos)) = row {
                // The new record is nearly always as long as the old one.
                ahead.met.push((*pos, coming.bytes));
            }
        }
        let mut touched = 0;
        for (pos, bytes) in &ahead.met {
            let record = log.at(*pos);
            for line in record[..record.len().min(*bytes as usize)].chunks(CACHE_LINE) {
                touched ^= line[0];
            }
        }
        std::hint::black_box(touched);
    }

    /// Applies the operations of one mutation, whose payload stands at `pos` in the log; `keys` are their storage keys and
    /// `ahead` what was known of them before, if they are known. Returns how many there were. Stops at the first that
    /// cannot be applied; coordinators check before they send, so that is a schema this replica does not have yet.
    pub(super) fn apply(
        &mut self,
        payload: &[u8],
        keys: &[Key],
        ahead: &[Coming],
        pos: LogPos,
        log: &CommitLog,
    ) -> Result<usize, ApplyError> {
        let checksum = u64::from(log.checksum(pos));
        let (mut offset, mut count) = (0, 0);
        for op in Ops::new(payload) {
            let table = self.table_mut(op.table())?;
            let own;
            let key = match keys.get(count) {
                Some(known) => known,
                None => {
                    own = table.layout.of_op(&op)?;
                    &own
                }
            };
            let sight = ahead
                .get(count)
                .map_or_else(|| table.rows.sight(key), |known| known.sight);
            table.apply(&op, (key, sight), pos.plus(offset), log)?;
            table.signature = table.signature.wrapping_add(mixed(checksum << 32 | count as u64));
            offset += op.bytes().len();
            count += 1;
        }
        Ok(count)
    }

    /// Bytes of records that are rows, by segment of the log.
    pub(super) fn live_bytes(&self, log: &CommitLog) -> Vec<u64> {
        let mut live = vec![0; log.segments()];
        for (_, row) in self.tables().flat_map(|t| t.arrivals(log)) {
            if let (Some(pos), Some(record)) = (row.logged_at(), row.record()) {
                live[pos.segment as usize] += record.bytes().len() as u64;
            }
        }
        live
    }

    /// The log's places are counted anew: `place` says where a record is now. What is said of changes is that they are on
    /// the disk.
    pub(super) fn move_rows(&mut self, mut place: impl FnMut(LogPos) -> LogPos) {
        for table in self.tables.iter_mut().flatten() {
            for slot in table.rows.values_mut() {
                match slot {
                    Slot::Logged(pos) => *pos = place(*pos),
                    Slot::Merged(row) => row.changed_at = LogPos::default(),
                }
            }
        }
    }

    /// Compacts a table; returns how many of its rows and partitions lost anything.
    pub(super) fn purge(&mut self, id: TableId, purge: Purge, log: &CommitLog) -> u64 {
        self.table_mut(id).map_or(0, |table| table.purge(purge, log))
    }

    /// Empties a table.
    pub fn truncate(&mut self, id: TableId, at_us: u64) {
        if let Some(t) = self.tables.get_mut(usize::from(id.0)).and_then(Option::as_mut) {
            t.rows.clear();
            t.partitions.clear();
            t.truncated_at_us = Some(at_us);
            t.signature = at_us;
        }
    }

    /// Notes the rows that these operations are about to change.
    pub fn remember(&self, payload: &[u8], log: &CommitLog, undo: &mut UndoLog) {
        for op in Ops::new(payload).filter(|op| matches!(op.kind(), OpKind::Row | OpKind::Parts)) {
            let Some(t) = self.table(op.table()) else { continue };
            if let Ok(key) = t.layout.of_op(&op) {
                let before = t.get(log, &key).map(|r| r.state());
                undo.before.push((op.table(), key, before, log.end()));
            }
        }
    }

    /// Puts back the rows of an undone batch, except where somebody wrote since.
    pub fn undo(&mut self, undo: UndoLog, log: &CommitLog) {
        for (table, key, before, noted_at) in undo.before.into_iter().rev() {
            let Some(t) = self.tables.get_mut(usize::from(table.0)).and_then(Option::as_mut) else {
                continue;
            };
            let Some(row) = t.get(log, &key) else { continue };
            let (token, partition) = (row.partition().0, Box::<[u8]>::from(row.partition().1));
            let changed_at = row.changed_at();
            if changed_at < noted_at {
                continue;
            }
            t.signature = t.signature.wrapping_add(1);
            match before {
                None => drop(t.rows.remove(&key)),
                Some(state) => {
                    let row = Slot::Merged(Box::new(MergedRow {
                        token,
                        partition,
                        state,
                        changed_at,
                    }));
                    // It is there: it was looked at just above.
                    t.rows.upsert(&key, || Slot::Logged(changed_at), |slot| *slot = row);
                }
            }
        }
    }
}
