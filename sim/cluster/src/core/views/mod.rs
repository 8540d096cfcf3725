//! Materialized views on the replicas of their bases. Each replica of the base, before it applies a write, looks at the rows
//! as they are, works out what the write makes of their rows in the views, and sends that to its *partner*: the replica of
//! the view's row that stands where it stands itself among the replicas of the base's row. One base replica, one view
//! replica; nobody else sends that update, and nobody compares. (`scylla-semantics` section 7.)
//!
//! - `change`: rows before and after a write,
//! - `generate`, `emit`: what is written to a view, and that as operations,
//! - `build`: rows that were there before the view.
//!
//! A partner that is the replica itself takes its update at once, before the base has its write, in both servers. Updates for
//! other nodes are under way in the background: the view lags. ScyllaDB has them in memory only, so those of a replica that
//! dies are lost, and base and view differ for good; Cassandra has them in the replica's own batchlog too, and replays
//! them. `Rules::view_*` are the differences.
//!
//! Nothing here is looked at while there are no views ([`Node::push_view_updates`]).
//!
//! Simpler than the servers: where an update is waited for (`synchronous_updates` of ScyllaDB) the base has its write before
//! the view has it, and only the acknowledgement waits. Cassandra finds base writes in its commit log again after a crash
//! and makes their view updates anew; here both are in one log, and a log torn between them keeps the view's.

mod build;
mod change;
mod emit;
mod generate;

use super::log::EntryKind;
use super::message::{BatchId, Event, Msg, OpId, Which};
use super::murmur3;
use super::node::{Cx, Node, Op};
use super::replica::{KeptBatch, batch_header};
use super::ring::NodeSet;
use super::seal::Sealed;
use super::timers::Timer;
use super::write::{About, Group, Purpose, WriteOp};
use crate::model::{
    Consistency, NodeIdx, OpView, Replication, Table, TableId, Token, View, WriteKind, WriteSet, WriteType,
};
use generate::{Generator, ViewRow};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// By view and node: whether that node has built its part.
pub type ViewBuilds = BTreeMap<(TableId, NodeIdx), bool>;

/// What becomes of updates for views, on command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewFault {
    /// They go their way.
    #[default]
    None,
    /// They wait, those for the node itself too, until they go their way again. Cassandra's batchlog does not wait for that.
    Hold,
    /// They are lost: nothing keeps them, no batchlog either.
    Lose,
}

/// What became of the updates of a write for views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Nobody needs to wait.
    Done,
    /// The write cannot be applied here now.
    Refused,
    /// This waiter has to wait for them.
    Awaited(u64),
}

/// What follows when updates are written.
#[derive(Debug)]
enum Then {
    /// Not known yet.
    Nothing,
    /// A write to the base is acknowledged, or refused.
    Acknowledge { to: NodeIdx, answers: Box<[Msg; 2]> },
    /// The build of a view goes on.
    Build(TableId),
}

/// Somebody who waits for updates.
#[derive(Debug)]
struct Waiter {
    left: u32,
    failed: bool,
    then: Then,
}

/// Updates, by view and partition in it.
type Updates = BTreeMap<(TableId, Vec<u8>), WriteSet>;

/// What a node knows of views.
#[derive(Debug, Default)]
pub(super) struct Views {
    fault: ViewFault,
    /// Updates that are held back.
    held: Vec<OpId>,
    waiters: BTreeMap<u64, Waiter>,
    next_waiter: u64,
    /// Views that are being built here.
    builds: BTreeMap<TableId, build::Build>,
    /// Views whose part on this node is built.
    built: BTreeSet<TableId>,
    status: ViewBuilds,
}

impl Views {
    /// Whether an update is to wait; then it does.
    pub(super) fn holds(&mut self, id: OpId) -> bool {
        let holds = self.fault == ViewFault::Hold;
        if holds {
            self.held.push(id);
        }
        holds
    }

    fn begin_wait(&mut self) -> u64 {
        self.next_waiter += 1;
        let waiter = Waiter {
            left: 0,
            failed: false,
            then: Then::Nothing,
        };
        self.waiters.insert(self.next_waiter, waiter);
        self.next_waiter
    }

    /// Nobody asks whether these updates are written.
    pub(super) fn forget_waiter(&mut self, number: u64) {
        self.waiters.remove(&number);
    }
}

impl Node {
    /// Before these mutations are applied here: works out what they make of views, and sends it on its way.
    pub(super) fn push_view_updates(&mut self, cx: &mut Cx<'_>, sealed: &Sealed, which: &Which) -> Pushed {
        if self.schema.views.is_empty() {
            return Pushed::Done;
        }
        let mut waiter = None;
        for i in which.indices() {
            let updates = self.view_updates(cx.now_us, sealed, i);
            if updates.is_empty() {
                continue;
            }
            if waiter.is_none() && self.is_awaited(&updates) {
                waiter = Some(self.views.begin_wait());
            }
            if !self.send_view_updates(cx, sealed.mutations()[i].token, updates, waiter) {
                waiter.map(|w| self.views.waiters.remove(&w));
                return Pushed::Refused;
            }
        }
        waiter.map_or(Pushed::Done, Pushed::Awaited)
    }

    /// Whether the write waits for these updates (S `synchronous_updates`).
    fn is_awaited(&self, updates: &Updates) -> bool {
        let is_synchronous = |t: &Arc<Table>| t.options.other.get("synchronous_updates").is_some_and(|v| v == "true");
        let mut tables = updates.keys().filter_map(|(view, _)| self.schema.table(*view));
        self.config.kindness.synchronous_views || tables.any(is_synchronous)
    }

    /// What one mutation makes of views.
    fn view_updates(&self, now_us: u64, sealed: &Sealed, index: usize) -> Updates {
        let mut updates = Updates::new();
        let mut by_table: BTreeMap<TableId, Vec<OpView<'_>>> = BTreeMap::new();
        for op in sealed.ops(index) {
            by_table.entry(op.table()).or_default().push(op);
        }
        for (base, ops) in by_table {
            let Some(store) = self.replica.store.table(base) else {
                continue;
            };
            if self.schema.views_of(base).next().is_none() {
                continue;
            }
            // Keys were checked by the coordinator.
            let changes = change::changes(store, &self.replica.log, &ops).unwrap_or_default();
            let partition = ops.first().map_or(&[][..], |op| op.partition_key());
            for view in self.schema.views_of(base) {
                let Some(generator) = self.generator(view, partition, now_us) else {
                    continue;
                };
                for change in &changes {
                    let rows = generator.updates(&change.before, &change.after);
                    for row in rows.into_iter().filter(|row| self.is_row_of(view, row)) {
                        let key = (view.table, row.partition.clone());
                        emit::emit(view.table, &row, updates.entry(key).or_default());
                    }
                }
            }
        }
        updates
    }

    /// Whether the key can be one of the view. Values of the base may be empty where no value of a key can be.
    fn is_row_of(&self, view: &View, row: &ViewRow) -> bool {
        let table = self.replica.store.table(view.table);
        let token = murmur3::token(&row.partition);
        table.is_some_and(|t| t.layout().row(token, &row.partition, row.state.clustering()).is_ok())
    }

    fn generator<'a>(&'a self, view: &'a View, partition: &'a [u8], now_us: u64) -> Option<Generator<'a>> {
        Some(Generator {
            view,
            base: self.schema.table(view.base)?,
            table: self.schema.table(view.table)?,
            partition,
            now_s: self.clock.wall_s(now_us),
            rules: &self.rules,
        })
    }

    /// Writes updates here and sends them to others. False if the write to the base is to fail (C, a partner is down).
    fn send_view_updates(&mut self, cx: &mut Cx<'_>, base: Token, updates: Updates, waiter: Option<u64>) -> bool {
        if self.views.fault == ViewFault::Lose {
            let updates = updates.len() as u32;
            cx.event(Event::ViewUpdatesLost { updates });
            return true;
        }
        let is_held = self.views.fault == ViewFault::Hold;
        let mut remote: Vec<(NodeIdx, WriteSet)> = vec![];
        for ((view, partition), ops) in updates {
            let Some(partner) = self.partner(view, base, murmur3::token(&partition)) else {
                continue;
            };
            if partner == self.me && !is_held {
                self.apply_here(cx, &Sealed::of_ops(&ops), &Which::Range(0, 0));
            } else if self.rules.view_needs_partner && !self.alive().contains(partner) {
                return false;
            } else {
                remote.push((partner, ops));
            }
        }
        if !remote.is_empty() {
            self.send_remote(cx, &remote, waiter);
        }
        true
    }

    fn send_remote(&mut self, cx: &mut Cx<'_>, remote: &[(NodeIdx, WriteSet)], waiter: Option<u64>) {
        let sealed = Arc::new(Sealed::of_mutations(remote.iter().map(|(_, ops)| ops)));
        let batch = self.rules.view_batchlog.then(|| self.keep_view_updates(cx, &sealed));
        let group = |(i, (partner, _)): (usize, &(NodeIdx, WriteSet))| {
            Group::of(Which::Range(i as u16, i as u16), NodeSet::one(*partner))
        };
        let groups = remote.iter().enumerate().map(group).collect();
        let about = About {
            purpose: Purpose::View { batch, waiter },
            kind: WriteKind::Unlogged,
            write_type: WriteType::View,
            consistency: match self.rules.view_needs_partner {
                true => Consistency::One,
                false => Consistency::Any,
            },
        };
        let deadline_us = cx.now_us + self.rules.view_timeout_ms * 1000;
        let op = WriteOp::new(about, sealed, groups, deadline_us);
        let id = self.ops.reserve();
        if let Some(waiter) = waiter.and_then(|w| self.views.waiters.get_mut(&w)) {
            waiter.left += 1;
        }
        let delay_us = if waiter.is_some() { 0 } else { self.view_delay_us() };
        self.timers.set(op.deadline_us, Timer::Deadline(id));
        self.freeze(cx.now_us + delay_us, id, Box::new(op));
    }

    /// How long updates wait for their turn.
    fn view_delay_us(&mut self) -> u64 {
        let views = self.config.views;
        let (low, high) = views.late_us;
        match self.rng.below(views.late_one_in.max(1)) {
            0 => self.rng.between(low, high),
            _ => self.rng.below(views.prompt_us.max(1)),
        }
    }

    /// Puts updates into this node's own batchlog.
    fn keep_view_updates(&mut self, cx: &mut Cx<'_>, sealed: &Arc<Sealed>) -> BatchId {
        self.next_batch += 1;
        let id = BatchId {
            coordinator: self.me,
            generation: self.generation,
            number: self.next_batch,
        };
        let header = batch_header(id, cx.now_us);
        let log = &mut self.replica.log;
        log.append_nested(EntryKind::BatchStored, &header, sealed.bytes().clone());
        self.log_dirty(cx);
        let mutations = sealed.mutations().len() as u32;
        cx.event(Event::BatchKept { batch: id, mutations });
        let kept = KeptBatch {
            sealed: sealed.clone(),
            written_at_us: cx.now_us,
            replaying: false,
            tried_us: None,
        };
        self.replica.batchlog.insert(id, kept);
        id
    }

    /// Where this replica of a base's row sends what is for a row of a view (C `ViewUtils.getViewNaturalEndpoint`, S
    /// `get_view_natural_endpoint`); `None` if it is no replica of the base's row.
    fn partner(&self, view: TableId, base: Token, token: Token) -> Option<NodeIdx> {
        let placement = self.placements.get(usize::from(view.0))?.as_ref()?;
        let (of_base, of_view) = (placement.replicas(base), placement.replicas(token));
        if of_view.contains(self.me) {
            return Some(self.me);
        }
        let keyspace = &self.schema.table(view)?.keyspace;
        let near = match self.schema.keyspaces.get(keyspace)?.replication {
            Replication::NetworkTopology(_) => self.ring.local_dc(self.me),
            Replication::Simple { .. } => NodeSet::first(self.config.nodes.len()),
        };
        // Who is both is its own partner.
        let bases = self.ring.in_order(of_base.minus(of_view).and(near), base);
        let at = bases.iter().position(|n| *n == self.me)?;
        let partners = self.ring.in_order(of_view.minus(of_base).and(near), token);
        partners.get(at).copied()
    }

    /// Updates are written, or are not.
    pub(super) fn view_updates_over(
        &mut self,
        cx: &mut Cx<'_>,
        batch: Option<BatchId>,
        waiter: Option<u64>,
        done: bool,
    ) {
        if let Some(batch) = batch.filter(|_| done) {
            self.forget_batch(cx, batch);
        }
        let Some(number) = waiter else { return };
        if let Some(waiter) = self.views.waiters.get_mut(&number) {
            waiter.left -= 1;
            waiter.failed |= !done;
        }
        self.end_wait(cx, number);
    }

    /// Acknowledges a write to the base once its updates are written: the first of the answers, the second if they failed.
    pub(super) fn acknowledge_after_views(&mut self, cx: &mut Cx<'_>, number: u64, to: NodeIdx, answers: [Msg; 2]) {
        let answers = Box::new(answers);
        self.wait_then(cx, number, Then::Acknowledge { to, answers });
    }

    /// The node stops in good order: what is under way is left to hints, and is not waited for (S
    /// `storage_proxy::cancel_write_handlers`; C has it in its batchlog besides).
    pub(super) fn leave_view_updates(&mut self, cx: &mut Cx<'_>) {
        let ids: Vec<OpId> = self.ops.ids().collect();
        let mut has_left_some = false;
        for id in ids {
            match self.ops.take(id) {
                Some(Op::Write(op)) if matches!(op.purpose, Purpose::View { .. }) => {
                    has_left_some = true;
                    for group in &op.groups {
                        let left = group.replicas.minus(group.acked).minus(group.hinted);
                        for peer in left.minus(NodeSet::one(self.me)).iter() {
                            self.hint(cx, peer, &op.sealed, &group.which);
                        }
                    }
                    self.ops.release(id);
                    if let Purpose::View { waiter, .. } = op.purpose {
                        self.view_updates_over(cx, None, waiter, false);
                    }
                }
                Some(other) => self.ops.put(id, other),
                None => {}
            }
        }
        if has_left_some {
            self.on_hint_flush(cx);
        }
    }

    fn wait_then(&mut self, cx: &mut Cx<'_>, number: u64, then: Then) {
        if let Some(waiter) = self.views.waiters.get_mut(&number) {
            waiter.then = then;
        }
        self.end_wait(cx, number);
    }

    /// Goes on if nothing is left to wait for and it is known what follows.
    fn end_wait(&mut self, cx: &mut Cx<'_>, number: u64) {
        let waiter = self.views.waiters.get(&number);
        if waiter.is_none_or(|w| w.left > 0 || matches!(w.then, Then::Nothing)) {
            return;
        }
        let Some(waiter) = self.views.waiters.remove(&number) else {
            return;
        };
        match waiter.then {
            Then::Nothing => {}
            Then::Acknowledge { to, answers } => {
                let [done, failed] = *answers;
                match waiter.failed {
                    true => self.send(cx, to, failed),
                    false => self.acknowledge(cx, to, done),
                }
            }
            Then::Build(view) => self.view_step_over(cx, view, waiter.failed),
        }
    }

    /// Updates for views are lost or held back from now on, or go their way again.
    pub(super) fn set_view_fault(&mut self, cx: &mut Cx<'_>, fault: ViewFault) {
        self.views.fault = fault;
        if fault != ViewFault::Hold {
            for id in std::mem::take(&mut self.views.held) {
                self.timers.set(cx.now_us, Timer::Resume(id));
            }
        }
    }
}
