//! One record of a segment: an event with its digest. Encoding, sealing, checking; no files.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | marker, so that a scan finds the next record behind a damaged one |
//! | 4..8 | length of the event's bytes, little endian like every integer here |
//! | 8..12 | crc32c over the length and everything from byte 12 on |
//! | 12..16 | how many bytes of this file were fsynced when the record was written |
//! | 16..24 | output sequence |
//! | 24..56 | SHA-256 digest of the event |
//! | 56.. | the event's canonical bytes |

use settlement_events::{Digest, Envelope, OutputSequence};

/// Bytes of a record before the event's own.
pub(super) const RECORD_HEAD_BYTES: usize = 56;

/// The largest event a record holds. A trade takes about 400 bytes; the bound keeps a damaged length from being
/// believed, and one absurd event from filling a group.
pub const EVENT_BYTES_MAX: usize = 64 << 10;

const MARKER: [u8; 4] = *b"QWe1";

/// A record as it was found in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Which event.
    pub seq: OutputSequence,
    /// Its digest.
    pub digest: Digest,
    /// How much of the file was durable before the record was written.
    pub synced_bytes: u32,
    /// The whole record.
    pub record_bytes: u32,
}

/// Bytes that an event takes in a segment.
pub(super) const fn record_bytes(event_bytes: usize) -> usize {
    RECORD_HEAD_BYTES + event_bytes
}

/// Appends a record to a group, unsealed: [`seal`] fills in what is known only when it is written.
pub(super) fn push(group: &mut Vec<u8>, seq: OutputSequence, envelope: &Envelope) {
    group.extend_from_slice(&MARKER);
    group.extend_from_slice(&(envelope.bytes.len() as u32).to_le_bytes());
    group.extend_from_slice(&[0; 8]);
    group.extend_from_slice(&seq.0.to_le_bytes());
    group.extend_from_slice(&envelope.digest.0);
    group.extend_from_slice(&envelope.bytes);
}

/// Writes the claim and the checksum into every record of a group.
pub(super) fn seal(group: &mut [u8], synced_bytes: u32) {
    let mut rest = group;
    while !rest.is_empty() {
        let length = u32::from_le_bytes(array(rest, 4)) as usize;
        let (record, behind) = rest.split_at_mut(record_bytes(length));
        record[12..16].copy_from_slice(&synced_bytes.to_le_bytes());
        let crc = checksum(record);
        record[8..12].copy_from_slice(&crc.to_le_bytes());
        rest = behind;
    }
}

/// The record at an offset of an image; `None` when there is no whole and sound one.
pub(super) fn find_at(image: &[u8], offset: usize) -> Option<Found> {
    let rest = image.get(offset..)?;
    if rest.len() < RECORD_HEAD_BYTES || rest[..4] != MARKER {
        return None;
    }
    let length = u32::from_le_bytes(array(rest, 4)) as usize;
    if length > EVENT_BYTES_MAX {
        return None;
    }
    let record = rest.get(..record_bytes(length))?;
    if u32::from_le_bytes(array(record, 8)) != checksum(record) {
        return None;
    }
    Some(Found {
        seq: OutputSequence(u64::from_le_bytes(array(record, 16))),
        digest: Digest(array(record, 24)),
        synced_bytes: u32::from_le_bytes(array(record, 12)),
        record_bytes: record.len() as u32,
    })
}

/// The first sound record at or behind an offset.
pub(super) fn find_next(image: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(step) = image
        .get(at..)?
        .windows(MARKER.len())
        .position(|window| window == MARKER)
    {
        at += step;
        if find_at(image, at).is_some() {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[4..8]), &record[12..])
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(bytes: &[u8]) -> Envelope {
        Envelope {
            digest: Digest::of(bytes),
            bytes: bytes.to_vec().into(),
        }
    }

    #[test]
    fn what_is_pushed_and_sealed_is_found() {
        let mut group = Vec::new();
        push(&mut group, OutputSequence(7), &envelope(b"seven"));
        push(&mut group, OutputSequence(9), &envelope(b""));
        seal(&mut group, 72);

        let first = find_at(&group, 0).expect("the first record");
        assert_eq!(
            (first.seq, first.synced_bytes, first.record_bytes),
            (OutputSequence(7), 72, 61)
        );
        assert_eq!(first.digest, Digest::of(b"seven"));
        let second = find_at(&group, 61).expect("the second record");
        assert_eq!((second.seq, second.record_bytes), (OutputSequence(9), 56));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut group = Vec::new();
        push(&mut group, OutputSequence(7), &envelope(b"seven"));
        seal(&mut group, 72);
        for bit in 0..group.len() * 8 {
            let mut damaged = group.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(find_at(&damaged, 0), None, "bit {bit}");
        }
    }

    #[test]
    fn a_scan_skips_a_marker_that_is_only_part_of_an_event() {
        let mut group = Vec::new();
        push(&mut group, OutputSequence(1), &envelope(b"xx QWe1 QWe1 yy"));
        push(&mut group, OutputSequence(2), &envelope(b"two"));
        seal(&mut group, 0);
        assert_eq!(find_next(&group, 1), Some(record_bytes(15)));
        assert_eq!(find_next(&group, record_bytes(15) + 1), None);
    }
}
