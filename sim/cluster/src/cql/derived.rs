//! Statements whose writes depend on what is there (elements of lists by index or value), kept with their values until it has
//! been read.

use super::bind::write::{Scratch, WritePlan};
use super::bind::write_parts::Found;
use super::bind::{Plan, Prepared};
use super::frame::Value;
use crate::model::{ColumnId, Derive, ReadResult, WriteSet};
use std::sync::Arc;

/// A value that outlives its frame.
#[derive(Debug)]
enum Kept {
    Bytes(Vec<u8>),
    Null,
    Unset,
}

/// What was read for a statement.
#[derive(Debug, Clone, Copy)]
pub enum Read {
    /// The next so many results.
    Own(usize),
    /// Everything: what a round of Paxos read. Its time is the ballot's, too.
    OfRound,
}

/// One statement with its values.
#[derive(Debug)]
pub struct Item {
    statement: Arc<Prepared>,
    /// Which of a batch's.
    index: usize,
    bound: Vec<Kept>,
    read: Read,
}

impl Item {
    /// Statement `index` of a batch, or 0, with its values, computed ones included.
    pub fn new(statement: &Arc<Prepared>, index: usize, bound: &[Value<'_>], read: Read) -> Item {
        let kept = |v: &Value<'_>| match v {
            Value::Bytes(b) => Kept::Bytes(b.to_vec()),
            Value::Null => Kept::Null,
            Value::Unset => Kept::Unset,
        };
        Item {
            statement: statement.clone(),
            index,
            bound: bound.iter().map(kept).collect(),
            read,
        }
    }

    /// The statement.
    pub fn plan(&self) -> Option<&WritePlan> {
        plan(&self.statement, self.index)
    }

    fn bound(&self) -> Vec<Value<'_>> {
        let values = self.bound.iter().map(|v| match v {
            Kept::Bytes(b) => Value::Bytes(b),
            Kept::Null => Value::Null,
            Kept::Unset => Value::Unset,
        });
        values.collect()
    }
}

/// Statement `index` of a batch, or the only one.
pub fn plan(statement: &Prepared, index: usize) -> Option<&WritePlan> {
    match &statement.plan {
        Plan::Write(write) => Some(write),
        Plan::Batch(batch) => batch.statements.get(index),
        _ => None,
    }
}

/// What they write.
#[derive(Debug)]
pub struct Statements {
    items: Vec<Item>,
    /// The static columns that a round of Paxos read; `None` stands for all.
    statics: Option<Vec<ColumnId>>,
}

impl Statements {
    /// These, whose reads are their own.
    pub fn new(items: Vec<Item>) -> Statements {
        Statements { items, statics: None }
    }

    /// These of a conditional request whose round reads these static columns; `None` stands for all.
    pub fn of_round(items: Vec<Item>, statics: Option<Vec<ColumnId>>) -> Statements {
        Statements { items, statics }
    }
}

impl Derive for Statements {
    fn write(&self, read: &[ReadResult], out: &mut WriteSet) -> Result<(), String> {
        let (mut scratch, mut rest) = (Scratch::default(), read);
        for item in &self.items {
            let (bound, Some(write)) = (item.bound(), item.plan()) else {
                continue;
            };
            let done = match item.read {
                Read::OfRound => {
                    let found = Found::of_round(read, self.statics.as_deref());
                    write.execute_in_cas_with(&bound, &found, out)
                }
                Read::Own(reads) => {
                    let (own, others) = rest.split_at(reads.min(rest.len()));
                    rest = others;
                    match write.needs_read() {
                        true => write.execute_with(&bound, &Found::of(own), out),
                        false => write.execute(&bound, &mut scratch, out),
                    }
                }
            };
            done.map_err(|e| e.message)?;
        }
        Ok(())
    }
}
