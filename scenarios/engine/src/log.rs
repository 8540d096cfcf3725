//! The engine's log: its format, how it is read after a crash, and what it says to a judge. No I/O here; the file is
//! [`crate::log_file`].
//!
//! Layout: a header (magic, format, epoch, identity of the source, crc), then records, each a length (u32 LE), a crc32c
//! over length and payload (u32 LE) and the payload in postcard: the command and the canonical encodings of the events
//! it caused. Nothing is published before its record is fsynced.
//!
//! **Torn or corrupt?** Each record also says up to which byte the log was fsynced when it was written. A bad record
//! at offset X is the torn tail of a crash, and is cut off, unless some later record says that X was fsynced: then the
//! disk lost what was published, which is an error, because an engine that cut that off would fork its own stream.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use settlement_events::{DecodeError, Digest, Envelope, Epoch, Event, TimeMs};

use crate::command::Command;
use crate::source::Origin;

/// The first bytes of every log.
const MAGIC: [u8; 8] = *b"QNCHELOG";
/// The format this module writes and reads.
const FORMAT: u32 = 1;
/// Magic, format, epoch, identity, crc.
pub(crate) const HEADER_BYTES: usize = 8 + 4 + 4 + 32 + 4;
/// Length and crc before each payload.
const FRAME_BYTES: usize = 8;
/// No record is larger: an aggressor that sweeps 50,000 orders makes one of about 10 MB.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// Why a log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It begins with something else.
    #[error("this is not an engine's log (it does not begin with {:?})", String::from_utf8_lossy(&MAGIC))]
    NotALog,
    /// Another format.
    #[error("the log has format {found}; this program reads format {FORMAT}")]
    Format {
        /// The format it says.
        found: u32,
    },
    /// Fsynced bytes are damaged.
    #[error(
        "the log is damaged at byte {offset} (record {index}): {detail}. This is not a torn tail: these bytes were \
         fsynced and published. Restore the file from a copy"
    )]
    Corrupt {
        /// Where.
        offset: u64,
        /// The index of the record that should be there.
        index: u64,
        /// What is wrong.
        detail: String,
    },
    /// The log belongs to another source.
    #[error(
        "the log was written for another source, registry or tape (identity {found:.16}, this one is {expected:.16}): give \
         the engine that one, or an empty data_dir"
    )]
    OtherIdentity {
        /// In the log.
        found: Digest,
        /// Of this engine.
        expected: Digest,
    },
}

/// What happened because of one command: what one log record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place among the records, from 0.
    pub index: u64,
    /// What caused it.
    pub origin: Origin,
    /// When it was accepted.
    pub at: TimeMs,
    /// The command, unless it was a contradiction or what that needs.
    pub command: Option<Command>,
    /// The events, sealed.
    pub entries: Vec<Envelope>,
}

impl Record {
    /// The code with which its event must be refused, if it is a contradiction.
    #[must_use]
    pub const fn contradictory(&self) -> Option<&'static str> {
        contradictory(self.origin)
    }

    /// Appends the record, framed. `synced_bytes` is how much of the log is fsynced by now.
    pub(crate) fn frame(&self, synced_bytes: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_BYTES]);
        let payload = Payload {
            index: self.index,
            origin: self.origin,
            at: self.at,
            synced_bytes,
            command: self.command,
            entries: self.entries.iter().map(|entry| Raw(&entry.bytes)).collect(),
        };
        *out = postcard::to_extend(&payload, std::mem::take(out)).expect("plain data always encodes");
        let length = u32::try_from(out.len() - start - FRAME_BYTES).expect("a record is far below 4 GiB");
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        let crc = frame_crc(length, &out[start + FRAME_BYTES..]);
        out[start + 4..start + FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
}

const fn contradictory(origin: Origin) -> Option<&'static str> {
    match origin {
        Origin::Contradiction(falsehood) => Some(falsehood.code()),
        Origin::Source | Origin::Intake | Origin::Groundwork => None,
    }
}

/// A record as read from a log.
#[derive(Clone, Debug)]
pub struct LoggedRecord<'a> {
    /// Where its frame begins.
    pub offset: u64,
    /// Its place among the records, from 0.
    pub index: u64,
    /// What caused it.
    pub origin: Origin,
    /// When it was accepted.
    pub at: TimeMs,
    /// The command, unless it was a contradiction or what that needs.
    pub command: Option<Command>,
    /// The canonical encodings of the events.
    pub entries: Vec<&'a [u8]>,
}

#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    index: u64,
    origin: Origin,
    at: TimeMs,
    synced_bytes: u64,
    command: Option<Command>,
    #[serde(borrow)]
    entries: Vec<Raw<'a>>,
}

/// Bytes written and read as they are, not one by one.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;
        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Raw<'de>, E> {
                Ok(Raw(bytes))
            }
        }
        deserializer.deserialize_bytes(RawVisitor)
    }
}

/// The crc of a frame covers its length too, so that a damaged length does not go unnoticed.
fn frame_crc(length: u32, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), payload)
}

/// The header of a new log.
pub(crate) fn header(epoch: Epoch, identity: Digest) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&epoch.0.to_le_bytes());
    out.extend_from_slice(&identity.0);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

/// A log as read.
#[derive(Clone, Debug, Default)]
pub struct Scan<'a> {
    /// The identity of the source that wrote it; `None` when not even the header was written (an empty log).
    pub identity: Option<Digest>,
    /// The records, in order.
    pub records: Vec<LoggedRecord<'a>>,
    /// How many bytes are good, the header included.
    pub valid_bytes: u64,
    /// How many bytes after those are a torn tail.
    pub torn_bytes: u64,
}

/// Reads a whole log.
pub fn scan(bytes: &[u8]) -> Result<Scan<'_>, LogError> {
    let Some(identity) = read_header(bytes)? else {
        return Ok(Scan {
            torn_bytes: bytes.len() as u64,
            ..Scan::default()
        });
    };
    let mut scan = Scan {
        identity: Some(identity),
        ..Scan::default()
    };
    let mut offset = HEADER_BYTES;
    while offset < bytes.len() {
        let index = scan.records.len() as u64;
        match read_frame(&bytes[offset..]).filter(|(payload, _)| payload.index == index) {
            Some((payload, length)) => {
                scan.records.push(logged(offset, payload));
                offset += length;
            }
            None => {
                check_torn(bytes, offset, index)?;
                break;
            }
        }
    }
    scan.valid_bytes = offset as u64;
    scan.torn_bytes = (bytes.len() - offset) as u64;
    Ok(scan)
}

fn logged(offset: usize, payload: Payload<'_>) -> LoggedRecord<'_> {
    LoggedRecord {
        offset: offset as u64,
        index: payload.index,
        origin: payload.origin,
        at: payload.at,
        command: payload.command,
        entries: payload.entries.into_iter().map(|raw| raw.0).collect(),
    }
}

/// The identity in the header; `None` if the file ends within its header, which is how a crash at birth looks.
fn read_header(bytes: &[u8]) -> Result<Option<Digest>, LogError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        let begins_like_one = MAGIC.starts_with(bytes) || bytes.starts_with(&MAGIC) || bytes.iter().all(|b| *b == 0);
        return if begins_like_one {
            Ok(None)
        } else {
            Err(LogError::NotALog)
        };
    };
    // A header that was never fsynced may be zeros of the right length, with nothing behind it.
    if bytes.len() == HEADER_BYTES && bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    if !header.starts_with(&MAGIC) {
        return Err(LogError::NotALog);
    }
    let (body, crc) = header.split_at(HEADER_BYTES - 4);
    if crc32c::crc32c(body).to_le_bytes() != crc {
        if bytes.len() == HEADER_BYTES {
            return Ok(None);
        }
        return Err(LogError::Corrupt {
            offset: 0,
            index: 0,
            detail: "the header's crc does not match".to_owned(),
        });
    }
    let format = u32_at(header, 8);
    if format != FORMAT {
        return Err(LogError::Format { found: format });
    }
    let mut identity = Digest::ZERO;
    identity.0.copy_from_slice(&header[16..48]);
    Ok(Some(identity))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// The record at the beginning of these bytes, and its length with its frame.
fn read_frame(bytes: &[u8]) -> Option<(Payload<'_>, usize)> {
    if bytes.len() < FRAME_BYTES {
        return None;
    }
    let (length, crc) = (u32_at(bytes, 0), u32_at(bytes, 4));
    let size = usize::try_from(length).ok().filter(|size| *size <= RECORD_BYTES_MAX)?;
    let payload = bytes.get(FRAME_BYTES..FRAME_BYTES + size)?;
    if frame_crc(length, payload) != crc {
        return None;
    }
    let (payload, left) = postcard::take_from_bytes::<Payload<'_>>(payload).ok()?;
    left.is_empty().then_some((payload, FRAME_BYTES + size))
}

/// A bad record at `offset` must not have been fsynced: no later record may say so.
fn check_torn(bytes: &[u8], offset: usize, index: u64) -> Result<(), LogError> {
    for later in offset + 1..bytes.len() {
        if let Some((payload, _)) = read_frame(&bytes[later..])
            && payload.synced_bytes > offset as u64
        {
            let detail = format!(
                "record {} at byte {later} is good and says it came after an fsync",
                payload.index
            );
            return Err(LogError::Corrupt {
                offset: offset as u64,
                index,
                detail,
            });
        }
    }
    Ok(())
}

/// An event of the log, for a judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The event; of one that nobody can read, what it was made from.
    pub event: Event,
    /// The digest of its bytes as the log holds them.
    pub digest: Digest,
    /// The code with which a reader must refuse it, if it contradicts itself on purpose.
    pub contradictory: Option<&'static str>,
}

/// Why the facts of a log cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An event of the log cannot be read.
    #[error("record {index} of the log holds an event that cannot be read: {source}")]
    Event {
        /// Which record.
        index: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
}

/// Every event of a log, in order; a torn tail (never published) is left out.
pub fn read_facts(bytes: &[u8]) -> Result<Vec<Fact>, FactsError> {
    let records = scan(bytes)?.records;
    let mut facts = Vec::with_capacity(records.iter().map(|record| record.entries.len()).sum());
    for record in records {
        for entry in record.entries {
            let readable = entry.len().saturating_sub(record.origin.bytes_too_many().len());
            let event = Event::decode(&entry[..readable]).map_err(|source| FactsError::Event {
                index: record.index,
                source,
            })?;
            facts.push(Fact {
                event,
                digest: Digest::of(entry),
                contradictory: contradictory(record.origin),
            });
        }
    }
    Ok(facts)
}
