//! Speculative retries: a read of partitions whose replicas are silent asks one more, when `speculative_retry` of its table
//! says so. Reads of ranges never do (C `RangeCommandIterator.query`; SP `query_partition_key_range_concurrent` has
//! `never_speculating_read_executor`), nor those at EACH_QUORUM (C `AbstractReadExecutor.getReadExecutor`).

use super::{ReadOp, Stage};
use crate::core::message::OpId;
use crate::core::node::{Cx, Node, Op};
use crate::core::timers::Timer;
use crate::model::{Consistency, NodeIdx, SpeculativeRetry};

impl Node {
    fn speculative_retry(&self, op: &ReadOp) -> SpeculativeRetry {
        if op.in_turn || op.consistency == Consistency::EachQuorum {
            return SpeculativeRetry::Never;
        }
        let table = usize::from(op.command.table.0);
        self.retries.get(table).copied().unwrap_or(SpeculativeRetry::Never)
    }

    /// How many replicas more than it needs a read asks from the beginning.
    pub(super) fn asked_beyond_need(&self, op: &ReadOp) -> u32 {
        u32::from(self.speculative_retry(op) == SpeculativeRetry::Always)
    }

    /// How many of the replicas that it asks from the beginning are asked for the data.
    pub(super) fn asked_for_data(&self, op: &ReadOp, asked: usize, replicas: u32) -> usize {
        let is_all = asked >= replicas as usize;
        match self.speculative_retry(op) {
            SpeculativeRetry::Always if self.rules.always_asks_two_of_all || !is_all => 2,
            _ => 1,
        }
    }

    /// Sets the time at which the read asks one replica more, if it will. `chosen` are asked already.
    pub(super) fn speculate_later(&mut self, cx: &mut Cx<'_>, id: OpId, op: &ReadOp, index: usize, chosen: &[NodeIdx]) {
        let retry = self.speculative_retry(op);
        let part = &op.parts[index];
        let others = part.replicas.and(self.alive()).minus(part.contacted);
        if others.is_empty() || retry == SpeculativeRetry::Always {
            return;
        }
        let percentile_ms = match self.is_percentile_out_of_reach(chosen, others) {
            true => u64::MAX,
            false => self.config.speculative_retry_ms,
        };
        let at_us = |wait_ms: u64| cx.now_us.saturating_add(wait_ms.saturating_mul(1_000));
        // C `shouldSpeculateAndMaybeWait`: not when it would wait for longer than the read.
        if let Some(at_us) = retry
            .wait_ms(percentile_ms)
            .map(at_us)
            .filter(|at_us| *at_us < op.deadline_us)
        {
            self.timers.set(at_us, Timer::Speculate(id));
        }
    }

    /// Replicas were slow: asks one more of each unfinished part.
    pub(in crate::core) fn on_speculate(&mut self, cx: &mut Cx<'_>, id: OpId) {
        let Some(mut op) = self.take_read(id) else { return };
        for index in 0..op.begun {
            let p = &op.parts[index];
            if !matches!(p.stage, Stage::Digests | Stage::Data) {
                continue;
            }
            let (scope, _) = self.levels.need(op.consistency, p.replicas);
            let spare = self.choose_replicas(scope.minus(p.contacted), 1);
            if let Some(node) = spare.first() {
                self.ask(cx, id, &mut op, index, *node, false);
            }
        }
        self.ops.put(id, Op::Read(op));
    }
}
