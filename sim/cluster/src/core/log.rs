//! The commit log of one node: entries in segments, what of it the kernel has, what the disk has.
//!
//! The log is also the storage of rows: a row written whole is a position in here. Entries are `length u32, CRC-32C of
//! kind and payload u32, kind u8, payload`, little-endian (entries that hold other entries, which have checksums of their
//! own, cover only what comes before those), in segments; the file on disk is the segments one after the other. What is
//! not yet handed to the host is lost when the process dies; what is handed over and not yet synced is lost when the power
//! goes. Memory is shared wherever the bytes are the same: the entries of a batch are one segment in the log of every
//! replica and holder, and the host keeps what it is handed as it is.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Bytes before an entry's payload.
pub const ENTRY_HEADER_BYTES: usize = 9;
/// Memory is taken in buffers of this size; an entry that is larger has one of its own.
const BUFFER_BYTES: usize = 128 << 10;
/// Room for segments in a log that shares some: it will share many.
const SEGMENTS_MIN: usize = 4 << 10;
/// Entries of fewer bytes than these are copied rather than shared: a segment of their own costs more.
const SHARE_MIN_BYTES: usize = 256;

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
    /// What this node knows of one partition's conditional writes.
    Paxos = 9,
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
            Paxos,
        ]
        .into_iter()
        .find(|k| *k as u8 == code)
    }
}

/// What an entry begins with; length and checksum are filled in when it is closed.
const fn entry_header(kind: EntryKind) -> [u8; ENTRY_HEADER_BYTES] {
    [0, 0, 0, 0, 0, 0, 0, 0, kind as u8]
}

/// Begins an entry at the end of `bytes`; returns where it starts.
pub fn open_entry(bytes: &mut Vec<u8>, kind: EntryKind) -> usize {
    let start = bytes.len();
    bytes.extend_from_slice(&entry_header(kind));
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
    /// Segments that nothing is added to any more.
    closed: Vec<Bytes>,
    /// The last segment.
    open: BytesMut,
    /// How many segments were handed to the host.
    flushed: usize,
    /// Bytes after those.
    unflushed_bytes: usize,
    /// Everything before this is on the disk, as far as the host said.
    synced: LogPos,
    /// Syncs under way: token, and what they cover.
    syncing: VecDeque<(u64, LogPos)>,
    next_token: u64,
}

impl CommitLog {
    /// Appends an entry whose payload is a head and entries, which are shared and have checksums of their own.
    pub fn append_nested(&mut self, kind: EntryKind, head: &[u8], entries: Bytes) {
        debug_assert_eq!(
            kind.header_of_nested(),
            Some(head.len()),
            "the checksum covers the head"
        );
        self.append(kind, &[head]);
        let start = self.open.len() - ENTRY_HEADER_BYTES - head.len();
        let length = (head.len() + entries.len()) as u32;
        self.open[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.append_entries(entries);
    }

    /// Appends an entry of these parts. Returns the place of its payload.
    pub fn append(&mut self, kind: EntryKind, parts: &[&[u8]]) -> LogPos {
        let length: usize = parts.iter().map(|p| p.len()).sum();
        self.make_room(ENTRY_HEADER_BYTES + length);
        self.unflushed_bytes += ENTRY_HEADER_BYTES + length;
        let start = self.open.len();
        self.open.extend_from_slice(&entry_header(kind));
        for p in parts {
            self.open.extend_from_slice(p);
        }
        close_entry(&mut self.open, start);
        self.open_at(start + ENTRY_HEADER_BYTES)
    }

    /// Appends ready entries as they are, and shares their memory unless they are small. Returns the place of the first
    /// one's header.
    pub fn append_entries(&mut self, entries: Bytes) -> LogPos {
        if entries.len() < SHARE_MIN_BYTES {
            return self.append_copy(&entries);
        }
        self.close();
        self.unflushed_bytes += entries.len();
        let pos = self.open_at(0);
        if self.closed.capacity() == self.closed.len() {
            self.closed.reserve(self.closed.len().max(SEGMENTS_MIN));
        }
        self.closed.push(entries);
        pos
    }

    fn append_copy(&mut self, entries: &[u8]) -> LogPos {
        self.make_room(entries.len());
        self.unflushed_bytes += entries.len();
        let start = self.open.len();
        self.open.extend_from_slice(entries);
        self.open_at(start)
    }

    fn open_at(&self, offset: usize) -> LogPos {
        LogPos {
            segment: self.closed.len() as u32,
            offset: offset as u32,
        }
    }

    /// Sees to it that the open segment takes `length` more bytes where it is.
    fn make_room(&mut self, length: usize) {
        if self.open.capacity() - self.open.len() < length {
            self.close();
            self.open = BytesMut::with_capacity(BUFFER_BYTES.max(length));
        }
    }

    /// Ends the open segment; the next one goes on in the same buffer.
    fn close(&mut self) {
        if !self.open.is_empty() {
            let segment = self.open.split().freeze();
            self.closed.push(segment);
        }
    }

    /// Bytes from a place to the end of its segment.
    pub fn at(&self, pos: LogPos) -> &[u8] {
        let segment = self.closed.get(pos.segment as usize).map_or(&self.open[..], |s| &s[..]);
        &segment[pos.offset as usize..]
    }

    /// The checksum of the entry whose payload is at a place.
    pub fn checksum(&self, payload: LogPos) -> u32 {
        let header = LogPos {
            segment: payload.segment,
            offset: payload.offset - ENTRY_HEADER_BYTES as u32,
        };
        u32::from_le_bytes(self.at(header)[4..8].try_into().expect("4 bytes"))
    }

    /// Where the next entry would go: everything before it is in the log.
    pub fn end(&self) -> LogPos {
        self.open_at(self.open.len())
    }

    /// Bytes the host does not have yet.
    pub fn unflushed_bytes(&self) -> usize {
        self.unflushed_bytes
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
    pub fn take_unflushed(&mut self) -> Vec<Bytes> {
        self.close();
        self.unflushed_bytes = 0;
        let from = std::mem::replace(&mut self.flushed, self.closed.len());
        self.closed[from..].to_vec()
    }

    /// Begins a sync of everything handed over so far; the host reports its token when it is done.
    pub fn begin_sync(&mut self) -> u64 {
        self.next_token += 1;
        let flushed = LogPos {
            segment: self.flushed as u32,
            offset: 0,
        };
        self.syncing.push_back((self.next_token, flushed));
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
            let pos = log.append_copy(entry).plus(ENTRY_HEADER_BYTES);
            each(kind, &entry[ENTRY_HEADER_BYTES..], pos);
            report.entries += 1;
            report.valid_bytes += entry.len() as u64;
            rest = &rest[entry.len()..];
        }
        report.lost_bytes = rest.len() as u64;
        log.close();
        log.flushed = log.closed.len();
        log.unflushed_bytes = 0;
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
