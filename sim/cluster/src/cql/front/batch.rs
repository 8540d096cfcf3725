//! BATCH frames: their statements become one write, or one conditional request if any of them has conditions.

use super::checks::{level, moment, only_counted, only_timely};
use super::{Answer, Call, Connection, Front, PendingKind, submit_cas, submit_write};
use crate::cql::bind::batch::{batch_kind, only_stored, only_writes};
use crate::cql::bind::{Plan, Prepared};
use crate::cql::cas;
use crate::cql::frame::{Batch, BatchKind, StatementRef, Value};
use crate::cql::parse::ast;
use crate::model::{self, WriteRequest, WriteSet};
use std::sync::Arc;

impl Front {
    /// The hot path: a BATCH of prepared statements becomes one [`WriteSet`].
    pub(super) fn batch(
        &mut self,
        call: &mut Call<'_>,
        connection: &Connection,
        mut batch: Batch<'_>,
    ) -> Answer<Option<(model::Request, PendingKind)>> {
        let kind = match batch.kind {
            BatchKind::Logged => ast::BatchKind::Logged,
            BatchKind::Unlogged => ast::BatchKind::Unlogged,
            BatchKind::Counter => ast::BatchKind::Counter,
        };
        let (mut has_counters, mut has_others) = (false, false);
        let keyspace = batch.keyspace()?.or(connection.keyspace.as_deref());
        let mut writes = WriteSet::with_capacity(batch.expected_bytes(), usize::from(batch.count));
        let mut bound: Vec<Value<'_>> = Vec::with_capacity(32);
        let mut first = None;
        let whole = batch.clone();
        while let Some(statement) = batch.next_statement(&mut bound)? {
            let parsed;
            let prepared: &Prepared = match statement {
                StatementRef::Prepared(id) => self.statements.get(id, call.node.schema)?,
                StatementRef::Text(text) => {
                    parsed = self.resolve(call, keyspace, text)?;
                    &parsed
                }
            };
            let Plan::Write(write) = &prepared.plan else {
                return Err(only_writes());
            };
            only_stored(write)?;
            if write.conditions.is_some() {
                if kind == ast::BatchKind::Counter {
                    // No counter has conditions.
                    return batch_kind(kind, false, true, false).map(|_| None);
                }
                return self.conditional_batch(call, keyspace, whole);
            }
            prepared.check_in_batch(&bound)?;
            only_timely(call, || write.own_timestamp(&bound))?;
            has_counters |= write.is_counter;
            has_others |= !write.is_counter;
            if write.needs_read() {
                let kind = batch_kind(kind, has_counters, has_others, false)?;
                return self.derived_batch(call, keyspace, whole, kind);
            }
            if prepared.takes_as_sent() {
                write.execute(&bound, &mut self.scratch, &mut writes)?;
            } else {
                let owned = prepared.owned(&bound, &moment(call.node, &self.uuids))?;
                write.execute(&owned.with(&bound), &mut self.scratch, &mut writes)?;
            }
            if first.is_none() {
                first = Some(write.table.clone());
            }
        }
        let params = batch.finish()?;
        let (consistency, timestamp_us) = (level(params.consistency)?, params.timestamp_us);
        let kind = batch_kind(kind, has_counters, has_others, false)?;
        if has_counters {
            only_counted(consistency, first.as_deref())?;
        }
        Ok(submit_write(
            call,
            WriteRequest {
                kind,
                consistency,
                writes,
                timestamp_us,
                timeout_ms: None,
            },
            first,
        ))
    }

    /// A statement of a BATCH, to be kept for longer than the look at it.
    pub(super) fn statement_of(
        &mut self,
        call: &Call<'_>,
        keyspace: Option<&str>,
        statement: StatementRef<'_>,
    ) -> Answer<Arc<Prepared>> {
        match statement {
            StatementRef::Prepared(id) => self.statements.get(id, call.node.schema).cloned(),
            StatementRef::Text(text) => self.resolve(call, keyspace, text).map(Arc::new),
        }
    }

    /// A BATCH of which some statement has conditions, from its first statement.
    pub(super) fn conditional_batch(
        &mut self,
        call: &mut Call<'_>,
        keyspace: Option<&str>,
        mut batch: Batch<'_>,
    ) -> Answer<Option<(model::Request, PendingKind)>> {
        let mut gathered = cas::Gathered::new(self.server.dialect, true);
        let mut bound: Vec<Value<'_>> = Vec::new();
        while let Some(statement) = batch.next_statement(&mut bound)? {
            let prepared = self.statement_of(call, keyspace, statement)?;
            let Plan::Write(write) = &prepared.plan else {
                return Err(only_writes());
            };
            only_stored(write)?;
            prepared.check_in_batch(&bound)?;
            let owned = self.owned(call.node, &prepared, &bound)?;
            gathered.add(&prepared, 0, &owned.with(&bound), &mut self.scratch)?;
        }
        let params = batch.finish()?;
        submit_cas(
            call,
            gathered,
            level(params.consistency)?,
            params.serial_consistency,
            false,
        )
    }
}
