//! The canonical encoding of an event, its digest, and the envelope it travels in. What the event means is not
//! looked at here.
//!
//! Layout of format version 1: one byte with the version, then the [`Event`] in postcard (integers as varints,
//! digests as a length byte and 32 bytes). Every later version keeps the head (version byte, epoch, output sequence)
//! so that a reader can at least say which event it cannot read ([`Envelope::header`]).
//!
//! The digest is SHA-256 over all of these bytes. Each event contains the digest of the one before, so one digest
//! stands for the whole stream up to its event.

use std::fmt;

use bytes::{BufMut, Bytes};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::event::Event;
use crate::ids::{Epoch, OutputSequence};

/// The version byte of what [`Event::encode`] writes.
pub const FORMAT_VERSION: u8 = 1;

/// Room for a trade with two fees; more only costs another allocation.
const ENCODED_TRADE_BYTES: usize = 384;

/// The SHA-256 digest of an event's canonical encoding.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// What stands before the first event of a stream.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The first 8 bytes, which database rows carry.
    #[must_use]
    pub fn short(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }
}

impl fmt::Display for Digest {
    /// 64 hex digits; with a precision (`{:.16}`) only the first so many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(DigestVisitor)
        } else {
            deserializer.deserialize_bytes(DigestVisitor)
        }
    }
}

struct DigestVisitor;

impl Visitor<'_> for DigestVisitor {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest: 32 bytes, or 64 hex digits")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Digest, E> {
        bytes
            .try_into()
            .map(Digest)
            .map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
        let mut digest = Digest::ZERO;
        hex::decode_to_slice(text, &mut digest.0).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
        Ok(digest)
    }
}

/// Why some bytes are not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not those the digest was taken of: damage on the way. Fetch the event again.
    #[error(
        "the bytes of the event do not match its digest (expected {expected:.16}, got {actual:.16}): damaged on the way, fetch it again"
    )]
    DigestMismatch {
        /// The digest that came with the bytes.
        expected: Digest,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// Written by another version of the format. Fetching it again does not help; a newer reader does.
    #[error("format version {found}: this program reads version {FORMAT_VERSION}")]
    BadVersion {
        /// The version byte.
        found: u8,
    },
    /// The digest is right (or there is none) and the bytes still do not decode: the writer wrote this.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// What was wrong with it.
        detail: String,
    },
}

impl DecodeError {
    /// Whether fetching the same thing again may help.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::DigestMismatch { .. })
    }

    pub(crate) fn malformed(what: &'static str, detail: impl fmt::Display) -> Self {
        Self::Malformed {
            what,
            detail: detail.to_string(),
        }
    }
}

impl Event {
    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_versioned(self, ENCODED_TRADE_BYTES)
    }

    /// Reads a canonical encoding; everything must be used up.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_versioned("event", bytes)
    }

    /// SHA-256 over the canonical encoding.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

/// The part of an encoding that every format version shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version byte.
    pub format_version: u8,
    /// The stream's life.
    pub epoch: Epoch,
    /// The position in it.
    pub output_sequence: OutputSequence,
}

/// An event as it travels and as logs keep it: its encoding and the digest the writer took of it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// SHA-256 over `bytes`, as the writer computed it.
    pub digest: Digest,
    /// The canonical encoding.
    pub bytes: Bytes,
}

impl Envelope {
    /// Encodes an event and takes its digest.
    #[must_use]
    pub fn seal(event: &Event) -> Self {
        let bytes = event.encode();
        Self {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
        }
    }

    /// Whether the digest is that of the bytes; else [`DecodeError::DigestMismatch`].
    pub fn verify(&self) -> Result<(), DecodeError> {
        let actual = Digest::of(&self.bytes);
        if actual == self.digest {
            return Ok(());
        }
        Err(DecodeError::DigestMismatch {
            expected: self.digest,
            actual,
        })
    }

    /// Verifies the digest, then decodes. Only [`DecodeError::DigestMismatch`] is damage; the others say that the
    /// writer meant these bytes.
    pub fn open(&self) -> Result<Event, DecodeError> {
        self.verify()?;
        self.decode_unverified()
    }

    /// Decodes without looking at the digest, for bytes whose integrity something else vouches for (a log's crc).
    pub fn decode_unverified(&self) -> Result<Event, DecodeError> {
        Event::decode(&self.bytes)
    }

    /// Which event this is, without reading the rest, even if this program cannot read its format version.
    pub fn header(&self) -> Result<Header, DecodeError> {
        let (&format_version, rest) = self
            .bytes
            .split_first()
            .ok_or_else(|| DecodeError::malformed("event", "no bytes at all"))?;
        let ((epoch, output_sequence), _) =
            postcard::take_from_bytes(rest).map_err(|error| DecodeError::malformed("event header", error))?;
        Ok(Header {
            format_version,
            epoch,
            output_sequence,
        })
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.digest, BytesRef(&self.bytes)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (digest, BytesOwned(bytes)) = Deserialize::deserialize(deserializer)?;
        Ok(Self { digest, bytes })
    }
}

struct BytesRef<'a>(&'a [u8]);

impl Serialize for BytesRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_str(&hex::encode(self.0));
        }
        serializer.serialize_bytes(self.0)
    }
}

struct BytesOwned(Bytes);

impl<'de> Deserialize<'de> for BytesOwned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(BytesVisitor)
        } else {
            deserializer.deserialize_bytes(BytesVisitor)
        }
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = BytesOwned;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of an event, or their hex digits")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<BytesOwned, E> {
        Ok(BytesOwned(Bytes::copy_from_slice(bytes)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<BytesOwned, E> {
        let bytes = hex::decode(text).map_err(|_| E::invalid_value(de::Unexpected::Str("no hex digits"), &self))?;
        Ok(BytesOwned(bytes.into()))
    }
}

/// The version byte, then the value in postcard.
pub(crate) fn encode_versioned<T: Serialize>(value: &T, capacity_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity_bytes);
    out.put_u8(FORMAT_VERSION);
    // Writing to a Vec cannot run out of room, and our types serialise without failing or asking for what postcard
    // lacks (sequences of unknown length, deserialize_any).
    postcard::to_extend(value, out).expect("plain data always encodes")
}

/// Reads what [`encode_versioned`] wrote; everything must be used up.
pub(crate) fn decode_versioned<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, DecodeError> {
    let (&version, rest) = bytes
        .split_first()
        .ok_or_else(|| DecodeError::malformed(what, "no bytes at all"))?;
    if version != FORMAT_VERSION {
        return Err(DecodeError::BadVersion { found: version });
    }
    let (value, left) = postcard::take_from_bytes(rest).map_err(|error| DecodeError::malformed(what, error))?;
    if !left.is_empty() {
        return Err(DecodeError::malformed(
            what,
            format_args!("{} bytes too many", left.len()),
        ));
    }
    Ok(value)
}
