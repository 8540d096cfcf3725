//! Prepares the statements of a design, each once, from the registry of tables, and compares what the database says it
//! binds with what our rows bind. A table that was altered is noticed here and not by a row in the wrong column.

use schema::TableDef;
use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::statement::prepared::PreparedStatement;

use super::row::Columns;

/// Why a design's statements cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The database does not take a statement.
    #[error(
        "the database does not prepare {statement:?}: {source}. Run `settlement migrate`, or check that `keyspace` is \
         the one of this design"
    )]
    Prepare {
        /// The statement.
        statement: String,
        /// What the driver says.
        source: Box<PrepareError>,
    },
    /// The registry of tables does not have a table. Only a defect of ours can cause it.
    #[error("the schema has no table {table}")]
    NoTable {
        /// Which one.
        table: String,
    },
    /// The database binds other columns than our rows.
    #[error("{statement:?} binds {found:?}, but settlement's rows have {expected:?}: was the table altered?")]
    Columns {
        /// The statement.
        statement: String,
        /// What the database binds.
        found: Vec<String>,
        /// What our rows bind.
        expected: Vec<&'static str>,
    },
}

/// The tables of a keyspace, to prepare statements for.
#[derive(Clone, Copy)]
pub struct Preparer<'a> {
    /// The connection.
    pub session: &'a Session,
    /// The keyspace.
    pub keyspace: &'a str,
    /// Its tables.
    pub defs: &'a [TableDef],
}

impl Preparer<'_> {
    /// The table with this name.
    pub fn def(&self, table: &str) -> Result<&TableDef, StatementError> {
        self.defs
            .iter()
            .find(|def| def.name == table)
            .ok_or_else(|| StatementError::NoTable {
                table: table.to_owned(),
            })
    }

    /// The `INSERT` of every column of a table, with the timestamp pinned where the registry says so. Such a write may
    /// be repeated, and the driver is told; a write under the server's clock is another write each time.
    pub async fn insert<R: Columns>(&self, table: &str) -> Result<PreparedStatement, StatementError> {
        let def = self.def(table)?;
        let statement = def.insert_cql(self.keyspace);
        let mut prepared = self.prepare_for::<R>(&statement, usize::from(def.is_pinned())).await?;
        prepared.set_is_idempotent(def.is_pinned());
        Ok(prepared)
    }

    /// The `UPDATE` that adds to every counter of a table. Doing it twice adds twice, and the driver is told.
    pub async fn add<R: Columns>(&self, table: &str) -> Result<PreparedStatement, StatementError> {
        let statement = self.def(table)?.add_cql(self.keyspace);
        let mut prepared = self.prepare_for::<R>(&statement, 0).await?;
        prepared.set_is_idempotent(false);
        Ok(prepared)
    }

    /// Prepares a statement that binds a row's columns and then so many values that are no columns.
    async fn prepare_for<R: Columns>(
        &self,
        statement: &str,
        beside: usize,
    ) -> Result<PreparedStatement, StatementError> {
        let prepared = self.prepare(statement).await?;
        let specs = prepared.get_variable_col_specs();
        let found: Vec<&str> = specs.iter().map(|spec| spec.name()).collect();
        let expected = R::COLUMNS;
        if found.len() != expected.len() + beside || found[..expected.len()] != *expected {
            return Err(StatementError::Columns {
                statement: statement.to_owned(),
                found: found.into_iter().map(str::to_owned).collect(),
                expected: expected.to_vec(),
            });
        }
        Ok(prepared)
    }

    /// A `SELECT` of some columns by equality on some key columns.
    pub async fn select(
        &self,
        table: &str,
        columns: &[&str],
        by: &[&str],
    ) -> Result<PreparedStatement, StatementError> {
        let statement = self.def(table)?.select_cql(self.keyspace, columns, by);
        let mut prepared = self.prepare(&statement).await?;
        prepared.set_is_idempotent(true);
        Ok(prepared)
    }

    async fn prepare(&self, statement: &str) -> Result<PreparedStatement, StatementError> {
        self.session
            .prepare(statement)
            .await
            .map_err(|source| StatementError::Prepare {
                statement: statement.to_owned(),
                source: Box::new(source),
            })
    }
}
