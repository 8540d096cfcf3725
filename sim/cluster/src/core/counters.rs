//! Counters. An addition is made by one replica, the leader: it adds to its own shard, whose clock it moves on, and from then on
//! the shard's new state is an ordinary mutation for all replicas. A coordinator that is no replica hands the addition to one.
//!
//! What a client cannot know after a timeout, as on real servers: whether the leader has added. The addition carries nothing by
//! which a second one could be told from it, so a retry counts twice. A leader that loses its shard with the tail of its
//! log (kill -9, loss of power) goes on from the older count with a newer clock, and what it counted meanwhile is gone.
//!
//! The current count is looked for whatever deletion of the row covers it (C: the counter cache): an addition after DELETE of
//! the row goes on from before, and after DELETE of the cell it is never seen again (C `Cells.resolveCounter`, seen).

use super::boundary::{BatchInfo, Point, Subject};
use super::log::ENTRY_HEADER_BYTES;
use super::message::{ClientRef, Msg, OpId, Which};
use super::node::{Cx, Node, Op};
use super::ring::NodeSet;
use super::row::{CellKind, RowState};
use super::seal::{Ops, Sealed, Stamp};
use super::timers::Timer;
use super::write::{About, Purpose, WriteOp};
use crate::model::parts::{Part, Shard, Shards};
use crate::model::{
    ColumnId, Components, Consistency, CoordinatorError, NodeIdx, OpView, Request, Warning, WriteKind, WriteRequest,
    WriteSet, WriteType,
};
use std::sync::Arc;

/// How much later than its leaders' own deadlines a coordinator gives up, so that what they say comes first.
const GRACE_US: u64 = 1_000;

/// Additions of one client under way.
#[derive(Debug)]
pub(super) struct CounterOp {
    client: ClientRef,
    consistency: Consistency,
    /// Mutations whose leaders have not answered.
    left: u32,
    deadline_us: u64,
    /// What the client is told beside that it is done.
    warnings: Vec<Warning>,
}

impl Node {
    /// A client's addition arrives.
    pub(super) fn client_counter(&mut self, cx: &mut Cx<'_>, client: ClientRef, request: WriteRequest) {
        if cx.hook.is_none() {
            return self.start_counter(cx, client, request);
        }
        let schema = self.schema.clone();
        let info = BatchInfo::asked(request.kind, &schema, &request.writes);
        if !cx.hook.as_deref_mut().is_some_and(|h| h.watches(&info)) {
            return self.start_counter(cx, client, request);
        }
        let subject = Subject::write(&info, request.consistency);
        let verdict = self.consult(cx, Point::RequestArrived, subject, &schema);
        let asked = request.consistency;
        self.arrived(cx, verdict, client, Request::Write(request), asked);
    }

    /// Begins an addition.
    pub(super) fn start_counter(&mut self, cx: &mut Cx<'_>, client: ClientRef, request: WriteRequest) {
        match self.plan_counter(cx, client, &request) {
            Err(error) => self.answer_error(cx, client, error),
            Ok((sealed, warnings)) => self.begin_counter(cx, client, &request, (&sealed, warnings)),
        }
    }

    fn plan_counter(
        &mut self,
        cx: &mut Cx<'_>,
        client: ClientRef,
        request: &WriteRequest,
    ) -> Result<(Arc<Sealed>, Vec<Warning>), CoordinatorError> {
        let timestamp_us = match request.timestamp_us {
            Some(t) => t,
            None => self.server_timestamp(cx.now_us, Purpose::Client(client)),
        };
        let stamp = Stamp {
            timestamp_us,
            deletion_us: timestamp_us,
            wall_s: self.clock.wall_s(cx.now_us),
            unit: self.rules.mutation_unit,
            list_us: None,
            node: self.uuid_node(),
        };
        let sealed = Sealed::seal(&request.writes, stamp, &self.schema, |t| self.layout(t))
            .map_err(|e| CoordinatorError::Invalid { what: e.to_string() })?;
        let warnings = self.check_size(&sealed, request.kind)?;
        self.check_liveness(&self.group_mutations(&sealed, false), request.consistency)?;
        Ok((Arc::new(sealed), warnings))
    }

    fn begin_counter(
        &mut self,
        cx: &mut Cx<'_>,
        client: ClientRef,
        request: &WriteRequest,
        (sealed, warnings): (&Arc<Sealed>, Vec<Warning>),
    ) {
        let timeout_ms = request.timeout_ms.map_or(self.config.timeouts.counter_ms, u64::from);
        let (consistency, expires_us) = (request.consistency, cx.now_us + timeout_ms * 1000);
        let id = self.ops.reserve();
        let op = CounterOp {
            client,
            consistency,
            left: sealed.mutations().len() as u32,
            deadline_us: expires_us + GRACE_US,
            warnings,
        };
        self.timers.set(op.deadline_us, Timer::Deadline(id));
        self.ops.put(id, Op::Counter(Box::new(op)));
        for (index, mutation) in sealed.mutations().iter().enumerate() {
            let placement = &self.placements[usize::from(mutation.table.0)];
            let replicas = placement
                .as_ref()
                .map(|p| p.replicas(mutation.token))
                .unwrap_or_default();
            let leader = self.choose_leader(replicas);
            let lead = Msg::Lead {
                op: id,
                sealed: sealed.clone(),
                index: index as u16,
                consistency,
                expires_us,
            };
            // Some replica is alive: the level was checked.
            self.send(cx, leader.unwrap_or(self.me), lead);
        }
    }

    /// Until when a leader waits for the other replicas.
    fn led_until(&mut self, cx: &Cx<'_>, expires_us: u64) -> u64 {
        let Some(after_ms) = self.rules.counter_mutations_expire_after_ms else {
            return expires_us;
        };
        let until_us = cx.now_us + self.config.timeouts.write_ms * 1000 + self.rng.below(after_ms * 1000);
        until_us.min(expires_us)
    }

    /// Who leads an addition, of the replicas that are alive.
    fn choose_leader(&mut self, replicas: NodeSet) -> Option<NodeIdx> {
        if !self.rules.counter_leader_is_drawn {
            return self.choose_replicas(replicas, 1).first().copied();
        }
        let live = replicas.and(self.alive());
        let drawn = self.rng.below(u64::from(live.len().max(1)));
        live.iter().nth(drawn as usize)
    }

    /// Leads one mutation: adds here, then writes the outcome to every replica.
    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn replica_lead(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        op: OpId,
        sealed: &Sealed,
        index: u16,
        consistency: Consistency,
        expires_us: u64,
    ) {
        if self.has_expired(cx, expires_us) {
            return cx.event(super::message::Event::Expired { from });
        }
        if self.is_news(sealed, &Which::Range(index, index)) {
            let again = || Msg::Lead {
                op,
                sealed: Arc::new(sealed.clone()),
                index,
                consistency,
                expires_us,
            };
            if !self.waits_for_schema(cx, from, again) {
                self.send(cx, from, Msg::Led { op, failed: true });
            }
            return;
        }
        let payload = &sealed.entry(usize::from(index))[ENTRY_HEADER_BYTES..];
        let mut writes = WriteSet::new();
        for addition in Ops::new(payload) {
            self.add_up(cx.now_us, &addition, &mut writes);
        }
        let outcome = Sealed::of_ops(&writes);
        let groups = self.group_mutations(&outcome, false);
        if let Err(error) = self.check_liveness(&groups, consistency) {
            return self.lead_over(cx, from, op, Err(error));
        }
        let about = About {
            purpose: Purpose::Lead { to: from, op },
            kind: WriteKind::Counter,
            write_type: WriteType::Counter,
            consistency,
        };
        let deadline_us = self.led_until(cx, expires_us);
        let write = WriteOp::new(about, Arc::new(outcome), groups, deadline_us);
        let id = self.ops.reserve();
        self.timers.set(write.deadline_us, Timer::Deadline(id));
        self.send_mutations(cx, id, Box::new(write));
    }

    /// Appends what an operation becomes: its additions as new states of this node's shards, the rest as it is.
    fn add_up(&self, now_us: u64, op: &OpView<'_>, out: &mut WriteSet) {
        let has_parts = op.kind().has_parts();
        let known = if has_parts {
            self.known_counters(op, out)
        } else {
            vec![]
        };
        out.begin(op.kind(), op.table(), op.partition_key(), op.timestamp_us())
            .ttl(op.ttl_s())
            .wall(op.wall_s());
        Components::new(op.clustering()).for_each(|c| {
            out.clustering(c);
        });
        Components::new(op.end_bound()).for_each(|c| {
            out.end_bound(c);
        });
        let flags = op.flags();
        let exclusive = |flag| flags & flag != 0;
        out.exclusive(
            exclusive(crate::model::write::FLAG_START_EXCLUSIVE),
            exclusive(crate::model::write::FLAG_END_EXCLUSIVE),
        );
        for (column, value) in op.cells() {
            match Part::of(value).filter(|_| has_parts) {
                Some(Part::Addition(n)) => {
                    let own = known.iter().rev().find(|(c, _)| *c == column).map(|(_, s)| *s);
                    let shard = Shard {
                        node: self.me.0,
                        clock: self
                            .clock
                            .wall_us(now_us)
                            .max(own.map_or(i64::MIN, |s| s.clock.saturating_add(1))),
                        count: own.map_or(0, |s| s.count).wrapping_add(n),
                    };
                    let mut bytes = Vec::new();
                    shard.put(&mut bytes);
                    out.part(column, Part::Counter(Shards::new(&bytes)));
                }
                Some(part) => out.part(column, part),
                None => match value {
                    Some(value) => {
                        out.cell(column, value);
                    }
                    None => {
                        out.null(column);
                    }
                },
            }
        }
        out.end();
    }

    /// This node's shards of the row that an operation adds to: of the store, and behind them those of the same mutation.
    fn known_counters(&self, op: &OpView<'_>, earlier: &WriteSet) -> Vec<(ColumnId, Shard)> {
        let me = self.me.0;
        let own = |state: &RowState| -> Vec<(ColumnId, Shard)> {
            let counters = state.cells().filter(|(c, _)| c.kind == CellKind::Counter);
            counters
                .filter_map(|(c, value)| {
                    let shard = Shards::new(value).iter().find(|s| s.node == me)?;
                    Some((ColumnId(c.column), shard))
                })
                .collect()
        };
        let table = self.replica.store.table(op.table());
        let stored = table.and_then(|table| {
            let key = table.layout().of_op(op).ok()?;
            Some(match op.kind().is_static() {
                true => own(&table.partition_head(&key)?.statics),
                false => own(&table.get(&self.replica.log, &key)?.state()),
            })
        });
        let mut known = stored.unwrap_or_default();
        let is_same = |o: &OpView<'_>| {
            (o.kind(), o.table(), o.partition_key(), o.clustering())
                == (op.kind(), op.table(), op.partition_key(), op.clustering())
        };
        for o in earlier.ops().filter(is_same) {
            known.extend(own(&RowState::from_op(&o)));
        }
        known
    }

    /// A mutation that this node led is written, or is not.
    pub(super) fn lead_over(&mut self, cx: &mut Cx<'_>, to: NodeIdx, op: OpId, outcome: Result<(), CoordinatorError>) {
        match outcome {
            Err(error) if to == self.me => self.counter_failed(cx, op, error),
            // C: a leader says nothing of a failure, its coordinator times out. S: it does, and the coordinator makes a
            // timeout of it (SP `mutate_counters`).
            Err(_) if !self.rules.leader_tells_failure => {}
            Err(_) => self.send(cx, to, Msg::Led { op, failed: true }),
            Ok(()) => self.send(cx, to, Msg::Led { op, failed: false }),
        }
    }

    pub(super) fn on_led(&mut self, cx: &mut Cx<'_>, op: OpId, failed: bool) {
        match self.ops.take(op) {
            Some(Op::Counter(counter)) if failed => {
                let error = self.counter_timeout(&counter);
                self.ops.put(op, Op::Counter(counter));
                self.counter_failed(cx, op, error);
            }
            Some(Op::Counter(mut counter)) => {
                counter.left = counter.left.saturating_sub(1);
                if counter.left == 0 {
                    self.ops.release(op);
                    self.answer_with(cx, counter.client, counter.warnings);
                } else {
                    self.ops.put(op, Op::Counter(counter));
                }
            }
            Some(other) => self.ops.put(op, other),
            None => {}
        }
    }

    fn counter_failed(&mut self, cx: &mut Cx<'_>, op: OpId, error: CoordinatorError) {
        match self.ops.take(op) {
            Some(Op::Counter(counter)) => {
                self.ops.release(op);
                self.answer_error(cx, counter.client, error);
            }
            Some(other) => self.ops.put(op, other),
            None => {}
        }
    }

    fn counter_timeout(&self, op: &CounterOp) -> CoordinatorError {
        // C asks its leader at ONE (`forForwardingCounterWrite`); S names the client's level.
        let consistency = match self.rules.leader_tells_failure {
            true => op.consistency,
            false => Consistency::One,
        };
        CoordinatorError::WriteTimeout {
            consistency,
            received: 0,
            required: 1,
            write_type: WriteType::Counter,
        }
    }

    pub(super) fn counter_deadline(&mut self, cx: &mut Cx<'_>, id: OpId, op: Box<CounterOp>) {
        if cx.now_us < op.deadline_us {
            return self.ops.put(id, Op::Counter(op));
        }
        self.ops.release(id);
        let error = self.counter_timeout(&op);
        self.answer_error(cx, op.client, error);
    }
}
