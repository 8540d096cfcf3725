//! Reads on one replica, and the merge of what several replicas answered.
//!
//! A replica answers with everything it knows of the rows asked for, deletions included, until it has seen as many live
//! rows as wanted. The coordinator merges answers, and only up to where every replica that stopped early had got to:
//! beyond that one of them may know a deletion that nobody has told.

use super::fold::Fold;
use super::key::{Key, KeyError, KeyLayout, KeyRange};
use super::log::CommitLog;
use super::row::{Deletion, RowState};
use super::store::{PartitionState, RangeTombstone, StoredRow, TableStore};
use super::sweep::STEP_BYTES;
use crate::model::{
    ClusteringSelect, PartitionKey, PartitionRows, Position, ReadCommand, ReadResult, Token, TokenRange,
};
use std::collections::BTreeMap;

/// The part of a read that one set of replicas answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// One partition.
    Partition(PartitionKey),
    /// A range of tokens.
    Range(TokenRange),
}

/// What a replica knows of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaPartition {
    /// Its key.
    pub key: PartitionKey,
    /// Deletion of the partition.
    pub deletion: Option<Deletion>,
    /// Deletions of ranges.
    pub ranges: Vec<RangeTombstone>,
    /// Static cells.
    pub statics: RowState,
    /// Rows with their storage keys, in storage order (also when read in reverse).
    pub rows: Vec<(Key, RowState)>,
}

/// What a replica answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaRows {
    /// Partitions of which anything is known, in token order.
    pub partitions: Vec<ReplicaPartition>,
    /// Set when it stopped because it had enough: the last row it looked at.
    pub stopped_at: Option<Position>,
}

/// Limits of one replica read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Live rows wanted.
    pub rows: u32,
    /// Live rows wanted per partition.
    pub per_partition: u32,
    /// Wall clock of the coordinator, seconds, for TTLs.
    pub now_s: u32,
    /// Whether this is a step of a sweep: rows that are deleted count too, and many bytes end it.
    pub is_sweep: bool,
}

/// What is kept of the rows that a read comes across.
#[derive(Debug)]
enum Keep {
    /// The rows.
    Rows,
    /// Only their digest, and how many rows are in it.
    Digest(Fold, usize),
}

struct Reader<'a> {
    keep: Keep,
    table: &'a TableStore,
    log: &'a CommitLog,
    command: &'a ReadCommand,
    limits: ReadLimits,
    live: u32,
    /// Bytes of cells that a step of a sweep has taken.
    bytes: usize,
    out: ReplicaRows,
}

/// Reads a part of a command on this replica, strictly after `after`.
pub fn read(
    table: &TableStore,
    log: &CommitLog,
    command: &ReadCommand,
    part: &Part,
    after: Option<&Position>,
    limits: ReadLimits,
) -> Result<ReplicaRows, KeyError> {
    let mut reader = Reader::new(table, log, command, limits, Keep::Rows);
    reader.part(part, after)?;
    Ok(reader.out)
}

/// The digest of what [`read`] would answer, without building the rows.
pub fn read_digest(
    table: &TableStore,
    log: &CommitLog,
    command: &ReadCommand,
    part: &Part,
    after: Option<&Position>,
    limits: ReadLimits,
) -> Result<u128, KeyError> {
    if command.reversed {
        // Rows are digested in storage order, in which a reversed read does not come across them.
        return Ok(read(table, log, command, part, after, limits)?.digest());
    }
    let mut reader = Reader::new(table, log, command, limits, Keep::Digest(Fold::default(), 0));
    reader.part(part, after)?;
    match &reader.keep {
        Keep::Digest(digest, _) => Ok(digest.value()),
        Keep::Rows => Ok(reader.out.digest()),
    }
}

impl<'a> Reader<'a> {
    fn new(
        table: &'a TableStore,
        log: &'a CommitLog,
        command: &'a ReadCommand,
        limits: ReadLimits,
        keep: Keep,
    ) -> Reader<'a> {
        Reader {
            keep,
            table,
            log,
            command,
            limits,
            live: 0,
            bytes: 0,
            out: ReplicaRows::default(),
        }
    }

    fn part(&mut self, part: &Part, after: Option<&Position>) -> Result<(), KeyError> {
        match part {
            Part::Partition(key) => self.partition(key, after.filter(|p| p.partition == *key)),
            Part::Range(range) => self.scan(*range, after),
        }
    }
}

impl Reader<'_> {
    fn full(&self) -> bool {
        self.live >= self.limits.rows
    }

    fn scan(&mut self, range: TokenRange, after: Option<&Position>) -> Result<(), KeyError> {
        let start = self.scan_start(range, after)?;
        if self.is_plain() {
            return self.scan_plain(range, start, after);
        }
        let mut cursor = Some(start);
        while let Some(start) = cursor.take()
            && !self.full()
        {
            let Some(key) = self.next_partition(&start) else {
                return Ok(());
            };
            if is_beyond(range, key.token) {
                return Ok(());
            }
            let resumed = after.filter(|p| p.partition == key);
            self.partition(&key, resumed)?;
            cursor = self
                .table
                .layout()
                .slice(key.token, &key.bytes, (&[], true), (&[], true))?
                .end;
        }
        Ok(())
    }

    /// Whether a scan comes across nothing but rows, and wants them all, in order: then it is one walk.
    fn is_plain(&self) -> bool {
        let everything = matches!(self.command.clustering, ClusteringSelect::All) && !self.command.reversed;
        everything && self.limits.per_partition > 0 && !self.table.has_partition_states()
    }

    /// What [`Reader::scan`] does, without looking for each partition anew.
    fn scan_plain(&mut self, range: TokenRange, start: Key, after: Option<&Position>) -> Result<(), KeyError> {
        let mut range_of_keys = KeyRange { start, end: None };
        if let Some(p) = after.filter(|p| !is_beyond(range, p.partition.token)) {
            if self.full() {
                return Ok(());
            }
            self.partition(&p.partition, after)?;
            let (token, bytes) = (p.partition.token, &p.partition.bytes);
            let end = self.table.layout().slice(token, bytes, (&[], true), (&[], true))?.end;
            let Some(end) = end else { return Ok(()) };
            range_of_keys.start = end;
        }
        let (table, log) = (self.table, self.log);
        let mut rows = table.range(log, &range_of_keys).peekable();
        while !self.full()
            && let Some((_, first)) = rows.peek()
        {
            let (token, bytes) = first.partition();
            if is_beyond(range, token) {
                return Ok(());
            }
            let key = PartitionKey {
                token,
                bytes: bytes.to_vec(),
            };
            let mut found = ReplicaPartition::of_rows(key);
            self.begin_digest(&found);
            let mut budget = self.limits.per_partition;
            let is_same = |(_, row): &(_, StoredRow<'_>)| row.partition() == (token, bytes);
            let stopped = self.take(
                std::iter::from_fn(|| rows.next_if(is_same)),
                None,
                &mut found,
                &mut budget,
            );
            if stopped && self.full() {
                let key = found.key.clone();
                self.note_stop(&key, &found, true, None);
            }
            if let Keep::Rows = self.keep {
                self.out.partitions.push(found);
            }
            // Those that the limit per partition has left.
            while rows.next_if(is_same).is_some() {}
        }
        Ok(())
    }

    fn scan_start(&self, range: TokenRange, after: Option<&Position>) -> Result<Key, KeyError> {
        if let Some(p) = after {
            return self.table.layout().partition(p.partition.token, &p.partition.bytes);
        }
        let token = match range.start {
            None => i64::MIN,
            Some((t, true)) => t.0,
            Some((t, false)) => t.0.saturating_add(1),
        };
        Ok(KeyLayout::token_start(Token(token)))
    }

    /// The first partition at or after a storage key, among those with rows and those with other state.
    fn next_partition(&self, start: &Key) -> Option<PartitionKey> {
        let range = KeyRange {
            start: start.clone(),
            end: None,
        };
        let row = self.table.range(self.log, &range).next();
        let state = self.table.partition_states_from(start).next();
        match (row, state) {
            (Some((k, _)), Some((p, s))) if p <= k => Some(PartitionKey {
                token: Token(s.token),
                bytes: s.key.clone(),
            }),
            (Some((_, r)), _) => Some(PartitionKey {
                token: r.partition().0,
                bytes: r.partition().1.to_vec(),
            }),
            (None, Some((_, s))) => Some(PartitionKey {
                token: Token(s.token),
                bytes: s.key.clone(),
            }),
            (None, None) => None,
        }
    }

    fn partition(&mut self, key: &PartitionKey, after: Option<&Position>) -> Result<(), KeyError> {
        if after.is_some_and(|p| p.clustering.is_none()) {
            return Ok(());
        }
        let partition_key = self.table.layout().partition(key.token, &key.bytes)?;
        let state = self.table.partition_state(&partition_key);
        let mut found = ReplicaPartition {
            key: key.clone(),
            deletion: state.and_then(|s| s.deletion),
            ranges: state.map_or_else(Vec::new, |s| s.ranges.clone()),
            statics: state.map_or_else(RowState::default, |s| s.statics.clone()),
            rows: vec![],
        };
        let mut budget = self
            .limits
            .per_partition
            .saturating_sub(after.map_or(0, |p| p.rows_of_partition));
        let ranges = self.key_ranges(key, after)?;
        let before = self.begin_digest(&found);
        let mut stopped = false;
        for range in &ranges {
            stopped = match self.command.reversed {
                false => self.take(self.table.range(self.log, range), state, &mut found, &mut budget),
                true => self.take(self.table.range(self.log, range).rev(), state, &mut found, &mut budget),
            };
            if stopped {
                break;
            }
        }
        self.note_stop(key, &found, stopped && self.full(), after);
        if self.command.reversed {
            found.rows.reverse();
        }
        let no_rows = match &self.keep {
            Keep::Rows => found.rows.is_empty(),
            Keep::Digest(_, rows) => *rows == 0,
        };
        let known = found.deletion.is_some() || !found.ranges.is_empty() || !found.statics.is_blank() || !no_rows;
        // A partition of static cells alone is one row for a client, and one for the limit.
        let is_row = |statics: &RowState| statics.is_live(found.deletion, self.limits.now_s, false);
        if known && no_rows && (self.limits.is_sweep || is_row(&found.statics)) {
            self.live += 1;
            if self.full() && self.out.stopped_at.is_none() {
                self.out.stopped_at = Some(Position {
                    partition: key.clone(),
                    clustering: None,
                    rows_of_partition: 0,
                });
            }
        }
        match &mut self.keep {
            Keep::Rows if known => self.out.partitions.push(found),
            Keep::Digest(digest, _) if !known => *digest = before,
            _ => {}
        }
        Ok(())
    }

    /// Begins a partition's part of the digest; returns the digest before it.
    fn begin_digest(&mut self, found: &ReplicaPartition) -> Fold {
        let Keep::Digest(digest, rows) = &mut self.keep else {
            return Fold::default();
        };
        let before = *digest;
        found.digest_head(digest);
        *rows = 0;
        before
    }

    /// Takes rows until the limits are reached; true when they are.
    fn take<'s>(
        &mut self,
        rows: impl Iterator<Item = (&'s Key, StoredRow<'s>)>,
        state: Option<&PartitionState>,
        found: &mut ReplicaPartition,
        budget: &mut u32,
    ) -> bool {
        if *budget == 0 || self.full() {
            return true;
        }
        for (k, row) in rows {
            let covering = state.and_then(|s| s.covering(k));
            let live = match &mut self.keep {
                Keep::Digest(digest, rows) => {
                    *rows += 1;
                    row.digest_into(digest, covering, self.limits.now_s, self.table.is_strict())
                }
                Keep::Rows => {
                    let known = row.state();
                    let live = known.is_live(covering, self.limits.now_s, self.table.is_strict());
                    found.rows.push((k.clone(), known));
                    live
                }
            };
            if live || self.limits.is_sweep {
                self.live += 1;
                if self.limits.is_sweep {
                    self.weigh(found);
                }
                *budget -= 1;
                if *budget == 0 || self.full() {
                    return true;
                }
            }
        }
        false
    }

    /// Takes the bytes of the last row into account: a step that has enough of them is full.
    fn weigh(&mut self, found: &ReplicaPartition) {
        let row = found.rows.last().map(|(_, row)| row);
        self.bytes += row.map_or(0, |row| row.cells().map(|(_, value)| value.len()).sum());
        if self.bytes >= STEP_BYTES {
            self.live = self.limits.rows;
        }
    }

    fn note_stop(&mut self, key: &PartitionKey, found: &ReplicaPartition, stopped: bool, after: Option<&Position>) {
        if stopped {
            let clustering = found
                .rows
                .last()
                .map(|(_, r)| r.clustering_key())
                .or_else(|| after?.clustering.clone());
            self.out.stopped_at = Some(Position {
                partition: key.clone(),
                clustering,
                rows_of_partition: 0,
            });
        }
    }

    /// The ranges of storage keys the command selects in a partition, in reading order.
    fn key_ranges(&self, key: &PartitionKey, after: Option<&Position>) -> Result<Vec<KeyRange>, KeyError> {
        let layout = self.table.layout();
        if layout.clustering_columns() == 0 && after.is_some() {
            // Its one row is what the page before ended with.
            return Ok(vec![]);
        }
        let slice = |start: (&[u8], bool), end: (&[u8], bool)| layout.slice(key.token, &key.bytes, start, end);
        let mut ranges = match &self.command.clustering {
            ClusteringSelect::All => vec![slice((&[], true), (&[], true))?],
            ClusteringSelect::Slices(slices) => slices
                .iter()
                .map(|s| {
                    slice(
                        (&s.start.prefix.0, s.start.inclusive),
                        (&s.end.prefix.0, s.end.inclusive),
                    )
                })
                .collect::<Result<_, _>>()?,
        };
        ranges.sort_by(|a, b| a.start.cmp(&b.start));
        if let Some(done) = after.and_then(|p| p.clustering.as_ref()) {
            let row = layout.row(key.token, &key.bytes, &done.0)?;
            for r in &mut ranges {
                match self.command.reversed {
                    true if r.end.as_ref().is_none_or(|e| *e > row) => r.end = Some(row.clone()),
                    false if r.start <= row => {
                        r.start = slice((&done.0, false), (&[], true))?.start;
                    }
                    _ => {}
                }
            }
        }
        if self.command.reversed {
            ranges.reverse();
        }
        Ok(ranges)
    }
}

impl ReplicaRows {
    /// A digest: equal for replicas that answered the same.
    pub fn digest(&self) -> u128 {
        let mut digest = Fold::default();
        for p in &self.partitions {
            p.digest_head(&mut digest);
            for (_, row) in &p.rows {
                row.digest_into(&mut digest);
            }
        }
        digest.value()
    }
}

impl ReplicaRows {
    /// Leaves out what lies behind a place, for a read in storage order.
    pub(super) fn cut(&mut self, layout: &KeyLayout, until: &Position) {
        let end = (until.partition.token, &until.partition.bytes);
        self.partitions.retain(|p| (p.key.token, &p.key.bytes) <= end);
        if let Ok(Some(last)) = boundary_key(layout, until)
            && let Some(p) = self.partitions.last_mut().filter(|p| p.key == until.partition)
        {
            p.rows.retain(|(key, _)| *key <= last);
        }
    }
}

/// The union of what replicas answered.
pub fn merge(answers: &[&ReplicaRows]) -> ReplicaRows {
    let mut partitions: BTreeMap<(Token, Vec<u8>), ReplicaPartition> = BTreeMap::new();
    for p in answers.iter().flat_map(|a| &a.partitions) {
        match partitions.entry((p.key.token, p.key.bytes.clone())) {
            std::collections::btree_map::Entry::Vacant(v) => {
                v.insert(p.clone());
            }
            std::collections::btree_map::Entry::Occupied(mut o) => merge_partition(o.get_mut(), p),
        }
    }
    ReplicaRows {
        partitions: partitions.into_values().collect(),
        stopped_at: None,
    }
}

fn merge_partition(into: &mut ReplicaPartition, from: &ReplicaPartition) {
    into.deletion = into.deletion.max(from.deletion);
    into.statics.merge(&from.statics);
    let mut ranges = PartitionState {
        ranges: std::mem::take(&mut into.ranges),
        ..PartitionState::default()
    };
    for r in &from.ranges {
        ranges.add_range(r.clone());
    }
    into.ranges = ranges.ranges;
    for (key, row) in &from.rows {
        match into.rows.binary_search_by(|(k, _)| k.cmp(key)) {
            Ok(i) => {
                into.rows[i].1.merge(row);
            }
            Err(i) => into.rows.insert(i, (key.clone(), row.clone())),
        }
    }
}

/// Whether a token lies behind a range.
fn is_beyond(range: TokenRange, token: Token) -> bool {
    range
        .end
        .is_some_and(|(end, inclusive)| token > end || token == end && !inclusive)
}

impl ReplicaPartition {
    /// A partition of which nothing but rows is known.
    fn of_rows(key: PartitionKey) -> ReplicaPartition {
        ReplicaPartition {
            key,
            deletion: None,
            ranges: vec![],
            statics: RowState::default(),
            rows: vec![],
        }
    }

    /// What a digest holds of a partition before its rows.
    fn digest_head(&self, digest: &mut Fold) {
        digest.add(self.key.token.0 as u64, u64::from(b'K'));
        digest.add_bytes(&self.key.bytes);
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

    /// The strongest deletion over the row with this storage key, the row's own aside.
    pub fn covering(&self, key: &Key) -> Option<Deletion> {
        let ranges = self
            .ranges
            .iter()
            .filter(|r| r.range.contains(key))
            .map(|r| r.deletion)
            .max();
        self.deletion.max(ranges)
    }
}

/// What a client sees of merged rows, up to `until` (where the first replica stopped) and within the limits.
pub struct Visible {
    /// Rows for the client.
    pub result: ReadResult,
    /// Rows counted against the limit.
    pub count: u32,
}

/// Turns merged rows into a client's rows. Rows behind `until` in reading order are left out; `resumed` is where this
/// read began, for the per-partition limit.
pub fn visible(
    table: &TableStore,
    command: &ReadCommand,
    rows: ReplicaRows,
    until: Option<&Position>,
    resumed: Option<&Position>,
    limits: ReadLimits,
) -> Result<Visible, KeyError> {
    let mut v = Visible {
        result: ReadResult::default(),
        count: 0,
    };
    let until_key = until.map(|p| boundary_key(table.layout(), p)).transpose()?.flatten();
    for mut p in rows.partitions {
        if v.count >= limits.rows {
            break;
        }
        let statics = p
            .statics
            .live(p.deletion, limits.now_s, false, |c| table.hidden_until(c))
            .filter(|r| !r.has_no_cells());
        let mut out = PartitionRows {
            key: p.key.clone(),
            statics,
            rows: vec![],
        };
        let resumed_here = resumed.filter(|r| r.partition == p.key);
        let mut budget = limits
            .per_partition
            .saturating_sub(resumed_here.map_or(0, |r| r.rows_of_partition));
        let beyond = |k: &Key| match (&until_key, until) {
            (Some(b), Some(u)) if u.partition == p.key => {
                if command.reversed {
                    k < b
                } else {
                    k > b
                }
            }
            _ => until.is_some_and(|u| (p.key.token, &p.key.bytes) > (u.partition.token, &u.partition.bytes)),
        };
        let mut rows = std::mem::take(&mut p.rows);
        if command.reversed {
            rows.reverse();
        }
        for (k, row) in rows {
            if budget == 0 || v.count >= limits.rows || beyond(&k) {
                break;
            }
            if let Some(r) = row.into_live(p.covering(&k), limits.now_s, table.is_strict(), |c| {
                table.hidden_until(c)
            }) {
                out.rows.push(r);
                budget -= 1;
                v.count += 1;
            }
        }
        if out.rows.is_empty() && out.statics.is_some() && resumed_here.is_none() {
            v.count += 1;
        }
        if !out.rows.is_empty() || out.statics.is_some() && resumed_here.is_none() {
            v.result.partitions.push(out);
        }
    }
    Ok(v)
}

fn boundary_key(layout: &KeyLayout, p: &Position) -> Result<Option<Key>, KeyError> {
    match &p.clustering {
        Some(c) => layout.row(p.partition.token, &p.partition.bytes, &c.0).map(Some),
        None => Ok(None),
    }
}
