//! Schema changes and truncation: what all nodes have to agree on.
//!
//! Changes go through one node, the lowest that the coordinator believes alive, which applies them one by one and hands the
//! result to everybody; one that stays silent is passed over for the next. It answers when the coordinator has adopted it, in
//! ScyllaDB when a majority has too (`Rules::schema_answered_alone`): others may learn of it later, and whoever needs them to
//! know waits for agreement, as drivers do. Nodes that were away see another schema in a peer's heartbeat and fetch it
//! (`behind`). Of two schemas the one with more changes wins, then the larger version: a minority that changed its schema on its
//! own loses that change.

use super::behind::is_later;
use super::log::EntryKind;
use super::message::{ClientRef, Effect, Event, Msg, OpId};
use super::node::{Cx, Node, Op, Phase};
use super::ring::NodeSet;
use super::timers::Timer;
use crate::model::{CoordinatorError, NodeIdx, Response, Schema, SchemaChange, SchemaEffect, SchemaError, TableId};
use std::collections::VecDeque;
use std::sync::Arc;

/// A schema change under way: for its client, or on the node that orders changes.
#[derive(Debug)]
pub(super) enum SchemaOp {
    /// A client waits for the ordering node's decision.
    Asked {
        client: ClientRef,
        change: Box<SchemaChange>,
        tried: NodeSet,
    },
    /// This node handed the new schema out and waits for its adoption.
    Ordering {
        asker: NodeIdx,
        asker_op: OpId,
        effect: SchemaEffect,
        adopted: NodeSet,
    },
}

/// Changes that wait for the one before them.
#[derive(Debug, Default)]
pub(super) struct SchemaQueue {
    busy: bool,
    waiting: VecDeque<Proposed>,
}

/// A change that waits for its turn.
#[derive(Debug)]
struct Proposed {
    asker: NodeIdx,
    asker_op: OpId,
    change: SchemaChange,
    wall_us: i64,
    expires_us: u64,
}

/// A truncation under way.
#[derive(Debug)]
pub(super) struct TruncateOp {
    client: ClientRef,
    done: NodeSet,
}

/// Schema changes waiting on one node; above it they are refused. Far more than any migration has.
const WAITING_MAX: usize = 1_000;
/// After this another node is asked to order a change: real ones do not wait for one that stands still (C changes the schema
/// on the coordinator, seen; S elects another leader).
const NEXT_AFTER_MS: u64 = 1_000;
/// A proposal that is older is not carried out: by the time its answer came, somebody else would have been asked.
const PROPOSAL_EXPIRES_MS: u64 = 500;

impl Node {
    pub(super) fn client_schema(&mut self, cx: &mut Cx<'_>, client: ClientRef, change: SchemaChange) {
        let id = self.ops.reserve();
        self.timers
            .set(cx.now_us + self.config.timeouts.other_ms * 1000, Timer::Deadline(id));
        let (change, tried) = (Box::new(change), NodeSet::default());
        self.propose_schema(cx, id, SchemaOp::Asked { client, change, tried });
    }

    /// Asks the first of those alive that was not asked yet to order a change, at last this node itself.
    pub(super) fn propose_schema(&mut self, cx: &mut Cx<'_>, id: OpId, mut op: SchemaOp) {
        if let SchemaOp::Asked { change, tried, .. } = &mut op {
            let untried = self.alive().minus(*tried);
            let orderer = untried.iter().next().unwrap_or(self.me);
            if !tried.contains(orderer) {
                tried.insert(orderer);
                let (change, wall_us) = (change.clone(), self.clock.wall_us(cx.now_us));
                let expires_us = cx.now_us + PROPOSAL_EXPIRES_MS * 1000;
                let msg = Msg::ProposeSchema {
                    op: id,
                    change,
                    wall_us,
                    expires_us,
                };
                self.send(cx, orderer, msg);
                self.timers.set(cx.now_us + NEXT_AFTER_MS * 1000, Timer::Resume(id));
            }
        }
        self.ops.put(id, Op::Schema(Box::new(op)));
    }

    pub(super) fn on_propose_schema(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        op: OpId,
        change: SchemaChange,
        wall_us: i64,
        expires_us: u64,
    ) {
        if self.schema_queue.waiting.len() >= WAITING_MAX {
            return self.send(cx, from, Msg::SchemaDecided { op, outcome: Err(None) });
        }
        self.schema_queue.waiting.push_back(Proposed {
            asker: from,
            asker_op: op,
            change,
            wall_us,
            expires_us,
        });
        self.order_next_change(cx);
    }

    fn order_next_change(&mut self, cx: &mut Cx<'_>) {
        while !self.schema_queue.busy
            && let Some(next) = self.schema_queue.waiting.pop_front()
        {
            let Proposed {
                asker,
                asker_op,
                change,
                wall_us,
                ..
            } = next;
            // It waited in a socket, or here for the one before it: somebody else was asked meanwhile.
            if cx.now_us > next.expires_us {
                cx.event(Event::Expired { from: asker });
                continue;
            }
            match self.newest_schema().apply(&change, wall_us) {
                Err(e) => self.send(
                    cx,
                    asker,
                    Msg::SchemaDecided {
                        op: asker_op,
                        outcome: Err(Some(e)),
                    },
                ),
                Ok((_, SchemaEffect::Nothing)) => {
                    self.send(
                        cx,
                        asker,
                        Msg::SchemaDecided {
                            op: asker_op,
                            outcome: Ok(SchemaEffect::Nothing),
                        },
                    );
                }
                Ok((schema, effect)) => {
                    self.schema_queue.busy = true;
                    let id = self.ops.reserve();
                    let adopted = NodeSet::default();
                    self.ops.put(
                        id,
                        Op::Schema(Box::new(SchemaOp::Ordering {
                            asker,
                            asker_op,
                            effect,
                            adopted,
                        })),
                    );
                    // A second before the asker gives up, so that its answer says what is known.
                    let wait_ms = self.config.timeouts.other_ms.saturating_sub(1_000);
                    self.timers.set(cx.now_us + wait_ms * 1000, Timer::Deadline(id));
                    let schema = Arc::new(schema);
                    for n in self.config.clone().node_indices() {
                        self.send(
                            cx,
                            n,
                            Msg::AdoptSchema {
                                op: Some(id),
                                schema: schema.clone(),
                                // Who makes a change knows of it.
                                is_needed: n == asker,
                            },
                        );
                    }
                }
            }
        }
    }

    pub(super) fn on_adopt_schema(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        op: Option<OpId>,
        schema: Arc<Schema>,
        is_needed: bool,
    ) {
        if !is_needed && self.puts_aside(&schema) {
            return;
        }
        if is_later(&schema, &self.schema) {
            self.take_over_schema(cx, schema);
        }
        if let Some(op) = op.filter(|_| self.phase != Phase::Halted) {
            self.sync_then(cx, from, Msg::SchemaAdopted { op });
        }
        if is_needed {
            self.serve_those_behind(cx);
        }
    }

    /// From now on this is the schema.
    pub(super) fn take_over_schema(&mut self, cx: &mut Cx<'_>, schema: Arc<Schema>) {
        self.schema = schema;
        self.install_schema();
        self.forget_put_aside();
        match self.schema.to_bytes() {
            Ok(bytes) => {
                self.replica.log.append(EntryKind::Schema, &[&bytes]);
                self.log_dirty(cx);
                // System tables are synced at every change, whatever the mode.
                self.sync_log(cx);
            }
            Err(e) => return self.halt(cx, format!("schema cannot be written: {e}")),
        }
        self.look_for_view_builds(cx);
        cx.event(Event::Schema {
            change: self.schema.change,
            version: self.schema.version,
        });
        cx.fx.push(Effect::SchemaChanged {
            schema: self.schema.clone(),
        });
    }

    pub(super) fn on_schema_adopted(&mut self, cx: &mut Cx<'_>, from: NodeIdx, id: OpId) {
        if let Some(Op::Schema(mut op)) = self.ops.take(id) {
            if let SchemaOp::Ordering { adopted, .. } = &mut *op {
                adopted.insert(from);
            }
            self.look_at_change(cx, id, op);
        }
    }

    fn look_at_change(&mut self, cx: &mut Cx<'_>, id: OpId, op: Box<SchemaOp>) {
        match &*op {
            SchemaOp::Ordering {
                asker,
                asker_op,
                effect,
                adopted,
            } => {
                let majority = self.config.nodes.len() as u32 / 2 + 1;
                let is_enough = self.rules.schema_answered_alone || adopted.len() >= majority;
                if !is_enough || !adopted.contains(*asker) {
                    return self.ops.put(id, Op::Schema(op));
                }
                let (asker, decided) = (
                    *asker,
                    Msg::SchemaDecided {
                        op: *asker_op,
                        outcome: Ok(effect.clone()),
                    },
                );
                self.ops.release(id);
                self.send(cx, asker, decided);
                self.schema_queue.busy = false;
                self.order_next_change(cx);
            }
            SchemaOp::Asked { .. } => self.ops.put(id, Op::Schema(op)),
        }
    }

    pub(super) fn on_schema_decided(
        &mut self,
        cx: &mut Cx<'_>,
        id: OpId,
        outcome: Result<SchemaEffect, Option<SchemaError>>,
    ) {
        let Some(Op::Schema(op)) = self.ops.take(id) else {
            return;
        };
        let SchemaOp::Asked { client, .. } = *op else {
            return self.ops.put(id, Op::Schema(op));
        };
        self.ops.release(id);
        match outcome {
            Ok(effect) => cx.fx.push(Effect::Reply {
                to: client,
                response: Response::Schema(effect),
            }),
            Err(Some(e)) => self.answer_error(cx, client, CoordinatorError::Schema(e)),
            Err(None) => {
                let what = "too few nodes adopted it in time".to_owned();
                self.answer_error(cx, client, CoordinatorError::SchemaUnknown { what });
            }
        }
    }

    pub(super) fn schema_deadline(&mut self, cx: &mut Cx<'_>, id: OpId, op: SchemaOp) {
        self.ops.release(id);
        match op {
            SchemaOp::Asked { client, .. } => {
                let what = "the node that orders schema changes did not answer in time".to_owned();
                self.answer_error(cx, client, CoordinatorError::SchemaUnknown { what });
            }
            SchemaOp::Ordering {
                asker,
                asker_op,
                effect,
                adopted,
            } => {
                let majority = self.config.nodes.len() as u32 / 2 + 1;
                let outcome = if adopted.len() >= majority {
                    Ok(effect)
                } else {
                    Err(None)
                };
                self.send(cx, asker, Msg::SchemaDecided { op: asker_op, outcome });
                self.schema_queue.busy = false;
                self.order_next_change(cx);
            }
        }
    }

    /// TRUNCATE needs every node (seen: with one down it fails at once).
    pub(super) fn client_truncate(&mut self, cx: &mut Cx<'_>, client: ClientRef, table: TableId) {
        if self.replica.store.table(table).is_none() {
            let what = format!("no table has number {table:?} in this node's schema");
            return self.answer_error(cx, client, CoordinatorError::Invalid { what });
        }
        if self.alive().len() < self.config.nodes.len() as u32 {
            return self.answer_error(cx, client, CoordinatorError::Truncate);
        }
        let id = self.ops.reserve();
        self.ops.put(
            id,
            Op::Truncate(Box::new(TruncateOp {
                client,
                done: NodeSet::default(),
            })),
        );
        self.timers
            .set(cx.now_us + self.config.timeouts.truncate_ms * 1000, Timer::Deadline(id));
        for n in self.config.clone().node_indices() {
            self.send(cx, n, Msg::Truncate { op: id, table });
        }
    }

    pub(super) fn on_truncated(&mut self, cx: &mut Cx<'_>, from: NodeIdx, id: OpId) {
        let Some(Op::Truncate(mut op)) = self.ops.take(id) else {
            return;
        };
        op.done.insert(from);
        if op.done.len() < self.config.nodes.len() as u32 {
            return self.ops.put(id, Op::Truncate(op));
        }
        self.ops.release(id);
        cx.fx.push(Effect::Reply {
            to: op.client,
            response: Response::Done { warnings: vec![] },
        });
    }

    pub(super) fn truncate_deadline(&mut self, cx: &mut Cx<'_>, id: OpId, op: TruncateOp) {
        self.ops.release(id);
        self.answer_error(cx, op.client, CoordinatorError::Truncate);
    }
}
