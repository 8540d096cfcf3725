//! Whole responses, appended to the output buffer of a connection so that everything of one instant leaves in one
//! write. Nothing is allocated here beyond the growth of that buffer.

use super::{HEADER_BYTES, Opcode, VERSION, flag};
use crate::cql::error::{CqlError, Detail};
use std::net::IpAddr;

/// Kinds of RESULT (protocol 4, section 4.2.5).
mod kind {
    pub const VOID: i32 = 1;
    pub const ROWS: i32 = 2;
    pub const SET_KEYSPACE: i32 = 3;
    pub const PREPARED: i32 = 4;
    pub const SCHEMA_CHANGE: i32 = 5;
}

/// Metadata flag bits of Rows and Prepared.
pub mod metadata_flag {
    /// One keyspace and table for all columns.
    pub const GLOBAL_TABLE: i32 = 1;
    /// There is a paging state.
    pub const HAS_MORE_PAGES: i32 = 2;
    /// Column specifications are left out.
    pub const NO_METADATA: i32 = 4;
}

/// Appends [string]; what does not fit its 16-bit length is cut at a character boundary.
pub fn put_string(out: &mut Vec<u8>, text: &str) {
    let mut n = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(n) {
        n -= 1;
    }
    out.extend((n as u16).to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..n]);
}

/// Appends [short bytes]; callers hold at most 65535 bytes.
pub fn put_short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= usize::from(u16::MAX));
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends [bytes], `None` as null.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        // The commonest length, in one piece.
        Some(b) if b.len() == 8 => {
            let mut value = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
            value[4..].copy_from_slice(b);
            out.extend_from_slice(&value);
        }
        Some(b) => {
            out.extend_from_slice(&(b.len() as i32).to_be_bytes());
            out.extend_from_slice(b);
        }
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
    }
}

/// Appends [int].
#[inline]
pub fn put_int(out: &mut Vec<u8>, n: i32) {
    out.extend(n.to_be_bytes());
}

/// Appends [string list].
pub fn put_string_list<S: AsRef<str>>(out: &mut Vec<u8>, list: &[S]) {
    out.extend((list.len() as u16).to_be_bytes());
    for item in list {
        put_string(out, item.as_ref());
    }
}

/// Appends one frame whose body `body` writes; the length is filled in afterwards. `warnings` go before the body.
pub fn frame(out: &mut Vec<u8>, stream: i16, opcode: Opcode, warnings: &[String], body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let flags = if warnings.is_empty() { 0 } else { flag::WARNING };
    let [s0, s1] = stream.to_be_bytes();
    out.extend([0x80 | VERSION, flags, s0, s1, opcode as u8, 0, 0, 0, 0]);
    if !warnings.is_empty() {
        put_string_list(out, warnings);
    }
    body(out);
    let length = (out.len() - start - HEADER_BYTES) as u32;
    out[start + 5..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// READY.
pub fn ready(out: &mut Vec<u8>, stream: i16) {
    frame(out, stream, Opcode::Ready, &[], |_| {});
}

/// AUTHENTICATE with the name of the authenticator.
pub fn authenticate(out: &mut Vec<u8>, stream: i16, authenticator: &str) {
    frame(out, stream, Opcode::Authenticate, &[], |b| put_string(b, authenticator));
}

/// AUTH_SUCCESS without a token.
pub fn auth_success(out: &mut Vec<u8>, stream: i16) {
    frame(out, stream, Opcode::AuthSuccess, &[], |b| put_bytes(b, None));
}

/// SUPPORTED with its multimap in the order given.
pub fn supported(out: &mut Vec<u8>, stream: i16, options: &[(&str, Vec<String>)]) {
    frame(out, stream, Opcode::Supported, &[], |b| {
        b.extend((options.len() as u16).to_be_bytes());
        for (key, values) in options {
            put_string(b, key);
            put_string_list(b, values);
        }
    });
}

/// RESULT of kind Void. The answer to every batch, so the common case is one copy.
#[inline]
pub fn void(out: &mut Vec<u8>, stream: i16, warnings: &[String]) {
    if warnings.is_empty() {
        let [s0, s1] = stream.to_be_bytes();
        out.extend([
            0x80 | VERSION,
            0,
            s0,
            s1,
            Opcode::Result as u8,
            0,
            0,
            0,
            4,
            0,
            0,
            0,
            kind::VOID as u8,
        ]);
        return;
    }
    frame(out, stream, Opcode::Result, warnings, |b| put_int(b, kind::VOID));
}

/// RESULT of kind SetKeyspace.
pub fn set_keyspace(out: &mut Vec<u8>, stream: i16, keyspace: &str) {
    frame(out, stream, Opcode::Result, &[], |b| {
        put_int(b, kind::SET_KEYSPACE);
        put_string(b, keyspace);
    });
}

/// Column specifications of a Rows or Prepared result, encoded once when the statement is prepared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// How many.
    pub count: usize,
    /// `[global table specification][name, type]*`; empty when there are no columns.
    pub specs: Vec<u8>,
    /// Whether each column names its own table instead.
    pub apart: bool,
}

impl Columns {
    fn flags(&self) -> i32 {
        if self.count == 0 || self.apart {
            0
        } else {
            metadata_flag::GLOBAL_TABLE
        }
    }
}

/// The rows of one page: cells as [bytes] one after the other.
#[derive(Debug, Default)]
pub struct RowsBody<'a> {
    /// How many rows.
    pub count: usize,
    /// Their cells.
    pub cells: &'a [u8],
    /// Where the next page starts; `None` at the end.
    pub paging_state: Option<&'a [u8]>,
}

/// RESULT of kind Rows; without column specifications if the client has them.
pub fn rows(
    out: &mut Vec<u8>,
    stream: i16,
    warnings: &[String],
    columns: &Columns,
    skip_metadata: bool,
    page: &RowsBody<'_>,
) {
    /// Room for a frame's header and what stands before the rows but the column specifications, generously.
    const HEAD_BYTES: usize = 64;
    out.reserve(HEAD_BYTES + columns.specs.len() + page.paging_state.map_or(0, <[u8]>::len) + page.cells.len());
    frame(out, stream, Opcode::Result, warnings, |b| {
        put_int(b, kind::ROWS);
        let mut flags = if skip_metadata {
            metadata_flag::NO_METADATA
        } else {
            columns.flags()
        };
        if skip_metadata {
            // Real servers keep the global bit beside NO_METADATA (seen: flags=0x5).
            flags |= columns.flags();
        }
        if page.paging_state.is_some() {
            flags |= metadata_flag::HAS_MORE_PAGES;
        }
        put_int(b, flags);
        put_int(b, columns.count as i32);
        if page.paging_state.is_some() {
            put_bytes(b, page.paging_state);
        }
        if !skip_metadata {
            b.extend_from_slice(&columns.specs);
        }
        put_int(b, page.count as i32);
        b.extend_from_slice(page.cells);
    });
}

/// RESULT of kind Prepared. `result` is `None` for statements that return no rows.
pub fn prepared(
    out: &mut Vec<u8>,
    stream: i16,
    warnings: &[String],
    id: &[u8; 16],
    binds: &Columns,
    partition_key_indexes: &[u16],
    result: Option<&Columns>,
) {
    frame(out, stream, Opcode::Result, warnings, |b| {
        put_int(b, kind::PREPARED);
        put_short_bytes(b, id);
        put_int(b, binds.flags());
        put_int(b, binds.count as i32);
        put_int(b, partition_key_indexes.len() as i32);
        for index in partition_key_indexes {
            b.extend(index.to_be_bytes());
        }
        b.extend_from_slice(&binds.specs);
        match result {
            Some(columns) => {
                put_int(b, columns.flags());
                put_int(b, columns.count as i32);
                b.extend_from_slice(&columns.specs);
            }
            None => {
                put_int(b, metadata_flag::NO_METADATA);
                put_int(b, 0);
            }
        }
    });
}

/// What happened to a schema object; the words of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// `CREATED`, `UPDATED` or `DROPPED`.
    pub change: &'static str,
    /// Keyspace.
    pub keyspace: String,
    /// Table or type, `None` when the keyspace itself changed.
    pub table: Option<String>,
    /// Whether it is a user-defined type.
    pub is_type: bool,
}

impl SchemaChange {
    fn put(&self, out: &mut Vec<u8>) {
        put_string(out, self.change);
        let target = match &self.table {
            Some(_) if self.is_type => "TYPE",
            Some(_) => "TABLE",
            None => "KEYSPACE",
        };
        put_string(out, target);
        put_string(out, &self.keyspace);
        if let Some(table) = &self.table {
            put_string(out, table);
        }
    }
}

/// RESULT of kind SchemaChange.
pub fn schema_change(out: &mut Vec<u8>, stream: i16, warnings: &[String], change: &SchemaChange) {
    frame(out, stream, Opcode::Result, warnings, |b| {
        put_int(b, kind::SCHEMA_CHANGE);
        change.put(b);
    });
}

/// What an EVENT frame tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// STATUS_CHANGE.
    Status {
        /// `true` for UP, `false` for DOWN.
        up: bool,
        /// The node's CQL address.
        address: IpAddr,
        /// Its port.
        port: u16,
    },
    /// TOPOLOGY_CHANGE.
    Topology {
        /// `true` for NEW_NODE, `false` for REMOVED_NODE.
        joined: bool,
        /// The node's CQL address.
        address: IpAddr,
        /// Its port.
        port: u16,
    },
    /// SCHEMA_CHANGE.
    Schema(SchemaChange),
}

impl Event {
    /// The type a client registers for.
    pub fn type_name(&self) -> &'static str {
        match self {
            Event::Status { .. } => "STATUS_CHANGE",
            Event::Topology { .. } => "TOPOLOGY_CHANGE",
            Event::Schema(_) => "SCHEMA_CHANGE",
        }
    }
}

/// EVENT, on stream -1 as the protocol wants it.
pub fn event(out: &mut Vec<u8>, event: &Event) {
    frame(out, -1, Opcode::Event, &[], |b| {
        put_string(b, event.type_name());
        match event {
            Event::Status { up, address, port } => {
                put_string(b, if *up { "UP" } else { "DOWN" });
                put_inet(b, *address, *port);
            }
            Event::Topology { joined, address, port } => {
                put_string(b, if *joined { "NEW_NODE" } else { "REMOVED_NODE" });
                put_inet(b, *address, *port);
            }
            Event::Schema(change) => change.put(b),
        }
    });
}

fn put_inet(out: &mut Vec<u8>, address: IpAddr, port: u16) {
    match address {
        IpAddr::V4(a) => {
            out.push(4);
            out.extend(a.octets());
        }
        IpAddr::V6(a) => {
            out.push(16);
            out.extend(a.octets());
        }
    }
    put_int(out, i32::from(port));
}

/// ERROR with the extra fields of its code.
pub fn error(out: &mut Vec<u8>, stream: i16, warnings: &[String], error: &CqlError) {
    frame(out, stream, Opcode::Error, warnings, |b| {
        put_int(b, error.code());
        put_string(b, &error.message);
        let level = |b: &mut Vec<u8>, consistency: u16| b.extend(consistency.to_be_bytes());
        match &error.detail {
            Detail::Server
            | Detail::Protocol
            | Detail::BadCredentials
            | Detail::Overloaded
            | Detail::Bootstrapping
            | Detail::Truncate
            | Detail::Syntax
            | Detail::Unauthorized
            | Detail::Invalid
            | Detail::Config => {}
            Detail::Unavailable {
                consistency,
                required,
                alive,
            } => {
                level(b, *consistency);
                put_int(b, *required);
                put_int(b, *alive);
            }
            Detail::WriteTimeout {
                consistency,
                received,
                required,
                write_type,
            } => {
                level(b, *consistency);
                put_int(b, *received);
                put_int(b, *required);
                put_string(b, write_type);
            }
            Detail::ReadTimeout {
                consistency,
                received,
                required,
                data_present,
            } => {
                level(b, *consistency);
                put_int(b, *received);
                put_int(b, *required);
                b.push(u8::from(*data_present));
            }
            Detail::ReadFailure {
                consistency,
                received,
                required,
                failures,
                data_present,
            } => {
                level(b, *consistency);
                put_int(b, *received);
                put_int(b, *required);
                put_int(b, *failures);
                b.push(u8::from(*data_present));
            }
            Detail::WriteFailure {
                consistency,
                received,
                required,
                failures,
                write_type,
            } => {
                level(b, *consistency);
                put_int(b, *received);
                put_int(b, *required);
                put_int(b, *failures);
                put_string(b, write_type);
            }
            Detail::AlreadyExists { keyspace, table } => {
                put_string(b, keyspace);
                put_string(b, table);
            }
            Detail::Unprepared { id } => put_short_bytes(b, id),
        }
    });
}
