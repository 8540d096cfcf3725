//! The feed as its reader sees it: one struct, polled in place. It joins the subscription, the replay and the tracker,
//! and decides what to ask for next. No task, no channel: what the reader does not poll stays with the publisher.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use settlement_events::{
    DecodeError, Envelope, Event, FEED_TOPIC, FeedMessage, Heartbeat, OutputSequence, ReplayRefusal, ReplayReply,
    ReplayRequest,
};
use tokio::time::{Instant, sleep_until};
use zeromq::ZmqMessage;

use super::live::{Live, LiveFeed};
use super::replay::{Asked, ReplayFailure, Replayer};
use super::{FeedConfig, FeedCounters, FeedItem, Offer, Origin, RefetchReason, Tracker};

/// How many published messages are taken from the socket at once. Together with one replay it bounds what waits here.
const LIVE_BATCH_MAX: usize = 64;

/// The feed from the matching engine.
pub struct Feed {
    config: FeedConfig,
    tracker: Tracker,
    live: LiveFeed,
    replayer: Replayer,
    asking: Option<BoxFuture<'static, Asked>>,
    /// What was found and not yet told.
    out: VecDeque<FeedItem>,
    /// The head is to be asked for: at the start, and whenever heartbeats do not come.
    head_wanted: bool,
    /// Not before then.
    ask_at: Instant,
    /// The end of the hole that was told.
    gap_told_to: Option<OutputSequence>,
    /// Who said last that the stream goes on beyond what was seen.
    tail_reason: RefetchReason,
    refused: Option<Refused>,
    counters: FeedCounters,
}

/// A range that the engine does not serve.
#[derive(Clone, Copy, Debug)]
struct Refused {
    from: OutputSequence,
    to: OutputSequence,
    ask_again_at: Instant,
}

impl Feed {
    /// Begins. It connects while it is polled and cannot fail: whoever is not there yet is waited for.
    #[must_use]
    pub fn connect(config: FeedConfig) -> Self {
        let topic = std::str::from_utf8(FEED_TOPIC).unwrap_or_default();
        Self {
            tracker: Tracker::new(config.next, &config.have, config.ahead_max),
            live: LiveFeed::new(&config, topic),
            replayer: Replayer::new(&config),
            asking: None,
            out: VecDeque::new(),
            head_wanted: true,
            ask_at: Instant::now(),
            gap_told_to: None,
            tail_reason: RefetchReason::CatchUp,
            refused: None,
            counters: FeedCounters::default(),
            config,
        }
    }

    /// The next thing that happens. May be dropped and called again at any point; nothing is lost by that.
    pub async fn next(&mut self) -> FeedItem {
        loop {
            if let Some(item) = self.out.pop_front() {
                return item;
            }
            self.drive().await;
        }
    }

    /// What was found already, without waiting: the rest of what came together.
    pub fn try_next(&mut self) -> Option<FeedItem> {
        self.out.pop_front()
    }

    /// Fetch these again, whether seen or not.
    pub fn refetch(&mut self, from: OutputSequence, to: OutputSequence) {
        if from <= to {
            self.tracker.want_again(from, to);
            self.counters.refetches += 1;
            self.out.push_back(FeedItem::Gap {
                from,
                to,
                reason: RefetchReason::Asked,
            });
        }
    }

    /// Everything below `next` is no longer wanted: an operator skipped it.
    pub fn advance(&mut self, next: OutputSequence) {
        self.tracker.advance(next);
    }

    /// Plain numbers, for metrics.
    #[must_use]
    pub fn counters(&self) -> FeedCounters {
        self.counters
    }

    /// The first event that was not delivered yet, and the highest known to exist.
    #[must_use]
    pub fn progress(&self) -> (OutputSequence, OutputSequence) {
        (self.tracker.next(), self.tracker.head())
    }

    /// How many events were delivered beyond the first hole.
    #[must_use]
    pub fn ahead_len(&self) -> usize {
        self.tracker.ahead_len()
    }

    /// Waits for one thing and deals with it, unless there is something to tell at once.
    async fn drive(&mut self) {
        self.note_gap();
        let ask_at = self.begin_asking();
        if !self.out.is_empty() {
            return;
        }
        // Biased: an answer is what closes holes, and no generator decides. A flood of live messages cannot starve the
        // timer, because whether it is time to ask is looked at before every wait.
        tokio::select! {
            biased;
            asked = answer(&mut self.asking) => self.take_answer(asked),
            live = self.live.next() => self.take_live(live),
            () = wait_until(ask_at) => {}
        }
    }

    // ---- what is missing ----

    /// Tells a hole once, and gives it a moment to close by itself.
    fn note_gap(&mut self) {
        let Some((from, to)) = self.tracker.hole() else {
            self.gap_told_to = None;
            return;
        };
        let is_tail = !self.tracker.is_ahead();
        // A hole that is being closed moves its beginning; a lost tail that grows moves its end. Neither is news.
        let is_news = self.gap_told_to.is_none_or(|told_to| from > told_to);
        if is_news || is_tail {
            self.gap_told_to = Some(to);
        }
        if !is_news {
            return;
        }
        let reason = if is_tail { self.tail_reason } else { RefetchReason::Hole };
        match reason {
            RefetchReason::Hole => self.counters.gaps += 1,
            RefetchReason::Tail => self.counters.tail_losses += 1,
            RefetchReason::CatchUp | RefetchReason::Asked => {}
        }
        self.out.push_back(FeedItem::Gap { from, to, reason });
        let patience = Duration::from_millis(self.config.reorder_patience_ms);
        self.ask_at = self.ask_at.max(Instant::now() + patience);
    }

    /// Puts the next question if it is time; otherwise says when it will be.
    fn begin_asking(&mut self) -> Option<Instant> {
        if self.asking.is_some() {
            return None;
        }
        let now = Instant::now();
        let (request, due_at) = self.next_question(now)?;
        if due_at > now {
            return Some(due_at);
        }
        match request {
            ReplayRequest::Head => self.head_wanted = false,
            ReplayRequest::Range { start_seq, end_seq } => {
                self.counters.replays_asked += 1;
                self.out.push_back(FeedItem::ReplayRequested {
                    from: start_seq,
                    to: end_seq,
                });
            }
        }
        self.asking = Some(self.replayer.ask(request));
        None
    }

    fn next_question(&mut self, now: Instant) -> Option<(ReplayRequest, Instant)> {
        if self.head_wanted {
            return Some((ReplayRequest::Head, self.ask_at));
        }
        let chunk = self.replayer.chunk();
        let range = |(start_seq, end_seq)| ReplayRequest::Range { start_seq, end_seq };
        let Some(refused) = self.live_refusal() else {
            return self
                .tracker
                .wanted(OutputSequence(0), chunk)
                .map(|wanted| (range(wanted), self.ask_at));
        };
        if refused.ask_again_at <= now {
            return self
                .tracker
                .wanted(OutputSequence(0), chunk)
                .map(|wanted| (range(wanted), self.ask_at));
        }
        // What is refused is asked for again later; meanwhile whatever lies behind it.
        let behind = OutputSequence(refused.to.0.saturating_add(1));
        match self.tracker.wanted(behind, chunk) {
            Some(wanted) => Some((range(wanted), self.ask_at.min(refused.ask_again_at))),
            None => self
                .tracker
                .wanted(OutputSequence(0), chunk)
                .map(|wanted| (range(wanted), self.ask_at.max(refused.ask_again_at))),
        }
    }

    /// The refusal, unless what it spoke of has come or is no longer wanted.
    fn live_refusal(&mut self) -> Option<Refused> {
        let first = self.tracker.wanted(OutputSequence(0), 1).map(|(first, _)| first);
        self.refused = self
            .refused
            .filter(|refused| first.is_some_and(|first| first <= refused.to));
        self.refused
    }

    // ---- what came ----

    fn take_live(&mut self, live: Live) {
        match live {
            Live::Message(message) => {
                self.take_message(&message);
                for _ in 1..LIVE_BATCH_MAX {
                    let Some(message) = self.live.try_message() else { break };
                    self.take_message(&message);
                }
            }
            Live::Connected => {
                self.counters.connects += 1;
                self.out.push_back(FeedItem::Connected);
            }
            Live::Disconnected { silent } => {
                self.counters.silences += u64::from(silent);
                self.head_wanted = true;
                self.out.push_back(FeedItem::Disconnected { silent });
            }
            Live::Unreachable { why } => self.out.push_back(FeedItem::Unreachable { why }),
        }
    }

    fn take_message(&mut self, message: &ZmqMessage) {
        let payload = match (message.get(0), message.get(1), message.len()) {
            (Some(topic), Some(payload), 2) if topic.as_ref() == FEED_TOPIC => payload,
            _ => {
                self.counters.unreadable += 1;
                return;
            }
        };
        match FeedMessage::decode(payload) {
            Ok(FeedMessage::Event(envelope)) => self.take_envelope(None, envelope, Origin::Live),
            Ok(FeedMessage::Heartbeat(heartbeat)) => self.take_head(heartbeat, RefetchReason::Tail),
            Err(_) => self.counters.unreadable += 1,
        }
    }

    /// An event, live or from a known place in a replay.
    fn take_envelope(&mut self, place: Option<OutputSequence>, envelope: Envelope, from: Origin) {
        match envelope.open() {
            Ok(event) => self.take_event(place, envelope, event, from),
            Err(DecodeError::DigestMismatch { .. }) => {
                // Whatever the damaged bytes say, not even the sequence can be believed: the hole will tell.
                self.counters.damaged += 1;
                self.out.push_back(FeedItem::Damaged { seq: place });
            }
            Err(error) => self.take_malformed(place, envelope, error),
        }
    }

    fn take_event(&mut self, place: Option<OutputSequence>, envelope: Envelope, event: Event, from: Origin) {
        let seq = event.output_sequence;
        if event.epoch != self.config.epoch {
            self.counters.other_epoch += 1;
            self.out.push_back(FeedItem::OtherEpoch {
                ours: self.config.epoch,
                theirs: event.epoch,
                seq,
            });
            return;
        }
        if let Some(place) = place.filter(|&place| place != seq) {
            let detail = format!("replayed as event {place}, it says that it is event {seq}");
            self.take_malformed(Some(place), envelope, DecodeError::Malformed { what: "event", detail });
            return;
        }
        match self.tracker.offer(seq) {
            Offer::New => {}
            Offer::Repeated => self.counters.repeated_events += 1,
            Offer::BeyondWindow => {
                self.counters.beyond_window += 1;
                return;
            }
        }
        match from {
            Origin::Live => self.counters.live_events += 1,
            Origin::Replay => self.counters.replayed_events += 1,
        }
        self.out.push_back(FeedItem::Event { envelope, event, from });
    }

    /// Right digest, unreadable content. If not even its head tells its place it is left to be a hole: replay will.
    fn take_malformed(&mut self, place: Option<OutputSequence>, envelope: Envelope, error: DecodeError) {
        let header = envelope
            .header()
            .ok()
            .filter(|header| header.epoch == self.config.epoch);
        let place = place.or(header.map(|header| header.output_sequence));
        match place.map(|seq| (seq, self.tracker.offer(seq))) {
            Some((seq, Offer::New | Offer::Repeated)) => {
                self.counters.malformed_events += 1;
                self.out.push_back(FeedItem::Malformed { seq, envelope, error });
            }
            Some((_, Offer::BeyondWindow)) => self.counters.beyond_window += 1,
            None => self.counters.unreadable += 1,
        }
    }

    fn take_head(&mut self, heartbeat: Heartbeat, reason: RefetchReason) {
        if heartbeat.epoch != self.config.epoch {
            self.counters.other_epoch += 1;
            let (ours, theirs, seq) = (self.config.epoch, heartbeat.epoch, heartbeat.head_sequence);
            self.out.push_back(FeedItem::OtherEpoch { ours, theirs, seq });
            return;
        }
        self.counters.heads += 1;
        if self.tracker.reach(heartbeat.head_sequence) {
            self.tail_reason = reason;
        }
        self.out.push_back(FeedItem::Head(heartbeat));
    }

    // ---- what was answered ----

    fn take_answer(&mut self, mut asked: Asked) {
        self.asking = None;
        let progress = match (asked.request, &mut asked.reply) {
            (ReplayRequest::Head, Ok(ReplayReply::Head { heartbeat, .. })) => {
                self.take_head(*heartbeat, RefetchReason::CatchUp);
                None
            }
            (
                ReplayRequest::Range { start_seq, end_seq },
                Ok(ReplayReply::Events {
                    start_seq: from,
                    entries,
                    ..
                }),
            ) if *from == start_seq => {
                let entries = std::mem::take(entries);
                Some(self.take_entries(start_seq, end_seq, entries))
            }
            (ReplayRequest::Range { start_seq, end_seq }, Ok(ReplayReply::Refused { reason })) => {
                self.take_refusal(start_seq, end_seq, *reason);
                Some(false)
            }
            (ReplayRequest::Head, Ok(ReplayReply::Refused { .. })) => {
                self.counters.replays_busy += 1;
                self.head_wanted = true;
                Some(false)
            }
            (_, Ok(_)) => {
                // An answer to something else.
                self.counters.unreadable += 1;
                self.head_wanted |= asked.request == ReplayRequest::Head;
                Some(false)
            }
            (request, Err(failure)) => {
                self.count_failure(*failure);
                self.head_wanted |= request == ReplayRequest::Head;
                Some(false)
            }
        };
        self.replayer.learn(&mut asked, progress);
        self.ask_at = Instant::now() + self.replayer.pause();
    }

    fn count_failure(&mut self, failure: ReplayFailure) {
        match failure {
            ReplayFailure::TimedOut => self.counters.replays_timed_out += 1,
            ReplayFailure::Transport => self.counters.replays_failed += 1,
            ReplayFailure::Unreadable => self.counters.unreadable += 1,
        }
    }

    /// The events of a reply, perhaps fewer than asked for: what is still missing is asked for again. Returns whether
    /// any was delivered.
    fn take_entries(&mut self, first: OutputSequence, last: OutputSequence, entries: Vec<Envelope>) -> bool {
        let asked = last.0 - first.0 + 1;
        if (entries.len() as u64) < asked {
            self.counters.replays_partial += 1;
        }
        let delivered = |counters: &FeedCounters| counters.replayed_events + counters.malformed_events;
        let before = delivered(&self.counters);
        for (place, envelope) in (first.0..=last.0).zip(entries) {
            self.take_envelope(Some(OutputSequence(place)), envelope, Origin::Replay);
        }
        let progress = delivered(&self.counters) > before;
        // Nothing of what the head promised: look at the head again, it may have gone back.
        self.head_wanted |= !progress;
        progress
    }

    fn take_refusal(&mut self, first: OutputSequence, last: OutputSequence, reason: ReplayRefusal) {
        let to = match reason {
            ReplayRefusal::Busy => {
                self.counters.replays_busy += 1;
                return;
            }
            ReplayRefusal::RetentionPassed { first_retained } => OutputSequence(first_retained.0.saturating_sub(1)),
            ReplayRefusal::Unknown => last,
        };
        self.counters.replays_refused += 1;
        self.head_wanted |= reason == ReplayRefusal::Unknown;
        let to = to.max(first);
        let told = self
            .refused
            .is_some_and(|refused| refused.from <= first && refused.to >= to);
        let from = self.refused.map_or(first, |refused| refused.from.min(first));
        let ask_again_at = Instant::now() + Duration::from_millis(self.config.backoff_max_ms);
        self.refused = Some(Refused { from, to, ask_again_at });
        if !told {
            self.out.push_back(FeedItem::ReplayRefused {
                from: first,
                to,
                reason,
            });
        }
    }
}

/// The answer, once there is one; for ever pending while nothing is asked.
async fn answer(asking: &mut Option<BoxFuture<'static, Asked>>) -> Asked {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
