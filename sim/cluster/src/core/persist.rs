//! The life of a node's log: start and recovery, flushing, syncing, and acknowledgements that wait for it.
//!
//! *Flush* hands bytes to the host, after which they survive the death of the process; *sync* makes them survive the
//! loss of power. When each happens is the flavour's and the configuration's (`commitlog_sync`).

use super::config::CommitlogSync;
use super::log::{ENTRY_HEADER_BYTES, EntryKind, LogReader};
use super::message::{Effect, Event, Msg};
use super::node::{Cx, Node, Phase};
use super::purge;
use super::replica::{KeptBatch, Replica, read_batch_header};
use super::seal::Sealed;
use super::timers::Timer;
use crate::model::{NodeIdx, Schema, TableId};
use bytes::Bytes;
use std::sync::Arc;

/// How a node comes to life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the whole cluster, at the beginning of a world: everybody is up and known to be.
    Together,
    /// Alone: it has to be heard before others call it up.
    Alone,
    /// Alone, with an empty log, in the place of a node that is lost, whose last generation was this.
    InPlaceOf {
        /// Generation of the lost node, as far as anybody knows.
        generation: u32,
    },
}

/// From a node's start to its CQL port, when it starts alone (seen: a restarted node is called UP about 0.5 s after its
/// port opens; the minutes a real process takes to start belong to the plan that restarts it).
const ALONE_READY_MS: u64 = 100;
/// Nodes that were started together began within so much, microseconds.
const IN_STEP_US: u64 = 50_000;

/// The first tick after `now_us` of a period that has one at `phase_us`, microseconds.
fn next_tick(now_us: u64, period_ms: u64, phase_us: u64) -> u64 {
    let period_us = period_ms.max(1) * 1000;
    let phase_us = phase_us % period_us;
    (now_us + period_us - phase_us) / period_us * period_us + phase_us
}

impl Node {
    /// Starts the node from the bytes of its log file (empty for a new one).
    pub fn boot(&mut self, now_us: u64, log_file: &[u8], start: Start, fx: &mut Vec<Effect>) {
        let mut whole = std::iter::once(Bytes::copy_from_slice(log_file));
        self.boot_from(now_us, &mut whole, start, fx);
    }

    /// As [`Node::boot`], from a file that comes in pieces cut anywhere, so that it need not be in memory as a whole.
    pub fn boot_from(
        &mut self,
        now_us: u64,
        log_file: &mut dyn Iterator<Item = Bytes>,
        start: Start,
        fx: &mut Vec<Effect>,
    ) {
        let cx = &mut Cx { now_us, hook: None, fx };
        let mut last_generation = self.recover(cx, log_file);
        if let Start::InPlaceOf { generation } = start {
            last_generation = last_generation.max(generation);
            self.take_place();
        }
        self.generation = self.clock.wall_s(now_us).max(last_generation.saturating_add(1));
        self.replica
            .log
            .append(EntryKind::Boot, &[&self.generation.to_le_bytes()]);
        self.log_dirty(cx);
        self.sync_log(cx);
        self.start_gossip(cx, start);
        self.start_hints(cx);
        self.look_for_view_builds(cx);
        self.timers
            .set(now_us + self.rules.replay_first_ms * 1000, Timer::Replay);
        match start {
            _ if self.is_joining() => self.start_join(cx),
            Start::Together => self.on_ready(cx),
            Start::Alone | Start::InPlaceOf { .. } => {
                self.timers.set(now_us + ALONE_READY_MS * 1000, Timer::Ready);
            }
        }
    }

    pub(super) fn on_ready(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Starting {
            self.phase = Phase::Serving;
            cx.fx.push(Effect::Ready);
        }
    }

    /// Reads the log file. Returns the generation of the last start, 0 when there was none.
    fn recover(&mut self, cx: &mut Cx<'_>, file: &mut dyn Iterator<Item = Bytes>) -> u32 {
        let mut generation = 0;
        self.replica = Replica::default();
        self.replica.store.set_schema(&self.schema);
        let mut reader = LogReader::new(file);
        while let Some((kind, entry)) = reader.next() {
            let payload = &entry[ENTRY_HEADER_BYTES..];
            match kind {
                // Rows live in the log; of the other entries nothing is kept there.
                EntryKind::Mutation => {
                    let Replica { log, store, .. } = &mut self.replica;
                    let pos = log.recovered(&entry);
                    // A mutation for a table dropped since is of no use to anybody.
                    let _unknown_table = store.apply(payload, &[], &[], pos, log);
                }
                EntryKind::BatchStored => self.recover_batch(payload),
                EntryKind::BatchRemoved => {
                    if let Some((id, _, _)) = read_batch_header(payload) {
                        self.replica.batchlog.remove(&id);
                    }
                }
                EntryKind::HintStored => self.hints.recover_stored(payload),
                EntryKind::HintDone => self.hints.recover_done(payload),
                EntryKind::Schema => {
                    if let Ok(schema) = Schema::from_bytes(payload) {
                        self.schema = Arc::new(schema);
                        self.install_schema();
                    }
                }
                EntryKind::Membership => self.recover_membership(payload),
                EntryKind::Paxos => self.recover_paxos(payload),
                EntryKind::ViewBuilt => {
                    if let Some(view) = payload.first_chunk::<2>() {
                        self.views.recover_built(TableId(u16::from_le_bytes(*view)));
                    }
                }
                EntryKind::Boot => {
                    generation = payload
                        .first_chunk::<4>()
                        .map_or(generation, |b| u32::from_le_bytes(*b));
                }
                EntryKind::Purged => {
                    let Replica { log, store, .. } = &mut self.replica;
                    purge::recover(payload, store, log);
                }
                EntryKind::Truncated => {
                    if let (Some(t), Some(at)) = (payload.first_chunk::<2>(), payload.last_chunk::<8>()) {
                        self.replica
                            .store
                            .truncate(TableId(u16::from_le_bytes(*t)), u64::from_le_bytes(*at));
                    }
                }
            }
        }
        let report = reader.finish();
        self.replica.log.all_recovered();
        if report.lost_bytes > 0 {
            cx.fx.push(Effect::LogTruncate {
                length_bytes: report.valid_bytes,
            });
        }
        if report.entries > 0 || report.lost_bytes > 0 {
            let (entries, valid_bytes, lost_bytes) = (report.entries, report.valid_bytes, report.lost_bytes);
            cx.event(Event::Recovered {
                entries,
                valid_bytes,
                lost_bytes,
                generation,
            });
        }
        generation
    }

    fn recover_batch(&mut self, payload: &[u8]) {
        if let Some((id, written_at_us, entries)) = read_batch_header(payload)
            && let Some(sealed) = Sealed::from_entries(entries)
        {
            let kept = KeptBatch {
                sealed: Arc::new(sealed),
                written_at_us,
                replaying: false,
                tried_us: None,
            };
            self.replica.batchlog.insert(id, kept);
        }
    }

    /// Something was appended: make sure it will be flushed and synced.
    pub(super) fn log_dirty(&mut self, cx: &mut Cx<'_>) {
        self.replica.dirty_since_us.get_or_insert(cx.now_us);
        let CommitlogSync::Periodic { period_ms } = self.config.commitlog_sync else {
            return;
        };
        if self.config.syncs_before_ack() {
            return;
        }
        if !self.replica.sync_set {
            self.replica.sync_set = true;
            let at_us = self.next_sync(cx.now_us, period_ms);
            self.timers.set(at_us, Timer::LogSync);
        }
        let flush_ms = self.rules.log_flush_every_ms;
        if flush_ms < period_ms && !self.replica.flush_set {
            self.replica.flush_set = true;
            // So that nodes do not flush in step.
            let phase_us = flush_ms * 1000 / 7 * (u64::from(self.me.0) % 7);
            self.timers
                .set(next_tick(cx.now_us, flush_ms, phase_us), Timer::LogFlush);
        }
        if self.replica.log.unflushed_bytes() >= self.rules.log_buffer_bytes {
            self.flush_log(cx);
        }
    }

    /// When the next sync begins. The periods run since the process started; nodes that were started together may be in
    /// step, others are not: drawn once.
    fn next_sync(&mut self, now_us: u64, period_ms: u64) -> u64 {
        let rng = &mut self.sync_rng;
        let phase_us = *self.sync_phase_us.get_or_insert_with(|| match rng.below(2) {
            0 => rng.below(IN_STEP_US),
            _ => rng.below(period_ms.max(1) * 1000),
        });
        let late_us = match self.config.sync_late_max_ms {
            0 => 0,
            most_ms => rng.below(most_ms * 1000),
        };
        next_tick(now_us, period_ms, phase_us) + late_us
    }

    pub(super) fn on_log_flush(&mut self, cx: &mut Cx<'_>) {
        self.replica.flush_set = false;
        self.flush_log(cx);
    }

    pub(super) fn on_log_sync(&mut self, cx: &mut Cx<'_>) {
        self.replica.sync_set = false;
        self.sync_log(cx);
    }

    fn flush_log(&mut self, cx: &mut Cx<'_>) {
        let pieces = self.replica.log.take_unflushed();
        if !pieces.is_empty() {
            cx.fx.push(Effect::LogAppend { pieces });
        }
    }

    /// Hands over everything that the log has, and begins a sync of it.
    pub fn flush_all(&mut self, fx: &mut Vec<Effect>) {
        let cx = &mut Cx {
            now_us: 0,
            hook: None,
            fx,
        };
        self.sync_log(cx);
    }

    /// Flushes, and begins a sync unless everything is on the disk.
    pub(super) fn sync_log(&mut self, cx: &mut Cx<'_>) {
        self.flush_log(cx);
        if !self.replica.log.is_synced() {
            let token = self.replica.log.begin_sync();
            cx.fx.push(Effect::LogSync { token });
        }
    }

    /// Whether acknowledgements have to wait for the disk: in `batch` mode always; in periodic mode when the sync lags
    /// too far behind (`Rules::sync_lag_percent`).
    pub(super) fn acks_wait(&self, now_us: u64) -> bool {
        if self.config.syncs_before_ack() {
            return true;
        }
        let CommitlogSync::Periodic { period_ms } = self.config.commitlog_sync else {
            return true;
        };
        self.replica
            .dirty_since_us
            .is_some_and(|since| now_us.saturating_sub(since) > period_ms * 10 * self.rules.sync_lag_percent)
    }

    /// Sends a message once everything appended so far is on the disk, and sees to that now.
    pub(super) fn sync_then(&mut self, cx: &mut Cx<'_>, to: NodeIdx, msg: Msg) {
        self.replica.deferred.push_back((self.replica.log.end(), to, msg));
        self.sync_log(cx);
    }

    /// In `batch` mode, syncs what this step appended; one sync at a time, so that those who wait share it.
    pub(super) fn log_after_step(&mut self, cx: &mut Cx<'_>) {
        if self.config.syncs_before_ack() && !self.replica.log.is_syncing() && !self.replica.log.is_synced() {
            self.sync_log(cx);
        }
    }

    pub(super) fn log_synced(&mut self, cx: &mut Cx<'_>, token: u64) {
        let durable = self.replica.log.end_sync(token);
        self.replica.dirty_since_us = if self.replica.log.is_synced() {
            None
        } else {
            Some(cx.now_us)
        };
        while let Some((pos, _, _)) = self.replica.deferred.front()
            && *pos <= durable
        {
            let (_, to, msg) = self.replica.deferred.pop_front().expect("looked at above");
            self.send(cx, to, msg);
        }
        // Something appended meanwhile in periodic mode has its own timer; what waits for a sync that nobody scheduled
        // (the disk lagged) gets one now.
        if !self.replica.deferred.is_empty() && !self.replica.log.is_syncing() {
            self.sync_log(cx);
        }
    }
}
