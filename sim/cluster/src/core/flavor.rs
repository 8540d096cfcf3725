//! The one table of everything that ScyllaDB and Cassandra do differently here, each line with its source.
//!
//! The core asks [`Flavor::rules`] and never matches on the flavour itself, so this file is the whole difference of what
//! happens. What a coordinator takes and shows otherwise is the table of `cql::dialect`; what is only said in other words
//! (texts, system tables) stands in `cql` where it is said. Sources:
//! S = scylladb branch-2025.4, SP = its `service/storage_proxy.cc`, BM = `db/batchlog_manager.cc`, BS =
//! `cql3/statements/batch_statement.cc`, C = apache/cassandra 5.0, seen = observed on a real Cassandra 5.0.5, `[inf]` =
//! inferred from code, not seen run.

use serde::{Deserialize, Serialize};

/// Which server the cluster behaves like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// ScyllaDB 2025.4.
    #[default]
    Scylla,
    /// Apache Cassandra 5.0.
    Cassandra,
}

/// How statements of a batch merge into mutations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutationUnit {
    /// One mutation per table and partition.
    TablePartition,
    /// One mutation per keyspace and partition key: the same key in two tables is one.
    KeyspacePartition,
}

/// How a batch's size is computed for the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSize {
    /// Bytes of the mutations as they are kept.
    MutationBytes,
    /// Cassandra's `dataSize`: per partition 29, per row its clustering plus 21, per cell its value plus 20.
    DataSize,
}

/// What a replay does with one batchlog entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayMode {
    /// Through the coordinator path at EACH_QUORUM; the entry is kept unless every mutation succeeds.
    EachQuorumOrKeep,
    /// To each live replica; hints for what was not delivered, then the entry is deleted whatever happened.
    LiveReplicasThenHints,
}

/// When the silent replicas of a write get a hint at its timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SilentHint {
    /// Only if the consistency level was reached.
    IfLevelReached,
    /// Always.
    Always,
}

/// What keeps rows of a view alive whose key is that of the base in another order, when columns that the view does not show
/// do so in the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewLiveness {
    /// The view has the cells of those columns, without their values.
    VirtualColumns,
    /// The marker of the view's row gets the newest of their timestamps and the longest of their lives. What that cannot
    /// express is wrong in the view (CASSANDRA-11500).
    Markers,
}

/// How server-side timestamps are made unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerTimestamps {
    /// Microseconds of the node's clock, strictly increasing within one connection.
    PerConnection,
    /// Milliseconds of the node's clock times 1000, strictly increasing over the whole coordinator.
    PerCoordinator,
}

/// The rules of one flavour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// BS `get_mutations` groups by (table, partition); C `BatchStatement` by (keyspace, key) (#15688, #24719, seen).
    pub mutation_unit: MutationUnit,
    /// Acknowledgements awaited of two chosen holders. SP `sync_write_to_batchlog` CL ONE; C `StorageProxy` TWO (seen).
    pub batchlog_block_for: u32,
    /// Consistency and required count named when no holder is alive. SP `Unavailable(ONE, 1, 0)`; seen `(TWO, 2, 0)`.
    pub batchlog_unavailable_required: u32,
    /// Whether the removal of the entry is awaited before the reply. SP `async_remove_from_batchlog` is chained before
    /// the result; C removes in the background (seen).
    pub batchlog_removal_awaited: bool,
    /// How sizes are computed, for LOGGED and UNLOGGED alike. BS `verify_batch_size` (memory of the mutations; the bytes
    /// of the log entries stand for it here); C `BatchStatement.verifyBatchSize` (seen).
    pub batch_size: BatchSize,
    /// `batch_size_warn_threshold_in_kb`: S 128, C 5.
    pub batch_warn_bytes: u64,
    /// `batch_size_fail_threshold_in_kb`: S 1024, C 50.
    pub batch_fail_bytes: u64,
    /// Whether the client is told of warnings. S logs only; C sends them (seen).
    pub client_warnings: bool,
    /// UNLOGGED batches over more partitions than this warn. C `unlogged_batch_across_partitions_warn_threshold` 10;
    /// S has the same option but only logs.
    pub unlogged_partitions_warn: u32,
    /// First batchlog replay after start. BM and C: the ring delay, 30 s.
    pub replay_first_ms: u64,
    /// Batchlog replay period. BM `replay_interval` 60 s; C `REPLAY_INTERVAL` 10 s (seen).
    pub replay_every_ms: u64,
    /// What replay does with an entry. BM `replay_all_failed_batches`; C `BatchlogManager.ReplayingBatch`.
    pub replay_mode: ReplayMode,
    /// Whether entries older than gc_grace are dropped unreplayed. C yes; BM no.
    pub replay_drops_after_gc_grace: bool,
    /// Whether a replica leaves deletions that are older than gc_grace out of what it answers, though they are still there.
    /// C `ReadCommand.withoutPurgeableTombstones` (seen); S `mutation_compactor.hh`: reads know no time before which to drop.
    pub reads_drop_purgeable: bool,
    /// Tombstones that a read of one replica may come across; with more it fails. C `tombstone_failure_threshold` (seen); S
    /// has the option, and no bound by default.
    pub read_tombstones_max: u32,
    /// With more than so many the client is warned, by the copy of the coordinator itself. C `tombstone_warn_threshold`
    /// (seen); S writes it to its log.
    pub read_tombstones_warn: u32,
    /// How much sooner than gc_grace a hint is dropped for its age, seconds: deletions that it knows nothing of may be gone by
    /// then. C `Hint.isLive`; S `hint_sender::send_one_hint`, `hints_flush_period`.
    pub hint_expires_early_s: u64,
    /// SP `abstract_write_response_handler::timeout_cb`; C `RequestCallbacks` expiry (163 of 163, seen).
    pub silent_hint: SilentHint,
    /// Whether a replica that reported failure gets a hint like a silent one. SP keeps it among the handler's targets; C
    /// `AbstractWriteResponseHandler.onFailure` (`hintOnFailure`, 5.0.5; seen where a view's replica was down).
    pub failed_are_hinted: bool,
    /// SP `client_state::get_timestamp`; C `ClientState.getTimestamp` (unique per coordinator, ms granularity, seen).
    pub server_timestamps: ServerTimestamps,
    /// Whether a new element of a list stands where the write's timestamp puts it. S `cql3/lists.cc` since 4.5 `[inf]`; C
    /// takes the coordinator's clock (`UpdateParameters.nextTimeUUIDAsBytes`).
    pub list_order_is_timestamp: bool,
    /// Whether the leader of a counter's addition tells a coordinator that it failed. SP `mutate_counters_on_leader` throws
    /// to it; C `CounterMutationVerbHandler` answers success only.
    pub leader_tells_failure: bool,
    /// Whether a refused or reset peer connection counts as the replica's failure at once. SP `got_failure_response` on
    /// `rpc::closed_error` `[inf]`; C waits for the timeout (seen).
    pub reset_is_failure: bool,
    /// Whether a batch without conditions may be written at SERIAL, which then is QUORUM. C checks single statements only
    /// (seen); S `validate_for_write` `[inf]`.
    pub serial_batches: bool,
    /// How far ahead of the node's clock USING TIMESTAMP may be, microseconds. S `restrict_future_timestamp`, true by default,
    /// three days; C has a guardrail that is off (`maximum_timestamp_fail_threshold`).
    pub timestamp_ahead_max_us: Option<i64>,
    /// Whether reads at EACH_QUORUM are served. C since 3.0 (seen); S `validate_for_read` refuses them.
    pub each_quorum_reads: bool,
    /// How long acknowledged log bytes may sit in the process before they reach the kernel, in periodic mode: what
    /// kill -9 loses. S keeps the buffer until the sync (10 s, #16872, #25883); C writes a marker every 100 ms (lost at
    /// most 55 ms, seen).
    pub log_flush_every_ms: u64,
    /// The process writes its log buffer out when it holds this much. S `db::commitlog::segment::default_size` 128 KiB;
    /// C's segments are mapped: the marker alone counts.
    pub log_buffer_bytes: usize,
    /// In periodic mode, acknowledgements wait once the oldest unsynced byte is this many percent of the period old. S
    /// `segment::must_sync` 200; C `periodic_commitlog_sync_lag_block` 150.
    pub sync_lag_percent: u64,
    /// How long a conditional write tries anew when it is outbid. S `cas_contention_timeout_in_ms` 1000; C
    /// `cas_contention_timeout` 1800 ms (about 1.8 s, seen).
    pub cas_contention_ms: u64,
    /// Whether a serial read whose Paxos round times out is told as a read: ReadTimeout with nothing received. C
    /// `StorageProxy.legacyReadWithPaxos` (seen); S answers the round's own error `[inf]`.
    pub serial_read_times_out: bool,
    /// Whether what Paxos keeps, and what it commits, is on the disk before it is told, whatever `commitlog_sync` says. S
    /// `system_keyspace.cc` (`wait_for_sync_to_commitlog` of `system.paxos`); C writes it as anything else
    /// (`SystemKeyspace.savePaxosWritePromise`).
    pub paxos_is_synced: bool,
    /// Whether a proposal that somebody else left is proposed again with the new ballot's time on its cells. C
    /// `Commit.newProposal`; S proposes it as it is.
    pub paxos_restamps: bool,
    /// Whether deletions of partitions and ranges are a microsecond older than what else a conditional request writes, so that
    /// rows of the same request stay. C `PartitionUpdate.updateAllTimestamp` (seen); S writes all at the ballot's time.
    pub cas_deletions_are_older: bool,
    /// Whether what was decided before its table was truncated is not applied after it. S `paxos_state::learn` compares the
    /// ballot with the time of the truncation; C compares microseconds with milliseconds, and applies it `[inf]`.
    pub paxos_minds_truncation: bool,
    /// Whether the commit of a conditional write is hinted for replicas that are away. C yes (seen); S no (SP: learn
    /// without hints).
    pub cas_is_hinted: bool,
    /// Whether any live replica may lead an addition to a counter, not the coordinator if it is one. C
    /// `StorageProxy.findSuitableReplica` (seen: a frozen one leads a third); S `find_leader_for_counter_update` takes itself.
    pub counter_leader_is_drawn: bool,
    /// How much longer than a write the leader of a counter's addition waits for the other replicas at most, milliseconds;
    /// none: as long as for a counter. C: the messages expire as mutations do, `RequestCallbacks` finds them expired within a
    /// second more, and that ends it (2.1 to 2.9 s, seen); S `counter_write_request_timeout`.
    pub counter_mutations_expire_after_ms: Option<u64>,
    /// One in so many reads asks another replica for the data although its coordinator has them, and asks no third one when
    /// that is silent; 0: none does. C's dynamic snitch thinks now and then that another is nearer (reads at QUORUM that
    /// timed out without data: 44 of 580 beside a frozen node, none of 580 beside one that was cut off, seen); S has none.
    pub data_from_afar_one_in: u64,
    /// One in so many reads asks other replicas only, though its coordinator has the data, for the same reason; 0: none does.
    /// C: of reads that followed seven seconds in which two of three nodes stood still, one in thirteen did not see what the
    /// third alone had (seen); S has no snitch that judges.
    pub data_elsewhere_one_in: u64,
    /// Whether two replicas are asked for the data, and not only for a digest, where `speculative_retry = ALWAYS` has all of
    /// them asked. SP `get_read_executor` (`always_speculating_read_executor`); C `AbstractReadExecutor.getReadExecutor` takes
    /// one that never speculates then, and waits for the one it asked for the data (seen).
    pub always_asks_two_of_all: bool,
    /// How hints wait for their peers.
    pub hint_delivery: HintDelivery,
    /// Whether an operation is over when its answers come after its deadline, because its node stood still. C
    /// `AbstractWriteResponseHandler.get` (seen); S runs what is in its sockets before its timers `[inf]`.
    pub late_answers_time_out: bool,
    /// Of LOGGED batches and Paxos rounds that wait in the sockets of a node that stands still, so many never leave it when it
    /// goes on. C: seen; S: not known, none.
    pub lost_on_waking: u32,
    /// Of the messages of writes that go to or come from a node that goes on, one in so many is lost; 0: none. C: seen
    /// (acknowledgements of writes at ALL and of batchlogs, 0 to 3 of some 160 in three runs); S: not known, none.
    pub lost_messages_on_waking_one_in: u64,
    /// Of the Paxos rounds that wait in its sockets, behind the first ones, one in so many proposes and hears no answer; 0: none does. C: 40, 33 and
    /// none of 480 that nobody waited for any more, 5 and 2 of 240 others, seen; S: not known, none.
    pub deaf_rounds_on_waking_one_in: u64,
    /// Of messages on their way when their sender's process is stopped, so many percent had not left it: they expire in its
    /// queues or die with it. C: seen (parts of UNLOGGED batches in flight at a strike); S: not known, none.
    pub unsent_at_strike_percent: u64,
    /// Of messages that expired in the sockets of a node that stood still, so many percent are taken all the same. C: its
    /// coarse clock still stands where it did (12 of 99 batchlogs, seen); S: not known, none.
    pub expired_pass_on_waking_percent: u64,
    /// Whether all steps of a conditional write share one timeout, from its beginning. C `Dispatcher.RequestTime` (2.1 s,
    /// seen); S each its own (SP `paxos_response_handler`).
    pub cas_has_one_timeout: bool,
    /// Silence after which a peer is convicted. C phi 8 at one heartbeat a second (18.4-19.6 s, seen); S
    /// `failure_detector_timeout_in_ms` 20 s less the age of the last answer.
    pub convict_after_ms: u64,
    /// Rows of views and columns that the views do not show. S `create_virtual_column` (`db/view/view.cc`, #3362); C
    /// `ViewUpdateGenerator.computeLivenessInfoForEntry`.
    pub view_liveness: ViewLiveness,
    /// Whether nothing is sent to a view for a write that changes nothing of its row. S `can_skip_view_updates`; C
    /// `ViewUpdateGenerator.updateEntry` sends the marker at least.
    pub view_skips_unchanged: bool,
    /// Whether a replica of the base keeps updates for other nodes in its own batchlog until they are acknowledged, to be
    /// replayed. C `StorageProxy.mutateMV`; S keeps them in memory, what is under way is lost with the process (#3340).
    pub view_batchlog: bool,
    /// Whether a write to the base fails on a replica whose partner for the view is down. C `ReplicaPlans.forWrite` at ONE in
    /// `mutateMV` (WriteFailure, seen); S keeps a hint (`view_update_generator::mutate_MV`, `allow_hints`).
    pub view_needs_partner: bool,
    /// How long an update may be under way, milliseconds; then there is a hint. C `write_request_timeout` (2 s); S 5 minutes
    /// (SP `send_to_endpoint`).
    pub view_timeout_ms: u64,
    /// Whether the build of a view waits for the updates it sent before it goes on. S `wait_for_all_updates` (SP, `db/view`);
    /// C `ViewBuilderTask` does not.
    pub view_build_waits: bool,
    /// Whether a replica that is asked about a table or a column it has not heard of fetches the schema from the sender, and
    /// then does what it was asked. S `migration_manager::get_schema_for_write`, `get_schema_for_read`; C cannot read such a
    /// message (`UnknownTableException`, `UnknownColumnException`) and answers INCOMPATIBLE_SCHEMA
    /// (`InboundSink`, `RequestFailureReason.forException`).
    pub fetches_schema: bool,
    /// Whether a change of the schema is answered as soon as the coordinator has it. C `Schema.transform` tells others in
    /// the background (seen: with a node frozen); S when a majority has it too (group 0 commits it).
    pub schema_answered_alone: bool,
    /// Whether a node in the place of a lost one reads each range from one replica. C `RangeStreamer` (`bootstrap`); S reads
    /// from all that live (`enable_repair_based_node_ops`, `allowed_repair_based_node_ops` has `replace`).
    pub replace_reads_one: bool,
    /// Whether it has a host id of its own. S `storage_service::prepare_replacement_info` since raft topology; C keeps the
    /// one of the lost node at the same address (`StorageService.prepareForReplacement`: "so we receive hints, etc").
    pub replace_has_new_id: bool,
    /// Whether writes are sent to it before it has joined, and wait for it beside their level. S pending replicas
    /// (`effective_replication_map::get_pending_replicas`) `[inf]`; C at the same address is `hibernate`, a dead state, and is
    /// written hints for.
    pub replace_gets_writes: bool,
    /// Whether a repair is refused, and given up, when a replica is down. C refuses (`Endpoint not alive: …`, seen) and `RepairSession.convict`; S repairs
    /// each range among those that live and says at the end how many ranges failed (`repair/repair.cc`,
    /// `shard_repair_task_impl::repair_range`).
    pub repair_needs_all: bool,
}

const SCYLLA: Rules = Rules {
    mutation_unit: MutationUnit::TablePartition,
    batchlog_block_for: 1,
    batchlog_unavailable_required: 1,
    batchlog_removal_awaited: true,
    batch_size: BatchSize::MutationBytes,
    batch_warn_bytes: 128 << 10,
    batch_fail_bytes: 1024 << 10,
    client_warnings: false,
    unlogged_partitions_warn: 10,
    replay_first_ms: 30_000,
    replay_every_ms: 60_000,
    replay_mode: ReplayMode::EachQuorumOrKeep,
    replay_drops_after_gc_grace: false,
    reads_drop_purgeable: false,
    read_tombstones_max: u32::MAX,
    read_tombstones_warn: u32::MAX,
    hint_expires_early_s: 10,
    silent_hint: SilentHint::IfLevelReached,
    failed_are_hinted: true,
    server_timestamps: ServerTimestamps::PerConnection,
    list_order_is_timestamp: true,
    leader_tells_failure: true,
    reset_is_failure: true,
    serial_batches: false,
    timestamp_ahead_max_us: Some(3 * 24 * 3_600 * 1_000_000),
    each_quorum_reads: false,
    log_flush_every_ms: 10_000,
    log_buffer_bytes: 128 << 10,
    sync_lag_percent: 200,
    cas_contention_ms: 1_000,
    serial_read_times_out: false,
    paxos_is_synced: true,
    paxos_restamps: false,
    cas_deletions_are_older: false,
    paxos_minds_truncation: true,
    cas_is_hinted: false,
    counter_leader_is_drawn: false,
    counter_mutations_expire_after_ms: None,
    data_from_afar_one_in: 0,
    data_elsewhere_one_in: 0,
    always_asks_two_of_all: true,
    hint_delivery: HintDelivery::Prompt,
    late_answers_time_out: false,
    lost_on_waking: 0,
    unsent_at_strike_percent: 0,
    lost_messages_on_waking_one_in: 0,
    deaf_rounds_on_waking_one_in: 0,
    expired_pass_on_waking_percent: 0,
    cas_has_one_timeout: false,
    convict_after_ms: 19_000,
    view_liveness: ViewLiveness::VirtualColumns,
    view_skips_unchanged: true,
    view_batchlog: false,
    view_needs_partner: false,
    view_timeout_ms: 300_000,
    view_build_waits: true,
    fetches_schema: true,
    schema_answered_alone: false,
    replace_reads_one: false,
    replace_has_new_id: true,
    replace_gets_writes: true,
    repair_needs_all: false,
};

const CASSANDRA: Rules = Rules {
    mutation_unit: MutationUnit::KeyspacePartition,
    batchlog_block_for: 2,
    batchlog_unavailable_required: 2,
    batchlog_removal_awaited: false,
    batch_size: BatchSize::DataSize,
    batch_warn_bytes: 5 << 10,
    batch_fail_bytes: 50 << 10,
    client_warnings: true,
    unlogged_partitions_warn: 10,
    replay_first_ms: 30_000,
    replay_every_ms: 10_000,
    replay_mode: ReplayMode::LiveReplicasThenHints,
    replay_drops_after_gc_grace: true,
    reads_drop_purgeable: true,
    read_tombstones_max: 100_000,
    read_tombstones_warn: 1_000,
    hint_expires_early_s: 0,
    silent_hint: SilentHint::Always,
    failed_are_hinted: true,
    server_timestamps: ServerTimestamps::PerCoordinator,
    list_order_is_timestamp: false,
    leader_tells_failure: false,
    reset_is_failure: false,
    serial_batches: true,
    timestamp_ahead_max_us: None,
    each_quorum_reads: true,
    log_flush_every_ms: 100,
    log_buffer_bytes: usize::MAX,
    sync_lag_percent: 150,
    cas_contention_ms: 1_800,
    serial_read_times_out: true,
    paxos_is_synced: false,
    paxos_restamps: true,
    cas_deletions_are_older: true,
    paxos_minds_truncation: false,
    cas_is_hinted: true,
    counter_leader_is_drawn: true,
    counter_mutations_expire_after_ms: Some(1_000),
    data_from_afar_one_in: 24,
    data_elsewhere_one_in: 48,
    always_asks_two_of_all: false,
    hint_delivery: HintDelivery::ByFile,
    late_answers_time_out: true,
    lost_on_waking: 3,
    unsent_at_strike_percent: 50,
    lost_messages_on_waking_one_in: 150,
    deaf_rounds_on_waking_one_in: 16,
    expired_pass_on_waking_percent: 12,
    cas_has_one_timeout: true,
    convict_after_ms: 18_900,
    view_liveness: ViewLiveness::Markers,
    view_skips_unchanged: false,
    view_batchlog: true,
    view_needs_partner: true,
    view_timeout_ms: 2_000,
    view_build_waits: false,
    fetches_schema: false,
    schema_answered_alone: true,
    replace_reads_one: true,
    replace_has_new_id: false,
    replace_gets_writes: false,
    repair_needs_all: true,
};

/// When hints are delivered to a peer that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HintDelivery {
    /// Some time after it came up, or after they were made (S: its sender looks every second; drawn from
    /// `HintConfig::deliver_after_up_ms`).
    Prompt,
    /// By two clocks of the node that has them: one writes them to the peer's file, the other delivers the files that are
    /// closed and closes the one that is open, so that it has its turn the next time (C `HintsDispatchTrigger`,
    /// `HintsService`).
    ByFile,
}

impl Flavor {
    /// The rules of this flavour.
    pub fn rules(self) -> &'static Rules {
        match self {
            Flavor::Scylla => &SCYLLA,
            Flavor::Cassandra => &CASSANDRA,
        }
    }

    /// The one that it is not.
    pub fn other(self) -> Flavor {
        match self {
            Flavor::Scylla => Flavor::Cassandra,
            Flavor::Cassandra => Flavor::Scylla,
        }
    }

    /// Its name, as configuration files write it.
    pub fn name(self) -> &'static str {
        match self {
            Flavor::Scylla => "scylla",
            Flavor::Cassandra => "cassandra",
        }
    }
}
