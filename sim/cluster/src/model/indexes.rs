//! Secondary indexes, as far as the schema knows them. Nothing is stored for one: what it changes is which queries need no
//! ALLOW FILTERING, and those are answered by looking at the rows.

use super::schema::{Schema, SchemaEffect, SchemaError, SchemaTarget, Table, TableId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What of a column is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexedPart {
    /// The value.
    Whole,
    /// A frozen collection, `full(c)`.
    Full,
    /// The elements of a collection, `values(c)`.
    Values,
    /// The keys of a map.
    Keys,
    /// The entries of a map.
    Entries,
}

/// An index of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its name: one in its keyspace.
    pub name: String,
    /// The column.
    pub column: String,
    /// What of it.
    pub part: IndexedPart,
    /// The class of a CUSTOM one.
    pub class: Option<String>,
    /// WITH OPTIONS.
    pub options: BTreeMap<String, String>,
}

fn refused<T>(what: String) -> Result<T, SchemaError> {
    Err(SchemaError::Refused { what })
}

/// Without what is no letter, digit or underscore.
fn words(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

impl Table {
    /// Refuses to change a column that has indexes; `cannot` says what cannot be done with it.
    pub(super) fn check_unindexed(&self, cannot: &str, column: &str) -> Result<(), SchemaError> {
        let of_column = self.indexes.iter().filter(|i| i.column == column);
        let names: Vec<&str> = of_column.map(|i| i.name.as_str()).collect();
        if names.is_empty() {
            return Ok(());
        }
        refused(format!(
            "{cannot} column {column} because it has dependent secondary indexes ({})",
            names.join(", ")
        ))
    }
}

impl Schema {
    /// The table of the index of that name.
    pub fn index_table(&self, keyspace: &str, index: &str) -> Option<&Arc<Table>> {
        self.all_tables()
            .find(|t| t.keyspace == keyspace && t.indexes.iter().any(|i| i.name == index))
    }

    /// The name that an index gets which was given none.
    fn free_index_name(&self, keyspace: &str, table: &str, column: &str) -> String {
        let base = format!("{}_{}_idx", words(table), words(column));
        let numbered = (1..).map(|n| format!("{base}_{n}"));
        let mut names = std::iter::once(base.clone()).chain(numbered);
        names
            .find(|name| self.index_table(keyspace, name).is_none())
            .unwrap_or(base)
    }

    /// CREATE INDEX; an empty name means that it is to have one.
    pub(super) fn create_index(
        &mut self,
        keyspace: &str,
        table: &str,
        new: &Index,
        if_not_exists: bool,
    ) -> Result<SchemaEffect, SchemaError> {
        if self.index_table(keyspace, &new.name).is_some() {
            return match if_not_exists {
                true => Ok(SchemaEffect::Nothing),
                false => refused(format!("Index '{}' already exists", new.name)),
            };
        }
        let mut new = new.clone();
        if new.name.is_empty() {
            new.name = self.free_index_name(keyspace, table, &new.column);
        }
        let same = |i: &Index| (&i.column, i.part, &i.class) == (&new.column, new.part, &new.class);
        let known = self.table_named(keyspace, table);
        if let Some(old) = known.and_then(|t| t.indexes.iter().find(|i| same(i))) {
            return match if_not_exists {
                true => Ok(SchemaEffect::Nothing),
                false => refused(format!(
                    "Index {} is a duplicate of existing index {}",
                    new.name, old.name
                )),
            };
        }
        self.alter(keyspace, table, |t| {
            t.indexes.push(new);
            t.indexes.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(())
        })
    }

    /// DROP INDEX.
    pub(super) fn drop_index(
        &mut self,
        keyspace: &str,
        name: &str,
        if_exists: bool,
    ) -> Result<SchemaEffect, SchemaError> {
        let Some(table) = self.index_table(keyspace, name).map(|t| t.name.clone()) else {
            return match if_exists {
                true => Ok(SchemaEffect::Nothing),
                false => refused(format!("Index '{keyspace}.{name}' doesn't exist'")),
            };
        };
        self.alter(keyspace, &table, |t| {
            t.indexes.retain(|i| i.name != name);
            Ok(())
        })?;
        let keyspace = keyspace.to_owned();
        Ok(SchemaEffect::Updated(SchemaTarget::Table { keyspace, table }))
    }

    /// The indexes of all tables, as logs keep them behind the rest of a schema.
    pub(super) fn indexes(&self) -> Vec<(TableId, Vec<Index>)> {
        let tables = self.all_tables().filter(|t| !t.indexes.is_empty());
        tables.map(|t| (t.id, t.indexes.clone())).collect()
    }

    /// Puts what [`Schema::indexes`] gave into the tables.
    pub(super) fn put_indexes(&mut self, indexes: Vec<(TableId, Vec<Index>)>) {
        for (id, list) in indexes {
            if let Some(Some(table)) = self.tables.get_mut(usize::from(id.0)) {
                Arc::make_mut(table).indexes = list;
            }
        }
    }
}
