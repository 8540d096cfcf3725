//! The feed from the matching engine: what it published, completed by what it replays. It finds out what is missing
//! (holes in the sequence, a tail that only a heartbeat betrays) and fetches it. Whether an event is a duplicate, a
//! fork or fit to be settled is decided by who reads it; nothing is stored here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`stream`] | [`Feed`]: polled in place, no task of its own |
//! | [`tracker`] | which sequences were seen and which are wanted; pure |
//! | [`counters`] | plain numbers about all of this |
//! | `live` | the SUB socket, reconnecting |
//! | `replay` | the REQ socket, recreated after every lost reply, and how patient to be |
//!
//! # What a reader can rely on
//!
//! Events come in the order in which they arrived, duplicates included, each with its digest verified; an event whose
//! bytes do not match its digest was damaged on the way and is fetched again. Past a hole a bounded number of later
//! events still comes (rule 6); what lies further ahead is dropped and fetched when the hole is closed. A hole is
//! asked for until it is closed, however long that takes, at a bounded rate. Nothing grows while nobody polls: the
//! publisher drops, and what it dropped is a hole like any other.

pub mod counters;
mod live;
mod replay;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod tracker;

pub use counters::FeedCounters;
pub use stream::Feed;
pub use tracker::{Offer, Tracker};

use settlement_events::{DecodeError, Envelope, Epoch, Event, Heartbeat, OutputSequence, ReplayRefusal};

/// Where the feed is and how patient to be with it. Times are in milliseconds.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// The matching engine's PUB socket, for example `tcp://10.0.0.5:5556`.
    pub publish_addr: String,
    /// Its REP socket for head and replay.
    pub replay_addr: String,
    /// The life of the stream that is expected; anything else is reported and not delivered.
    pub epoch: Epoch,
    /// The first event that the reader does not have.
    pub next: OutputSequence,
    /// What the reader has beyond that.
    pub have: Vec<OutputSequence>,
    /// How far past the first missing event others are still delivered (rule 6). Bounds the memory of the tracker and
    /// what a reader keeps beyond a hole.
    pub ahead_max: u64,
    /// How many events one replay asks for. Bounds the memory of a reply.
    pub replay_chunk: u64,
    /// How long a replay may take at first. A reply that comes too late is lost with its socket, so this doubles
    /// after each timeout up to `replay_timeout_max_ms`, or an engine that is merely slow would never be heard.
    pub replay_timeout_ms: u64,
    /// Where that ends.
    pub replay_timeout_max_ms: u64,
    /// How long connecting may take before it is begun again.
    pub connect_timeout_ms: u64,
    /// Without any message for so long the feed is taken for dead: it is connected anew and the head is asked for by
    /// replay. A few heartbeats' time.
    pub silence_ms: u64,
    /// How long a hole is given to close by itself, because deliveries may be reordered.
    pub reorder_patience_ms: u64,
    /// The first pause after a replay that brought nothing, and after a failed connect; doubles.
    pub backoff_min_ms: u64,
    /// Where that ends, and the rate at which a refused range is asked for again.
    pub backoff_max_ms: u64,
}

impl FeedConfig {
    /// For an engine that says a heartbeat every 250 ms or so: 4,096 events ahead, 512 per replay, silence after 1 s,
    /// replays given 500 ms to 15 s, pauses of 10 ms to 1 s.
    #[must_use]
    pub fn new(publish_addr: &str, replay_addr: &str, epoch: Epoch, next: OutputSequence) -> Self {
        Self {
            publish_addr: publish_addr.to_owned(),
            replay_addr: replay_addr.to_owned(),
            epoch,
            next,
            have: Vec::new(),
            ahead_max: 4_096,
            replay_chunk: 512,
            replay_timeout_ms: 500,
            replay_timeout_max_ms: 15_000,
            connect_timeout_ms: 1_000,
            silence_ms: 1_000,
            reorder_patience_ms: 5,
            backoff_min_ms: 10,
            backoff_max_ms: 1_000,
        }
    }
}

/// Which way something came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Published.
    Live,
    /// Asked for.
    Replay,
}

/// How it was noticed that events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefetchReason {
    /// Later events came.
    Hole,
    /// A heartbeat says that there is more: the last events were lost.
    Tail,
    /// The engine says that there is more, when asked at the start or after a disconnect.
    CatchUp,
    /// The reader asked for it.
    Asked,
}

impl std::fmt::Display for RefetchReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hole => "a hole in the sequence",
            Self::Tail => "a heartbeat names a later head",
            Self::CatchUp => "catching up",
            Self::Asked => "asked for",
        })
    }
}

/// What the feed has to say.
#[derive(Clone, Debug)]
pub enum FeedItem {
    /// An event whose digest is right.
    Event {
        /// As it came.
        envelope: Envelope,
        /// Decoded.
        event: Event,
        /// Which way.
        from: Origin,
    },
    /// An event whose digest is right and whose content cannot be read: the engine wrote this. Fetching it again does
    /// not help.
    Malformed {
        /// Which event; from its place in a replay, or its readable head.
        seq: OutputSequence,
        /// As it came.
        envelope: Envelope,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The head of the stream, from a heartbeat or an answer to `Head`.
    Head(Heartbeat),
    /// Another life of the stream. Nothing of it is delivered.
    OtherEpoch {
        /// The epoch expected.
        ours: Epoch,
        /// The epoch seen.
        theirs: Epoch,
        /// The event or head it was seen on.
        seq: OutputSequence,
    },
    /// Events are missing; they will be fetched. Told once per hole.
    Gap {
        /// The first one missing.
        from: OutputSequence,
        /// The last one missing.
        to: OutputSequence,
        /// How it was noticed.
        reason: RefetchReason,
    },
    /// Events were asked for.
    ReplayRequested {
        /// The first one.
        from: OutputSequence,
        /// The last one.
        to: OutputSequence,
    },
    /// The engine does not serve them. Told once per range; asked for again every `backoff_max_ms`.
    ReplayRefused {
        /// The first one.
        from: OutputSequence,
        /// The last one that this refusal speaks of.
        to: OutputSequence,
        /// Why.
        reason: ReplayRefusal,
    },
    /// An event's bytes did not match its digest; it is fetched again.
    Damaged {
        /// Which event, if it came by replay.
        seq: Option<OutputSequence>,
    },
    /// The publisher's connection is up.
    Connected,
    /// The matching engine's feed cannot be connected to; told once until it can, and tried again meanwhile.
    Unreachable {
        /// What the socket says.
        why: String,
    },
    /// The publisher's connection broke, or nothing was heard for too long; it is being connected anew.
    Disconnected {
        /// Nothing was heard, rather than the connection closed.
        silent: bool,
    },
}
