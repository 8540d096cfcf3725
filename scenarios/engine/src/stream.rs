//! The output stream's head: gives each event its sequence and chains its digest. Pure.

use settlement_events::{Body, Digest, Envelope, Epoch, Event, Heartbeat, OutputSequence, TimeMs};

/// Where the stream is.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    epoch: Epoch,
    head_sequence: OutputSequence,
    head_digest: Digest,
}

impl Stream {
    /// An empty stream.
    pub(crate) const fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            head_sequence: OutputSequence(0),
            head_digest: Digest::ZERO,
        }
    }

    /// The last event sealed, as a heartbeat says it.
    pub(crate) const fn head(&self) -> Heartbeat {
        Heartbeat {
            epoch: self.epoch,
            head_sequence: self.head_sequence,
            head_digest: self.head_digest,
        }
    }

    /// Makes a body the next event of the stream, with these bytes behind it: none, unless nobody is to read it.
    pub(crate) fn seal(&mut self, at: TimeMs, body: Body, behind: &[u8]) -> Envelope {
        let output_sequence = self
            .head_sequence
            .next()
            .filter(|next| *next <= OutputSequence::MAX)
            .expect("2^51 events are more than an epoch can have");
        let event = Event {
            epoch: self.epoch,
            output_sequence,
            event_time_ms: at,
            prev_digest: self.head_digest,
            body,
        };
        let mut bytes = event.encode();
        bytes.extend_from_slice(behind);
        let envelope = Envelope {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
        };
        self.head_sequence = output_sequence;
        self.head_digest = envelope.digest;
        envelope
    }
}
