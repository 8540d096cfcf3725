//! The log itself: its buffers, its index and its watermarks. One owner, no lock, no task: what touches files is handed
//! out as futures that borrow nothing, and their results are handed back.

use std::collections::BTreeMap;
use std::future::Future;
use std::mem;
use std::path::{Path, PathBuf};

use settlement_events::{Digest, Envelope, OutputSequence};

use super::compact::{self, TruncateDone, TruncateJob, Truncated};
use super::group::Group;
use super::header::{self, Header};
use super::read;
use super::record::{self, EVENT_BYTES_MAX};
use super::recover::{self, Recovered};
use super::segment::SEGMENT_HEADER_BYTES;
use super::sync::{self, SyncDone, SyncJob, Tail};
use super::{Position, StreamId, WalConfig, WalError, storage};

/// Kept free of events: the group that is being synced and the next one may each begin a segment, and its header counts.
const HEADERS_TO_COME_BYTES: u64 = 2 * SEGMENT_HEADER_BYTES as u64;

/// What [`Wal::append`] did with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It waits for the next sync.
    Buffered,
    /// It is there already, with the same digest.
    Kept,
    /// It lies at or below the low-water mark: the database holds it durably.
    BelowLowWater,
}

/// Plain numbers about a log, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Bytes on disk and in buffers: what [`WalConfig::max_bytes`] bounds.
    pub bytes: u64,
    /// Segment files that count.
    pub segments: usize,
    /// Events on disk.
    pub events: usize,
    /// Events that wait for a sync.
    pub buffered_events: usize,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Syncs that failed as a whole; everything stayed buffered.
    pub syncs_failed: u64,
    /// Files given up after a failed write or fsync.
    pub abandoned_files: u64,
    /// Segments dropped by compaction.
    pub dropped_segments: u64,
}

/// A segment that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub number: u32,
    /// How much of the file counts.
    pub bytes: u32,
    pub highest: OutputSequence,
}

/// Where an event stands on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub segment: u32,
    pub offset: u32,
    pub record_bytes: u32,
    pub digest: Digest,
}

/// The settlement write-ahead log.
#[derive(Debug)]
pub struct Wal {
    dir: PathBuf,
    config: WalConfig,
    fingerprint: u32,
    /// As on disk.
    header: Header,
    /// The segments that count, oldest first; the last one may still grow.
    chain: Vec<Segment>,
    /// The last one of the chain, open, unless a sync has it or none is open.
    tail: Option<Tail>,
    next_number: u32,
    /// Files that a compaction could not remove.
    garbage: Vec<u32>,
    index: BTreeMap<OutputSequence, Entry>,
    received: Position,
    /// What waits for the next sync.
    group: Group,
    /// The buffer of the last sync, empty, kept for its memory; or a group whose sync failed, to be written first.
    spare: Group,
    /// Everything appended and not yet fsynced, in whichever buffer.
    unsynced: BTreeMap<OutputSequence, Digest>,
    unsynced_bytes: u64,
    syncing: bool,
    truncating: bool,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    syncs: u64,
    syncs_failed: u64,
    abandoned_files: u64,
    dropped_segments: u64,
}

/// What opening found, before the log exists.
#[derive(Debug)]
pub(super) struct Opened {
    pub header: Header,
    pub chain: Vec<Segment>,
    pub next_number: u32,
    pub index: BTreeMap<OutputSequence, Entry>,
    /// Records that are readable and not proven durable: written again before anything else.
    pub unproven: Group,
    /// Where files are to be cut once `unproven` is durable elsewhere.
    pub cuts: Vec<(u32, u32)>,
}

impl Wal {
    /// Opens the log of a directory, or begins one. Whatever it then calls received is fsynced, the tail of the last
    /// run included: its pages may be in memory only, even after an fsync that reported success, if an earlier one
    /// failed. So that tail is written again, into a new segment.
    ///
    /// # Errors
    /// [`WalError::OtherStream`], [`WalError::OtherEpoch`], [`WalError::Version`], [`WalError::Damaged`] (unless set
    /// aside), [`WalError::Config`]; [`WalError::Io`] and [`WalError::NoSpace`], after which opening again is safe.
    pub async fn open(dir: &Path, id: StreamId, config: WalConfig) -> Result<(Self, Recovered), WalError> {
        check_config(&id, &config)?;
        let fingerprint = header::fingerprint(&id, config.start.epoch);
        let (mut opened, mut recovered) = recover::read(dir, id, &config, fingerprint).await?;
        let cuts = mem::take(&mut opened.cuts);
        let mut wal = Self::new(dir, config, fingerprint, opened);
        if let Some(sync) = wal.begin_sync() {
            let done = sync.await;
            wal.finish_sync(done)?;
        }
        for (number, bytes) in cuts {
            storage::cut(&storage::segment_path(dir, number), bytes).await?;
        }
        recovered.received = wal.received;
        recovered.ahead = wal
            .index
            .range(after(wal.received.seq)..)
            .map(|(&seq, _)| seq)
            .collect();
        Ok((wal, recovered))
    }

    fn new(dir: &Path, config: WalConfig, fingerprint: u32, opened: Opened) -> Self {
        // A database that is known to hold more than the log does (the log comes from a backup) moves the beginning.
        let low_water = opened.header.low_water;
        let received = if config.start.seq > low_water.seq {
            config.start
        } else {
            low_water
        };
        let unsynced = opened
            .unproven
            .waiting
            .iter()
            .map(|waiting| (waiting.seq, waiting.digest))
            .collect();
        let unsynced_bytes = opened.unproven.bytes.len() as u64;
        let mut wal = Self {
            dir: dir.to_owned(),
            config,
            fingerprint,
            header: opened.header,
            chain: opened.chain,
            tail: None,
            next_number: opened.next_number,
            garbage: Vec::new(),
            index: opened.index,
            received,
            group: opened.unproven,
            spare: Group::default(),
            unsynced,
            unsynced_bytes,
            syncing: false,
            truncating: false,
            counts: Counts::default(),
        };
        wal.advance_received();
        wal
    }

    /// Buffers an event for the next sync. Any order; what lies beyond a hole waits there for the hole to close.
    ///
    /// # Errors
    /// [`WalError::Full`] and [`WalError::GroupFull`] (nothing happened: append it again later),
    /// [`WalError::Conflict`] (a fork), [`WalError::TooLarge`].
    pub fn append(&mut self, seq: OutputSequence, envelope: &Envelope) -> Result<Appended, WalError> {
        if seq <= self.header.low_water.seq {
            return Ok(Appended::BelowLowWater);
        }
        if let Some(kept) = self.digest_at(seq) {
            let came = envelope.digest;
            return if kept == came {
                Ok(Appended::Kept)
            } else {
                Err(WalError::Conflict { seq, kept, came })
            };
        }
        if envelope.bytes.len() > EVENT_BYTES_MAX {
            return Err(WalError::TooLarge {
                seq,
                bytes: envelope.bytes.len(),
                max_bytes: EVENT_BYTES_MAX,
            });
        }
        let record_bytes = record::record_bytes(envelope.bytes.len()) as u64;
        self.check_room(record_bytes)?;
        self.group.push(seq, envelope);
        self.unsynced.insert(seq, envelope.digest);
        self.unsynced_bytes += record_bytes;
        Ok(Appended::Buffered)
    }

    fn check_room(&self, record_bytes: u64) -> Result<(), WalError> {
        let bytes = self.bytes();
        if bytes + record_bytes + HEADERS_TO_COME_BYTES > self.config.max_bytes {
            return Err(WalError::Full {
                bytes,
                max_bytes: self.config.max_bytes,
            });
        }
        let group_bytes = self.group.bytes.len() as u64;
        if group_bytes + record_bytes > u64::from(self.config.group_bytes_max) {
            return Err(WalError::GroupFull { bytes: group_bytes });
        }
        Ok(())
    }

    /// Takes the buffered events and returns the future that makes them durable with one write and one fsync; `None`
    /// when nothing is buffered or a sync is under way. Appending goes on meanwhile. A future that is dropped
    /// unfinished takes its events with it: do that only when the process ends.
    pub fn begin_sync(&mut self) -> Option<impl Future<Output = SyncDone> + Send + 'static> {
        if self.syncing {
            return None;
        }
        let group = self.next_group()?;
        self.syncing = true;
        let last = self.chain.last();
        let grown = self
            .tail
            .as_ref()
            .map_or(0, |tail| u64::from(tail.bytes) + group.bytes.len() as u64);
        let tail = self
            .tail
            .take()
            .filter(|_| grown <= u64::from(self.config.segment_bytes));
        Some(sync::run(SyncJob {
            dir: self.dir.clone(),
            group,
            tail,
            previous: last.map_or((0, 0), |last| (last.number, last.bytes)),
            next_number: self.next_number,
            fingerprint: self.fingerprint,
            low_water: self.header.low_water,
        }))
    }

    /// A group whose sync failed goes first, so that the two buffers stay two.
    fn next_group(&mut self) -> Option<Group> {
        if !self.spare.is_empty() {
            return Some(mem::take(&mut self.spare));
        }
        if self.group.is_empty() {
            return None;
        }
        Some(mem::replace(&mut self.group, mem::take(&mut self.spare)))
    }

    /// Takes note of what a sync did. Returns the events that became durable, in the order in which they were appended.
    ///
    /// # Errors
    /// [`WalError::NoSpace`] or [`WalError::Io`]: everything stays buffered and the next sync tries again.
    pub fn finish_sync(&mut self, done: SyncDone) -> Result<Vec<OutputSequence>, WalError> {
        self.syncing = false;
        self.tail = done.tail;
        self.next_number = done.next_number;
        self.counts.abandoned_files += u64::from(done.abandoned);
        let (segment, base) = match done.outcome {
            Ok(placed) => placed,
            Err(error) => {
                self.spare = done.group;
                self.counts.syncs_failed += 1;
                return Err(error);
            }
        };
        self.counts.syncs += 1;
        let group = done.group;
        self.grow_chain(segment, base + group.bytes.len() as u32);
        let mut durable = Vec::with_capacity(group.waiting.len());
        for waiting in &group.waiting {
            let offset = base + waiting.offset;
            let entry = Entry {
                segment,
                offset,
                record_bytes: waiting.record_bytes,
                digest: waiting.digest,
            };
            self.index.insert(waiting.seq, entry);
            self.unsynced.remove(&waiting.seq);
            durable.push(waiting.seq);
        }
        if let (Some(segment), Some(&highest)) = (self.chain.last_mut(), durable.iter().max()) {
            segment.highest = segment.highest.max(highest);
        }
        self.unsynced_bytes -= group.bytes.len() as u64;
        self.spare = group;
        self.spare.clear();
        self.advance_received();
        Ok(durable)
    }

    fn grow_chain(&mut self, number: u32, bytes: u32) {
        match self.chain.last_mut() {
            Some(last) if last.number == number => last.bytes = bytes,
            _ => self.chain.push(Segment {
                number,
                bytes,
                highest: OutputSequence(0),
            }),
        }
    }

    fn advance_received(&mut self) {
        for (&seq, entry) in self.index.range(after(self.received.seq)..) {
            if seq != after(self.received.seq) {
                break;
            }
            self.received = Position {
                seq,
                digest: entry.digest,
                ..self.received
            };
        }
    }

    /// Tells the log that the database holds everything up to `durable` durably. Returns the future that drops whole
    /// segments below it; `None` when there is none to drop yet, or a compaction is under way. May run beside a sync.
    pub fn begin_truncate(&mut self, durable: Position) -> Option<impl Future<Output = TruncateDone> + Send + 'static> {
        if self.truncating || durable.seq <= self.header.low_water.seq {
            return None;
        }
        // The last one is being appended to, and is what a new segment's header will point at.
        let droppable = self.chain.split_last().map_or(&[][..], |(_, closed)| closed);
        let count = droppable
            .iter()
            .take_while(|segment| segment.highest <= durable.seq)
            .count();
        if count == 0 {
            return None;
        }
        self.truncating = true;
        let mut remove = mem::take(&mut self.garbage);
        remove.extend(self.chain[..count].iter().map(|segment| segment.number));
        let mut header = self.header.clone();
        header.low_water = durable;
        header.first_segment = self.chain[count].number;
        header
            .accepted_damage
            .retain(|(segment, _)| *segment >= header.first_segment);
        Some(compact::run(TruncateJob {
            dir: self.dir.clone(),
            header,
            remove,
        }))
    }

    /// Takes note of what a compaction did.
    ///
    /// # Errors
    /// [`WalError::NoSpace`] or [`WalError::Io`]: nothing was dropped; begin again later.
    pub fn finish_truncate(&mut self, done: TruncateDone) -> Result<Truncated, WalError> {
        self.truncating = false;
        done.outcome?;
        self.header = done.header;
        self.garbage = done.left;
        let first = self.header.first_segment;
        let before = self.chain.len();
        let highest = self
            .chain
            .iter()
            .filter(|segment| segment.number < first)
            .map(|segment| segment.highest)
            .max();
        self.chain.retain(|segment| segment.number >= first);
        if let Some(highest) = highest {
            self.index
                .extract_if(..=highest, |_, entry| entry.segment < first)
                .for_each(drop);
        }
        let segments = before - self.chain.len();
        self.counts.dropped_segments += segments as u64;
        if self.received.seq < self.header.low_water.seq {
            self.received = self.header.low_water;
            self.advance_received();
        }
        Ok(Truncated {
            low_water: self.header.low_water,
            segments,
        })
    }

    /// Up to `events_max` durable events from `seq` on, ascending, at most about `bytes_max` bytes but at least one
    /// event. Events that are not there are left out. Borrows nothing: appending and syncing go on meanwhile.
    ///
    /// # Errors (of the future)
    /// [`WalError::Io`]; [`WalError::Damaged`] if a record changed since it was written.
    pub fn read_from(
        &self,
        seq: OutputSequence,
        events_max: usize,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Vec<(OutputSequence, Envelope)>, WalError>> + Send + 'static {
        let entries = self.index.range(seq..).map(|(&seq, &entry)| (seq, entry));
        let plan = read::plan(entries, events_max, bytes_max);
        read::run(self.dir.clone(), plan)
    }

    /// Events up to here are fsynced without a hole.
    #[must_use]
    pub fn received(&self) -> Position {
        self.received
    }

    /// Events up to here are durable in the database, as the header says; never beyond what
    /// [`Wal::begin_truncate`] was told, and behind it until whole segments fall below.
    #[must_use]
    pub fn low_water(&self) -> Position {
        self.header.low_water
    }

    /// The digest of an event that is kept, buffered ones included: what a duplicate is compared with.
    #[must_use]
    pub fn digest_at(&self, seq: OutputSequence) -> Option<Digest> {
        self.index
            .get(&seq)
            .map(|entry| entry.digest)
            .or_else(|| self.unsynced.get(&seq).copied())
    }

    /// The holes in `from..=through`, as closed ranges: what is neither kept nor buffered.
    #[must_use]
    pub fn missing(&self, from: OutputSequence, through: OutputSequence) -> Vec<(OutputSequence, OutputSequence)> {
        let range = from..=through;
        if from > through {
            return Vec::new();
        }
        let mut known: Vec<_> = self.index.range(range.clone()).map(|(&seq, _)| seq).collect();
        known.extend(self.unsynced.range(range).map(|(&seq, _)| seq));
        known.sort_unstable();
        recover::holes(known, from, through)
    }

    /// Bytes on disk and in buffers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.chain.iter().map(|segment| u64::from(segment.bytes)).sum::<u64>() + self.unsynced_bytes
    }

    /// Segment files that count.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.chain.len()
    }

    /// Plain numbers, for metrics.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        WalStats {
            bytes: self.bytes(),
            segments: self.chain.len(),
            events: self.index.len(),
            buffered_events: self.unsynced.len(),
            syncs: self.counts.syncs,
            syncs_failed: self.counts.syncs_failed,
            abandoned_files: self.counts.abandoned_files,
            dropped_segments: self.counts.dropped_segments,
        }
    }
}

/// The sequence after this one. Row timestamps end long before `u64` does.
pub(super) fn after(seq: OutputSequence) -> OutputSequence {
    OutputSequence(seq.0.saturating_add(1))
}

fn check_config(id: &StreamId, config: &WalConfig) -> Result<(), WalError> {
    let refuse = |why: String| Err(WalError::Config(why));
    for (what, name) in [("stream", &id.stream), ("cluster", &id.cluster)] {
        if name.is_empty() || name.len() > usize::from(u8::MAX) {
            return refuse(format!(
                "the {what} name has {} bytes; 1 to 255 are allowed",
                name.len()
            ));
        }
    }
    config.check()
}
