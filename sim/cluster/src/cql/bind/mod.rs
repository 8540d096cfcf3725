//! Statements against a schema: names become columns, markers get types, constants become bytes. The outcome is a
//! [`Prepared`]: a plan that turns bound values into the typed requests of `crate::model` without looking at text or
//! names again. QUERY goes the same way as PREPARE and EXECUTE, in one step.
//!
//! - `write`, `batch`: INSERT, UPDATE, DELETE and BATCH,
//! - `parts`, `write_parts`: writes of elements of collections, of fields, and of counters,
//! - `terms`: values, constant or computed when a statement is executed,
//! - `conditions`: IF,
//! - `relations`: WHERE,
//! - `select`, `selection`, `gather`, `view`: SELECT, what it computes, groups and sorting, and rows to the wire,
//! - `paging`: the opaque state between two pages,
//! - `ddl`, `ddl_types`, `ddl_views`, `options`: CREATE, ALTER, DROP, and what stands behind WITH.

pub mod batch;
pub mod conditions;
pub mod ddl;
pub mod ddl_indexes;
mod ddl_types;
pub mod ddl_views;
pub mod gather;
mod indexed;
mod options;
mod owned;
pub mod paging;
pub mod parts;
pub mod relations;
pub mod scanned;
pub mod select;
pub mod selection;
pub mod terms;
mod view;
pub mod write;
pub mod write_parts;

use super::dialect::Dialect;
use super::error::CqlError;
use super::frame::response::Columns;
use super::frame::{Value, Values};
use super::functions::Moment;
use super::parse::ast::{Describe, Parsed, Statement, TableName, Term};
use super::system;
use super::{cas, types, values};
use crate::model::{CqlType, Schema, Table};
use md5::{Digest, Md5};
use std::sync::Arc;
use terms::{Compute, source};

pub use owned::Owned;

/// Id of a prepared statement: MD5 of keyspace and text, as real servers make it.
pub type StatementId = [u8; 16];

/// What a statement is prepared against.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The schema as the node knows it.
    pub schema: &'a Schema,
    /// The connection's keyspace.
    pub keyspace: Option<&'a str>,
    /// What depends on the server's flavour and the cluster's shape.
    pub server: &'a Server,
}

/// What preparing depends on besides the schema.
#[derive(Debug, Clone)]
pub struct Server {
    /// What its CQL is like.
    pub dialect: &'static Dialect,
    /// Names of the data centres, for replication factors given for all of them.
    pub datacenters: Vec<String>,
}

/// A statement ready to be executed any number of times.
#[derive(Debug)]
pub struct Prepared {
    /// Its id.
    pub id: StatementId,
    /// Names and types of its markers, encoded.
    pub binds: Columns,
    /// The same, to check values and find named ones.
    pub bind_specs: Vec<(String, CqlType)>,
    /// Positions of the markers that make the partition key; empty when they do not.
    pub partition_key_indexes: Vec<u16>,
    /// Columns of its result, encoded; `None` for a statement without rows.
    pub result: Option<Columns>,
    /// Values that are computed when it is executed, which plans find behind the bound ones.
    pub computed: Vec<Compute>,
    /// Markers whose values may have sets or maps in them.
    pub unordered: Vec<usize>,
    /// What to do.
    pub plan: Plan,
}

/// What a statement does.
#[derive(Debug)]
pub enum Plan {
    /// INSERT, UPDATE, DELETE.
    Write(write::WritePlan),
    /// BEGIN BATCH.
    Batch(batch::BatchPlan),
    /// SELECT.
    Select(Box<select::SelectPlan>),
    /// CREATE, ALTER, DROP: resolved when executed, because only then must names exist.
    Schema(Statement),
    /// TRUNCATE.
    Truncate(Arc<Table>),
    /// USE.
    Use(String),
    /// DESCRIBE: looked up when executed.
    Describe(Describe),
}

/// The keyspace of traces, the only one of the server's own that clients may change.
pub const TRACES: &str = "system_traces";

impl Prepared {
    /// Whether `schema` still has the tables of this statement as they were when it was prepared.
    pub fn is_current(&self, schema: &Schema) -> bool {
        let same = |t: &Arc<Table>| schema.table(t.id).is_some_and(|now| Arc::ptr_eq(now, t) || now == t);
        match &self.plan {
            Plan::Write(w) => w.is_of_traces() || same(&w.table),
            Plan::Batch(b) => b.statements.iter().all(|w| same(&w.table)),
            Plan::Select(s) => s.is_system || same(&s.table),
            Plan::Truncate(t) => same(t),
            Plan::Schema(_) | Plan::Use(_) | Plan::Describe(_) => true,
        }
    }

    /// Checks bound values against the markers' types and puts them into `out` in the markers' order.
    ///
    /// `wrong_count` words the refusal of a wrong number of them: it depends on where the statement stands.
    ///
    /// # Errors
    /// A wrong number, a missing name, or a value that is not of its marker's type.
    #[inline]
    pub fn bind<'v>(
        &self,
        given: Values<'v>,
        out: &mut Vec<Value<'v>>,
        wrong_count: impl FnOnce(usize, usize) -> String,
    ) -> Result<(), CqlError> {
        out.clear();
        if given.is_named() {
            self.bind_named(given, out)?;
        } else {
            out.extend(given.iter().map(|(_, v)| v));
        }
        self.check(out, wrong_count)
    }

    /// Checks values that stand in the markers' order against the markers' number and types.
    ///
    /// # Errors
    /// As [`Prepared::bind`].
    #[inline]
    pub fn check(&self, bound: &[Value<'_>], wrong_count: impl FnOnce(usize, usize) -> String) -> Result<(), CqlError> {
        if bound.len() != self.bind_specs.len() {
            return Err(CqlError::invalid(wrong_count(self.bind_specs.len(), bound.len())));
        }
        for (value, (_, ty)) in bound.iter().zip(&self.bind_specs) {
            if let Value::Bytes(bytes) = value {
                values::validate(ty, bytes)?;
            }
        }
        Ok(())
    }

    /// As [`Prepared::check`], for a statement of a BATCH.
    ///
    /// # Errors
    /// As [`Prepared::bind`].
    #[inline]
    pub fn check_in_batch(&self, bound: &[Value<'_>]) -> Result<(), CqlError> {
        self.check(bound, |markers, given| {
            format!("There were {markers} markers(?) in CQL but {given} bound variables")
        })
    }

    /// The values computed for these bound ones, to be put behind them; none for nearly all statements.
    ///
    /// # Errors
    /// What functions refuse, and nulls inside collections.
    pub fn compute(&self, bound: &[Value<'_>], moment: &Moment) -> Result<Vec<Option<Vec<u8>>>, CqlError> {
        self.computed.iter().map(|c| c.value(bound, moment)).collect()
    }

    /// Whether it needs no values but those that it is sent.
    #[inline]
    pub fn takes_as_sent(&self) -> bool {
        self.computed.is_empty() && self.unordered.is_empty()
    }

    /// What it needs beside these bound values, or in the place of some.
    ///
    /// # Errors
    /// As [`Prepared::compute`].
    pub fn owned(&self, bound: &[Value<'_>], moment: &Moment) -> Result<Owned, CqlError> {
        let ordered = |at: &usize| match bound.get(*at) {
            Some(Value::Bytes(bytes)) => Some((*at, owned::ordered(&self.bind_specs.get(*at)?.1, bytes)?)),
            _ => None,
        };
        Ok(Owned {
            computed: self.compute(bound, moment)?,
            ordered: self.unordered.iter().filter_map(ordered).collect(),
        })
    }

    fn bind_named<'v>(&self, given: Values<'v>, out: &mut Vec<Value<'v>>) -> Result<(), CqlError> {
        for (name, _) in &self.bind_specs {
            let found = given
                .iter()
                .find(|(n, _)| n.is_some_and(|n| n.eq_ignore_ascii_case(name)));
            match found {
                Some((_, value)) => out.push(value),
                None => return Err(CqlError::invalid(format!("Missing value for bind variable {name}"))),
            }
        }
        Ok(())
    }
}

/// Resolves a parsed statement.
///
/// # Errors
/// 0x2200 and its kin, with the texts of real servers where they are known.
pub fn prepare(context: &Context<'_>, text: &str, parsed: Parsed) -> Result<Prepared, CqlError> {
    let mut binds = Binds::new(parsed.markers, context.server.dialect);
    let (plan, result) = match parsed.statement {
        Statement::Insert(insert) => single(context, write::insert(context, &insert, &mut binds)?),
        Statement::Update(update) => single(context, write::update(context, &update, &mut binds)?),
        Statement::Delete(delete) => single(context, write::delete(context, &delete, &mut binds)?),
        Statement::Batch(batch) => {
            let plan = batch::batch(context, &batch, &mut binds)?;
            let statements: Vec<_> = plan.statements.iter().collect();
            let columns = cas::prepared_columns(&statements, context.server.dialect, true);
            (Plan::Batch(plan), columns)
        }
        Statement::Select(select) => {
            let plan = select::plan(context, &select, &mut binds)?;
            let columns = plan.result_columns();
            (Plan::Select(Box::new(plan)), Some(columns))
        }
        Statement::Truncate(name) => {
            let table = user_table(context, &name)?;
            ddl_views::check_truncate(context, &table)?;
            (Plan::Truncate(table), None)
        }
        Statement::Use(keyspace) => (Plan::Use(keyspace), None),
        Statement::Describe(what) => (Plan::Describe(what), None),
        ddl @ (Statement::CreateKeyspace(_)
        | Statement::DropKeyspace { .. }
        | Statement::AlterKeyspace { .. }
        | Statement::CreateTable(_)
        | Statement::AlterTable { .. }
        | Statement::DropTable { .. }
        | Statement::CreateIndex(_)
        | Statement::DropIndex { .. }
        | Statement::CreateType { .. }
        | Statement::AlterType { .. }
        | Statement::DropType { .. }
        | Statement::CreateView(_)
        | Statement::AlterView { .. }
        | Statement::DropView { .. }) => (Plan::Schema(qualified(context, ddl)?), None),
    };
    let partition_key_indexes = match &plan {
        Plan::Write(w) => w.partition_key_markers(),
        // Seen: the indexes of the last statement of a batch, and none of a batch over several tables.
        Plan::Batch(b) => match b.statements.as_slice() {
            [first, .., last] if first.table.id != last.table.id => Vec::new(),
            [.., last] => last.partition_key_markers(),
            [] => Vec::new(),
        },
        Plan::Select(s) => s.partition_key_markers(),
        _ => Vec::new(),
    };
    let markers = binds.names.len() as u16;
    let partition_key_indexes = match partition_key_indexes.iter().all(|i| *i < markers) {
        true => partition_key_indexes,
        false => Vec::new(),
    };
    let tables = binds.take_tables();
    let partition_key_indexes = match tables.is_empty() {
        true => partition_key_indexes,
        false => Vec::new(),
    };
    let (bind_specs, computed) = binds.finish()?;
    let (ks, table) = match &plan {
        Plan::Write(w) => (w.table.keyspace.as_str(), w.table.name.as_str()),
        Plan::Batch(b) => b
            .statements
            .first()
            .map_or(("", ""), |w| (w.table.keyspace.as_str(), w.table.name.as_str())),
        Plan::Select(s) => (s.table.keyspace.as_str(), s.table.name.as_str()),
        _ => ("", ""),
    };
    let specs = bind_specs.iter().map(|(n, t)| (n.as_str(), t));
    let encoded = match tables.len() == bind_specs.len() && !tables.is_empty() {
        true => {
            let tables = tables
                .iter()
                .map(|(keyspace, table)| (keyspace.as_str(), table.as_str()));
            types::columns_apart(tables.zip(specs))
        }
        false => types::columns(ks, table, specs),
    };
    let id = statement_id(context.keyspace, text);
    let may_be_unordered = |at: &usize| owned::has_order(&bind_specs[*at].1);
    Ok(Prepared {
        unordered: (0..bind_specs.len()).filter(may_be_unordered).collect(),
        id,
        binds: encoded,
        bind_specs,
        partition_key_indexes,
        result,
        computed,
        plan,
    })
}

fn single(context: &Context<'_>, plan: write::WritePlan) -> (Plan, Option<Columns>) {
    let columns = cas::prepared_columns(&[&plan], context.server.dialect, false);
    (Plan::Write(plan), columns)
}

/// The id of a statement prepared with `text` on a connection that uses `keyspace`.
pub fn statement_id(keyspace: Option<&str>, text: &str) -> StatementId {
    let mut hash = Md5::new();
    hash.update(keyspace.unwrap_or(""));
    hash.update(text);
    hash.finalize().into()
}

/// Names and types of markers.
type Specs = Vec<(String, CqlType)>;

/// Markers of a statement, getting their names and types as its parts are resolved.
#[derive(Debug)]
pub struct Binds {
    names: Vec<Option<String>>,
    specs: Vec<Option<(String, CqlType)>>,
    /// Keyspace and table of each, where a statement has several.
    tables: Vec<(String, String)>,
    computed: Vec<Compute>,
    dialect: &'static Dialect,
    /// A variable that would be of two types.
    conflict: Option<CqlError>,
}

impl Binds {
    /// Markers with the names they have in the text.
    pub fn new(names: Vec<Option<String>>, dialect: &'static Dialect) -> Self {
        let specs = names.iter().map(|_| None).collect();
        Self {
            names,
            specs,
            tables: Vec::new(),
            computed: Vec::new(),
            dialect,
            conflict: None,
        }
    }

    /// Keeps a value to be computed; says where it will be.
    fn compute(&mut self, value: Compute) -> Result<Source, CqlError> {
        self.computed.push(value);
        u16::try_from(self.names.len() + self.computed.len() - 1)
            .map(Source::Marker)
            .map_err(|_| CqlError::invalid("too many bind markers"))
    }

    /// Says what marker `index` stands for; `name` is used where the text gives none.
    fn set(&mut self, index: usize, name: &str, ty: CqlType) {
        let variable = self.names[index].clone().unwrap_or_else(|| name.to_string());
        let is_shared = self.dialect.markers_share_names && self.names[index].is_some();
        let earlier = self.specs[index].as_ref().filter(|_| is_shared);
        if let Some((_, earlier)) = earlier.filter(|(_, earlier)| *earlier != ty) {
            // S `prepare_context::add_variable_specification`.
            let earlier = types::name(earlier);
            let message = format!("variable :{variable} has type {earlier} which doesn't match {name}");
            self.conflict.get_or_insert_with(|| CqlError::invalid(message));
        }
        self.specs[index] = Some((variable, ty));
    }

    /// Says to which table the markers belong that were seen since the last time.
    fn attribute(&mut self, keyspace: &str, table: &str) {
        let seen = self.specs.iter().take_while(|s| s.is_some()).count();
        self.tables
            .resize_with(seen.max(self.tables.len()), || (keyspace.to_owned(), table.to_owned()));
    }

    /// Their tables, where these are not all the same.
    fn take_tables(&mut self) -> Vec<(String, String)> {
        let tables = std::mem::take(&mut self.tables);
        match tables.windows(2).any(|w| w[0] != w[1]) {
            true => tables,
            false => Vec::new(),
        }
    }

    fn finish(self) -> Result<(Specs, Vec<Compute>), CqlError> {
        if let Some(conflict) = self.conflict {
            return Err(conflict);
        }
        let specs: Option<Vec<_>> = self.specs.into_iter().collect();
        specs
            .map(|specs| (specs, self.computed))
            .ok_or_else(|| CqlError::unsupported("a bind marker whose type cannot be known"))
    }
}

/// Where a value comes from when a statement is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The bound value at this position, or behind all of them a computed one.
    Marker(u16),
    /// Bytes of the statement itself.
    Constant(Vec<u8>),
    /// NULL in the statement itself.
    Null,
}

impl Source {
    /// The value for these bound values.
    #[inline]
    pub fn value<'a>(&'a self, bound: &[Value<'a>]) -> Value<'a> {
        match self {
            // A computed value is missing where a statement is only looked at (`crate::host::tap`).
            Source::Marker(i) => bound.get(usize::from(*i)).copied().unwrap_or(Value::Unset),
            Source::Constant(bytes) => Value::Bytes(bytes),
            Source::Null => Value::Null,
        }
    }
}

/// The number in the bytes of an `int`; 0 for an empty one.
fn int_value(bytes: &[u8]) -> i32 {
    bytes.try_into().map_or(0, i32::from_be_bytes)
}

/// Reads an `[int]` attribute such as LIMIT or TTL; `None` when it is unset.
fn int_attribute(source: &Source, bound: &[Value<'_>], what: &str) -> Result<Option<i32>, CqlError> {
    match source.value(bound) {
        Value::Bytes(b) => match <[u8; 4]>::try_from(b) {
            Ok(b) => Ok(Some(i32::from_be_bytes(b))),
            Err(_) => Err(CqlError::invalid(format!("Invalid {what} value"))),
        },
        Value::Null => Err(CqlError::invalid(format!("Invalid null value of {what}"))),
        Value::Unset => Ok(None),
    }
}

/// USING TIMEOUT in milliseconds.
fn timeout_ms(context: &Context<'_>, term: Option<&Term>) -> Result<Option<u32>, CqlError> {
    use super::parse::ast::Literal;
    let Some(term) = term else { return Ok(None) };
    if !context.server.dialect.has_using_timeout {
        return Err(CqlError::invalid("USING TIMEOUT is not known to Cassandra"));
    }
    let Term::Literal(Literal::Duration(text)) = term else {
        return Err(CqlError::unsupported("USING TIMEOUT other than as a constant"));
    };
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit_ms = match &text[split..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let parsed = text[..split]
        .parse::<u32>()
        .ok()
        .zip(unit_ms)
        .and_then(|(n, unit)| n.checked_mul(unit));
    match parsed {
        Some(ms) => Ok(Some(ms)),
        None => Err(CqlError::unsupported(format!(
            "the timeout {text} (whole ms, s, m or h)"
        ))),
    }
}

/// The keyspace of a name, or the connection's.
fn keyspace_of<'a>(context: &Context<'a>, name: &'a TableName) -> Result<&'a str, CqlError> {
    match name.keyspace.as_deref().or(context.keyspace) {
        Some(keyspace) => Ok(keyspace),
        None => Err(CqlError::invalid(
            "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename",
        )),
    }
}

/// A table that can be written, if it is no view. System tables cannot.
fn user_table(context: &Context<'_>, name: &TableName) -> Result<Arc<Table>, CqlError> {
    let keyspace = keyspace_of(context, name)?;
    if system::is_system_keyspace(keyspace) {
        return Err(system::not_modifiable(keyspace));
    }
    known_table(context, keyspace, &name.table)
}

/// A table that clients can write.
fn written_table(context: &Context<'_>, name: &TableName) -> Result<Arc<Table>, CqlError> {
    let table = user_table(context, name)?;
    ddl_views::check_write(context, &table)?;
    Ok(table)
}

/// A table that rows can be deleted from: those of a user, and traces.
fn deletable_table(context: &Context<'_>, name: &TableName) -> Result<Arc<Table>, CqlError> {
    match keyspace_of(context, name)? {
        TRACES => system::table(context.server, TRACES, &name.table).ok_or_else(|| no_table(context, &name.table)),
        _ => written_table(context, name),
    }
}

/// A table of the cluster, in the flavour's words if it is not there.
fn known_table(context: &Context<'_>, keyspace: &str, name: &str) -> Result<Arc<Table>, CqlError> {
    if !context.schema.keyspaces.contains_key(keyspace) {
        let word = if context.server.dialect.is_scylla() {
            "Keyspace"
        } else {
            "keyspace"
        };
        return Err(CqlError::invalid(format!("{word} {keyspace} does not exist")));
    }
    context
        .schema
        .table_named(keyspace, name)
        .cloned()
        .ok_or_else(|| no_table(context, name))
}

/// The refusal of a table that is not there, in the flavour's words.
fn no_table(context: &Context<'_>, table: &str) -> CqlError {
    if context.server.dialect.is_scylla() {
        return CqlError::invalid(format!("unconfigured table {table}"));
    }
    CqlError::invalid(format!("table {table} does not exist"))
}

/// The refusal of a column that is not there.
fn no_column(context: &Context<'_>, table: &Table, column: &str) -> CqlError {
    if context.server.dialect.is_scylla() {
        return CqlError::invalid(format!("Unrecognized name {column}"));
    }
    CqlError::invalid(format!(
        "Undefined column name {column} in table {}.{}",
        table.keyspace, table.name
    ))
}

/// Writes the connection's keyspace into a DDL statement that names none.
fn qualified(context: &Context<'_>, mut statement: Statement) -> Result<Statement, CqlError> {
    let name = match &mut statement {
        Statement::CreateTable(create) => &mut create.table,
        Statement::CreateIndex(create) => &mut create.table,
        Statement::DropIndex { name, .. } => name,
        Statement::AlterTable { table, .. } | Statement::DropTable { table, .. } => table,
        Statement::CreateView(create) => &mut create.name,
        Statement::CreateType { name, .. }
        | Statement::AlterType { name, .. }
        | Statement::DropType { name, .. }
        | Statement::AlterView { name, .. }
        | Statement::DropView { name, .. } => name,
        _ => return Ok(statement),
    };
    let keyspace = keyspace_of(context, name)?.to_string();
    name.keyspace = Some(keyspace);
    Ok(statement)
}
