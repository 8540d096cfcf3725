//! Forgetting what the database holds durably: whole segments, oldest first. The header with the new low-water mark is
//! durable before the first file goes; a crash in between leaves files that the next opening removes.
//!
//! On a full disk this fails like everything else that writes: the log does not free space to be able to free space.

use std::path::PathBuf;

use super::header::Header;
use super::{Position, WalError, storage};

/// Everything a compaction needs; borrows nothing.
#[derive(Debug)]
pub(super) struct TruncateJob {
    pub dir: PathBuf,
    pub header: Header,
    /// Segments to remove; the header no longer counts them.
    pub remove: Vec<u32>,
}

/// What a compaction did; hand it to [`Wal::finish_truncate`](super::Wal::finish_truncate).
#[derive(Debug)]
#[must_use = "only finish_truncate forgets the entries"]
pub struct TruncateDone {
    pub(super) header: Header,
    /// What could not be removed, to be tried again with the next compaction.
    pub(super) left: Vec<u32>,
    pub(super) outcome: Result<(), WalError>,
}

/// What a compaction achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// The new low-water mark, durable.
    pub low_water: Position,
    /// How many segments are gone.
    pub segments: usize,
}

/// Writes the header, then removes the files.
pub(super) async fn run(job: TruncateJob) -> TruncateDone {
    if let Err(error) = storage::write_header(&job.dir, &job.header).await {
        return TruncateDone {
            header: job.header,
            left: Vec::new(),
            outcome: Err(error),
        };
    }
    let mut left = Vec::new();
    for number in job.remove {
        if storage::remove(&storage::segment_path(&job.dir, number)).await.is_err() {
            left.push(number);
        }
    }
    TruncateDone {
        header: job.header,
        left,
        outcome: Ok(()),
    }
}
