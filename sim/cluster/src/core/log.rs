//! The commit log of one node: entries in segments, what of it the kernel has, what the disk has.
//!
//! The log is also the storage of rows: a row written whole is a position in here. Entries are `length u32, CRC-32C of
//! kind and payload u32, kind u8, payload`, little-endian, in segments of 128 KiB (an entry that is larger has a segment
//! of its own); the file on disk is the segments one after the other. What is in a segment and not yet handed to the
//! host is lost when the process dies; what is handed over and not yet synced is lost when the power goes.

use std::collections::VecDeque;

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
    fn from_code(code: u8) -> Option<EntryKind> {
        use EntryKind::*;
        [Mutation, BatchStored, BatchRemoved, HintStored, HintDone, Schema, Boot, Truncated].into_iter().find(|k| *k as u8 == code)
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
    let checksum = crc32c::crc32c(&bytes[start + 8..]);
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    bytes[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
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
        LogPos { segment: self.segment, offset: self.offset + bytes as u32 }
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
    segments: Vec<Vec<u8>>,
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
        let segment = self.segment_for(ENTRY_HEADER_BYTES + length);
        let bytes = &mut self.segments[segment];
        let start = open_entry(bytes, kind);
        for p in parts {
            bytes.extend_from_slice(p);
        }
        close_entry(bytes, start);
        LogPos { segment: segment as u32, offset: (start + ENTRY_HEADER_BYTES) as u32 }
    }

    /// Appends ready entries as they are. Returns the place of the first one's header.
    pub fn append_entries(&mut self, entries: &[u8]) -> LogPos {
        let segment = self.segment_for(entries.len());
        let bytes = &mut self.segments[segment];
        let offset = bytes.len() as u32;
        bytes.extend_from_slice(entries);
        LogPos { segment: segment as u32, offset }
    }

    fn segment_for(&mut self, length: usize) -> usize {
        let fits = self.segments.last().is_some_and(|s| s.len() + length <= s.capacity());
        if !fits {
            self.segments.push(Vec::with_capacity(SEGMENT_BYTES.max(length)));
        }
        self.segments.len() - 1
    }

    /// Bytes from a place to the end of its segment.
    pub fn at(&self, pos: LogPos) -> &[u8] {
        &self.segments[pos.segment as usize][pos.offset as usize..]
    }

    /// Where the next entry would go: everything before it is in the log.
    pub fn end(&self) -> LogPos {
        match self.segments.last() {
            None => LogPos::default(),
            Some(s) => LogPos { segment: self.segments.len() as u32 - 1, offset: s.len() as u32 },
        }
    }

    /// Bytes the host does not have yet.
    pub fn unflushed_bytes(&self) -> usize {
        let at = self.flushed;
        self.segments[(at.segment as usize).min(self.segments.len())..].iter().map(Vec::len).sum::<usize>()
            - if self.segments.is_empty() { 0 } else { at.offset as usize }
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

    /// What the host does not have yet, to be appended to the file.
    pub fn take_unflushed(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.unflushed_bytes());
        for (i, s) in self.segments.iter().enumerate().skip(self.flushed.segment as usize) {
            let from = if i == self.flushed.segment as usize { self.flushed.offset as usize } else { 0 };
            out.extend_from_slice(&s[from..]);
        }
        self.flushed = self.end();
        out
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
    (crc32c::crc32c(&entry[8..]) == checksum).then_some((entry, kind))
}
