//! Why `settlement serve` ends, or does not begin. Every one of these is for a person: it says what happened, to what,
//! and what to do. What can be waited out (a database that is down, a full disk, a missing event) ends nothing; it is
//! a metric and a log line.

use settlement_events::{Epoch, OutputSequence};

use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::dead_letters::DeadLetterError;
use crate::designs::prepare::StatementError;
use crate::foreign::ForeignError;
use crate::identity::Fork;
use crate::session::SessionError;
use crate::wal::WalError;

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be reached, or does not let us in.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The keyspace is not the one expected.
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
    /// The statements cannot be prepared.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The rows of the keyspace are not ours.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// The dead letters cannot be read.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    /// The WAL.
    #[error("{0}")]
    Wal(#[from] WalError),
    /// The stream has forked.
    #[error(
        "the stream has forked: {0}. Nothing more is settled. Find out which content the matching engine's own log \
         holds; if it is the other one, restore the matching engine, or start a new epoch; if this WAL is the one that \
         is wrong, move data_dir away and let it be fetched again"
    )]
    Fork(#[from] Fork),
    /// The WAL and the checkpoint speak of different streams.
    #[error(
        "the checkpoint in the database and the WAL disagree about event {sequence}: one of them belongs to another \
         stream. Check `keyspace`, `stream` and `data_dir`; nothing was changed"
    )]
    CheckpointDisagrees {
        /// The checkpoint's sequence.
        sequence: OutputSequence,
    },
    /// Another life of the stream.
    #[error(
        "epoch {theirs} begins at event {sequence}, and settlement is in epoch {ours}: an epoch change is not supported \
         yet. Everything before it is settled and safe; nothing of the new epoch is touched. Keep data_dir, and settle \
         the new epoch into a keyspace of its own"
    )]
    EpochChange {
        /// The epoch that is settled.
        ours: Epoch,
        /// The one that begins.
        theirs: Epoch,
        /// Where.
        sequence: OutputSequence,
    },
    /// Too many refused events.
    #[error(
        "{count} events are refused, the last one is {sequence}: this is not an event that is wrong but a source of \
         events. Stop the matching engine; the refused events are in dead_letters"
    )]
    TooManyRefused {
        /// How many.
        count: usize,
        /// The last one.
        sequence: OutputSequence,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::StreamId;
    use scylla::errors::NewSessionError;
    use settlement_events::Digest;

    /// What a person reads when something is wrong: each says what happened, to what, and what to do.
    #[test]
    fn errors_say_what_happened_and_what_to_do() {
        let stream = |cluster: &str| {
            Box::new(StreamId {
                stream: "me".into(),
                cluster: cluster.into(),
            })
        };
        let source = || Box::new(NewSessionError::EmptyKnownNodesList);
        let errors: [ServeError; 14] = [
            SessionError::Unreachable {
                nodes: "10.0.1.1:9042".into(),
                attempts: 17,
                waited: std::time::Duration::from_millis(29_300),
                source: source(),
            }
            .into(),
            SessionError::Refused {
                user: "settlement".into(),
                source: source(),
            }
            .into(),
            schema::SchemaError::KeyspaceMissing {
                keyspace: "tradnig".into(),
            }
            .into(),
            schema::SchemaError::TooFewCopies {
                keyspace: "trading".into(),
                place: "data centre eu-west".into(),
                copies: 1,
                wanted: 3,
            }
            .into(),
            WalError::OtherStream {
                path: "data/HEADER".into(),
                found: stream("Prod/trading"),
                expected: stream("Test Cluster/trading"),
            }
            .into(),
            WalError::NoSpace {
                doing: "writing",
                path: "data/0000000001.wal".into(),
            }
            .into(),
            WalError::Io {
                doing: "creating the directory",
                path: "data".into(),
                source: std::io::ErrorKind::PermissionDenied.into(),
            }
            .into(),
            ForeignError::OtherStream {
                keyspace: "trading".into(),
                found: "me-2".into(),
                expected: "me".into(),
            }
            .into(),
            ForeignError::Timestamp {
                table: "trading.user_balances".into(),
                detail: "where version is 77, the timestamp of avail is 1700000000000000, which is not 77 << 12 and a \
                         generation"
                    .into(),
            }
            .into(),
            ForeignError::OtherContent {
                sequence: OutputSequence(7),
                keyspace: "trading".into(),
                found: Digest::of(b"a"),
                ours: Digest::of(b"b"),
            }
            .into(),
            Fork::Content {
                sequence: OutputSequence(7),
                ours: Digest::of(b"a"),
                theirs: Digest::of(b"b"),
            }
            .into(),
            ServeError::CheckpointDisagrees {
                sequence: OutputSequence(7),
            },
            ServeError::EpochChange {
                ours: Epoch(1),
                theirs: Epoch(2),
                sequence: OutputSequence(8),
            },
            ServeError::TooManyRefused {
                count: 1_001,
                sequence: OutputSequence(9),
            },
        ];
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(texts.join("\n\n"));
    }
}
