//! What travels between the matching engine and its readers: feed messages (ZeroMQ PUB) and replay (REQ/REP).
//! Sockets are not here.
//!
//! A feed message on the wire is one version byte, one kind byte, then for an event its digest (32 bytes) and its
//! canonical encoding as it is, so that neither side copies it; for a heartbeat its fields in postcard. Replay
//! messages are a version byte and postcard.

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, Digest, Envelope, FORMAT_VERSION};
use crate::ids::{Epoch, OutputSequence};

/// The topic frame of feed messages.
pub const FEED_TOPIC: &[u8] = b"me";

const KIND_EVENT: u8 = 0;
const KIND_HEARTBEAT: u8 = 1;
/// Version byte, kind byte, digest.
const EVENT_HEAD_BYTES: usize = 2 + 32;
/// A heartbeat is at most two varints of 5 and 10 bytes and a digest.
const HEARTBEAT_BYTES: usize = 64;

/// The head of the stream, said at intervals and outside the sequence: without it nobody notices that the last
/// message was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The stream's life.
    pub epoch: Epoch,
    /// The last event that is durable at the matching engine; 0 when there is none.
    pub head_sequence: OutputSequence,
    /// Its digest; [`Digest::ZERO`] when there is none.
    pub head_digest: Digest,
}

/// One message of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedMessage {
    /// An event.
    Event(Envelope),
    /// The head.
    Heartbeat(Heartbeat),
}

impl FeedMessage {
    /// The payload frame (the topic frame is [`FEED_TOPIC`]).
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Event(envelope) => {
                let mut out = Vec::with_capacity(EVENT_HEAD_BYTES + envelope.bytes.len());
                out.put_u8(FORMAT_VERSION);
                out.put_u8(KIND_EVENT);
                out.put_slice(&envelope.digest.0);
                out.put_slice(&envelope.bytes);
                out.into()
            }
            Self::Heartbeat(heartbeat) => {
                let mut out = Vec::with_capacity(HEARTBEAT_BYTES);
                out.put_u8(FORMAT_VERSION);
                out.put_u8(KIND_HEARTBEAT);
                postcard::to_extend(heartbeat, out)
                    .expect("plain data always encodes")
                    .into()
            }
        }
    }

    /// Reads a payload frame. The event's own digest and encoding are not looked at: [`Envelope::open`] does that.
    pub fn decode(frame: &Bytes) -> Result<Self, DecodeError> {
        let what = "feed message";
        let &[version, kind, ref rest @ ..] = frame.as_ref() else {
            return Err(DecodeError::malformed(what, format_args!("{} bytes", frame.len())));
        };
        if version != FORMAT_VERSION {
            return Err(DecodeError::BadVersion { found: version });
        }
        match kind {
            KIND_EVENT => {
                let (digest, _) = rest
                    .split_first_chunk::<32>()
                    .ok_or_else(|| DecodeError::malformed(what, "an event shorter than its digest"))?;
                Ok(Self::Event(Envelope {
                    digest: Digest(*digest),
                    bytes: frame.slice(EVENT_HEAD_BYTES..),
                }))
            }
            KIND_HEARTBEAT => match postcard::take_from_bytes(rest) {
                Ok((heartbeat, [])) => Ok(Self::Heartbeat(heartbeat)),
                Ok((_, left)) => Err(DecodeError::malformed(
                    what,
                    format_args!("{} bytes too many", left.len()),
                )),
                Err(error) => Err(DecodeError::malformed(what, error)),
            },
            other => Err(DecodeError::malformed(what, format_args!("unknown kind {other}"))),
        }
    }
}

/// What a reader asks of the matching engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayRequest {
    /// Where the stream is.
    Head,
    /// Events from `start_seq` to `end_seq`, both included.
    Range {
        /// The first event wanted.
        start_seq: OutputSequence,
        /// The last event wanted.
        end_seq: OutputSequence,
    },
}

impl ReplayRequest {
    /// The request frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode_versioned(self, 16).into()
    }

    /// Reads a request frame.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        codec::decode_versioned("replay request", frame)
    }
}

/// Why a range is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ReplayRefusal {
    /// The range begins before what is still kept.
    #[error("the events asked for are no longer kept: the first one kept is {first_retained}")]
    RetentionPassed {
        /// The first event that can be served.
        first_retained: OutputSequence,
    },
    /// Ask again later.
    #[error("busy: ask again later")]
    Busy,
    /// The range is empty, inverted or beyond the head, or the request could not be read.
    #[error("the request is not understood, or asks for events that do not exist")]
    Unknown,
}

/// What the matching engine answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayReply {
    /// To [`ReplayRequest::Head`].
    Head {
        /// Where the stream is.
        heartbeat: Heartbeat,
        /// The first event that can be served; 1 when nothing was ever dropped.
        first_retained: OutputSequence,
    },
    /// To [`ReplayRequest::Range`]: the events from `start_seq` on, without holes, perhaps fewer than asked for.
    Events {
        /// The sequence of the first entry.
        start_seq: OutputSequence,
        /// The events.
        entries: Vec<Envelope>,
        /// Whether the last entry is the head of the log. `false` says nothing about whether the range is
        /// complete: compare the number of entries with what was asked for.
        end_of_log: bool,
    },
    /// Nothing.
    Refused {
        /// Why.
        reason: ReplayRefusal,
    },
}

impl ReplayReply {
    /// The reply frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let capacity_bytes = match self {
            Self::Events { entries, .. } => 64 + entries.iter().map(|e| e.bytes.len() + 40).sum::<usize>(),
            Self::Head { .. } | Self::Refused { .. } => HEARTBEAT_BYTES,
        };
        codec::encode_versioned(self, capacity_bytes).into()
    }

    /// Reads a reply frame. The envelopes' digests are not looked at: [`Envelope::open`] does that.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        codec::decode_versioned("replay reply", frame)
    }
}
