//! What a cluster is made of and the constants it runs by. Plain data; the same for all nodes but the node's own part.

use super::flavor::{Flavor, Rules};
use super::knobs::{self, Knob};
use crate::model::{NodeIdx, Schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use uuid::Uuid;

/// When a node's log reaches the disk (`commitlog_sync`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommitlogSync {
    /// Acknowledge first, sync every so often (the default of both servers, 10,000 ms).
    Periodic {
        /// Period, milliseconds.
        period_ms: u64,
    },
    /// Sync before acknowledging.
    Batch,
}

/// Server-side timeouts, milliseconds (`scylla-semantics` section 5; both servers' defaults).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the servers' own")]
pub struct Timeouts {
    pub read_ms: u64,
    pub range_ms: u64,
    pub write_ms: u64,
    pub counter_ms: u64,
    pub cas_contention_ms: u64,
    pub truncate_ms: u64,
    pub other_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            read_ms: 5_000,
            range_ms: 10_000,
            write_ms: 2_000,
            counter_ms: 5_000,
            cas_contention_ms: 1_000,
            truncate_ms: 60_000,
            other_ms: 10_000,
        }
    }
}

/// Ways in which this cluster could be kinder than a real one. All false, always, except in the mutants that prove the
/// scenarios depend on the cluster not being kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kindness {
    /// A batch that fails or times out is undone everywhere, as many believe it is.
    pub rollback_failed_batch: bool,
    /// Every write is synced before it is acknowledged, whatever `commitlog_sync` says.
    pub fsync_every_write: bool,
    /// A write is acknowledged only when its views have it too, as many believe it is.
    #[serde(default)]
    pub synchronous_views: bool,
}

/// When replicas of a base send updates for its views to other nodes: in the background, after other work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewConfig {
    /// Most leave within this, microseconds.
    pub prompt_us: u64,
    /// One in so many leaves late.
    pub late_one_in: u64,
    /// After this, microseconds: from, to (seen: 3-4 % of reads right after the write missed it; 1.8 ms idle, 38 ms loaded,
    /// in the middle; at most 330 ms).
    pub late_us: (u64, u64),
    /// From the creation of a view to the begin of its build, milliseconds: from, to (seen: `built_views` after 2 s).
    pub build_after_ms: (u64, u64),
    /// Rows of the base that a build takes at a time.
    pub build_rows: usize,
    /// Between two such steps, milliseconds.
    pub build_every_ms: u64,
}

impl Default for ViewConfig {
    fn default() -> Self {
        ViewConfig {
            prompt_us: 50,
            late_one_in: 16,
            late_us: (1_000, 40_000),
            build_after_ms: (500, 1_500),
            build_rows: 128,
            build_every_ms: 10,
        }
    }
}

/// How long a replica takes to come to a message of a Paxos round (`paxos::turns`). Fitted to three real nodes on two cores,
/// where a conditional write that nobody outbids took 6 to 12 ms in the middle (`ci/contention`; 5.7 ms here).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaxosConfig {
    /// Most messages, microseconds: from, to.
    pub prompt_us: (u64, u64),
    /// One in so many takes longer.
    pub late_one_in: u64,
    /// So long, microseconds: from, to.
    pub late_us: (u64, u64),
}

impl Default for PaxosConfig {
    fn default() -> Self {
        PaxosConfig {
            prompt_us: (500, 800),
            late_one_in: 10,
            late_us: (1_000, 8_000),
        }
    }
}

/// Gossip and its failure detector. The time to conviction is the flavour's (`Rules::convict_after_ms`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipConfig {
    /// Heartbeat and detection period, milliseconds (both servers: 1000).
    pub interval_ms: u64,
    /// How much longer the time to conviction is than the flavour says, percent: phi counts in mean intervals between
    /// heartbeats, which are a second on an idle machine and a fifth longer on a loaded one (21 to 25 s for 18.9, seen).
    pub slower_percent: u64,
    /// A tick this late means that this node itself was paused: nobody is convicted for it (C `MAX_LOCAL_PAUSE`, 5 s).
    pub local_pause_ms: u64,
    /// From a convicted peer's first heartbeat to UP when it was only silent (seen: 200-300 ms).
    pub up_after_silence_ms: (u64, u64),
    /// From a restarted peer's first heartbeat to UP (seen: about 500 ms).
    pub up_after_restart_ms: (u64, u64),
}

impl Default for GossipConfig {
    fn default() -> Self {
        GossipConfig {
            interval_ms: 1_000,
            slower_percent: 0,
            local_pause_ms: 5_000,
            up_after_silence_ms: (200, 300),
            up_after_restart_ms: (400, 600),
        }
    }
}

/// Hinted handoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintConfig {
    /// `max_hint_window`: a node dead for longer gets no more hints (3 h).
    pub window_ms: u64,
    /// From UP to the first delivery (seen: 0.5-10 s); `HintDelivery::ByFile` does not look at it.
    pub deliver_after_up_ms: (u64, u64),
    /// Hints on the way to one peer at a time. Bounds what a recovering node is hit with.
    pub in_flight_max: usize,
    /// Hints kept per peer; above it they are dropped and counted (C `max_hints_size_per_host` and S
    /// `max_hinted_handoff` bound by bytes; a count bounds memory here).
    pub per_peer_max: usize,
    /// Hints not acknowledged are sent again after this; deliveries begin this often (C `HintsDispatchTrigger`).
    pub retry_ms: u64,
    /// Hints reach the node's log this often (both servers flush hints every 10 s): kill -9 loses younger ones.
    pub flush_every_ms: u64,
}

impl Default for HintConfig {
    fn default() -> Self {
        HintConfig {
            window_ms: 3 * 3600 * 1000,
            deliver_after_up_ms: (500, 10_000),
            in_flight_max: 64,
            per_peer_max: 100_000,
            retry_ms: 10_000,
            flush_every_ms: 10_000,
        }
    }
}

/// A node's clock against simulated time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClockSpec {
    /// Offset, microseconds; positive is fast.
    pub skew_us: i64,
    /// Drift, parts per million; positive gains.
    pub drift_ppm: i64,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Data centre.
    pub dc: String,
    /// Rack.
    pub rack: String,
    /// Address, for system tables and events.
    pub ip: IpAddr,
    /// Identity.
    pub host_id: Uuid,
    /// Its clock.
    pub clock: ClockSpec,
}

/// A cluster.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// `cluster_name`.
    pub name: String,
    /// Nodes, at most 64.
    pub nodes: Vec<NodeSpec>,
    /// Tokens per node. 1 gives one range per node; more give vnodes.
    pub tokens_per_node: usize,
    /// Which server it behaves like.
    pub flavor: Flavor,
    /// Rules of the flavour that no source decides and that turn out the other way here. None, unless said so.
    pub knobs: BTreeSet<Knob>,
    /// When logs are synced.
    pub commitlog_sync: CommitlogSync,
    /// How much later than its time a periodic sync may begin, drawn each time, milliseconds: timers of a busy machine
    /// are late. 0: never.
    pub sync_late_max_ms: u64,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Failure detection.
    pub gossip: GossipConfig,
    /// Hints.
    pub hints: HintConfig,
    /// What percentiles of `speculative_retry` stand for: a read waits this long for its replicas, then asks one more. Real
    /// servers measure latencies; a constant here. Milliseconds.
    pub speculative_retry_ms: u64,
    /// Client requests one coordinator works on at once; above it they are answered Overloaded. Bounds its memory.
    pub in_flight_max: usize,
    /// Minimum age of a batchlog entry before it is replayed, milliseconds (twice the write timeout in both servers).
    pub batchlog_min_age_ms: u64,
    /// Batchlog entries replayed at the same time by one node (S `batchlog_manager::page_size`, replayed in parallel).
    /// Bounds what a replay sends at once.
    pub replay_in_flight_max: usize,
    /// Where coordinators count server timestamps together, for a host that is faster than the servers' clocks: two writes
    /// of one client, one after the other, must not get the same millisecond from two of them. None: each for itself.
    pub one_timestamp_of_all: Option<Arc<AtomicI64>>,
    /// Materialized views.
    pub views: ViewConfig,
    /// Conditional writes and reads at serial levels.
    pub paxos: PaxosConfig,
    /// Kinder than real. Off.
    pub kindness: Kindness,
    /// Schema that every node starts with: an image of the migrated schema.
    pub schema: Arc<Schema>,
    /// Wall clock of simulated time 0, microseconds since the Unix epoch.
    pub wall_base_us: i64,
}

/// 2025-01-01 00:00 UTC: where simulated wall clocks begin.
pub const DEFAULT_WALL_BASE_US: i64 = 1_735_689_600_000_000;

impl ClusterConfig {
    /// The rules of its flavour, with its knobs turned.
    pub fn rules(&self) -> Rules {
        knobs::rules(self.flavor, &self.knobs)
    }

    /// `nodes` nodes in one data centre `dc1`, racks `r1`, `r2`, `r3` in turn, 8 tokens each, addresses 10.0.1.1 and
    /// up, perfect clocks, an empty schema and the flavour's defaults.
    pub fn new(nodes: usize, flavor: Flavor) -> ClusterConfig {
        ClusterConfig {
            name: "quench".to_owned(),
            nodes: (0..nodes).map(node_spec).collect(),
            tokens_per_node: 8,
            flavor,
            knobs: BTreeSet::new(),
            commitlog_sync: CommitlogSync::Periodic { period_ms: 10_000 },
            sync_late_max_ms: 0,
            timeouts: Timeouts::default(),
            gossip: GossipConfig::default(),
            hints: HintConfig::default(),
            speculative_retry_ms: 20,
            in_flight_max: 10_000,
            batchlog_min_age_ms: 4_000,
            replay_in_flight_max: 128,
            one_timestamp_of_all: None,
            views: ViewConfig::default(),
            paxos: PaxosConfig::default(),
            kindness: Kindness::default(),
            schema: Arc::new(Schema::default()),
            wall_base_us: DEFAULT_WALL_BASE_US,
        }
    }

    /// Whether acknowledgements wait for the disk.
    pub fn syncs_before_ack(&self) -> bool {
        self.kindness.fsync_every_write || self.commitlog_sync == CommitlogSync::Batch
    }

    /// All nodes.
    pub fn node_indices(&self) -> impl Iterator<Item = NodeIdx> {
        (0..self.nodes.len()).map(|n| NodeIdx(n as u8))
    }
}

fn node_spec(n: usize) -> NodeSpec {
    NodeSpec {
        dc: "dc1".to_owned(),
        rack: format!("r{}", n % 3 + 1),
        ip: IpAddr::V4(Ipv4Addr::new(10, 0, 1, n as u8 + 1)),
        host_id: Uuid::from_u128(0x0000_0000_5155_4e43_8000_6462_0000_0001 + n as u128),
        clock: ClockSpec::default(),
    }
}
