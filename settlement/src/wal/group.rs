//! The records that wait for one fsync, encoded as they will stand in the file. Memory only; the owner bounds it.

use settlement_events::{Digest, Envelope, OutputSequence};

use super::record;

/// A record of a group: where it will stand relative to the group's first byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub seq: OutputSequence,
    pub digest: Digest,
    pub offset: u32,
    pub record_bytes: u32,
}

/// Encoded records and what they are. Reused from sync to sync, so that its memory is allocated once.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub bytes: Vec<u8>,
    pub waiting: Vec<Waiting>,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, seq: OutputSequence, envelope: &Envelope) {
        let offset = self.bytes.len() as u32;
        record::push(&mut self.bytes, seq, envelope);
        let record_bytes = self.bytes.len() as u32 - offset;
        self.waiting.push(Waiting {
            seq,
            digest: envelope.digest,
            offset,
            record_bytes,
        });
    }

    /// Takes over a record that is already encoded.
    pub(super) fn push_record(&mut self, seq: OutputSequence, digest: Digest, record: &[u8]) {
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(record);
        self.waiting.push(Waiting {
            seq,
            digest,
            offset,
            record_bytes: record.len() as u32,
        });
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.waiting.clear();
    }
}
