//! Writes that need to know what is there (elements of lists by index or value): gathered with their values, and made once
//! the reads are answered.

use super::checks::with_computed;
use super::{Answer, Call, Front, PendingKind};
use crate::cql::bind::batch::{only_stored, only_writes};
use crate::cql::bind::write::{Scratch, WritePlan};
use crate::cql::bind::write_parts::Found;
use crate::cql::bind::{Plan, Prepared};
use crate::cql::error::CqlError;
use crate::cql::frame::{Batch, Value};
use crate::model::{self, Consistency, Derive, DerivedWrite, ReadCommand, ReadResult, WriteKind, WriteSet};
use std::sync::Arc;

/// A value that outlives its frame.
#[derive(Debug)]
enum Kept {
    Bytes(Vec<u8>),
    Null,
    Unset,
}

/// One statement with its values.
#[derive(Debug)]
struct Item {
    statement: Arc<Prepared>,
    /// Which of a batch's.
    index: usize,
    bound: Vec<Kept>,
    /// How many of the reads are its.
    reads: usize,
}

/// Statements of one request.
#[derive(Debug)]
pub(super) struct Gathered {
    kind: WriteKind,
    items: Vec<Item>,
    reads: Vec<ReadCommand>,
}

/// What the write becomes.
#[derive(Debug)]
struct Statements(Vec<Item>);

fn plan(statement: &Prepared, index: usize) -> Option<&WritePlan> {
    match &statement.plan {
        Plan::Write(write) => Some(write),
        Plan::Batch(batch) => batch.statements.get(index),
        _ => None,
    }
}

impl Derive for Statements {
    fn writes(&self, read: &[ReadResult]) -> Result<WriteSet, String> {
        let (mut writes, mut scratch, mut rest) = (WriteSet::new(), Scratch::default(), read);
        for item in &self.0 {
            let (own, others) = rest.split_at(item.reads.min(rest.len()));
            rest = others;
            let bound: Vec<Value<'_>> = item
                .bound
                .iter()
                .map(|v| match v {
                    Kept::Bytes(b) => Value::Bytes(b),
                    Kept::Null => Value::Null,
                    Kept::Unset => Value::Unset,
                })
                .collect();
            let Some(write) = plan(&item.statement, item.index) else {
                continue;
            };
            let done = match write.needs_read() {
                true => write.execute_with(&bound, &Found::of(own), &mut writes),
                false => write.execute(&bound, &mut scratch, &mut writes),
            };
            done.map_err(|e| e.message)?;
        }
        Ok(writes)
    }
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
        let kept = |v: &Value<'_>| match v {
            Value::Bytes(b) => Kept::Bytes(b.to_vec()),
            Value::Null => Kept::Null,
            Value::Unset => Kept::Unset,
        };
        self.items.push(Item {
            statement: statement.clone(),
            index,
            bound: bound.iter().map(kept).collect(),
            reads: self.reads.len() - before,
        });
        Ok(())
    }

    pub(super) fn finish(
        self,
        consistency: Consistency,
        timestamp_us: Option<i64>,
        timeout_ms: Option<u32>,
    ) -> (model::Request, PendingKind) {
        let first = self.items.first();
        let first = first.and_then(|i| Some(plan(&i.statement, i.index)?.table.clone()));
        let request = DerivedWrite {
            reads: self.reads,
            derive: Arc::new(Statements(self.items)),
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
        while let Some(statement) = batch.next_statement(&mut bound)? {
            let prepared = self.statement_of(call, keyspace, statement)?;
            if matches!(&prepared.plan, Plan::Write(w) if w.conditions.is_some()) {
                return Err(CqlError::unsupported(
                    "elements of a list by index or value in a conditional request",
                ));
            }
            prepared.check_in_batch(&bound)?;
            let computed = self.computed(call.node, &prepared, &bound)?;
            gathered.add(&prepared, 0, &with_computed(&bound, &computed))?;
        }
        let params = batch.finish()?;
        let consistency = super::level(params.consistency)?;
        Ok(Some(gathered.finish(consistency, params.timestamp_us, None)))
    }
}
