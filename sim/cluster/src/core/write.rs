//! Coordinating writes: one statement, UNLOGGED and LOGGED batches, and what the batchlog replays.
//!
//! The steps are the servers' own (`scylla-semantics` section 1): checks that can refuse without a trace; the batchlog
//! on its holders; the mutations to every live replica, hints for the dead ones; the removal from the batchlog; the
//! answer; and after the answer, hints for the replicas that stayed silent. Where the flavours differ, `Rules` says.

use super::boundary::{BatchInfo, Point, Then, Verdict};
use super::message::{BatchId, ClientRef, Effect, Event, Msg, OpId, Which};
use super::node::{Cx, Node, Op};
use super::ring::NodeSet;
use super::seal::{Sealed, Stamp};
use super::timers::Timer;
use crate::model::{Consistency, CoordinatorError, NodeIdx, Response, Warning, WriteKind, WriteRequest, WriteType};
use std::sync::Arc;

/// For whom a write is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A client that waits.
    Client(ClientRef),
    /// Nobody any more: its client was told something else.
    Detached,
    /// The batchlog.
    Replay(BatchId),
}

/// A request that waits to be executed: its coordinator is frozen, or executes it late.
#[derive(Debug)]
pub(super) struct Parked {
    pub client: Option<ClientRef>,
    pub request: WriteRequest,
}

/// Where a write stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Holders are asked to keep the batch.
    Batchlog,
    /// Frozen between two steps.
    Frozen,
    /// Mutations are out.
    Mutations,
    /// Holders are asked to forget the batch, and the answer waits for that.
    Removing,
    /// Answered; silent replicas may still answer, or get hints.
    Answered,
}

/// Mutations with the same replicas.
#[derive(Debug)]
pub(super) struct Group {
    which: Which,
    replicas: NodeSet,
    /// Those that were sent the mutations.
    targets: NodeSet,
    hinted: NodeSet,
    acked: NodeSet,
    failed: NodeSet,
}

impl Group {
    /// Replicas that may still answer.
    fn open(&self) -> NodeSet {
        self.targets.minus(self.acked).minus(self.failed)
    }
}

#[derive(Debug)]
struct Batchlog {
    id: BatchId,
    holders: NodeSet,
    need: u32,
    acked: NodeSet,
    failed: NodeSet,
    forgotten: bool,
}

/// A write under way.
#[derive(Debug)]
pub(super) struct WriteOp {
    pub purpose: Purpose,
    kind: WriteKind,
    write_type: WriteType,
    consistency: Consistency,
    sealed: Arc<Sealed>,
    groups: Vec<Group>,
    batchlog: Option<Batchlog>,
    stage: Stage,
    deadline_us: u64,
    warnings: Vec<Warning>,
    /// Whether a hook watches: then mutations leave one by one.
    observed: bool,
    /// Mutations sent so far, when watched.
    sent: u16,
    /// Whether the hook was asked about the step at which the write froze.
    asked_already: bool,
    /// A hook took the answer away.
    swallow: bool,
    /// A hook wants the batch left to the replay.
    leave_to_replay: bool,
}

/// How a write is to be executed.
#[derive(Debug, Clone, Copy, Default)]
struct Manner {
    swallow: bool,
    leave_to_replay: bool,
}

impl Node {
    /// A client's write arrives.
    pub(super) fn client_write(&mut self, cx: &mut Cx<'_>, client: ClientRef, request: WriteRequest) {
        if cx.hook.is_none() {
            return self.execute_write(cx, Purpose::Client(client), request, Manner::default());
        }
        let schema = self.schema.clone();
        let info = BatchInfo::asked(request.kind, &schema, &request.writes);
        match self.consult(cx, Point::RequestArrived, Some(&info), None, &schema) {
            Verdict::Continue => self.execute_write(cx, Purpose::Client(client), request, Manner::default()),
            Verdict::SwallowResponse => {
                let manner = Manner { swallow: true, ..Manner::default() };
                self.execute_write(cx, Purpose::Client(client), request, manner);
            }
            Verdict::Drop => {}
            Verdict::KillNode => self.die(cx),
            Verdict::PauseNode { ms } => {
                cx.fx.push(Effect::PauseSelf { ms });
                self.park(cx.now_us + 1, Some(client), request);
            }
            Verdict::Timeout { write_type, received, required, then } => {
                let consistency = self.timeout_level(write_type, required, request.consistency);
                self.answer_error(cx, client, CoordinatorError::WriteTimeout { consistency, received, required, write_type });
                match self.kindly(then) {
                    Then::NeverApply => {}
                    Then::ApplyNow => self.execute_write(cx, Purpose::Detached, request, Manner::default()),
                    Then::ByReplay => {
                        let manner = Manner { leave_to_replay: true, ..Manner::default() };
                        self.execute_write(cx, Purpose::Detached, request, manner);
                    }
                    Then::ExecuteLate { after_ms } => self.park(cx.now_us + after_ms * 1000, None, request),
                }
            }
        }
    }

    /// A kind cluster rolls back what it reports as failed.
    fn kindly(&self, then: Then) -> Then {
        if self.config.kindness.rollback_failed_batch { Then::NeverApply } else { then }
    }

    /// The level a write timeout names: the batchlog's own for BATCH_LOG.
    fn timeout_level(&self, write_type: WriteType, required: u32, asked: Consistency) -> Consistency {
        match (write_type, required) {
            (WriteType::BatchLog, 2) => Consistency::Two,
            (WriteType::BatchLog, _) => Consistency::One,
            _ => asked,
        }
    }

    fn park(&mut self, at_us: u64, client: Option<ClientRef>, request: WriteRequest) {
        let id = self.ops.reserve();
        self.ops.put(id, Op::Parked(Box::new(Parked { client, request })));
        self.timers.set(at_us, Timer::Resume(id));
    }

    /// Executes a parked request, with the clock of now.
    pub(super) fn unpark(&mut self, cx: &mut Cx<'_>, parked: Parked) {
        let purpose = parked.client.map_or(Purpose::Detached, Purpose::Client);
        if purpose == Purpose::Detached {
            let timestamp_us = parked.request.timestamp_us.unwrap_or_else(|| self.clock.wall_us(cx.now_us));
            cx.event(Event::ExecutedLate { timestamp_us });
        }
        self.execute_write(cx, purpose, parked.request, Manner::default());
    }

    fn execute_write(&mut self, cx: &mut Cx<'_>, purpose: Purpose, request: WriteRequest, manner: Manner) {
        match self.plan_write(cx, purpose, request, manner) {
            Ok(op) => {
                let id = self.ops.reserve();
                self.timers.set(op.deadline_us, Timer::Deadline(id));
                self.start_write(cx, id, Box::new(op));
            }
            Err(error) => {
                if let Purpose::Client(client) = purpose {
                    self.answer_error(cx, client, error);
                }
            }
        }
    }

    /// Everything that can refuse a write without a trace: levels, sizes, holders, liveness.
    fn plan_write(&mut self, cx: &mut Cx<'_>, purpose: Purpose, request: WriteRequest, manner: Manner) -> Result<WriteOp, CoordinatorError> {
        let consistency = request.consistency;
        if matches!(consistency, Consistency::Serial | Consistency::LocalSerial) {
            return Err(CoordinatorError::BadConsistency { consistency, operation: "a write" });
        }
        let stamp = Stamp {
            timestamp_us: match request.timestamp_us {
                Some(t) => t,
                None => self.server_timestamp(cx.now_us, purpose),
            },
            wall_s: self.clock.wall_s(cx.now_us),
            unit: self.rules.mutation_unit,
        };
        let sealed = Sealed::seal(&request.writes, stamp, &self.schema, |t| self.layout(t))
            .map_err(|e| CoordinatorError::Invalid { what: e.to_string() })?;
        let warnings = self.check_size(&sealed, request.kind)?;
        let logged = request.kind == WriteKind::Logged && sealed.mutations().len() > 1;
        let write_type = match sealed.mutations().len() {
            0 | 1 => WriteType::Simple,
            _ if logged => WriteType::Batch,
            _ => WriteType::UnloggedBatch,
        };
        let batchlog = if logged { Some(self.plan_batchlog(consistency)?) } else { None };
        let observed = cx.hook.is_some() && matches!(purpose, Purpose::Client(_));
        let groups = self.group_mutations(&sealed, observed);
        self.check_liveness(&groups, consistency)?;
        let timeout_ms = request.timeout_ms.map_or(self.config.timeouts.write_ms, u64::from);
        Ok(WriteOp {
            purpose,
            kind: request.kind,
            write_type,
            consistency,
            sealed: Arc::new(sealed),
            groups,
            batchlog,
            stage: Stage::Mutations,
            deadline_us: cx.now_us + timeout_ms * 1000,
            warnings,
            observed,
            sent: 0,
            asked_already: false,
            swallow: manner.swallow,
            leave_to_replay: manner.leave_to_replay,
        })
    }

    fn server_timestamp(&mut self, now_us: u64, purpose: Purpose) -> i64 {
        let mut detached = 0;
        let last = match purpose {
            Purpose::Client(c) => self.connections.entry(c.conn).or_insert(0),
            _ => &mut detached,
        };
        self.clock.timestamp(now_us, self.rules.server_timestamps, last)
    }

    fn check_size(&self, sealed: &Sealed, kind: WriteKind) -> Result<Vec<Warning>, CoordinatorError> {
        let mut warnings = vec![];
        if kind == WriteKind::Single || sealed.mutations().len() <= 1 {
            return Ok(warnings);
        }
        let size_bytes = sealed.size_bytes(self.rules.batch_size);
        if size_bytes > self.rules.batch_fail_bytes {
            return Err(CoordinatorError::BatchTooLarge { size_bytes, threshold_bytes: self.rules.batch_fail_bytes });
        }
        if !self.rules.client_warnings {
            return Ok(warnings);
        }
        if size_bytes > self.rules.batch_warn_bytes {
            warnings.push(Warning::BatchSize { size_bytes, threshold_bytes: self.rules.batch_warn_bytes, tables: sealed.tables() });
        }
        let partitions = sealed.mutations().len() as u32;
        if kind == WriteKind::Unlogged && partitions > self.rules.unlogged_partitions_warn {
            warnings.push(Warning::UnloggedPartitions { partitions, tables: sealed.tables() });
        }
        Ok(warnings)
    }

    fn plan_batchlog(&mut self, consistency: Consistency) -> Result<Batchlog, CoordinatorError> {
        let mut holders = self.choose_holders();
        if holders.is_empty() && consistency == Consistency::Any {
            // At ANY the coordinator itself will do (SP, C `ReplicaPlans.forBatchlogWrite`).
            holders = NodeSet::one(self.me);
        }
        if holders.is_empty() {
            let required = self.rules.batchlog_unavailable_required;
            let consistency = if required == 2 { Consistency::Two } else { Consistency::One };
            return Err(CoordinatorError::Unavailable { consistency, required, alive: 0, batchlog: true });
        }
        self.next_batch += 1;
        let id = BatchId { coordinator: self.me, generation: self.generation, number: self.next_batch };
        let none = NodeSet::default();
        let need = self.rules.batchlog_block_for.min(holders.len());
        Ok(Batchlog { id, holders, need, acked: none, failed: none, forgotten: false })
    }

    /// Up to two live nodes of the local data centre to keep a batch, never this one unless it is alone; other racks
    /// first, one node each (C `ReplicaPlans.filterBatchlogEndpoints`, S `endpoint_filter`).
    fn choose_holders(&mut self) -> NodeSet {
        let local = self.levels.local();
        if local.len() == 1 {
            return local;
        }
        let candidates = local.and(self.alive()).minus(NodeSet::one(self.me));
        if candidates.len() <= 2 {
            return candidates;
        }
        let my_rack = self.ring.rack(self.me);
        let (mut elsewhere, mut here) = (vec![], vec![]);
        for n in candidates.iter() {
            if self.ring.rack(n) == my_rack { here.push(n) } else { elsewhere.push(n) }
        }
        if elsewhere.len() < 2 {
            elsewhere.append(&mut here);
        }
        self.rng.shuffle(&mut elsewhere);
        let first = elsewhere[0];
        let other_rack = elsewhere[1..].iter().find(|n| self.ring.rack(**n) != self.ring.rack(first));
        let second = *other_rack.unwrap_or(&elsewhere[1]);
        NodeSet::one(first).or(NodeSet::one(second))
    }

    /// Mutations by their replicas; one by one when a hook watches.
    fn group_mutations(&self, sealed: &Sealed, observed: bool) -> Vec<Group> {
        let group = |which, replicas| {
            let none = NodeSet::default();
            Group { which, replicas, targets: none, hinted: none, acked: none, failed: none }
        };
        let replicas = |m: &super::seal::Mutation| {
            self.placements[usize::from(m.table.0)].as_ref().map_or(NodeSet::default(), |p| p.replicas(m.token))
        };
        let mutations = sealed.mutations();
        if observed {
            return mutations.iter().enumerate().map(|(i, m)| group(Which::Range(i as u16, i as u16), replicas(m))).collect();
        }
        let mut sets: Vec<(NodeSet, Vec<u16>)> = vec![];
        for (i, m) in mutations.iter().enumerate() {
            let set = replicas(m);
            match sets.iter_mut().find(|(s, _)| *s == set) {
                Some((_, list)) => list.push(i as u16),
                None => sets.push((set, vec![i as u16])),
            }
        }
        let shape = |list: Vec<u16>| match (list[0], list[list.len() - 1]) {
            (first, last) if usize::from(last - first) + 1 == list.len() => Which::Range(first, last),
            _ => Which::List(list.into()),
        };
        sets.into_iter().map(|(set, list)| group(shape(list), set)).collect()
    }

    fn check_liveness(&self, groups: &[Group], consistency: Consistency) -> Result<(), CoordinatorError> {
        let alive = self.alive();
        for g in groups {
            if consistency != Consistency::Any && !self.levels.reached(consistency, g.replicas, alive) {
                let (scope, required) = self.levels.need(consistency, g.replicas);
                let alive = scope.and(alive).len();
                return Err(CoordinatorError::Unavailable { consistency, required, alive, batchlog: false });
            }
        }
        Ok(())
    }

    fn start_write(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
        match &op.batchlog {
            None if op.leave_to_replay => self.ops.release(id),
            None => self.send_mutations(cx, id, op),
            Some(b) => {
                for holder in b.holders.iter() {
                    let (sealed, expires_us) = (op.sealed.clone(), op.deadline_us);
                    let msg = Msg::StoreBatch { op: id, id: b.id, sealed, written_at_us: cx.now_us, expires_us };
                    self.send(cx, holder, msg);
                }
                op.stage = Stage::Batchlog;
                self.ops.put(id, Op::Write(op));
            }
        }
    }

    pub(super) fn on_batch_kept(&mut self, cx: &mut Cx<'_>, from: NodeIdx, id: OpId, failed: bool) {
        let Some(mut op) = self.take_write(id) else { return };
        let Some(b) = op.batchlog.as_mut() else { return self.ops.put(id, Op::Write(op)) };
        if failed { b.failed.insert(from) } else { b.acked.insert(from) }
        if op.stage != Stage::Batchlog {
            return self.ops.put(id, Op::Write(op));
        }
        if b.acked.len() >= b.need {
            return self.batchlog_written(cx, id, op);
        }
        if b.holders.len() - b.failed.len() < b.need {
            let (received, required, failures) = (b.acked.len(), b.need, unknown(b.failed));
            let consistency = self.timeout_level(WriteType::BatchLog, required, op.consistency);
            let write_type = WriteType::BatchLog;
            let error = CoordinatorError::WriteFailure { consistency, received, required, failures, write_type };
            return self.fail_write(cx, id, op, error);
        }
        self.ops.put(id, Op::Write(op));
    }

    fn batchlog_written(&mut self, cx: &mut Cx<'_>, id: OpId, op: Box<WriteOp>) {
        if op.leave_to_replay {
            return self.ops.release(id);
        }
        let verdict = if op.observed { self.consult_sealed(cx, Point::BatchlogWritten, &op) } else { Verdict::Continue };
        if let Some(op) = self.obey(cx, id, op, verdict) {
            self.send_mutations(cx, id, op);
        }
    }

    /// Sends the mutations: all at once, or one by one under a hook.
    fn send_mutations(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
        op.stage = Stage::Mutations;
        if !op.observed {
            for g in 0..op.groups.len() {
                self.send_group(cx, id, &mut op, g);
            }
            return self.advance(cx, id, op);
        }
        let of = op.groups.len() as u16;
        loop {
            let k = op.sent;
            if !std::mem::take(&mut op.asked_already) {
                op.asked_already = true;
                let verdict = self.consult_sealed(cx, Point::MutationsSent { k, of }, &op);
                match self.obey(cx, id, op, verdict) {
                    Some(back) => op = back,
                    None => return,
                }
                op.asked_already = false;
            }
            if k == of {
                return self.advance(cx, id, op);
            }
            self.send_group(cx, id, &mut op, usize::from(k));
            op.sent += 1;
        }
    }

    fn consult_sealed(&mut self, cx: &mut Cx<'_>, point: Point, op: &WriteOp) -> Verdict {
        if cx.hook.is_none() {
            return Verdict::Continue;
        }
        let schema = self.schema.clone();
        let info = BatchInfo::sealed(op.kind, &schema, &op.sealed);
        self.consult(cx, point, Some(&info), None, &schema)
    }

    /// Carries out a verdict between two steps. Gives the write back if it goes on at once; otherwise it was put away.
    fn obey(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>, verdict: Verdict) -> Option<Box<WriteOp>> {
        match verdict {
            Verdict::Continue => return Some(op),
            Verdict::SwallowResponse => {
                op.swallow = true;
                return Some(op);
            }
            Verdict::Drop => self.ops.release(id),
            Verdict::KillNode => self.die(cx),
            Verdict::PauseNode { ms } => {
                cx.fx.push(Effect::PauseSelf { ms });
                self.freeze(cx.now_us + 1, id, op);
            }
            Verdict::Timeout { write_type, received, required, then } => {
                let consistency = self.timeout_level(write_type, required, op.consistency);
                let error = CoordinatorError::WriteTimeout { consistency, received, required, write_type };
                if let Purpose::Client(client) = std::mem::replace(&mut op.purpose, Purpose::Detached) {
                    self.answer_error(cx, client, error);
                }
                match self.kindly(then) {
                    Then::ApplyNow => return Some(op),
                    Then::ByReplay => self.ops.release(id),
                    Then::NeverApply => {
                        self.abandon_batch(cx, &op);
                        self.ops.release(id);
                    }
                    Then::ExecuteLate { after_ms } => self.freeze(cx.now_us + after_ms * 1000, id, op),
                }
            }
        }
        None
    }

    /// Puts a write away between two steps; it goes on from there.
    fn freeze(&mut self, until_us: u64, id: OpId, mut op: Box<WriteOp>) {
        op.stage = Stage::Frozen;
        self.ops.put(id, Op::Write(op));
        self.timers.set(until_us, Timer::Resume(id));
    }

    pub(super) fn write_resume(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
        if op.stage != Stage::Frozen {
            return self.ops.put(id, Op::Write(op));
        }
        // The pause may have outlived the deadline: the write goes on all the same and has its full time again, as a
        // thread does that slept between two steps.
        op.deadline_us = op.deadline_us.max(cx.now_us + self.config.timeouts.write_ms * 1000);
        self.timers.set(op.deadline_us, Timer::Deadline(id));
        self.send_mutations(cx, id, op);
    }

    fn send_group(&mut self, cx: &mut Cx<'_>, id: OpId, op: &mut WriteOp, g: usize) {
        let alive = self.alive();
        let undo = match &op.batchlog {
            Some(b) if self.config.kindness.rollback_failed_batch => Some(b.id),
            _ => None,
        };
        let (replicas, which) = (op.groups[g].replicas, op.groups[g].which.clone());
        let targets = replicas.and(alive);
        op.groups[g].targets = targets;
        for dead in replicas.minus(alive).iter() {
            if self.hint(cx, dead, &op.sealed, &which) {
                op.groups[g].hinted.insert(dead);
            }
        }
        for to in targets.iter() {
            let (sealed, which, expires_us) = (op.sealed.clone(), which.clone(), op.deadline_us);
            let msg = Msg::Mutate { op: id, group: g as u16, sealed, which, expires_us, undo };
            self.send(cx, to, msg);
        }
    }

    pub(super) fn on_mutated(&mut self, cx: &mut Cx<'_>, from: NodeIdx, id: OpId, group: u16, failed: bool) {
        match self.ops.take(id) {
            Some(Op::Write(mut op)) => {
                if let Some(g) = op.groups.get_mut(usize::from(group)) {
                    if failed { g.failed.insert(from) } else { g.acked.insert(from) }
                }
                self.advance(cx, id, op);
            }
            Some(Op::Read(op)) => self.on_repaired(cx, from, id, op, group),
            Some(other) => self.ops.put(id, other),
            None => {}
        }
    }

    /// Looks whether the write can take its next step, and whether it is over.
    fn advance(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
        if op.stage == Stage::Mutations {
            if self.mutations_done(&op) {
                return self.mutations_succeeded(cx, id, op);
            }
            if let Some(error) = self.unreachable_level(&op) {
                return self.fail_write(cx, id, op, error);
            }
        }
        if op.stage == Stage::Removing && op.batchlog.as_ref().is_none_or(|b| b.forgotten) {
            self.answer_done(cx, &mut op);
        }
        self.release_or_wait(cx, id, op);
    }

    /// An answered write is over when nobody is left to answer; until then it waits, to hint those who never do.
    fn release_or_wait(&mut self, cx: &mut Cx<'_>, id: OpId, op: Box<WriteOp>) {
        if op.stage == Stage::Answered && op.groups.iter().all(|g| g.open().is_empty()) {
            self.hint_silent(cx, &op, false);
            self.ops.release(id);
        } else {
            self.ops.put(id, Op::Write(op));
        }
    }

    fn mutations_done(&self, op: &WriteOp) -> bool {
        let live_only = self.replays_to_live(op);
        op.groups.iter().all(|g| match live_only {
            true => g.open().is_empty() && g.failed.is_empty(),
            false if op.consistency == Consistency::Any => !g.acked.or(g.hinted).is_empty(),
            false => self.levels.reached(op.consistency, g.replicas, g.acked),
        })
    }

    fn unreachable_level(&self, op: &WriteOp) -> Option<CoordinatorError> {
        if self.replays_to_live(op) {
            return None;
        }
        let lost = op.groups.iter().find(|g| {
            // A replica that is not alive was never asked: the liveness check let it pass, so it does not count here.
            !g.failed.is_empty() && !self.levels.reached(op.consistency, g.replicas, g.targets.minus(g.failed).or(g.hinted))
        })?;
        let (scope, required) = self.levels.need(op.consistency, lost.replicas);
        let received = lost.acked.and(scope).len();
        let (consistency, write_type) = (op.consistency, op.write_type);
        Some(CoordinatorError::WriteFailure { consistency, received, required, failures: unknown(lost.failed), write_type })
    }

    fn mutations_succeeded(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
        op.stage = Stage::Removing;
        if let Some(b) = op.batchlog.as_mut() {
            let (batch, holders) = (b.id, b.holders);
            b.forgotten = !self.rules.batchlog_removal_awaited || holders.and(self.alive()).is_empty();
            for holder in holders.iter() {
                let op = self.rules.batchlog_removal_awaited.then_some(id);
                self.send(cx, holder, Msg::RemoveBatch { op, id: batch });
            }
        }
        self.advance(cx, id, op);
    }

    pub(super) fn on_batch_forgotten(&mut self, cx: &mut Cx<'_>, _from: NodeIdx, id: OpId) {
        let Some(mut op) = self.take_write(id) else { return };
        if let Some(b) = op.batchlog.as_mut() {
            b.forgotten = true;
        }
        self.advance(cx, id, op);
    }

    fn answer_done(&mut self, cx: &mut Cx<'_>, op: &mut WriteOp) {
        op.stage = Stage::Answered;
        match op.purpose {
            Purpose::Client(client) => self.response_leaves(cx, client, op),
            Purpose::Detached => {}
            Purpose::Replay(batch) => self.replay_over(cx, batch, true),
        }
    }

    fn response_leaves(&mut self, cx: &mut Cx<'_>, client: ClientRef, op: &mut WriteOp) {
        if op.observed {
            match self.consult_sealed(cx, Point::ResponseLeaving, op) {
                Verdict::KillNode => return self.die(cx),
                Verdict::PauseNode { ms } => {
                    // The answer was written out before the process froze, or just after: the client sees it late.
                    cx.fx.push(Effect::PauseSelf { ms });
                }
                Verdict::Drop | Verdict::SwallowResponse => return,
                Verdict::Timeout { write_type, received, required, .. } => {
                    let consistency = self.timeout_level(write_type, required, op.consistency);
                    let error = CoordinatorError::WriteTimeout { consistency, received, required, write_type };
                    return self.answer_error(cx, client, error);
                }
                Verdict::Continue => {}
            }
        }
        if !op.swallow {
            let warnings = std::mem::take(&mut op.warnings);
            cx.fx.push(Effect::Reply { to: client, response: Response::Done { warnings } });
        }
    }

    /// The write failed for its client. Its batchlog entry stays: it rolls forward.
    fn fail_write(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>, error: CoordinatorError) {
        if self.config.kindness.rollback_failed_batch {
            self.undo_batch(cx, &op);
        }
        match op.purpose {
            Purpose::Client(client) if !op.swallow => self.answer_error(cx, client, error),
            Purpose::Client(_) | Purpose::Detached => {}
            Purpose::Replay(batch) => self.replay_over(cx, batch, false),
        }
        op.stage = Stage::Answered;
        self.release_or_wait(cx, id, op);
    }

    /// A verdict says that what was not sent never arrives: nor does the batchlog's copy.
    fn abandon_batch(&mut self, cx: &mut Cx<'_>, op: &WriteOp) {
        if self.config.kindness.rollback_failed_batch {
            return self.undo_batch(cx, op);
        }
        if let Some(b) = &op.batchlog {
            for holder in b.holders.iter() {
                self.send(cx, holder, Msg::RemoveBatch { op: None, id: b.id });
            }
        }
    }

    /// Takes a batch back everywhere, as no real server does.
    fn undo_batch(&mut self, cx: &mut Cx<'_>, op: &WriteOp) {
        let Some(b) = &op.batchlog else { return };
        let everybody = op.groups.iter().fold(b.holders, |set, g| set.or(g.replicas));
        for n in everybody.iter() {
            self.send(cx, n, Msg::UndoBatch { id: b.id });
        }
    }

    pub(super) fn write_deadline(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
        if cx.now_us < op.deadline_us || op.stage == Stage::Frozen {
            return self.ops.put(id, Op::Write(op));
        }
        let stage = op.stage;
        match stage {
            Stage::Batchlog => {
                let (received, required) = op.batchlog.as_ref().map_or((0, 1), |b| (b.acked.len(), b.need));
                let consistency = self.timeout_level(WriteType::BatchLog, required, op.consistency);
                let write_type = WriteType::BatchLog;
                let error = CoordinatorError::WriteTimeout { consistency, received, required, write_type };
                return self.fail_write(cx, id, op, error);
            }
            Stage::Mutations if self.replays_to_live(&op) => {
                self.hint_silent(cx, &op, true);
                self.answer_done(cx, &mut op);
                return self.ops.release(id);
            }
            Stage::Mutations => {
                let error = self.mutations_timed_out(&op);
                let always = self.rules.silent_hint == super::flavor::SilentHint::Always;
                self.hint_silent(cx, &op, always);
                for g in &mut op.groups {
                    g.targets = NodeSet::default();
                }
                return self.fail_write(cx, id, op, error);
            }
            Stage::Removing => self.answer_done(cx, &mut op),
            Stage::Answered | Stage::Frozen => {}
        }
        let always = self.rules.silent_hint == super::flavor::SilentHint::Always;
        self.hint_silent(cx, &op, always);
        self.ops.release(id);
    }

    fn mutations_timed_out(&self, op: &WriteOp) -> CoordinatorError {
        let missed = op.groups.iter().find(|g| !self.levels.reached(op.consistency, g.replicas, g.acked));
        let (received, required) = missed.map_or((0, 1), |g| {
            let (scope, required) = self.levels.need(op.consistency, g.replicas);
            (g.acked.and(scope).len(), required)
        });
        CoordinatorError::WriteTimeout { consistency: op.consistency, received, required, write_type: op.write_type }
    }

    /// Hints for replicas that did not take their mutations: always, or only where the level was reached.
    fn hint_silent(&mut self, cx: &mut Cx<'_>, op: &WriteOp, always: bool) {
        for g in &op.groups {
            if always || self.levels.reached(op.consistency, g.replicas, g.acked) {
                let failed = if self.rules.failed_are_hinted { g.failed } else { NodeSet::default() };
                for n in g.open().or(failed).minus(NodeSet::one(self.me)).iter() {
                    self.hint(cx, n, &op.sealed, &g.which);
                }
            }
        }
    }

    fn take_write(&mut self, id: OpId) -> Option<Box<WriteOp>> {
        match self.ops.take(id)? {
            Op::Write(op) => Some(op),
            other => {
                self.ops.put(id, other);
                None
            }
        }
    }

    fn replays_to_live(&self, op: &WriteOp) -> bool {
        matches!(op.purpose, Purpose::Replay(_)) && self.rules.replay_mode == super::flavor::ReplayMode::LiveReplicasThenHints
    }

    /// Replays mutations of a kept batch, with their original timestamps. False if that cannot even begin.
    pub(super) fn start_replay(&mut self, cx: &mut Cx<'_>, batch: BatchId, sealed: Arc<Sealed>) -> bool {
        let groups = self.group_mutations(&sealed, false);
        let mut op = WriteOp {
            purpose: Purpose::Replay(batch),
            kind: WriteKind::Unlogged,
            write_type: WriteType::Simple,
            consistency: Consistency::EachQuorum,
            sealed,
            groups,
            batchlog: None,
            stage: Stage::Mutations,
            deadline_us: cx.now_us + self.config.timeouts.write_ms * 2000,
            warnings: vec![],
            observed: false,
            sent: 0,
            asked_already: false,
            swallow: false,
            leave_to_replay: false,
        };
        if self.replays_to_live(&op) {
            op.deadline_us = cx.now_us + self.config.timeouts.write_ms * 1000;
        } else if self.check_liveness(&op.groups, op.consistency).is_err() {
            return false;
        }
        let id = self.ops.reserve();
        self.timers.set(op.deadline_us, Timer::Deadline(id));
        self.send_mutations(cx, id, Box::new(op));
        true
    }

    /// A peer's process is gone while its machine lives. ScyllaDB counts what was sent to it as failed at once.
    pub(super) fn peer_reset(&mut self, cx: &mut Cx<'_>, peer: NodeIdx) {
        if !self.rules.reset_is_failure {
            return;
        }
        let waiting: Vec<OpId> = self.ops.ids().collect();
        for id in waiting {
            let Some(op) = self.take_write(id) else { continue };
            let in_batchlog = op.stage == Stage::Batchlog
                && op.batchlog.as_ref().is_some_and(|b| b.holders.contains(peer) && !b.acked.contains(peer));
            let groups: Vec<u16> = (0..op.groups.len() as u16).filter(|g| op.groups[usize::from(*g)].open().contains(peer)).collect();
            self.ops.put(id, Op::Write(op));
            if in_batchlog {
                self.on_batch_kept(cx, peer, id, true);
            }
            for g in groups {
                self.on_mutated(cx, peer, id, g, true);
            }
        }
    }
}

fn unknown(failed: NodeSet) -> Vec<(NodeIdx, crate::model::FailureReason)> {
    failed.iter().map(|n| (n, crate::model::FailureReason::Unknown)).collect()
}
