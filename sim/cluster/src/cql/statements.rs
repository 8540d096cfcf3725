//! The prepared statements of one node, found by id. A batch names the same few statements in the same order again and
//! again, so each entry remembers which one came after it: the usual look-up is one comparison of 16 bytes.

use super::bind::{Prepared, StatementId};
use super::error::CqlError;
use crate::model::Schema;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Prepared statements a node keeps. Above it those with the lowest ids go: a bound on memory against a client that
/// prepares a new text for every request (real servers evict too, and say so in the text of UNPREPARED).
const STATEMENTS_MAX: usize = 10_000;

#[derive(Debug)]
struct Entry {
    statement: Arc<Prepared>,
    /// Number of the schema change against which it was last found current.
    checked_at: u64,
    /// The entry that was asked for after this one, last time it was another one.
    follower: usize,
    /// Forgotten: its place is free.
    is_gone: bool,
}

/// The statements of a node's process.
#[derive(Debug, Default)]
pub struct Statements {
    entries: Vec<Entry>,
    by_id: BTreeMap<StatementId, usize>,
    free: Vec<usize>,
    last: usize,
}

impl Statements {
    /// Keeps a statement that was prepared against the schema with this number.
    pub fn insert(&mut self, statement: Arc<Prepared>, checked_at: u64) {
        if self.by_id.len() >= STATEMENTS_MAX
            && let Some((_, place)) = self.by_id.pop_first()
        {
            self.forget(place);
        }
        let id = statement.id;
        let entry = Entry {
            statement,
            checked_at,
            follower: 0,
            is_gone: false,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.entries[place] = entry;
                place
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        if let Some(old) = self.by_id.insert(id, place) {
            self.forget(old);
        }
    }

    fn forget(&mut self, place: usize) {
        self.entries[place].is_gone = true;
        self.free.push(place);
    }

    /// The statement with this id.
    ///
    /// # Errors
    /// UNPREPARED when there is none, or when `schema` no longer has its tables as they were.
    #[inline]
    pub fn get(&mut self, id: &[u8], schema: &Schema) -> Result<&Arc<Prepared>, CqlError> {
        let place = self.place(id).ok_or_else(|| CqlError::unprepared(id))?;
        let entry = &mut self.entries[place];
        if entry.checked_at != schema.change {
            entry.checked_at = schema.change;
            if !entry.statement.is_current(schema) {
                self.by_id.remove(&entry.statement.id);
                self.forget(place);
                return Err(CqlError::unprepared(id));
            }
        }
        if self.last != place {
            self.entries[self.last].follower = place;
            self.last = place;
        }
        Ok(&self.entries[place].statement)
    }

    #[inline]
    fn place(&self, id: &[u8]) -> Option<usize> {
        let last = self.entries.get(self.last)?;
        for guess in [self.last, last.follower] {
            let entry = &self.entries[guess];
            if entry.statement.id == id && !entry.is_gone {
                return Some(guess);
            }
        }
        self.by_id.get(&StatementId::try_from(id).ok()?).copied()
    }
}
