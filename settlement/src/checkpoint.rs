//! Rule 9: the checkpoint row says how far the stream is durable, and carries the digest at that point. Its timestamp is
//! `durable << 12 | generation`, so the furthest checkpoint wins whatever the clocks say and whoever writes last; losing
//! it is safe down to the WAL's own low-water mark. When to write it is [`crate::pipeline`]'s decision.

use std::sync::Arc;

use schema::{Generation, RowTimestamp, TimestampError};
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::statement::prepared::PreparedStatement;
use settlement_events::{Digest, Epoch, OutputSequence};

use crate::designs::prepare::{Preparer, StatementError};
use crate::designs::row::{Bigint, Int, Stamp, row};
use crate::wal::Position;

const TABLE: &str = "settlement_checkpoint";

row!(
    /// The row.
    stamped CheckpointRow {
        stream: String,
        epoch: Int,
        durable: Bigint,
        digest: [u8; 32],
    }
);

/// Why the checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The database did not answer.
    #[error("the checkpoint of stream {stream} cannot be read: {source}")]
    Database {
        /// Of which stream.
        stream: String,
        /// What the driver says.
        source: Box<ExecutionError>,
    },
    /// The database did not say that it was written. It may have been: writing it again is right either way.
    #[error("the checkpoint of stream {stream} may not have been written: {source}")]
    Unwritten {
        /// Of which stream.
        stream: String,
        /// What the driver says.
        source: Box<ExecutionError>,
    },
    /// The row is not what settlement writes.
    #[error(
        "the checkpoint row of stream {stream} was not written by settlement ({detail}). Rows of this keyspace carry \
         timestamps made of versions; a write by hand or by another program outranks them. Find out what wrote it; to \
         begin again from the WAL, delete the row with USING TIMESTAMP of the value found"
    )]
    Foreign {
        /// Of which stream.
        stream: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The position has no timestamp.
    #[error(transparent)]
    Timestamp(#[from] TimestampError),
}

impl CheckpointError {
    /// Whether trying again may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Database { .. } | Self::Unwritten { .. })
    }
}

/// Reads and writes the checkpoint of one stream.
#[derive(Debug)]
pub struct Checkpoints {
    session: Arc<Session>,
    stream: String,
    generation: Generation,
    insert: PreparedStatement,
    select: PreparedStatement,
}

impl Checkpoints {
    /// Prepares the statements.
    pub async fn prepare(
        session: Arc<Session>,
        preparer: Preparer<'_>,
        stream: &str,
        generation: Generation,
    ) -> Result<Self, StatementError> {
        let insert = preparer.insert::<CheckpointRow>(TABLE).await?;
        let columns = ["epoch", "durable", "digest", "WRITETIME(durable)"];
        let select = preparer.select(TABLE, &columns, &["stream"]).await?;
        Ok(Self {
            session,
            stream: stream.to_owned(),
            generation,
            insert,
            select,
        })
    }

    /// Reads the row; `None` if there is none.
    pub async fn read(&self) -> Result<Option<Position>, CheckpointError> {
        let database = |source| CheckpointError::Database {
            stream: self.stream.clone(),
            source: Box::new(source),
        };
        let foreign = |detail: String| CheckpointError::Foreign {
            stream: self.stream.clone(),
            detail,
        };
        let result = self
            .session
            .execute_unpaged(&self.select, &(&self.stream,))
            .await
            .map_err(database)?;
        let rows = result.into_rows_result().map_err(|error| foreign(error.to_string()))?;
        let row = rows.maybe_first_row::<(Option<i32>, Option<i64>, Option<&[u8]>, Option<i64>)>();
        let Some(row) = row.map_err(|error| foreign(error.to_string()))? else {
            return Ok(None);
        };
        let (Some(epoch), Some(durable), Some(digest), Some(writetime)) = row else {
            return Err(foreign("a column is empty".to_owned()));
        };
        position(epoch, durable, digest, writetime).map(Some).map_err(foreign)
    }

    /// Writes the row. Once; writing it again later is always right.
    pub async fn write(&self, at: Position) -> Result<(), CheckpointError> {
        let row = CheckpointRow {
            stream: self.stream.clone(),
            epoch: Int(at.epoch.0),
            durable: at.seq.into(),
            digest: at.digest.0,
            timestamp: Stamp(RowTimestamp::of_sequence(at.seq, self.generation)?),
        };
        let written = self.session.execute_unpaged(&self.insert, &row).await;
        written.map(drop).map_err(|source| CheckpointError::Unwritten {
            stream: self.stream.clone(),
            source: Box::new(source),
        })
    }
}

/// The position of a row, if its timestamp is that of its own value (rule 2).
fn position(epoch: i32, durable: i64, digest: &[u8], writetime: i64) -> Result<Position, String> {
    let of = |what: &str| format!("{what}: epoch {epoch}, durable {durable}, timestamp {writetime}");
    let stamp = RowTimestamp::from_micros(writetime).map_err(|error| of(&error.to_string()))?;
    if i64::try_from(stamp.version()) != Ok(durable) {
        return Err(of("the timestamp is not that of the sequence"));
    }
    let epoch = u32::try_from(epoch).map_err(|_| of("the epoch is negative"))?;
    let digest = digest.try_into().map_err(|_| of("the digest does not have 32 bytes"))?;
    Ok(Position {
        epoch: Epoch(epoch),
        seq: OutputSequence(stamp.version()),
        digest: Digest(digest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_row_under_its_own_timestamp_is_believed() {
        let ours = (77 << 12) | 3;
        let position_of = |durable, writetime| position(1, durable, &[7; 32], writetime);
        assert_eq!(
            position_of(77, ours).map(|position| position.seq),
            Ok(OutputSequence(77))
        );
        let wall_clock = 1_700_000_000_000_000;
        for (durable, writetime) in [(78, ours), (77, wall_clock), (0, 3)] {
            assert!(position_of(durable, writetime).is_err(), "{durable} {writetime}");
        }
        assert!(position(1, 77, &[7; 31], ours).is_err() && position(-1, 77, &[7; 32], ours).is_err());
    }
}
