//! What an engine says of itself while it runs: plain shared data, handed in with the configuration. Nothing here changes
//! what the engine does; whoever wants its messages late, twice or not at all does that to the messages on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use settlement_events::OutputSequence;

/// Everything that can be read.
#[derive(Clone, Debug, Default)]
pub struct Controls {
    /// Where the engine is.
    pub status: Arc<Status>,
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

    /// The last event that was published.
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
        self.starts.fetch_add(1, Ordering::Relaxed);
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
