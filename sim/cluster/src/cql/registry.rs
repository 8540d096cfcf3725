//! Every statement prepared on any node of a cluster, by id. A node forgets its statements when it restarts; a tap on a
//! client's connections must not, because the client goes on using the ids until it is told.

use super::bind::{Prepared, StatementId};
use crate::model::Schema;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Statements kept at most; above it new ones are not noted. As many as a node keeps.
const STATEMENTS_MAX: usize = 10_000;

/// A shared table of prepared statements. Clones are the same table.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    statements: BTreeMap<StatementId, Arc<Prepared>>,
    schema: Arc<Schema>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a statement, prepared against `schema`. The newest schema and the newest form of a statement are kept.
    pub fn note(&self, statement: &Arc<Prepared>, schema: &Arc<Schema>) {
        let mut inner = self.lock();
        if schema.change >= inner.schema.change {
            inner.schema = schema.clone();
        }
        if inner.statements.len() < STATEMENTS_MAX || inner.statements.contains_key(&statement.id) {
            inner.statements.insert(statement.id, statement.clone());
        }
    }

    /// The statement with this id.
    pub fn statement(&self, id: &StatementId) -> Option<Arc<Prepared>> {
        self.lock().statements.get(id).cloned()
    }

    /// The newest schema that a statement was prepared against.
    pub fn schema(&self) -> Arc<Schema> {
        self.lock().schema.clone()
    }
}
