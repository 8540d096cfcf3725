//! One segment: its header, and which of its bytes can be trusted. Works on images in memory; no files.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | magic |
//! | 8..12 | format version |
//! | 12..16 | the segment's number |
//! | 16..20 | fingerprint of the log's identity, against files moved here from another log |
//! | 20..24 | number of the segment before, 0 for none |
//! | 24..28 | how many bytes of that one count; whatever follows them was never durable |
//! | 28..32 | bytes of this file that were durable before it got its name: the header and the first group |
//! | 32..40 | low-water sequence when it was written |
//! | 40..72 | and its digest |
//! | 72..76 | crc32c of all of that |

use settlement_events::{Digest, OutputSequence};

use super::header::FORMAT_VERSION;
use super::record::{self, Found};

/// Where the records begin.
pub(super) const SEGMENT_HEADER_BYTES: usize = 76;

const MAGIC: [u8; 8] = *b"QNCHWALS";

/// The head of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub number: u32,
    pub fingerprint: u32,
    pub previous_number: u32,
    pub previous_bytes: u32,
    pub born_bytes: u32,
    pub low_water_seq: OutputSequence,
    pub low_water_digest: Digest,
}

/// Why a segment header is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Written by another version of the format.
    Version(u32),
    /// Too short, wrong magic or wrong checksum.
    Damaged,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        let words = [
            FORMAT_VERSION,
            self.number,
            self.fingerprint,
            self.previous_number,
            self.previous_bytes,
            self.born_bytes,
        ];
        for (slot, word) in out[8..32].chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        out[32..40].copy_from_slice(&self.low_water_seq.0.to_le_bytes());
        out[40..72].copy_from_slice(&self.low_water_digest.0);
        let crc = crc32c::crc32c(&out[..72]);
        out[72..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(image: &[u8]) -> Result<Self, BadHeader> {
        let head = image.first_chunk::<SEGMENT_HEADER_BYTES>().ok_or(BadHeader::Damaged)?;
        let mut words = [0_u32; 6];
        for (word, slot) in words.iter_mut().zip(head[8..32].chunks_exact(4)) {
            *word = u32::from_le_bytes([slot[0], slot[1], slot[2], slot[3]]);
        }
        let mut digest = Digest::ZERO;
        digest.0.copy_from_slice(&head[40..72]);
        let mut seq = [0; 8];
        seq.copy_from_slice(&head[32..40]);
        if head[..8] != MAGIC || crc32c::crc32c(&head[..72]).to_le_bytes() != head[72..] {
            return Err(BadHeader::Damaged);
        }
        let [
            version,
            number,
            fingerprint,
            previous_number,
            previous_bytes,
            born_bytes,
        ] = words;
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        Ok(Self {
            number,
            fingerprint,
            previous_number,
            previous_bytes,
            born_bytes,
            low_water_seq: OutputSequence(u64::from_le_bytes(seq)),
            low_water_digest: digest,
        })
    }
}

/// A sound record and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub offset: u32,
    pub record: Found,
}

/// Bytes between sound records that are no record and were durable once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub offset: u32,
    pub bytes: u32,
    pub after: Option<OutputSequence>,
    pub before: Option<OutputSequence>,
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// The sound records, in the order of the file, up to the torn part.
    pub records: Vec<Placed>,
    /// Everything below was fsynced, by its own header, a record's claim or its successor's header.
    pub proven_bytes: u32,
    /// Where the records end.
    pub sound_bytes: u32,
    /// Damage: bytes below `proven_bytes` that no longer hold what was written.
    pub holes: Vec<Hole>,
    /// How many bytes behind `sound_bytes` belong to a group that was never finished.
    pub torn_bytes: u32,
}

/// Reads a segment. `proven` is what its own header or its successor's says was durable; with `closed` that is all
/// that counts, without it records behind it are read as far as they are sound.
pub(super) fn scan(image: &[u8], proven_bytes: u32, closed: bool) -> Scan {
    let end = if closed {
        (proven_bytes as usize).min(image.len())
    } else {
        image.len()
    };
    let (records, gaps) = walk(&image[..end]);
    let claimed = records
        .iter()
        .map(|placed| placed.record.synced_bytes)
        .max()
        .unwrap_or(0);
    let proven_bytes = proven_bytes.max(claimed);
    let mut scan = Scan {
        records,
        proven_bytes,
        sound_bytes: end as u32,
        ..Scan::default()
    };
    for gap in gaps {
        if gap.offset < proven_bytes {
            scan.holes.push(gap);
        } else {
            scan.sound_bytes = gap.offset;
            scan.torn_bytes = end as u32 - gap.offset;
            scan.records.retain(|placed| placed.offset < gap.offset);
            break;
        }
    }
    if proven_bytes as usize > image.len() {
        note_short_file(&mut scan, image.len() as u32);
    }
    scan
}

/// A file that ends before what was durable in it.
fn note_short_file(scan: &mut Scan, file_bytes: u32) {
    let after = scan.records.last().map(|placed| placed.record.seq);
    match scan.holes.last_mut() {
        Some(hole) if hole.offset + hole.bytes == file_bytes => hole.bytes = scan.proven_bytes - hole.offset,
        _ => scan.holes.push(Hole {
            offset: file_bytes,
            bytes: scan.proven_bytes - file_bytes,
            after,
            before: None,
        }),
    }
}

/// Every sound record, and what lies between them.
fn walk(image: &[u8]) -> (Vec<Placed>, Vec<Hole>) {
    let mut records: Vec<Placed> = Vec::new();
    let mut gaps = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while at < image.len() {
        if let Some(record) = record::find_at(image, at) {
            records.push(Placed {
                offset: at as u32,
                record,
            });
            at += record.record_bytes as usize;
            continue;
        }
        let next = record::find_next(image, at + 1);
        gaps.push(Hole {
            offset: at as u32,
            bytes: (next.unwrap_or(image.len()) - at) as u32,
            after: records.last().map(|placed| placed.record.seq),
            before: next
                .and_then(|offset| record::find_at(image, offset))
                .map(|record| record.seq),
        });
        at = next.unwrap_or(image.len());
    }
    (records, gaps)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use settlement_events::Envelope;

    use super::*;

    fn header(born_bytes: u32) -> SegmentHeader {
        SegmentHeader {
            number: 3,
            fingerprint: 7,
            previous_number: 2,
            previous_bytes: 1_000,
            born_bytes,
            low_water_seq: OutputSequence(40),
            low_water_digest: Digest([5; 32]),
        }
    }

    /// A segment as the log writes it: the first group with the header, the others behind it. Returns the image, where
    /// each group begins, and where each record begins.
    fn image_of(groups: &[Vec<Vec<u8>>]) -> (Vec<u8>, Vec<usize>, Vec<usize>) {
        let mut image = vec![0; SEGMENT_HEADER_BYTES];
        let (mut group_starts, mut record_starts) = (Vec::new(), Vec::new());
        let mut seq = 100;
        for (index, group) in groups.iter().enumerate() {
            group_starts.push(image.len());
            let synced_bytes = image.len() as u32;
            let mut bytes = Vec::new();
            for event in group {
                record_starts.push(image.len() + bytes.len());
                let envelope = Envelope {
                    digest: Digest::of(event),
                    bytes: event.clone().into(),
                };
                record::push(&mut bytes, OutputSequence(seq), &envelope);
                seq += 1;
            }
            record::seal(&mut bytes, synced_bytes);
            image.extend_from_slice(&bytes);
            if index == 0 {
                let born_bytes = image.len() as u32;
                image[..SEGMENT_HEADER_BYTES].copy_from_slice(&header(born_bytes).encode());
            }
        }
        (image, group_starts, record_starts)
    }

    fn groups() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        let event = prop::collection::vec(any::<u8>(), 0..700);
        prop::collection::vec(prop::collection::vec(event, 1..5), 1..5)
    }

    fn born(image: &[u8]) -> u32 {
        SegmentHeader::decode(image).expect("the header is whole").born_bytes
    }

    proptest! {
        #[test]
        fn a_header_reads_back_and_every_flipped_bit_is_noticed(born_bytes: u32, bit in 0..SEGMENT_HEADER_BYTES * 8) {
            let header = header(born_bytes);
            let mut image = header.encode();
            prop_assert_eq!(SegmentHeader::decode(&image), Ok(header));
            image[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(SegmentHeader::decode(&image), Err(BadHeader::Damaged));
        }

        #[test]
        fn cut_anywhere_the_whole_records_before_the_cut_remain(groups in groups(), cut in any::<prop::sample::Index>()) {
            let (image, group_starts, record_starts) = image_of(&groups);
            let born = born(&image);
            let cut = born as usize + cut.index(image.len() - born as usize + 1);
            let scan = scan(&image[..cut], born, false);

            let ends = record_starts.iter().skip(1).copied().chain([image.len()]);
            let whole = ends.take_while(|&end| end <= cut).count();
            prop_assert_eq!(scan.records.len(), whole);
            prop_assert_eq!(scan.sound_bytes as usize, record_starts.get(whole).copied().unwrap_or(image.len()));
            prop_assert_eq!(scan.torn_bytes as usize, cut - scan.sound_bytes as usize);
            prop_assert_eq!(scan.holes, vec![]);
            // Proven is what the last record claims that is still there: its group's start, or the first group.
            let claimed = scan.records.last().map_or(0, |last| last.record.synced_bytes as usize);
            prop_assert_eq!(scan.proven_bytes as usize, claimed.max(born as usize));
            prop_assert!(group_starts.contains(&claimed));
        }

        #[test]
        fn sectors_of_the_last_group_may_be_missing_in_any_pattern(
            groups in groups(), keep in prop::collection::vec(any::<bool>(), 64), sector in 16_usize..600,
        ) {
            prop_assume!(groups.len() > 1);
            let (mut image, group_starts, record_starts) = image_of(&groups);
            let last = group_starts.last().copied().unwrap_or(0);
            for (index, chunk) in image[last..].chunks_mut(sector).enumerate() {
                if !keep[index % keep.len()] {
                    chunk.fill(0);
                }
            }
            let scan = scan(&image, born(&image), false);
            prop_assert_eq!(&scan.holes, &vec![], "an unfinished group is torn, never damaged");
            prop_assert!(scan.sound_bytes as usize >= last);
            let before_last = record_starts.iter().filter(|&&start| start < last).count();
            prop_assert!(scan.records.len() >= before_last);
            for (index, placed) in scan.records.iter().enumerate() {
                prop_assert_eq!(placed.record.seq.0, 100 + index as u64, "a prefix");
            }
        }

        #[test]
        fn damage_below_a_claim_is_found_where_it_is(groups in groups(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            prop_assume!(groups.len() > 1);
            let (mut image, group_starts, record_starts) = image_of(&groups);
            let last = group_starts.last().copied().unwrap_or(0);
            let at = SEGMENT_HEADER_BYTES + at.index(last - SEGMENT_HEADER_BYTES);
            let record = record_starts.iter().rposition(|&start| start <= at).unwrap_or(0);
            image[at] ^= 1 << bit;
            for closed in [false, true] {
                let proven = if closed { image.len() as u32 } else { born(&image) };
                let scan = scan(&image, proven, closed);
                prop_assert_eq!(scan.holes.len(), 1);
                let hole = scan.holes[0];
                prop_assert_eq!(hole.offset as usize, record_starts[record]);
                prop_assert_eq!((hole.offset + hole.bytes) as usize, record_starts[record + 1]);
                prop_assert_eq!(hole.before, Some(OutputSequence(100 + record as u64 + 1)));
                prop_assert_eq!(scan.records.len(), record_starts.len() - 1);
                prop_assert_eq!(scan.torn_bytes, 0);
            }
        }

        #[test]
        fn a_closed_segment_that_is_too_short_is_damaged(groups in groups(), cut in any::<prop::sample::Index>()) {
            let (image, _, record_starts) = image_of(&groups);
            let cut = cut.index(image.len());
            let scan = scan(&image[..cut], image.len() as u32, true);
            let last = *scan.holes.last().expect("the lost end is a hole");
            prop_assert_eq!((last.offset + last.bytes) as usize, image.len());
            let whole = record_starts.iter().skip(1).filter(|&&end| end <= cut).count();
            prop_assert_eq!(scan.records.len(), whole);
        }
    }

    #[test]
    fn what_follows_a_closed_segment_does_not_count() {
        let (image, group_starts, _) = image_of(&[vec![b"a".to_vec()], vec![b"b".to_vec()]]);
        let scan = scan(&image, group_starts[1] as u32, true);
        assert_eq!(scan.records.len(), 1);
        assert_eq!((scan.holes.len(), scan.torn_bytes), (0, 0));
    }
}
