//! Writes that need to know what is there (elements of lists by index or value): gathered with their values, and made once
//! the reads are answered.

use super::checks::only_timely;
use super::{Answer, Call, Front, PendingKind};
use crate::cql::bind::batch::{only_stored, only_writes};
use crate::cql::bind::{Plan, Prepared};
use crate::cql::derived::{Item, Read, Statements, plan};
use crate::cql::frame::{Batch, Value};
use crate::model::{self, Consistency, DerivedWrite, ReadCommand, WriteKind};
use std::sync::Arc;

/// Statements of one request.
#[derive(Debug)]
pub(super) struct Gathered {
    kind: WriteKind,
    items: Vec<Item>,
    reads: Vec<ReadCommand>,
}

impl Gathered {
    pub(super) fn new(kind: WriteKind) -> Gathered {
        Gathered {
            kind,
            items: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// Adds a statement with its values, computed ones included.
    pub(super) fn add(&mut self, statement: &Arc<Prepared>, index: usize, bound: &[Value<'_>]) -> Answer<()> {
        let Some(write) = plan(statement, index) else {
            return Err(only_writes());
        };
        only_stored(write)?;
        let before = self.reads.len();
        if write.needs_read() {
            self.reads.extend(write.reads(bound)?);
        }
        let read = Read::Own(self.reads.len() - before);
        self.items.push(Item::new(statement, index, bound, read));
        Ok(())
    }

    pub(super) fn finish(
        self,
        consistency: Consistency,
        timestamp_us: Option<i64>,
        timeout_ms: Option<u32>,
    ) -> (model::Request, PendingKind) {
        let first = self.items.first();
        let first = first.and_then(|i| Some(i.plan()?.table.clone()));
        let request = DerivedWrite {
            reads: self.reads,
            derive: Arc::new(Statements::new(self.items)),
            kind: self.kind,
            consistency,
            timestamp_us,
            timeout_ms,
        };
        (model::Request::Derived(Box::new(request)), PendingKind::Write { first })
    }
}

impl Front {
    /// A BATCH of which some statement needs a read, from its first statement.
    pub(super) fn derived_batch(
        &mut self,
        call: &mut Call<'_>,
        keyspace: Option<&str>,
        mut batch: Batch<'_>,
        kind: WriteKind,
    ) -> Answer<Option<(model::Request, PendingKind)>> {
        let mut gathered = Gathered::new(kind);
        let mut bound: Vec<Value<'_>> = Vec::new();
        let whole = batch.clone();
        while let Some(statement) = batch.next_statement(&mut bound)? {
            let prepared = self.statement_of(call, keyspace, statement)?;
            if matches!(&prepared.plan, Plan::Write(w) if w.conditions.is_some()) {
                return self.conditional_batch(call, keyspace, whole);
            }
            prepared.check_in_batch(&bound)?;
            if let Plan::Write(write) = &prepared.plan {
                only_timely(call, || write.own_timestamp(&bound))?;
            }
            let owned = self.owned(call.node, &prepared, &bound)?;
            gathered.add(&prepared, 0, &owned.with(&bound))?;
        }
        let params = batch.finish()?;
        let consistency = super::level(params.consistency)?;
        Ok(Some(gathered.finish(consistency, params.timestamp_us, None)))
    }
}
