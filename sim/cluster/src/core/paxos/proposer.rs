//! A coordinator's part of Paxos: one conditional write, or one read at a serial level.
//!
//! Prepare; finish what an earlier proposer left accepted but not committed; tell replicas what they missed; read at a
//! quorum; decide; propose; commit at the client's level; answer. Whoever is outbid waits a random moment and begins again,
//! until the contention timeout. The level in a timeout tells how far it came (seen): SERIAL with the quorum required is a
//! prepare or contention, nothing was done; SERIAL with all asked required is a proposal, unknown; the client's level is a
//! commit, decided.

use super::{Ballot, PaxosKey, Promise, Proposal};
use crate::core::boundary::{Point, Subject};
use crate::core::message::{ClientRef, Effect, Msg, OpId, Which};
use crate::core::node::{Cx, Node, Op};
use crate::core::ring::NodeSet;
use crate::core::seal::{Sealed, Stamp};
use crate::core::timers::Timer;
use crate::model::{
    CasAction, CasRequest, Consistency, CoordinatorError, NodeIdx, ReadRequest, ReadResult, ReadTarget, Request,
    Response,
};
use std::borrow::Cow;
use std::sync::Arc;

/// The longest pause of whoever was outbid (C `ThreadLocalRandom.nextInt(100)`; S `sleep_approx_50ms` is shorter).
const BACKOFF_MS: u64 = 100;

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Replicas are asked for promises.
    Preparing,
    /// Outbid: waits to begin again.
    Waiting,
    /// The rows are read.
    Reading,
    /// Replicas are asked to accept.
    Proposing,
    /// Replicas are told the outcome.
    Committing,
}

/// A conditional write, or a read at a serial level, under way.
#[derive(Debug)]
pub(in crate::core) struct CasOp {
    client: ClientRef,
    request: CasRequest,
    key: Arc<PaxosKey>,
    /// All replicas of the partition, and those among whom the order is agreed.
    replicas: NodeSet,
    scope: NodeSet,
    /// Promises and acceptances that are needed.
    need: u32,
    ballot: Ballot,
    stage: Stage,
    /// When it began.
    begun_us: u64,
    /// After this no new round is begun.
    give_up_us: u64,
    /// End of the stage.
    deadline_us: u64,
    contentions: u32,
    /// Those asked in this stage, and their answers.
    asked: NodeSet,
    promises: Vec<(NodeIdx, Promise)>,
    yes: NodeSet,
    no: NodeSet,
    /// What is proposed or committed just now.
    update: Option<Arc<Sealed>>,
    /// Whether that is what somebody else left.
    is_others: bool,
    /// What was read, and whether the condition held.
    read: ReadResult,
    applied: bool,
    /// Whether it hears no answer to what it proposes.
    is_deaf: bool,
}

impl Node {
    /// A client's conditional write or serial read arrives.
    pub(in crate::core) fn client_cas(&mut self, cx: &mut Cx<'_>, client: ClientRef, request: CasRequest) {
        if self.is_lost_on_waking(cx) {
            return self.mutely(cx, |node, cx| node.start_cas(cx, client, request));
        }
        if cx.hook.is_none() {
            return self.start_cas(cx, client, request);
        }
        let schema = self.schema.clone();
        let subject = Subject::conditional(request.read.table, request.serial);
        let verdict = self.consult(cx, Point::RequestArrived, subject, &schema);
        let asked = request.serial;
        self.arrived(cx, verdict, client, Request::Cas(Box::new(request)), asked);
    }

    /// Begins a conditional write or serial read.
    pub(in crate::core) fn start_cas(&mut self, cx: &mut Cx<'_>, client: ClientRef, request: CasRequest) {
        let planned = self.plan_cas(cx, client, request);
        match planned {
            Ok(mut op) => {
                op.is_deaf = self.is_deaf_on_waking(cx);
                let id = self.ops.reserve();
                self.begin_ballot(cx, id, Box::new(op), Ballot::default());
            }
            Err(error) => self.answer_error(cx, client, error),
        }
    }

    fn plan_cas(&mut self, cx: &Cx<'_>, client: ClientRef, request: CasRequest) -> Result<CasOp, CoordinatorError> {
        let invalid = |what: &str| CoordinatorError::Invalid { what: what.to_owned() };
        let ReadTarget::Partitions(keys) = &request.read.target else {
            return Err(invalid(
                "SERIAL/LOCAL_SERIAL consistency may only be requested for one partition at a time",
            ));
        };
        let [partition] = keys.as_slice() else {
            return Err(invalid(
                "SERIAL/LOCAL_SERIAL consistency may only be requested for one partition at a time",
            ));
        };
        let table = request.read.table;
        let placement = self.placements.get(usize::from(table.0)).cloned().flatten();
        let placement = placement.ok_or_else(|| invalid("the table is not in this node's schema"))?;
        let replicas = placement.replicas(partition.token);
        let (scope, need) = self.levels.need(request.serial, replicas);
        let key = PaxosKey {
            table,
            partition: partition.bytes.clone(),
        };
        Ok(CasOp {
            client,
            key: Arc::new(key),
            replicas,
            scope,
            need,
            ballot: Ballot::default(),
            stage: Stage::Preparing,
            begun_us: cx.now_us,
            give_up_us: cx.now_us + self.rules.cas_contention_ms * 1000,
            deadline_us: 0,
            contentions: 0,
            asked: NodeSet::default(),
            promises: vec![],
            yes: NodeSet::default(),
            no: NodeSet::default(),
            update: None,
            is_others: false,
            read: ReadResult::default(),
            applied: false,
            is_deaf: false,
            request,
        })
    }

    /// A new round, with a ballot above `above`.
    fn begin_ballot(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<CasOp>, above: Ballot) {
        if cx.now_us >= op.give_up_us {
            let required = op.need;
            return self.fail_cas(cx, id, &op, timed_out(&op, op.request.serial, 0, required, false));
        }
        op.asked = op.scope.and(self.alive());
        if op.asked.len() < op.need {
            let error = CoordinatorError::Unavailable {
                consistency: op.request.serial,
                required: op.need,
                alive: op.asked.len(),
                batchlog: false,
            };
            return self.fail_cas(cx, id, &op, error);
        }
        let time_us = self
            .clock
            .wall_us(cx.now_us)
            .max(self.last_ballot_us + 1)
            .max(above.time_us + 1);
        self.last_ballot_us = time_us;
        op.ballot = Ballot {
            time_us,
            node: self.me.0,
        };
        op.promises.clear();
        self.begin_stage(cx, id, &mut op, Stage::Preparing);
        for to in op.asked.iter() {
            let (ballot, key, expires_us) = (op.ballot, op.key.clone(), self.paxos_expires_us(cx));
            let msg = Msg::Prepare {
                op: id,
                ballot,
                key,
                expires_us,
            };
            self.send(cx, to, msg);
        }
        self.ops.put(id, Op::Cas(op));
    }

    /// When a message that leaves now is of no use any more: it does not know when its request began.
    fn paxos_expires_us(&self, cx: &Cx<'_>) -> u64 {
        cx.now_us + self.config.timeouts.write_ms * 1000
    }

    fn begin_stage(&mut self, cx: &mut Cx<'_>, id: OpId, op: &mut CasOp, stage: Stage) {
        op.stage = stage;
        (op.yes, op.no) = (NodeSet::default(), NodeSet::default());
        let from_us = if self.rules.cas_has_one_timeout {
            op.begun_us
        } else {
            cx.now_us
        };
        op.deadline_us = from_us + self.config.timeouts.write_ms * 1000;
        self.timers.set(op.deadline_us, Timer::Deadline(id));
    }

    /// Somebody else was faster: begins again after a random pause.
    fn outbid(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<CasOp>, by: Ballot) {
        op.contentions += 1;
        op.stage = Stage::Waiting;
        op.ballot = op.ballot.max(by);
        let pause_us = self.rng.below(BACKOFF_MS * 1000);
        self.timers.set(cx.now_us + pause_us, Timer::Resume(id));
        self.ops.put(id, Op::Cas(op));
    }

    pub(in crate::core) fn cas_resume(&mut self, cx: &mut Cx<'_>, id: OpId, op: Box<CasOp>) {
        if op.stage != Stage::Waiting {
            return self.ops.put(id, Op::Cas(op));
        }
        let above = op.ballot;
        self.begin_ballot(cx, id, op, above);
    }

    pub(in crate::core) fn on_promised(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        id: OpId,
        ballot: Ballot,
        promise: Promise,
    ) {
        let Some(mut op) = self.take_cas(id, Stage::Preparing, ballot) else {
            return;
        };
        if !promise.granted {
            return self.outbid(cx, id, op, promise.promised);
        }
        op.promises.push((from, promise));
        if (op.promises.len() as u32) < op.need {
            return self.ops.put(id, Op::Cas(op));
        }
        if self.is_too_late(cx, op.deadline_us) {
            return self.cas_deadline(cx, id, op);
        }
        self.promises_suffice(cx, id, op);
    }

    fn promises_suffice(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<CasOp>) {
        let newest = |of: fn(&Promise) -> &Option<Proposal>| {
            let known = op.promises.iter().filter_map(|(_, p)| of(p).as_ref());
            known.max_by_key(|p| p.ballot).cloned()
        };
        let committed = newest(|p| &p.committed);
        let committed_at = committed.as_ref().map_or(Ballot::default(), |p| p.ballot);
        let unfinished = op
            .promises
            .iter()
            .filter_map(|(_, p)| p.accepted.as_ref())
            .filter(|p| p.update.is_some() && p.ballot > committed_at)
            .max_by_key(|p| p.ballot)
            .cloned();
        if let Some(unfinished) = unfinished {
            op.is_others = true;
            let again = |update: Arc<Sealed>| match self.rules.paxos_restamps {
                true => update.restamped(op.ballot.time_us).map_or(update, Arc::new),
                false => update,
            };
            op.update = unfinished.update.map(again);
            return self.propose(cx, id, op);
        }
        let behind = |p: &Promise| p.committed.as_ref().map_or(Ballot::default(), |c| c.ballot) < committed_at;
        let stale: Vec<NodeIdx> = op.promises.iter().filter(|(_, p)| behind(p)).map(|(n, _)| *n).collect();
        if let Some(committed) = committed
            && !stale.is_empty()
        {
            for to in stale {
                let (key, proposal) = (op.key.clone(), committed.clone());
                self.send(
                    cx,
                    to,
                    Msg::Commit {
                        op: None,
                        key,
                        proposal,
                    },
                );
            }
            let above = op.ballot;
            return self.begin_ballot(cx, id, op, above);
        }
        self.begin_stage(cx, id, &mut op, Stage::Reading);
        let request = ReadRequest {
            command: op.request.read.clone(),
            consistency: quorum_of(op.request.serial),
            timeout_ms: None,
        };
        // The read has a deadline of its own, longer than a write's.
        op.deadline_us = u64::MAX;
        self.ops.put(id, Op::Cas(op));
        self.read_for_cas(cx, id, request);
    }

    /// The rows are there: decides what is proposed.
    pub(in crate::core) fn cas_read(&mut self, cx: &mut Cx<'_>, id: OpId, rows: Result<ReadResult, CoordinatorError>) {
        let Some(Op::Cas(mut op)) = self.ops.take(id) else {
            return;
        };
        match rows {
            Ok(rows) => op.read = rows,
            Err(error) => return self.fail_cas(cx, id, &op, error),
        }
        op.is_others = false;
        op.update = None;
        if let CasAction::Write {
            condition,
            writes,
            derived,
        } = &op.request.action
        {
            op.applied = condition.holds(&op.read);
            if op.applied {
                let mut writes = Cow::Borrowed(writes);
                let derived = derived
                    .as_ref()
                    .map(|d| d.write(std::slice::from_ref(&op.read), writes.to_mut()));
                if let Some(Err(what)) = derived {
                    return self.fail_cas(cx, id, &op, CoordinatorError::Invalid { what });
                }
                let stamp = Stamp {
                    timestamp_us: op.ballot.time_us,
                    deletion_us: op.ballot.time_us - i64::from(self.rules.cas_deletions_are_older),
                    wall_s: self.clock.wall_s(cx.now_us),
                    unit: self.rules.mutation_unit,
                    // C and S take the ballot's time for elements of lists too.
                    list_us: Some(op.ballot.time_us),
                    node: self.uuid_node(),
                };
                match Sealed::seal(&writes, stamp, &self.schema, |t| self.layout(t)) {
                    Ok(sealed) => op.update = Some(Arc::new(sealed)),
                    Err(error) => {
                        let what = error.to_string();
                        return self.fail_cas(cx, id, &op, CoordinatorError::Invalid { what });
                    }
                }
            }
        }
        self.propose(cx, id, op);
    }

    fn propose(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<CasOp>) {
        self.begin_stage(cx, id, &mut op, Stage::Proposing);
        op.asked = op.scope.and(self.alive());
        for to in op.asked.iter() {
            let (key, proposal, expires_us) = (op.key.clone(), op.proposal(), self.paxos_expires_us(cx));
            let msg = Msg::Propose {
                op: id,
                key,
                proposal,
                expires_us,
            };
            self.send(cx, to, msg);
        }
        self.ops.put(id, Op::Cas(op));
    }

    pub(in crate::core) fn on_accepted(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        id: OpId,
        ballot: Ballot,
        granted: bool,
    ) {
        let Some(mut op) = self.take_cas(id, Stage::Proposing, ballot) else {
            return;
        };
        if op.is_deaf {
            return self.ops.put(id, Op::Cas(op));
        }
        if granted {
            op.yes.insert(from)
        } else {
            op.no.insert(from)
        }
        if op.yes.len() >= op.need {
            if self.is_too_late(cx, op.deadline_us) {
                return self.cas_deadline(cx, id, op);
            }
            return self.accepted(cx, id, op);
        }
        let open = op.asked.minus(op.yes).minus(op.no);
        let hopeless = op.yes.len() + open.len() < op.need;
        if op.is_others && hopeless || open.is_empty() && op.yes.is_empty() {
            let above = op.ballot;
            return self.outbid(cx, id, op, above);
        }
        if open.is_empty() {
            // Some have it and some do not: whoever comes next decides.
            let (received, required) = (op.yes.len(), op.need);
            return self.fail_cas(cx, id, &op, timed_out(&op, op.request.serial, received, required, true));
        }
        self.ops.put(id, Op::Cas(op));
    }

    fn accepted(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: Box<CasOp>) {
        let Some(update) = op.update.clone() else {
            return self.answer_cas(cx, id, &op);
        };
        let alive = self.alive();
        let level = op.commit_level();
        if level != Consistency::Any && !self.levels.reached(level, op.replicas, alive) {
            let (scope, required) = self.levels.need(level, op.replicas);
            let error = CoordinatorError::Unavailable {
                consistency: level,
                required,
                alive: scope.and(alive).len(),
                batchlog: false,
            };
            return self.fail_cas(cx, id, &op, error);
        }
        self.begin_stage(cx, id, &mut op, Stage::Committing);
        op.asked = op.replicas.and(alive);
        if self.rules.cas_is_hinted {
            for dead in op.replicas.minus(alive).iter() {
                self.hint(cx, dead, &update, &all_of(&update));
            }
        }
        for to in op.asked.iter() {
            let (key, proposal) = (op.key.clone(), op.proposal());
            self.send(
                cx,
                to,
                Msg::Commit {
                    op: Some(id),
                    key,
                    proposal,
                },
            );
        }
        if level == Consistency::Any {
            return self.committed(cx, id, op);
        }
        self.ops.put(id, Op::Cas(op));
    }

    pub(in crate::core) fn on_committed(&mut self, cx: &mut Cx<'_>, from: NodeIdx, id: OpId, ballot: Ballot) {
        let Some(mut op) = self.take_cas(id, Stage::Committing, ballot) else {
            return;
        };
        op.yes.insert(from);
        if self.levels.reached(op.commit_level(), op.replicas, op.yes) {
            if self.is_too_late(cx, op.deadline_us) {
                return self.cas_deadline(cx, id, op);
            }
            return self.committed(cx, id, op);
        }
        self.ops.put(id, Op::Cas(op));
    }

    fn committed(&mut self, cx: &mut Cx<'_>, id: OpId, op: Box<CasOp>) {
        if op.is_others {
            let above = op.ballot;
            return self.begin_ballot(cx, id, op, above);
        }
        self.answer_cas(cx, id, &op);
    }

    fn answer_cas(&mut self, cx: &mut Cx<'_>, id: OpId, op: &CasOp) {
        self.ops.release(id);
        let (to, read) = (op.client, op.read.clone());
        let response = match op.request.action {
            CasAction::Read => Response::Rows(read),
            CasAction::Write { .. } => Response::Cas {
                applied: op.applied,
                read,
            },
        };
        cx.fx.push(Effect::Reply { to, response });
    }

    pub(in crate::core) fn cas_deadline(&mut self, cx: &mut Cx<'_>, id: OpId, op: Box<CasOp>) {
        if cx.now_us < op.deadline_us {
            return self.ops.put(id, Op::Cas(op));
        }
        let serial = op.request.serial;
        let error = match op.stage {
            Stage::Waiting | Stage::Reading => return self.ops.put(id, Op::Cas(op)),
            Stage::Preparing => {
                let received = self.told_of(op.promises.len() as u32, op.need);
                timed_out(&op, serial, received, op.need, false)
            }
            Stage::Proposing => timed_out(&op, serial, op.yes.or(op.no).len(), op.asked.len(), false),
            Stage::Committing => {
                let level = op.commit_level();
                let (scope, required) = self.levels.need(level, op.replicas);
                if let (true, Some(update)) = (self.rules.cas_is_hinted, &op.update) {
                    for silent in op.asked.minus(op.yes).minus(NodeSet::one(self.me)).iter() {
                        self.hint(cx, silent, update, &all_of(update));
                    }
                }
                let received = self.told_of(op.yes.and(scope).len(), required);
                timed_out(&op, level, received, required, false)
            }
        };
        self.fail_cas(cx, id, &op, error);
    }

    fn fail_cas(&mut self, cx: &mut Cx<'_>, id: OpId, op: &CasOp, error: CoordinatorError) {
        self.ops.release(id);
        let error = self.told_to_reader(op, error);
        self.answer_error(cx, op.client, error);
    }

    /// A round that timed out for a read is a read that timed out, where the flavour says so. One of which it is not known
    /// whether it was accepted stays what it is (seen).
    fn told_to_reader(&self, op: &CasOp, error: CoordinatorError) -> CoordinatorError {
        let is_read = matches!(op.request.action, CasAction::Read);
        match error {
            CoordinatorError::CasTimeout { unknown: false, .. } if is_read && self.rules.serial_read_times_out => {
                CoordinatorError::ReadTimeout {
                    consistency: op.request.serial,
                    received: 0,
                    required: op.need,
                    data_present: false,
                }
            }
            error => error,
        }
    }

    /// The operation, if it stands there with that ballot; answers of earlier rounds mean nothing.
    fn take_cas(&mut self, id: OpId, stage: Stage, ballot: Ballot) -> Option<Box<CasOp>> {
        match self.ops.take(id)? {
            Op::Cas(op) if op.stage == stage && op.ballot == ballot => Some(op),
            other => {
                self.ops.put(id, other);
                None
            }
        }
    }
}

impl CasOp {
    fn proposal(&self) -> Proposal {
        Proposal {
            ballot: self.ballot,
            update: self.update.clone(),
        }
    }

    /// What a read finishes for others is learnt by a quorum.
    fn commit_level(&self) -> Consistency {
        match self.request.action {
            CasAction::Read => quorum_of(self.request.serial),
            CasAction::Write { .. } => self.request.commit,
        }
    }
}

fn timed_out(op: &CasOp, consistency: Consistency, received: u32, required: u32, unknown: bool) -> CoordinatorError {
    CoordinatorError::CasTimeout {
        consistency,
        received,
        required,
        contentions: op.contentions,
        unknown,
    }
}

fn quorum_of(serial: Consistency) -> Consistency {
    match serial {
        Consistency::LocalSerial => Consistency::LocalQuorum,
        _ => Consistency::Quorum,
    }
}

fn all_of(sealed: &Sealed) -> Which {
    Which::Range(0, sealed.mutations().len().saturating_sub(1) as u16)
}
