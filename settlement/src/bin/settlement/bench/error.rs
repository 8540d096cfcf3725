//! Why `settlement bench` ends without figures. Each says what happened, to what, and what to do.

use std::path::PathBuf;
use std::time::Duration;

use settlement::designs::prepare::StatementError;
use settlement::session::SessionError;
use settlement::{DesignName, ServeError};
use settlement_events::MoneyError;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Arguments that contradict each other.
    #[error("{0}")]
    Usage(String),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] settlement::config::ConfigError),
    /// The database cannot be reached.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The tables cannot be made.
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
    /// A statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The keyspace is somebody's.
    #[error(
        "keyspace {keyspace} exists, and this run did not create it, so it is not touched. If it is what a killed bench \
         left behind: DROP KEYSPACE {keyspace}"
    )]
    KeyspaceExists {
        /// Which one.
        keyspace: String,
    },
    /// The keyspace cannot be created.
    #[error(
        "keyspace {keyspace} cannot be created: {source}. The user needs the permission to create and drop keyspaces: \
         GRANT CREATE ON ALL KEYSPACES TO …"
    )]
    KeyspaceRefused {
        /// Which one.
        keyspace: String,
        /// What the driver says.
        source: Box<scylla::errors::ExecutionError>,
    },
    /// The server has no such tables.
    #[error("design {design} cannot run on this server: {source}")]
    Unsupported {
        /// Which one.
        design: DesignName,
        /// What the driver says.
        source: Box<schema::SchemaError>,
    },
    /// A read of the check at the end.
    #[error("{table} cannot be read back: {why}")]
    Unreadable {
        /// Which table.
        table: String,
        /// What the driver says.
        why: String,
    },
    /// The stand-in for the matching engine.
    #[error("the events cannot be published on this machine: {0}")]
    Engine(String),
    /// Settlement ended.
    #[error("settlement with design {design} ended: {source}")]
    Serve {
        /// Which design.
        design: DesignName,
        /// Why.
        source: Box<ServeError>,
    },
    /// Settlement ended and does not say why.
    #[error("settlement with design {design} ended in the middle of a round; the log lines above say why")]
    Ended {
        /// Which design.
        design: DesignName,
    },
    /// A node of the database began another life.
    #[error(
        "a node of the database restarted while design {design} was measured, and what it may have lost was sent again: \
         measure again"
    )]
    Restarted {
        /// Which design.
        design: DesignName,
    },
    /// Nothing is settled any more.
    #[error("design {design} settled nothing for {} s: {why}", waited.as_secs())]
    Stalled {
        /// Which design.
        design: DesignName,
        /// For how long.
        waited: Duration,
        /// The first stalled event, and what the database says about it.
        why: String,
    },
    /// The generator ran out of numbers.
    #[error("the load cannot be generated: {0}; use fewer trades")]
    Load(#[from] MoneyError),
    /// The directory of the write-ahead logs.
    #[error("{} cannot be used for the write-ahead logs: {source}. `data_dir` names it", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The tables do not hold what was settled.
    #[error("the tables do not hold what was settled, so the figures mean nothing:\n  {}", .0.join("\n  "))]
    Differs(Vec<String>),
    /// Too slow.
    #[error("the ratio ledger : sequential-delta is {ratio:.2}, less than the {min} that was asked for")]
    Ratio {
        /// Measured.
        ratio: f64,
        /// Asked for.
        min: f64,
    },
    /// Ctrl-C.
    #[error("interrupted; there are no figures")]
    Interrupted,
}

impl From<zeromq::ZmqError> for BenchError {
    fn from(error: zeromq::ZmqError) -> Self {
        Self::Engine(error.to_string())
    }
}
