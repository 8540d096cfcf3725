//! Acknowledged -> durable -> checkpoint -> WAL truncated (rules 8 and 9), and sending a window again when a node became
//! another process. Only what is durable moves the checkpoint, and only the checkpoint's position truncates the WAL.

use std::time::Duration;

use settlement_events::OutputSequence;
use tokio::time::{Instant, sleep};

use super::Pipeline;
use crate::designs::retry;
use crate::durable::{Probe, Verdict};
use crate::metrics::{set, set_sequence};
use crate::probe;
use crate::wal::{Position, TruncateDone};

impl Pipeline {
    /// Begins a probe and a checkpoint when they are due. When the next one is: when.
    pub(super) fn begin_progress(&mut self, now: Instant) -> Option<Instant> {
        let wait = match self.durability {
            Some(_) => self.begin_probe(now),
            None => self.follow_acknowledged(now),
        };
        self.begin_checkpoint();
        wait
    }

    fn begin_probe(&mut self, now: Instant) -> Option<Instant> {
        if self.tasks.probe.is_some() {
            return None;
        }
        let due = self.durability.as_ref()?.due(now)?;
        let at = due.max(self.probed_at + Duration::from_millis(self.config.durable.probe_interval_ms));
        if now < at {
            return Some(at);
        }
        self.probed_at = now;
        self.metrics.probes.inc();
        let timeout = Duration::from_millis(self.config.durable.probe_timeout_ms);
        self.tasks.probe = Some(Box::pin(probe::ask_all(self.session.clone(), timeout)));
        None
    }

    /// For designs that take an acknowledgement for enough: the checkpoint follows it, as often as the others probe.
    fn follow_acknowledged(&mut self, now: Instant) -> Option<Instant> {
        if self.counted.mark() <= self.durable.seq {
            return None;
        }
        let at = self.checkpointed_at + Duration::from_millis(self.config.durable.probe_interval_ms);
        if now < at {
            return Some(at);
        }
        self.checkpointed_at = now;
        self.advance_durable(self.counted.mark());
        None
    }

    /// Takes note of what the nodes said.
    pub(super) fn on_probe(&mut self, probe: &Probe) {
        let Some(durability) = &mut self.durability else { return };
        let verdict = durability.probed(probe);
        let stalled = matches!(verdict, Verdict::Stalled { .. });
        if stalled && self.metrics.durable_stalled.get() == 0 {
            tracing::warn!(target: "settlement", durable = self.durable.seq.0, "durable stalled: a node cannot be asked");
        }
        set(&self.metrics.durable_stalled, u64::from(stalled));
        match verdict {
            Verdict::Durable(upto) => self.advance_durable(upto),
            Verdict::Stalled { .. } => {
                self.metrics.probes_stalled.inc();
            }
            Verdict::SendAgain { after } => self.send_again(after),
        }
    }

    fn advance_durable(&mut self, upto: OutputSequence) {
        if upto <= self.durable.seq {
            return;
        }
        // What is durable is in the WAL, which only drops what was durable before.
        let Some(digest) = self.wal.digest_at(upto) else {
            tracing::error!(target: "settlement", seq = upto.0, "durable and not in the WAL: the checkpoint stays");
            return;
        };
        self.durable = Position {
            seq: upto,
            digest,
            ..self.durable
        };
        set_sequence(&self.metrics.durable, upto);
        tracing::debug!(target: "settlement", seq = upto.0, "durable");
    }

    /// Everything after this may be lost: settle it again, from the WAL, whatever was acknowledged.
    fn send_again(&mut self, after: OutputSequence) {
        if self.handed.highest() <= after {
            return;
        }
        self.metrics.windows_sent_again.inc();
        tracing::warn!(
            target: "settlement", after = after.0, upto = self.handed.highest().0, "a node restarted, sending again"
        );
        self.ready.clear();
        self.handed = crate::watermarks::Contiguous::at(after);
        self.counted = crate::watermarks::Contiguous::at(after);
        self.read_back_from = after.next();
        // A page on its way lies behind the new place; reading it first would move the place past what is to be sent.
        self.tasks.page = None;
    }

    /// Writes the checkpoint if there is a later one, one at a time.
    fn begin_checkpoint(&mut self) {
        if self.tasks.checkpoint.is_some() || self.checkpointed >= self.durable.seq {
            return;
        }
        let (checkpoints, config, at) = (self.checkpoints.clone(), self.config.clone(), self.durable);
        self.tasks.checkpoint = Some(Box::pin(async move {
            match checkpoints.write(at).await {
                Ok(()) => Some(at),
                Err(error) => {
                    tracing::debug!(target: "settlement", seq = at.seq.0, error = %error, "checkpoint failed, retry");
                    // By then there may be a later one, which is as good.
                    sleep(retry::pause(&config.retry, u32::MAX, at.seq)).await;
                    None
                }
            }
        }));
    }

    pub(super) fn on_checkpointed(&mut self, written: Option<Position>) {
        let Some(at) = written else { return };
        self.checkpointed = at.seq;
        self.metrics.checkpoints.inc();
        tracing::debug!(target: "settlement", seq = at.seq.0, "checkpoint");
        if self.tasks.truncate.is_none() {
            self.tasks.truncate = self.wal.begin_truncate(at).map(|truncate| Box::pin(truncate) as _);
        }
    }

    /// The WAL dropped what is durable: there may be room again.
    pub(super) fn on_truncated(&mut self, done: TruncateDone) -> Result<(), crate::error::ServeError> {
        match self.wal.finish_truncate(done) {
            Ok(truncated) => {
                tracing::debug!(
                    target: "settlement", seq = truncated.low_water.seq.0, segments = truncated.segments, "truncated"
                );
            }
            // Nothing was dropped and nothing is lost: the next checkpoint tries again.
            Err(error) => tracing::warn!(target: "settlement", error = %error, "the WAL cannot be truncated"),
        }
        self.measure_wal();
        self.release()
    }
}
