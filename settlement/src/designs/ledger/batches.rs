//! Batches as the driver wants them: a list of prepared statements, one per row. A statement is a few hundred bytes, and a
//! batch of several events has dozens; so batches that were answered are used again, and only those of their statements are
//! replaced that the next events do not have.

use std::sync::{Mutex, PoisonError};

use scylla::statement::batch::{Batch, BatchType};

use super::Statements;
use super::rows::{GroupRows, Shape, Table};

/// How many unused batches are kept: as many as are answered before the next ones leave, and about a megabyte.
const KEPT_MAX: usize = 64;

/// Batches that wait to be used again.
#[derive(Default)]
pub(super) struct Batches {
    unused: Mutex<Vec<Prepared>>,
}

/// A batch, and what its statements are.
pub(super) struct Prepared {
    tables: Vec<Table>,
    batch: Batch,
}

impl Prepared {
    fn new() -> Self {
        let mut batch = Batch::new(BatchType::Logged);
        batch.set_is_idempotent(true);
        Self {
            tables: Vec::new(),
            batch,
        }
    }

    /// What the driver takes.
    pub(super) const fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Makes its statements those that write these tables, in this order. A table whose symbol is unknown has none;
    /// verification refuses such trades.
    fn prepare(&mut self, statements: &Statements, tables: impl Iterator<Item = Table>) {
        let mut count = 0;
        for (table, statement) in tables.filter_map(|table| Some((table, statements.of(table)?))) {
            match self.tables.get_mut(count) {
                Some(had) if *had == table => {}
                Some(had) => {
                    *had = table;
                    self.batch.statements[count] = statement.clone().into();
                }
                None => {
                    self.tables.push(table);
                    self.batch.append_statement(statement.clone());
                }
            }
            count += 1;
        }
        self.tables.truncate(count);
        self.batch.statements.truncate(count);
    }
}

impl Batches {
    /// The batch of these events.
    pub(super) fn take(&self, statements: &Statements, rows: &GroupRows<'_>) -> Prepared {
        let unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut batch = unused.unwrap_or_else(Prepared::new);
        batch.prepare(statements, rows.shapes().flat_map(Shape::tables));
        batch
    }

    /// Keeps a batch that is answered.
    pub(super) fn give(&self, batch: Prepared) {
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        if unused.len() < KEPT_MAX {
            unused.push(batch);
        }
    }
}
