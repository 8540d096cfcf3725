//! What nodes say to each other, and what a node tells its host.
//!
//! Messages are values, not bytes: no production code runs between database nodes. They travel over the same links as
//! everything else (the host asks [`Msg::wire_bytes`] for their size) and carry the deadline after which a receiver
//! drops them, as both servers do.

use super::lies::Lie;
use super::paxos::{Ballot, PaxosKey, Promise, Proposal};
use super::query::{Found, Part, ReadLimits, ReplicaRows};
use super::seal::Sealed;
use super::sweep::RepairScope;
use super::views::ViewFault;
use crate::model::{
    Consistency, FailureReason, NodeIdx, Position, ReadCommand, Request, Response, Schema, SchemaChange, SchemaEffect,
    SchemaError, TableId, WriteType,
};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

/// An operation of one coordinator: slot, and a stamp that tells it from earlier users of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    pub(crate) slot: u32,
    pub(crate) stamp: u32,
}

/// A batch in the batchlog: coordinator, its generation, and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BatchId {
    /// Coordinator that wrote it.
    pub coordinator: NodeIdx,
    /// Generation of that coordinator.
    pub generation: u32,
    /// Number of the batch within the generation.
    pub number: u64,
}

/// Which mutations of a sealed write a message is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Consecutive ones, both ends included.
    Range(u16, u16),
    /// These.
    List(Arc<[u16]>),
}

impl Which {
    /// Their indices.
    pub fn indices(&self) -> impl Iterator<Item = usize> {
        let (range, list) = match self {
            Which::Range(first, last) => (Some(usize::from(*first)..=usize::from(*last)), None),
            Which::List(list) => (None, Some(list.iter().map(|i| usize::from(*i)))),
        };
        range.into_iter().flatten().chain(list.into_iter().flatten())
    }
}

/// A message between nodes. Requests carry the coordinator's operation, answers repeat it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each variant is described; fields repeat the words")]
pub enum Msg {
    /// Apply these mutations.
    Mutate {
        op: OpId,
        group: u16,
        sealed: Arc<Sealed>,
        which: Which,
        expires_us: u64,
        undo: Option<BatchId>,
    },
    /// They are applied, or refused.
    Mutated {
        op: OpId,
        group: u16,
        failed: Option<FailureReason>,
    },
    /// Keep this batch.
    StoreBatch {
        op: OpId,
        id: BatchId,
        sealed: Arc<Sealed>,
        written_at_us: u64,
        expires_us: u64,
    },
    /// It is kept, or refused.
    BatchKept { op: OpId, failed: bool },
    /// The batch is done: forget it.
    RemoveBatch { op: Option<OpId>, id: BatchId },
    /// It is forgotten.
    BatchForgotten { op: OpId },
    /// Kind clusters only: undo what this batch did.
    UndoBatch { id: BatchId },
    /// A hint: apply this mutation. It expires as a mutation does: one that lay in the socket of a node that stood still is
    /// sent again (seen).
    Hint {
        number: u64,
        sealed: Arc<Sealed>,
        index: u16,
        created_us: u64,
        expires_us: u64,
    },
    /// The hint is applied.
    HintApplied { number: u64 },
    /// Read this.
    Read {
        op: OpId,
        part: u16,
        round: u16,
        query: Arc<Query>,
        digest: bool,
        expires_us: u64,
    },
    /// Here are the rows.
    ReadData {
        op: OpId,
        part: u16,
        round: u16,
        rows: Box<Found<ReplicaRows>>,
    },
    /// Here is their digest.
    ReadDigest {
        op: OpId,
        part: u16,
        round: u16,
        digest: Found<u128>,
    },
    /// The read was refused.
    ReadRefused {
        op: OpId,
        part: u16,
        round: u16,
        reason: FailureReason,
    },
    /// Promise to accept nothing older than this ballot.
    Prepare {
        op: OpId,
        ballot: Ballot,
        key: Arc<PaxosKey>,
        expires_us: u64,
    },
    /// Promised, or outbid already.
    Promised {
        op: OpId,
        ballot: Ballot,
        promise: Box<Promise>,
    },
    /// Accept this.
    Propose {
        op: OpId,
        key: Arc<PaxosKey>,
        proposal: Proposal,
        expires_us: u64,
    },
    /// Accepted, or refused for a newer promise.
    Accepted { op: OpId, ballot: Ballot, granted: bool },
    /// This is decided: apply it.
    Commit {
        op: Option<OpId>,
        key: Arc<PaxosKey>,
        proposal: Proposal,
    },
    /// Applied.
    Committed { op: OpId, ballot: Ballot },
    /// I live.
    Heartbeat {
        generation: u32,
        schema_change: u64,
        schema_version: Uuid,
        host_id: Uuid,
        is_joining: bool,
    },
    /// I am stopping, in good order.
    Leaving { generation: u32 },
    /// Lead this mutation, which adds to counters.
    Lead {
        op: OpId,
        sealed: Arc<Sealed>,
        index: u16,
        consistency: Consistency,
        expires_us: u64,
    },
    /// It is written at the level, or could not be.
    Led { op: OpId, failed: bool },
    /// Make this change to the schema (to the node that orders changes).
    ProposeSchema {
        op: OpId,
        change: Box<SchemaChange>,
        wall_us: i64,
        expires_us: u64,
    },
    /// The change was made, or refused, or is unknown.
    SchemaDecided {
        op: OpId,
        outcome: Result<SchemaEffect, Option<SchemaError>>,
    },
    /// This is the schema now. `is_needed`: the receiver asked for it, to go on.
    AdoptSchema {
        op: Option<OpId>,
        schema: Arc<Schema>,
        is_needed: bool,
    },
    /// Adopted.
    SchemaAdopted { op: OpId },
    /// Send me your schema. `is_needed`: I cannot do what you asked without.
    PullSchema { is_needed: bool },
    /// Empty this table.
    Truncate { op: OpId, table: TableId },
    /// Emptied.
    Truncated { op: OpId },
    /// The sender builds its part of a view, or has built it.
    ViewStatus { view: TableId, is_built: bool },
}

/// One replica read: shared by the requests of a round.
#[derive(Debug, Clone)]
pub struct Query {
    /// The client's command.
    pub command: Arc<ReadCommand>,
    /// The part of it.
    pub part: Part,
    /// Continue after this.
    pub after: Option<Position>,
    /// Limits of this round.
    pub limits: ReadLimits,
}

impl Msg {
    /// Whether it is part of a write that somebody waits for.
    pub(super) fn is_of_write(&self) -> bool {
        use Msg::*;
        matches!(
            self,
            Mutate { .. } | Mutated { .. } | StoreBatch { .. } | BatchKept { .. } | Lead { .. } | Led { .. }
        )
    }

    /// Size on the wire, bytes: payload plus 64 for framing and headers.
    pub fn wire_bytes(&self) -> u64 {
        let payload = match self {
            Msg::Mutate { sealed, which, .. } => which.indices().map(|i| sealed.entry(i).len()).sum(),
            Msg::StoreBatch { sealed, .. } => sealed.bytes().len(),
            Msg::Hint { sealed, index, .. } | Msg::Lead { sealed, index, .. } => {
                sealed.entry(usize::from(*index)).len()
            }
            Msg::ReadData { rows, .. } => rows.answer.partitions.iter().map(|p| 64 + p.rows.len() * 128).sum(),
            Msg::Propose { proposal, .. } | Msg::Commit { proposal, .. } => {
                proposal.update.as_ref().map_or(0, |sealed| sealed.bytes().len())
            }
            Msg::AdoptSchema { .. } => 4096,
            _ => 0,
        };
        64 + payload as u64
    }
}

/// The client a request came from: the connection and its own number for the request. Opaque to the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientRef {
    /// Connection. Server timestamps are unique within one on ScyllaDB.
    pub conn: u64,
    /// Request, such as the stream id.
    pub request: u64,
}

impl ClientRef {
    /// A client that is not there: its answers go nowhere.
    pub const NOBODY: ClientRef = ClientRef {
        conn: u64::MAX,
        request: u64::MAX,
    };
}

/// What can happen to a node.
#[derive(Debug)]
pub enum Input {
    /// A client asks for something.
    Client {
        /// Who.
        from: ClientRef,
        /// What.
        request: Request,
    },
    /// A client connection is gone; its requests go on, their answers go nowhere.
    Disconnected {
        /// Which.
        conn: u64,
    },
    /// A peer's message arrived.
    Peer {
        /// Who.
        from: NodeIdx,
        /// What.
        msg: Msg,
    },
    /// The connection to a peer was refused or reset: its process is dead while its machine lives. Give it once per
    /// message that could not be delivered for that reason, or once per break; a cut link or a dead machine gives none.
    PeerReset {
        /// Which.
        peer: NodeIdx,
    },
    /// Time has come (see [`super::Node::next_deadline_us`]).
    Tick,
    /// The host finished [`Effect::LogSync`].
    LogSynced {
        /// Its token.
        token: u64,
    },
    /// Appending or syncing the log failed (EIO, ENOSPC): the node cannot go on.
    LogFailed {
        /// What happened.
        error: String,
    },
    /// Hinted handoff is switched off or on (`nodetool disablehandoff`): a node keeps no new hints while it is off.
    Handoff {
        /// Whether hints are kept from now on.
        on: bool,
    },
    /// The hints that wait are gone, from the disk too (`nodetool truncatehints`, or a lost hints directory).
    LoseHints {
        /// Those for this peer; for all of them if `None`.
        peer: Option<NodeIdx>,
    },
    /// The node shows this anomaly from now on, or does not any more.
    Lie {
        /// Which.
        lie: Lie,
        /// Whether it is shown from now on.
        on: bool,
    },
    /// Updates that this node has for views are lost or held back from now on, or go their way again.
    ViewUpdates {
        /// Which of it.
        fault: ViewFault,
    },
    /// The node does not learn of changes to the schema any more, or learns of them again.
    HoldSchema {
        /// Whether it is kept from learning from now on.
        on: bool,
    },
    /// Coordinate a repair (`nodetool repair --full`).
    Repair {
        /// Its number, by which its outcome is asked for ([`super::Node::repair_state`]).
        number: u64,
        /// What is to be repaired.
        scope: RepairScope,
    },
    /// Compact these tables (`nodetool compact`).
    Compact {
        /// Which.
        tables: Vec<TableId>,
    },
    /// Stop in good order (SIGTERM): announce, answer nothing new, sync, then [`Effect::Stopped`].
    Shutdown,
}

/// What a node wants done. The host performs effects in order.
#[derive(Debug)]
pub enum Effect {
    /// Send to a peer.
    Send {
        /// Whom.
        to: NodeIdx,
        /// What.
        msg: Msg,
    },
    /// Answer a client.
    Reply {
        /// Whom.
        to: ClientRef,
        /// What.
        response: Response,
    },
    /// Append these bytes to the log file. From here they survive the death of the process.
    LogAppend {
        /// Bytes, one piece after the other, after everything appended before. They are shared with the node's memory.
        pieces: Vec<Bytes>,
    },
    /// Sync the log file, then give [`Input::LogSynced`] with the token.
    LogSync {
        /// Token.
        token: u64,
    },
    /// Cut the log file to this length (once, at start, before anything is appended): what follows was torn.
    LogTruncate {
        /// Length, bytes.
        length_bytes: u64,
    },
    /// The node serves clients now: open the CQL port.
    Ready,
    /// A peer's status changed as this node sees it: for STATUS_CHANGE events.
    Status {
        /// Which.
        peer: NodeIdx,
        /// Whether it is up.
        up: bool,
    },
    /// Another node than before has this place in the cluster, and has joined: for TOPOLOGY_CHANGE events.
    Replaced {
        /// Which place.
        peer: NodeIdx,
    },
    /// The schema of this node changed: for SCHEMA_CHANGE events and prepared statements.
    SchemaChanged {
        /// The schema now.
        schema: Arc<Schema>,
    },
    /// A hook said [`super::boundary::Verdict::KillNode`]: kill this node now, process no effect after this one.
    KillSelf,
    /// A hook said [`super::boundary::Verdict::PauseNode`]: freeze this node now.
    PauseSelf {
        /// How long, milliseconds.
        ms: u64,
    },
    /// A repair is over: see [`super::Node::repair_state`].
    RepairEnded {
        /// Its number.
        number: u64,
    },
    /// The node has stopped in good order.
    Stopped,
    /// The node cannot go on and has stopped serving.
    Halted {
        /// Why.
        reason: String,
    },
    /// Something worth recording.
    Event(Event),
}

/// Facts for the trace, the timeline and coverage marks.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each variant is described; fields repeat the words")]
pub enum Event {
    /// A holder keeps a batch.
    BatchKept { batch: BatchId, mutations: u32 },
    /// A holder forgot a batch because it was done.
    BatchForgotten { batch: BatchId },
    /// A holder applied a batch by replay (`complete`), or could not yet (kept) and will try again.
    BatchReplayed {
        batch: BatchId,
        complete: bool,
        age_us: u64,
    },
    /// A replica applied mutations. High rate.
    Applied { mutations: u32, bytes: u32 },
    /// A replica dropped a message that came after its deadline.
    Expired { from: NodeIdx },
    /// A coordinator keeps a hint.
    HintStored { peer: NodeIdx },
    /// A hint could not be kept: the window is over or there are too many.
    HintRefused { peer: NodeIdx },
    /// Hints that waited for this peer were lost on command, or were for one whose place another node took.
    HintsLost { peer: NodeIdx, hints: u64 },
    /// A hint was delivered.
    HintDelivered { peer: NodeIdx },
    /// A peer is seen up or down.
    Status { peer: NodeIdx, up: bool },
    /// A client was told that a write timed out.
    WriteTimeout {
        write_type: WriteType,
        consistency: Consistency,
        received: u32,
        required: u32,
    },
    /// A client was told that a write failed.
    WriteFailure {
        write_type: WriteType,
        consistency: Consistency,
        received: u32,
        required: u32,
    },
    /// A client was told that too few replicas are alive.
    Unavailable {
        consistency: Consistency,
        required: u32,
        alive: u32,
    },
    /// A client was told that a read timed out.
    ReadTimeout {
        consistency: Consistency,
        received: u32,
        required: u32,
    },
    /// Digests differed; these replicas are being repaired.
    ReadRepair { replicas: u32 },
    /// A hook's verdict was carried out.
    Forced { verdict: super::boundary::Verdict },
    /// A write was executed late, with this default timestamp.
    ExecutedLate { timestamp_us: i64 },
    /// The log was read at start.
    Recovered {
        entries: u64,
        valid_bytes: u64,
        lost_bytes: u64,
        generation: u32,
    },
    /// A node was asked about something that its schema does not have yet.
    SchemaUnknown { from: NodeIdx },
    /// The schema changed.
    Schema { change: u64, version: Uuid },
    /// A table was emptied.
    Truncated { table: TableId },
    /// A table was compacted: so many rows and partitions lost something.
    Purged { table: TableId, rows: u64 },
    /// A kind cluster undid a batch.
    RolledBack { batch: BatchId },
    /// An anomaly on record was shown.
    Lied { lie: Lie },
    /// Updates for views were lost on command.
    ViewUpdatesLost { updates: u32 },
    /// This node has built its part of a view.
    ViewBuilt { view: TableId },
    /// This node takes the place of a lost one: it has nothing yet.
    Joining { host_id: Uuid },
    /// It has read so many mutations from others, and serves.
    Joined { mutations: u64 },
    /// This node begins to coordinate a repair of so many ranges, each counted for each table.
    RepairBegun { number: u64, what: String, ranges: u32 },
    /// A repair is over: so many mutations were lacking on replicas. It failed if there is a reason.
    RepairEnded {
        number: u64,
        mutations: u64,
        failed: Option<String>,
    },
}
