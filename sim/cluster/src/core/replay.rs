//! Batchlog replay: what a holder does with batches that nobody removed.
//!
//! Each holder replays for itself: first 30 s after its start, then every 60 s (ScyllaDB) or 10 s (Cassandra), entries
//! older than 4 s, with their original timestamps, tables truncated since left out. A ScyllaDB holder keeps an entry
//! until every mutation has its quorum; a Cassandra holder sends to whoever lives, hints for the rest, and forgets it.

use super::flavor::ReplayMode;
use super::lies::Lie;
use super::message::{BatchId, Event};
use super::node::{Cx, Node};
use super::seal::Sealed;
use super::timers::Timer;
use std::sync::Arc;

impl Node {
    /// Time to replay.
    pub(super) fn on_replay(&mut self, cx: &mut Cx<'_>) {
        self.timers
            .set(cx.now_us + self.rules.replay_every_ms * 1000, Timer::Replay);
        self.replay_began_us = cx.now_us;
        if self.is_told(Lie::HoldReplay) {
            if self.next_replay().is_some() {
                cx.event(Event::Lied { lie: Lie::HoldReplay });
            }
            return;
        }
        self.replay_some(cx);
    }

    /// Replays entries that are old enough and not yet tried in this run, as many at a time as allowed.
    fn replay_some(&mut self, cx: &mut Cx<'_>) {
        // A replay can end while it is being started (nobody alive): the loop below then goes on, not a deeper one.
        if std::mem::replace(&mut self.replay_choosing, true) {
            return;
        }
        while let Some(id) = self.next_replay() {
            self.replay_one(cx, id);
        }
        self.replay_choosing = false;
    }

    fn next_replay(&self) -> Option<BatchId> {
        let under_way = self.replica.batchlog.values().filter(|b| b.replaying).count();
        if under_way >= self.config.replay_in_flight_max {
            return None;
        }
        let (began_us, min_age_us) = (self.replay_began_us, self.config.batchlog_min_age_ms * 1000);
        let due = |b: &super::replica::KeptBatch| {
            !b.replaying
                && began_us.saturating_sub(b.written_at_us) >= min_age_us
                && b.tried_us.is_none_or(|t| t < began_us)
        };
        self.replica.batchlog.iter().find(|(_, b)| due(b)).map(|(id, _)| *id)
    }

    fn replay_one(&mut self, cx: &mut Cx<'_>, id: BatchId) {
        let Some(kept) = self.replica.batchlog.get(&id) else {
            return;
        };
        let age_us = cx.now_us.saturating_sub(kept.written_at_us);
        let wanted = self.still_wanted(&kept.sealed, kept.written_at_us);
        let expired = self.rules.replay_drops_after_gc_grace
            && age_us / 1_000_000 > u64::from(self.shortest_gc_grace_s(&kept.sealed));
        let Some(sealed) = wanted.filter(|_| !expired) else {
            return self.forget_batch(cx, id);
        };
        if let Some(kept) = self.replica.batchlog.get_mut(&id) {
            kept.replaying = true;
            kept.tried_us = Some(cx.now_us);
        }
        if !self.start_replay(cx, id, sealed) {
            self.replay_over(cx, id, false);
        }
    }

    /// The mutations whose tables still exist and were not truncated since; `None` when there are none.
    fn still_wanted(&self, sealed: &Arc<Sealed>, written_at_us: u64) -> Option<Arc<Sealed>> {
        let wanted = |i: usize| {
            sealed.ops(i).all(|op| {
                let table = self.replica.store.table(op.table());
                table.is_some_and(|t| t.truncated_at_us().is_none_or(|at| at < written_at_us))
            })
        };
        let keep: Vec<usize> = (0..sealed.mutations().len()).filter(|i| wanted(*i)).collect();
        match keep.len() {
            0 => None,
            n if n == sealed.mutations().len() => Some(sealed.clone()),
            _ => {
                let entries: Vec<u8> = keep.iter().flat_map(|i| sealed.entry(*i).iter().copied()).collect();
                Sealed::from_entries(&entries).map(Arc::new)
            }
        }
    }

    fn shortest_gc_grace_s(&self, sealed: &Sealed) -> u32 {
        let tables = sealed.tables();
        tables
            .iter()
            .filter_map(|t| self.schema.table(*t))
            .map(|t| t.options.gc_grace_s)
            .min()
            .unwrap_or(0)
    }

    /// A replay ended. Incomplete ones are kept and tried at the next run.
    pub(super) fn replay_over(&mut self, cx: &mut Cx<'_>, id: BatchId, complete: bool) {
        let Some(kept) = self.replica.batchlog.get_mut(&id) else {
            return;
        };
        kept.replaying = false;
        let age_us = cx.now_us.saturating_sub(kept.written_at_us);
        cx.event(Event::BatchReplayed {
            batch: id,
            complete,
            age_us,
        });
        if complete || self.rules.replay_mode == ReplayMode::LiveReplicasThenHints {
            self.forget_batch(cx, id);
        }
        // The run goes on with what did not fit.
        self.replay_some(cx);
    }
}
