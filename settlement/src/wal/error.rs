//! What can go wrong with the log, to which file, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use settlement_events::{Digest, Epoch, OutputSequence};

use super::{Damage, StreamId};

/// Why the log could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The log holds as much as it may. Nothing is lost: stop taking events until the durable watermark has moved.
    #[error(
        "the WAL is full: {bytes} of {max_bytes} bytes wait for the database; no more events are taken until the durable watermark moves"
    )]
    Full {
        /// What is kept, on disk and buffered.
        bytes: u64,
        /// The configured bound.
        max_bytes: u64,
    },
    /// The next group holds as much as it may. Nothing is lost: sync first.
    #[error("the WAL's next group is full ({bytes} bytes): sync it before appending more")]
    GroupFull {
        /// What the group holds.
        bytes: u64,
    },
    /// One event is larger than any record may be. It is refused, not cut.
    #[error("event {seq} has {bytes} bytes; the WAL keeps events of at most {max_bytes}")]
    TooLarge {
        /// The event.
        seq: OutputSequence,
        /// Its size.
        bytes: usize,
        /// The bound.
        max_bytes: usize,
    },
    /// Two different events claim the same place in the stream.
    #[error(
        "event {seq} is in the WAL with digest {kept:.16} and came again with digest {came:.16}: the stream has forked; stop and find out which one the matching engine's log holds"
    )]
    Conflict {
        /// The place.
        seq: OutputSequence,
        /// The digest of what is kept.
        kept: Digest,
        /// The digest of what came.
        came: Digest,
    },
    /// The disk has no room. Everything stays buffered: sync again when there is space.
    #[error(
        "no space for the WAL while {doing} {}: free some. Nothing is lost: what is not on disk was not taken, a \
         settlement that runs takes no more events and tries again until there is room, one that is starting ends",
        path.display()
    )]
    NoSpace {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
    },
    /// A file operation failed. After a sync everything stays buffered.
    #[error(
        "{doing} {} failed: {source}. data_dir must be a directory on a disk that works, which this user may write; \
         what is not on disk was not taken, so nothing is lost",
        path.display()
    )]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory holds the log of something else.
    #[error("{} is the WAL of stream \"{}\" on cluster \"{}\", not of stream \"{}\" on cluster \"{}\": point data_dir at the right directory, or at an empty one; nothing was changed", path.display(), found.stream, found.cluster, expected.stream, expected.cluster)]
    OtherStream {
        /// The header file.
        path: PathBuf,
        /// Whose log it is.
        found: Box<StreamId>,
        /// Whose it should be.
        expected: Box<StreamId>,
    },
    /// The directory holds the log of another life of the stream.
    #[error("{} is the WAL of epoch {found}, not of epoch {expected}: a change of epoch is not supported; settle the old epoch to its end and start with an empty directory", path.display())]
    OtherEpoch {
        /// The header file.
        path: PathBuf,
        /// The epoch of the log.
        found: Epoch,
        /// The epoch expected.
        expected: Epoch,
    },
    /// Written by another version of the format.
    #[error("{} has WAL format {found}; this program reads format {supported}: use the program that wrote it, or drain it with that one first", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u32,
        /// The version this program reads.
        supported: u32,
    },
    /// Records that were durable are not readable.
    #[error("the WAL is damaged: {0}")]
    Damaged(Box<DamageReport>),
    /// The configuration contradicts itself.
    #[error("WAL configuration: {0}")]
    Config(String),
}

/// What is damaged, and what that means for the events above the low-water mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamageReport {
    /// The places, in order.
    pub places: Vec<Damage>,
    /// Events above the low-water mark that no readable record holds, as closed ranges, up to the highest readable.
    pub missing: Vec<(OutputSequence, OutputSequence)>,
    /// The first event that may have existed beyond the highest readable one.
    pub unknown_from: OutputSequence,
}

impl std::fmt::Display for DamageReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, place) in self.places.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{place}")?;
        }
        f.write_str(". Missing above the low-water mark: ")?;
        for (first, last) in &self.missing {
            write!(f, "{first}..={last}, ")?;
        }
        let and = if self.missing.is_empty() { "" } else { "and " };
        write!(
            f,
            "{and}perhaps events from {} on. Start once with SETTLEMENT_WAL__ON_DAMAGE=set_aside to fetch them again from \
             the matching engine, or restore the file",
            self.unknown_from
        )
    }
}

impl WalError {
    /// Whether trying the same again later can succeed without anybody's doing: back-pressure, a full disk, I/O.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Full { .. } | Self::GroupFull { .. } | Self::NoSpace { .. } | Self::Io { .. }
        )
    }

    /// Whether the caller must stop appending for now: nothing failed.
    #[must_use]
    pub const fn is_backpressure(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::GroupFull { .. })
    }

    /// An I/O error, with a full disk told apart.
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if is_no_space(&source) {
            return Self::NoSpace {
                doing,
                path: path.to_owned(),
            };
        }
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// ENOSPC, or the quota's form of it.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
