//! One node: its state, and [`Node::step`], the only way in.
//!
//! A node is a replica and a coordinator at once. It does no I/O and reads no clock: the host tells it what happened and
//! when, and performs the effects it appends. The work is in the sibling modules, each an `impl Node`: `replica` (what
//! replicas do), `plan`, `write` and `verdict` (coordinating writes), `reads`, `paxos`, `gossip`, `hints`, `replay`, `agree` (schema and
//! truncation), `persist` (the log's life), `views`.

use super::agree::{SchemaOp, SchemaQueue, TruncateOp};
use super::behind::Behind;
use super::boundary::{Boundary, BoundaryHook, Point, Subject, Verdict};
use super::clock::Clock;
use super::config::{ClockSpec, ClusterConfig};
use super::counters::CounterOp;
use super::derived::DerivedOp;
use super::flavor::Rules;
use super::gossip::{NodeFacts, Peer};
use super::hints::Hints;
use super::join::Membership;
use super::key::KeyLayout;
use super::levels::Levels;
use super::lies::{Lie, Lies};
use super::message::{ClientRef, Effect, Event, Input, Msg, OpId};
use super::paxos::{CasOp, Turns};
use super::reads::ReadOp;
use super::replica::Replica;
use super::ring::{NodeSet, Placement, Ring};
use super::rng::Rng;
use super::sweep::{Repairs, SweepOp};
use super::timers::{Slab, Timer, Timers};
use super::verdict::Parked;
use super::views::Views;
use super::waking::Waking;
use super::write::WriteOp;
use crate::model::{
    CoordinatorError, NodeIdx, Request, Response, Schema, SpeculativeRetry, TableId, Warning, WriteType,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What the node is doing with its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading its log, meeting its peers.
    Starting,
    /// Serving.
    Serving,
    /// Told to stop; finishes what it has.
    Stopping,
    /// Dead, stopped, or unable to go on. Nothing more comes out of it.
    Halted,
}

/// An operation this node coordinates.
#[derive(Debug)]
pub(super) enum Op {
    Write(Box<WriteOp>),
    Read(Box<ReadOp>),
    Cas(Box<CasOp>),
    Derived(Box<DerivedOp>),
    Counter(Box<CounterOp>),
    Parked(Box<Parked>),
    Schema(Box<SchemaOp>),
    Truncate(Box<TruncateOp>),
    Sweep(Box<SweepOp>),
}

/// What a step works with: the time, the hook if one is armed, and where effects go.
pub(super) struct Cx<'a> {
    pub now_us: u64,
    pub hook: Option<&'a mut dyn BoundaryHook>,
    pub fx: &'a mut Vec<Effect>,
}

impl Cx<'_> {
    pub fn event(&mut self, event: Event) {
        self.fx.push(Effect::Event(event));
    }
}

/// A node of the cluster.
pub struct Node {
    pub(super) me: NodeIdx,
    pub(super) config: Arc<ClusterConfig>,
    pub(super) rules: Arc<Rules>,
    pub(super) ring: Arc<Ring>,
    pub(super) levels: Levels,
    pub(super) phase: Phase,
    pub(super) generation: u32,
    pub(super) schema: Arc<Schema>,
    /// Placement per table number.
    pub(super) placements: Vec<Option<Arc<Placement>>>,
    /// When reads ask one replica more, per table number.
    pub(super) retries: Vec<SpeculativeRetry>,
    pub(super) replica: Replica,
    pub(super) ops: Slab<Op>,
    pub(super) timers: Timers,
    pub(super) peers: Vec<Peer>,
    pub(super) facts: Vec<NodeFacts>,
    pub(super) hints: Hints,
    pub(super) lies: Lies,
    pub(super) schema_queue: SchemaQueue,
    pub(super) behind: Behind,
    pub(super) clock: Clock,
    pub(super) connections: BTreeMap<u64, i64>,
    pub(super) rng: Rng,
    /// Of its own: when a log is synced changes no other draw.
    pub(super) sync_rng: Rng,
    /// When the periods of the log's sync begin, from the first time that one is set.
    pub(super) sync_phase_us: Option<u64>,
    pub(super) next_batch: u64,
    /// Time of this node's newest ballot.
    pub(super) last_ballot_us: i64,
    /// Time of the newest element that this node put into a list.
    pub(super) last_list_us: i64,
    /// Messages of this node to itself, worked off before a step ends.
    pub(super) loopback: VecDeque<Msg>,
    /// When the last run of the batchlog replay began.
    pub(super) replay_began_us: u64,
    /// Whether entries to replay are being chosen just now.
    pub(super) replay_choosing: bool,
    pub(super) views: Views,
    pub(super) turns: Turns,
    pub(super) waking: Waking,
    pub(super) repairs: Repairs,
    pub(super) membership: Membership,
    /// Peers that take the place of lost nodes and do not have the data yet.
    pub(super) pending: NodeSet,
    /// Peers with another identity than before, until they are up.
    pub(super) renewed: NodeSet,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("me", &self.me)
            .field("phase", &self.phase)
            .field("generation", &self.generation)
            .finish()
    }
}

/// Tells the draws of syncs from the others of a seed.
const SYNC_DRAWS: u64 = 0x73_79_6e_63;

impl Node {
    /// A node that has not started. `seed` fixes every draw it will make.
    pub fn new(config: Arc<ClusterConfig>, me: NodeIdx, seed: u64) -> Node {
        let ring = Arc::new(Ring::new(&config));
        let mut rng = Rng::new(seed);
        let first_stamp = rng.next_u64() as u32;
        let mut clock = Clock::new(config.wall_base_us, config.nodes[usize::from(me.0)].clock);
        if let Some(last_us) = &config.one_timestamp_of_all {
            clock.share(last_us.clone());
        }
        let mut node = Node {
            me,
            rules: Arc::new(config.rules()),
            levels: Levels::new(&ring, me),
            phase: Phase::Starting,
            generation: 0,
            schema: config.schema.clone(),
            placements: vec![],
            retries: vec![],
            replica: Replica::default(),
            ops: Slab::new(first_stamp),
            timers: Timers::default(),
            peers: vec![Peer::default(); config.nodes.len()],
            facts: vec![NodeFacts::default(); config.nodes.len()],
            hints: Hints::default(),
            lies: Lies::default(),
            schema_queue: SchemaQueue::default(),
            behind: Behind::default(),
            clock,
            connections: BTreeMap::new(),
            rng,
            sync_rng: Rng::new(seed ^ SYNC_DRAWS),
            sync_phase_us: None,
            next_batch: 0,
            last_ballot_us: 0,
            last_list_us: 0,
            loopback: VecDeque::new(),
            replay_began_us: 0,
            replay_choosing: false,
            views: Views::default(),
            turns: Turns::default(),
            waking: Waking::default(),
            repairs: Repairs::default(),
            membership: Membership::default(),
            pending: NodeSet::default(),
            renewed: NodeSet::default(),
            ring,
            config,
        };
        node.install_schema();
        node
    }

    /// Gives the node something that happened. Effects are appended to `fx`, in order. `hook` is consulted at boundary
    /// points; `None` costs nothing.
    pub fn step<'a>(
        &mut self,
        now_us: u64,
        input: Input,
        hook: Option<&'a mut dyn BoundaryHook>,
        fx: &'a mut Vec<Effect>,
    ) {
        if self.phase == Phase::Halted {
            return;
        }
        self.waking.step(now_us);
        if let Input::Peer { msg, .. } = &input
            && self.is_message_lost_on_waking(now_us, msg)
        {
            return;
        }
        let cx = &mut Cx { now_us, hook, fx };
        match input {
            Input::Client { from, request } => self.client(cx, from, request),
            Input::Disconnected { conn } => {
                self.connections.remove(&conn);
            }
            Input::Peer { from, msg } => self.peer(cx, from, msg),
            Input::PeerReset { peer } => self.peer_reset(cx, peer),
            Input::Tick => self.tick(cx),
            Input::LogSynced { token } => self.log_synced(cx, token),
            Input::LogFailed { error } => self.halt(cx, format!("commit log: {error}")),
            Input::Shutdown => self.shutdown(cx),
            Input::Handoff { on } => self.hints.is_off = !on,
            Input::LoseHints { peer } => self.lose_hints(cx, peer),
            Input::Lie { lie, on } => self.lie(lie, on),
            Input::ViewUpdates { fault } => self.set_view_fault(cx, fault),
            Input::HoldSchema { on } => self.hold_schema(cx, on),
            Input::Repair { number, scope } => self.start_repair(cx, number, &scope),
            Input::Compact { tables } => self.compact_tables(cx, &tables),
        }
        self.finish_step(cx);
    }

    /// When the node wants its next [`Input::Tick`], simulated microseconds. Ask after every step; `None` when it has
    /// nothing to wait for.
    pub fn next_deadline_us(&mut self) -> Option<u64> {
        let ops = &self.ops;
        self.timers.next(|t| match t {
            Timer::Deadline(id) | Timer::Resume(id) | Timer::Speculate(id) => ops.contains(*id),
            _ => true,
        })
    }

    fn client(&mut self, cx: &mut Cx<'_>, from: ClientRef, request: Request) {
        if self.phase != Phase::Serving {
            let what = "the node is not serving requests".to_owned();
            return self.answer_error(cx, from, CoordinatorError::Overloaded { what });
        }
        if self.ops.len() >= self.config.in_flight_max {
            let what = format!("{} requests under way", self.ops.len());
            return self.answer_error(cx, from, CoordinatorError::Overloaded { what });
        }
        match request {
            Request::Write(w) if w.kind.is_counter() => self.client_counter(cx, from, w),
            Request::Write(w) => self.client_write(cx, from, w),
            Request::Read(r) => self.client_read(cx, from, r),
            Request::Cas(c) => self.client_cas(cx, from, *c),
            Request::Derived(d) => self.client_derived(cx, from, *d),
            Request::Schema(change) => self.client_schema(cx, from, change),
            Request::Truncate(table) => self.client_truncate(cx, from, table),
            Request::Unsupported { what } => self.answer_error(cx, from, CoordinatorError::Unsupported { what }),
        }
    }

    pub(super) fn peer(&mut self, cx: &mut Cx<'_>, from: NodeIdx, msg: Msg) {
        if self.is_told(Lie::TearPartitions) && self.tear(cx, from, &msg) {
            return;
        }
        match msg {
            Msg::Mutate {
                op,
                group,
                sealed,
                which,
                expires_us,
                undo,
            } => {
                self.replica_mutate(cx, from, op, group, &sealed, &which, expires_us, undo);
            }
            Msg::Mutated { op, group, failed } => self.on_mutated(cx, from, op, group, failed),
            Msg::StoreBatch {
                op,
                id,
                sealed,
                written_at_us,
                expires_us,
            } => {
                self.replica_store_batch(cx, from, op, id, sealed, written_at_us, expires_us);
            }
            Msg::BatchKept { op, failed } => self.on_batch_kept(cx, from, op, failed),
            Msg::RemoveBatch { op, id } => self.replica_remove_batch(cx, from, op, id),
            Msg::BatchForgotten { op } => self.on_batch_forgotten(cx, from, op),
            Msg::UndoBatch { id } => self.replica_undo_batch(cx, id),
            Msg::Hint { expires_us, .. } if cx.now_us > expires_us => cx.event(Event::Expired { from }),
            Msg::Hint {
                number,
                sealed,
                index,
                created_us,
                ..
            } => self.replica_hint(cx, from, number, &sealed, index, created_us),
            Msg::HintApplied { number } => self.on_hint_applied(cx, from, number),
            Msg::Read {
                op,
                part,
                round,
                query,
                digest,
                expires_us,
            } => {
                self.replica_read(cx, from, op, part, round, &query, digest, expires_us);
            }
            Msg::ReadData { op, part, round, rows } => self.on_read_data(cx, from, op, part, round, *rows),
            Msg::ReadDigest {
                op,
                part,
                round,
                digest,
            } => self.on_read_digest(cx, from, op, part, round, digest),
            Msg::ReadRefused {
                op,
                part,
                round,
                reason,
            } => self.on_read_refused(cx, from, op, part, round, reason),
            Msg::Promised { op, ballot, promise } => self.on_promised(cx, from, op, ballot, *promise),
            Msg::Accepted { op, ballot, granted } => self.on_accepted(cx, from, op, ballot, granted),
            Msg::Prepare { .. } | Msg::Propose { .. } | Msg::Commit { .. } => self.await_turn(cx, from, msg),
            Msg::Committed { op, ballot } => self.on_committed(cx, from, op, ballot),
            Msg::Lead {
                op,
                sealed,
                index,
                consistency,
                expires_us,
            } => self.replica_lead(cx, from, op, &sealed, index, consistency, expires_us),
            Msg::Led { op, failed } => self.on_led(cx, op, failed),
            Msg::Heartbeat {
                generation,
                schema_change,
                schema_version,
                host_id,
                is_joining,
            } => {
                if generation >= self.peer_generation(from) {
                    self.note_membership(cx, from, host_id, is_joining);
                }
                self.on_heartbeat(cx, from, generation, (schema_change, schema_version));
            }
            Msg::Leaving { generation } => self.on_leaving(cx, from, generation),
            Msg::ProposeSchema {
                op,
                change,
                wall_us,
                expires_us,
            } => self.on_propose_schema(cx, from, op, *change, wall_us, expires_us),
            Msg::SchemaDecided { op, outcome } => self.on_schema_decided(cx, op, outcome),
            Msg::AdoptSchema { op, schema, is_needed } => self.on_adopt_schema(cx, from, op, schema, is_needed),
            Msg::SchemaAdopted { op } => self.on_schema_adopted(cx, from, op),
            Msg::PullSchema { is_needed } => self.send(
                cx,
                from,
                Msg::AdoptSchema {
                    op: None,
                    schema: self.schema.clone(),
                    is_needed,
                },
            ),
            Msg::Truncate { op, table } => self.replica_truncate(cx, from, op, table),
            Msg::Truncated { op } => self.on_truncated(cx, from, op),
            Msg::ViewStatus { view, is_built } => self.views.set_status(view, from, is_built),
        }
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        while let Some((at_us, timer)) = self.timers.due(cx.now_us) {
            match timer {
                Timer::Deadline(id) => self.on_deadline(cx, id),
                Timer::Resume(id) => self.on_resume(cx, id),
                Timer::Speculate(id) => self.on_speculate(cx, id),
                Timer::Gossip => self.on_gossip(cx, at_us),
                Timer::PeerUp(peer) => self.on_peer_up(cx, peer, at_us),
                Timer::LogFlush => self.on_log_flush(cx),
                Timer::LogSync => self.on_log_sync(cx),
                Timer::Replay => self.on_replay(cx),
                Timer::Hints(peer) => self.on_hint_timer(cx, peer),
                Timer::HintFlush => self.on_hint_flush(cx),
                Timer::Ready => self.on_ready(cx),
                Timer::Join => self.on_join(cx),
                Timer::ViewBuild(view) => self.on_view_build(cx, view),
                Timer::Torn => self.on_torn(cx),
                Timer::PaxosTurn(number) => self.on_turn(cx, number),
            }
            if self.phase == Phase::Halted {
                return;
            }
        }
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>, id: OpId) {
        match self.ops.take(id) {
            Some(Op::Write(op)) => self.write_deadline(cx, id, op),
            Some(Op::Read(op)) => self.read_deadline(cx, id, *op),
            Some(Op::Cas(op)) => self.cas_deadline(cx, id, op),
            Some(Op::Counter(op)) => self.counter_deadline(cx, id, op),
            Some(Op::Schema(op)) => self.schema_deadline(cx, id, *op),
            Some(Op::Truncate(op)) => self.truncate_deadline(cx, id, *op),
            Some(Op::Sweep(op)) => self.sweep_deadline(cx, id, op),
            // Its reads have deadlines of their own.
            Some(other @ (Op::Parked(_) | Op::Derived(_))) => self.ops.put(id, other),
            None => {}
        }
    }

    fn on_resume(&mut self, cx: &mut Cx<'_>, id: OpId) {
        match self.ops.take(id) {
            Some(Op::Parked(parked)) => {
                self.ops.release(id);
                self.unpark(cx, *parked);
            }
            Some(Op::Write(op)) => self.write_resume(cx, id, op),
            Some(Op::Cas(op)) => self.cas_resume(cx, id, op),
            Some(Op::Schema(op)) => self.propose_schema(cx, id, *op),
            Some(other) => self.ops.put(id, other),
            None => {}
        }
    }

    /// Works off what the node said to itself, and syncs in `batch` mode.
    fn finish_step(&mut self, cx: &mut Cx<'_>) {
        while self.phase != Phase::Halted
            && let Some(msg) = self.loopback.pop_front()
        {
            self.peer(cx, self.me, msg);
        }
        if self.phase != Phase::Halted {
            self.log_after_step(cx);
        }
        if self.phase == Phase::Stopping {
            self.stop_when_drained(cx);
        }
    }

    /// Sends to a peer, or to itself.
    pub(super) fn send(&mut self, cx: &mut Cx<'_>, to: NodeIdx, msg: Msg) {
        if to == self.me {
            self.loopback.push_back(msg);
        } else if !self.is_unsent(to) && !self.is_message_lost_on_waking(cx.now_us, &msg) {
            cx.fx.push(Effect::Send { to, msg });
        }
    }

    /// Answers a client with an error and records it.
    pub(super) fn answer_error(&mut self, cx: &mut Cx<'_>, to: ClientRef, error: CoordinatorError) {
        match &error {
            CoordinatorError::Unavailable {
                consistency,
                required,
                alive,
                ..
            } => {
                cx.event(Event::Unavailable {
                    consistency: *consistency,
                    required: *required,
                    alive: *alive,
                });
            }
            CoordinatorError::WriteTimeout {
                consistency,
                received,
                required,
                write_type,
            } => {
                let (consistency, received, required, write_type) = (*consistency, *received, *required, *write_type);
                cx.event(Event::WriteTimeout {
                    write_type,
                    consistency,
                    received,
                    required,
                });
            }
            CoordinatorError::CasTimeout {
                consistency,
                received,
                required,
                ..
            } => {
                let (consistency, received, required) = (*consistency, *received, *required);
                cx.event(Event::WriteTimeout {
                    write_type: WriteType::Cas,
                    consistency,
                    received,
                    required,
                });
            }
            CoordinatorError::WriteFailure {
                consistency,
                received,
                required,
                write_type,
                ..
            } => {
                let (consistency, received, required, write_type) = (*consistency, *received, *required, *write_type);
                cx.event(Event::WriteFailure {
                    write_type,
                    consistency,
                    received,
                    required,
                });
            }
            CoordinatorError::ReadTimeout {
                consistency,
                received,
                required,
                ..
            } => {
                cx.event(Event::ReadTimeout {
                    consistency: *consistency,
                    received: *received,
                    required: *required,
                });
            }
            _ => {}
        }
        cx.fx.push(Effect::Reply {
            to,
            response: Response::Error(error),
        });
    }

    /// Asks the hook. `Continue` when there is none.
    pub(super) fn consult(&mut self, cx: &mut Cx<'_>, point: Point, subject: Subject<'_>, schema: &Schema) -> Verdict {
        let Some(hook) = cx.hook.as_deref_mut() else {
            return Verdict::Continue;
        };
        let boundary = Boundary {
            node: self.me,
            point,
            now_us: cx.now_us,
            batch: subject.batch,
            read: subject.read,
            conditional: subject.conditional,
            consistency: subject.consistency,
            schema,
        };
        let verdict = hook.at(&boundary);
        if verdict != Verdict::Continue {
            cx.event(Event::Forced { verdict });
        }
        verdict
    }

    /// Dies as kill -9 would: nothing comes out any more.
    pub(super) fn die(&mut self, cx: &mut Cx<'_>) {
        cx.fx.push(Effect::KillSelf);
        self.phase = Phase::Halted;
    }

    /// A write that came to nothing is done.
    pub(super) fn answer_nothing_done(&mut self, cx: &mut Cx<'_>, to: ClientRef) {
        self.answer_with(cx, to, vec![]);
    }

    /// Tells a client that it is done, with these warnings.
    pub(super) fn answer_with(&mut self, cx: &mut Cx<'_>, to: ClientRef, warnings: Vec<Warning>) {
        let response = Response::Done { warnings };
        cx.fx.push(Effect::Reply { to, response });
    }

    pub(super) fn halt(&mut self, cx: &mut Cx<'_>, reason: String) {
        cx.fx.push(Effect::Halted { reason });
        self.phase = Phase::Halted;
    }

    fn shutdown(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Stopping {
            return;
        }
        self.phase = Phase::Stopping;
        self.leave_view_updates(cx);
        self.leave_sweeps(cx);
        for peer in self.others().iter() {
            self.send(
                cx,
                peer,
                Msg::Leaving {
                    generation: self.generation,
                },
            );
        }
    }

    /// A stopping node is done when its operations are over and its log is on the disk.
    fn stop_when_drained(&mut self, cx: &mut Cx<'_>) {
        if !self.ops.is_empty() || self.replica.log.is_syncing() {
            return;
        }
        if !self.replica.log.is_synced() {
            return self.sync_log(cx);
        }
        cx.fx.push(Effect::Stopped);
        self.phase = Phase::Halted;
    }

    /// Replaces the schema and everything derived from it.
    pub(super) fn install_schema(&mut self) {
        let mut by_keyspace: BTreeMap<&str, Arc<Placement>> = BTreeMap::new();
        for ks in self.schema.keyspaces.values() {
            by_keyspace.insert(&ks.name, Arc::new(self.ring.placement(&ks.replication)));
        }
        let place = |t: &Option<Arc<crate::model::Table>>| {
            t.as_ref().and_then(|t| by_keyspace.get(t.keyspace.as_str()).cloned())
        };
        self.placements = self.schema.tables.iter().map(place).collect();
        let retry = |t: &Option<Arc<crate::model::Table>>| {
            t.as_ref()
                .map_or(SpeculativeRetry::Never, |t| SpeculativeRetry::of(&t.options))
        };
        self.retries = self.schema.tables.iter().map(retry).collect();
        self.replica.store.set_schema(&self.schema);
    }

    /// The key encoding of a table.
    pub(super) fn layout(&self, table: TableId) -> Option<&KeyLayout> {
        self.replica.store.table(table).map(|t| t.layout())
    }

    /// Nodes this one believes alive, itself included.
    pub(super) fn alive(&self) -> NodeSet {
        let mut set = NodeSet::one(self.me);
        for (i, p) in self.peers.iter().enumerate() {
            if p.up {
                set.insert(NodeIdx(i as u8));
            }
        }
        set
    }

    /// All nodes but this one.
    pub(super) fn others(&self) -> NodeSet {
        NodeSet::first(self.config.nodes.len()).minus(NodeSet::one(self.me))
    }

    /// This node's number.
    pub fn index(&self) -> NodeIdx {
        self.me
    }
    /// What it is doing.
    pub fn phase(&self) -> Phase {
        self.phase
    }
    /// `gossip_generation` in `system.local`: grows with every start.
    pub fn generation(&self) -> u32 {
        self.generation
    }
    /// The generation a peer was last heard with; 0 when never.
    pub fn peer_generation(&self, peer: NodeIdx) -> u32 {
        self.peers[usize::from(peer.0)].generation
    }
    /// Whether a peer is up, as this node sees it. A node sees itself up.
    pub fn sees_up(&self, peer: NodeIdx) -> bool {
        self.alive().contains(peer)
    }
    /// The cluster's configuration.
    pub fn config(&self) -> &Arc<ClusterConfig> {
        &self.config
    }
    /// The ring.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }
    /// The schema as this node has it.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }
    /// What its wall clock shows, Unix microseconds.
    pub fn wall_us(&self, now_us: u64) -> i64 {
        self.clock.wall_us(now_us)
    }
    /// Sets skew and drift of its clock from now on.
    pub fn set_clock(&mut self, now_us: u64, spec: ClockSpec) {
        self.clock.set(now_us, spec);
    }
    /// Operations under way on this coordinator.
    pub fn operations(&self) -> usize {
        self.ops.len()
    }
}
