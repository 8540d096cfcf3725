//! Sweeps: going through tables range by range and bringing replicas to what others know.
//!
//! A *repair* (`nodetool repair --full`) reads every range from all its replicas, merges what they answer, and writes to
//! each what it lacks; a node that *joins* in the place of a lost one (`join`) reads its ranges from others and writes them
//! to itself. Both go a step at a time: so many rows and bytes are read, those that are lacking are written with their
//! original timestamps, TTLs and deletion times, and the next step begins behind them. Steps are ordinary messages, so
//! whatever strikes a link or a node strikes them. A step that is not answered is sent again a few times; what it asks
//! for can be done twice.
//!
//! Views: what a replica of a base lacks goes through its write path, so that its views get their updates (C
//! `CassandraStreamReceiver.requiresWritePath`, S `table::stream_view_replica_updates`); a view is a table like others
//! besides, and its replicas are made to agree, which does not make it agree with its base. Hints are neither used nor
//! forgotten: one that is delivered afterwards changes nothing.
//!
//! Simpler than the servers: replicas send rows where those send hashes first, and one step is under way at a time.

use super::message::{Effect, Event, Msg, OpId, Query, Which};
use super::node::{Cx, Node, Op, Phase};
use super::query::{self, Part, ReadLimits, ReplicaRows};
use super::reads::first_stop;
use super::repair::difference;
use super::ring::NodeSet;
use super::seal::Sealed;
use super::timers::Timer;
use crate::model::{NodeIdx, Position, ReadCommand, TableId, Token, TokenRange};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Rows of one step, from each replica: what bounds a message. S reads `repair_hint`s of as many bytes as fit its memory.
const STEP_ROWS: u32 = 256;
/// Bytes of cells after which a step ends, whatever its rows: a message of a repair is about this long at most, one row
/// more. Half of the 16 MiB that a message of both servers may have, so that one row more fits.
pub(super) const STEP_BYTES: usize = 8 << 20;
/// A step that is not answered is sent again after this.
const STEP_AGAIN_MS: u64 = 10_000;
/// And so often in all: longer than a silent replica takes to be convicted, which ends the sweep at once.
const STEP_TRIES: u32 = 3;
/// Repairs that one node coordinates at once; more are refused (S `repair_module` runs a few, C has a pool of 4 threads).
const REPAIRS_MAX: usize = 4;
/// Outcomes of repairs that are remembered for those who ask.
const OUTCOMES_MAX: usize = 1_000;

/// What is to be repaired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairScope {
    /// Keyspace.
    pub keyspace: String,
    /// One table or view of it; all if `None`.
    pub table: Option<String>,
    /// Whether all ranges of the ring are repaired, and not only those that the coordinating node has a copy of (as
    /// `nodetool repair` on that node does).
    pub whole_ring: bool,
}

/// How far a repair is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepairState {
    /// Under way.
    Running,
    /// All replicas agree on what they had when they were read; so many mutations were written to some.
    Done {
        /// Mutations that replicas lacked, each counted for each of them.
        mutations: u64,
    },
    /// It is over, and what was not looked at may differ still.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What a sweep is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SweepKind {
    /// A repair with this number.
    Repair(u64),
    /// This node gets the data of the one whose place it takes.
    Join,
}

/// A range of a table.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub table: TableId,
    pub range: TokenRange,
    /// Who is read.
    pub sources: NodeSet,
    /// Whether some replica of it is left out.
    pub partial: bool,
}

/// What is written to one replica in a step: group number, node, mutation.
type Lacking = (u16, NodeIdx, Arc<Sealed>);

/// A sweep under way.
#[derive(Debug)]
pub(super) struct SweepOp {
    kind: SweepKind,
    /// The piece in front is the one under way.
    pieces: VecDeque<Piece>,
    of: usize,
    /// Number of the step: answers to earlier ones come too late.
    round: u16,
    tries: u32,
    deadline_us: u64,
    after: Option<Position>,
    rows: Vec<(NodeIdx, ReplicaRows)>,
    until: Option<Position>,
    /// Not acknowledged yet.
    lacking: Vec<Lacking>,
    mutations: u64,
    /// Number of the next mutation: those of other steps have other numbers, so that late acknowledgements count for nothing.
    next_group: u16,
    /// Pieces of which a replica was left out.
    incomplete: usize,
}

/// The repairs of a node.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    states: BTreeMap<u64, RepairState>,
}

impl Repairs {
    fn set(&mut self, number: u64, state: RepairState) {
        self.states.insert(number, state);
        while self.states.len() > OUTCOMES_MAX {
            let over = self.states.iter().find(|(_, s)| **s != RepairState::Running);
            let Some(oldest) = over.map(|(n, _)| *n) else { return };
            self.states.remove(&oldest);
        }
    }

    fn running(&self) -> usize {
        self.states.values().filter(|s| **s == RepairState::Running).count()
    }
}

impl Node {
    /// How far a repair is that this node was told to coordinate; `None` if it knows of none, or has forgotten it.
    pub fn repair_state(&self, number: u64) -> Option<&RepairState> {
        self.repairs.states.get(&number)
    }

    /// Begins a repair.
    pub(super) fn start_repair(&mut self, cx: &mut Cx<'_>, number: u64, scope: &RepairScope) {
        let kind = SweepKind::Repair(number);
        let planned = match self.phase {
            Phase::Serving if self.repairs.running() >= REPAIRS_MAX => {
                Err(format!("{REPAIRS_MAX} repairs run on this node already"))
            }
            Phase::Serving => self.plan_repair(scope),
            _ => Err("the node is not serving".to_owned()),
        };
        self.repairs.set(number, RepairState::Running);
        let table = scope.table.as_ref().map_or_else(String::new, |t| format!(".{t}"));
        let what = format!("{}{table}", scope.keyspace);
        match planned {
            Ok(pieces) => {
                let ranges = pieces.len() as u32;
                cx.event(Event::RepairBegun { number, what, ranges });
                self.begin_sweep(cx, kind, pieces);
            }
            Err(reason) => self.sweep_over(cx, kind, Err(reason)),
        }
    }

    fn plan_repair(&self, scope: &RepairScope) -> Result<Vec<Piece>, String> {
        let tables = self.tables_named(&scope.keyspace, scope.table.as_deref())?;
        let alive = self.alive();
        let mut pieces = vec![];
        for (table, range, replicas) in tables.into_iter().flat_map(|t| self.ranges_of(t)) {
            if !scope.whole_ring && !replicas.contains(self.me) {
                continue;
            }
            let dead = replicas.minus(alive);
            if let Some(dead) = dead.iter().next().filter(|_| self.rules.repair_needs_all) {
                return Err(is_dead(dead));
            }
            let sources = replicas.and(alive);
            let partial = !dead.is_empty();
            pieces.push(Piece {
                table,
                range,
                sources,
                partial,
            });
        }
        Ok(pieces)
    }

    /// The ranges of a table with their replicas, in the order of the ring.
    pub(super) fn ranges_of(&self, table: TableId) -> Vec<(TableId, TokenRange, NodeSet)> {
        let placement = self.placements.get(usize::from(table.0)).and_then(Option::as_ref);
        let mut from: Option<Token> = None;
        let runs = placement.map(|p| p.runs()).unwrap_or_default();
        let range = |(to, replicas): (Token, NodeSet)| {
            let start = from.replace(to).map(|t| (t, false));
            let end = Some((to, true));
            (table, TokenRange { start, end }, replicas)
        };
        runs.into_iter().map(range).collect()
    }

    pub(super) fn begin_sweep(&mut self, cx: &mut Cx<'_>, kind: SweepKind, pieces: Vec<Piece>) {
        let id = self.ops.reserve();
        let op = SweepOp {
            kind,
            of: pieces.len(),
            pieces: pieces.into(),
            round: 0,
            tries: 0,
            deadline_us: 0,
            after: None,
            rows: vec![],
            until: None,
            lacking: vec![],
            mutations: 0,
            next_group: 0,
            incomplete: 0,
        };
        self.begin_piece(cx, id, Box::new(op));
    }

    /// Begins the piece in front, or ends the sweep.
    fn begin_piece(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<SweepOp>) {
        loop {
            let Some(piece) = op.pieces.front() else {
                return self.end_sweep(cx, id, &op);
            };
            // One replica alone has nothing to be compared with.
            if piece.sources.len() > 1 || op.kind == SweepKind::Join && !piece.sources.is_empty() {
                break;
            }
            op.end_piece();
        }
        op.after = None;
        self.begin_step(cx, id, op);
    }

    fn end_sweep(&mut self, cx: &mut Cx<'_>, id: OpId, op: &SweepOp) {
        self.ops.release(id);
        let outcome = match op.incomplete {
            0 => Ok(op.mutations),
            n => Err(format!("{n} out of {} ranges failed: a replica of them is down", op.of)),
        };
        self.sweep_over(cx, op.kind, outcome);
    }

    /// Asks the sources for the next rows of the piece.
    fn begin_step(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<SweepOp>) {
        op.round = op.round.wrapping_add(1);
        op.tries = 0;
        op.rows.clear();
        op.lacking.clear();
        self.send_step(cx, id, op);
    }

    /// Sends what the step waits for: its reads, or what replicas lack.
    fn send_step(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<SweepOp>) {
        op.tries += 1;
        op.deadline_us = cx.now_us + STEP_AGAIN_MS * 1000;
        self.timers.set(op.deadline_us, Timer::Deadline(id));
        let expires_us = op.deadline_us;
        let Some(piece) = op.pieces.front() else {
            return self.ops.release(id);
        };
        let query = Arc::new(Query {
            command: Arc::new(ReadCommand::scan(piece.table)),
            part: Part::Range(piece.range),
            after: op.after.clone(),
            limits: ReadLimits {
                rows: STEP_ROWS,
                per_partition: u32::MAX,
                now_s: self.clock.wall_s(cx.now_us),
                is_sweep: true,
                // What is streamed is what is on the disk.
                drops_purgeable: false,
                tombstones_max: u32::MAX,
            },
        });
        let unread = piece.sources.minus(op.answered());
        let (round, lacking) = (op.round, op.lacking.clone());
        self.ops.put(id, Op::Sweep(op));
        for node in unread.iter() {
            let msg = Msg::Read {
                op: id,
                part: 0,
                round,
                query: query.clone(),
                digest: false,
                expires_us,
            };
            self.send(cx, node, msg);
        }
        for (group, node, sealed) in lacking {
            let msg = Msg::Mutate {
                op: id,
                group,
                sealed,
                which: Which::Range(0, 0),
                expires_us,
                undo: None,
            };
            self.send(cx, node, msg);
        }
    }

    fn take_sweep(&mut self, id: OpId) -> Option<Box<SweepOp>> {
        match self.ops.take(id)? {
            Op::Sweep(op) => Some(op),
            other => {
                self.ops.put(id, other);
                None
            }
        }
    }

    /// A replica answered a read that was none of a client's.
    pub(super) fn on_sweep_rows(&mut self, cx: &mut Cx<'_>, from: NodeIdx, id: OpId, round: u16, rows: ReplicaRows) {
        let Some(mut op) = self.take_sweep(id) else { return };
        if op.round != round || op.answered().contains(from) {
            return self.ops.put(id, Op::Sweep(op));
        }
        op.rows.push((from, rows));
        let is_complete = op
            .pieces
            .front()
            .is_some_and(|p| p.sources.minus(op.answered()).is_empty());
        match is_complete {
            true => self.compare(cx, id, op),
            false => self.ops.put(id, Op::Sweep(op)),
        }
    }

    pub(super) fn on_sweep_refused(&mut self, cx: &mut Cx<'_>, from: NodeIdx, id: OpId, round: u16) {
        let Some(mut op) = self.take_sweep(id) else { return };
        if op.round != round {
            return self.ops.put(id, Op::Sweep(op));
        }
        let table = op.pieces.front().map(|p| p.table);
        if !self.rules.repair_needs_all && table.is_some_and(|t| self.schema.table(t).is_none()) {
            // Dropped meanwhile: S passes over it (`repair/row_level.cc`, `with_table_drop_silenced`).
            op.end_piece();
            return self.begin_piece(cx, id, op);
        }
        let reason = format!("{} does not know the table, or could not read it", told(from));
        self.fail_sweep(cx, id, &op, reason);
    }

    /// All sources of a step have answered: what each lacks is written to it.
    fn compare(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<SweepOp>) {
        let Some(table) = op.pieces.front().map(|p| p.table) else {
            return self.ops.release(id);
        };
        let command = ReadCommand::scan(table);
        let answers: Vec<&ReplicaRows> = op.rows.iter().map(|(_, rows)| rows).collect();
        op.until = first_stop(self, &command, &answers);
        // Behind that some replica may have what it did not tell: it is looked at in the next step.
        let until = op.until.clone();
        if let (Some(until), Some(layout)) = (&until, self.layout(table)) {
            for (_, rows) in &mut op.rows {
                rows.cut(layout, until);
            }
        }
        let answers: Vec<&ReplicaRows> = op.rows.iter().map(|(_, rows)| rows).collect();
        let merged = query::merge(&answers);
        if op.kind == SweepKind::Join {
            let all = difference(table, &merged, &ReplicaRows::default());
            op.mutations += all.len() as u64;
            for sealed in all {
                self.apply_here(cx, &sealed, &Which::Range(0, 0));
            }
        } else {
            let of_node = |(node, rows): &(NodeIdx, ReplicaRows)| {
                let lacking = difference(table, &merged, rows).into_iter();
                lacking.map(|sealed| (*node, Arc::new(sealed))).collect::<Vec<_>>()
            };
            let lacking = op.rows.iter().flat_map(of_node).enumerate();
            // A step has fewer mutations than rows that it read.
            let first = op.next_group;
            op.lacking = lacking
                .map(|(i, (node, sealed))| (first.wrapping_add(i as u16), node, sealed))
                .collect();
            op.next_group = first.wrapping_add(op.lacking.len() as u16);
            op.mutations += op.lacking.len() as u64;
        }
        match op.lacking.is_empty() {
            true => self.step_over(cx, id, op),
            false => {
                op.tries = 0;
                self.send_step(cx, id, op);
            }
        }
    }

    /// A replica has written what it lacked, or could not.
    pub(super) fn on_sweep_written(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        id: OpId,
        mut op: Box<SweepOp>,
        group: u16,
        failed: bool,
    ) {
        let Some(at) = op.lacking.iter().position(|(g, n, _)| *g == group && *n == from) else {
            return self.ops.put(id, Op::Sweep(op));
        };
        if failed {
            // A partner of its for a view is down, say.
            let reason = format!("{} could not write what it lacked", told(from));
            return self.fail_sweep(cx, id, &op, reason);
        }
        op.lacking.swap_remove(at);
        match op.lacking.is_empty() {
            true => self.step_over(cx, id, op),
            false => self.ops.put(id, Op::Sweep(op)),
        }
    }

    fn step_over(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<SweepOp>) {
        match op.until.take() {
            Some(until) => {
                op.after = Some(until);
                self.begin_step(cx, id, op);
            }
            None => {
                op.end_piece();
                self.begin_piece(cx, id, op);
            }
        }
    }

    /// The step is not answered in time.
    pub(super) fn sweep_deadline(&mut self, cx: &mut Cx<'_>, id: OpId, op: Box<SweepOp>) {
        if cx.now_us < op.deadline_us {
            return self.ops.put(id, Op::Sweep(op));
        }
        if op.tries < STEP_TRIES {
            return self.send_step(cx, id, op);
        }
        let silent = op.silent().iter().map(told).collect::<Vec<_>>().join(", ");
        let reason = format!(
            "no answer from {silent} for {} s",
            u64::from(STEP_TRIES) * STEP_AGAIN_MS / 1000
        );
        self.fail_sweep(cx, id, &op, reason);
    }

    /// A peer is down: sweeps that need it fail, or go on without it.
    pub(super) fn sweep_after_down(&mut self, cx: &mut Cx<'_>, peer: NodeIdx) {
        let is_sweep = |id: &OpId| matches!(self.ops.get(*id), Some(Op::Sweep(_)));
        let ids: Vec<OpId> = self.ops.ids().filter(is_sweep).collect();
        for id in ids {
            let Some(mut op) = self.take_sweep(id) else { continue };
            let needed = op.pieces.iter().any(|p| p.sources.contains(peer));
            if !needed {
                self.ops.put(id, Op::Sweep(op));
            } else if self.rules.repair_needs_all || op.kind == SweepKind::Join {
                self.fail_sweep(cx, id, &op, has_died(peer));
            } else {
                for piece in op.pieces.iter_mut().filter(|p| p.sources.contains(peer)) {
                    piece.sources.remove(peer);
                    piece.partial = true;
                }
                // The piece under way is begun anew: what was written is not lacking any more.
                self.begin_piece(cx, id, op);
            }
        }
    }

    /// The node stops: nothing goes on.
    pub(super) fn leave_sweeps(&mut self, cx: &mut Cx<'_>) {
        let ids: Vec<OpId> = self.ops.ids().collect();
        for id in ids {
            if let Some(op) = self.take_sweep(id) {
                self.fail_sweep(cx, id, &op, "the node that coordinated it was stopped".to_owned());
            }
        }
    }

    fn fail_sweep(&mut self, cx: &mut Cx<'_>, id: OpId, op: &SweepOp, reason: String) {
        self.ops.release(id);
        self.sweep_over(cx, op.kind, Err(reason));
    }

    fn sweep_over(&mut self, cx: &mut Cx<'_>, kind: SweepKind, outcome: Result<u64, String>) {
        let SweepKind::Repair(number) = kind else {
            return self.join_over(cx, outcome);
        };
        let failed = outcome.as_ref().err().cloned();
        let mutations = outcome.as_ref().map_or(0, |n| *n);
        let state = match outcome {
            Ok(mutations) => RepairState::Done { mutations },
            Err(reason) => RepairState::Failed { reason },
        };
        self.repairs.set(number, state);
        cx.event(Event::RepairEnded {
            number,
            mutations,
            failed,
        });
        cx.fx.push(Effect::RepairEnded { number });
    }
}

impl SweepOp {
    fn end_piece(&mut self) {
        let piece = self.pieces.pop_front();
        self.incomplete += usize::from(piece.is_some_and(|p| p.partial));
    }

    fn answered(&self) -> NodeSet {
        let one = |set: NodeSet, (node, _): &(NodeIdx, ReplicaRows)| set.or(NodeSet::one(*node));
        self.rows.iter().fold(NodeSet::default(), one)
    }

    /// Who has something to answer still.
    fn silent(&self) -> NodeSet {
        let unread = self
            .pieces
            .front()
            .map_or(NodeSet::default(), |p| p.sources.minus(self.answered()));
        let one = |set: NodeSet, (_, node, _): &Lacking| set.or(NodeSet::one(*node));
        self.lacking.iter().fold(unread, one)
    }
}

/// A node as people count it.
fn told(node: NodeIdx) -> String {
    format!("node {}", u16::from(node.0) + 1)
}

/// The words of C `RepairCoordinator` (seen), with the node's number for its address.
fn is_dead(node: NodeIdx) -> String {
    format!("Endpoint not alive: {}", told(node))
}

/// C `RepairSession.convict`.
fn has_died(node: NodeIdx) -> String {
    format!("Endpoint {} died", told(node))
}
