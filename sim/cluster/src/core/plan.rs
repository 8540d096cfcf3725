//! Planning a write: everything that can refuse it without a trace, and who will get what.
//!
//! Levels, sizes, batchlog holders, liveness: after this the servers only roll forward.

use super::message::{BatchId, Which};
use super::node::{Cx, Node};
use super::ring::NodeSet;
use super::seal::{Mutation, Sealed, Stamp};
use super::write::{About, Batchlog, Group, Manner, Purpose, WriteOp};
use crate::model::{Consistency, CoordinatorError, Warning, WriteKind, WriteRequest, WriteType};
use std::sync::Arc;

impl Node {
    /// Everything that can refuse a write without a trace: levels, sizes, holders, liveness.
    pub(super) fn plan_write(
        &mut self,
        cx: &mut Cx<'_>,
        purpose: Purpose,
        request: WriteRequest,
        manner: Manner,
    ) -> Result<WriteOp, CoordinatorError> {
        let consistency = request.consistency;
        let is_serial = matches!(consistency, Consistency::Serial | Consistency::LocalSerial);
        if is_serial && !(self.rules.serial_batches && request.kind != WriteKind::Single) {
            return Err(CoordinatorError::BadConsistency {
                consistency,
                operation: "a write",
            });
        }
        let timestamp_us = match request.timestamp_us {
            Some(t) => t,
            None => {
                self.notice_clock(cx);
                self.server_timestamp(cx.now_us, purpose)
            }
        };
        let stamp = Stamp {
            timestamp_us,
            deletion_us: timestamp_us,
            list_us: match request.writes.unmade_paths() {
                0 => None,
                n => self.list_time(cx.now_us, n),
            },
            node: self.uuid_node(),
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
        let batchlog = if logged {
            Some(self.plan_batchlog(consistency)?)
        } else {
            None
        };
        let observed = cx.hook.is_some() && manner.watched;
        let groups = self.group_mutations(&sealed, observed);
        self.check_liveness(&groups, consistency)?;
        let timeout_ms = request.timeout_ms.map_or(self.config.timeouts.write_ms, u64::from);
        let about = About {
            purpose,
            kind: request.kind,
            write_type,
            consistency,
        };
        Ok(WriteOp {
            batchlog,
            warnings,
            observed,
            swallow: manner.swallow,
            leave_to_replay: manner.leave_to_replay,
            ..WriteOp::new(about, Arc::new(sealed), groups, cx.now_us + timeout_ms * 1000)
        })
    }

    /// The time that puts new elements of lists into order, of a request with so many records that have any.
    fn list_time(&mut self, now_us: u64, records: u32) -> Option<i64> {
        if self.rules.list_order_is_timestamp {
            // Not a time then, but what tells equal timestamps apart: see `uuid_node`.
            self.last_list_us += 1;
            return None;
        }
        let at_us = self.clock.wall_us(now_us).max(self.last_list_us + 1);
        self.last_list_us = at_us + i64::from(records);
        Some(at_us)
    }

    /// What tells version 1 uuids of this process from those of others.
    pub(super) fn uuid_node(&self) -> u64 {
        // The variant's bits; where places in lists are made of timestamps, a number, for two requests may bring the same
        // one; then the node and its generation.
        let number = match self.rules.list_order_is_timestamp {
            true => self.last_list_us as u64 & 0x3f_ffff,
            false => 0,
        };
        1 << 63 | number << 40 | u64::from(self.generation) << 8 | u64::from(self.me.0)
    }

    pub(super) fn server_timestamp(&mut self, now_us: u64, purpose: Purpose) -> i64 {
        let mut detached = 0;
        let last = match purpose {
            Purpose::Client(c) => self.connections.entry(c.conn).or_insert(0),
            _ => &mut detached,
        };
        self.clock.timestamp(now_us, self.rules.server_timestamps, last)
    }

    pub(super) fn check_size(&self, sealed: &Sealed, kind: WriteKind) -> Result<Vec<Warning>, CoordinatorError> {
        let mut warnings = vec![];
        if !kind.is_batch() || sealed.mutations().len() <= 1 {
            return Ok(warnings);
        }
        let size_bytes = sealed.size_bytes(self.rules.batch_size);
        if size_bytes > self.rules.batch_fail_bytes {
            return Err(CoordinatorError::BatchTooLarge {
                size_bytes,
                threshold_bytes: self.rules.batch_fail_bytes,
            });
        }
        if !self.rules.client_warnings {
            return Ok(warnings);
        }
        if size_bytes > self.rules.batch_warn_bytes {
            warnings.push(Warning::BatchSize {
                size_bytes,
                threshold_bytes: self.rules.batch_warn_bytes,
                tables: sealed.tables(),
            });
        }
        let partitions = sealed.mutations().len() as u32;
        if kind != WriteKind::Logged && partitions > self.rules.unlogged_partitions_warn {
            warnings.push(Warning::UnloggedPartitions {
                partitions,
                tables: sealed.tables(),
            });
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
            let consistency = if required == 2 {
                Consistency::Two
            } else {
                Consistency::One
            };
            return Err(CoordinatorError::Unavailable {
                consistency,
                required,
                alive: 0,
                batchlog: true,
            });
        }
        self.next_batch += 1;
        let id = BatchId {
            coordinator: self.me,
            generation: self.generation,
            number: self.next_batch,
        };
        let none = NodeSet::default();
        let need = self.rules.batchlog_block_for.min(holders.len());
        Ok(Batchlog {
            id,
            holders,
            need,
            acked: none,
            failed: none,
            forgotten: false,
        })
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
            if self.ring.rack(n) == my_rack {
                here.push(n)
            } else {
                elsewhere.push(n)
            }
        }
        if elsewhere.len() < 2 {
            elsewhere.append(&mut here);
        }
        self.rng.shuffle(&mut elsewhere);
        let first = elsewhere[0];
        let other_rack = elsewhere[1..]
            .iter()
            .find(|n| self.ring.rack(**n) != self.ring.rack(first));
        let second = *other_rack.unwrap_or(&elsewhere[1]);
        NodeSet::one(first).or(NodeSet::one(second))
    }

    /// Mutations by their replicas; one by one when a hook watches.
    pub(super) fn group_mutations(&self, sealed: &Sealed, observed: bool) -> Vec<Group> {
        let replicas = |m: &Mutation| {
            // A table that this node has not heard of has no replicas for it.
            let placement = self.placements.get(usize::from(m.table.0)).and_then(Option::as_ref);
            placement.map_or(NodeSet::default(), |p| p.replicas(m.token))
        };
        let mutations = sealed.mutations();
        if observed {
            // Both servers keep a batch's mutations in a table hashed by partition key and send them in its order, not in
            // the statements' (Scylla: `batch_statement::get_mutations`, an `unordered_set`; Cassandra:
            // `BatchUpdatesCollector.toMutations`, a `HashMap`). By token is such an order, and the same in every run.
            let mut order: Vec<u16> = (0..mutations.len() as u16).collect();
            order.sort_by_key(|i| mutations[usize::from(*i)].token);
            let mutation = |i: u16| Group::of(Which::Range(i, i), replicas(&mutations[usize::from(i)]));
            return order.into_iter().map(mutation).collect();
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
        sets.into_iter()
            .map(|(set, list)| Group::of(shape(list), set))
            .collect()
    }

    pub(super) fn check_liveness(&self, groups: &[Group], consistency: Consistency) -> Result<(), CoordinatorError> {
        let alive = self.alive();
        for g in groups {
            if consistency != Consistency::Any && !self.levels.reached(consistency, g.replicas, alive) {
                let (scope, required) = self.levels.need(consistency, g.replicas);
                let alive = scope.and(alive).len();
                return Err(CoordinatorError::Unavailable {
                    consistency,
                    required,
                    alive,
                    batchlog: false,
                });
            }
        }
        Ok(())
    }
}
