//! Rule 7, the refused half: an event that contradicts itself, the registry or what came before becomes a row in
//! `dead_letters`, and the watermarks stay before it until an operator's row in `skips` says to go on. A transient
//! failure never comes here.
//!
//! Both rows are keyed by sequence and stamped by it, so that writing them again, or from two instances, changes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use schema::{Generation, RowTimestamp, TableDef, TimestampError, keys};
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use settlement_events::{Digest, OutputSequence, Refusal};

use crate::designs::prepare::{Preparer, StatementError};
use crate::designs::row::{Bigint, Stamp, row};

const DEAD_LETTERS: &str = "dead_letters";
const SKIPS: &str = "skips";

row!(
    /// A refused event.
    stamped DeadLetterRow {
        bucket: Bigint,
        output_sequence: Bigint,
        code: String,
        detail: String,
        digest: [u8; 32],
        event: Bytes,
    }
);

row!(
    /// An operator's decision.
    stamped SkipRow {
        bucket: Bigint,
        output_sequence: Bigint,
        reason: String,
        digest: [u8; 32],
    }
);

/// A refused event: why, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The kind of contradiction.
    pub code: String,
    /// What contradicts what.
    pub detail: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The canonical encoding.
    pub event: Bytes,
}

impl DeadLetter {
    /// Of an event that was refused.
    #[must_use]
    pub fn new(refusal: &Refusal, digest: Digest, event: Bytes) -> Self {
        Self {
            code: refusal.code.to_string(),
            detail: refusal.detail.clone(),
            digest,
            event,
        }
    }
}

/// An operator's recorded decision to pass over a refused event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Why.
    pub reason: String,
    /// The digest of the content that is passed over.
    pub digest: Digest,
}

/// Why a row of these tables cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// The statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The database did not answer.
    #[error("{what}: {source}")]
    Database {
        /// What was asked.
        what: &'static str,
        /// What the driver says.
        source: Box<ExecutionError>,
    },
    /// A row is not what settlement writes.
    #[error("{what}: {detail}")]
    Unreadable {
        /// What was asked.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The sequence has no timestamp.
    #[error(transparent)]
    Timestamp(#[from] TimestampError),
}

impl DeadLetterError {
    /// Whether trying again may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Database { .. } | Self::Statement(StatementError::Prepare { .. })
        )
    }
}

/// Reads and writes both tables. Used so rarely that statements are prepared when they are needed.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    session: Arc<Session>,
    keyspace: Arc<str>,
    defs: Arc<[TableDef]>,
    generation: Generation,
}

impl DeadLetters {
    /// In a keyspace with these tables.
    #[must_use]
    pub fn new(session: Arc<Session>, keyspace: &str, defs: Arc<[TableDef]>, generation: Generation) -> Self {
        Self {
            session,
            keyspace: keyspace.into(),
            defs,
            generation,
        }
    }

    fn preparer(&self) -> Preparer<'_> {
        Preparer {
            session: &self.session,
            keyspace: &self.keyspace,
            defs: &self.defs,
        }
    }

    /// Writes down a refused event.
    pub async fn write(&self, sequence: OutputSequence, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let row = DeadLetterRow {
            bucket: Bigint(keys::bucket(sequence)),
            output_sequence: sequence.into(),
            code: letter.code.clone(),
            detail: letter.detail.clone(),
            digest: letter.digest.0,
            event: letter.event.clone(),
            timestamp: Stamp(RowTimestamp::of_sequence(sequence, self.generation)?),
        };
        let insert = self.preparer().insert::<DeadLetterRow>(DEAD_LETTERS).await?;
        let written = self.session.execute_unpaged(&insert, &row).await;
        written
            .map(drop)
            .map_err(|source| database("writing a dead letter", source))
    }

    /// Writes down an operator's decision.
    pub async fn write_skip(&self, sequence: OutputSequence, skip: &Skip) -> Result<(), DeadLetterError> {
        let row = SkipRow {
            bucket: Bigint(keys::bucket(sequence)),
            output_sequence: sequence.into(),
            reason: skip.reason.clone(),
            digest: skip.digest.0,
            timestamp: Stamp(RowTimestamp::of_sequence(sequence, self.generation)?),
        };
        let insert = self.preparer().insert::<SkipRow>(SKIPS).await?;
        let written = self.session.execute_unpaged(&insert, &row).await;
        written.map(drop).map_err(|source| database("writing a skip", source))
    }

    /// The dead letters of the buckets from that of `first` to that of `last`, by sequence. A few partitions: as many
    /// as the window between the durable watermark and the head touches.
    pub async fn read(
        &self,
        first: OutputSequence,
        last: OutputSequence,
    ) -> Result<BTreeMap<OutputSequence, DeadLetter>, DeadLetterError> {
        const WHAT: &str = "reading dead letters";
        let columns = ["output_sequence", "code", "detail", "digest", "event"];
        let select = self.preparer().select(DEAD_LETTERS, &columns, &["bucket"]).await?;
        let mut letters = BTreeMap::new();
        for bucket in keys::bucket(first)..=keys::bucket(last) {
            let result = self.session.execute_unpaged(&select, &(Bigint(bucket),)).await;
            let result = result.map_err(|source| database(WHAT, source))?;
            let rows = result.into_rows_result().map_err(|error| unreadable(WHAT, error))?;
            let rows = rows
                .rows::<(i64, &str, &str, &[u8], Vec<u8>)>()
                .map_err(|error| unreadable(WHAT, error))?;
            for row in rows {
                let (sequence, code, detail, digest, event) = row.map_err(|error| unreadable(WHAT, error))?;
                let sequence = u64::try_from(sequence).map_err(|error| unreadable(WHAT, error))?;
                let (code, detail) = (code.to_owned(), detail.to_owned());
                let letter = DeadLetter {
                    code,
                    detail,
                    digest: digest_of(WHAT, digest)?,
                    event: event.into(),
                };
                letters.insert(OutputSequence(sequence), letter);
            }
        }
        Ok(letters)
    }

    /// The decision about one event, if there is one.
    pub async fn read_skip(&self, sequence: OutputSequence) -> Result<Option<Skip>, DeadLetterError> {
        const WHAT: &str = "reading a skip";
        let by = ["bucket", "output_sequence"];
        let select = self.preparer().select(SKIPS, &["reason", "digest"], &by).await?;
        let key = (Bigint(keys::bucket(sequence)), Bigint::from(sequence));
        let result = self
            .session
            .execute_unpaged(&select, &key)
            .await
            .map_err(|source| database(WHAT, source))?;
        let rows = result.into_rows_result().map_err(|error| unreadable(WHAT, error))?;
        let row = rows
            .maybe_first_row::<(&str, &[u8])>()
            .map_err(|error| unreadable(WHAT, error))?;
        row.map(|(reason, digest)| {
            Ok(Skip {
                reason: reason.to_owned(),
                digest: digest_of(WHAT, digest)?,
            })
        })
        .transpose()
    }
}

fn database(what: &'static str, source: ExecutionError) -> DeadLetterError {
    DeadLetterError::Database {
        what,
        source: Box::new(source),
    }
}

fn unreadable(what: &'static str, detail: impl fmt::Display) -> DeadLetterError {
    DeadLetterError::Unreadable {
        what,
        detail: detail.to_string(),
    }
}

fn digest_of(what: &'static str, bytes: &[u8]) -> Result<Digest, DeadLetterError> {
    bytes
        .try_into()
        .map(Digest)
        .map_err(|_| unreadable(what, "a digest that does not have 32 bytes"))
}
