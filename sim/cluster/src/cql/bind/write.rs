//! INSERT, UPDATE, DELETE and BATCH: from a resolved statement and bound values to records of a [`WriteSet`]. This is
//! the hot path of the simulator: executing allocates nothing beyond the growth of the set and one key buffer.

use super::conditions::{self, Conditions};
use super::parts::{self, PartsPlan};
use super::relations::{self, KeyPart, Restriction, check_clustering, check_partition_key, key_value};
use super::write_parts::Found;
use super::{
    Binds, Context, Source, TRACES, ddl_views, deletable_table, int_attribute, no_column, source, timeout_ms,
    user_table, written_table,
};
use crate::cql::error::{CqlError, Detail};
use crate::cql::frame::Value;
use crate::cql::parse::ast::{self, Using};
use crate::model::{
    ClusteringOrder, Column, ColumnId, ColumnKind, CqlType, OpKind, Table, TableId, WriteSet, partition_key_bytes,
};
use std::sync::Arc;

/// Seconds of a TTL at most: 20 years, Cassandra's `Attributes.MAX_TTL`.
const TTL_S_MAX: i32 = 630_720_000;

/// What kind of statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Insert,
    Update,
    Delete,
}

/// Which rows of a partition a statement is about.
#[derive(Debug)]
pub(super) enum Rows {
    /// None: only static cells, or the whole partition of a DELETE.
    None,
    /// The rows with these full clustering keys.
    Exact(Vec<KeyPart>),
    /// DELETE of the rows that start with these components and whose next one lies between the bounds.
    Range {
        equal: Vec<KeyPart>,
        lower: Option<(Source, bool)>,
        upper: Option<(Source, bool)>,
    },
}

/// An INSERT, UPDATE or DELETE.
#[derive(Debug)]
pub struct WritePlan {
    /// Table written.
    pub table: Arc<Table>,
    pub(super) verb: Verb,
    pub(super) partition: Vec<KeyPart>,
    pub(super) rows: Rows,
    /// Regular cells in ascending column order.
    cells: Vec<(ColumnId, Source)>,
    pub(super) statics: Vec<(ColumnId, Source)>,
    /// Instead of `cells` and `statics` where some operation is on a part of a column.
    pub(super) parts: Option<Box<PartsPlan>>,
    pub(super) using: Attributes,
    /// IF.
    pub conditions: Option<Conditions>,
    /// Whether its table is one of counters.
    pub is_counter: bool,
    /// Every key part is one value: no IN, so no product of keys.
    is_single: bool,
}

impl WritePlan {
    /// Whether it deletes traces, which no replica stores.
    pub fn is_of_traces(&self) -> bool {
        // The number of all tables of the server's own.
        self.table.id == TableId(u16::MAX)
    }
}

/// What stands in USING.
#[derive(Debug)]
pub(super) struct Attributes {
    pub timestamp: Option<Source>,
    pub ttl: Option<Source>,
    pub timeout_ms: Option<u32>,
}

pub(super) fn attributes(context: &Context<'_>, using: &Using, binds: &mut Binds) -> Result<Attributes, CqlError> {
    let timestamp = using
        .timestamp
        .as_ref()
        .map(|t| source(t, "[timestamp]", &CqlType::Bigint, binds))
        .transpose()?;
    let ttl = using
        .ttl
        .as_ref()
        .map(|t| source(t, "[ttl]", &CqlType::Int, binds))
        .transpose()?;
    Ok(Attributes {
        timestamp,
        ttl,
        timeout_ms: timeout_ms(context, using.timeout.as_ref())?,
    })
}

/// Resolves INSERT.
///
/// # Errors
/// Unknown names, missing keys, constants of the wrong type.
pub fn insert(context: &Context<'_>, insert: &ast::Insert, binds: &mut Binds) -> Result<WritePlan, CqlError> {
    let table = written_table(context, &insert.table)?;
    if table.is_counter() {
        return Err(CqlError::invalid(
            "INSERT statements are not allowed on counter tables, use UPDATE instead",
        ));
    }
    let mut given: Vec<(Column, Source)> = Vec::with_capacity(insert.columns.len());
    for (name, term) in insert.columns.iter().zip(&insert.values) {
        let column = table.column(name).ok_or_else(|| no_column(context, &table, name))?;
        given.push((column.clone(), source(term, name, &column.ty, binds)?));
    }
    let using = attributes(context, &insert.using, binds)?;
    let key = |columns: &[Column]| -> (Vec<KeyPart>, Vec<String>) {
        let (mut parts, mut missing) = (Vec::new(), Vec::new());
        for c in columns {
            match given.iter().find(|(g, _)| g.id == c.id) {
                Some((_, s)) => parts.push(KeyPart::One(s.clone())),
                None => missing.push(c.name.clone()),
            }
        }
        (parts, missing)
    };
    let (partition, missing) = key(table.partition_key());
    if !missing.is_empty() {
        return Err(missing_partition_key(&missing));
    }
    let (clustering, missing) = key(table.clustering());
    let of_kind = |kind| {
        let mut cells: Vec<_> = given
            .iter()
            .filter(|(c, _)| c.kind == kind)
            .map(|(c, s)| (c.id, s.clone()))
            .collect();
        cells.sort_by_key(|(id, _)| *id);
        cells
    };
    let (cells, statics) = (of_kind(ColumnKind::Regular), of_kind(ColumnKind::Static));
    // Static columns may be inserted without a row.
    let only_statics = !statics.is_empty() && cells.is_empty() && clustering.is_empty() && table.clustering_columns > 0;
    if !missing.is_empty() && !only_statics {
        return Err(missing_clustering(&missing));
    }
    let rows = if only_statics {
        Rows::None
    } else {
        Rows::Exact(clustering)
    };
    let conditions = conditions::resolve(context, &table, insert.conditions.as_ref(), binds)?;
    let parts = inserted_parts(&table, &cells, &statics)?;
    let is_single = parts.is_none();
    Ok(WritePlan {
        is_counter: false,
        table,
        conditions,
        verb: Verb::Insert,
        partition,
        rows,
        cells,
        statics,
        parts,
        using,
        is_single,
    })
}

/// The operations of an INSERT into collections.
fn inserted_parts(
    table: &Table,
    cells: &[(ColumnId, Source)],
    statics: &[(ColumnId, Source)],
) -> Result<Option<Box<PartsPlan>>, CqlError> {
    let ty = |id: ColumnId| table.column_by_id(id).map(|c| &c.ty);
    let of_parts = |(id, _): &(ColumnId, Source)| ty(*id).is_some_and(CqlType::is_multicell);
    if !cells.iter().chain(statics).any(of_parts) {
        return Ok(None);
    }
    let actions = |cells: &[(ColumnId, Source)]| -> Result<Vec<_>, CqlError> {
        let known = cells.iter().filter_map(|(id, s)| Some((*id, s, ty(*id)?)));
        known
            .map(|(id, s, ty)| Ok((id, parts::assigned(s.clone(), ty)?)))
            .collect()
    };
    Ok(Some(Box::new(PartsPlan {
        rows: actions(cells)?,
        statics: actions(statics)?,
    })))
}

fn missing_partition_key(missing: &[String]) -> CqlError {
    CqlError::invalid(format!("Some partition key parts are missing: {}", missing.join(", ")))
}

fn missing_clustering(missing: &[String]) -> CqlError {
    CqlError::invalid(format!("Some clustering keys are missing: {}", missing.join(", ")))
}

/// Resolves UPDATE.
///
/// # Errors
/// As [`insert`]; and what only counters and collections could do.
pub fn update(context: &Context<'_>, update: &ast::Update, binds: &mut Binds) -> Result<WritePlan, CqlError> {
    let table = user_table(context, &update.table)?;
    let using = attributes(context, &update.using, binds)?;
    let mut plan = PartsPlan::default();
    for (i, operation) in update.set.iter().enumerate() {
        let name = operation.column();
        let column = table.column(name).ok_or_else(|| no_column(context, &table, name))?;
        if !matches!(column.kind, ColumnKind::Regular | ColumnKind::Static) {
            return Err(CqlError::invalid(format!("PRIMARY KEY part {name} found in SET part")));
        }
        let earlier = update.set[..i].iter().filter(|o| o.column() == name);
        if earlier.into_iter().any(|o| !parts::compatible(o, operation)) {
            return Err(twice(context, name));
        }
        let action = parts::set(operation, column, binds)?;
        match column.kind {
            ColumnKind::Static => plan.statics.push((column.id, action)),
            _ => plan.rows.push((column.id, action)),
        }
    }
    ddl_views::check_write(context, &table)?;
    let conditions = conditions::resolve(context, &table, update.conditions.as_ref(), binds)?;
    let needs_row = !plan.rows.is_empty() || conditions.as_ref().is_some_and(|c| c.needs_row(&table));
    let needs = Needs {
        row: needs_row,
        statics_alone: !needs_row && !plan.statics.is_empty(),
    };
    let (partition, rows) = target(context, &table, &update.relations, binds, Verb::Update, needs)?;
    check_counter(&table, &using, conditions.as_ref())?;
    Ok(finished(table, conditions, Verb::Update, partition, rows, plan, using))
}

/// What writes of counters cannot have.
fn check_counter(table: &Table, using: &Attributes, conditions: Option<&Conditions>) -> Result<(), CqlError> {
    let what = match (table.is_counter(), conditions.is_some()) {
        (false, _) => return Ok(()),
        (true, true) => "Conditional updates are not supported on counter tables",
        (true, false) if using.timestamp.is_some() => "Cannot provide custom timestamp for counter updates",
        (true, false) if using.ttl.is_some() => "Cannot provide custom TTL for counter updates",
        (true, false) => return Ok(()),
    };
    Err(CqlError::invalid(what))
}

/// The plan of an UPDATE or DELETE: in the plain form where no operation is on a part of a column.
fn finished(
    table: Arc<Table>,
    conditions: Option<Conditions>,
    verb: Verb,
    partition: Vec<KeyPart>,
    rows: Rows,
    mut plan: PartsPlan,
    using: Attributes,
) -> WritePlan {
    // Stable: operations on one column stay in the order of the text.
    plan.rows.sort_by_key(|(id, _)| *id);
    plan.statics.sort_by_key(|(id, _)| *id);
    let is_plain = |list: &[(ColumnId, parts::Action)]| list.iter().all(|(_, a)| matches!(a, parts::Action::Whole(_)));
    let (mut cells, mut statics, mut parts) = (Vec::new(), Vec::new(), None);
    if is_plain(&plan.rows) && is_plain(&plan.statics) {
        let source = |(id, action): (ColumnId, parts::Action)| match action {
            parts::Action::Whole(s) => Some((id, s)),
            _ => None,
        };
        cells = plan.rows.into_iter().filter_map(source).collect();
        statics = plan.statics.into_iter().filter_map(source).collect();
    } else {
        parts = Some(Box::new(plan));
    }
    let is_single = is_single(&partition, &rows) && parts.is_none();
    WritePlan {
        is_counter: table.is_counter(),
        table,
        conditions,
        verb,
        partition,
        rows,
        cells,
        statics,
        parts,
        using,
        is_single,
    }
}

/// C `UpdateStatement` collects operations in the parser, so it is a syntax error there (seen).
fn twice(context: &Context<'_>, name: &str) -> CqlError {
    if context.server.dialect.is_scylla() {
        return CqlError::invalid(format!("Multiple definitions found for column {name}"));
    }
    CqlError {
        message: format!("Multiple incompatible setting of column {name}"),
        detail: Detail::Syntax,
    }
}

/// Resolves DELETE.
///
/// # Errors
/// As [`insert`].
pub fn delete(context: &Context<'_>, delete: &ast::Delete, binds: &mut Binds) -> Result<WritePlan, CqlError> {
    let table = deletable_table(context, &delete.table)?;
    let using = attributes(context, &delete.using, binds)?;
    if using.ttl.is_some() {
        return Err(CqlError::invalid("TTL attribute is not allowed for deletes"));
    }
    let mut plan = PartsPlan::default();
    for (name, part) in &delete.columns {
        let column = table.column(name).ok_or_else(|| no_column(context, &table, name))?;
        let list = match column.kind {
            ColumnKind::Regular => &mut plan.rows,
            ColumnKind::Static => &mut plan.statics,
            _ => {
                return Err(CqlError::invalid(format!(
                    "Invalid identifier {name} for deletion (should not be a PRIMARY KEY part)"
                )));
            }
        };
        list.push((column.id, parts::delete(part.as_ref(), column, binds)?));
    }
    let conditions = conditions::resolve(context, &table, delete.conditions.as_ref(), binds)?;
    let tests_row = conditions.as_ref().is_some_and(|c| c.needs_row(&table));
    let needs = Needs {
        row: !plan.rows.is_empty(),
        statics_alone: plan.rows.is_empty() && !tests_row && !plan.statics.is_empty(),
    };
    let (partition, rows) = target(context, &table, &delete.relations, binds, Verb::Delete, needs)?;
    if !delete.columns.is_empty() && matches!(rows, Rows::Range { .. }) {
        return Err(range_of_columns());
    }
    if conditions.is_some() && table.keyspace == TRACES {
        return Err(CqlError::unsupported("a conditional DELETE of traces"));
    }
    conditions::check_delete(&table, conditions.as_ref(), &rows, !plan.statics.is_empty())?;
    check_counter(&table, &using, conditions.as_ref())?;
    Ok(finished(table, conditions, Verb::Delete, partition, rows, plan, using))
}

fn range_of_columns() -> CqlError {
    CqlError::invalid("Range deletions are not supported for specific columns")
}

fn is_single(partition: &[KeyPart], rows: &Rows) -> bool {
    let one = |parts: &[KeyPart]| parts.iter().all(|p| matches!(p, KeyPart::One(_)));
    one(partition)
        && match rows {
            Rows::None => true,
            Rows::Exact(parts) => one(parts),
            Rows::Range { equal, .. } => one(equal),
        }
}

/// What the columns of a statement ask of its WHERE.
#[derive(Debug, Clone, Copy)]
struct Needs {
    /// That it names rows.
    row: bool,
    /// That it names none, because only static columns are changed and tested.
    statics_alone: bool,
}

/// Partition and rows that the WHERE of an UPDATE or DELETE names.
fn target(
    context: &Context<'_>,
    table: &Table,
    where_: &[ast::Relation],
    binds: &mut Binds,
    verb: Verb,
    needs: Needs,
) -> Result<(Vec<KeyPart>, Rows), CqlError> {
    let restrictions = relations::resolve(context, table, where_, binds)?;
    let is_clustering = |(i, _): &(usize, Restriction)| table.columns[*i].kind == ColumnKind::Clustering;
    if needs.statics_alone && restrictions.columns().iter().any(is_clustering) {
        // C `StatementRestrictions` (seen), S `statement_restrictions.cc`.
        let verb = if verb == Verb::Delete { "DELETE" } else { "UPDATE" };
        return Err(CqlError::invalid(format!(
            "Invalid restrictions on clustering columns since the {verb} statement modifies only static columns"
        )));
    }
    if restrictions.has_token() {
        return Err(CqlError::invalid(
            "The token function cannot be used in WHERE clauses for UPDATE and DELETE statements",
        ));
    }
    if restrictions.has_tuple_slice() {
        return Err(CqlError::unsupported("(a, b) < (…) in UPDATE and DELETE"));
    }
    let others = restrictions.value_columns(table);
    if !others.is_empty() {
        return Err(CqlError::invalid(format!(
            "Non PRIMARY KEY columns found in where clause: {} ",
            others.join(", ")
        )));
    }
    let (mut partition, mut missing) = (Vec::new(), Vec::new());
    for (i, column) in table.partition_key().iter().enumerate() {
        match restrictions.column(i) {
            Some(r) => partition.push(
                r.key_part()
                    .ok_or_else(|| only_equal_keys(context, verb, &column.name))?,
            ),
            None => missing.push(column.name.clone()),
        }
    }
    if !missing.is_empty() {
        return Err(missing_partition_key(&missing));
    }
    Ok((partition, rows_of(table, &restrictions, verb, needs.row)?))
}

fn only_equal_keys(context: &Context<'_>, verb: Verb, name: &str) -> CqlError {
    let rule = "Only EQ and IN relation are supported on the partition key (unless you use the token() function)";
    let of_verb = match verb {
        Verb::Delete => "DELETE",
        Verb::Insert | Verb::Update => "UPDATE",
    };
    CqlError::invalid(match context.server.dialect.is_scylla() {
        true => format!("{rule}: {name}"),
        false => format!("{rule} for {of_verb} statements"),
    })
}

fn rows_of(
    table: &Table,
    restrictions: &relations::Restrictions,
    verb: Verb,
    needs_row: bool,
) -> Result<Rows, CqlError> {
    let first = table.partition_columns;
    let count = table.clustering_columns;
    let restricted: Vec<Option<&Restriction>> = (first..first + count).map(|i| restrictions.column(i)).collect();
    let name = |i: usize| table.clustering()[i].name.as_str();
    let exact = restricted
        .iter()
        .take_while(|r| r.is_some_and(|r| r.key_part().is_some()))
        .count();
    let equal: Vec<KeyPart> = restricted[..exact]
        .iter()
        .filter_map(|r| r.and_then(Restriction::key_part))
        .collect();
    if exact == count {
        return Ok(if count == 0 && verb == Verb::Delete && !needs_row {
            Rows::None
        } else {
            Rows::Exact(equal)
        });
    }
    let later = (exact + 1..count).find(|i| restricted[*i].is_some());
    if let (None, Some(later)) = (restricted[exact], later) {
        return Err(CqlError::invalid(format!(
            "PRIMARY KEY column \"{}\" cannot be restricted as preceding column \"{}\" is not restricted",
            name(later),
            name(exact)
        )));
    }
    if let Some(later) = later {
        return Err(CqlError::invalid(format!(
            "Clustering column \"{}\" cannot be restricted (preceding column \"{}\" is restricted by a non-EQ relation)",
            name(later),
            name(exact)
        )));
    }
    let nothing = exact == 0 && restricted[0].is_none();
    if nothing && !needs_row {
        return Ok(Rows::None);
    }
    if verb == Verb::Update && restricted[exact].is_some() {
        return Err(CqlError::invalid(format!(
            "Slice restrictions are not supported on the clustering columns in UPDATE statements: {}",
            name(exact)
        )));
    }
    if verb == Verb::Delete && needs_row {
        return Err(range_of_columns());
    }
    if verb == Verb::Update {
        let missing: Vec<String> = (exact..count).map(|i| name(i).to_string()).collect();
        return Err(missing_clustering(&missing));
    }
    let (lower, upper) = match restricted[exact] {
        Some(Restriction::Slice { lower, upper }) => (lower.clone(), upper.clone()),
        _ => (None, None),
    };
    Ok(Rows::Range { equal, lower, upper })
}

pub(super) fn timestamp(source: &Source, bound: &[Value<'_>]) -> Result<Option<i64>, CqlError> {
    match source.value(bound) {
        Value::Bytes(b) => match <[u8; 8]>::try_from(b).map(i64::from_be_bytes) {
            Ok(i64::MIN) | Err(_) => Err(CqlError::invalid("Invalid timestamp value")),
            Ok(us) => Ok(Some(us)),
        },
        Value::Null => Err(CqlError::invalid("Invalid null value of timestamp")),
        Value::Unset => Ok(None),
    }
}

/// Buffers reused from one statement to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    key: Vec<u8>,
}

impl WritePlan {
    /// Positions of the markers that make the partition key, in key order; empty if some part is not one marker.
    pub fn partition_key_markers(&self) -> Vec<u16> {
        relations::markers_of(&self.partition)
    }

    /// USING TIMEOUT, milliseconds.
    pub fn timeout_ms(&self) -> Option<u32> {
        self.using.timeout_ms
    }

    /// Appends the records of this statement to `out`.
    ///
    /// # Errors
    /// Null, unset, empty or too long key values; bad attributes.
    pub fn execute(&self, bound: &[Value<'_>], scratch: &mut Scratch, out: &mut WriteSet) -> Result<(), CqlError> {
        self.execute_at(self.own_timestamp(bound)?, bound, scratch, out)
    }

    /// USING TIMESTAMP of the statement itself, microseconds.
    ///
    /// # Errors
    /// A null timestamp.
    pub fn own_timestamp(&self, bound: &[Value<'_>]) -> Result<Option<i64>, CqlError> {
        match &self.using.timestamp {
            None => Ok(None),
            Some(s) => timestamp(s, bound),
        }
    }

    /// As [`WritePlan::execute`] within a conditional request: its time is the ballot's, and one of the statement's own is
    /// accepted in a batch and means nothing (seen).
    ///
    /// # Errors
    /// As [`WritePlan::execute`].
    pub fn execute_in_cas(
        &self,
        bound: &[Value<'_>],
        scratch: &mut Scratch,
        out: &mut WriteSet,
    ) -> Result<(), CqlError> {
        self.execute_at(None, bound, scratch, out)
    }

    /// Whether it has USING TIMESTAMP.
    pub fn has_timestamp(&self) -> bool {
        self.using.timestamp.is_some()
    }

    fn execute_at(
        &self,
        timestamp_us: Option<i64>,
        bound: &[Value<'_>],
        scratch: &mut Scratch,
        out: &mut WriteSet,
    ) -> Result<(), CqlError> {
        let ttl_s = self.ttl_s(bound)?;
        match &self.parts {
            Some(plan) => return self.execute_parts(plan, bound, out, timestamp_us, ttl_s, &Found::nothing()),
            None if self.is_single => self.execute_single(bound, scratch, out, timestamp_us, ttl_s)?,
            None => self.execute_product(bound, out, timestamp_us, ttl_s)?,
        }
        check_clustering(out)
    }

    #[inline]
    pub(super) fn ttl_s(&self, bound: &[Value<'_>]) -> Result<u32, CqlError> {
        let default = self.table.options.default_ttl_s;
        let Some(source) = &self.using.ttl else {
            return Ok(default);
        };
        // A null TTL means none, not the default.
        if source.value(bound) == Value::Null {
            return Ok(0);
        }
        match int_attribute(source, bound, "TTL")? {
            None => Ok(default),
            Some(ttl) if ttl < 0 => Err(CqlError::invalid(format!(
                "A TTL must be greater or equal to 0, but was {ttl}"
            ))),
            Some(ttl) if ttl > TTL_S_MAX => Err(CqlError::invalid(format!(
                "ttl is too large. requested ({ttl}) maximum ({TTL_S_MAX})"
            ))),
            Some(ttl) => Ok(ttl as u32),
        }
    }

    fn execute_single(
        &self,
        bound: &[Value<'_>],
        scratch: &mut Scratch,
        out: &mut WriteSet,
        timestamp_us: Option<i64>,
        ttl_s: u32,
    ) -> Result<(), CqlError> {
        let columns = self.table.partition_key();
        if let ([KeyPart::One(source)], [column]) = (&self.partition[..], columns) {
            let key = key_value(source.value(bound), column)?;
            check_partition_key(key)?;
            return self.write_rows(bound, key, out, timestamp_us, ttl_s);
        }
        scratch.key.clear();
        for (part, column) in self.partition.iter().zip(columns) {
            let KeyPart::One(source) = part else { continue };
            let value = key_value(source.value(bound), column)?;
            scratch.key.extend((value.len() as u16).to_be_bytes());
            scratch.key.extend_from_slice(value);
            scratch.key.push(0);
        }
        check_partition_key(&scratch.key)?;
        self.write_rows(bound, &scratch.key, out, timestamp_us, ttl_s)
    }

    /// The records of one partition when no key part is an IN.
    fn write_rows(
        &self,
        bound: &[Value<'_>],
        key: &[u8],
        out: &mut WriteSet,
        timestamp_us: Option<i64>,
        ttl_s: u32,
    ) -> Result<(), CqlError> {
        self.write_statics(bound, key, out, timestamp_us, ttl_s);
        match &self.rows {
            Rows::None => self.delete_partition(key, out, timestamp_us),
            Rows::Exact(parts) => {
                if !self.has_row_effect(bound) {
                    return Ok(());
                }
                // The record is begun before its key is checked: on an error the whole set is thrown away.
                self.begin_row(key, out, timestamp_us);
                for (part, column) in parts.iter().zip(self.table.clustering()) {
                    let KeyPart::One(source) = part else { continue };
                    out.clustering(key_value(source.value(bound), column)?);
                }
                self.write_cells(&self.cells, bound, out, ttl_s);
            }
            Rows::Range { equal, lower, upper } => {
                let mut prefix: Vec<&[u8]> = Vec::with_capacity(equal.len());
                for (part, column) in equal.iter().zip(self.table.clustering()) {
                    let KeyPart::One(source) = part else { continue };
                    prefix.push(key_value(source.value(bound), column)?);
                }
                self.delete_range(key, &prefix, lower.as_ref(), upper.as_ref(), bound, out, timestamp_us)?;
            }
        }
        Ok(())
    }

    fn begin_row(&self, key: &[u8], out: &mut WriteSet, timestamp_us: Option<i64>) {
        let deletes_row = self.verb == Verb::Delete && self.cells.is_empty();
        let kind = if deletes_row { OpKind::RowDelete } else { OpKind::Row };
        out.begin(kind, self.table.id, key, timestamp_us);
        if self.verb == Verb::Insert {
            out.marker();
        }
    }

    /// Whether the statement does anything to a row: not when it only has static columns, or all its cells are unset.
    fn has_row_effect(&self, bound: &[Value<'_>]) -> bool {
        match self.verb {
            Verb::Insert => true,
            Verb::Delete => !self.cells.is_empty() || self.statics.is_empty(),
            Verb::Update => self.cells.iter().any(|(_, s)| s.value(bound) != Value::Unset),
        }
    }

    /// Writes the cells of the record that was begun, and ends it.
    fn write_cells(&self, cells: &[(ColumnId, Source)], bound: &[Value<'_>], out: &mut WriteSet, ttl_s: u32) {
        if ttl_s != 0 && self.verb != Verb::Delete {
            out.ttl(ttl_s);
        }
        for (column, source) in cells {
            match source.value(bound) {
                Value::Bytes(bytes) => {
                    out.cell(*column, bytes);
                }
                Value::Null => {
                    out.null(*column);
                }
                Value::Unset => {}
            }
        }
        out.end();
    }

    fn write_statics(
        &self,
        bound: &[Value<'_>],
        key: &[u8],
        out: &mut WriteSet,
        timestamp_us: Option<i64>,
        ttl_s: u32,
    ) {
        if self.statics.iter().any(|(_, s)| s.value(bound) != Value::Unset) {
            out.begin(OpKind::Static, self.table.id, key, timestamp_us);
            self.write_cells(&self.statics, bound, out, ttl_s);
        }
    }

    fn delete_partition(&self, key: &[u8], out: &mut WriteSet, timestamp_us: Option<i64>) {
        if self.verb == Verb::Delete && self.statics.is_empty() {
            out.begin(OpKind::PartitionDelete, self.table.id, key, timestamp_us);
            out.end();
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one range, used once")]
    fn delete_range(
        &self,
        key: &[u8],
        equal: &[&[u8]],
        lower: Option<&(Source, bool)>,
        upper: Option<&(Source, bool)>,
        bound: &[Value<'_>],
        out: &mut WriteSet,
        timestamp_us: Option<i64>,
    ) -> Result<(), CqlError> {
        let column = &self.table.clustering()[equal.len()];
        let value = |b: Option<&(Source, bool)>| -> Result<Option<(Vec<u8>, bool)>, CqlError> {
            b.map(|(s, inclusive)| key_value(s.value(bound), column).map(|v| (v.to_vec(), *inclusive)))
                .transpose()
        };
        let (lower, upper) = (value(lower)?, value(upper)?);
        // Bounds are in storage order: for a DESC column the larger value comes first.
        let descending = column.order == ClusteringOrder::Desc;
        let (start, end) = if descending { (upper, lower) } else { (lower, upper) };
        out.begin(OpKind::RangeDelete, self.table.id, key, timestamp_us);
        for c in equal {
            out.clustering(c);
        }
        if let Some((v, _)) = &start {
            out.clustering(v);
        }
        for c in equal {
            out.end_bound(c);
        }
        if let Some((v, _)) = &end {
            out.end_bound(v);
        }
        out.exclusive(
            start.is_some_and(|(_, inclusive)| !inclusive),
            end.is_some_and(|(_, inclusive)| !inclusive),
        );
        out.end();
        Ok(())
    }

    /// The general case: every combination of the values of IN.
    fn execute_product(
        &self,
        bound: &[Value<'_>],
        out: &mut WriteSet,
        timestamp_us: Option<i64>,
        ttl_s: u32,
    ) -> Result<(), CqlError> {
        let partitions = relations::product(&self.partition, self.table.partition_key(), bound)?;
        let row_parts = match &self.rows {
            Rows::None => &[][..],
            Rows::Exact(parts) => parts,
            Rows::Range { equal, .. } => equal,
        };
        let rows = relations::product(row_parts, self.table.clustering(), bound)?;
        for components in &partitions {
            let mut key = Vec::new();
            partition_key_bytes(components, &mut key);
            check_partition_key(&key)?;
            self.write_statics(bound, &key, out, timestamp_us, ttl_s);
            for row in &rows {
                match &self.rows {
                    Rows::None => self.delete_partition(&key, out, timestamp_us),
                    Rows::Exact(_) if !self.has_row_effect(bound) => {}
                    Rows::Exact(_) => {
                        self.begin_row(&key, out, timestamp_us);
                        for c in row {
                            out.clustering(c);
                        }
                        self.write_cells(&self.cells, bound, out, ttl_s);
                    }
                    Rows::Range { lower, upper, .. } => {
                        self.delete_range(&key, row, lower.as_ref(), upper.as_ref(), bound, out, timestamp_us)?;
                    }
                }
            }
        }
        Ok(())
    }
}
