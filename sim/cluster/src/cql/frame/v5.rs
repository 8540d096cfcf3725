//! What protocol 5 has around and instead of protocol 4: segments with checksums, ids of result metadata, reasons of failures.
//!
//! Everything is written as protocol 4, and [`upgrade`] makes protocol 5 of it as it leaves: the paths that most clients take
//! know nothing of a second version. Requests are read in both versions by `request`.
//!
//! A segment, uncompressed: 17 bits of length, a bit that says whether its frames are whole, 6 bits of nothing, all of it as
//! three bytes little-endian; a CRC-24 of these; the payload; a CRC-32 of that. STARTUP and its answer go without.

use super::read::{Malformed, Reader};
use super::response::{metadata_flag, put_int, put_short_bytes, put_string};
use super::{HEADER_BYTES, Opcode, flag};
use md5::{Digest, Md5};
use std::net::Ipv4Addr;

/// The version spoken here.
pub const VERSION: u8 = 5;
/// The version after it: not finished anywhere, and the same but for its number.
pub const BETA_VERSION: u8 = 6;
/// The largest payload of a segment, bytes.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 17) - 1;
/// Bytes before the payload, and behind it.
const HEAD_BYTES: usize = 6;
const TAIL_BYTES: usize = 4;

/// What stands at the front of the bytes of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// Less than a segment.
    Incomplete,
    /// A segment with this payload.
    Payload(&'a [u8]),
    /// A checksum is wrong: nothing behind it can be trusted.
    Corrupt(&'static str),
}

impl Segment<'_> {
    /// Bytes of a segment around its payload.
    pub const AROUND_BYTES: usize = HEAD_BYTES + TAIL_BYTES;
}

/// Looks at the segment at the front of `input`.
pub fn segment(input: &[u8]) -> Segment<'_> {
    let Some(&[a, b, c, x, y, z]) = input.first_chunk::<HEAD_BYTES>() else {
        return Segment::Incomplete;
    };
    let head = [a, b, c];
    if crc24(head) != u32::from_le_bytes([x, y, z, 0]) {
        return Segment::Corrupt("header CRC mismatch");
    }
    let length = u32::from_le_bytes([a, b, c, 0]) as usize & PAYLOAD_BYTES_MAX;
    let Some(payload) = input.get(HEAD_BYTES..HEAD_BYTES + length) else {
        return Segment::Incomplete;
    };
    let Some(tail) = input[HEAD_BYTES + length..].first_chunk::<TAIL_BYTES>() else {
        return Segment::Incomplete;
    };
    if crc32(payload) != u32::from_le_bytes(*tail) {
        return Segment::Corrupt("payload CRC mismatch");
    }
    Segment::Payload(payload)
}

/// Appends one segment.
pub fn put_segment(out: &mut Vec<u8>, payload: &[u8], is_whole: bool) {
    let word = payload.len() as u32 | u32::from(is_whole) << 17;
    let [a, b, c, _] = word.to_le_bytes();
    out.extend([a, b, c]);
    out.extend(&crc24([a, b, c]).to_le_bytes()[..3]);
    out.extend_from_slice(payload);
    out.extend(crc32(payload).to_le_bytes());
}

/// Appends frames as segments: as many whole frames as fit into each, a frame that is too large in several of its own.
pub fn put_segments(out: &mut Vec<u8>, mut frames: &[u8]) {
    while !frames.is_empty() {
        let mut end = 0;
        while let Some(length) = frame_length(&frames[end..]).filter(|n| end + n <= PAYLOAD_BYTES_MAX) {
            end += length;
        }
        if end > 0 {
            put_segment(out, &frames[..end], true);
        } else {
            end = frame_length(frames).unwrap_or(frames.len());
            for part in frames[..end].chunks(PAYLOAD_BYTES_MAX) {
                put_segment(out, part, false);
            }
        }
        frames = &frames[end..];
    }
}

/// Bytes of the frame at the front of frames that are all whole.
pub fn frame_length(frames: &[u8]) -> Option<usize> {
    let h = frames.first_chunk::<HEADER_BYTES>()?;
    Some(HEADER_BYTES + u32::from_be_bytes([h[5], h[6], h[7], h[8]]) as usize)
}

/// The id of the metadata of a result, given the column specifications as they stand in a frame; no columns have one too.
pub fn metadata_id(specs: &[u8]) -> [u8; 16] {
    Md5::digest(specs).into()
}

/// Appends one whole response of protocol 4 as one of protocol `version`. `is_changed`: the columns are not those of the id
/// that the client gave.
pub fn upgrade(out: &mut Vec<u8>, version: u8, frame: &[u8], is_changed: bool) {
    let start = out.len();
    let (head, body) = frame.split_at(HEADER_BYTES.min(frame.len()));
    out.extend_from_slice(head);
    // A body that is not what this server writes goes as it is: there is nobody who could be told.
    if rewrite(out, head, body, is_changed).is_err() {
        out.truncate(start + head.len());
        out.extend_from_slice(body);
    }
    out[start] = 0x80 | version;
    if version == BETA_VERSION {
        out[start + 1] |= flag::USE_BETA;
    }
    let length = (out.len() - start - HEADER_BYTES) as u32;
    out[start + 5..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
}

fn rewrite(out: &mut Vec<u8>, head: &[u8], body: &[u8], is_changed: bool) -> Result<(), Malformed> {
    let mut reader = Reader::new(body);
    if head[1] & flag::TRACING != 0 {
        reader.take(16, "trace id")?;
    }
    if head[1] & flag::WARNING != 0 {
        reader.string_list()?;
    }
    out.extend_from_slice(reader.between(0, reader.position()));
    match head[4] {
        n if n == Opcode::Error as u8 => error(out, &mut reader)?,
        n if n == Opcode::Result as u8 => result(out, &mut reader, is_changed)?,
        _ => {}
    }
    out.extend_from_slice(reader.rest());
    Ok(())
}

/// ROWS gets the id of its metadata if that is a new one, PREPARED always.
fn result(out: &mut Vec<u8>, reader: &mut Reader<'_>, is_changed: bool) -> Result<(), Malformed> {
    const METADATA_CHANGED: i32 = 8;
    let kind = reader.int()?;
    put_int(out, kind);
    match kind {
        2 if is_changed => {
            let (flags, columns) = (reader.int()?, reader.int()?);
            put_int(out, flags | METADATA_CHANGED);
            put_int(out, columns);
            if flags & metadata_flag::HAS_MORE_PAGES != 0 {
                let from = reader.position();
                reader.bytes()?;
                out.extend_from_slice(reader.between(from, reader.position()));
            }
            let from = reader.position();
            skip_specs(reader, flags, columns)?;
            let specs = reader.between(from, reader.position());
            put_short_bytes(out, &metadata_id(specs));
            out.extend_from_slice(specs);
        }
        4 => {
            put_short_bytes(out, reader.short_bytes()?);
            let from = reader.position();
            let (flags, columns) = (reader.int()?, reader.int()?);
            for _ in 0..reader.int()? {
                reader.short()?;
            }
            skip_specs(reader, flags, columns)?;
            let binds = reader.between(from, reader.position());
            // What is left: the flags, the number and the specifications of the columns.
            let columns = reader.rest().get(8..).unwrap_or_default();
            put_short_bytes(out, &metadata_id(columns));
            out.extend_from_slice(binds);
        }
        _ => {}
    }
    Ok(())
}

fn skip_specs(reader: &mut Reader<'_>, flags: i32, columns: i32) -> Result<(), Malformed> {
    if flags & metadata_flag::NO_METADATA != 0 {
        return Ok(());
    }
    if flags & metadata_flag::GLOBAL_TABLE != 0 {
        reader.string()?;
        reader.string()?;
    }
    for _ in 0..columns {
        reader.string()?;
        skip_type(reader)?;
    }
    Ok(())
}

fn skip_type(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    match reader.short()? {
        0x00 => drop(reader.string()?),
        0x20 | 0x22 => skip_type(reader)?,
        0x21 => {
            skip_type(reader)?;
            skip_type(reader)?;
        }
        0x30 => {
            reader.string()?;
            reader.string()?;
            for _ in 0..reader.short()? {
                reader.string()?;
                skip_type(reader)?;
            }
        }
        0x31 => {
            for _ in 0..reader.short()? {
                skip_type(reader)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Failures name their replicas with a reason each; what is not known about a conditional write has a code of its own, and
/// its timeout counts contentions. Protocol 4 has all of that in the words only, which are this server's own.
fn error(out: &mut Vec<u8>, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    const WRITE_TIMEOUT: i32 = 0x1100;
    const READ_FAILURE: i32 = 0x1300;
    const WRITE_FAILURE: i32 = 0x1500;
    const CAS_UNKNOWN: i32 = 0x1700;
    let code = reader.int()?;
    let message = reader.string()?;
    let is_unknown = code == WRITE_TIMEOUT && message.starts_with("CAS operation result is unknown");
    put_int(out, if is_unknown { CAS_UNKNOWN } else { code });
    put_string(out, message);
    match code {
        WRITE_TIMEOUT => {
            out.extend_from_slice(reader.take(10, "counts")?);
            let write_type = reader.string()?;
            if !is_unknown {
                put_string(out, write_type);
                if write_type == "CAS" {
                    out.extend(contentions(message).to_be_bytes());
                }
            }
        }
        READ_FAILURE | WRITE_FAILURE => {
            out.extend_from_slice(reader.take(10, "counts")?);
            let failures = reader.int()?;
            put_int(out, failures);
            let mut named = reasons(message);
            for _ in 0..failures {
                let (address, reason) = named.next().unwrap_or((Ipv4Addr::UNSPECIFIED, 0));
                out.push(4);
                out.extend(address.octets());
                out.extend(reason.to_be_bytes());
            }
        }
        _ => {}
    }
    Ok(())
}

/// The number in `… after 22 contention retries`.
fn contentions(message: &str) -> u16 {
    let before = message.strip_suffix(" contention retries").unwrap_or_default();
    before.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The replicas of `…: UNKNOWN from /127.0.0.2:7000, …`, each with the code of its reason.
fn reasons(message: &str) -> impl Iterator<Item = (Ipv4Addr, u16)> + '_ {
    message
        .split(" from /")
        .zip(message.split(" from /").skip(1))
        .map(|(before, after)| {
            let address = after.split(':').next().and_then(|a| a.parse().ok());
            let reason = match () {
                () if before.ends_with("READ_TOO_MANY_TOMBSTONES") => 1,
                () if before.ends_with("INCOMPATIBLE_SCHEMA") => 3,
                () => 0,
            };
            (address.unwrap_or(Ipv4Addr::UNSPECIFIED), reason)
        })
}

/// CRC-24 of a segment's first three bytes, as the protocol wants it.
fn crc24(head: [u8; 3]) -> u32 {
    let mut crc = 0x0087_5060_u32;
    for byte in head {
        crc ^= u32::from(byte) << 16;
        for _ in 0..8 {
            crc <<= 1;
            if crc & 0x0100_0000 != 0 {
                crc ^= 0x0197_4f0b;
            }
        }
    }
    crc
}

/// The table of CRC-32 (IEEE), a byte at a time.
const CRC32_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// CRC-32 of a payload, begun with four bytes that the protocol names so that zeroes have a checksum.
fn crc32(payload: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| (crc >> 8) ^ CRC32_TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize];
    let begun = [0xfa, 0x2d, 0x55, 0xca].iter().fold(u32::MAX, step);
    !payload.iter().fold(begun, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_carry_frames_whole_or_in_parts() {
        let frame = |n: usize| {
            let mut f = vec![0x85, 0, 0, 1, 8];
            f.extend((n as u32).to_be_bytes());
            f.resize(HEADER_BYTES + n, 7);
            f
        };
        let frames = [frame(3), frame(0), frame(2 * PAYLOAD_BYTES_MAX), frame(1)].concat();
        let mut sent = Vec::new();
        put_segments(&mut sent, &frames);
        let (mut at, mut back, mut count) = (0, Vec::new(), 0);
        while at < sent.len() {
            let Segment::Payload(payload) = segment(&sent[at..]) else {
                panic!("no segment at {at}");
            };
            back.extend_from_slice(payload);
            at += payload.len() + Segment::AROUND_BYTES;
            count += 1;
        }
        assert_eq!((back, count), (frames, 5));
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let mut sent = Vec::new();
        put_segment(&mut sent, b"payload", true);
        for i in 0..sent.len() {
            let mut wrong = sent.clone();
            wrong[i] ^= 0x10;
            assert!(matches!(segment(&wrong), Segment::Corrupt(_)), "byte {i}");
            assert_eq!(segment(&sent[..i]), Segment::Incomplete);
        }
    }

    /// The numbers are those of a driver.
    #[test]
    fn checksums_are_those_of_the_protocol() {
        assert_eq!(crc24([7, 0, 2]), 0x4a_5929);
        assert_eq!(crc32(b"payload"), 0xb6ab_ecc9);
        assert_eq!(crc32(b""), 0x4477_7ed3);
    }

    #[test]
    fn words_become_fields() {
        let message = "Operation failed - received 0 responses and 2 failures: UNKNOWN from /127.0.0.2:7000, \
                       READ_TOO_MANY_TOMBSTONES from /127.0.0.3:7000";
        let found: Vec<_> = reasons(message).collect();
        let expected = [(Ipv4Addr::new(127, 0, 0, 2), 0), (Ipv4Addr::new(127, 0, 0, 3), 1)];
        assert_eq!(found, expected);
        let timed_out = "CAS operation timed out: received 0 of 2 required responses after 22 contention retries";
        assert_eq!(contentions(timed_out), 22);
    }
}
