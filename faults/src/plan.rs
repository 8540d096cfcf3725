//! One run's faults as data. A plan can be saved, edited and replayed without the seed it was drawn from; the file is
//! JSON with a version. A fault names its moment by a time or by a boundary operation (an event's batch and attempt),
//! never by a running number, so that leaving one fault out does not rename the others.
use crate::class::Class;
use serde::{Deserialize, Serialize};

/// The version of the plan format that this build writes and reads.
pub const PLAN_VERSION: u32 = 2;

/// Every fault of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Format version, [`PLAN_VERSION`].
    pub version: u32,
    /// In order of `id`.
    pub faults: Vec<Fault>,
}

/// One fault: which, when, what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Unique within the plan; trace records refer to it.
    pub id: u32,
    /// What it is counted as.
    pub class: Class,
    /// When it strikes.
    pub when: When,
    /// What it does.
    pub action: Action,
}

/// The moment of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum When {
    /// At this simulated time after the start, in milliseconds.
    AtMs(u64),
    /// At the boundary operation that the action names, for the batch of this event and this attempt (from 1).
    Batch {
        /// The event, by its output sequence.
        output_sequence: u64,
        /// Which sending of its batch, from 1.
        attempt: u32,
    },
    /// When the engine publishes this event.
    Published {
        /// The event, by its output sequence.
        output_sequence: u64,
    },
}

/// A machine of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The host that runs settlement.
    Settlement,
    /// The host that runs the matching engine.
    Engine,
    /// Database node n, from 0.
    Node(u16),
}

/// Where in the life of a batch settlement is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchPoint {
    /// As its first byte is about to leave settlement's host; it does not leave.
    Leaving,
    /// When the coordinator has received it.
    Arrived,
    /// When the coordinator is about to answer.
    Answering,
}

/// What becomes of a batch whose client is told WriteTimeout: the four worlds of an ambiguous answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeoutWorld {
    /// Nothing of it is ever applied.
    NeverApplied,
    /// It is applied at once; only the answer says otherwise.
    AppliedAtOnce,
    /// Part of it is applied at once, the batchlog's replay applies all of it later, with its original timestamps.
    AppliedByReplay {
        /// Mutations that are sent before the timeout; 0 is none, more than there are means all but the last.
        after_mutations: u16,
    },
    /// The coordinator executes it this much later, with a new server timestamp where none was pinned.
    ExecutedLate {
        /// Milliseconds after the timeout was answered.
        after_ms: u64,
    },
}

/// What is forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forged {
    /// The named event: the true one is lost, and the chain of the other does not fit.
    Instead,
    /// The named event, behind the true one.
    Behind,
    /// The first event that was ever delivered, behind the named one.
    Old,
    /// The heartbeat behind the named event: the stream's head has another content.
    Head,
}

/// Where a bit of the WAL turns over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotPlace {
    /// In the file that says whose log it is. It is never written but whole, so that no crash explains what is wrong there.
    Header,
    /// At the beginning of the newest segment: it was durable before that file had its name, so no crash explains it either.
    LastHead,
    /// Anywhere in the segments, the oldest first. At the end of the last one it may look like a crash.
    Anywhere,
}

/// An anomaly on record that the database shows for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// All nodes: what batches leave in the batchlog stays, and is replayed.
    KeepBatchlog,
    /// All nodes: no batchlog is replayed.
    HoldReplay,
    /// All nodes: an update of several rows of a partition appears in two steps.
    TearPartitions,
    /// One node forgets its part of conditional writes.
    ForgetPaxos {
        /// The node, from 0.
        node: u16,
    },
    /// All nodes: what they have for views is lost.
    LoseViewUpdates,
    /// One node's clock is ahead.
    ClockAhead {
        /// The node, from 0.
        node: u16,
        /// By so many milliseconds.
        by_ms: u64,
    },
}

impl Lie {
    /// The node that shows it; none where all do.
    pub fn node(self) -> Option<u16> {
        match self {
            Lie::ForgetPaxos { node } | Lie::ClockAhead { node, .. } => Some(node),
            _ => None,
        }
    }

    /// Whether both are the same anomaly of the same nodes.
    pub fn is_as(&self, other: &Lie) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.node() == other.node()
    }
}

/// What a fault does. Durations are part of the plan, so that a replay needs no draw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Kill settlement around one batch, restart it later.
    CrashSettlement {
        /// Where in the batch's life.
        point: BatchPoint,
        /// Restart delay.
        restart_after_ms: u64,
    },
    /// Kill the coordinator of one batch once its entry is in the batchlog.
    KillCoordinatorAfterBatchlog {
        /// Restart delay.
        restart_after_ms: u64,
    },
    /// Kill the coordinator of one batch after this many of its mutations were sent.
    KillCoordinatorMidBatch {
        /// Mutations sent before the kill, from 1; more than there are means after the last.
        mutations: u32,
        /// Restart delay.
        restart_after_ms: u64,
    },
    /// Answer one batch with a write timeout.
    TimeOutBatch(TimeoutWorld),
    /// Answer one batch Unavailable, and apply it.
    RefuseYetApply {
        /// By the batchlog's replay; at once otherwise.
        by_replay: bool,
    },
    /// The database shows an anomaly on record.
    Lie {
        /// Which.
        lie: Lie,
        /// For how long.
        for_ms: u64,
    },
    /// Deliver `count` events from the named one on twice.
    Duplicate {
        /// How many events.
        count: u32,
    },
    /// Deliver the named event after its `by` successors.
    Delay {
        /// By how many places.
        by: u32,
    },
    /// Lose `count` events from the named one on.
    Drop {
        /// How many events.
        count: u32,
        /// Replay answers take this much longer meanwhile.
        replay_slow_ms: u64,
        /// Replay answers hold at most this many events meanwhile (0: no limit).
        replay_max_entries: u32,
        /// Replay is refused meanwhile: the events are no longer kept.
        #[serde(default)]
        replay_refused: bool,
        /// The feed is silent for this long after the loss, so that only heartbeats can tell (0: it goes on at once).
        silence_ms: u64,
    },
    /// Turn a bit over in `count` events from the named one on.
    Damage {
        /// How many events.
        count: u32,
    },
    /// Deliver another content under a sequence of the stream.
    Forge {
        /// Which, and where.
        how: Forged,
    },
    /// Publish an event that contradicts itself in place of nothing: it takes a sequence of its own.
    PublishRefused {
        /// Which contradiction, by number; the engine maps it onto its list.
        kind: u32,
    },
    /// kill -9, restarted later.
    Kill {
        /// Whose process.
        target: Target,
        /// Restart delay.
        restart_after_ms: u64,
    },
    /// kill -9 of every process at once, restarted later.
    KillAll {
        /// Restart delay.
        restart_after_ms: u64,
    },
    /// Power loss of one machine, back later.
    PowerLoss {
        /// Which machine.
        target: Target,
        /// Until power is back.
        restart_after_ms: u64,
    },
    /// Power loss of every machine at once.
    PowerLossAll {
        /// Until power is back everywhere.
        restart_after_ms: u64,
    },
    /// Power loss of every database node at once.
    PowerLossDatabase {
        /// Until power is back at the first of them.
        restart_after_ms: u64,
        /// How much later than the one before each of the others is back.
        apart_ms: u64,
    },
    /// SIGSTOP, SIGCONT later.
    Pause {
        /// Whose process.
        target: Target,
        /// For how long.
        for_ms: u64,
    },
    /// Cut client traffic between settlement and one node.
    CutClient {
        /// The node, from 0.
        node: u16,
        /// Requests are lost.
        to_node: bool,
        /// Answers are lost.
        from_node: bool,
        /// For how long.
        for_ms: u64,
    },
    /// Cut one node's peer traffic with the other nodes.
    CutPeer {
        /// The node, from 0.
        node: u16,
        /// What others send to it is lost.
        to_node: bool,
        /// What it sends is lost.
        from_node: bool,
        /// For how long.
        for_ms: u64,
    },
    /// Power loss of settlement's machine with its disk set to tear what is unsynced.
    TornTail {
        /// Until power is back.
        restart_after_ms: u64,
    },
    /// The next operations of settlement's disk fail with EIO.
    DiskEio {
        /// Writes that fail.
        writes: u32,
        /// Fsyncs that fail.
        fsyncs: u32,
    },
    /// Settlement's disk has no room left for a while.
    DiskFull {
        /// For how long.
        for_ms: u64,
    },
    /// kill -9 of settlement, which comes back to an empty disk.
    DiskLost {
        /// Restart delay.
        restart_after_ms: u64,
    },
    /// kill -9 of settlement; while it is away a bit of its WAL turns over.
    DiskRot {
        /// In which part of the WAL.
        place: RotPlace,
        /// Where in that part, in thousandths of its bytes.
        at_permille: u16,
        /// Which bit of that byte, from 0.
        bit: u8,
        /// Restart delay.
        restart_after_ms: u64,
    },
    /// kill -9 of settlement; when it is back, reads of its disk fail with EIO.
    DiskUnreadable {
        /// Reads that fail.
        reads: u32,
        /// Restart delay.
        restart_after_ms: u64,
    },
    /// Answer one batch Invalid: "Batch too large"; nothing of it is applied.
    RejectBatch,
}

/// A plan that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not JSON, or not a plan.
    #[error(
        "the plan is not readable: {0}; a plan is the `plan` object of a failure file, or what `cargo quench run --json` prints under `plan`"
    )]
    Unreadable(#[from] serde_json::Error),
    /// Written by another version.
    #[error(
        "the plan has version {found}, this build reads version {PLAN_VERSION}; use the build that wrote it, or draw it again from its seed"
    )]
    Version {
        /// What the file says.
        found: u32,
    },
    /// Two faults share an id.
    #[error("the plan names fault id {id} twice; give each fault an id of its own")]
    DuplicateId {
        /// The id.
        id: u32,
    },
}

impl Plan {
    /// An empty plan of the current version.
    pub fn empty() -> Plan {
        Plan {
            version: PLAN_VERSION,
            faults: Vec::new(),
        }
    }

    /// Parses and checks a plan.
    pub fn from_json(text: &str) -> Result<Plan, PlanError> {
        let plan: Plan = serde_json::from_str(text)?;
        plan.check()?;
        Ok(plan)
    }

    /// Checks version and ids.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.version != PLAN_VERSION {
            return Err(PlanError::Version { found: self.version });
        }
        let mut seen = std::collections::BTreeSet::new();
        for fault in &self.faults {
            if !seen.insert(fault.id) {
                return Err(PlanError::DuplicateId { id: fault.id });
            }
        }
        Ok(())
    }

    /// The plan without the faults of these classes.
    pub fn without(mut self, classes: &[Class]) -> Plan {
        self.faults.retain(|fault| !classes.contains(&fault.class));
        self
    }

    /// How many faults of each class are planned.
    pub fn planned(&self) -> std::collections::BTreeMap<Class, u32> {
        let mut count = std::collections::BTreeMap::new();
        for fault in &self.faults {
            *count.entry(fault.class).or_insert(0) += 1;
        }
        count
    }
}
