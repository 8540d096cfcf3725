//! BEGIN BATCH: its statements, and what of them may stand together.

use super::write::{Attributes, WritePlan, attributes, delete, insert, timestamp, update};
use super::{Binds, Context};
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::cql::parse::ast::{self, Statement};
use crate::model::WriteKind;

/// BEGIN BATCH … APPLY BATCH.
#[derive(Debug)]
pub struct BatchPlan {
    /// LOGGED or UNLOGGED.
    pub kind: WriteKind,
    /// Its statements.
    pub statements: Vec<WritePlan>,
    using: Attributes,
}

impl BatchPlan {
    /// USING TIMESTAMP of the batch itself, microseconds.
    ///
    /// # Errors
    /// A null timestamp.
    pub fn timestamp_us(&self, bound: &[Value<'_>]) -> Result<Option<i64>, CqlError> {
        self.using.timestamp.as_ref().map_or(Ok(None), |s| timestamp(s, bound))
    }

    /// Lends every USING TIMESTAMP of the batch and of its statements to a check.
    ///
    /// # Errors
    /// What the check says.
    pub fn timestamps(
        &self,
        bound: &[Value<'_>],
        check: impl Fn(Result<Option<i64>, CqlError>) -> Result<(), CqlError>,
    ) -> Result<(), CqlError> {
        check(self.timestamp_us(bound))?;
        self.statements
            .iter()
            .try_for_each(|write| check(write.own_timestamp(bound)))
    }

    /// Whether it has USING TIMESTAMP.
    pub fn has_timestamp(&self) -> bool {
        self.using.timestamp.is_some()
    }

    /// Whether some statement has conditions.
    pub fn is_conditional(&self) -> bool {
        self.statements.iter().any(|w| w.conditions.is_some())
    }

    /// USING TIMEOUT of the batch, milliseconds.
    pub fn timeout_ms(&self) -> Option<u32> {
        self.using.timeout_ms
    }
}

/// Whether statements of counters and others may stand in such a batch, and what kind of write it is.
///
/// # Errors
/// Mixtures, and counters in a LOGGED batch.
pub fn batch_kind(
    kind: ast::BatchKind,
    has_counters: bool,
    has_others: bool,
    has_timestamp: bool,
) -> Result<WriteKind, CqlError> {
    let refuse = |what: &str| Err(CqlError::invalid(what));
    match kind {
        ast::BatchKind::Counter if has_others => refuse("Cannot include non-counter statement in a counter batch"),
        ast::BatchKind::Logged if has_counters => refuse("Cannot include a counter statement in a logged batch"),
        _ if has_counters && has_others => refuse("Counter and non-counter mutations cannot exist in the same batch"),
        _ if (has_counters || kind == ast::BatchKind::Counter) && has_timestamp => {
            refuse("Cannot provide custom timestamp for counter BATCH")
        }
        _ if has_counters => Ok(WriteKind::CounterBatch),
        ast::BatchKind::Logged => Ok(WriteKind::Logged),
        ast::BatchKind::Unlogged | ast::BatchKind::Counter => Ok(WriteKind::Unlogged),
    }
}

/// Refuses what no replica stores.
///
/// # Errors
/// A deletion of traces.
#[inline]
pub fn only_stored(write: &WritePlan) -> Result<(), CqlError> {
    match write.is_of_traces() {
        true => Err(CqlError::unsupported("a DELETE of traces in a batch")),
        false => Ok(()),
    }
}

/// Resolves BEGIN BATCH.
///
/// # Errors
/// As its statements; timestamps on both the batch and a statement.
pub fn batch(context: &Context<'_>, batch: &ast::Batch, binds: &mut Binds) -> Result<BatchPlan, CqlError> {
    let using = attributes(context, &batch.using, binds)?;
    // C `BatchStatement.Parsed.prepare` (seen).
    binds.attribute("[batch]", "[batch]");
    if using.ttl.is_some() {
        return Err(CqlError::invalid("Global TTL on the BATCH statement is not supported."));
    }
    let mut statements = Vec::with_capacity(batch.statements.len());
    for statement in &batch.statements {
        statements.push(match statement {
            Statement::Insert(s) => insert(context, s, binds)?,
            Statement::Update(s) => update(context, s, binds)?,
            Statement::Delete(s) => delete(context, s, binds)?,
            _ => return Err(only_writes()),
        });
        if let Some(write) = statements.last() {
            binds.attribute(&write.table.keyspace, &write.table.name);
        }
    }
    if using.timestamp.is_some() && statements.iter().any(|s| s.using.timestamp.is_some()) {
        return Err(CqlError::invalid(
            "Timestamp must be set either on BATCH or individual statements",
        ));
    }
    statements.iter().try_for_each(only_stored)?;
    let has_counters = statements.iter().any(|s| s.is_counter);
    let has_others = statements.iter().any(|s| !s.is_counter);
    let kind = batch_kind(batch.kind, has_counters, has_others, using.timestamp.is_some())?;
    Ok(BatchPlan {
        kind,
        statements,
        using,
    })
}

/// The refusal of anything but a write in a batch.
pub fn only_writes() -> CqlError {
    CqlError::invalid("Invalid statement in batch: only UPDATE, INSERT and DELETE statements are allowed.")
}
