//! The typed language between the CQL edge and the core: schema, writes, reads, requests, answers.
//!
//! The edge (`crate::cql`) turns CQL text and frames into these types and back; the core (`crate::core`) executes them
//! and knows nothing of CQL text, frames or connections. Values are always CQL's own serialized bytes (a `bigint` is 8
//! big-endian bytes), so nothing is decoded between the wire and the replica's log.
//!
//! | module | what |
//! |---|---|
//! | [`types`] | CQL's types |
//! | [`schema`] | columns, tables, keyspaces, the schema as a whole, and changes to it |
//! | [`speculation`] | `speculative_retry` of a table |
//! | [`views`] | materialized views, which are tables, and what makes them views |
//! | [`write`], [`parts`] | [`WriteSet`]: the rows of one statement or batch, encoded once at the edge |
//! | [`read`] | read commands, slices, positions, and the rows that come back |
//! | [`cas`] | conditional writes and serial reads |
//! | [`derive`] | writes that depend on what is there |
//! | [`request`] | consistency levels, requests to a coordinator, its answers and its errors |

pub mod cas;
pub mod derive;
pub mod indexes;
pub mod parts;
pub mod read;
pub mod request;
pub mod schema;
mod schema_log;
pub mod speculation;
pub mod types;
mod user_types;
pub mod views;
pub mod write;

pub use cas::{CasAction, CasRequest, Condition};
pub use derive::{Derive, DerivedWrite};
pub use indexes::{Index, IndexedPart};
pub use read::{
    CellView, ClusteringSelect, PartitionKey, PartitionRows, Position, ReadCommand, ReadResult, ReadTarget, Row,
    Scanned, Slice, TokenRange,
};
pub use request::{
    Consistency, CoordinatorError, FailureReason, ReadRequest, Request, Response, Warning, WriteKind, WriteRequest,
    WriteType,
};
pub use schema::{
    ClusteringOrder, Column, ColumnId, ColumnKind, DroppedColumn, Keyspace, NewColumn, NewTable, Replication, Schema,
    SchemaChange, SchemaEffect, SchemaError, SchemaTarget, Table, TableId, TableOptions,
};
pub use speculation::SpeculativeRetry;
pub use types::{CqlType, UserType};
pub use views::{NewView, View};
pub use write::{OpKind, OpView, WriteSet};

/// A node of the cluster, by its index in the cluster's configuration (0 is `db-1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct NodeIdx(pub u8);

impl std::fmt::Display for NodeIdx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "db-{}", u16::from(self.0) + 1)
    }
}

/// A partition's place on the ring: Murmur3 of its key, as Cassandra's `Murmur3Partitioner` computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Token(pub i64);

/// A clustering key, or a prefix of one: each component as `u16` big-endian length and its CQL bytes.
///
/// This is *not* the composite encoding of partition keys (which has a trailing zero per component and is bare for a
/// single component): clustering components travel and are stored in this one form whatever their number.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ClusteringKey(pub Vec<u8>);

impl ClusteringKey {
    /// The key made of these components (CQL bytes), in clustering column order. Components are at most 65,535 bytes;
    /// a longer one is cut to its length modulo 65,536 by the encoding, so the edge checks lengths first.
    pub fn of(components: &[&[u8]]) -> ClusteringKey {
        let mut key = ClusteringKey::default();
        for c in components {
            key.push(c);
        }
        key
    }

    /// Appends one component.
    pub fn push(&mut self, component: &[u8]) {
        self.0.extend_from_slice(&(component.len() as u16).to_be_bytes());
        self.0.extend_from_slice(component);
    }

    /// The components, in clustering column order.
    pub fn components(&self) -> Components<'_> {
        Components { rest: &self.0 }
    }
}

/// Iterator over the components of an encoded clustering key. Ends early on truncated bytes.
#[derive(Debug, Clone)]
pub struct Components<'a> {
    rest: &'a [u8],
}

impl<'a> Components<'a> {
    /// Iterates over `bytes`, which hold components as [`ClusteringKey`] describes.
    pub fn new(bytes: &'a [u8]) -> Components<'a> {
        Components { rest: bytes }
    }
}

impl<'a> Iterator for Components<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len));
        if rest.len() < len {
            return None;
        }
        let (component, rest) = rest.split_at(len);
        self.rest = rest;
        Some(component)
    }
}

/// The serialized partition key of these components (CQL bytes): bare for one component, Cassandra's composite encoding
/// (`u16` length, bytes, a zero byte, each) for several. This is what the partitioner hashes and the driver computes.
pub fn partition_key_bytes(components: &[&[u8]], out: &mut Vec<u8>) {
    if let [single] = components {
        out.extend_from_slice(single);
        return;
    }
    for c in components {
        out.extend_from_slice(&(c.len() as u16).to_be_bytes());
        out.extend_from_slice(c);
        out.push(0);
    }
}

/// The components of a serialized partition key with `count` components; `None` when the bytes are not of that shape.
pub fn partition_key_components(bytes: &[u8], count: usize) -> Option<Vec<&[u8]>> {
    if count == 1 {
        return Some(vec![bytes]);
    }
    let mut rest = bytes;
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len));
        out.push(tail.get(..len)?);
        rest = tail.get(len + 1..)?;
    }
    rest.is_empty().then_some(out)
}
