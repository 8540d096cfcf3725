//! CREATE, ALTER and DROP of materialized views, and what other statements may not do to views and their bases: in the words
//! of Cassandra 5.0 (`CreateViewStatement` and its like, seen) and of ScyllaDB (`cql3/statements/create_view_statement.cc`,
//! not seen).

use super::ddl::{Ddl, user_keyspace};
use super::options::table_options;
use super::relations::{self, InSource, Restriction, Restrictions};
use super::{Binds, Context, Source, known_table, no_column};
use crate::cql::error::CqlError;
use crate::cql::parse::ast::{
    CreateView, PropertyValue, Relation, Selectable, Statement, Subject, TableName, ViewRelation,
};
use crate::cql::types;
use crate::model::views::{Clause, Test};
use crate::model::{
    ClusteringOrder, Column, ColumnKind, CqlType, NewColumn, NewView, SchemaChange, Table, TableOptions,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What Cassandra warns of when a view is created.
pub const EXPERIMENTAL: &str = "Materialized views are experimental and are not recommended for production use.";

/// Whether a client is told [`EXPERIMENTAL`] when this is done, whether it changes something or not (seen).
pub fn warns(context: &Context<'_>, statement: &Statement) -> bool {
    matches!(statement, Statement::CreateView(_)) && context.server.dialect.warns_of_views
}

/// A view that is to be created: the statement, and what its names stand for.
struct Wanted<'a> {
    context: &'a Context<'a>,
    create: &'a CreateView,
    base: &'a Table,
    /// Columns of the base that the view has.
    selected: Vec<&'a Column>,
}

/// CREATE MATERIALIZED VIEW.
///
/// # Errors
/// What real servers refuse, in their words.
pub(super) fn create(context: &Context<'_>, create: &CreateView) -> Result<Ddl, CqlError> {
    let keyspace = user_keyspace(context, &create.name)?;
    let base = base(context, create, &keyspace)?;
    let name = &create.name.table;
    if context.server.dialect.view_names_come_first
        && let Some(there) = context.schema.table_named(&keyspace, name)
    {
        return match context.schema.view(there.id) {
            None => refused(format!(
                "Cannot create materialized view '{name}' - a table with the same name already exists"
            )),
            Some(_) if create.if_not_exists => Ok(Ddl::Nothing),
            Some(_) => Err(CqlError::already_exists(&keyspace, Some(name))),
        };
    }
    check_base(context, name, &base)?;
    let selected = selected(context, create, &base)?;
    let wanted = Wanted {
        context,
        create,
        base: &base,
        selected,
    };
    let (restrictions, extra) = if context.server.dialect.is_scylla() {
        wanted.check_scylla()?
    } else {
        wanted.check_cassandra()?
    };
    let options = wanted.options()?;
    let view = NewView {
        columns: wanted.columns(),
        where_clause: wanted.clauses(),
        filters: wanted.filters(&restrictions)?,
        options,
        includes_all: create.selectors.is_empty(),
        keeps_unselected: context.server.dialect.flavor.rules().view_liveness
            == crate::core::flavor::ViewLiveness::VirtualColumns
            && extra.is_none(),
        base: base.name.clone(),
        name: name.clone(),
        keyspace,
    };
    Ok(Ddl::Change(SchemaChange::CreateView {
        view: Box::new(view),
        if_not_exists: create.if_not_exists,
    }))
}

fn refused<T>(what: impl Into<String>) -> Result<T, CqlError> {
    Err(CqlError::invalid(what))
}

/// The table in FROM.
fn base(context: &Context<'_>, create: &CreateView, keyspace: &str) -> Result<Arc<Table>, CqlError> {
    let is_scylla = context.server.dialect.is_scylla();
    if let Some(other) = create.base.keyspace.as_deref().filter(|k| *k != keyspace) {
        return refused(match is_scylla {
            true => format!(
                "Cannot create a materialized view on a table in a separate keyspace ('{other}' != '{keyspace}')"
            ),
            false => "Cannot create a materialized view on a table in a different keyspace".to_owned(),
        });
    }
    let name = &create.base.table;
    if is_scylla {
        return known_table(context, keyspace, name);
    }
    if !context.schema.keyspaces.contains_key(keyspace) {
        return refused(format!("Keyspace '{keyspace}' doesn't exist"));
    }
    // A view is no table there (seen).
    let table = context.schema.table_named(keyspace, name);
    match table.filter(|t| context.schema.view(t.id).is_none()) {
        Some(table) => Ok(table.clone()),
        None => refused(format!("Base table '{name}' doesn't exist")),
    }
}

/// What no base can be, in the same words of both servers.
fn check_base(context: &Context<'_>, name: &str, base: &Table) -> Result<(), CqlError> {
    if base.is_counter() {
        return refused("Materialized views are not supported on counter tables");
    }
    if context.schema.view(base.id).is_some() {
        return refused("Materialized views cannot be created against other materialized views");
    }
    if base.options.gc_grace_s == 0 {
        return refused(format!(
            "Cannot create materialized view '{name}' for base table '{}' with gc_grace_seconds of 0, since this value is \
             used to TTL undelivered updates. Setting gc_grace_seconds too low might cause undelivered updates to expire \
             before being replayed.",
            base.name
        ));
    }
    Ok(())
}

/// The columns of SELECT.
fn selected<'a>(context: &Context<'_>, create: &CreateView, base: &'a Table) -> Result<Vec<&'a Column>, CqlError> {
    let is_scylla = context.server.dialect.is_scylla();
    let mut columns: Vec<&Column> = Vec::new();
    for selector in &create.selectors {
        let Selectable::Column(name) = &selector.selectable else {
            return refused(match is_scylla {
                true => "Cannot use general expressions when defining a materialized view".to_owned(),
                false => "Can only select columns by name when defining a materialized view".to_owned(),
            });
        };
        if let Some(alias) = &selector.alias {
            return refused(match is_scylla {
                true => "Cannot use alias when defining a materialized view".to_owned(),
                false => format!("Cannot use aliases when defining a materialized view (got {name} AS {alias})"),
            });
        }
        let Some(column) = base.column(name) else {
            return match is_scylla {
                true => refused(unknown_to_scylla(name)),
                false => Err(no_column(context, base, name)),
            };
        };
        if !columns.iter().any(|c| c.id == column.id) {
            columns.push(column);
        }
    }
    if columns.is_empty() {
        columns.extend(&base.columns);
    }
    let fixed = columns.iter().find(|c| c.kind == ColumnKind::Static);
    match fixed {
        Some(c) if !is_scylla => refused(format!(
            "Cannot include static column '{}' in materialized view '{}'",
            c.name, create.name.table
        )),
        Some(c) => refused(format!(
            "Unable to include static column '{}' which would be included by Materialized View SELECT * statement",
            c.name
        )),
        None => Ok(columns),
    }
}

fn unknown_to_scylla(name: &str) -> String {
    format!("Unknown column name detected in CREATE MATERIALIZED VIEW statement: {name}")
}

impl<'a> Wanted<'a> {
    /// Names of the view's key in order.
    fn key(&self) -> impl Iterator<Item = &'a String> {
        self.create.partition_key.iter().chain(&self.create.clustering_key)
    }

    fn is_restricted(&self, column: &str, restrictions: &Restrictions) -> bool {
        let is_column = |r: &ViewRelation| matches!(r, ViewRelation::NotNull(name) if name == column);
        let index = self.base.columns.iter().position(|c| c.name == column);
        self.create.relations.iter().any(is_column) || index.is_some_and(|i| restrictions.column(i).is_some())
    }

    /// Key columns of the base that the view's key lacks.
    fn missing(&self) -> Vec<&'a str> {
        let keys = self.base.partition_key().iter().chain(self.base.clustering());
        let missing = keys.filter(|c| !self.key().any(|k| *k == c.name));
        missing.map(|c| c.name.as_str()).collect()
    }

    /// Columns of the view's key that are regular ones of the base.
    fn extras(&self) -> Vec<&'a str> {
        let is_regular = |name: &&String| self.base.column(name).is_some_and(|c| c.kind == ColumnKind::Regular);
        self.key().filter(is_regular).map(String::as_str).collect()
    }

    /// As C `CreateViewStatement.apply`. The regular column of the base that is in the view's key, if there is one.
    fn check_cassandra(&self) -> Result<(Restrictions, Option<&'a str>), CqlError> {
        let (view, base) = (&self.create.name.table, &self.base.name);
        self.check_key_cassandra(view)?;
        let order: Vec<&String> = self.create.clustering_order.iter().map(|(n, _)| n).collect();
        if !order.is_empty() && order != self.create.clustering_key.iter().collect::<Vec<_>>() {
            return refused("Clustering key columns must exactly match columns in CLUSTERING ORDER BY directive");
        }
        let missing = self.missing();
        if !missing.is_empty() {
            return refused(format!(
                "Cannot create materialized view '{view}' without primary key columns {} from base table '{base}'",
                missing.join(", ")
            ));
        }
        let extras = self.extras();
        if extras.len() > 1 {
            return refused(format!(
                "Cannot include more than one non-primary key column in materialized view primary key (got {})",
                extras.join(", ")
            ));
        }
        let restrictions = self.restrictions()?;
        let free: Vec<&str> = self
            .key()
            .filter(|c| !self.is_restricted(c, &restrictions))
            .map(String::as_str)
            .collect();
        if !free.is_empty() {
            return refused(format!(
                "Primary key columns {} must be restricted with 'IS NOT NULL' or otherwise",
                free.join(", ")
            ));
        }
        let compared = restrictions.value_columns(self.base);
        if !compared.is_empty() {
            return refused(format!(
                "Non-primary key columns can only be restricted with 'IS NOT NULL' (got: {} restricted illegally)",
                compared.join(",")
            ));
        }
        Ok((restrictions, extras.first().copied()))
    }

    fn check_key_cassandra(&self, view: &str) -> Result<(), CqlError> {
        let mut seen: Vec<&String> = Vec::new();
        for name in self.key() {
            let Some(column) = self.selected.iter().find(|c| c.name == *name) else {
                return refused(format!(
                    "Unknown column '{name}' referenced in PRIMARY KEY for materialized view '{view}'"
                ));
            };
            if seen.contains(&name) {
                return refused(format!(
                    "Duplicate column '{name}' in PRIMARY KEY clause for materialized view '{view}'"
                ));
            }
            seen.push(name);
            let ty = types::name(&column.ty);
            match &column.ty {
                CqlType::Udt(_) => {
                    return refused(format!(
                        "Invalid non-frozen user-defined type '{ty}' for PRIMARY KEY column '{name}'"
                    ));
                }
                t if t.is_multicell() => {
                    return refused(format!(
                        "Invalid non-frozen collection type '{ty}' for PRIMARY KEY column '{name}'"
                    ));
                }
                CqlType::Duration => {
                    return refused(format!(
                        "duration type is not supported for PRIMARY KEY column '{name}'"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// As S `create_view_statement::prepare_view`.
    fn check_scylla(&self) -> Result<(Restrictions, Option<&'a str>), CqlError> {
        let view = &self.create.name.table;
        let restrictions = self.restrictions()?;
        self.check_key_scylla(&restrictions)?;
        let missing = self.missing();
        if !missing.is_empty() {
            return refused(format!(
                "Cannot create Materialized View {view} without primary key columns from base {} ({})",
                self.base.name,
                missing.join(", ")
            ));
        }
        let in_order = |name: &String| self.create.clustering_key.contains(name);
        if let Some((name, _)) = self.create.clustering_order.iter().find(|(n, _)| !in_order(n)) {
            return refused(format!(
                "CLUSTERING ORDER BY lists {name} which is not a clustering column in the view"
            ));
        }
        let (extras, compared) = (self.extras(), restrictions.value_columns(self.base));
        if !compared.is_empty() && compared != extras {
            return refused(format!(
                "Non-primary key columns cannot be restricted in the SELECT statement used for materialized view {view} \
                 creation (got restrictions on: {})",
                compared.join(", ")
            ));
        }
        Ok((restrictions, extras.first().copied()))
    }

    fn check_key_scylla(&self, restrictions: &Restrictions) -> Result<(), CqlError> {
        let (mut seen, mut has_extra): (Vec<&String>, bool) = (Vec::new(), false);
        for name in self.key() {
            let Some(column) = self.base.column(name) else {
                return refused(unknown_to_scylla(name));
            };
            if seen.contains(&name) {
                return refused(format!("Duplicate entry found in PRIMARY KEY: {name}"));
            }
            seen.push(name);
            let what = match (&column.ty, column.kind) {
                (t, _) if t.is_multicell() => Some("MultiCell"),
                (CqlType::Duration, _) => Some("Duration"),
                (_, ColumnKind::Static) => Some("Static"),
                _ => None,
            };
            if let Some(what) = what {
                return refused(format!(
                    "Cannot use {what} column '{name}' in PRIMARY KEY of materialized view"
                ));
            }
            if column.kind == ColumnKind::Regular && std::mem::replace(&mut has_extra, true) {
                return refused(format!(
                    "Cannot include more than one non-primary key column '{name}' in materialized view primary key"
                ));
            }
            let needs_none = column.kind == ColumnKind::PartitionKey && self.base.partition_columns == 1;
            if !needs_none && !self.is_restricted(name, restrictions) {
                return refused(format!(
                    "Primary key column '{name}' is required to be filtered by 'IS NOT NULL'"
                ));
            }
        }
        Ok(())
    }

    /// What of WHERE is not IS NOT NULL.
    fn restrictions(&self) -> Result<Restrictions, CqlError> {
        let mut others: Vec<Relation> = Vec::new();
        for relation in &self.create.relations {
            match relation {
                ViewRelation::NotNull(name) if self.base.column(name).is_none() => {
                    return Err(no_column(self.context, self.base, name));
                }
                ViewRelation::NotNull(_) => {}
                ViewRelation::Other(relation) => match relation.subject {
                    Subject::Token(_) => {
                        return refused("Cannot use token relation when defining a materialized view");
                    }
                    Subject::Column(_) => others.push(relation.clone()),
                    Subject::Tuple(_) | Subject::Element(..) => {
                        return Err(CqlError::unsupported("this relation in the WHERE of a view"));
                    }
                },
            }
        }
        let mut binds = Binds::new(Vec::new(), self.context.server.dialect);
        relations::resolve(self.context, self.base, &others, &mut binds)
    }

    fn filters(&self, restrictions: &Restrictions) -> Result<Vec<(String, Test)>, CqlError> {
        let unsupported = || CqlError::unsupported("this relation in the WHERE of a view");
        let constant = |source: &Source| match source {
            Source::Constant(bytes) => Ok(bytes.clone()),
            Source::Marker(_) | Source::Null => Err(unsupported()),
        };
        let mut filters = Vec::new();
        for (index, restriction) in restrictions.columns() {
            let column = &self.base.columns[*index];
            let mut add = |test| filters.push((column.name.clone(), test));
            match restriction {
                Restriction::Eq(value) => add(Test::Among(vec![constant(value)?])),
                Restriction::In(InSource::Values(values)) => {
                    add(Test::Among(values.iter().map(constant).collect::<Result<_, _>>()?));
                }
                Restriction::Slice { lower, upper } => {
                    if !crate::core::key::orderable(&column.ty) {
                        return Err(unsupported());
                    }
                    if let Some((bound, inclusive)) = lower {
                        let (bound, inclusive) = (constant(bound)?, *inclusive);
                        add(Test::Above { bound, inclusive });
                    }
                    if let Some((bound, inclusive)) = upper {
                        let (bound, inclusive) = (constant(bound)?, *inclusive);
                        add(Test::Below { bound, inclusive });
                    }
                }
                Restriction::In(InSource::Marker(_)) | Restriction::Holds(_) => return Err(unsupported()),
            }
        }
        Ok(filters)
    }

    fn clauses(&self) -> Vec<Clause> {
        // S prints the null of its expression.
        let not_null = match self.context.server.dialect.is_scylla() {
            true => "IS NOT null",
            false => "IS NOT NULL",
        };
        let clause = |relation: &ViewRelation| match relation {
            ViewRelation::NotNull(column) => Some((column.clone(), not_null.to_owned())),
            ViewRelation::Other(relation) => match &relation.subject {
                Subject::Column(column) => Some((column.clone(), relation.rest_text())),
                _ => None,
            },
        };
        let clauses = self.create.relations.iter().filter_map(clause);
        clauses.map(|(column, rest)| Clause { column, rest }).collect()
    }

    fn columns(&self) -> Vec<NewColumn> {
        let new = |column: &Column, kind, order| NewColumn {
            name: column.name.clone(),
            kind,
            order,
            ty: column.ty.clone(),
        };
        let known = |names: &'a [String]| names.iter().filter_map(|n| self.base.column(n));
        let key = known(&self.create.partition_key).map(|c| new(c, ColumnKind::PartitionKey, ClusteringOrder::Asc));
        let clustering = known(&self.create.clustering_key).map(|c| new(c, ColumnKind::Clustering, self.order(c)));
        let others = self.selected.iter().filter(|c| !self.key().any(|k| *k == c.name));
        let others = others.map(|c| new(c, ColumnKind::Regular, ClusteringOrder::Asc));
        key.chain(clustering).chain(others).collect()
    }

    /// As it is said; else as in the base (C `CreateViewStatement.getType`).
    fn order(&self, column: &Column) -> ClusteringOrder {
        let said = self.create.clustering_order.iter().find(|(n, _)| *n == column.name);
        match said {
            Some((_, true)) => ClusteringOrder::Desc,
            Some((_, false)) => ClusteringOrder::Asc,
            None => column.order,
        }
    }

    fn options(&self) -> Result<TableOptions, CqlError> {
        let given = &self.create.options;
        let options = table_options(self.context, given, TableOptions::default())?;
        let is_scylla = self.context.server.dialect.is_scylla();
        if is_scylla && options.default_ttl_s > 0 {
            return refused(NO_TTL_SCYLLA);
        }
        if !is_scylla && given.contains_key("default_time_to_live") {
            return refused(
                "Cannot set default_time_to_live for a materialized view. Data in a materialized view always expire at the \
                 same time than the corresponding data in the parent table.",
            );
        }
        Ok(options)
    }
}

const NO_TTL_SCYLLA: &str = "Cannot set or alter default_time_to_live for a materialized view. Data in a materialized view \
     always expire at the same time than the corresponding data in the parent table.";

/// ALTER MATERIALIZED VIEW.
///
/// # Errors
/// No such view; options that no view can have.
pub(super) fn alter(
    context: &Context<'_>,
    name: &TableName,
    if_exists: bool,
    given: &BTreeMap<String, PropertyValue>,
) -> Result<Ddl, CqlError> {
    let (keyspace, view) = (user_keyspace(context, name)?, &name.table);
    let table = context.schema.table_named(&keyspace, view);
    let is_scylla = context.server.dialect.is_scylla();
    let Some(table) = table.filter(|t| context.schema.view(t.id).is_some()) else {
        if if_exists && !is_scylla {
            return Ok(Ddl::Nothing);
        }
        if is_scylla {
            known_table(context, &keyspace, view)?;
            return refused("Cannot use ALTER MATERIALIZED VIEW on Table");
        }
        return refused(format!("Materialized view '{keyspace}.{view}' doesn't exist"));
    };
    let options = table_options(context, given, table.options.clone())?;
    if options.gc_grace_s == 0 {
        return refused(
            "Cannot alter gc_grace_seconds of a materialized view to 0, since this value is used to TTL undelivered updates. \
             Setting gc_grace_seconds too low might cause undelivered updates to expire before being replayed.",
        );
    }
    if options.default_ttl_s > 0 {
        return refused(match is_scylla {
            true => NO_TTL_SCYLLA,
            false => {
                "Forbidden default_time_to_live detected for a materialized view. Data in a materialized view always expire \
                 at the same time than the corresponding data in the parent table. default_time_to_live must be set to zero, \
                 see CASSANDRA-12868 for more information"
            }
        });
    }
    Ok(Ddl::Change(SchemaChange::AlterOptions {
        keyspace,
        table: view.clone(),
        options,
    }))
}

/// DROP MATERIALIZED VIEW.
///
/// # Errors
/// No such view.
pub(super) fn drop(context: &Context<'_>, name: &TableName, if_exists: bool) -> Result<Ddl, CqlError> {
    let (keyspace, view) = (user_keyspace(context, name)?, &name.table);
    let table = context.schema.table_named(&keyspace, view);
    if table.is_none_or(|t| context.schema.view(t.id).is_none()) {
        return match (context.server.dialect.is_scylla(), table) {
            (true, Some(_)) => refused("Cannot use DROP MATERIALIZED VIEW on Table"),
            _ if if_exists => Ok(Ddl::Nothing),
            (true, None) => Err(CqlError::config(format!(
                "Cannot drop non existing materialized view '{view}' in keyspace '{keyspace}'."
            ))),
            (false, _) => refused(format!("Materialized view '{keyspace}.{view}' doesn't exist")),
        };
    }
    Ok(Ddl::Change(SchemaChange::DropView {
        keyspace,
        name: view.clone(),
        if_exists,
    }))
}

/// DROP TABLE: no view, and no table with views.
pub(super) fn check_drop_table(context: &Context<'_>, keyspace: &str, table: &str) -> Result<(), CqlError> {
    let Some(table) = context.schema.table_named(keyspace, table) else {
        return Ok(());
    };
    let is_scylla = context.server.dialect.is_scylla();
    if context.schema.view(table.id).is_some() {
        return refused(match is_scylla {
            true => "Cannot use DROP TABLE on Materialized View",
            false => "Cannot use DROP TABLE on a materialized view. Please use DROP MATERIALIZED VIEW instead.",
        });
    }
    let views = views_of(context, table);
    match (views.is_empty(), is_scylla) {
        (true, _) => Ok(()),
        (false, true) => refused(format!(
            "Cannot drop table when materialized views still depend on it ({keyspace}.{{{}}})",
            views.join(", ")
        )),
        // It names the keyspace only (seen).
        (false, false) => refused(format!(
            "Cannot drop a table when materialized views still depend on it ({keyspace})"
        )),
    }
}

fn views_of(context: &Context<'_>, table: &Table) -> Vec<String> {
    let views = context.schema.views_of(table.id);
    let tables = views.filter_map(|v| context.schema.table(v.table));
    tables.map(|t| t.name.clone()).collect()
}

/// ALTER TABLE: no view.
pub(super) fn check_alter_table(context: &Context<'_>, keyspace: &str, table: &str) -> Result<(), CqlError> {
    match context.schema.view_named(keyspace, table) {
        None => Ok(()),
        Some(_) if context.server.dialect.is_scylla() => refused("Cannot use ALTER TABLE on Materialized View"),
        Some(_) => refused("Cannot use ALTER TABLE on a materialized view; use ALTER MATERIALIZED VIEW instead"),
    }
}

/// ALTER TABLE … WITH of a table with views.
pub(super) fn check_base_options(context: &Context<'_>, table: &Table, options: &TableOptions) -> Result<(), CqlError> {
    if options.gc_grace_s > 0 || context.schema.views_of(table.id).next().is_none() {
        return Ok(());
    }
    refused(
        "Cannot alter gc_grace_seconds of the base table of a materialized view to 0, since this value is used to TTL \
         undelivered updates. Setting gc_grace_seconds too low might cause undelivered updates to expire before being \
         replayed.",
    )
}

/// ALTER TABLE … DROP of a column that views may need.
pub(super) fn check_drop_column(context: &Context<'_>, table: &Table, column: &Column) -> Result<(), CqlError> {
    let name = &column.name;
    if !context.server.dialect.columns_without_views_may_go {
        return match context.schema.views_of(table.id).next() {
            Some(_) => refused(format!(
                "Cannot drop column {name} on base table {} with materialized views",
                table.name
            )),
            None => Ok(()),
        };
    }
    let mut views = context.schema.views_of(table.id);
    let needs = views.find(|v| v.of_base(column.id).is_some());
    match needs.and_then(|v| context.schema.table(v.table)) {
        Some(view) => refused(format!(
            "Cannot drop column {name} from base table {}.{}: materialized view {} needs this column",
            table.keyspace, table.name, view.name
        )),
        None => Ok(()),
    }
}

/// INSERT, UPDATE, DELETE: no view.
pub(super) fn check_write(context: &Context<'_>, table: &Table) -> Result<(), CqlError> {
    match context.schema.view(table.id) {
        Some(_) => refused("Cannot directly modify a materialized view"),
        None => Ok(()),
    }
}

/// TRUNCATE: no view.
pub(super) fn check_truncate(context: &Context<'_>, table: &Table) -> Result<(), CqlError> {
    match context.schema.view(table.id) {
        Some(_) => refused("Cannot TRUNCATE materialized view directly; must truncate base table instead"),
        None => Ok(()),
    }
}
