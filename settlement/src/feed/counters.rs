//! Plain numbers about the feed, for metrics and for tests of what happened. They only grow.

/// What the feed has seen and done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedCounters {
    /// Events published and delivered.
    pub live_events: u64,
    /// Events replayed and delivered.
    pub replayed_events: u64,
    /// Delivered events whose sequence had been delivered before.
    pub repeated_events: u64,
    /// Events delivered as malformed.
    pub malformed_events: u64,
    /// Heartbeats, and answers to `Head`.
    pub heads: u64,
    /// Holes noticed because later events came.
    pub gaps: u64,
    /// Holes noticed only by the head.
    pub tail_losses: u64,
    /// Ranges that the reader asked for again.
    pub refetches: u64,
    /// Events dropped because they lay too far ahead of a hole; fetched later.
    pub beyond_window: u64,
    /// Events whose bytes did not match their digest.
    pub damaged: u64,
    /// Messages and replies that are none.
    pub unreadable: u64,
    /// Events and heads of another epoch.
    pub other_epoch: u64,
    /// Ranges asked for, answered or not.
    pub replays_asked: u64,
    /// Answers with fewer events than asked for.
    pub replays_partial: u64,
    /// Answers `RetentionPassed` or `Unknown`.
    pub replays_refused: u64,
    /// Answers `Busy`.
    pub replays_busy: u64,
    /// Questions without an answer in time.
    pub replays_timed_out: u64,
    /// Questions that could not be put: not connected, broken off.
    pub replays_failed: u64,
    /// Connections made to the publisher.
    pub connects: u64,
    /// Connections to the publisher that were given up for silence.
    pub silences: u64,
}
