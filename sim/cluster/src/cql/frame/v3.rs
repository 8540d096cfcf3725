//! What protocol 3 lacks of protocol 4: warnings, the markers of the partition key of a prepared statement, and failures other
//! than timeouts. Everything is written as protocol 4; [`downgrade`] leaves out what a client of protocol 3 cannot read.

use super::read::{Malformed, Reader};
use super::response::{put_int, put_string};
use super::{HEADER_BYTES, Opcode, flag};

/// The version spoken here.
pub const VERSION: u8 = 3;

/// Appends one whole response of protocol 4 as one of protocol 3.
pub fn downgrade(out: &mut Vec<u8>, frame: &[u8]) {
    let start = out.len();
    let (head, body) = frame.split_at(HEADER_BYTES.min(frame.len()));
    out.extend_from_slice(head);
    // A body that is not what this server writes goes as it is: there is nobody who could be told.
    if rewrite(out, head, body).is_err() {
        out.truncate(start + head.len());
        out.extend_from_slice(body);
    }
    out[start] = 0x80 | VERSION;
    out[start + 1] &= !flag::WARNING;
    let length = (out.len() - start - HEADER_BYTES) as u32;
    out[start + 5..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
}

fn rewrite(out: &mut Vec<u8>, head: &[u8], body: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(body);
    if head[1] & flag::TRACING != 0 {
        out.extend_from_slice(reader.take(16, "trace id")?);
    }
    if head[1] & flag::WARNING != 0 {
        reader.string_list()?;
    }
    match head[4] {
        n if n == Opcode::Error as u8 => error(out, &mut reader)?,
        n if n == Opcode::Result as u8 => result(out, &mut reader)?,
        _ => {}
    }
    out.extend_from_slice(reader.rest());
    Ok(())
}

fn result(out: &mut Vec<u8>, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    const PREPARED: i32 = 4;
    let kind = reader.int()?;
    put_int(out, kind);
    if kind == PREPARED {
        let from = reader.position();
        reader.short_bytes()?;
        reader.take(8, "flags and number of markers")?;
        out.extend_from_slice(reader.between(from, reader.position()));
        for _ in 0..reader.int()? {
            reader.short()?;
        }
    }
    Ok(())
}

/// Replicas that failed are told as replicas that did not answer.
fn error(out: &mut Vec<u8>, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let code = reader.int()?;
    let (told, is_failure) = match code {
        0x1300 => (0x1200, true),
        0x1500 => (0x1100, true),
        other => (other, false),
    };
    put_int(out, told);
    put_string(out, reader.string()?);
    if is_failure {
        out.extend_from_slice(reader.take(10, "counts")?);
        reader.int()?;
    }
    Ok(())
}
