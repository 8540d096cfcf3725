//! Reads on one replica, and the merge of what several replicas answered.
//!
//! A replica answers with everything it knows of the rows asked for, deletions included, until it has seen as many live
//! rows as wanted. The coordinator merges answers, and only up to where every replica that stopped early had got to:
//! beyond that one of them may know a deletion that nobody has told. In Cassandra a replica tells nobody of deletions that
//! are older than gc_grace, whether or not a compaction has dropped them (`Rules::reads_drop_purgeable`).

use super::fold::Fold;
use super::key::{Key, KeyError, KeyLayout, KeyRange};
use super::log::CommitLog;
use super::partition::{PartitionHead, RangeTombstone};
use super::row::{Deletion, RowState};
use super::store::{Purge, StoredRow, TableStore};
use super::sweep::STEP_BYTES;
use crate::model::{
    ClusteringSelect, PartitionKey, PartitionRows, Position, ReadCommand, ReadResult, Scanned, Token, TokenRange,
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

impl Part {
    /// The partition, if it is one.
    pub fn partition(&self) -> Option<&PartitionKey> {
        match self {
            Part::Partition(key) => Some(key),
            Part::Range(_) => None,
        }
    }
}

/// What a replica knows of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaPartition {
    /// Its key.
    pub key: PartitionKey,
    /// What it has beside its rows.
    pub head: PartitionHead,
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
    /// Whether deletions that are older than gc_grace are left out of the answer.
    pub drops_purgeable: bool,
    /// Tombstones that it may come across; with one more it fails.
    pub tombstones_max: u32,
}

/// Why a replica does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The keys are not of the table's types.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It came across more tombstones than a read may.
    #[error("more than {0} tombstones")]
    Tombstones(u32),
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
    /// What is left out of the answer, if anything is.
    purge: Option<Purge>,
    live: u32,
    tombstones: u32,
    /// The partition that was looked at last.
    token: Token,
    /// Bytes of cells that a step of a sweep has taken.
    bytes: usize,
    out: ReplicaRows,
}

/// What a replica read, and what it came across.
#[derive(Debug, Clone)]
pub struct Found<T> {
    /// The answer.
    pub answer: T,
    /// What it came across.
    pub scanned: Scanned,
}

/// Reads a part of a command on this replica, strictly after `after`.
pub fn read(
    table: &TableStore,
    log: &CommitLog,
    command: &ReadCommand,
    part: &Part,
    after: Option<&Position>,
    limits: ReadLimits,
) -> Result<Found<ReplicaRows>, ReadError> {
    let mut reader = Reader::new(table, log, command, limits, Keep::Rows);
    reader.part(part, after)?;
    let answer = std::mem::take(&mut reader.out);
    Ok(reader.found(answer))
}

/// The digest of what [`read`] would answer, without building the rows.
pub fn read_digest(
    table: &TableStore,
    log: &CommitLog,
    command: &ReadCommand,
    part: &Part,
    after: Option<&Position>,
    limits: ReadLimits,
) -> Result<Found<u128>, ReadError> {
    // Rows are digested in storage order, in which a reversed read does not come across them.
    let keep = match command.reversed {
        true => Keep::Rows,
        false => Keep::Digest(Fold::default(), 0),
    };
    let mut reader = Reader::new(table, log, command, limits, keep);
    reader.part(part, after)?;
    let answer = match &reader.keep {
        Keep::Digest(digest, _) => digest.value(),
        Keep::Rows => reader.out.digest(),
    };
    Ok(reader.found(answer))
}

impl<'a> Reader<'a> {
    fn new(
        table: &'a TableStore,
        log: &'a CommitLog,
        command: &'a ReadCommand,
        limits: ReadLimits,
        keep: Keep,
    ) -> Reader<'a> {
        let purge = || Purge::of(table.table(), limits.now_s);
        Reader {
            keep,
            table,
            log,
            command,
            limits,
            purge: limits.drops_purgeable.then(purge),
            live: 0,
            tombstones: 0,
            token: Token(0),
            bytes: 0,
            out: ReplicaRows::default(),
        }
    }

    fn found<T>(&self, answer: T) -> Found<T> {
        Found {
            answer,
            scanned: Scanned {
                live: self.live,
                tombstones: self.tombstones,
                token: self.token,
            },
        }
    }

    fn part(&mut self, part: &Part, after: Option<&Position>) -> Result<(), ReadError> {
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

    fn scan(&mut self, range: TokenRange, after: Option<&Position>) -> Result<(), ReadError> {
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
    fn scan_plain(&mut self, range: TokenRange, start: Key, after: Option<&Position>) -> Result<(), ReadError> {
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
            let before = self.begin_digest(&found);
            self.token = token;
            let mut budget = self.limits.per_partition;
            let is_same = |(_, row): &(_, StoredRow<'_>)| row.partition() == (token, bytes);
            let stopped = self.take(
                std::iter::from_fn(|| rows.next_if(is_same)),
                None,
                &mut found,
                &mut budget,
            )?;
            if stopped && self.full() {
                let key = found.key.clone();
                self.note_stop(&key, &found, true, None);
            }
            self.end_partition(found, before);
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
            (Some((k, _)), Some((p, s))) if p <= k => Some(s.key.clone()),
            (Some((_, r)), _) => Some(PartitionKey {
                token: r.partition().0,
                bytes: r.partition().1.to_vec(),
            }),
            (None, Some((_, s))) => Some(s.key.clone()),
            (None, None) => None,
        }
    }

    fn partition(&mut self, key: &PartitionKey, after: Option<&Position>) -> Result<(), ReadError> {
        if after.is_some_and(|p| p.clustering.is_none()) {
            return Ok(());
        }
        self.token = key.token;
        let partition_key = self.table.layout().partition(key.token, &key.bytes)?;
        let head = self.table.partition_head(&partition_key);
        let mut found = ReplicaPartition::of_rows(key.clone());
        if let Some(head) = head {
            self.take_head(head, &mut found)?;
        }
        let mut budget = self
            .limits
            .per_partition
            .saturating_sub(after.map_or(0, |p| p.rows_of_partition));
        let ranges = self.key_ranges(key, after)?;
        let is_met = |deleted: &RangeTombstone| ranges.iter().any(|r| r.meets(&deleted.range));
        // Each has a beginning and an end.
        let marks = 2 * found.head.ranges.iter().filter(|r| is_met(r)).count();
        self.count_tombstones(marks as u32)?;
        let before = self.begin_digest(&found);
        let mut stopped = false;
        for range in &ranges {
            stopped = match self.command.reversed {
                false => self.take(self.table.range(self.log, range), head, &mut found, &mut budget)?,
                true => self.take(self.table.range(self.log, range).rev(), head, &mut found, &mut budget)?,
            };
            if stopped {
                break;
            }
        }
        self.note_stop(key, &found, stopped && self.full(), after);
        if self.command.reversed {
            found.rows.reverse();
        }
        let is_live = || {
            found
                .head
                .statics
                .is_live(found.head.deletion, self.limits.now_s, false)
        };
        let is_row = shows_statics_alone(self.command) && is_live();
        if self.has_no_rows(&found) && (is_row || self.limits.is_sweep && !found.head.is_blank()) {
            self.live += 1;
            if self.full() && self.out.stopped_at.is_none() {
                self.out.stopped_at = Some(Position {
                    partition: key.clone(),
                    clustering: None,
                    rows_of_partition: 0,
                });
            }
        }
        self.end_partition(found, before);
        Ok(())
    }

    /// Takes what a partition has beside its rows.
    fn take_head(&mut self, head: &PartitionHead, found: &mut ReplicaPartition) -> Result<(), ReadError> {
        found.head.clone_from(head);
        if let Some(purge) = self.purge {
            found.head.purge(purge);
        }
        self.count_tombstones(found.head.statics.tombstones(self.limits.now_s, true))
    }

    fn count_tombstones(&mut self, more: u32) -> Result<(), ReadError> {
        self.tombstones = self.tombstones.saturating_add(more);
        match self.tombstones > self.limits.tombstones_max {
            true => Err(ReadError::Tombstones(self.limits.tombstones_max)),
            false => Ok(()),
        }
    }

    fn has_no_rows(&self, found: &ReplicaPartition) -> bool {
        match &self.keep {
            Keep::Rows => found.rows.is_empty(),
            Keep::Digest(_, rows) => *rows == 0,
        }
    }

    /// Keeps a partition if anything is known of it; `before` is the digest before it.
    fn end_partition(&mut self, found: ReplicaPartition, before: Fold) {
        let is_known = !found.head.is_blank() || !self.has_no_rows(&found);
        match &mut self.keep {
            Keep::Rows if is_known => self.out.partitions.push(found),
            Keep::Digest(digest, _) if !is_known => *digest = before,
            _ => {}
        }
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
        head: Option<&PartitionHead>,
        found: &mut ReplicaPartition,
        budget: &mut u32,
    ) -> Result<bool, ReadError> {
        if *budget == 0 || self.full() {
            return Ok(true);
        }
        for (k, row) in rows {
            let covering = head.and_then(|h| h.covering(k));
            let live = match self.digest_whole(&row, covering) {
                Some(live) => live,
                None => match self.take_state(k, &row, covering, found)? {
                    Some(live) => live,
                    None => continue,
                },
            };
            if live || self.limits.is_sweep {
                self.live += 1;
                if self.limits.is_sweep {
                    self.weigh(found);
                }
                *budget -= 1;
                if *budget == 0 || self.full() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Takes a row that is one record, when only its digest is wanted; whether it is live.
    fn digest_whole(&mut self, row: &StoredRow<'_>, covering: Option<Deletion>) -> Option<bool> {
        let Keep::Digest(digest, rows) = &mut self.keep else {
            return None;
        };
        let live = row.digest_whole(digest, covering, self.table.is_strict())?;
        *rows += 1;
        Some(live)
    }

    /// Takes one row, cell by cell; whether it is live, `None` if there is nothing to tell of it.
    fn take_state(
        &mut self,
        key: &Key,
        row: &StoredRow<'_>,
        covering: Option<Deletion>,
        found: &mut ReplicaPartition,
    ) -> Result<Option<bool>, ReadError> {
        let mut known = row.state();
        if let Some(purge) = self.purge.filter(|purge| row.may_lose(covering, *purge)) {
            known.purge(covering, purge);
            if known.is_blank() {
                return Ok(None);
            }
        }
        let now_s = self.limits.now_s;
        let live = known.is_live(covering, now_s, self.table.is_strict());
        self.count_tombstones(known.tombstones(now_s, live))?;
        match &mut self.keep {
            Keep::Digest(digest, rows) => {
                *rows += 1;
                known.digest_into(digest);
            }
            Keep::Rows => found.rows.push((key.clone(), known)),
        }
        Ok(Some(live))
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
    into.head.merge(&from.head);
    for (key, row) in &from.rows {
        match into.rows.binary_search_by(|(k, _)| k.cmp(key)) {
            Ok(i) => {
                into.rows[i].1.merge(row);
            }
            Err(i) => into.rows.insert(i, (key.clone(), row.clone())),
        }
    }
}

/// Whether a partition of static cells alone is one row for a client, and one for the limit: for a read that restricts no
/// clustering column (C `DataLimits.countPartitionsWithOnlyStaticData`). Such a partition is told of all the same, because
/// conditions look at its static cells.
pub(super) fn shows_statics_alone(command: &ReadCommand) -> bool {
    matches!(command.clustering, ClusteringSelect::All)
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
            head: PartitionHead::default(),
            rows: vec![],
        }
    }

    /// What a digest holds of a partition before its rows.
    fn digest_head(&self, digest: &mut Fold) {
        digest.add(self.key.token.0 as u64, u64::from(b'K'));
        digest.add_bytes(&self.key.bytes);
        self.head.digest_into(digest);
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
            .head
            .statics
            .live(p.head.deletion, limits.now_s, false, |c| table.hidden_until(c))
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
            if let Some(r) = row.into_live(p.head.covering(&k), limits.now_s, table.is_strict(), |c| {
                table.hidden_until(c)
            }) {
                out.rows.push(r);
                budget -= 1;
                v.count += 1;
            }
        }
        if out.rows.is_empty() && out.statics.is_some() && resumed_here.is_none() && shows_statics_alone(command) {
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
