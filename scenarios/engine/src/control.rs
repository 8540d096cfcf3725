//! What can be turned while an engine runs, and what it says of itself: plain shared data, handed in with the
//! configuration. By default nothing is turned. Whoever tests a reader of the stream uses it to make the stream arrive
//! late, twice, in another order or not at all; the log, and so the truth, is never touched.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use settlement_events::OutputSequence;

/// Everything that can be turned or read.
#[derive(Clone, Debug, Default)]
pub struct Controls {
    /// How replay behaves.
    pub replay: Arc<ReplayControl>,
    /// How publishing behaves.
    pub publish: Arc<PublishControl>,
    /// Where the engine is.
    pub status: Arc<Status>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Why replay refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refuse {
    /// `Busy`.
    Busy,
    /// `RetentionPassed`, as if nothing but the future were kept.
    Retention,
    /// No reply at all: the requester's socket stays waiting.
    Silent,
}

/// How replay misbehaves. The default does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayFaults {
    /// Wait so long before each reply to a range.
    pub slow_ms: u64,
    /// At most so many entries in a reply.
    pub entries_max: Option<usize>,
    /// Refuse ranges. (The head is always told.)
    pub refuse: Option<Refuse>,
}

/// How often replay did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayCounts {
    /// Heads told.
    pub heads: u64,
    /// Ranges served, whole or in part.
    pub served: u64,
    /// Events served.
    pub events: u64,
    /// Ranges cut short by `entries_max` of the faults.
    pub shortened: u64,
    /// Ranges delayed by `slow_ms`.
    pub slowed: u64,
    /// Ranges refused by `refuse`.
    pub refused: u64,
}

/// The handle on replay.
#[derive(Debug, Default)]
pub struct ReplayControl {
    faults: Mutex<ReplayFaults>,
    heads: AtomicU64,
    served: AtomicU64,
    events: AtomicU64,
    shortened: AtomicU64,
    slowed: AtomicU64,
    refused: AtomicU64,
}

impl ReplayControl {
    /// From the next request on.
    pub fn set(&self, faults: ReplayFaults) {
        *lock(&self.faults) = faults;
    }

    /// Behave again.
    pub fn clear(&self) {
        self.set(ReplayFaults::default());
    }

    /// What is set.
    #[must_use]
    pub fn faults(&self) -> ReplayFaults {
        *lock(&self.faults)
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> ReplayCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ReplayCounts {
            heads: read(&self.heads),
            served: read(&self.served),
            events: read(&self.events),
            shortened: read(&self.shortened),
            slowed: read(&self.slowed),
            refused: read(&self.refused),
        }
    }

    pub(crate) fn count_head(&self) {
        add(&self.heads, 1);
    }

    pub(crate) fn count_served(&self, events: u64, shortened: bool) {
        add(&self.served, 1);
        add(&self.events, events);
        add(&self.shortened, u64::from(shortened));
    }

    pub(crate) fn count_slowed(&self) {
        add(&self.slowed, 1);
    }

    pub(crate) fn count_refused(&self) {
        add(&self.refused, 1);
    }
}

/// What happens to the publishing of some events. Rules are looked at in their order; the first of each kind that covers
/// an event counts. An event is covered from `from` to `to`, every `every`-th (0 and 1: each).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PublishRule {
    /// Never published.
    Drop {
        /// The first event.
        from: OutputSequence,
        /// The last event.
        to: OutputSequence,
        /// Every so many.
        every: u64,
    },
    /// Published so many events later (1 swaps neighbours).
    Delay {
        /// The first event.
        from: OutputSequence,
        /// The last event.
        to: OutputSequence,
        /// Every so many.
        every: u64,
        /// How many events later.
        by: u64,
    },
    /// Published again.
    Duplicate {
        /// The first event.
        from: OutputSequence,
        /// The last event.
        to: OutputSequence,
        /// Every so many.
        every: u64,
        /// How many more times.
        copies: u32,
        /// How many events later; 0 for at once.
        later_by: u64,
    },
    /// The last events before the source ends are never published (heartbeats go on): they are held back until it is
    /// known whether they are the last.
    DropTail {
        /// How many.
        count: u64,
    },
}

/// How often publishing did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishCounts {
    /// Messages with an event handed to the socket.
    pub events: u64,
    /// Heartbeats handed to the socket.
    pub heartbeats: u64,
    /// Events dropped by a rule.
    pub dropped: u64,
    /// Events delayed by a rule.
    pub delayed: u64,
    /// Messages that repeat an event by a rule.
    pub duplicated: u64,
}

/// The handle on publishing.
#[derive(Debug, Default)]
pub struct PublishControl {
    rules: Mutex<Arc<[PublishRule]>>,
    events: AtomicU64,
    heartbeats: AtomicU64,
    dropped: AtomicU64,
    delayed: AtomicU64,
    duplicated: AtomicU64,
}

impl PublishControl {
    /// From the next event on.
    pub fn set(&self, rules: Vec<PublishRule>) {
        *lock(&self.rules) = rules.into();
    }

    /// Behave again; what is held back is published with the next event.
    pub fn clear(&self) {
        self.set(Vec::new());
    }

    /// What is set.
    #[must_use]
    pub fn rules(&self) -> Arc<[PublishRule]> {
        lock(&self.rules).clone()
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> PublishCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PublishCounts {
            events: read(&self.events),
            heartbeats: read(&self.heartbeats),
            dropped: read(&self.dropped),
            delayed: read(&self.delayed),
            duplicated: read(&self.duplicated),
        }
    }

    pub(crate) fn count_event(&self) {
        add(&self.events, 1);
    }

    pub(crate) fn count_heartbeat(&self) {
        add(&self.heartbeats, 1);
    }

    pub(crate) fn count_dropped(&self, by: u64) {
        add(&self.dropped, by);
    }

    pub(crate) fn count_delayed(&self) {
        add(&self.delayed, 1);
    }

    pub(crate) fn count_duplicated(&self, by: u64) {
        add(&self.duplicated, by);
    }
}

/// Where an engine is, readable while it runs and after it was killed.
#[derive(Debug, Default)]
pub struct Status {
    durable_sequence: AtomicU64,
    published_sequence: AtomicU64,
    trades: AtomicU64,
    starts: AtomicU64,
    source_ended: AtomicBool,
}

impl Status {
    /// The last event that is fsynced in the log.
    #[must_use]
    pub fn durable_sequence(&self) -> OutputSequence {
        OutputSequence(self.durable_sequence.load(Ordering::Relaxed))
    }

    /// The last event that went through publishing (a rule may have dropped it).
    #[must_use]
    pub fn published_sequence(&self) -> OutputSequence {
        OutputSequence(self.published_sequence.load(Ordering::Relaxed))
    }

    /// How many trades are fsynced in the log.
    #[must_use]
    pub fn trades(&self) -> u64 {
        self.trades.load(Ordering::Relaxed)
    }

    /// How often the engine was started with this status.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Whether the source has nothing more to give and all of it is fsynced and published.
    #[must_use]
    pub fn source_ended(&self) -> bool {
        self.source_ended.load(Ordering::Relaxed)
    }

    pub(crate) fn started(&self) {
        add(&self.starts, 1);
    }

    pub(crate) fn durable(&self, sequence: OutputSequence, trades: u64) {
        self.durable_sequence.store(sequence.0, Ordering::Relaxed);
        self.trades.store(trades, Ordering::Relaxed);
    }

    pub(crate) fn published(&self, sequence: OutputSequence) {
        self.published_sequence.store(sequence.0, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, ended: bool) {
        self.source_ended.store(ended, Ordering::Relaxed);
    }
}
