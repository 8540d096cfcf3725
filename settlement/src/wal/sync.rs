//! The group fsync: one write and one fsync make everything that was appended meanwhile durable. It runs as a future
//! of its own that borrows nothing, so that the owner goes on appending to the next group.
//!
//! A failed fsync is never tried again on the same file: the kernel may have marked the pages clean and forgotten
//! them, so that a second fsync would succeed without writing anything. The file is abandoned where it was last known
//! durable, and the group is written to a new segment whose header says so.

use std::path::PathBuf;

use tokio::fs::File;

use super::group::Group;
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::{Position, WalError, record, storage};

/// How many new segments one sync tries. A disk that fails three files in a row is not helped by a fourth; the
/// caller's backoff decides when to try again.
const SEGMENTS_TRIED_MAX: u32 = 3;

/// The segment that is being appended to; everything in it is durable.
#[derive(Debug)]
pub(super) struct Tail {
    pub file: File,
    pub number: u32,
    pub bytes: u32,
}

/// Everything a sync needs, moved out of the log while it runs.
#[derive(Debug)]
pub(super) struct SyncJob {
    pub dir: PathBuf,
    pub group: Group,
    /// `None`: begin with a new segment.
    pub tail: Option<Tail>,
    /// The last segment that counts and how much of it does; `(0, 0)` when there is none.
    pub previous: (u32, u32),
    pub next_number: u32,
    pub fingerprint: u32,
    pub low_water: Position,
}

/// What a sync did; hand it to [`Wal::finish_sync`](super::Wal::finish_sync).
#[derive(Debug)]
#[must_use = "only finish_sync moves the received watermark"]
pub struct SyncDone {
    pub(super) group: Group,
    pub(super) tail: Option<Tail>,
    pub(super) next_number: u32,
    pub(super) abandoned: u32,
    /// Where the group stands: segment, offset of its first byte.
    pub(super) outcome: Result<(u32, u32), WalError>,
}

/// Makes one group durable.
pub(super) async fn run(mut job: SyncJob) -> SyncDone {
    let mut abandoned = 0;
    if let Some(mut tail) = job.tail.take() {
        match append(&mut job, &mut tail).await {
            Ok(offset) => {
                let placed = (tail.number, offset);
                return done(job, Some(tail), abandoned, Ok(placed));
            }
            Err(Failed::Rewound(error)) => return done(job, Some(tail), abandoned, Err(error)),
            Err(Failed::Abandon(error)) => {
                abandoned += 1;
                if matches!(error, WalError::NoSpace { .. }) {
                    return done(job, None, abandoned, Err(error));
                }
            }
        }
    }
    let mut tries_left = SEGMENTS_TRIED_MAX;
    loop {
        tries_left -= 1;
        match create(&mut job).await {
            Ok(tail) => {
                let placed = (tail.number, SEGMENT_HEADER_BYTES as u32);
                return done(job, Some(tail), abandoned, Ok(placed));
            }
            Err(error) if tries_left == 0 || matches!(error, WalError::NoSpace { .. }) => {
                return done(job, None, abandoned, Err(error));
            }
            Err(_) => abandoned += 1,
        }
    }
}

fn done(job: SyncJob, tail: Option<Tail>, abandoned: u32, outcome: Result<(u32, u32), WalError>) -> SyncDone {
    SyncDone {
        group: job.group,
        tail,
        next_number: job.next_number,
        abandoned,
        outcome,
    }
}

enum Failed {
    /// The file is as it was before.
    Rewound(WalError),
    /// Nobody knows what the file holds behind its durable part.
    Abandon(WalError),
}

/// One write and one fsync behind what is there.
async fn append(job: &mut SyncJob, tail: &mut Tail) -> Result<u32, Failed> {
    let path = storage::segment_path(&job.dir, tail.number);
    let offset = tail.bytes;
    record::seal(&mut job.group.bytes, offset);
    if let Err(error) = storage::append(&mut tail.file, &path, &job.group.bytes).await {
        // A full disk takes part of a write and forgets nothing: cut that part off and use the file again. After any
        // other error the page cache itself is in doubt.
        return match error {
            WalError::NoSpace { .. } if storage::rewind(&mut tail.file, &path, offset).await.is_ok() => {
                Err(Failed::Rewound(error))
            }
            error => Err(Failed::Abandon(error)),
        };
    }
    match tail.file.sync_data().await {
        Ok(()) => {
            tail.bytes = offset + job.group.bytes.len() as u32;
            Ok(offset)
        }
        Err(error) => Err(Failed::Abandon(WalError::io("syncing", &path, error))),
    }
}

/// A new segment, born with the group in it.
async fn create(job: &mut SyncJob) -> Result<Tail, WalError> {
    let number = job.next_number;
    // Used up even if this fails: after a rename that could not be made durable the name may or may not exist, and
    // the next segment's header then says by its number that it does not count.
    job.next_number = number
        .checked_add(1)
        .ok_or_else(|| WalError::Config("4,294,967,295 segments were written: start with an empty directory".into()))?;
    let born_bytes = SEGMENT_HEADER_BYTES as u32 + job.group.bytes.len() as u32;
    let (previous_number, previous_bytes) = job.previous;
    let header = SegmentHeader {
        number,
        fingerprint: job.fingerprint,
        previous_number,
        previous_bytes,
        born_bytes,
        low_water_seq: job.low_water.seq,
        low_water_digest: job.low_water.digest,
    };
    record::seal(&mut job.group.bytes, SEGMENT_HEADER_BYTES as u32);
    let path = storage::segment_path(&job.dir, number);
    let file = storage::create_whole(&job.dir, &path, &[&header.encode(), &job.group.bytes]).await?;
    Ok(Tail {
        file,
        number,
        bytes: born_bytes,
    })
}
