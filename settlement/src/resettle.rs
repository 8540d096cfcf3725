//! `settlement resettle --from N`: sends every event from N to the head of the stream again, unconditionally (rule 4), as
//! the matching engine replays them. For the ledger this changes nothing that is right and restores whatever is missing;
//! a service may run beside it. Nothing moves: no WAL, no checkpoint, no watermark.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use settlement_events::{DecodeError, Digest, OutputSequence, Refusal, ReplayRefusal};
use tokio::time::{Instant, sleep_until};

use crate::config::{Config, ConfigError};
use crate::dead_letters::{DeadLetter, DeadLetterError, DeadLetters};
use crate::designs::group::{Bounds, Group};
use crate::designs::prepare::StatementError;
use crate::designs::{Context, Design, Ended, Item, Promise};
use crate::feed::{Feed, FeedConfig, FeedItem};
use crate::foreign::{self, ForeignError, Identities};
use crate::identity::{Fork, Identity, Verdict};
use crate::metrics::Metrics;
use crate::session::{self, SessionError};
use crate::verify::Verifier;
use crate::watermarks::Contiguous;

/// How long the matching engine may be silent while it is waited for: somebody is looking at this command.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What is taken from the feed at a time: a few batches' worth.
const TAKEN_ALONG_MAX: usize = 256;

/// What was sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resettled {
    /// The first event.
    pub from: OutputSequence,
    /// The last one: the head of the stream when this began.
    pub upto: OutputSequence,
    /// How many were acknowledged.
    pub events: u64,
    /// How many were left out because they are refused.
    pub refused: u64,
}

impl fmt::Display for Resettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            upto,
            events,
            refused,
        } = self;
        write!(
            f,
            "events {from} to {upto}: {events} settled again, {refused} left out because they are refused"
        )
    }
}

/// Why it ended early. What was sent until then stays, and sending it again is harmless.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResettleError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be reached.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The keyspace is not the one expected.
    #[error(transparent)]
    Schema(#[from] schema::SchemaError),
    /// The statements cannot be prepared.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The rows of the keyspace are not ours.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// The matching engine says nothing.
    #[error(
        "the matching engine has not answered for {} s at {replay_addr} (feed {publish_addr}): check that it runs, and \
         `replay_addr` and `publish_addr`. {done} events were settled again; running this again does no harm",
        SILENCE_MAX.as_secs()
    )]
    Silent {
        /// Where its replay was expected.
        replay_addr: String,
        /// Where its feed was expected.
        publish_addr: String,
        /// What was done until then.
        done: u64,
    },
    /// The dead letters cannot be read.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    /// The design does not bear it.
    #[error("design {0} cannot settle an event twice: only designs whose rows are absolute can")]
    NotRepeatable(schema::DesignName),
    /// The sequence is not one.
    #[error("--from 0: the first event is 1")]
    FromZero,
    /// The matching engine does not keep the events any more.
    #[error("events {from} to {to} are not served by the matching engine: {reason}. Begin later, or restore its log")]
    Missing {
        /// The first one missing.
        from: OutputSequence,
        /// The last one missing.
        to: OutputSequence,
        /// What the matching engine says.
        reason: ReplayRefusal,
    },
    /// The stream does not fit itself.
    #[error(transparent)]
    Fork(#[from] Fork),
    /// An event is refused that was not refused before.
    #[error("event {sequence} is refused ({refusal}) and is not among the dead letters: `settlement serve` decides it")]
    Refused {
        /// Which event.
        sequence: OutputSequence,
        /// Why.
        refusal: Refusal,
    },
    /// The stream is not that long.
    #[error("there is no event {from} to begin with: the stream ends with event {head}. Give --from a lower number")]
    NotThere {
        /// The first event that was asked for.
        from: OutputSequence,
        /// The last one that there is.
        head: OutputSequence,
    },
    /// An event cannot be read and is not among the dead letters.
    #[error("event {sequence} cannot be read: {error}; `settlement serve` decides it")]
    Unreadable {
        /// Which event.
        sequence: OutputSequence,
        /// Why.
        error: DecodeError,
    },
    /// Another life of the stream.
    #[error("the matching engine is in another epoch than the configured one")]
    OtherEpoch,
}

/// Sends everything from `from` to the head again.
pub async fn resettle(config: Config, from: OutputSequence, metrics: Arc<Metrics>) -> Result<Resettled, ResettleError> {
    config.validate()?;
    if from.0 == 0 {
        return Err(ResettleError::FromZero);
    }
    let config = Arc::new(config);
    let session = Arc::new(session::connect(&config).await?);
    let defs: Arc<[_]> = schema::check(&session, &config.target()).await?.into();
    foreign::check(&session, &config, &defs).await?;
    let context = Context {
        session: session.clone(),
        config: config.clone(),
        metrics: metrics.clone(),
    };
    let design = Design::prepare(context, &defs).await?;
    if design.promise() != Promise::Durable {
        return Err(ResettleError::NotRepeatable(config.design));
    }
    let settled_before = foreign::identities(&session, &config, OutputSequence(from.0 - 1)).await?;
    let letters = DeadLetters::new(session, config.keyspace(), defs, config.generation);
    let mut feed = FeedConfig::new(&config.publish_addr, &config.replay_addr, config.epoch, from);
    feed.replay_chunk = config.feed.replay_chunk;
    let before = OutputSequence(from.0 - 1);
    let identity = if before.0 == 0 {
        Identity::at(before, Digest::ZERO)
    } else {
        Identity::entered_after(before)
    };
    let run = Run {
        verifier: Verifier::new(config.limits.verify_entries_max),
        identity,
        settled_before,
        done: Contiguous::at(before),
        feed: Feed::connect(feed),
        design: Arc::new(design),
        letters,
        known: BTreeMap::new(),
        result: Resettled {
            from,
            ..Resettled::default()
        },
        metrics,
        config,
    };
    run.run_to_head().await
}

struct Run {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    design: Arc<Design>,
    letters: DeadLetters,
    /// Dead letters by bucket, read when the first event of a bucket comes.
    known: BTreeMap<u64, BTreeMap<OutputSequence, DeadLetter>>,
    feed: Feed,
    identity: Identity,
    /// The first events as they are settled; what comes must be the same.
    settled_before: Identities,
    verifier: Verifier,
    done: Contiguous,
    result: Resettled,
}

impl Run {
    async fn run_to_head(mut self) -> Result<Resettled, ResettleError> {
        let mut in_flight = FuturesUnordered::new();
        let mut ready = VecDeque::new();
        let mut apart = VecDeque::new();
        let mut limit = self.design.in_flight(&self.config);
        let mut failures_known = self.metrics.failed_attempts();
        let mut upto = None;
        let mut heard = Instant::now();
        while upto.is_none_or(|upto| self.done.mark() < upto) {
            let failures = self.metrics.failed_attempts();
            if std::mem::replace(&mut failures_known, failures) != failures {
                limit.failed(Instant::now());
            }
            while in_flight.len() < limit.limit() {
                let group = match apart.pop_front() {
                    Some(item) => vec![item],
                    None => next_group(self.design.bounds(), &mut ready),
                };
                if group.is_empty() {
                    break;
                }
                in_flight.push(self.design.clone().settle(group));
            }
            let has_room = in_flight.len() < limit.limit();
            if !has_room {
                limit.reached();
            }
            tokio::select! {
                biased;
                Some(ended) = in_flight.next(), if !in_flight.is_empty() => match ended {
                    Ended::Settled(group) => {
                        heard = Instant::now();
                        if let Some(first) = group.first() {
                            limit.answered(heard.duration_since(first.sent));
                        }
                        for settled in group {
                            self.done.add(settled.sequence);
                            self.result.events += 1;
                        }
                    }
                    Ended::Apart(group) => apart.extend(group),
                },
                item = self.feed.next(), if has_room => {
                    let mut item = Some(item);
                    let mut taken = 0;
                    // What came along with it is taken along: it can share a batch.
                    while let Some(next) = item {
                        match next {
                            // The head as it was when this began; what comes later is the running service's.
                            FeedItem::Head(head) => {
                                if upto.is_none() {
                                    self.check_from(head.head_sequence)?;
                                    upto = Some(head.head_sequence);
                                    heard = Instant::now();
                                }
                            }
                            other => {
                                if matches!(other, FeedItem::Event { .. } | FeedItem::Malformed { .. } | FeedItem::ReplayRefused { .. }) {
                                    heard = Instant::now();
                                }
                                ready.extend(self.take(other).await?);
                            }
                        }
                        taken += 1;
                        item = if taken < TAKEN_ALONG_MAX { self.feed.next().now_or_never() } else { None };
                    }
                },
                () = sleep_until(heard + SILENCE_MAX), if in_flight.is_empty() => {
                    return Err(ResettleError::Silent {
                        replay_addr: self.config.replay_addr.clone(),
                        publish_addr: self.config.publish_addr.clone(),
                        done: self.result.events,
                    });
                }
            }
        }
        self.result.upto = upto.unwrap_or_default();
        Ok(self.result)
    }

    /// Whether there is such an event at all.
    fn check_from(&self, head: OutputSequence) -> Result<(), ResettleError> {
        let from = OutputSequence(self.done.mark().0.saturating_add(1));
        match from > head && from > OutputSequence(1) {
            true => Err(ResettleError::NotThere { from, head }),
            false => Ok(()),
        }
    }

    /// What is to be sent of what the feed says.
    async fn take(&mut self, item: FeedItem) -> Result<Option<(Item, usize)>, ResettleError> {
        match item {
            FeedItem::Event { envelope, event, .. } => {
                let item = Item {
                    sequence: event.output_sequence,
                    digest: envelope.digest,
                    event,
                    arrived: Instant::now(),
                };
                self.take_event(item).await
            }
            FeedItem::Malformed { seq, envelope, error } => {
                if self.is_dead_letter(seq, &envelope.digest).await? {
                    return Ok(None);
                }
                Err(ResettleError::Unreadable { sequence: seq, error })
            }
            FeedItem::ReplayRefused { from, to, reason } => match reason {
                ReplayRefusal::Busy => Ok(None),
                reason => Err(ResettleError::Missing { from, to, reason }),
            },
            FeedItem::OtherEpoch { .. } => Err(ResettleError::OtherEpoch),
            _ => Ok(None),
        }
    }

    async fn take_event(&mut self, item: Item) -> Result<Option<(Item, usize)>, ResettleError> {
        let prev_digest = item.event.prev_digest;
        match self.identity.judge(item.sequence, item.digest, Some(prev_digest), None) {
            Verdict::New => {
                if let Some(&ours) = self.settled_before.get(&item.sequence)
                    && ours != item.digest
                {
                    let (sequence, theirs) = (item.sequence, item.digest);
                    return Err(Fork::Content { sequence, ours, theirs }.into());
                }
                self.identity.accept(item.sequence, item.digest, Some(prev_digest));
            }
            Verdict::Duplicate | Verdict::LookUp => return Ok(None),
            Verdict::Fork(fork) => return Err(fork.into()),
        }
        // Before it is verified: what it contradicts may lie before the first event that is settled again.
        if self.is_dead_letter(item.sequence, &item.digest).await? {
            return Ok(None);
        }
        let checked = self.verifier.check(&item.event, &item.digest, &self.config.registry);
        match checked.and_then(|()| self.design.weigh(&item)) {
            Ok(bytes) => Ok(Some((item, bytes))),
            Err(refusal) => Err(ResettleError::Refused {
                sequence: item.sequence,
                refusal,
            }),
        }
    }

    /// Whether an event with this content is refused for the record; then it counts as done.
    async fn is_dead_letter(&mut self, sequence: OutputSequence, digest: &Digest) -> Result<bool, ResettleError> {
        let bucket = schema::keys::bucket(sequence);
        if !self.known.contains_key(&bucket) {
            let letters = self.letters.read(sequence, sequence).await?;
            self.known.insert(bucket, letters);
        }
        let letter = self.known.get(&bucket).and_then(|letters| letters.get(&sequence));
        let is_refused = letter.is_some_and(|letter| letter.digest == *digest);
        if is_refused && !self.done.contains(sequence) {
            self.done.add(sequence);
            self.result.refused += 1;
        }
        Ok(is_refused)
    }
}

/// The next events, each with its weight, that share a batch; none, when nothing is ready.
fn next_group(bounds: Bounds, ready: &mut VecDeque<(Item, usize)>) -> Vec<Item> {
    let mut group = Group::new(bounds);
    while ready.front().is_some_and(|(_, bytes)| group.has_room(*bytes))
        && let Some((item, bytes)) = ready.pop_front()
    {
        group.add(item, bytes);
    }
    group.into_items()
}
