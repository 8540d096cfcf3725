//! Boundary points: the moments of a request's life at which a fault may strike, and what it can ask for.
//!
//! A hook is called by the coordinator at each [`Point`] of a client's write (and at arrival and answer of a read) and
//! returns a [`Verdict`]. It sees the rows by column name, decoded only when it looks, so that it can recognise an event
//! by its key. Without a hook none of this is touched.

use super::seal::Sealed;
use crate::model::parts::Part;
use crate::model::{
    Components, Consistency, NodeIdx, OpKind, OpView, Schema, Table, TableId, WriteKind, WriteSet, WriteType,
    partition_key_components,
};
use serde::Serialize;

/// Where in a request's life the coordinator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The request is decoded and nothing was done.
    RequestArrived,
    /// The batchlog holders needed have acknowledged; no mutation was sent.
    BatchlogWritten,
    /// `k` of `of` mutations were sent to their replicas. Called for every `k` from 0 to `of`.
    MutationsSent {
        /// Mutations sent.
        k: u16,
        /// Mutations in all.
        of: u16,
    },
    /// The answer is about to leave.
    ResponseLeaving,
}

/// What becomes of a write whose client was told that it timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It is never applied.
    NeverApply,
    /// It is applied now.
    ApplyNow,
    /// It stays in the batchlog and is applied by its replay, with its original timestamps. For a write that has no
    /// batchlog (one mutation, UNLOGGED) this is [`Then::NeverApply`].
    ByReplay,
    /// The coordinator executes it this much later, with a new server timestamp where none was pinned.
    ExecuteLate {
        /// Delay, milliseconds.
        after_ms: u64,
    },
}

/// What a client is told instead of what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// Too few replicas are alive.
    Unavailable {
        /// Replicas required, to report.
        required: u32,
        /// Replicas alive, to report.
        alive: u32,
    },
    /// The coordinator has too much to do.
    Overloaded,
    /// The batch is larger than this coordinator allows (Invalid).
    BatchTooLarge,
    /// Too few replicas answered the read in time.
    ReadTimeout {
        /// Answers to report.
        received: u32,
        /// Answers required, to report.
        required: u32,
    },
}

/// What the hook asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing.
    Continue,
    /// Stop here and never answer: what was sent is sent, what was not never is. After the batchlog was written, its
    /// replay will finish the batch.
    Drop,
    /// Answer a write timeout now. What was sent at this point stays sent; `then` says what becomes of the rest.
    Timeout {
        /// Write type to report.
        write_type: WriteType,
        /// Acknowledgements to report.
        received: u32,
        /// Acknowledgements required, to report.
        required: u32,
        /// What becomes of the write.
        then: Then,
    },
    /// Answer this error now; `then` says what becomes of a write (nothing becomes of a read).
    Refuse {
        /// What the client is told.
        told: Told,
        /// What becomes of the write.
        then: Then,
    },
    /// The coordinator gets to the request only so much later. On arrival only; elsewhere it is [`Verdict::Continue`].
    Slow {
        /// How much later, milliseconds.
        ms: u64,
    },
    /// The node dies here (kill -9).
    KillNode,
    /// The node freezes here and goes on after so many milliseconds, from this point. A write that freezes on arrival is
    /// stamped when it goes on.
    PauseNode {
        /// How long, milliseconds.
        ms: u64,
    },
    /// Do everything, but the answer never leaves.
    SwallowResponse,
}

/// What a boundary point is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub batch: Option<&'a BatchInfo<'a>>,
    pub read: Option<TableId>,
    pub conditional: Option<TableId>,
    pub consistency: Consistency,
}

impl<'a> Subject<'a> {
    pub(super) fn write(batch: &'a BatchInfo<'a>, consistency: Consistency) -> Subject<'a> {
        Subject {
            batch: Some(batch),
            read: None,
            conditional: None,
            consistency,
        }
    }

    pub(super) fn read(table: TableId, consistency: Consistency) -> Subject<'a> {
        Subject {
            batch: None,
            read: Some(table),
            conditional: None,
            consistency,
        }
    }

    pub(super) fn conditional(table: TableId, consistency: Consistency) -> Subject<'a> {
        Subject {
            batch: None,
            read: None,
            conditional: Some(table),
            consistency,
        }
    }
}

/// A boundary point of one request.
#[derive(Debug)]
pub struct Boundary<'a> {
    /// Coordinator.
    pub node: NodeIdx,
    /// Where it stands.
    pub point: Point,
    /// Simulated time, microseconds.
    pub now_us: u64,
    /// The write, or `None` for a read or a conditional write.
    pub batch: Option<&'a BatchInfo<'a>>,
    /// The table read, for a read.
    pub read: Option<TableId>,
    /// The table of a conditional write or a read at SERIAL; of those only the arrival is seen.
    pub conditional: Option<TableId>,
    /// The level asked for.
    pub consistency: Consistency,
    /// Schema, to name tables.
    pub schema: &'a Schema,
}

/// Decides what happens at boundary points.
pub trait BoundaryHook: Send {
    /// Asked once when a write arrives, before its first point: whether this hook wants to see its points at all. A write
    /// that nobody watches costs no more than without a hook, so a hook that waits for one event should look for its key
    /// here.
    fn watches(&mut self, write: &BatchInfo<'_>) -> bool {
        let _any = write;
        true
    }

    /// Called at each point; must not block and should return [`Verdict::Continue`] quickly for what it does not know.
    fn at(&mut self, boundary: &Boundary<'_>) -> Verdict;
}

/// A closure is a hook.
impl<F: FnMut(&Boundary<'_>) -> Verdict + Send> BoundaryHook for F {
    fn at(&mut self, boundary: &Boundary<'_>) -> Verdict {
        self(boundary)
    }
}

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Asked(&'a WriteSet),
    Sealed(&'a Sealed),
}

/// A write as a hook sees it. Nothing is decoded until it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct BatchInfo<'a> {
    kind: WriteKind,
    schema: &'a Schema,
    source: Source<'a>,
}

impl<'a> BatchInfo<'a> {
    pub(crate) fn asked(kind: WriteKind, schema: &'a Schema, writes: &'a WriteSet) -> BatchInfo<'a> {
        BatchInfo {
            kind,
            schema,
            source: Source::Asked(writes),
        }
    }

    pub(crate) fn sealed(kind: WriteKind, schema: &'a Schema, sealed: &'a Sealed) -> BatchInfo<'a> {
        BatchInfo {
            kind,
            schema,
            source: Source::Sealed(sealed),
        }
    }

    /// Statement, LOGGED or UNLOGGED batch.
    pub fn kind(&self) -> WriteKind {
        self.kind
    }

    /// Whether it is a LOGGED batch.
    pub fn is_logged(&self) -> bool {
        self.kind == WriteKind::Logged
    }

    /// Its rows: before they are grouped in statement order, afterwards in order of mutations.
    pub fn rows(&self) -> Box<dyn Iterator<Item = RowInfo<'a>> + 'a> {
        let schema = self.schema;
        let name = move |op: OpView<'a>| schema.table(op.table()).map(|table| RowInfo { table, op });
        match self.source {
            Source::Asked(w) => Box::new(w.ops().filter_map(name)),
            Source::Sealed(s) => Box::new(s.all_ops().filter_map(name)),
        }
    }

    /// Rows of one mutation (`Point::MutationsSent` counts these); empty before they are grouped.
    pub fn mutation(&self, index: usize) -> Vec<RowInfo<'a>> {
        let Source::Sealed(s) = self.source else { return vec![] };
        s.ops(index)
            .filter_map(|op| self.schema.table(op.table()).map(|table| RowInfo { table, op }))
            .collect()
    }

    /// Keyspace of its first row.
    pub fn keyspace(&self) -> Option<&'a str> {
        self.rows().next().map(|r| r.table.keyspace.as_str())
    }

    /// The first row of a table of that name, in any keyspace.
    pub fn row_of(&self, table: &str) -> Option<RowInfo<'a>> {
        self.rows().find(|r| r.table.name == table)
    }
}

/// One row (or deletion) of a write.
#[derive(Debug, Clone, Copy)]
pub struct RowInfo<'a> {
    /// Its table.
    pub table: &'a Table,
    op: OpView<'a>,
}

impl<'a> RowInfo<'a> {
    /// What is done.
    pub fn kind(&self) -> OpKind {
        self.op.kind()
    }
    /// Serialized partition key.
    pub fn partition_key(&self) -> &'a [u8] {
        self.op.partition_key()
    }
    /// Clustering key, encoded as [`crate::model::ClusteringKey`].
    pub fn clustering(&self) -> &'a [u8] {
        self.op.clustering()
    }
    /// Pinned or assigned timestamp, microseconds; `None` while the coordinator has yet to stamp it.
    pub fn timestamp_us(&self) -> Option<i64> {
        self.op.timestamp_us()
    }
    /// The CQL bytes of a column, key columns included; `None` when it is not written or null.
    pub fn value(&self, column: &str) -> Option<&'a [u8]> {
        let c = self.table.column(column)?;
        let position = usize::from(c.position);
        match c.kind {
            crate::model::ColumnKind::PartitionKey => {
                partition_key_components(self.op.partition_key(), self.table.partition_columns)?
                    .get(position)
                    .copied()
            }
            crate::model::ColumnKind::Clustering => Components::new(self.op.clustering()).nth(position),
            _ => {
                let cell = self.op.cells().find(|(id, _)| *id == c.id)?.1;
                match self.op.kind().has_parts() {
                    false => cell,
                    true => match Part::of(cell)? {
                        Part::Whole(value) => value,
                        _ => None,
                    },
                }
            }
        }
    }
    /// A `bigint`, `timestamp`, `int`, `smallint` or `tinyint` column as a number.
    pub fn number(&self, column: &str) -> Option<i64> {
        let v = self.value(column)?;
        if v.is_empty() || v.len() > 8 {
            return None;
        }
        let sign = if v[0] & 0x80 != 0 { -1i64 } else { 0 };
        Some(v.iter().fold(sign, |n, b| n << 8 | i64::from(*b)))
    }
}
