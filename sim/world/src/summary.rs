//! What a run leaves behind: counters, records and the hash. Plain data, the same in both worlds.

use crate::seed::Seed;
use crate::trace::{HostId, Record};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the network did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NetStats {
    /// Connections opened, refused ones included.
    pub connects: u64,
    /// Writes accepted from programs.
    pub writes: u64,
    /// Bytes accepted from programs.
    pub bytes: u64,
    /// Deliveries and connection events.
    pub events: u64,
    /// Timers of the kernel that fired; events of one instant share one.
    pub timers: u64,
    /// Messages of the cluster that asked for their travel time.
    pub messages: u64,
    /// Of these, how many vanished.
    pub vanished: u64,
}

/// What a disk did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DiskStats {
    /// Reads.
    pub reads: u64,
    /// Writes to the page cache.
    pub writes: u64,
    /// Bytes written to the page cache.
    pub written_bytes: u64,
    /// Syncs of files that succeeded.
    pub syncs: u64,
    /// Syncs of directories.
    pub dir_syncs: u64,
    /// Operations that failed because a fault said so.
    pub faults: u64,
    /// Bytes that a power loss took or tore.
    pub lost_bytes: u64,
}

impl DiskStats {
    /// Adds another disk's counters to these.
    pub fn add(&mut self, other: &DiskStats) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.written_bytes += other.written_bytes;
        self.syncs += other.syncs;
        self.dir_syncs += other.dir_syncs;
        self.faults += other.faults;
        self.lost_bytes += other.lost_bytes;
    }
}

/// A task that panicked. A panic of a spawned task is caught, as tokio does, and reported here besides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskPanic {
    /// Simulated nanoseconds since the run began.
    pub at_ns: u64,
    /// The machine.
    pub host: HostId,
    /// Its name.
    pub host_name: String,
    /// The message of the panic.
    pub message: String,
}

/// Everything a run leaves behind besides its own result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunSummary {
    /// The seed that the run followed from.
    pub seed: Seed,
    /// Hash over the whole trace: draws, deliveries, disk operations and all records.
    pub trace_hash: u64,
    /// Events of the trace, kept or not.
    pub events: u64,
    /// The kept records, in order.
    pub records: Vec<Record>,
    /// Coverage marks and how often each was passed.
    pub marks: BTreeMap<String, u64>,
    /// Draws per labelled stream.
    pub draws: BTreeMap<String, u64>,
    /// What the network did.
    pub net: NetStats,
    /// What all disks together did.
    pub disk: DiskStats,
    /// Tasks that panicked.
    pub panics: Vec<TaskPanic>,
    /// How much time was simulated, in nanoseconds.
    pub sim_time_ns: u64,
}

impl RunSummary {
    /// The hash as reports print it.
    pub fn hash_hex(&self) -> String {
        format!("{:016x}", self.trace_hash)
    }
}
