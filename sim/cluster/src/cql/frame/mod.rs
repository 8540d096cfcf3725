//! The CQL binary protocol, versions 3 to 5: headers, requests in, responses out, every length checked. Nothing here knows
//! what a statement means; bytes that no client of good will would send end in an error reply, never in a panic.
//!
//! - `read`: the notations of the protocol out of a frame body,
//! - `request`: whole requests,
//! - `response`: whole responses of protocol 4, appended to the output buffer of a connection,
//! - `v3`, `v5`: what protocols 3 and 5 make of them, and the segments of the latter.

pub mod read;
pub mod request;
pub mod response;
#[cfg(test)]
mod tests;
pub mod v3;
pub mod v5;

pub use read::{Malformed, Reader, Value};
pub use request::{Batch, BatchKind, BatchParams, Params, Request, StatementRef, Values};

/// Bytes of a frame header of protocol 3 and later.
pub const HEADER_BYTES: usize = 9;
/// The protocol version that everything is written in; [`v5::upgrade`] makes a later one of it.
pub const VERSION: u8 = 4;
/// The largest accepted body, bytes. Source: Cassandra's `native_transport_max_frame_size`, seen at 16 MiB.
pub const BODY_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Header flag bits of protocol 4.
pub mod flag {
    /// The body is compressed; never negotiated here.
    pub const COMPRESSION: u8 = 0x01;
    /// The client asks for a trace.
    pub const TRACING: u8 = 0x02;
    /// The body begins with a [bytes map].
    pub const CUSTOM_PAYLOAD: u8 = 0x04;
    /// The response body begins with a [string list] of warnings.
    pub const WARNING: u8 = 0x08;
    /// The version is one that is not finished, and the client knows it.
    pub const USE_BETA: u8 = 0x10;
}

/// Opcodes of protocol 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(
    missing_docs,
    reason = "the names are those of the protocol specification, section 2.4"
)]
pub enum Opcode {
    Error = 0x00,
    Startup = 0x01,
    Ready = 0x02,
    Authenticate = 0x03,
    Options = 0x05,
    Supported = 0x06,
    Query = 0x07,
    Result = 0x08,
    Prepare = 0x09,
    Execute = 0x0A,
    Register = 0x0B,
    Event = 0x0C,
    Batch = 0x0D,
    AuthChallenge = 0x0E,
    AuthResponse = 0x0F,
    AuthSuccess = 0x10,
}

impl Opcode {
    /// The opcode of a header byte, `None` if no version knows it.
    pub fn from_byte(byte: u8) -> Option<Self> {
        use Opcode::*;
        const ALL: [Opcode; 16] = [
            Error,
            Startup,
            Ready,
            Authenticate,
            Options,
            Supported,
            Query,
            Result,
            Prepare,
            Execute,
            Register,
            Event,
            Batch,
            AuthChallenge,
            AuthResponse,
            AuthSuccess,
        ];
        ALL.into_iter().find(|o| *o as u8 == byte)
    }

    /// The name used by real servers in their messages.
    pub fn name(self) -> &'static str {
        use Opcode::*;
        match self {
            Error => "ERROR",
            Startup => "STARTUP",
            Ready => "READY",
            Authenticate => "AUTHENTICATE",
            Options => "OPTIONS",
            Supported => "SUPPORTED",
            Query => "QUERY",
            Result => "RESULT",
            Prepare => "PREPARE",
            Execute => "EXECUTE",
            Register => "REGISTER",
            Event => "EVENT",
            Batch => "BATCH",
            AuthChallenge => "AUTH_CHALLENGE",
            AuthResponse => "AUTH_RESPONSE",
            AuthSuccess => "AUTH_SUCCESS",
        }
    }
}

/// The nine bytes before every body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Version byte without the direction bit.
    pub version: u8,
    /// Flags, see [`flag`].
    pub flags: u8,
    /// Stream id chosen by the client, repeated in the response.
    pub stream: i16,
    /// Raw opcode byte.
    pub opcode: u8,
    /// Bytes of the body.
    pub length: u32,
}

/// What the bytes at the front of a connection's buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// Fewer bytes than one frame.
    Incomplete,
    /// A whole frame: header and the body's bytes follow it.
    Frame(Header),
    /// Another protocol version; the body is to be skipped after the answer.
    OtherVersion(Header),
    /// A protocol version before 3, whose header is of another shape: answer and close.
    AncientVersion(u8),
    /// A body above [`BODY_BYTES_MAX`]; it is to be skipped after the answer.
    TooLong(Header),
}

/// Looks at the front of `buffer` without consuming it, where only [`VERSION`] is spoken.
pub fn peek(buffer: &[u8]) -> Front {
    peek_up_to(VERSION, buffer)
}

/// The lowest version that is spoken by those who speak this one.
pub fn lowest(greatest: u8) -> u8 {
    if greatest > VERSION { v3::VERSION } else { VERSION }
}

/// As [`peek`], where versions up to `greatest` are spoken; a version that is not finished only with
/// those who say that they know it.
pub fn peek_up_to(greatest: u8, buffer: &[u8]) -> Front {
    let Some(&first) = buffer.first() else {
        return Front::Incomplete;
    };
    let version = first & 0x7F;
    if version < 3 {
        return Front::AncientVersion(version);
    }
    let Some(h) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Front::Incomplete;
    };
    let header = Header {
        version,
        flags: h[1],
        stream: i16::from_be_bytes([h[2], h[3]]),
        opcode: h[4],
        length: u32::from_be_bytes([h[5], h[6], h[7], h[8]]),
    };
    let is_beta = version == v5::BETA_VERSION && header.flags & flag::USE_BETA == 0;
    if is_beta || !(lowest(greatest)..=greatest).contains(&version) || first & 0x80 != 0 {
        return Front::OtherVersion(header);
    }
    if header.length > BODY_BYTES_MAX {
        return Front::TooLong(header);
    }
    if buffer.len() < HEADER_BYTES + header.length as usize {
        return Front::Incomplete;
    }
    Front::Frame(header)
}
