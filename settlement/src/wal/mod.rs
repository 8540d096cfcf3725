//! The settlement write-ahead log: an event counts as *received* once it is fsynced here, and not before. It keeps
//! events as they came (digest and canonical bytes), in any order, and forgets them by whole segments once the
//! database holds them durably. What an event means, and whether it is a duplicate, is not decided here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`log`] | [`Wal`]: the one owner of the log, its buffers and its index |
//! | `recover` | opening: which bytes can be trusted, which are torn, which are damaged |
//! | `sync` | the group fsync and what follows a failed one |
//! | `compact` | dropping whole segments below the durable watermark |
//! | `read` | reading entries back, for resends |
//! | `header`, `segment`, `record` | the formats on disk, one per file |
//! | `group` | the records that wait for the next fsync |
//! | `storage` | the few file operations used, with their errors |
//! | `error` | [`WalError`] |
//!
//! # On disk
//!
//! `HEADER` says whose log it is and up to where the database is known to hold everything (the low-water mark). It is
//! replaced by temp file, fsync, rename and directory fsync. `0000000001.wal`, `0000000002.wal`, … are append-only
//! segments. A segment too is born under a temporary name and renamed with its first group already fsynced, so that
//! one that has its name is complete up to there; its header names the segment before it and how much of that one
//! counts. Hence a file that was abandoned after a failed fsync is cut by its successor, whatever it holds.
//!
//! Every record carries how much of its file was fsynced when it was written. A bad record below such a claim was
//! durable once and is *damaged*; a bad record above every claim belongs to the last, unfinished group, whose sectors
//! may have reached the disk in any order, and is *torn*: nobody was ever told that it was received.
//!
//! # Bounds
//!
//! Bytes on disk and in buffers stay under [`WalConfig::max_bytes`], which must cover the longest outage of the
//! database that is to be survived without replay (rate times outage times about 500 bytes a trade). The index takes
//! about 90 bytes of memory per event kept. Two group buffers exist at most: the one being fsynced and the next.

mod compact;
mod error;
mod group;
mod header;
pub mod log;
mod read;
mod record;
mod recover;
mod segment;
mod storage;
mod sync;
#[cfg(test)]
mod tests;

pub use compact::{TruncateDone, Truncated};
pub use error::{DamageReport, WalError};
pub use log::{Appended, Wal, WalStats};
pub use record::EVENT_BYTES_MAX;
pub use recover::{Damage, Recovered};
pub use sync::SyncDone;

use settlement_events::{Digest, Epoch, OutputSequence};

/// A point of the stream: everything up to and including `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The life of the stream.
    pub epoch: Epoch,
    /// The last event included; 0 when there is none.
    pub seq: OutputSequence,
    /// That event's digest; [`Digest::ZERO`] when there is none.
    pub digest: Digest,
}

impl Position {
    /// The point before the first event.
    #[must_use]
    pub const fn start_of(epoch: Epoch) -> Self {
        Self {
            epoch,
            seq: OutputSequence(0),
            digest: Digest::ZERO,
        }
    }
}

/// Whose log it is. A log is refused by anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamId {
    /// The name of the stream, for example its topic. At most 255 bytes.
    pub stream: String,
    /// What identifies the database cluster and keyspace that the low-water mark speaks of. At most 255 bytes.
    pub cluster: String,
}

/// What to do with records that were durable and are not readable any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Refuse to open, naming file, offset and neighbours.
    Refuse,
    /// Open without them, remember in the header that this was accepted, and list what is missing: the caller
    /// fetches it again (rule 10) or says exactly what is lost.
    SetAside,
}

/// How to open a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalConfig {
    /// Where the stream stands when there is no log yet: the durable checkpoint read from the database. Its epoch
    /// must be that of an existing log.
    pub start: Position,
    /// A segment is closed when the next group would take it above this size. Smaller segments are dropped sooner,
    /// larger ones cost fewer fsyncs.
    pub segment_bytes: u32,
    /// The bound of everything kept, on disk and in buffers. At least two segments, or nothing could be dropped
    /// before it is reached.
    pub max_bytes: u64,
    /// The bound of one group, hence of one write. It bounds memory, and how much one failed fsync writes again.
    pub group_bytes_max: u32,
    /// What to do about damage.
    pub on_damage: OnDamage,
}

impl WalConfig {
    /// 16 MiB segments (one in about 30,000 trades), 1 GiB in all (half an hour of 1,000 trades/s without a
    /// database), groups of at most 1 MiB, damage refused.
    #[must_use]
    pub const fn starting_at(start: Position) -> Self {
        Self {
            start,
            segment_bytes: 16 << 20,
            max_bytes: 1 << 30,
            group_bytes_max: 1 << 20,
            on_damage: OnDamage::Refuse,
        }
    }

    /// Whether a log can be kept within these bounds.
    ///
    /// # Errors
    /// [`WalError::Config`].
    pub fn check(&self) -> Result<(), WalError> {
        let refuse = |why: String| Err(WalError::Config(why));
        let group = self.group_bytes_max as usize;
        let group_min = record::record_bytes(EVENT_BYTES_MAX);
        if group < group_min {
            return refuse(format!("group_bytes_max is {group}; one event may need {group_min}"));
        }
        if self.segment_bytes < self.group_bytes_max || self.segment_bytes > 1 << 30 {
            return refuse(format!(
                "segment_bytes is {}: between group_bytes_max and 1 GiB, please",
                self.segment_bytes
            ));
        }
        if self.max_bytes < 2 * u64::from(self.segment_bytes) {
            return refuse(format!(
                "max_bytes is {}; two segments of {} must fit, or none could be dropped before the log is full",
                self.max_bytes, self.segment_bytes
            ));
        }
        Ok(())
    }
}
