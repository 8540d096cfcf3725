//! What the trace records, as plain data that travels as JSON. No behaviour, and no type of another crate: whoever
//! emits or reads records needs only these.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A simulated machine, numbered in the order of creation. 0 is the main node, where the runner lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub u16);

impl HostId {
    /// The node of the runner.
    pub const MAIN: HostId = HostId(0);

    /// The number as an index.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.0)
    }
}

/// Kinds of traffic that are cut separately.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// TCP connections: programs among each other and with the database.
    Client,
    /// The database's messages between its nodes.
    Peer,
}

/// One event of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Simulated nanoseconds since the run began.
    pub at_ns: u64,
    /// The number of this event among all events of the run, kept or not.
    pub ordinal: u64,
    /// The machine it happened on, where there is one.
    pub host: Option<HostId>,
    /// What happened.
    pub kind: Kind,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A machine or its program changed state.
    Host {
        /// The machine's name.
        name: String,
        /// How.
        change: HostChange,
    },
    /// A directed link was cut or healed.
    Link {
        /// Sender.
        from: HostId,
        /// Receiver.
        to: HostId,
        /// The traffic concerned.
        class: Class,
        /// True: cut. False: healed.
        cut: bool,
    },
    /// A planned fault went through one of its stages.
    Fault(FaultRecord),
    /// A request or response at the edge of the database.
    Cql(CqlRecord),
    /// Something inside the database cluster.
    Cluster(ClusterRecord),
    /// A `tracing` event of a program.
    Log {
        /// The event's target: the module or subsystem.
        target: String,
        /// Its level.
        level: Level,
        /// The rendered message with its fields.
        message: String,
    },
    /// A task panicked.
    Panic {
        /// The message of the panic.
        message: String,
    },
    /// Anything else worth a line in the timeline.
    Note {
        /// The line.
        text: String,
    },
    /// High rate: bytes of a connection arrived.
    Delivery {
        /// Slot of the connection.
        conn: u32,
        /// Sender.
        from: HostId,
        /// Receiver.
        to: HostId,
        /// How many bytes.
        bytes: u64,
    },
    /// High rate: an operation of a disk.
    DiskOp {
        /// What was done.
        op: DiskOpKind,
        /// The path, or empty where only the open file is known.
        path: String,
        /// Byte offset of reads and writes.
        offset: u64,
        /// Bytes moved.
        bytes: u64,
    },
    /// High rate: a draw from a labelled stream.
    Draw {
        /// Number of the stream in the order of first use.
        stream: u32,
        /// The 64 bits drawn.
        value: u64,
    },
}

/// Changes of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostChange {
    /// Its program started for the first time.
    Started,
    /// Its program returned.
    Exited,
    /// Its process was killed; the kernel lives.
    Killed,
    /// It lost power.
    PoweredOff,
    /// It is up again and its program runs anew.
    Restarted,
    /// Its tasks stand still; the kernel goes on.
    Paused,
    /// Its tasks run again.
    Resumed,
    /// Its program was asked to stop.
    Interrupted,
    /// Its disk was replaced by an empty one.
    DiskReplaced,
}

/// How far a planned fault has come.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct FaultRecord {
    /// Number of the fault in its plan.
    pub id: u32,
    /// Name of its class.
    pub class: String,
    /// The stage reached.
    pub stage: FaultStage,
    /// One line for people.
    pub detail: String,
}

/// The stages of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultStage {
    /// It is in the plan of this run.
    Planned,
    /// Its trigger came and it was carried out.
    Fired,
    /// It changed an outcome.
    Bit,
    /// Its effect is over.
    Healed,
}

/// A request or a response at the CQL edge.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct CqlRecord {
    /// The database node.
    pub node: HostId,
    /// Connection number at that node.
    pub conn: u64,
    /// Stream number of the request on its connection.
    pub stream: i16,
    /// Request or response.
    pub op: CqlOp,
    /// Whose request this is, for people: the event of a batch, or the statement.
    pub label: String,
}

/// Direction and content of a [`CqlRecord`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CqlOp {
    /// The request arrived.
    Request {
        /// Opcode and kind: `query`, `execute`, `batch logged`, ...
        kind: String,
    },
    /// The response left.
    Response {
        /// `ok` or the name of the error.
        outcome: String,
        /// Whether it was an error.
        error: bool,
    },
}

/// Kinds of writes as the native protocol names them in timeouts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WriteKind {
    /// A single statement.
    Simple,
    /// A logged batch, after its batchlog was written.
    Batch,
    /// An unlogged batch.
    UnloggedBatch,
    /// A counter update.
    Counter,
    /// The batchlog itself.
    BatchLog,
    /// A lightweight transaction.
    Cas,
    /// A materialised view.
    View,
    /// Change data capture.
    Cdc,
}

/// What happens inside the database cluster.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterRecord {
    /// A holder stored a batch in its batchlog.
    BatchlogWritten {
        /// The batch.
        batch: String,
        /// The node that stores it.
        holder: HostId,
        /// Mutations in it.
        entries: u32,
    },
    /// A holder sends the mutations of a batch again.
    BatchlogReplayed {
        /// The batch.
        batch: String,
        /// The node that replays it.
        holder: HostId,
        /// Simulated milliseconds since it was written.
        age_ms: u64,
    },
    /// A holder dropped a batch from its batchlog.
    BatchlogRemoved {
        /// The batch.
        batch: String,
        /// The node that dropped it.
        holder: HostId,
    },
    /// A replica applied a mutation (high rate: emit it only where all is recorded).
    MutationApplied {
        /// The replica.
        replica: HostId,
        /// `keyspace.table`.
        table: String,
        /// Write timestamp in microseconds.
        timestamp_us: i64,
    },
    /// A coordinator stored a hint.
    HintStored {
        /// The node that keeps it.
        holder: HostId,
        /// The replica it is for.
        target: HostId,
    },
    /// Hints reached their replica.
    HintDelivered {
        /// The node that kept them.
        holder: HostId,
        /// The replica.
        target: HostId,
        /// How many.
        hints: u32,
    },
    /// Hints were given up.
    HintDropped {
        /// The node that kept them.
        holder: HostId,
        /// The replica they were for.
        target: HostId,
        /// How many.
        hints: u32,
    },
    /// A node's failure detector turned.
    NodeDown {
        /// The node that is thought dead.
        node: HostId,
        /// Who thinks so.
        seen_by: HostId,
    },
    /// A node's failure detector turned back.
    NodeUp {
        /// The node that is alive again.
        node: HostId,
        /// Who thinks so.
        seen_by: HostId,
    },
    /// A coordinator answered a write timeout.
    WriteTimeout {
        /// What was written.
        write: WriteKind,
        /// Acknowledgements received.
        received: u32,
        /// Acknowledgements required.
        required: u32,
        /// Consistency level by name.
        consistency: String,
    },
    /// A coordinator answered a write failure.
    WriteFailure {
        /// What was written.
        write: WriteKind,
        /// Acknowledgements received.
        received: u32,
        /// Acknowledgements required.
        required: u32,
        /// Replicas that failed.
        failures: u32,
    },
    /// A coordinator answered a read timeout.
    ReadTimeout {
        /// Answers received.
        received: u32,
        /// Answers required.
        required: u32,
    },
    /// A coordinator refused a request for lack of live replicas.
    Unavailable {
        /// Replicas required.
        required: u32,
        /// Replicas alive.
        alive: u32,
    },
    /// A read wrote the newest cells to replicas that lacked them.
    ReadRepair {
        /// The replica repaired.
        replica: HostId,
    },
    /// A coordinator stood still and executed late, with a new timestamp.
    ExecutedLate {
        /// The request, for people.
        label: String,
        /// How late, in simulated milliseconds.
        delay_ms: u64,
    },
    /// A node showed an anomaly on record.
    Lied {
        /// Which: `keep-batchlog`, `hold-replay`, …
        lie: String,
    },
    /// A power loss took commit log that was not yet on disk.
    LogLost {
        /// Bytes lost.
        bytes: u64,
    },
    /// A node replayed its commit log.
    LogRecovered {
        /// Bytes replayed.
        bytes: u64,
    },
    /// Anything else.
    Other {
        /// What, in one word or two.
        what: String,
        /// One line for people.
        detail: String,
    },
}

/// Levels of `tracing`, most severe first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Needs attention.
    Error,
    /// Unusual.
    Warn,
    /// The normal course.
    Info,
    /// Details.
    Debug,
    /// Everything.
    Trace,
}

/// Operations of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskOpKind {
    /// A file was opened.
    Open,
    /// Bytes were read.
    Read,
    /// Bytes were written to the page cache.
    Write,
    /// A file's length was set.
    SetLen,
    /// A sync of a file began.
    SyncStart,
    /// A sync of a file succeeded.
    Sync,
    /// A sync of a file failed and its pages are gone.
    SyncFailed,
    /// A directory was synced.
    SyncDir,
    /// A name was changed.
    Rename,
    /// A name was removed.
    Remove,
    /// A directory was created.
    CreateDir,
    /// The power went and unsynced data was drawn away.
    PowerLoss,
    /// A bit flipped.
    BitRot,
    /// The disk was replaced.
    Replace,
}
