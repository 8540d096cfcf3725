//! The opaque state between two pages of a result: where the last page ended, and how much of LIMIT is left. It
//! carries a checksum, so that one made up or cut short is refused as real servers refuse it.

use crate::cql::error::CqlError;
use crate::model::{ClusteringKey, PartitionKey, Position};

/// First byte of every state: the version of this layout.
const VERSION: u8 = 1;

/// What a paging state holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagingState {
    /// The place after which the next page starts.
    pub after: Position,
    /// Rows left of LIMIT; `u32::MAX` without one.
    pub remaining: u32,
}

impl PagingState {
    /// Layout: version, remaining u32, rows of partition u32, partition key (u32 length, bytes), clustering key
    /// (u32 length or `u32::MAX` for none, bytes), CRC-32C of all that. Big-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend(self.remaining.to_be_bytes());
        out.extend(self.after.rows_of_partition.to_be_bytes());
        put(&mut out, Some(&self.after.partition.bytes));
        put(&mut out, self.after.clustering.as_ref().map(|c| c.0.as_slice()));
        let crc = crc32c::crc32c(&out);
        out.extend(crc.to_be_bytes());
        out
    }

    /// Reads what [`PagingState::encode`] wrote.
    ///
    /// # Errors
    /// 0x000A for anything else.
    pub fn decode(bytes: &[u8]) -> Result<PagingState, CqlError> {
        parse(bytes).ok_or_else(|| CqlError::protocol("Invalid value for the paging state"))
    }
}

fn put(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(b) => {
            out.extend((b.len() as u32).to_be_bytes());
            out.extend_from_slice(b);
        }
        None => out.extend(u32::MAX.to_be_bytes()),
    }
}

fn parse(bytes: &[u8]) -> Option<PagingState> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) || *body.first()? != VERSION {
        return None;
    }
    let mut rest = &body[1..];
    let remaining = take_u32(&mut rest)?;
    let rows_of_partition = take_u32(&mut rest)?;
    let key = take(&mut rest)??;
    let clustering = take(&mut rest)?.map(ClusteringKey);
    rest.is_empty().then(|| PagingState {
        after: Position {
            partition: PartitionKey::new(key),
            clustering,
            rows_of_partition,
        },
        remaining,
    })
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (n, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_be_bytes(*n))
}

/// One length-prefixed part; the inner `None` is one that is absent.
fn take(rest: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let n = take_u32(rest)?;
    if n == u32::MAX {
        return Some(None);
    }
    let part = rest.get(..n as usize)?.to_vec();
    *rest = &rest[n as usize..];
    Some(Some(part))
}
