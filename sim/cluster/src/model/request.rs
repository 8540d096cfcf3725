//! What a client asks of a coordinator, and what it answers: levels, kinds, results, errors with their counts.

use super::{
    CasRequest, DerivedWrite, NodeIdx, ReadCommand, ReadResult, SchemaChange, SchemaEffect, SchemaError, TableId,
    WriteSet,
};
use serde::{Deserialize, Serialize};

/// Consistency levels, with the numbers of the native protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u16)]
#[expect(missing_docs, reason = "CQL's own names")]
pub enum Consistency {
    Any = 0,
    One = 1,
    Two = 2,
    Three = 3,
    Quorum = 4,
    All = 5,
    LocalQuorum = 6,
    EachQuorum = 7,
    Serial = 8,
    LocalSerial = 9,
    LocalOne = 10,
}

impl Consistency {
    /// The level with that code in the native protocol.
    pub fn from_code(code: u16) -> Option<Consistency> {
        use Consistency::*;
        [
            Any,
            One,
            Two,
            Three,
            Quorum,
            All,
            LocalQuorum,
            EachQuorum,
            Serial,
            LocalSerial,
            LocalOne,
        ]
        .into_iter()
        .find(|c| *c as u16 == code)
    }
    /// Its code in the native protocol.
    pub fn code(self) -> u16 {
        self as u16
    }
    /// Its name as servers print it, such as `LOCAL_QUORUM`.
    pub fn name(self) -> &'static str {
        match self {
            Consistency::Any => "ANY",
            Consistency::One => "ONE",
            Consistency::Two => "TWO",
            Consistency::Three => "THREE",
            Consistency::Quorum => "QUORUM",
            Consistency::All => "ALL",
            Consistency::LocalQuorum => "LOCAL_QUORUM",
            Consistency::EachQuorum => "EACH_QUORUM",
            Consistency::Serial => "SERIAL",
            Consistency::LocalSerial => "LOCAL_SERIAL",
            Consistency::LocalOne => "LOCAL_ONE",
        }
    }
}

impl std::fmt::Display for Consistency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The write type of a write error. `View` and `Cdc` belong to features that are refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "CQL's own names")]
pub enum WriteType {
    Simple,
    Batch,
    UnloggedBatch,
    Counter,
    BatchLog,
    Cas,
    View,
    Cdc,
}

impl WriteType {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            WriteType::Simple => "SIMPLE",
            WriteType::Batch => "BATCH",
            WriteType::UnloggedBatch => "UNLOGGED_BATCH",
            WriteType::Counter => "COUNTER",
            WriteType::BatchLog => "BATCH_LOG",
            WriteType::Cas => "CAS",
            WriteType::View => "VIEW",
            WriteType::Cdc => "CDC",
        }
    }
}

/// How the statements of a write belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteKind {
    /// One INSERT, UPDATE or DELETE.
    Single,
    /// `BEGIN BATCH`: all or nothing in the end.
    Logged,
    /// `BEGIN UNLOGGED BATCH`.
    Unlogged,
    /// Additions to counters of one statement.
    Counter,
    /// `BEGIN COUNTER BATCH`, or an unlogged one of additions.
    CounterBatch,
}

impl WriteKind {
    /// Whether it adds to counters.
    pub fn is_counter(self) -> bool {
        matches!(self, WriteKind::Counter | WriteKind::CounterBatch)
    }

    /// Whether it is a batch, even one of a single statement.
    pub fn is_batch(self) -> bool {
        !matches!(self, WriteKind::Single | WriteKind::Counter)
    }
}

/// A write for the coordinator.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// One statement, or a batch and which.
    pub kind: WriteKind,
    /// Level at which to answer.
    pub consistency: Consistency,
    /// The operations, in statement order. Operations without a timestamp of their own get `timestamp_us`, or the
    /// coordinator's clock at the moment it executes.
    pub writes: WriteSet,
    /// Default timestamp of the request (protocol flag, or `USING TIMESTAMP` on the batch), microseconds.
    pub timestamp_us: Option<i64>,
    /// `USING TIMEOUT` (Scylla); `None` is the server's write timeout.
    pub timeout_ms: Option<u32>,
}

/// A read for the coordinator.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// What to read.
    pub command: ReadCommand,
    /// Level.
    pub consistency: Consistency,
    /// `USING TIMEOUT` (Scylla); `None` is the server's read or range timeout.
    pub timeout_ms: Option<u32>,
}

/// Anything a client can ask of a coordinator.
#[derive(Debug, Clone)]
pub enum Request {
    /// INSERT, UPDATE, DELETE, BATCH.
    Write(WriteRequest),
    /// SELECT on a table of the core (system tables are the edge's own).
    Read(ReadRequest),
    /// A conditional write, or SELECT at a serial level.
    Cas(Box<CasRequest>),
    /// INSERT, UPDATE, DELETE or BATCH that needs to know what is there.
    Derived(Box<DerivedWrite>),
    /// DDL.
    Schema(SchemaChange),
    /// TRUNCATE.
    Truncate(TableId),
    /// A door, not a room: what does not exist yet arrives here. `what` names it; the
    /// answer is always [`CoordinatorError::Unsupported`].
    Unsupported {
        /// What was asked for, in the words of the error.
        what: String,
    },
}

/// Something the server tells the client beside the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A batch above the warning threshold. Cassandra tells the client; Scylla only logs, and none arrives here.
    BatchSize {
        /// Size as the server computes it, bytes.
        size_bytes: u64,
        /// Threshold, bytes.
        threshold_bytes: u64,
        /// Tables of the batch, in order of first appearance.
        tables: Vec<TableId>,
    },
    /// An UNLOGGED batch over many partitions (Cassandra, above 10).
    UnloggedPartitions {
        /// Partitions touched.
        partitions: u32,
        /// Tables of the batch, in order of first appearance.
        tables: Vec<TableId>,
    },
}

/// What a coordinator answers.
#[derive(Debug, Clone)]
pub enum Response {
    /// A write or truncation is done.
    Done {
        /// Warnings for the client.
        warnings: Vec<Warning>,
    },
    /// Rows.
    Rows(ReadResult),
    /// A conditional write was decided.
    Cas {
        /// Whether it was made.
        applied: bool,
        /// The rows as they were before.
        read: ReadResult,
    },
    /// The schema change is agreed on by every live node.
    Schema(SchemaEffect),
    /// It failed.
    Error(CoordinatorError),
}

/// Why a replica refused, as protocol v5 tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureReason {
    /// 0x0000.
    Unknown,
    /// 0x0001 READ_TOO_MANY_TOMBSTONES.
    ReadTooManyTombstones,
    /// 0x0003 INCOMPATIBLE_SCHEMA.
    IncompatibleSchema,
}

/// Errors of a coordinator. Each says what is known of the effect; the edge adds codes and exact texts.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "fields are those of the protocol's error bodies")]
pub enum CoordinatorError {
    /// Too few replicas alive, by the failure detector: nothing was written. `batchlog` when it is batchlog holders
    /// that are missing (Cassandra's text differs).
    #[error("Cannot achieve consistency level {consistency}: requires {required} replicas, {alive} alive")]
    Unavailable {
        consistency: Consistency,
        required: u32,
        alive: u32,
        batchlog: bool,
    },
    /// Not enough answers in time: the effect is unknown.
    #[error("write timeout ({}) at {consistency}: {received} of {required}", write_type.name())]
    WriteTimeout {
        consistency: Consistency,
        received: u32,
        required: u32,
        write_type: WriteType,
    },
    /// A conditional write (or serial read) was not decided in time. What is known depends on how far it came; see
    /// `core::paxos`. `unknown`: some replicas accepted the proposal and some refused it.
    #[error("cas timeout at {consistency}: {received} of {required} after {contentions} contentions")]
    CasTimeout {
        consistency: Consistency,
        received: u32,
        required: u32,
        contentions: u32,
        unknown: bool,
    },
    /// Replicas refused: others may have applied.
    #[error("write failure ({}) at {consistency}: {received} of {required}, {} failed", write_type.name(), failures.len())]
    WriteFailure {
        consistency: Consistency,
        received: u32,
        required: u32,
        failures: Vec<(NodeIdx, FailureReason)>,
        write_type: WriteType,
    },
    /// Not enough answers in time. `data_present`: the replica asked for data answered.
    #[error("read timeout at {consistency}: {received} of {required}")]
    ReadTimeout {
        consistency: Consistency,
        received: u32,
        required: u32,
        data_present: bool,
    },
    /// Replicas refused.
    #[error("read failure at {consistency}: {received} of {required}, {} failed", failures.len())]
    ReadFailure {
        consistency: Consistency,
        received: u32,
        required: u32,
        failures: Vec<(NodeIdx, FailureReason)>,
        data_present: bool,
    },
    /// The coordinator has too much in flight, or is stopping. Nothing was written.
    #[error("overloaded: {what}")]
    Overloaded { what: String },
    /// The batch is above the size limit: nothing was written.
    #[error("Batch too large")]
    BatchTooLarge { size_bytes: u64, threshold_bytes: u64 },
    /// The request makes no sense (unknown table number, malformed key): nothing was done.
    #[error("{what}")]
    Invalid { what: String },
    /// A consistency level that does not fit the operation.
    #[error("consistency level {consistency} is not supported for {operation}")]
    BadConsistency {
        consistency: Consistency,
        operation: &'static str,
    },
    /// DDL refused.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// DDL did not reach a majority in time: unknown.
    #[error("schema change not agreed on: {what}")]
    SchemaUnknown { what: String },
    /// TRUNCATE could not be done on every node.
    #[error("Error during truncate: Cannot achieve consistency level ALL")]
    Truncate,
    /// A feature that does not exist here. Loud, never quiet.
    #[error("not supported by the simulated cluster: {what}")]
    Unsupported { what: String },
}
