//! The commit log of one node: entries in segments, what of it the kernel has, what the disk has.
//!
//! The log is also the storage of rows: a row written whole is a position in here. Entries are `length u32, CRC-32C of
//! kind and payload u32, kind u8, payload`, little-endian (entries that hold other entries, which have checksums of their
//! own, cover only what comes before those), in segments; the file on disk is the segments one after the other. What is
//! not yet handed to the host is lost when the process dies; what is handed over and not yet synced is lost when the power
//! goes. Memory is shared wherever the bytes are the same: the entries of a batch are one segment in the log of every
//! replica and holder, and the host keeps what it is handed as it is.

use crate::model::OpView;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Bytes before an entry's payload.
pub const ENTRY_HEADER_BYTES: usize = 9;
/// Memory is taken in buffers of this size; an entry that is larger has one of its own.
const BUFFER_BYTES: usize = 128 << 10;
/// Room for segments in a log that shares some: it will share many.
const SEGMENTS_MIN: usize = 4 << 10;
/// Records that move when the log is compacted go into segments of this size.
const MOVED_BYTES: usize = 1 << 20;
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
    /// This node's part of a materialized view is built.
    ViewBuilt = 10,
    /// Who a node is, and whether this one has joined; only of nodes that took the place of lost ones.
    Membership = 11,
    /// A table was compacted.
    Purged = 12,
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
            ViewBuilt,
            Membership,
            Purged,
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

    /// Takes an entry over that the log's file has already. Returns the place of its payload.
    pub(super) fn recovered(&mut self, entry: &[u8]) -> LogPos {
        self.append_copy(entry).plus(ENTRY_HEADER_BYTES)
    }

    /// All entries of the file are read.
    pub(super) fn all_recovered(&mut self) {
        self.close();
        self.flushed = self.closed.len();
        self.unflushed_bytes = 0;
    }

    /// Bytes of entries in memory.
    pub fn bytes_in_memory(&self) -> u64 {
        let closed: usize = self.closed.iter().map(Bytes::len).sum();
        (closed + self.open.len()) as u64
    }

    /// Number of segments, the open one included.
    pub(super) fn segments(&self) -> usize {
        self.closed.len() + 1
    }

    /// Takes the log apart, given how many bytes of each segment are alive: whoever has places in it asks for the new ones
    /// ([`Moving::move_record`]), then it is put together again ([`CommitLog::settle`]). Everything was handed over.
    pub(super) fn shed(&mut self, live: &[u64]) -> Moving {
        self.close();
        let mut kept = Vec::new();
        let mut places = Vec::with_capacity(self.closed.len());
        let mut leaving = Vec::with_capacity(self.closed.len());
        for (segment, live) in std::mem::take(&mut self.closed).into_iter().zip(live) {
            let is_dense = *live > 0 && live * 4 >= segment.len() as u64 * 3;
            places.push(is_dense.then_some(kept.len() as u32));
            if is_dense {
                kept.push(segment);
                leaving.push(Bytes::new());
            } else {
                leaving.push(if *live > 0 { segment } else { Bytes::new() });
            }
        }
        Moving {
            first: kept.len() as u32,
            kept,
            places,
            leaving,
            moved: Vec::new(),
        }
    }

    /// Puts the log together again.
    pub(super) fn settle(&mut self, moving: Moving) {
        let Moving { mut kept, moved, .. } = moving;
        kept.extend(moved.into_iter().map(|mut bytes| {
            bytes.shrink_to_fit();
            Bytes::from(bytes)
        }));
        self.closed = kept;
        self.open = BytesMut::new();
        self.flushed = self.closed.len();
        self.unflushed_bytes = 0;
        self.synced = self.end();
    }
}

/// A log whose records move.
#[derive(Debug)]
pub(super) struct Moving {
    /// Segments that stay, and how many.
    kept: Vec<Bytes>,
    first: u32,
    /// By old segment: its new number, if it stays.
    places: Vec<Option<u32>>,
    /// By old segment: its bytes, if it does not and something of it is alive.
    leaving: Vec<Bytes>,
    /// What moved.
    moved: Vec<Vec<u8>>,
}

impl Moving {
    /// Where the record at a place is now.
    pub(super) fn move_record(&mut self, pos: LogPos) -> LogPos {
        let old = pos.segment as usize;
        if let Some(segment) = self.places[old] {
            return LogPos { segment, ..pos };
        }
        let record = OpView::at(&self.leaving[old][pos.offset as usize..], 0).bytes();
        let has_room = |bytes: &Vec<u8>| bytes.capacity() - bytes.len() >= record.len();
        if !self.moved.last().is_some_and(has_room) {
            self.moved.push(Vec::with_capacity(MOVED_BYTES.max(record.len())));
        }
        let segment = self.first + self.moved.len() as u32 - 1;
        let bytes = self.moved.last_mut().expect("one was made above");
        let offset = bytes.len() as u32;
        bytes.extend_from_slice(record);
        LogPos { segment, offset }
    }
}

/// Reads the entries of a log's file, which comes in pieces cut anywhere. Stops at the first entry that is not whole and
/// correct: what follows a torn or damaged entry cannot be trusted to be complete.
pub(super) struct LogReader<'a> {
    pieces: &'a mut dyn Iterator<Item = Bytes>,
    /// What is read and not looked at.
    rest: Bytes,
    report: LogReport,
}

impl LogReader<'_> {
    pub(super) fn new(pieces: &mut dyn Iterator<Item = Bytes>) -> LogReader<'_> {
        LogReader {
            pieces,
            rest: Bytes::new(),
            report: LogReport::default(),
        }
    }

    /// The next entry, header and all.
    pub(super) fn next(&mut self) -> Option<(EntryKind, Bytes)> {
        while self.rest.len() < wanted(&self.rest) {
            let Some(piece) = self.pieces.next() else { break };
            if self.rest.is_empty() {
                self.rest = piece;
            } else {
                let mut joined = BytesMut::with_capacity(self.rest.len() + piece.len());
                joined.extend_from_slice(&self.rest);
                joined.extend_from_slice(&piece);
                self.rest = joined.freeze();
            }
        }
        let (entry, kind) = whole_entry(&self.rest)?;
        let length = entry.len();
        self.report.entries += 1;
        self.report.valid_bytes += length as u64;
        Some((kind, self.rest.split_to(length)))
    }

    /// What was found, once there is no next entry.
    pub(super) fn finish(mut self) -> LogReport {
        let unread: usize = self.pieces.map(|piece| piece.len()).sum();
        self.report.lost_bytes = (self.rest.len() + unread) as u64;
        self.report
    }
}

/// Bytes that the entry at the front needs, as far as they tell.
fn wanted(bytes: &[u8]) -> usize {
    let length = bytes.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b) as usize);
    ENTRY_HEADER_BYTES + length
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
