//! The commit log of one node: entries in segments, what of it the kernel has, what the disk has.
//!
//! The log is also the storage of rows: a row written whole is a position in here. Entries are `length u32, CRC-32C of
//! kind and payload u32, kind u8, payload`, little-endian (entries that hold other entries, which have checksums of their
//! own, cover only what comes before those), in segments of 128 KiB (an entry that is larger has a segment
//! of its own); the file on disk is the segments one after the other. What is in a segment and not yet handed to the
//! host is lost when the process dies; what is handed over and not yet synced is lost when the power goes.

use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes before an entry's payload.
pub const ENTRY_HEADER_BYTES: usize = 9;
const SEGMENT_BYTES: usize = 128 << 10;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// Operations of one partition.
    Mutation = 1,
    /// A batch given to this node to keep.
    BatchStored = 2,
    /// A kept batch is done.
    BatchRemoved = 3,
    /// A hint for a peer.
    HintStored = 4,
    /// A hint was delivered.
    HintDone = 5,
    /// The schema as of now.
    Schema = 6,
    /// A start of this node, with its generation.
    Boot = 7,
    /// A table was truncated.
    Truncated = 8,
}

impl EntryKind {
    /// For entries that hold entries: bytes of payload before those.
    fn header_of_nested(self) -> Option<usize> {
        match self {
            EntryKind::BatchStored => Some(super::replica::BATCH_HEADER_BYTES),
            EntryKind::HintStored => Some(super::hints::HINT_HEADER_BYTES),
            _ => None,
        }
    }

    fn from_code(code: u8) -> Option<EntryKind> {
        use EntryKind::*;
        [
            Mutation,
            BatchStored,
            BatchRemoved,
            HintStored,
            HintDone,
            Schema,
            Boot,
            Truncated,
        ]
        .into_iter()
        .find(|k| *k as u8 == code)
    }
}

/// Begins an entry at the end of `bytes`; returns where it starts.
pub fn open_entry(bytes: &mut Vec<u8>, kind: EntryKind) -> usize {
    let start = bytes.len();
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, kind as u8]);
    start
}

/// Ends the entry that starts at `start`: fills in length and checksum.
pub fn close_entry(bytes: &mut [u8], start: usize) {
    let length = (bytes.len() - start - ENTRY_HEADER_BYTES) as u32;
    let kind = EntryKind::from_code(bytes[start + 8]);
    let checksum = crc32c::crc32c(covered(&bytes[start..], kind));
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    bytes[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// The part of an entry that its checksum covers.
fn covered(entry: &[u8], kind: Option<EntryKind>) -> &[u8] {
    let end = kind
        .and_then(EntryKind::header_of_nested)
        .map_or(entry.len(), |n| entry.len().min(ENTRY_HEADER_BYTES + n));
    &entry[8..end]
}

/// Bytes of the log for the host to append to its file, shared with the node's memory. Drop them when they are written.
#[derive(Debug, Clone)]
pub struct LogBytes {
    segment: Arc<Vec<u8>>,
    from: usize,
    to: usize,
}

impl std::ops::Deref for LogBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.segment[self.from..self.to]
    }
}

/// A place in the log. Later places are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogPos {
    /// Segment.
    pub segment: u32,
    /// Offset in it.
    pub offset: u32,
}

impl LogPos {
    /// The place `bytes` further in the same segment.
    pub fn plus(self, bytes: usize) -> LogPos {
        LogPos {
            segment: self.segment,
            offset: self.offset + bytes as u32,
        }
    }
}

/// What reading a log file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogReport {
    /// Entries read.
    pub entries: u64,
    /// Bytes of whole, correct entries from the start.
    pub valid_bytes: u64,
    /// Bytes after them: a torn tail, or everything behind a damaged entry.
    pub lost_bytes: u64,
}

/// The log.
#[derive(Debug, Default)]
pub struct CommitLog {
    segments: Vec<Arc<Vec<u8>>>,
    /// Everything before this was handed to the host.
    flushed: LogPos,
    /// Everything before this is on the disk, as far as the host said.
    synced: LogPos,
    /// Syncs under way: token, and what they cover.
    syncing: VecDeque<(u64, LogPos)>,
    next_token: u64,
}

impl CommitLog {
    /// Appends an entry of these parts. Returns the place of its payload.
    pub fn append(&mut self, kind: EntryKind, parts: &[&[u8]]) -> LogPos {
        let length: usize = parts.iter().map(|p| p.len()).sum();
        let (segment, bytes) = self.room_for(ENTRY_HEADER_BYTES + length);
        let start = open_entry(bytes, kind);
        for p in parts {
            bytes.extend_from_slice(p);
        }
        close_entry(bytes, start);
        LogPos {
            segment,
            offset: (start + ENTRY_HEADER_BYTES) as u32,
        }
    }

    /// Appends ready entries as they are. Returns the place of the first one's header.
    pub fn append_entries(&mut self, entries: &[u8]) -> LogPos {
        let (segment, bytes) = self.room_for(entries.len());
        let offset = bytes.len() as u32;
        bytes.extend_from_slice(entries);
        LogPos { segment, offset }
    }

    /// The last segment if `length` more bytes fit into it and the host holds nothing of it, else a new one.
    fn room_for(&mut self, length: usize) -> (u32, &mut Vec<u8>) {
        let fits = self
            .segments
            .last_mut()
            .is_some_and(|s| Arc::get_mut(s).is_some_and(|s| s.len() + length <= s.capacity()));
        if !fits {
            self.segments
                .push(Arc::new(Vec::with_capacity(SEGMENT_BYTES.max(length))));
        }
        let last = self.segments.len() - 1;
        (
            last as u32,
            Arc::get_mut(&mut self.segments[last]).expect("nobody else holds it"),
        )
    }

    /// Bytes from a place to the end of its segment.
    pub fn at(&self, pos: LogPos) -> &[u8] {
        &self.segments[pos.segment as usize][pos.offset as usize..]
    }

    /// Where the next entry would go: everything before it is in the log.
    pub fn end(&self) -> LogPos {
        match self.segments.last() {
            None => LogPos::default(),
            Some(s) => LogPos {
                segment: self.segments.len() as u32 - 1,
                offset: s.len() as u32,
            },
        }
    }

    /// Bytes the host does not have yet.
    pub fn unflushed_bytes(&self) -> usize {
        let at = self.flushed;
        let unseen = self
            .segments
            .iter()
            .skip(at.segment as usize)
            .map(|s| s.len())
            .sum::<usize>();
        unseen.saturating_sub(at.offset as usize)
    }

    /// Whether everything is on the disk.
    pub fn is_synced(&self) -> bool {
        self.synced == self.end()
    }

    /// Whether everything before `pos` is on the disk.
    pub fn is_durable(&self, pos: LogPos) -> bool {
        pos <= self.synced
    }

    /// Whether a sync is under way.
    pub fn is_syncing(&self) -> bool {
        !self.syncing.is_empty()
    }

    /// What the host does not have yet, to be appended to the file, in order.
    pub fn take_unflushed(&mut self) -> impl Iterator<Item = LogBytes> + use<'_> {
        let end = self.end();
        let at = std::mem::replace(&mut self.flushed, end);
        self.segments
            .iter()
            .enumerate()
            .skip(at.segment as usize)
            .filter_map(move |(i, segment)| {
                let from = if i == at.segment as usize {
                    at.offset as usize
                } else {
                    0
                };
                (from < segment.len()).then(|| LogBytes {
                    segment: segment.clone(),
                    from,
                    to: segment.len(),
                })
            })
    }

    /// Begins a sync of everything handed over so far; the host reports its token when it is done.
    pub fn begin_sync(&mut self) -> u64 {
        self.next_token += 1;
        self.syncing.push_back((self.next_token, self.flushed));
        self.next_token
    }

    /// A sync is done. Returns up to where the log is durable now. Unknown tokens (of an earlier life) change nothing.
    pub fn end_sync(&mut self, token: u64) -> LogPos {
        while let Some((t, pos)) = self.syncing.front().copied()
            && t <= token
        {
            self.syncing.pop_front();
            self.synced = self.synced.max(pos);
        }
        self.synced
    }

    /// Reads a log file into a new log, giving each entry's kind, payload and place to `each`. Stops at the first entry
    /// that is not whole and correct: what follows a torn or damaged entry cannot be trusted to be complete.
    pub fn recover(file: &[u8], mut each: impl FnMut(EntryKind, &[u8], LogPos)) -> (CommitLog, LogReport) {
        let mut log = CommitLog::default();
        let mut report = LogReport::default();
        let mut rest = file;
        while let Some((entry, kind)) = whole_entry(rest) {
            let pos = log.append_entries(entry).plus(ENTRY_HEADER_BYTES);
            each(kind, &entry[ENTRY_HEADER_BYTES..], pos);
            report.entries += 1;
            report.valid_bytes += entry.len() as u64;
            rest = &rest[entry.len()..];
        }
        report.lost_bytes = rest.len() as u64;
        log.flushed = log.end();
        (log, report)
    }
}

fn whole_entry(bytes: &[u8]) -> Option<(&[u8], EntryKind)> {
    let header = bytes.first_chunk::<ENTRY_HEADER_BYTES>()?;
    let length = u32::from_le_bytes(header[..4].try_into().expect("4 bytes")) as usize;
    let checksum = u32::from_le_bytes(header[4..8].try_into().expect("4 bytes"));
    let kind = EntryKind::from_code(header[8])?;
    let entry = bytes.get(..ENTRY_HEADER_BYTES + length)?;
    let mut nested = kind
        .header_of_nested()
        .map_or(&[][..], |n| entry.get(ENTRY_HEADER_BYTES + n..).unwrap_or(&[]));
    while !nested.is_empty() {
        let (inner, _) = whole_entry(nested)?;
        nested = &nested[inner.len()..];
    }
    (crc32c::crc32c(covered(entry, Some(kind))) == checksum).then_some((entry, kind))
}
