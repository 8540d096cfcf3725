//! Feed -> WAL -> handed over. Nothing is done with an event before the WAL holds it on disk; one fsync covers
//! everything that came while the one before it ran. What cannot be handed over in memory stays in the WAL and is read
//! back when there is room, which is also how start-up and a lost node send again.

use std::time::Duration;

use settlement_events::{Body, Digest, Envelope, Event, Heartbeat, OutputSequence, ReplayRefusal};
use tokio::time::Instant;

use super::{Page, Pipeline, Unreadable, Work};
use crate::designs::Item;
use crate::error::ServeError;
use crate::feed::{FeedItem, Origin};
use crate::identity::{Fork, Verdict};
use crate::metrics::{set, set_sequence};
use crate::wal::{SyncDone, WalError};

/// Events read back from the WAL at once. With their bytes it bounds the memory of a page.
const PAGE_EVENTS_MAX: usize = 512;
const PAGE_BYTES_MAX: usize = 1 << 20;

type Done = Result<(), ServeError>;

impl Pipeline {
    /// Deals with what the feed says, and with everything it found along with it.
    pub(super) fn on_feed(&mut self, item: FeedItem) -> Done {
        self.take_in(item)?;
        while self.held.is_none()
            && let Some(more) = self.feed.try_next()
        {
            self.take_in(more)?;
        }
        Ok(())
    }

    fn take_in(&mut self, item: FeedItem) -> Done {
        match item {
            FeedItem::Event { envelope, event, from } => return self.take_in_event(envelope, event, from),
            FeedItem::Malformed { seq, envelope, error } => {
                return self.take_in_unreadable(Unreadable {
                    sequence: seq,
                    envelope,
                    error,
                });
            }
            FeedItem::Head(heartbeat) => return self.take_in_head(&heartbeat),
            FeedItem::OtherEpoch { ours, theirs, seq } => {
                return Err(ServeError::EpochChange {
                    ours,
                    theirs,
                    sequence: seq,
                });
            }
            FeedItem::Gap { from, to, reason } => {
                self.metrics.gaps.inc();
                tracing::info!(target: "settlement", from = from.0, to = to.0, reason = %reason, "gap");
            }
            FeedItem::ReplayRequested { from, to } => {
                self.metrics.replays_requested.inc();
                tracing::debug!(target: "settlement", from = from.0, to = to.0, "replay requested");
            }
            FeedItem::ReplayRefused { from, to, reason } => self.note_refused_replay(from, to, &reason),
            FeedItem::Damaged { seq } => {
                self.metrics.damaged.inc();
                tracing::warn!(target: "settlement", seq = ?seq, "damaged on its way, fetched again");
            }
            FeedItem::Connected => {
                set(&self.metrics.feed_connected, 1);
                tracing::debug!(target: "settlement", "feed connected");
            }
            FeedItem::Unreachable { why } => tracing::warn!(
                target: "settlement", publish_addr = %self.config.publish_addr, error = %why,
                "the matching engine's feed cannot be reached, trying again: check that it runs, and publish_addr"
            ),
            FeedItem::Disconnected { silent } => {
                set(&self.metrics.feed_connected, 0);
                tracing::info!(target: "settlement", silent, "feed disconnected");
            }
        }
        Ok(())
    }

    fn take_in_event(&mut self, envelope: Envelope, event: Event, from: Origin) -> Done {
        if let Body::EpochStart { epoch, .. } = event.body {
            let (ours, sequence) = (self.config.epoch, event.output_sequence);
            return Err(ServeError::EpochChange {
                ours,
                theirs: epoch,
                sequence,
            });
        }
        let sequence = event.output_sequence;
        match self.judge(sequence, envelope.digest, Some(event.prev_digest)) {
            Verdict::New => match self.wal.append(sequence, &envelope) {
                Ok(_) => {
                    self.identity.accept(sequence, envelope.digest, Some(event.prev_digest));
                    let kind = event.kind().as_str();
                    tracing::debug!(target: "settlement", seq = sequence.0, kind, "received");
                    let item = Item {
                        sequence,
                        digest: envelope.digest,
                        event,
                        arrived: Instant::now(),
                    };
                    self.unsynced.push_back(Work::Settle(item));
                }
                Err(error) => self.hold(FeedItem::Event { envelope, event, from }, error)?,
            },
            Verdict::Duplicate => self.note_duplicate(sequence),
            Verdict::LookUp => {
                let item = Item {
                    sequence,
                    digest: envelope.digest,
                    event,
                    arrived: Instant::now(),
                };
                self.look_up(item);
            }
            Verdict::Fork(fork) => return self.fork(fork),
        }
        Ok(())
    }

    /// An event that cannot be read is in the WAL like any other, so that the stream goes on behind it.
    fn take_in_unreadable(&mut self, unreadable: Unreadable) -> Done {
        let Unreadable { sequence, envelope, .. } = &unreadable;
        match self.judge(*sequence, envelope.digest, None) {
            Verdict::New => match self.wal.append(*sequence, envelope) {
                Ok(_) => {
                    self.identity.accept(*sequence, envelope.digest, None);
                    self.unsynced.push_back(Work::Unreadable(unreadable));
                }
                Err(wal_error) => {
                    let Unreadable {
                        sequence,
                        envelope,
                        error,
                    } = unreadable;
                    self.hold(
                        FeedItem::Malformed {
                            seq: sequence,
                            envelope,
                            error,
                        },
                        wal_error,
                    )?;
                }
            },
            Verdict::Duplicate | Verdict::LookUp => self.note_duplicate(*sequence),
            Verdict::Fork(fork) => return self.fork(fork),
        }
        Ok(())
    }

    fn judge(&self, sequence: OutputSequence, digest: Digest, prev_digest: Option<Digest>) -> Verdict {
        let verdict = self
            .identity
            .judge(sequence, digest, prev_digest, self.wal.digest_at(sequence));
        match (verdict, self.settled_before.get(&sequence)) {
            // New to this WAL and settled all the same: then with this content.
            (Verdict::New, Some(&ours)) if ours != digest => Verdict::Fork(Fork::Content {
                sequence,
                ours,
                theirs: digest,
            }),
            (verdict, _) => verdict,
        }
    }

    fn take_in_head(&mut self, heartbeat: &Heartbeat) -> Done {
        set_sequence(&self.metrics.head, heartbeat.head_sequence);
        let kept = self.wal.digest_at(heartbeat.head_sequence);
        match self
            .identity
            .judge_head(heartbeat.head_sequence, heartbeat.head_digest, kept)
        {
            Some(fork) => self.fork(fork),
            None => Ok(()),
        }
    }

    fn fork(&mut self, fork: Fork) -> Done {
        self.metrics.forks.inc();
        tracing::error!(target: "settlement", fork = %fork, "fork");
        Err(fork.into())
    }

    fn note_duplicate(&mut self, sequence: OutputSequence) {
        self.metrics.duplicates.inc();
        tracing::debug!(target: "settlement", seq = sequence.0, "duplicate");
    }

    /// Keeps what the WAL has no room for, and stops taking more until there is some.
    fn hold(&mut self, item: FeedItem, error: WalError) -> Done {
        if !error.is_backpressure() {
            return match error {
                WalError::Conflict { seq, kept, came } => self.fork(Fork::Content {
                    sequence: seq,
                    ours: kept,
                    theirs: came,
                }),
                other => Err(other.into()),
            };
        }
        if matches!(error, WalError::Full { .. }) {
            self.metrics.wal_full.inc();
            tracing::warn!(target: "settlement", error = %error, "intake waits");
        }
        self.held = Some(item);
        Ok(())
    }

    /// Tries again what was held back.
    pub(super) fn release(&mut self) -> Done {
        match self.held.take() {
            Some(item) => self.on_feed(item),
            None => Ok(()),
        }
    }

    /// The matching engine does not have these any more, or does not say why. Told exactly, once, and asked for again.
    fn note_refused_replay(&mut self, from: OutputSequence, to: OutputSequence, reason: &ReplayRefusal) {
        self.metrics.replays_refused.inc();
        tracing::error!(
            target: "settlement", from = from.0, to = to.0, reason = %reason,
            "events are missing and the matching engine does not serve them"
        );
        let missing = &self.metrics.missing_events;
        missing.put(from, to);
        // Some of them may have come since they were asked for.
        let ahead = self.wal.received().seq.0.saturating_add(self.config.limits.ahead_max);
        for sequence in (from.0..=to.0.min(ahead)).map(OutputSequence) {
            if self.wal.digest_at(sequence).is_some() {
                missing.take(sequence);
            }
        }
        self.measure_missing();
    }

    fn measure_missing(&mut self) {
        let missing = self.metrics.missing_events.take_until(self.wal.received().seq);
        set(&self.metrics.missing, missing);
    }

    /// Begins a group fsync if something waits for one. When it may not begin yet: when it may.
    pub(super) fn begin_sync(&mut self, now: Instant) -> Option<Instant> {
        if self.tasks.sync.is_some() || self.unsynced.is_empty() {
            return None;
        }
        if let Some(after) = self.sync_after
            && now < after
        {
            return Some(after);
        }
        self.tasks.sync = self.wal.begin_sync().map(|sync| Box::pin(sync) as _);
        None
    }

    /// A group is on disk: its events count as received and may be settled.
    pub(super) fn on_synced(&mut self, done: SyncDone) -> Done {
        match self.wal.finish_sync(done) {
            Ok(durable) => {
                if self.sync_after.take().is_some() {
                    tracing::info!(target: "settlement", "the WAL can be written again");
                    set(&self.metrics.wal_blocked, 0);
                }
                self.metrics.wal_syncs.inc();
                self.metrics.events_received.inc_by(durable.len() as u64);
                for sequence in durable {
                    if self.metrics.missing.get() > 0 {
                        self.metrics.missing_events.take(sequence);
                    }
                    self.hand_over_synced(sequence);
                }
                if self.read_back_from.is_none() {
                    self.end_of_reading_back();
                }
            }
            Err(error) if error.is_transient() => self.note_failed_sync(&error),
            Err(error) => return Err(error.into()),
        }
        set_sequence(&self.metrics.received, self.wal.received().seq);
        if self.metrics.missing.get() > 0 {
            self.measure_missing();
        }
        self.measure_wal();
        self.release()
    }

    /// Nothing is lost: the group stays buffered, and after a pause it is written again.
    fn note_failed_sync(&mut self, error: &WalError) {
        if self.sync_after.is_none() {
            tracing::error!(target: "settlement", error = %error, "the WAL cannot be written, trying again");
        }
        set(&self.metrics.wal_blocked, 1);
        self.metrics.wal_sync_failures.inc();
        self.sync_after = Some(Instant::now() + Duration::from_millis(self.config.wal.retry_ms));
    }

    fn hand_over_synced(&mut self, sequence: OutputSequence) {
        // The WAL answers in the order of appending, which is the order of this queue.
        let Some(work) = self.unsynced.pop_front() else { return };
        debug_assert_eq!(work.sequence(), sequence);
        if self.waits_for_order(sequence) {
            self.read_back_from = self.read_back_from.or(self.handed.mark().next());
            return;
        }
        if self.read_back_from.is_some() || self.ready.len() >= self.config.limits.ready_max {
            // It is in the WAL: read it back when there is room.
            self.read_back_from.get_or_insert(sequence);
            return;
        }
        self.hand_over(work);
    }

    /// Whether a design that needs order cannot have this one yet.
    fn waits_for_order(&self, sequence: OutputSequence) -> bool {
        self.design.needs_order() && self.handed.mark().next() != Some(sequence)
    }

    fn hand_over(&mut self, work: Work) {
        self.handed.add(work.sequence());
        self.ready.push_back(work);
    }

    /// Reads back from the WAL what was not handed over, when half of the room is free. When it may not begin yet: when
    /// it may.
    pub(super) fn begin_page(&mut self, now: Instant) -> Option<Instant> {
        let ready_max = self.config.limits.ready_max;
        let from = self.read_back_from?;
        if self.tasks.page.is_some() || self.ready.len() > ready_max / 2 {
            return None;
        }
        if let Some(after) = self.page_after
            && now < after
        {
            return Some(after);
        }
        let room = (ready_max - self.ready.len()).min(PAGE_EVENTS_MAX);
        self.tasks.page = Some(Box::pin(self.wal.read_from(from, room, PAGE_BYTES_MAX)));
        None
    }

    /// Hands over a page, as far as it was not handed over before.
    pub(super) fn on_page(&mut self, page: Page) -> Done {
        let page = match page {
            Ok(page) => page,
            Err(error) if error.is_transient() => {
                tracing::error!(target: "settlement", error = %error, "the WAL cannot be read, trying again");
                self.page_after = Some(Instant::now() + Duration::from_millis(self.config.wal.retry_ms));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.page_after = None;
        self.metrics.wal_pages_read.inc();
        let Some(last) = page.last().map(|(sequence, _)| *sequence) else {
            self.end_of_reading_back();
            return Ok(());
        };
        let arrived = Instant::now();
        for (sequence, envelope) in page {
            if self.handed.contains(sequence) {
                continue;
            }
            if self.waits_for_order(sequence) {
                self.end_of_reading_back();
                return Ok(());
            }
            let work = match envelope.decode_unverified() {
                Ok(event) => Work::Settle(Item {
                    sequence,
                    digest: envelope.digest,
                    event,
                    arrived,
                }),
                Err(error) => Work::Unreadable(Unreadable {
                    sequence,
                    envelope,
                    error,
                }),
            };
            self.hand_over(work);
        }
        self.read_back_from = last.next();
        Ok(())
    }

    /// The WAL was read to its end, or nothing is read. Whatever is received and was not handed over, because it came
    /// while something else was read, or because a hole behind the place that was read has closed, is read from there.
    fn end_of_reading_back(&mut self) {
        let mark = self.handed.mark();
        self.read_back_from = if mark < self.wal.received().seq {
            mark.next()
        } else {
            None
        };
    }
}
