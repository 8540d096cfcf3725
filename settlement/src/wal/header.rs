//! The `HEADER` file: whose log it is, the low-water mark, the first segment that counts, and damage that was
//! accepted. Encoding only; `storage` writes it.
//!
//! Layout: magic (8), format version (4), epoch (4), low-water sequence (8), its digest (32), first segment (4), stream
//! and cluster names (length byte, UTF-8), accepted damage (count, then segment and offset of each, 4 bytes apiece),
//! crc32c of all of that.

use settlement_events::{Digest, Epoch, OutputSequence};

use super::{Position, StreamId};

/// The format of header, segments and records together.
pub(super) const FORMAT_VERSION: u32 = 1;

/// How many places of accepted damage are remembered. More means that the disk is to be replaced, not worked around.
pub(super) const ACCEPTED_DAMAGE_MAX: usize = 256;

const MAGIC: [u8; 8] = *b"QNCHWALH";

/// What the header file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub id: StreamId,
    /// Everything up to here is durable in the database.
    pub low_water: Position,
    /// Segments with a smaller number are leftovers of a compaction.
    pub first_segment: u32,
    /// Places (segment, offset) whose damage was set aside.
    pub accepted_damage: Vec<(u32, u32)>,
}

/// Why a header file is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Written by another version of the format.
    Version(u32),
    /// Too short, wrong magic or wrong checksum.
    Damaged,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.low_water.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.low_water.seq.0.to_le_bytes());
        out.extend_from_slice(&self.low_water.digest.0);
        out.extend_from_slice(&self.first_segment.to_le_bytes());
        for name in [&self.id.stream, &self.id.cluster] {
            // Opening refuses longer names.
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(&(self.accepted_damage.len() as u32).to_le_bytes());
        for (segment, offset) in &self.accepted_damage {
            out.extend_from_slice(&segment.to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(image: &[u8]) -> Result<Self, BadHeader> {
        let (body, crc) = image.split_last_chunk::<4>().ok_or(BadHeader::Damaged)?;
        if crc32c::crc32c(body).to_le_bytes() != *crc || !body.starts_with(&MAGIC) {
            return Err(BadHeader::Damaged);
        }
        let mut fields = Fields(&body[MAGIC.len()..]);
        let version = fields.u32().ok_or(BadHeader::Damaged)?;
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        Self::decode_fields(&mut fields).ok_or(BadHeader::Damaged)
    }

    fn decode_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let epoch = Epoch(fields.u32()?);
        let seq = OutputSequence(u64::from_le_bytes(fields.take()?));
        let digest = Digest(fields.take()?);
        let first_segment = fields.u32()?;
        let id = StreamId {
            stream: fields.name()?,
            cluster: fields.name()?,
        };
        let mut accepted_damage = Vec::new();
        for _ in 0..fields.u32()? {
            accepted_damage.push((fields.u32()?, fields.u32()?));
        }
        Some(Self {
            id,
            low_water: Position { epoch, seq, digest },
            first_segment,
            accepted_damage,
        })
    }
}

/// What ties a segment to its log.
pub(super) fn fingerprint(id: &StreamId, epoch: Epoch) -> u32 {
    let mut crc = crc32c::crc32c(&epoch.0.to_le_bytes());
    for name in [&id.stream, &id.cluster] {
        crc = crc32c::crc32c_append(crc, &(name.len() as u64).to_le_bytes());
        crc = crc32c::crc32c_append(crc, name.as_bytes());
    }
    crc
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn name(&mut self) -> Option<String> {
        let [length] = self.take()?;
        let (name, rest) = self.0.split_at_checked(length as usize)?;
        self.0 = rest;
        String::from_utf8(name.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_reads_back_as_written(
            stream in "[a-z0-9é]{0,40}", cluster in "[ -~]{0,40}", epoch: u32, seq: u64, digest: [u8; 32],
            first_segment: u32, accepted_damage in prop::collection::vec(any::<(u32, u32)>(), 0..5),
            flip in any::<prop::sample::Index>(),
        ) {
            let low_water = Position { epoch: Epoch(epoch), seq: OutputSequence(seq), digest: Digest(digest) };
            let header = Header { id: StreamId { stream, cluster }, low_water, first_segment, accepted_damage };
            let mut image = header.encode();
            prop_assert_eq!(Header::decode(&image), Ok(header));

            let bit = flip.index(image.len() * 8);
            image[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Header::decode(&image), Err(BadHeader::Damaged));
        }
    }

    #[test]
    fn another_format_is_named() {
        let header = Header {
            id: StreamId {
                stream: "me".into(),
                cluster: "c".into(),
            },
            low_water: Position::start_of(Epoch(1)),
            first_segment: 1,
            accepted_damage: Vec::new(),
        };
        let mut image = header.encode();
        image[8] = 9;
        let end = image.len() - 4;
        let crc = crc32c::crc32c(&image[..end]).to_le_bytes();
        image[end..].copy_from_slice(&crc);
        assert_eq!(Header::decode(&image), Err(BadHeader::Version(9)));
    }
}
