//! Coordinating writes: one statement, UNLOGGED and LOGGED batches, and what the batchlog replays.
//!
//! The steps are the servers' own (`scylla-semantics` section 1): checks that can refuse without a trace; the batchlog
//! on its holders; the mutations to every live replica, hints for the dead ones; the removal from the batchlog; the
//! answer; and after the answer, hints for the replicas that stayed silent. Where the flavours differ, `Rules` says.

use super::boundary::{Point, Verdict};
use super::message::{BatchId, ClientRef, Msg, OpId, Which};
use super::node::{Cx, Node, Op};
use super::ring::NodeSet;
use super::seal::Sealed;
use super::timers::Timer;
use crate::model::{
    Consistency, CoordinatorError, FailureReason, NodeIdx, Warning, WriteKind, WriteRequest, WriteType,
};
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
    /// Views of a table of which this node is a replica.
    View {
        /// The entry of this node's batchlog that has the updates too.
        batch: Option<BatchId>,
        /// Who waits for them.
        waiter: Option<u64>,
    },
    /// The coordinator of an addition to a counter, which this node leads.
    Lead {
        /// Who.
        to: NodeIdx,
        /// Its operation.
        op: OpId,
    },
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
    pub which: Which,
    pub replicas: NodeSet,
    /// Those that were sent the mutations.
    pub targets: NodeSet,
    pub hinted: NodeSet,
    pub acked: NodeSet,
    pub failed: NodeSet,
    /// Replicas that do not have their data yet: they are written to and waited for, and count for no level.
    pub pending: NodeSet,
    /// Those of the failed that could not understand the mutations.
    pub incompatible: NodeSet,
}

impl Group {
    /// Mutations that nobody was sent yet.
    pub fn of(which: Which, replicas: NodeSet) -> Group {
        let none = NodeSet::default();
        Group {
            which,
            replicas,
            targets: none,
            hinted: none,
            acked: none,
            failed: none,
            pending: none,
            incompatible: none,
        }
    }

    fn failures(&self) -> Vec<(NodeIdx, FailureReason)> {
        let reason = |node: NodeIdx| match self.incompatible.contains(node) {
            true => FailureReason::IncompatibleSchema,
            false => FailureReason::Unknown,
        };
        self.failed.iter().map(|node| (node, reason(node))).collect()
    }

    /// Replicas that may still answer.
    fn open(&self) -> NodeSet {
        self.targets.minus(self.acked).minus(self.failed)
    }
}

/// The batchlog's part of a write.
#[derive(Debug)]
pub(super) struct Batchlog {
    pub id: BatchId,
    pub holders: NodeSet,
    /// Holders that must have it before mutations go out.
    pub need: u32,
    pub acked: NodeSet,
    pub failed: NodeSet,
    /// Whether its removal need not be waited for any more.
    pub forgotten: bool,
}

/// A write under way.
#[derive(Debug)]
pub(super) struct WriteOp {
    pub purpose: Purpose,
    pub kind: WriteKind,
    pub write_type: WriteType,
    pub consistency: Consistency,
    pub sealed: Arc<Sealed>,
    pub groups: Vec<Group>,
    pub batchlog: Option<Batchlog>,
    pub stage: Stage,
    pub deadline_us: u64,
    pub warnings: Vec<Warning>,
    /// Whether a hook watches: then mutations leave one by one.
    pub observed: bool,
    /// Mutations sent so far, when watched.
    pub sent: u16,
    /// Whether the hook was asked about the step at which the write froze.
    pub asked_already: bool,
    /// A hook took the answer away.
    pub swallow: bool,
    /// A hook wants the batch left to the replay.
    pub leave_to_replay: bool,
}

/// What a write is: for whom, of which kind and at which level.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub purpose: Purpose,
    pub kind: WriteKind,
    pub write_type: WriteType,
    pub consistency: Consistency,
}

impl WriteOp {
    /// Whether a client waits for it.
    fn is_awaited(&self) -> bool {
        matches!(self.purpose, Purpose::Client(_))
    }

    /// A write that has not begun: without a batchlog, watched by nobody.
    pub fn new(about: About, sealed: Arc<Sealed>, groups: Vec<Group>, deadline_us: u64) -> WriteOp {
        WriteOp {
            purpose: about.purpose,
            kind: about.kind,
            write_type: about.write_type,
            consistency: about.consistency,
            sealed,
            groups,
            batchlog: None,
            stage: Stage::Mutations,
            deadline_us,
            warnings: vec![],
            observed: false,
            sent: 0,
            asked_already: false,
            swallow: false,
            leave_to_replay: false,
        }
    }
}

/// How a write is to be executed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    /// A hook wants to see its points.
    pub watched: bool,
    /// The answer never leaves.
    pub swallow: bool,
    /// After the batchlog has it, the rest is the replay's.
    pub leave_to_replay: bool,
    /// Its time is over before it begins.
    pub is_over: bool,
}

impl Node {
    pub(super) fn execute_write(&mut self, cx: &mut Cx<'_>, purpose: Purpose, request: WriteRequest, manner: Manner) {
        match self.plan_write(cx, purpose, request, manner) {
            Ok(mut op) => {
                if manner.is_over && op.batchlog.is_some() {
                    op.deadline_us = cx.now_us;
                }
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

    fn start_write(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
        match &op.batchlog {
            None if op.leave_to_replay => self.ops.release(id),
            None => self.send_mutations(cx, id, op),
            Some(b) => {
                for holder in b.holders.iter() {
                    let (sealed, expires_us) = (op.sealed.clone(), op.deadline_us);
                    let msg = Msg::StoreBatch {
                        op: id,
                        id: b.id,
                        sealed,
                        written_at_us: cx.now_us,
                        expires_us,
                    };
                    self.send(cx, holder, msg);
                }
                op.stage = Stage::Batchlog;
                self.ops.put(id, Op::Write(op));
            }
        }
    }

    pub(super) fn on_batch_kept(&mut self, cx: &mut Cx<'_>, from: NodeIdx, id: OpId, failed: bool) {
        let Some(mut op) = self.take_write(id) else { return };
        let Some(b) = op.batchlog.as_mut() else {
            return self.ops.put(id, Op::Write(op));
        };
        if failed {
            b.failed.insert(from)
        } else {
            b.acked.insert(from)
        }
        if op.stage != Stage::Batchlog {
            return self.ops.put(id, Op::Write(op));
        }
        if b.acked.len() >= b.need {
            if op.is_awaited() && self.is_too_late(cx, op.deadline_us) {
                return self.write_deadline(cx, id, op);
            }
            return self.batchlog_written(cx, id, op);
        }
        if b.holders.len() - b.failed.len() < b.need {
            let (received, required, failures) = (b.acked.len(), b.need, unknown(b.failed));
            let consistency = self.timeout_level(WriteType::BatchLog, required, op.consistency);
            let write_type = WriteType::BatchLog;
            let error = CoordinatorError::WriteFailure {
                consistency,
                received,
                required,
                failures,
                write_type,
            };
            return self.fail_write(cx, id, op, error);
        }
        self.ops.put(id, Op::Write(op));
    }

    fn batchlog_written(&mut self, cx: &mut Cx<'_>, id: OpId, op: Box<WriteOp>) {
        if op.leave_to_replay {
            return self.ops.release(id);
        }
        let verdict = if op.observed {
            self.consult_sealed(cx, Point::BatchlogWritten, &op)
        } else {
            Verdict::Continue
        };
        if let Some(op) = self.obey(cx, id, op, verdict) {
            self.send_mutations(cx, id, op);
        }
    }

    /// Sends the mutations: all at once, or one by one under a hook.
    pub(super) fn send_mutations(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
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

    fn send_group(&mut self, cx: &mut Cx<'_>, id: OpId, op: &mut WriteOp, g: usize) {
        let alive = self.alive();
        let undo = match &op.batchlog {
            Some(b) if self.config.kindness.rollback_failed_batch => Some(b.id),
            _ => None,
        };
        let (replicas, which) = (op.groups[g].replicas, op.groups[g].which.clone());
        let pending = replicas.and(self.pending());
        let targets = replicas.and(alive).or(pending);
        op.groups[g].targets = targets;
        op.groups[g].pending = pending;
        for dead in replicas.minus(targets).iter() {
            if self.hint(cx, dead, &op.sealed, &which) {
                op.groups[g].hinted.insert(dead);
            }
        }
        for to in targets.iter() {
            let (sealed, which, expires_us) = (op.sealed.clone(), which.clone(), op.deadline_us);
            let msg = Msg::Mutate {
                op: id,
                group: g as u16,
                sealed,
                which,
                expires_us,
                undo,
            };
            self.send(cx, to, msg);
        }
    }

    pub(super) fn on_mutated(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        id: OpId,
        group: u16,
        failed: Option<FailureReason>,
    ) {
        match self.ops.take(id) {
            Some(Op::Write(mut op)) => {
                if let Some(g) = op.groups.get_mut(usize::from(group)) {
                    match failed {
                        None => g.acked.insert(from),
                        Some(reason) => {
                            g.failed.insert(from);
                            if reason == FailureReason::IncompatibleSchema {
                                g.incompatible.insert(from);
                            }
                        }
                    }
                }
                self.advance(cx, id, op);
            }
            Some(Op::Read(op)) => self.on_repaired(cx, from, id, op, group),
            Some(Op::Sweep(op)) => self.on_sweep_written(cx, from, id, op, group, failed.is_some()),
            Some(other) => self.ops.put(id, other),
            None => {}
        }
    }

    /// Looks whether the write can take its next step, and whether it is over.
    fn advance(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
        if op.stage == Stage::Mutations {
            if self.mutations_done(&op) {
                if op.is_awaited() && self.is_too_late(cx, op.deadline_us) {
                    return self.write_deadline(cx, id, op);
                }
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
            let always = self.hints_always(&op);
            self.hint_silent(cx, &op, always);
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
            false => {
                let counted = g.acked.minus(g.pending);
                self.levels.reached(op.consistency, g.replicas, counted) && g.pending.minus(g.acked).is_empty()
            }
        })
    }

    fn unreachable_level(&self, op: &WriteOp) -> Option<CoordinatorError> {
        if self.replays_to_live(op) {
            return None;
        }
        let lost = op.groups.iter().find(|g| {
            // A replica that is not alive was never asked: the liveness check let it pass, so it does not count here.
            !g.failed.is_empty()
                && (!g.pending.and(g.failed).is_empty() || {
                    let left = g.targets.minus(g.failed).minus(g.pending).or(g.hinted);
                    !self.levels.reached(op.consistency, g.replicas, left)
                })
        })?;
        let (scope, required) = self.levels.need(op.consistency, lost.replicas);
        let (required, received) = (required + lost.pending.len(), lost.acked.and(scope).len());
        let (consistency, write_type) = (op.consistency, op.write_type);
        Some(CoordinatorError::WriteFailure {
            consistency,
            received,
            required,
            failures: lost.failures(),
            write_type,
        })
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
            Purpose::Lead { to, op } => self.lead_over(cx, to, op, Ok(())),
            Purpose::View { batch, waiter } => self.view_updates_over(cx, batch, waiter, true),
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
            Purpose::Lead { to, op } => self.lead_over(cx, to, op, Err(error)),
            Purpose::View { batch, waiter } => self.view_updates_over(cx, batch, waiter, false),
        }
        op.stage = Stage::Answered;
        self.release_or_wait(cx, id, op);
    }

    pub(super) fn write_deadline(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<WriteOp>) {
        if cx.now_us < op.deadline_us || op.stage == Stage::Frozen {
            return self.ops.put(id, Op::Write(op));
        }
        let stage = op.stage;
        match stage {
            Stage::Batchlog => {
                let (received, required) = op.batchlog.as_ref().map_or((0, 1), |b| (b.acked.len(), b.need));
                let received = self.told_of(received, required);
                let consistency = self.timeout_level(WriteType::BatchLog, required, op.consistency);
                let write_type = WriteType::BatchLog;
                let error = CoordinatorError::WriteTimeout {
                    consistency,
                    received,
                    required,
                    write_type,
                };
                return self.fail_write(cx, id, op, error);
            }
            Stage::Mutations if self.replays_to_live(&op) => {
                self.hint_silent(cx, &op, true);
                self.answer_done(cx, &mut op);
                return self.ops.release(id);
            }
            Stage::Mutations => {
                let error = self.mutations_timed_out(&op);
                let always = self.hints_always(&op);
                self.hint_silent(cx, &op, always);
                for g in &mut op.groups {
                    g.targets = NodeSet::default();
                }
                return self.fail_write(cx, id, op, error);
            }
            Stage::Removing => self.answer_done(cx, &mut op),
            Stage::Answered | Stage::Frozen => {}
        }
        let always = self.hints_always(&op);
        self.hint_silent(cx, &op, always);
        self.ops.release(id);
    }

    /// Whether replicas that did not take a write get hints although its level was not reached. Updates of views are
    /// written at ANY in S, so that hints count (SP `timeout_cb`).
    fn hints_always(&self, op: &WriteOp) -> bool {
        let is_of_views = matches!(op.purpose, Purpose::View { .. });
        is_of_views || self.rules.silent_hint == super::flavor::SilentHint::Always
    }

    fn mutations_timed_out(&mut self, op: &WriteOp) -> CoordinatorError {
        let is_missed = |g: &&Group| {
            !self.levels.reached(op.consistency, g.replicas, g.acked) || !g.pending.minus(g.acked).is_empty()
        };
        // When all answers came, and too late, it is the first that is told.
        let missed = op.groups.iter().find(is_missed).or(op.groups.first());
        let (received, required) = missed.map_or((0, 1), |g| {
            let (scope, required) = self.levels.need(op.consistency, g.replicas);
            (g.acked.and(scope).len(), required + g.pending.len())
        });
        let received = self.told_of(received, required);
        CoordinatorError::WriteTimeout {
            consistency: op.consistency,
            received,
            required,
            write_type: op.write_type,
        }
    }

    /// Hints for replicas that did not take their mutations: always, or only where the level was reached.
    fn hint_silent(&mut self, cx: &mut Cx<'_>, op: &WriteOp, always: bool) {
        for g in &op.groups {
            if always || self.levels.reached(op.consistency, g.replicas, g.acked) {
                let failed = if self.rules.failed_are_hinted {
                    g.failed
                } else {
                    NodeSet::default()
                };
                for n in g.open().or(failed).minus(NodeSet::one(self.me)).iter() {
                    self.hint(cx, n, &op.sealed, &g.which);
                }
            }
        }
    }

    pub(super) fn take_write(&mut self, id: OpId) -> Option<Box<WriteOp>> {
        match self.ops.take(id)? {
            Op::Write(op) => Some(op),
            other => {
                self.ops.put(id, other);
                None
            }
        }
    }

    fn replays_to_live(&self, op: &WriteOp) -> bool {
        matches!(op.purpose, Purpose::Replay(_))
            && self.rules.replay_mode == super::flavor::ReplayMode::LiveReplicasThenHints
    }

    /// Replays mutations of a kept batch, with their original timestamps. False if that cannot even begin.
    pub(super) fn start_replay(&mut self, cx: &mut Cx<'_>, batch: BatchId, sealed: Arc<Sealed>) -> bool {
        let groups = self.group_mutations(&sealed, false);
        let about = About {
            purpose: Purpose::Replay(batch),
            kind: WriteKind::Unlogged,
            write_type: WriteType::Simple,
            consistency: Consistency::EachQuorum,
        };
        let deadline_us = cx.now_us + self.config.timeouts.write_ms * 2000;
        let mut op = WriteOp::new(about, sealed, groups, deadline_us);
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
                && op
                    .batchlog
                    .as_ref()
                    .is_some_and(|b| b.holders.contains(peer) && !b.acked.contains(peer));
            let groups: Vec<u16> = (0..op.groups.len() as u16)
                .filter(|g| op.groups[usize::from(*g)].open().contains(peer))
                .collect();
            self.ops.put(id, Op::Write(op));
            if in_batchlog {
                self.on_batch_kept(cx, peer, id, true);
            }
            for g in groups {
                self.on_mutated(cx, peer, id, g, Some(FailureReason::Unknown));
            }
        }
    }
}

fn unknown(failed: NodeSet) -> Vec<(NodeIdx, FailureReason)> {
    failed.iter().map(|n| (n, FailureReason::Unknown)).collect()
}
