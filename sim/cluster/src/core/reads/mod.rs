//! Coordinating reads: data from one replica, digests from the others, repair before the reply when they differ.
//!
//! A command falls into *parts* that one set of replicas answers: each partition of an IN, or each run of the ring with
//! equal replicas for a scan. Partitions are read at once, runs one after the other until there are enough rows. Each
//! part goes in *rounds*: a round ends with rows known to be complete up to where the first replica stopped, and another
//! follows when those are not enough.

mod snitch;
mod speculate;

use super::boundary::{Point, Subject, Verdict};
use super::message::{ClientRef, Effect, Event, Msg, OpId, Query, Which};
use super::node::{Cx, Node, Op};
use super::query::{self, Found, Part, ReadLimits, ReplicaRows};
use super::repair;
use super::ring::{NodeSet, Placement};
use super::timers::Timer;
use crate::model::{
    Consistency, CoordinatorError, FailureReason, NodeIdx, PartitionRows, Position, ReadCommand, ReadRequest,
    ReadResult, ReadTarget, Request, Response, Scanned, TokenRange,
};
use std::sync::Arc;

/// Partitions one IN may name (S `max-partition-key-restrictions-per-query`; also the bound of parallel parts).
const PARTS_MAX: usize = 1024;

/// Where a part stands within its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not begun.
    Waiting,
    /// One replica was asked for data, the others for digests.
    Digests,
    /// They differed: all were asked for data.
    Data,
    /// Replicas are being repaired.
    Repair,
    /// Over.
    Done,
}

#[derive(Debug)]
struct PartState {
    part: Part,
    replicas: NodeSet,
    stage: Stage,
    round: u16,
    contacted: NodeSet,
    rows: Vec<(NodeIdx, ReplicaRows)>,
    digests: Vec<(NodeIdx, u128)>,
    refused: Vec<(NodeIdx, FailureReason)>,
    /// Repairs under way: acknowledgements missing per replica.
    repairing: Vec<(NodeIdx, u32)>,
    merged: ReplicaRows,
    until: Option<Position>,
    after: Option<Position>,
    limits: ReadLimits,
    found: Vec<PartitionRows>,
    count: u32,
    /// What this node came across in its own copy.
    scanned: Option<Scanned>,
}

/// For whom a read is done.
#[derive(Debug, Clone, Copy)]
enum Reader {
    /// A client that waits.
    Client(ClientRef),
    /// A conditional write or serial read of this node.
    Cas(OpId),
    /// A write of this node that needs to know what is there.
    Derived(OpId),
}

/// A read under way.
#[derive(Debug)]
pub(super) struct ReadOp {
    reader: Reader,
    command: Arc<ReadCommand>,
    consistency: Consistency,
    deadline_us: u64,
    parts: Vec<PartState>,
    /// Parts begun.
    begun: usize,
    /// Whether parts are read one after the other.
    in_turn: bool,
    observed: bool,
    swallow: bool,
}

impl Node {
    /// A client's read arrives.
    pub(super) fn client_read(&mut self, cx: &mut Cx<'_>, client: ClientRef, request: ReadRequest) {
        let mut swallow = false;
        if cx.hook.is_some() {
            let schema = self.schema.clone();
            let (table, consistency) = (request.command.table, request.consistency);
            let subject = Subject::read(table, consistency);
            let verdict = self.consult(cx, Point::RequestArrived, subject, &schema);
            match verdict {
                Verdict::Continue => {}
                Verdict::SwallowResponse => swallow = true,
                Verdict::Drop | Verdict::Timeout { .. } => return,
                Verdict::Refuse { .. } => {
                    if let Some(error) = self.told(verdict, consistency) {
                        self.answer_error(cx, client, error);
                    }
                    return;
                }
                Verdict::Slow { ms } => return self.park(cx.now_us + ms * 1000, Some(client), Request::Read(request)),
                Verdict::KillNode => return self.die(cx),
                // The read goes out and its answers find the node frozen: they are worked off when it goes on.
                Verdict::PauseNode { ms } => cx.fx.push(Effect::PauseSelf { ms }),
            }
        }
        self.start_read(cx, client, request, swallow);
    }

    /// Begins a client's read; `swallow`: its answer never leaves.
    pub(super) fn start_read(&mut self, cx: &mut Cx<'_>, client: ClientRef, request: ReadRequest, swallow: bool) {
        let observed = cx.hook.is_some();
        match self.plan_read(cx, Reader::Client(client), request) {
            Err(error) => self.answer_error(cx, client, error),
            Ok(mut op) => {
                (op.observed, op.swallow) = (observed, swallow);
                self.begin_read(cx, op);
            }
        }
    }

    /// The read of a conditional write; its outcome goes to `cas_read`.
    pub(super) fn read_for_cas(&mut self, cx: &mut Cx<'_>, cas: OpId, request: ReadRequest) {
        match self.plan_read(cx, Reader::Cas(cas), request) {
            Err(error) => self.cas_read(cx, cas, Err(error)),
            Ok(op) => self.begin_read(cx, op),
        }
    }

    /// The read of a derived write; its outcome goes to `derived_read`.
    pub(super) fn read_for_derived(&mut self, cx: &mut Cx<'_>, derived: OpId, request: ReadRequest) {
        match self.plan_read(cx, Reader::Derived(derived), request) {
            Err(error) => self.derived_read(cx, derived, Err(error)),
            Ok(op) => self.begin_read(cx, op),
        }
    }

    fn begin_read(&mut self, cx: &mut Cx<'_>, op: ReadOp) {
        let id = self.ops.reserve();
        self.timers.set(op.deadline_us, Timer::Deadline(id));
        let mut op = Box::new(op);
        self.begin_parts(cx, id, &mut op);
        self.progress(cx, id, op);
    }

    fn read_failed(&mut self, cx: &mut Cx<'_>, reader: Reader, error: CoordinatorError) {
        match reader {
            Reader::Client(client) => self.answer_error(cx, client, error),
            Reader::Cas(cas) => self.cas_read(cx, cas, Err(error)),
            Reader::Derived(id) => self.derived_read(cx, id, Err(error)),
        }
    }

    fn plan_read(&mut self, cx: &mut Cx<'_>, reader: Reader, request: ReadRequest) -> Result<ReadOp, CoordinatorError> {
        let consistency = request.consistency;
        match consistency {
            Consistency::Serial | Consistency::LocalSerial => {
                return Err(CoordinatorError::BadConsistency {
                    consistency,
                    operation: "a plain read",
                });
            }
            Consistency::EachQuorum if self.rules.each_quorum_reads && self.levels.is_one_dc() => {}
            Consistency::Any | Consistency::EachQuorum => {
                return Err(CoordinatorError::BadConsistency {
                    consistency,
                    operation: "a read",
                });
            }
            _ => {}
        }
        let command = request.command;
        let table = usize::from(command.table.0);
        let Some(placement) = self.placements.get(table).cloned().flatten() else {
            return Err(CoordinatorError::Invalid {
                what: format!("no table has number {:?} in this node's schema", command.table),
            });
        };
        let in_turn = matches!(command.target, ReadTarget::Scan(_));
        let now_s = self.clock.wall_s(cx.now_us);
        let parts = self.plan_parts(&command, &placement, now_s)?;
        for p in &parts {
            if !self.levels.reached(consistency, p.replicas, self.alive()) {
                let (scope, required) = self.levels.need(consistency, p.replicas);
                let alive = scope.and(self.alive()).len();
                return Err(CoordinatorError::Unavailable {
                    consistency,
                    required,
                    alive,
                    batchlog: false,
                });
            }
        }
        let default_ms = if in_turn {
            self.config.timeouts.range_ms
        } else {
            self.config.timeouts.read_ms
        };
        let timeout_ms = request.timeout_ms.map_or(default_ms, u64::from);
        Ok(ReadOp {
            reader,
            command: Arc::new(command),
            consistency,
            deadline_us: cx.now_us + timeout_ms * 1000,
            parts,
            begun: 0,
            in_turn,
            observed: false,
            swallow: false,
        })
    }

    fn plan_parts(
        &self,
        command: &ReadCommand,
        placement: &Placement,
        now_s: u32,
    ) -> Result<Vec<PartState>, CoordinatorError> {
        let limits = ReadLimits {
            rows: command.limit,
            per_partition: command.per_partition_limit,
            now_s,
            is_sweep: false,
            drops_purgeable: self.rules.reads_drop_purgeable,
            tombstones_max: self.rules.read_tombstones_max,
        };
        let part = |part, replicas, after: Option<&Position>| PartState {
            part,
            replicas,
            stage: Stage::Waiting,
            round: 0,
            contacted: NodeSet::default(),
            rows: vec![],
            digests: vec![],
            refused: vec![],
            repairing: vec![],
            merged: ReplicaRows::default(),
            until: None,
            after: after.cloned(),
            limits,
            found: vec![],
            count: 0,
            scanned: None,
        };
        let after = command.after.as_ref();
        match &command.target {
            ReadTarget::Partitions(keys) => {
                if keys.len() > PARTS_MAX {
                    let what = format!("{} partitions in one read; at most {PARTS_MAX}", keys.len());
                    return Err(CoordinatorError::Invalid { what });
                }
                let layout = self.layout(command.table);
                if let Some(bad) = keys
                    .iter()
                    .find(|k| layout.is_some_and(|l| !l.is_partition_key(&k.bytes)))
                {
                    return Err(CoordinatorError::Invalid {
                        what: format!("malformed partition key of {} bytes", bad.bytes.len()),
                    });
                }
                // A page goes on with the partition it stopped in; those before it are finished.
                let from = after
                    .and_then(|p| keys.iter().position(|k| *k == p.partition))
                    .unwrap_or(0);
                Ok(keys[from..]
                    .iter()
                    .map(|k| part(Part::Partition(k.clone()), placement.replicas(k.token), after))
                    .collect())
            }
            ReadTarget::Scan(range) => {
                let mut start = after.map_or(range.start, |p| Some((p.partition.token, true)));
                let mut parts = vec![];
                for (last, set) in placement.runs() {
                    let before = start.is_some_and(|(t, inclusive)| last < t || last == t && !inclusive);
                    if before {
                        continue;
                    }
                    let end_here = range.end.is_none_or(|(t, _)| last < t);
                    let end = if end_here { Some((last, true)) } else { range.end };
                    // Only the first run left holds the place where the page before stopped.
                    let resumed = if parts.is_empty() { after } else { None };
                    parts.push(part(Part::Range(TokenRange { start, end }), set, resumed));
                    start = Some((last, false));
                    if !end_here {
                        break;
                    }
                }
                Ok(parts)
            }
        }
    }

    /// Begins the parts that may begin now.
    fn begin_parts(&mut self, cx: &mut Cx<'_>, id: OpId, op: &mut ReadOp) {
        while op.begun < op.parts.len() {
            let earlier_over = op.parts[..op.begun].iter().all(|p| p.stage == Stage::Done);
            let found: u32 = op.parts[..op.begun].iter().map(|p| p.count).sum();
            if op.in_turn && !earlier_over {
                return;
            }
            if found >= op.command.limit {
                return;
            }
            if op.in_turn {
                op.parts[op.begun].limits.rows = op.command.limit - found;
            }
            op.begun += 1;
            self.begin_round(cx, id, op, op.begun - 1);
        }
    }

    fn begin_round(&mut self, cx: &mut Cx<'_>, id: OpId, op: &mut ReadOp, index: usize) {
        let (scope, need) = self.levels.need(op.consistency, op.parts[index].replicas);
        let beyond = self.asked_beyond_need(op);
        let chosen = self.choose_replicas(scope, need + beyond);
        let p = &mut op.parts[index];
        p.round = p.round.wrapping_add(1);
        p.stage = Stage::Digests;
        p.rows.clear();
        p.digests.clear();
        p.contacted = NodeSet::default();
        let for_data = self.asked_for_data(op, chosen.len(), scope.and(self.alive()).len());
        for (i, node) in chosen.iter().enumerate() {
            self.ask(cx, id, op, index, *node, i >= for_data);
        }
        self.speculate_later(cx, id, op, index, &chosen);
    }

    fn ask(&mut self, cx: &mut Cx<'_>, id: OpId, op: &mut ReadOp, index: usize, node: NodeIdx, digest: bool) {
        let p = &mut op.parts[index];
        p.contacted.insert(node);
        let query = Query {
            command: op.command.clone(),
            part: p.part.clone(),
            after: p.after.clone(),
            limits: p.limits,
        };
        let (part, round, expires_us) = (index as u16, p.round, op.deadline_us);
        self.send(
            cx,
            node,
            Msg::Read {
                op: id,
                part,
                round,
                query: Arc::new(query),
                digest,
                expires_us,
            },
        );
    }

    pub(super) fn on_read_data(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        id: OpId,
        part: u16,
        round: u16,
        rows: Found<ReplicaRows>,
    ) {
        let Some(mut op) = self.take_read(id) else {
            return self.on_sweep_rows(cx, from, id, round, rows.answer);
        };
        if let Some(p) = op.parts.get_mut(usize::from(part))
            && p.round == round
            && !p.rows.iter().any(|(n, _)| *n == from)
        {
            p.note_scanned(from == self.me, rows.scanned);
            p.rows.push((from, rows.answer));
        }
        self.progress(cx, id, op);
    }

    pub(super) fn on_read_digest(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        id: OpId,
        part: u16,
        round: u16,
        digest: Found<u128>,
    ) {
        let Some(mut op) = self.take_read(id) else { return };
        if let Some(p) = op.parts.get_mut(usize::from(part))
            && p.round == round
        {
            p.note_scanned(from == self.me, digest.scanned);
            p.digests.push((from, digest.answer));
        }
        self.progress(cx, id, op);
    }

    pub(super) fn on_read_refused(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        id: OpId,
        part: u16,
        round: u16,
        reason: FailureReason,
    ) {
        let Some(mut op) = self.take_read(id) else {
            return self.on_sweep_refused(cx, from, id, round);
        };
        if let Some(p) = op.parts.get_mut(usize::from(part))
            && p.round == round
        {
            p.refused.push((from, reason));
            let refused: NodeSet = p
                .refused
                .iter()
                .fold(NodeSet::default(), |s, (n, _)| s.or(NodeSet::one(*n)));
            if !self
                .levels
                .reached(op.consistency, p.replicas, p.replicas.and(self.alive()).minus(refused))
            {
                let failures = std::mem::take(&mut p.refused);
                let (received, required) = (p.answered().len(), self.levels.need(op.consistency, p.replicas).1);
                let (consistency, data_present) = (op.consistency, !p.rows.is_empty());
                let error = CoordinatorError::ReadFailure {
                    consistency,
                    received,
                    required,
                    failures,
                    data_present,
                };
                self.ops.release(id);
                return self.read_failed(cx, op.reader, error);
            }
        }
        self.progress(cx, id, op);
    }

    pub(super) fn on_repaired(&mut self, cx: &mut Cx<'_>, from: NodeIdx, id: OpId, mut op: Box<ReadOp>, part: u16) {
        if let Some(p) = op.parts.get_mut(usize::from(part)) {
            for (node, missing) in &mut p.repairing {
                if *node == from {
                    *missing = missing.saturating_sub(1);
                }
            }
        }
        self.progress(cx, id, op);
    }

    /// Takes every step that the answers so far allow.
    fn progress(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<ReadOp>) {
        for index in 0..op.begun {
            if let Err(error) = self.progress_part(cx, id, &mut op, index) {
                self.ops.release(id);
                return self.read_failed(cx, op.reader, error);
            }
        }
        self.begin_parts(cx, id, &mut op);
        let found: u32 = op.parts[..op.begun].iter().map(|p| p.count).sum();
        let begun_over = op.parts[..op.begun].iter().all(|p| p.stage == Stage::Done);
        if begun_over && (op.begun == op.parts.len() || found >= op.command.limit) {
            self.ops.release(id);
            self.answer_rows(cx, *op);
        } else {
            self.ops.put(id, Op::Read(op));
        }
    }

    fn progress_part(
        &mut self,
        cx: &mut Cx<'_>,
        id: OpId,
        op: &mut ReadOp,
        index: usize,
    ) -> Result<(), CoordinatorError> {
        let p = &mut op.parts[index];
        match p.stage {
            Stage::Digests if !p.rows.is_empty() && self.levels.reached(op.consistency, p.replicas, p.answered()) => {
                if p.agree() {
                    let (_, rows) = p.rows.swap_remove(0);
                    p.until = rows.stopped_at.clone();
                    p.merged = rows;
                    return self.end_round(cx, id, op, index);
                }
                // Everybody who answered with a digest is asked for the rows. What already came as rows is kept.
                p.stage = Stage::Data;
                let ask_again: Vec<NodeIdx> = p.digests.iter().map(|(n, _)| *n).collect();
                for node in ask_again {
                    self.ask(cx, id, op, index, node, false);
                }
                Ok(())
            }
            Stage::Data if self.levels.reached(op.consistency, p.replicas, p.with_rows()) => {
                let answers: Vec<&ReplicaRows> = p.rows.iter().map(|(_, r)| r).collect();
                p.merged = query::merge(&answers);
                p.until = first_stop(self, &op.command, &answers);
                self.begin_repair(cx, id, op, index)
            }
            Stage::Repair if p.repairing.iter().all(|(_, missing)| *missing == 0) => self.end_round(cx, id, op, index),
            _ => Ok(()),
        }
    }

    /// Sends each replica what it lacks. The reply waits for them.
    fn begin_repair(
        &mut self,
        cx: &mut Cx<'_>,
        id: OpId,
        op: &mut ReadOp,
        index: usize,
    ) -> Result<(), CoordinatorError> {
        let p = &mut op.parts[index];
        p.stage = Stage::Repair;
        p.repairing.clear();
        let mut sends = vec![];
        for (node, rows) in &p.rows {
            let lacking = repair::difference(op.command.table, &p.merged, rows);
            if !lacking.is_empty() {
                p.repairing.push((*node, lacking.len() as u32));
                sends.extend(lacking.into_iter().map(|sealed| (*node, Arc::new(sealed))));
            }
        }
        if !p.repairing.is_empty() {
            cx.event(Event::ReadRepair {
                replicas: p.repairing.len() as u32,
            });
        }
        for (to, sealed) in sends {
            let (group, expires_us) = (index as u16, op.deadline_us);
            self.send(
                cx,
                to,
                Msg::Mutate {
                    op: id,
                    group,
                    sealed,
                    which: Which::Range(0, 0),
                    expires_us,
                    undo: None,
                },
            );
        }
        self.progress_part(cx, id, op, index)
    }

    /// Takes in the rows of a round, and begins another if they are not enough.
    fn end_round(&mut self, cx: &mut Cx<'_>, id: OpId, op: &mut ReadOp, index: usize) -> Result<(), CoordinatorError> {
        let p = &mut op.parts[index];
        let Some(table) = self.replica.store.table(op.command.table) else {
            return Err(CoordinatorError::Invalid {
                what: "the table was dropped while it was read".to_owned(),
            });
        };
        let seen = query::visible(
            table,
            &op.command,
            std::mem::take(&mut p.merged),
            p.until.as_ref(),
            p.after.as_ref(),
            p.limits,
        )
        .map_err(|e| CoordinatorError::Invalid { what: e.to_string() })?;
        p.count += seen.count;
        p.limits.rows = p.limits.rows.saturating_sub(seen.count);
        join(&mut p.found, seen.result.partitions);
        p.rows.clear();
        match p.until.take() {
            Some(mut until) if p.limits.rows > 0 => {
                until.rows_of_partition = rows_so_far(&p.found, op.command.after.as_ref(), &until);
                p.after = Some(until);
                self.begin_round(cx, id, op, index);
            }
            _ => p.stage = Stage::Done,
        }
        Ok(())
    }

    fn answer_rows(&mut self, cx: &mut Cx<'_>, op: ReadOp) {
        let mut result = ReadResult::default();
        let own = op.parts.iter().filter_map(|p| Some((&p.part, p.scanned?)));
        let with_tombstones = own.filter(|(_, scanned)| scanned.tombstones > 0);
        result.scanned = with_tombstones
            .map(|(part, s)| (part.partition().cloned(), s))
            .collect();
        let mut left = op.command.limit;
        for partition in op.parts.into_iter().flat_map(|p| p.found) {
            if left == 0 {
                break;
            }
            let mut partition = partition;
            partition.rows.truncate(left as usize);
            let alone = u32::from(query::shows_statics_alone(&op.command));
            left -= (partition.rows.len() as u32).max(alone).min(left);
            result.partitions.push(partition);
        }
        if left == 0 && !self.is_at_the_end(&op.command, &result) {
            result.more = result.partitions.last().map(|p| {
                let clustering = p
                    .rows
                    .last()
                    .map(|r| crate::model::ClusteringKey(r.clustering().to_vec()));
                let mut at = Position {
                    partition: p.key.clone(),
                    clustering,
                    rows_of_partition: 0,
                };
                at.rows_of_partition = rows_so_far(&result.partitions, op.command.after.as_ref(), &at);
                at
            });
        }
        if op.observed {
            let schema = self.schema.clone();
            let subject = Subject::read(op.command.table, op.consistency);
            let verdict = self.consult(cx, Point::ResponseLeaving, subject, &schema);
            match verdict {
                Verdict::KillNode => return self.die(cx),
                Verdict::Drop | Verdict::SwallowResponse | Verdict::Timeout { .. } => return,
                Verdict::Refuse { .. } => {
                    if let Some(error) = self.told(verdict, op.consistency) {
                        self.read_failed(cx, op.reader, error);
                    }
                    return;
                }
                Verdict::PauseNode { ms } => cx.fx.push(Effect::PauseSelf { ms }),
                Verdict::Continue | Verdict::Slow { .. } => {}
            }
        }
        if !op.swallow {
            match op.reader {
                Reader::Client(to) => cx.fx.push(Effect::Reply {
                    to,
                    response: Response::Rows(result),
                }),
                Reader::Cas(cas) => self.cas_read(cx, cas, Ok(result)),
                Reader::Derived(id) => self.derived_read(cx, id, Ok(result)),
            }
        }
    }

    /// Whether nothing can follow a full page: it ends with the one row of the last partition asked for. Where partitions
    /// have several rows, and in scans, servers do not look ahead either (seen).
    fn is_at_the_end(&self, command: &ReadCommand, result: &ReadResult) -> bool {
        let ReadTarget::Partitions(keys) = &command.target else {
            return false;
        };
        let table = self.replica.store.table(command.table);
        let is_single = table.is_some_and(|t| t.layout().clustering_columns() == 0);
        is_single && result.partitions.last().map(|p| &p.key) == keys.last()
    }

    pub(super) fn read_deadline(&mut self, cx: &mut Cx<'_>, id: OpId, op: ReadOp) {
        self.ops.release(id);
        let Some(p) = op.parts[..op.begun].iter().find(|p| p.stage != Stage::Done) else {
            return;
        };
        let required = self.levels.need(op.consistency, p.replicas).1;
        // Repairs that stayed silent: the answers were there, the repair was not (both servers count those repaired).
        let received = match p.stage {
            Stage::Repair => required.saturating_sub(p.repairing.iter().filter(|(_, m)| *m > 0).count() as u32),
            // All that are needed may have answered, and none of them with the rows (seen).
            Stage::Digests if p.rows.is_empty() => p.answered().len(),
            _ => p.answered().len().min(required.saturating_sub(1)),
        };
        let (consistency, data_present) = (op.consistency, !p.rows.is_empty());
        if !op.swallow {
            self.read_failed(
                cx,
                op.reader,
                CoordinatorError::ReadTimeout {
                    consistency,
                    received,
                    required,
                    data_present,
                },
            );
        }
    }

    fn take_read(&mut self, id: OpId) -> Option<Box<ReadOp>> {
        match self.ops.take(id)? {
            Op::Read(op) => Some(op),
            other => {
                self.ops.put(id, other);
                None
            }
        }
    }
}

impl PartState {
    /// Keeps the read of this node's own copy that came across the most tombstones.
    fn note_scanned(&mut self, is_own: bool, scanned: Scanned) {
        if is_own && self.scanned.is_none_or(|s| s.tombstones < scanned.tombstones) {
            self.scanned = Some(scanned);
        }
    }

    fn answered(&self) -> NodeSet {
        let digests = self.digests.iter().map(|(n, _)| *n);
        digests
            .chain(self.rows.iter().map(|(n, _)| *n))
            .fold(NodeSet::default(), |s, n| s.or(NodeSet::one(n)))
    }

    fn with_rows(&self) -> NodeSet {
        self.rows
            .iter()
            .fold(NodeSet::default(), |s, (n, _)| s.or(NodeSet::one(*n)))
    }

    fn agree(&self) -> bool {
        if self.digests.is_empty() && self.rows.len() == 1 {
            return true;
        }
        let first = self.rows[0].1.digest();
        self.rows[1..].iter().all(|(_, r)| r.digest() == first) && self.digests.iter().all(|(_, d)| *d == first)
    }
}

/// Orders positions as the read meets them.
fn order_key(
    node: &Node,
    command: &ReadCommand,
    p: &Position,
) -> (crate::model::Token, Vec<u8>, Option<super::key::Key>) {
    let row = p.clustering.as_ref().and_then(|c| {
        node.layout(command.table)?
            .row(p.partition.token, &p.partition.bytes, &c.0)
            .ok()
    });
    (p.partition.token, p.partition.bytes.clone(), row)
}

/// Where the first of several replicas stopped, in reading order.
pub(super) fn first_stop(node: &Node, command: &ReadCommand, answers: &[&ReplicaRows]) -> Option<Position> {
    let stops = answers.iter().filter_map(|a| a.stopped_at.as_ref());
    let first = stops.min_by(|a, b| {
        let ((ta, pa, ka), (tb, pb, kb)) = (order_key(node, command, a), order_key(node, command, b));
        // A partition that is finished is further than any row of it.
        let in_partition = (ka.is_none().cmp(&kb.is_none())).then_with(|| match command.reversed {
            true => kb.cmp(&ka),
            false => ka.cmp(&kb),
        });
        (ta, pa).cmp(&(tb, pb)).then(in_partition)
    });
    first.cloned()
}

/// Appends partitions; rows of one that goes on are joined to it.
fn join(into: &mut Vec<PartitionRows>, more: Vec<PartitionRows>) {
    for p in more {
        match into.last_mut() {
            Some(last) if last.key == p.key => last.rows.extend(p.rows),
            _ => into.push(p),
        }
    }
}

/// Rows of the partition of `at` returned up to now, earlier pages included.
fn rows_so_far(found: &[PartitionRows], page: Option<&Position>, at: &Position) -> u32 {
    let here: usize = found
        .iter()
        .filter(|p| p.key == at.partition)
        .map(|p| p.rows.len())
        .sum();
    here as u32
        + page
            .filter(|p| p.partition == at.partition)
            .map_or(0, |p| p.rows_of_partition)
}
