//! The registry of fault classes. A class is what a scenario asks for, what `--without` switches off and what the
//! planned / fired / bit shares are counted by. It says nothing about how a fault is carried out (see `sim`).
use serde::{Deserialize, Serialize};

/// A kind of fault. The serialised name (kebab-case) is what scenario files, plans and the command line use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Settlement is killed when an event's batch is about to leave; the batch never leaves.
    CrashBeforeBatch,
    /// Settlement is killed after an event's batch has left, before its answer is read.
    CrashAfterBatch,
    /// The coordinator of an event's batch is killed once the batchlog holds it.
    CoordinatorKillAfterBatchlog,
    /// The coordinator of an event's batch is killed after k of its n mutations were sent.
    CoordinatorKillMidBatch,
    /// The client is told WriteTimeout; the batch is never applied.
    TimeoutNeverApplied,
    /// The client is told WriteTimeout; the batch was applied at once.
    TimeoutAppliedAtOnce,
    /// The client is told WriteTimeout; the batchlog's replay applies the batch later with its original timestamp.
    TimeoutAppliedByReplay,
    /// The client is told WriteTimeout; a coordinator that slept executes the batch later with a new server timestamp.
    TimeoutExecutedLate,
    /// The feed delivers events twice.
    DuplicateDelivery,
    /// The feed delivers neighbouring events in the wrong order.
    ReorderedDelivery,
    /// The feed loses events in the middle of the stream.
    SequenceGap,
    /// The feed loses its last events before a silence: only the heartbeat tells.
    TailLoss,
    /// Events are lost while the engine answers replay requests slowly.
    GapSlowReplay,
    /// Events are lost while the engine answers replay requests with fewer events than asked.
    GapPartialReplay,
    /// Events are lost while the engine says that it does not have them any more; later it does.
    GapRefusedReplay,
    /// Events arrive with a bit turned over on the way.
    DamagedDelivery,
    /// Somebody else's event arrives under a sequence of the stream: behind the true one, before it with a broken chain, or
    /// long after it; or a heartbeat with another head.
    ForgedDelivery,
    /// The engine publishes an event whose content contradicts itself.
    RefusedEvent,
    /// The matching engine's process is killed and restarted.
    EngineCrash,
    /// The matching engine's machine loses power as an event leaves it.
    EnginePowerLoss,
    /// A process is killed (kill -9) and restarted; its machine lives on.
    ProcessKill,
    /// Every process is killed at once and restarted; the machines live on.
    ProcessKillAll,
    /// A machine loses power: what was not synced is lost or torn.
    PowerLoss,
    /// Every machine loses power at once.
    PowerLossAll,
    /// Every database node loses power at once; settlement and the engine live on.
    PowerLossDatabase,
    /// A process stands still (SIGSTOP, a long stall) and goes on.
    Pause,
    /// Settlement cannot reach a database node, or not hear from it.
    PartitionClient,
    /// Database nodes cannot reach each other, one way or both.
    PartitionPeer,
    /// Settlement's machine loses power in the middle of an append: the WAL ends in a torn record.
    DiskTornTail,
    /// A write or fsync on settlement's disk fails with EIO.
    DiskEio,
    /// Settlement's disk is full for a while.
    DiskFull,
    /// Settlement's machine comes back with an empty disk.
    DiskLost,
    /// Bits of the WAL that were durable turn over while settlement is away: a person has to set the damage aside.
    DiskRot,
    /// Settlement is killed, and its disk fails reads when it starts again.
    DiskUnreadable,
    /// A coordinator refuses an event's batch as too large: its limit is lower than its neighbours'.
    BatchRejected,
    /// The client is told Unavailable, of a batch that is applied.
    UnavailableYetApplied,
    /// What finished batches leave in the batchlog is not removed, and is replayed.
    BatchlogKept,
    /// No batchlog is replayed for a while.
    ReplayHeld,
    /// An update of several rows of a partition appears in two steps.
    PartitionTorn,
    /// A replica forgets what it promised and accepted in Paxos.
    PaxosForgotten,
    /// Updates of materialized views are lost.
    ViewUpdatesLost,
    /// A node's clock runs ahead.
    ClockAhead,
}

/// What people read about a class.
pub struct Info {
    /// The class.
    pub class: Class,
    /// One sentence: what happens.
    pub about: &'static str,
    /// The one predicate over the trace that says that it changed an outcome.
    pub bit_when: &'static str,
}

macro_rules! classes {
    ($($class:ident: $about:literal, $bit:literal;)*) => {
        /// Every class, in declaration order.
        pub const ALL: &[Info] = &[$(Info { class: Class::$class, about: $about, bit_when: $bit }),*];
    };
}
classes! {
    CrashBeforeBatch: "settlement killed as an event's batch leaves; nothing of it was sent",
        "settlement was killed, and the event's batch reached a coordinator only after the restart";
    CrashAfterBatch: "settlement killed after an event's batch left, before the answer",
        "settlement was killed, and the event's batch reached a coordinator again after the restart";
    CoordinatorKillAfterBatchlog: "coordinator killed after the batchlog write",
        "the coordinator was killed, and the event's batch reached a coordinator again or its entry was replayed";
    CoordinatorKillMidBatch: "coordinator killed after k of n mutations",
        "the coordinator was killed, and the event's batch reached a coordinator again or its entry was replayed";
    TimeoutNeverApplied: "write timeout, never applied",
        "the coordinator answered a write timeout then";
    TimeoutAppliedAtOnce: "write timeout, yet applied at once",
        "the coordinator answered a write timeout then";
    TimeoutAppliedByReplay: "write timeout, applied by the batchlog's replay",
        "the coordinator answered a write timeout then, and a holder replayed an entry of that moment";
    TimeoutExecutedLate: "write timeout, executed late with a new timestamp",
        "the coordinator answered a write timeout then, and a write was executed as much later as was planned";
    DuplicateDelivery: "events delivered twice",
        "settlement counted a duplicate";
    ReorderedDelivery: "neighbouring events swapped",
        "settlement noticed a gap";
    SequenceGap: "events lost in mid-stream",
        "settlement asked for a replay";
    TailLoss: "last events before a silence lost",
        "settlement asked for a replay";
    GapSlowReplay: "events lost while replay is slow",
        "settlement asked for a replay";
    GapPartialReplay: "events lost while replay is partial",
        "settlement asked for a replay and had to ask again";
    GapRefusedReplay: "events lost while replay is refused",
        "settlement asked for a replay and was refused";
    DamagedDelivery: "events damaged on the way, and the first replay that is asked for",
        "settlement counted a damaged event";
    ForgedDelivery: "an event or a head of another stream under a sequence of this one",
        "settlement counted a fork";
    RefusedEvent: "a self-contradicting event is published",
        "settlement wrote a dead letter";
    EngineCrash: "matching engine killed",
        "the engine went down and was restarted";
    EnginePowerLoss: "power loss of the matching engine as it publishes",
        "the engine went down and was restarted";
    ProcessKill: "kill -9 of one process",
        "the machine's process went down and was restarted; for a node, the database noticed or recovered its log";
    ProcessKillAll: "kill -9 of every process",
        "settlement, engine and database went down and were restarted";
    PowerLoss: "power loss of one machine",
        "the machine lost power and was restarted; for a node, the database noticed or recovered its log";
    PowerLossAll: "power loss of all machines",
        "settlement, engine and database lost power and were restarted";
    PowerLossDatabase: "power loss of all database nodes",
        "every database node lost power and was restarted";
    Pause: "a process stands still",
        "the process stood still and went on; for a node, the database or settlement noticed";
    PartitionClient: "settlement cut off from a database node",
        "settlement had to retry, or its acknowledged watermark stood still for half a second while events waited";
    PartitionPeer: "database nodes cut off from each other",
        "the database noticed: a timeout, a hint, a repair, a replay or a node thought down";
    DiskTornTail: "WAL torn by a power loss in mid-append",
        "settlement's machine lost power and bytes of its disk with it, and was restarted";
    DiskEio: "EIO on settlement's disk",
        "a sync of settlement's WAL failed or a file of it was given up";
    DiskFull: "ENOSPC on settlement's disk",
        "a sync of settlement's WAL failed or its intake had to wait";
    DiskLost: "settlement's machine comes back with an empty disk",
        "settlement was killed, its disk was replaced, and it asked for a replay";
    DiskRot: "durable bits of settlement's WAL turn over while it is away",
        "settlement was killed, and at a start it ended and named the damage";
    DiskUnreadable: "EIO when settlement reads its disk at a start",
        "settlement was killed, and at a start it ended and named its disk";
    BatchRejected: "a coordinator refuses an event's batch as too large",
        "settlement took a group of events apart, or sent the batch again";
    UnavailableYetApplied: "a batch is answered Unavailable, yet applied (scylladb #7258)",
        "a coordinator answered Unavailable and applied the batch, or entries were replayed later where it left it to that";
    BatchlogKept: "entries of finished batches stay in the batchlog and are replayed (scylladb #24415)",
        "a holder kept the entry of a finished batch, and entries were replayed later";
    ReplayHeld: "no batchlog is replayed, as when a dead node blocks it (scylladb #25432)",
        "a holder did not replay an entry that was due, and entries were replayed later";
    PartitionTorn: "of an update of several rows of a partition the first appears before the others (scylladb #7170)",
        "a replica applied such an update in two steps";
    PaxosForgotten: "a replica forgets its part of conditional writes, so that two that exclude each other can win (scylladb #7116)",
        "the replica had something to forget when it was asked";
    ViewUpdatesLost: "updates of materialized views are lost (scylladb #13273, #3340)",
        "a replica lost an update that it had for a view";
    ClockAhead: "a node's clock runs ahead, so that writes it stamps win over later ones",
        "the node stamped a write with it";
}

impl Class {
    /// The class's entry in [`ALL`].
    pub fn info(self) -> &'static Info {
        &ALL[self as usize]
    }

    /// The kebab-case name, as in files and on the command line.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            _ => format!("{self:?}"),
        }
    }

    /// The class of that name, or the list of names that exist.
    pub fn parse(name: &str) -> Result<Class, UnknownClass> {
        serde_json::from_value(serde_json::Value::String(name.into())).map_err(|_| UnknownClass {
            name: name.into(),
            known: ALL.iter().map(|info| info.class.name()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// A name that is no fault class.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown fault class `{name}`; the classes are: {known}")]
pub struct UnknownClass {
    name: String,
    known: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_order_is_the_enum_order_and_names_round_trip() {
        for (index, info) in ALL.iter().enumerate() {
            assert_eq!(info.class as usize, index);
            assert_eq!(Class::parse(&info.class.name()), Ok(info.class));
        }
        assert_eq!(Class::ClockAhead as usize + 1, ALL.len());
    }

    #[test]
    fn an_unknown_class_lists_the_known_ones() {
        let text = Class::parse("gremlins").unwrap_err().to_string();
        assert!(text.contains("`gremlins`") && text.contains("crash-before-batch") && text.contains("disk-full"));
    }
}
