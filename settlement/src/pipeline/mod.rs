//! The loop that runs everything: one task that owns all state and waits for whatever happens next. No locks, no channels,
//! no task per event.
//!
//! | part | what it does |
//! |---|---|
//! | `intake` | feed -> WAL -> handed over, once fsynced |
//! | `outflow` | verified -> batches, a bounded number in flight -> acknowledged; or refused |
//! | [`in_flight`] | how many batches may be in flight, by the database's answers |
//! | `progress` | acknowledged -> durable -> checkpoint -> WAL truncated; sending a window again |
//!
//! # Bounds
//!
//! | queue | bound |
//! |---|---|
//! | events waiting for their fsync | one WAL group of `wal.group_bytes_max`, and the one being written |
//! | events ready to be sent | `limits.ready_max`, and one that waits for the next batch; what does not fit is read back from the WAL |
//! | batches in flight | [`in_flight`]'s limit, at most `limits.in_flight_max` |
//! | events in one batch | `limits.batch_events_max`, `limits.batch_bytes_max` |
//! | events beyond a gap | `limits.ahead_max` |
//! | refused events | [`REFUSED_MAX`], then settlement stops |
//! | old duplicates being compared | `limits.lookups_max`, then they are counted and dropped |
//! | everything not durable | `wal.max_bytes`, then the intake waits |

pub mod in_flight;
mod intake;
mod outflow;
mod progress;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use scylla::client::session::Session;
use settlement_events::{DecodeError, Digest, Envelope, OutputSequence};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Observer;
use crate::checkpoint::Checkpoints;
use crate::config::Config;
use crate::dead_letters::{DeadLetter, DeadLetters};
use crate::designs::{Design, Ended, Item};
use crate::durable::{Durability, Probe};
use crate::error::ServeError;
use crate::feed::{Feed, FeedItem};
use crate::foreign::Identities;
use crate::identity::Identity;
use crate::metrics::{Metrics, set, set_sequence, set_with_peak};
use crate::startup::Started;
use crate::verify::Verifier;
use crate::wal::{Position, SyncDone, TruncateDone, Wal, WalError};
use crate::watermarks::Contiguous;
use in_flight::InFlight;

/// More refused events than this are not events that are wrong but a source that is: settlement stops.
pub const REFUSED_MAX: usize = 1_000;

/// How far settlement came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The received watermark.
    pub received: OutputSequence,
    /// The acknowledged watermark.
    pub acknowledged: OutputSequence,
    /// The durable watermark.
    pub durable: OutputSequence,
}

/// An event that is in the WAL and to be dealt with.
enum Work {
    /// It can be read.
    Settle(Item),
    /// It cannot: the digest is right and the content is not an event.
    Unreadable(Unreadable),
}

/// An event whose digest is right and whose content cannot be read.
struct Unreadable {
    sequence: OutputSequence,
    envelope: Envelope,
    error: DecodeError,
}

impl Work {
    const fn sequence(&self) -> OutputSequence {
        match self {
            Self::Settle(item) => item.sequence,
            Self::Unreadable(unreadable) => unreadable.sequence,
        }
    }
}

/// What happens beside the main way, rarely.
enum Side {
    /// A refused event is written down; and since when its skip is, if it is skipped.
    Refused {
        sequence: OutputSequence,
        skipped: Option<Instant>,
    },
    /// What `settled_events` says about an old duplicate.
    LookedUp { item: Box<Item>, found: Found },
}

/// What a table says about an event.
enum Found {
    /// Its row has this digest.
    Digest(Digest),
    /// There is no row, because the event was refused.
    Refused,
    /// There is no row.
    Nothing,
    /// The database did not answer.
    Unknown,
}

/// A future that may be under way.
type Pending<T> = Option<BoxFuture<'static, T>>;

/// What a page of the WAL holds, or why it cannot be read.
type Page = Result<Vec<(OutputSequence, Envelope)>, WalError>;

/// Everything settlement knows while it runs.
pub(crate) struct Pipeline {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    session: Arc<Session>,
    design: Arc<Design>,
    checkpoints: Arc<Checkpoints>,
    dead_letters: DeadLetters,

    // Intake.
    feed: Feed,
    wal: Wal,
    identity: Identity,
    /// Events that were settled before this start; what comes must be the same.
    settled_before: Identities,
    /// Came from the feed and has no room in the WAL yet.
    held: Option<FeedItem>,
    /// In the order in which they were appended to the WAL.
    unsynced: VecDeque<Work>,
    /// The WAL's disk failed: no sync before then.
    sync_after: Option<Instant>,
    /// The same for reading back.
    page_after: Option<Instant>,
    /// What was handed over to be settled.
    handed: Contiguous,
    /// Something in the WAL was not handed over from memory: read it back, from this event on.
    read_back_from: Option<OutputSequence>,

    // Outflow.
    ready: VecDeque<Work>,
    /// Verified, and to be settled one by one: the database did not take their common batch. At most what was in flight.
    apart: VecDeque<Item>,
    /// Verified, and too heavy for the group that was put together before; with its weight.
    carried: Option<(Item, usize)>,
    observer: Option<Observer>,
    in_flight: InFlight,
    /// The failed attempts that `in_flight` knows of.
    failures_known: u64,
    verifier: Verifier,
    refused: BTreeMap<OutputSequence, DeadLetter>,
    refused_poll_at: Option<Instant>,
    lookups: usize,

    // Progress.
    /// Acknowledged at least once, by whichever nodes.
    acknowledged: Contiguous,
    /// Acknowledged by nodes that are still the same processes: what can become durable.
    counted: Contiguous,
    durability: Option<Durability>,
    durable: Position,
    probed_at: Instant,
    /// The durable position last written to the database.
    checkpointed: OutputSequence,
    checkpointed_at: Instant,

    tasks: Tasks,
    timer: Pin<Box<Sleep>>,
}

/// What is under way. Dropping any of it loses nothing that start-up does not do again.
#[derive(Default)]
struct Tasks {
    in_flight: FuturesUnordered<BoxFuture<'static, Ended>>,
    sync: Pending<SyncDone>,
    page: Pending<Page>,
    probe: Pending<Probe>,
    checkpoint: Pending<Option<Position>>,
    truncate: Pending<TruncateDone>,
    side: FuturesUnordered<BoxFuture<'static, Side>>,
}

impl Pipeline {
    pub(crate) fn new(started: Started, observer: Option<Observer>) -> Self {
        let Started {
            config,
            metrics,
            durable,
            durability,
            wal,
            ..
        } = started;
        let now = Instant::now();
        let in_flight = started.design.in_flight(&config);
        let after_durable = OutputSequence(durable.seq.0.saturating_add(1));
        Self {
            verifier: Verifier::new(config.limits.verify_entries_max),
            session: started.session,
            design: started.design,
            checkpoints: started.checkpoints,
            dead_letters: started.dead_letters,
            feed: started.feed,
            identity: started.identity,
            settled_before: started.settled_before,
            held: None,
            unsynced: VecDeque::new(),
            sync_after: None,
            page_after: None,
            handed: Contiguous::at(durable.seq),
            // Everything that is not durable is sent again.
            read_back_from: Some(after_durable),
            ready: VecDeque::new(),
            apart: VecDeque::new(),
            carried: None,
            observer,
            in_flight,
            failures_known: metrics.failed_attempts(),
            refused: started.refused_before,
            refused_poll_at: None,
            lookups: 0,
            acknowledged: Contiguous::at(durable.seq),
            counted: Contiguous::at(durable.seq),
            durability,
            durable,
            probed_at: now,
            checkpointed: durable.seq,
            checkpointed_at: now,
            tasks: Tasks::default(),
            timer: Box::pin(sleep_until(now)),
            config,
            metrics,
            wal,
        }
    }

    /// Runs until `shutdown`, or until something needs a person.
    pub(crate) async fn run(mut self, mut shutdown: Pin<&mut impl Future<Output = ()>>) -> Result<Exit, ServeError> {
        loop {
            let wake_at = self.begin_what_is_due();
            let may_receive = self.held.is_none();
            if let Some(wake_at) = wake_at
                && self.timer.deadline() != wake_at
            {
                self.timer.as_mut().reset(wake_at);
            }
            // Biased: what frees a place comes before what takes one, and no generator decides.
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(self.exit()),
                Some(ended) = self.tasks.in_flight.next(), if !self.tasks.in_flight.is_empty() => {
                    self.on_ended(ended);
                    self.on_ended_along();
                }
                done = under_way(&mut self.tasks.sync), if self.tasks.sync.is_some() => {
                    self.tasks.sync = None;
                    self.on_synced(done)?;
                }
                page = under_way(&mut self.tasks.page), if self.tasks.page.is_some() => {
                    self.tasks.page = None;
                    self.on_page(page)?;
                }
                probe = under_way(&mut self.tasks.probe), if self.tasks.probe.is_some() => {
                    self.tasks.probe = None;
                    self.on_probe(&probe);
                }
                written = under_way(&mut self.tasks.checkpoint), if self.tasks.checkpoint.is_some() => {
                    self.tasks.checkpoint = None;
                    self.on_checkpointed(written);
                }
                done = under_way(&mut self.tasks.truncate), if self.tasks.truncate.is_some() => {
                    self.tasks.truncate = None;
                    self.on_truncated(done)?;
                }
                Some(side) = self.tasks.side.next(), if !self.tasks.side.is_empty() => self.on_side(side)?,
                item = self.feed.next(), if may_receive => self.on_feed(item)?,
                () = self.timer.as_mut(), if wake_at.is_some() => {}
            }
        }
    }

    /// Begins everything that can begin now. When something is due later: when.
    fn begin_what_is_due(&mut self) -> Option<Instant> {
        self.fill();
        let now = Instant::now();
        let due = [
            self.begin_sync(now),
            self.begin_page(now),
            self.begin_progress(now),
            self.begin_refused_poll(now),
        ];
        self.measure();
        due.into_iter().flatten().min()
    }

    fn measure(&self) {
        let metrics = &self.metrics;
        set_with_peak(
            &metrics.in_flight,
            &metrics.in_flight_peak,
            self.tasks.in_flight.len() as u64,
        );
        set(&metrics.in_flight_limit, self.in_flight.limit() as u64);
        set_with_peak(&metrics.ready, &metrics.ready_peak, self.ready.len() as u64);
        set_with_peak(&metrics.unsynced, &metrics.unsynced_peak, self.unsynced.len() as u64);
        set_with_peak(&metrics.lookups, &metrics.lookups_peak, self.lookups as u64);
    }

    /// The numbers of the WAL, when it changed.
    fn measure_wal(&self) {
        let (metrics, stats) = (&self.metrics, self.wal.stats());
        set_with_peak(&metrics.wal_bytes, &metrics.wal_bytes_peak, stats.bytes);
        set(&metrics.wal_segments, stats.segments as u64);
        set_sequence(&metrics.wal_low_water, self.wal.low_water().seq);
        let abandoned = stats.abandoned_files.saturating_sub(metrics.wal_files_abandoned.get());
        metrics.wal_files_abandoned.inc_by(abandoned);
    }

    fn exit(&self) -> Exit {
        Exit {
            received: self.wal.received().seq,
            acknowledged: self.acknowledged.mark(),
            durable: self.durable.seq,
        }
    }
}

/// Waits for a future that is under way; for ever if none is.
async fn under_way<T>(pending: &mut Pending<T>) -> T {
    match pending {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The bytes of an event for a dead letter. The encoding is canonical, so they are the bytes that came.
fn bytes_of(item: &Item) -> Bytes {
    item.event.encode().into()
}
