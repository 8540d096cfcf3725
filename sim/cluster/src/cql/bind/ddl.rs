//! CREATE, ALTER and DROP: from the syntax tree to the changes of `crate::model::schema`, with the checks and the words
//! of real servers. Options that would change behaviour in a way the core does not have are refused.

use super::options::table_options;
use super::{Context, ddl_views, keyspace_of};
use crate::cql::error::{CqlError, Detail};
use crate::cql::parse::ast::{
    AlterTable, ColumnAst, CreateKeyspace, CreateTable, Literal, PropertyValue, Statement, TableName, Term,
};
use crate::cql::types::Scope;
use crate::cql::{system, types};
use crate::model::{
    ClusteringOrder, ColumnKind, CqlType, Keyspace, NewColumn, NewTable, Replication, Schema, SchemaChange,
    SchemaEffect, SchemaError, SchemaTarget, Table, TableOptions,
};
use std::collections::BTreeMap;

/// What a DDL statement asks of the core.
#[derive(Debug)]
pub enum Ddl {
    /// This change.
    Change(SchemaChange),
    /// Nothing: what is asked for is there already (ALTER … ADD IF NOT EXISTS).
    Nothing,
}

/// Resolves a DDL statement against the schema of the moment.
///
/// # Errors
/// See the texts; what only the core can decide (exists already, does not exist) is left to it.
pub fn resolve(context: &Context<'_>, statement: &Statement) -> Result<Ddl, CqlError> {
    Ok(Ddl::Change(match statement {
        Statement::CreateKeyspace(create) => create_keyspace(context, create)?,
        Statement::DropKeyspace { name, if_exists } => {
            modifiable(name)?;
            SchemaChange::DropKeyspace {
                name: name.clone(),
                if_exists: *if_exists,
            }
        }
        Statement::CreateTable(create) => create_table(context, create)?,
        Statement::DropTable { table, if_exists } => {
            let keyspace = user_keyspace(context, table)?;
            ddl_views::check_drop_table(context, &keyspace, &table.table)?;
            SchemaChange::DropTable {
                keyspace,
                table: table.table.clone(),
                if_exists: *if_exists,
            }
        }
        Statement::AlterTable {
            table,
            if_exists,
            change,
        } => {
            let keyspace = user_keyspace(context, table)?;
            if *if_exists && context.schema.table_named(&keyspace, &table.table).is_none() {
                return Ok(Ddl::Nothing);
            }
            return alter_table(context, table, change);
        }
        Statement::AlterKeyspace {
            name,
            if_exists,
            options,
        } => return alter_keyspace(context, name, *if_exists, options),
        Statement::CreateIndex(create) => super::ddl_indexes::create(context, create)?,
        Statement::DropIndex { name, if_exists } => super::ddl_indexes::drop_index(context, name, *if_exists)?,
        Statement::CreateType {
            name,
            if_not_exists,
            fields,
        } => super::ddl_types::create(context, name, *if_not_exists, fields)?,
        Statement::AlterType {
            name,
            if_exists,
            change,
        } => return super::ddl_types::alter(context, name, *if_exists, change),
        Statement::DropType { name, if_exists } => SchemaChange::DropType {
            keyspace: user_keyspace(context, name)?,
            name: name.table.clone(),
            if_exists: *if_exists,
        },
        Statement::CreateView(create) => return ddl_views::create(context, create),
        Statement::AlterView {
            name,
            if_exists,
            options,
        } => return ddl_views::alter(context, name, *if_exists, options),
        Statement::DropView { name, if_exists } => return ddl_views::drop(context, name, *if_exists),
        _ => return Err(CqlError::server("not a schema change")),
    }))
}

fn modifiable(keyspace: &str) -> Result<(), CqlError> {
    if system::is_system_keyspace(keyspace) {
        Err(system::not_modifiable(keyspace))
    } else {
        Ok(())
    }
}

pub(super) fn user_keyspace(context: &Context<'_>, table: &TableName) -> Result<String, CqlError> {
    let keyspace = keyspace_of(context, table)?;
    modifiable(keyspace)?;
    Ok(keyspace.to_string())
}

/// Whether a name is one that servers take for a keyspace or a table.
fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

const NO_WORD: &str =
    "name must not be empty, more than 48 characters long, or contain non-alphanumeric-underscore characters";

fn create_keyspace(context: &Context<'_>, create: &CreateKeyspace) -> Result<SchemaChange, CqlError> {
    modifiable(&create.name)?;
    if !is_word(&create.name) || create.name.len() > 48 {
        return Err(CqlError::invalid(format!("Keyspace {NO_WORD} (got '{}')", create.name)));
    }
    let mut replication = None;
    let mut durable_writes = true;
    for (name, value) in &create.options {
        match (name.as_str(), value) {
            ("replication", PropertyValue::Map(map)) => {
                replication = Some(parse_replication(context, &create.name, map)?)
            }
            ("durable_writes", PropertyValue::Simple(text)) => durable_writes = boolean(name, text)?,
            ("tablets", PropertyValue::Map(map)) if context.server.dialect.has_options_of_scylla => {
                if map.get("enabled").is_none_or(|v| v != "false") {
                    return Err(CqlError::unsupported("keyspaces with tablets (only vnodes)"));
                }
            }
            ("replication" | "durable_writes" | "tablets", _) => {
                return Err(syntax(format!("Invalid value for property '{name}'")));
            }
            _ => return Err(syntax(format!("Unknown property '{name}'"))),
        }
    }
    let replication = replication.ok_or_else(|| CqlError::config("Missing mandatory replication strategy class"))?;
    let (name, if_not_exists) = (create.name.clone(), create.if_not_exists);
    Ok(SchemaChange::CreateKeyspace {
        name,
        replication,
        durable_writes,
        if_not_exists,
    })
}

fn parse_replication(
    context: &Context<'_>,
    keyspace: &str,
    map: &BTreeMap<String, String>,
) -> Result<Replication, CqlError> {
    let class = map
        .get("class")
        .ok_or_else(|| CqlError::config("Missing mandatory replication strategy class"))?;
    let short = class.strip_prefix("org.apache.cassandra.locator.").unwrap_or(class);
    let factor = |text: &String| match text.parse::<u8>() {
        Ok(n) => Ok(n),
        Err(_) => Err(CqlError::config(format!(
            "Replication factor must be numeric and at most 255; found '{text}'"
        ))),
    };
    match short {
        "SimpleStrategy" => match map.get("replication_factor") {
            Some(text) => Ok(Replication::Simple { factor: factor(text)? }),
            None => match context.server.dialect.simple_strategy_default {
                Some(factor) => Ok(Replication::Simple { factor }),
                None => Err(CqlError::config(
                    "SimpleStrategy requires a replication_factor strategy option.",
                )),
            },
        },
        "NetworkTopologyStrategy" => {
            let mut factors = BTreeMap::new();
            if let Some(text) = map.get("replication_factor") {
                let n = factor(text)?;
                factors.extend(context.server.datacenters.iter().map(|dc| (dc.clone(), n)));
            }
            for (dc, text) in map.iter().filter(|(k, _)| *k != "class" && *k != "replication_factor") {
                if !context.server.datacenters.contains(dc) {
                    return Err(CqlError::config(format!(
                        "Unrecognized strategy option {{{dc}}} passed to NetworkTopologyStrategy for keyspace {keyspace}"
                    )));
                }
                factors.insert(dc.clone(), factor(text)?);
            }
            Ok(Replication::NetworkTopology(factors))
        }
        other => Err(CqlError::config(format!(
            "Unable to find replication strategy class 'org.apache.cassandra.locator.{other}'"
        ))),
    }
}

fn boolean(name: &str, text: &str) -> Result<bool, CqlError> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(syntax(format!("Invalid boolean value {text} for '{name}'"))),
    }
}

pub(super) fn syntax(message: String) -> CqlError {
    CqlError {
        message,
        detail: Detail::Syntax,
    }
}

fn create_table(context: &Context<'_>, create: &CreateTable) -> Result<SchemaChange, CqlError> {
    let keyspace = user_keyspace(context, &create.table)?;
    let name = create.table.table.clone();
    // The length of a table's name is not looked at, whatever the text says (seen).
    if !is_word(&name) {
        return Err(CqlError::config(format!(
            "{keyspace}.{name}: Table {NO_WORD} (got \"{name}\")"
        )));
    }
    if create.partition_key.is_empty() {
        return Err(CqlError::invalid(format!(
            "No PRIMARY KEY specifed for table '{keyspace}.{name}' (exactly one required)"
        )));
    }
    check_order(context, create, &keyspace)?;
    let mut columns = Vec::with_capacity(create.columns.len());
    for (kind, names) in [
        (ColumnKind::PartitionKey, &create.partition_key),
        (ColumnKind::Clustering, &create.clustering_key),
    ] {
        for (i, key) in names.iter().enumerate() {
            if names[..i].contains(key) || (kind == ColumnKind::Clustering && create.partition_key.contains(key)) {
                return Err(CqlError::invalid(format!(
                    "Duplicate column '{key}' in PRIMARY KEY clause for table '{keyspace}.{name}'"
                )));
            }
            let Some(column) = create.columns.iter().find(|c| c.name == *key) else {
                return Err(CqlError::invalid(format!(
                    "Unknown column '{key}' referenced in PRIMARY KEY for table '{name}'"
                )));
            };
            columns.push(key_column(create, column, kind, scope_of(context, &keyspace))?);
        }
    }
    for column in &create.columns {
        if !create.partition_key.contains(&column.name) && !create.clustering_key.contains(&column.name) {
            columns.push(value_column(column, scope_of(context, &keyspace))?);
        }
    }
    let options = table_options(context, &create.options, TableOptions::default())?;
    check_counters(&columns, &options)?;
    if create.clustering_key.is_empty() && columns.iter().any(|c| c.kind == ColumnKind::Static) {
        return Err(no_static());
    }
    let table = NewTable {
        keyspace,
        name,
        columns,
        options,
    };
    Ok(SchemaChange::CreateTable {
        table,
        if_not_exists: create.if_not_exists,
    })
}

/// A table has counters only, beside its key, or none; and counters do not expire.
fn check_counters(columns: &[NewColumn], options: &TableOptions) -> Result<(), CqlError> {
    let is_value = |c: &&NewColumn| matches!(c.kind, ColumnKind::Regular | ColumnKind::Static);
    let counters = columns
        .iter()
        .filter(is_value)
        .filter(|c| c.ty == CqlType::Counter)
        .count();
    if counters == 0 {
        return Ok(());
    }
    if counters < columns.iter().filter(is_value).count() {
        return Err(CqlError::invalid(
            "Cannot mix counter and non counter columns in the same table",
        ));
    }
    if options.default_ttl_s > 0 {
        return Err(counters_do_not_expire());
    }
    Ok(())
}

fn counters_do_not_expire() -> CqlError {
    CqlError::invalid("Cannot set default_time_to_live on a table with counters")
}

/// Where the types of a table in a keyspace are looked up.
pub(super) fn scope_of<'a>(context: &Context<'a>, keyspace: &'a str) -> Scope<'a> {
    Scope {
        keyspace,
        schema: context.schema,
        dialect: context.server.dialect,
    }
}

fn check_order(context: &Context<'_>, create: &CreateTable, keyspace: &str) -> Result<(), CqlError> {
    let is_twice = |i: usize, name: &str| create.clustering_order[..i].iter().any(|(earlier, _)| earlier == name);
    let mut names = create.clustering_order.iter().enumerate();
    if let Some((_, (name, _))) = names.find(|(i, (name, _))| is_twice(*i, name)) {
        return Err(CqlError::invalid(format!(
            "Duplicate column '{name}' in CLUSTERING ORDER BY clause for table '{keyspace}.{}'",
            create.table.table
        )));
    }
    for (i, (name, _)) in create.clustering_order.iter().enumerate() {
        if !create.clustering_key.contains(name) {
            let rule = "Only clustering key columns can be defined in CLUSTERING ORDER directive";
            return Err(CqlError::invalid(match context.server.dialect.is_scylla() {
                true => rule.to_owned(),
                false => {
                    let ordered = create.clustering_order.iter().map(|(name, _)| name.as_str());
                    let others: Vec<&str> = ordered
                        .filter(|n| !create.clustering_key.iter().any(|k| k == n))
                        .collect();
                    format!("{rule}: [{}] are not clustering columns", others.join(", "))
                }
            }));
        }
        let expected = &create.clustering_key[i];
        if expected != name {
            let is_given = create.clustering_order.iter().any(|(other, _)| other == expected);
            let rule =
                "The order of columns in the CLUSTERING ORDER directive must match that of the clustering columns";
            return Err(CqlError::invalid(match context.server.dialect.is_scylla() {
                true => rule.to_owned(),
                false if is_given => format!("{rule} ({expected} must appear before {name})"),
                false => format!("Missing CLUSTERING ORDER for column {expected}"),
            }));
        }
    }
    let given = create.clustering_order.len();
    if given > 0 && given < create.clustering_key.len() && !context.server.dialect.clustering_order_may_end_early {
        return Err(CqlError::invalid(format!(
            "Missing CLUSTERING ORDER for column {}",
            create.clustering_key[given]
        )));
    }
    Ok(())
}

fn key_column(
    create: &CreateTable,
    column: &ColumnAst,
    kind: ColumnKind,
    scope: Scope<'_>,
) -> Result<NewColumn, CqlError> {
    let name = &column.name;
    let ty = types::resolve(&column.cql_type, scope)?;
    if let CqlType::Udt(udt) = &ty {
        return Err(CqlError::invalid(format!(
            "Invalid non-frozen user-defined type \"{keyspace}.{}\" for PRIMARY KEY column '{name}'",
            udt.name,
            keyspace = udt.keyspace
        )));
    }
    if ty.is_multicell() {
        return Err(CqlError::invalid(format!(
            "Invalid non-frozen collection type {} for PRIMARY KEY column '{name}'",
            types::name(&ty)
        )));
    }
    if let CqlType::Duration | CqlType::Counter = ty {
        return Err(CqlError::invalid(format!(
            "{} type is not supported for PRIMARY KEY column '{name}'",
            types::name(&ty)
        )));
    }
    if column.is_static {
        return Err(CqlError::invalid(format!(
            "Static column '{name}' cannot be part of the PRIMARY KEY"
        )));
    }
    let descending = create
        .clustering_order
        .iter()
        .any(|(n, descending)| n == name && *descending);
    let order = if descending {
        ClusteringOrder::Desc
    } else {
        ClusteringOrder::Asc
    };
    Ok(NewColumn {
        name: name.clone(),
        kind,
        order,
        ty,
    })
}

fn value_column(column: &ColumnAst, scope: Scope<'_>) -> Result<NewColumn, CqlError> {
    let kind = if column.is_static {
        ColumnKind::Static
    } else {
        ColumnKind::Regular
    };
    let ty = types::resolve(&column.cql_type, scope)?;
    Ok(NewColumn {
        name: column.name.clone(),
        kind,
        order: ClusteringOrder::Asc,
        ty,
    })
}

fn alter_keyspace(
    context: &Context<'_>,
    name: &str,
    if_exists: bool,
    options: &BTreeMap<String, PropertyValue>,
) -> Result<Ddl, CqlError> {
    modifiable(name)?;
    if if_exists && !context.schema.keyspaces.contains_key(name) {
        return Ok(Ddl::Nothing);
    }
    let (mut replication, mut durable_writes) = (None, None);
    for (option, value) in options {
        match (option.as_str(), value) {
            ("replication", PropertyValue::Map(map)) => {
                let mut new = parse_replication(context, name, map)?;
                keep_factors(&mut new, context.schema.keyspaces.get(name), map);
                replication = Some(new);
            }
            ("durable_writes", PropertyValue::Simple(text)) => durable_writes = Some(boolean(option, text)?),
            _ => return Err(syntax(format!("Unknown property '{option}'"))),
        }
    }
    if let Some(old) = context
        .schema
        .keyspaces
        .get(name)
        .filter(|_| context.server.dialect.empty_changes_are_none)
        && replication.as_ref().is_none_or(|new| *new == old.replication)
        && durable_writes.is_none_or(|new| new == old.durable_writes)
    {
        return Ok(Ddl::Nothing);
    }
    // With another replication rows do not move: repair does that, as on real servers.
    Ok(Ddl::Change(SchemaChange::AlterKeyspace {
        name: name.to_owned(),
        replication,
        durable_writes,
    }))
}

/// `replication_factor` of an ALTER is for data centres that have no factor yet (seen; C `NetworkTopologyStrategy
/// .prepareOptions`, S `network_topology_strategy::prepare_options`).
fn keep_factors(new: &mut Replication, old: Option<&Keyspace>, given: &BTreeMap<String, String>) {
    let (Replication::NetworkTopology(new), Some(Replication::NetworkTopology(old))) =
        (new, old.map(|k| &k.replication))
    else {
        return;
    };
    if given.contains_key("replication_factor") {
        let unnamed = old.iter().filter(|(dc, _)| !given.contains_key(*dc));
        new.extend(unnamed.map(|(dc, factor)| (dc.clone(), *factor)));
    }
}

/// What Cassandra warns of when a keyspace gets more copies.
pub fn warning(context: &Context<'_>, change: &SchemaChange) -> Option<String> {
    let copies = |r: &Replication| match r {
        Replication::Simple { factor } => u32::from(*factor),
        Replication::NetworkTopology(factors) => factors.values().map(|n| u32::from(*n)).sum(),
    };
    let SchemaChange::AlterKeyspace {
        name,
        replication: Some(new),
        ..
    } = change
    else {
        return None;
    };
    let old = &context.schema.keyspaces.get(name)?.replication;
    let text = "When increasing replication factor you need to run a full (-full) repair to distribute the data.";
    (context.server.dialect.warns_of_more_copies && copies(new) > copies(old)).then(|| text.to_owned())
}

fn alter_table(context: &Context<'_>, name: &TableName, change: &AlterTable) -> Result<Ddl, CqlError> {
    let keyspace = user_keyspace(context, name)?;
    let table = name.table.clone();
    ddl_views::check_alter_table(context, &keyspace, &table)?;
    match change {
        AlterTable::With(given) => {
            let existing = context.schema.table_named(&keyspace, &table);
            let current = existing.map(|t| t.options.clone()).unwrap_or_default();
            let options = table_options(context, given, current)?;
            if let Some(existing) = existing {
                ddl_views::check_base_options(context, existing, &options)?;
                if existing.is_counter() && options.default_ttl_s > 0 {
                    return Err(counters_do_not_expire());
                }
            }
            Ok(Ddl::Change(SchemaChange::AlterOptions {
                keyspace,
                table,
                options,
            }))
        }
        AlterTable::Drop {
            if_exists,
            columns,
            timestamp,
        } => drop_columns(context, keyspace, table, (*if_exists, columns), timestamp.as_ref()),
        AlterTable::Rename(names) => {
            if let Some(existing) = context.schema.table_named(&keyspace, &table) {
                check_renaming(context, existing, names)?;
            }
            Ok(Ddl::Change(SchemaChange::RenameColumns {
                keyspace,
                table,
                names: names.clone(),
            }))
        }
        AlterTable::Add { if_not_exists, columns } => {
            let existing = context.schema.table_named(&keyspace, &table);
            let is_there = |c: &&ColumnAst| existing.is_some_and(|t| t.column(&c.name).is_some());
            let wanted: Vec<&ColumnAst> = columns.iter().filter(|c| !(*if_not_exists && is_there(c))).collect();
            if wanted.is_empty() {
                return Ok(Ddl::Nothing);
            }
            let columns = wanted
                .into_iter()
                .map(|c| value_column(c, scope_of(context, &keyspace)))
                .collect::<Result<Vec<_>, _>>()?;
            if let Some(existing) = existing {
                columns.iter().try_for_each(|c| check_added(existing, c))?;
            }
            Ok(Ddl::Change(SchemaChange::AddColumns {
                keyspace,
                table,
                columns,
            }))
        }
    }
}

/// The words of both servers.
fn no_static() -> CqlError {
    CqlError::invalid(
        "Static columns are only useful (and thus allowed) if the table has at least one clustering column",
    )
}

/// What real servers refuse to add: what was there before as something else, and counters beside other columns.
fn check_added(existing: &Table, new: &NewColumn) -> Result<(), CqlError> {
    let name = &new.name;
    if existing.column(name).is_some() {
        // The core's to say.
        return Ok(());
    }
    if new.kind == ColumnKind::Static && existing.clustering_columns == 0 {
        return Err(no_static());
    }
    if let Some(old) = existing.dropped.iter().find(|d| d.column.name == *name) {
        if old.column.ty == CqlType::Counter {
            return Err(CqlError::invalid(format!(
                "Cannot re-add previously dropped counter column {name}"
            )));
        }
        if old.column.ty != new.ty {
            return Err(CqlError::invalid(format!(
                "Cannot re-add previously dropped column '{name}' of type {}, incompatible with previous type {}",
                types::name(&new.ty),
                types::name(&old.column.ty)
            )));
        }
        if old.column.kind != new.kind {
            let word = |kind| {
                if kind == ColumnKind::Static {
                    "STATIC"
                } else {
                    "REGULAR"
                }
            };
            return Err(CqlError::invalid(format!(
                "Cannot re-add previously dropped column '{name}' of kind {}, incompatible with previous kind {}",
                word(new.kind),
                word(old.column.kind)
            )));
        }
    }
    let (is_counter, of_counters) = (new.ty == CqlType::Counter, existing.is_counter());
    let table = format!("{}.{}", existing.keyspace, existing.name);
    match (is_counter, of_counters) {
        (true, false) => Err(CqlError::config(format!(
            "{table}: Cannot have a counter column (\"{name}\") in a non counter table"
        ))),
        (false, true) => Err(CqlError::config(format!(
            "{table}: Cannot have a non counter column (\"{name}\") in a counter table"
        ))),
        _ => Ok(()),
    }
}

fn check_renaming(context: &Context<'_>, table: &Table, names: &[(String, String)]) -> Result<(), CqlError> {
    for (old, new) in names {
        let column = table.column(old).ok_or_else(|| super::no_column(context, table, old))?;
        if !matches!(column.kind, ColumnKind::PartitionKey | ColumnKind::Clustering) {
            return Err(CqlError::invalid(format!("Cannot rename non PRIMARY KEY column {old}")));
        }
        if table.column(new).is_some() {
            return Err(CqlError::invalid(format!(
                "Cannot rename column {old} to {new} in table '{}.{}'; another column with that name already exists",
                table.keyspace, table.name
            )));
        }
    }
    Ok(())
}

fn drop_columns(
    context: &Context<'_>,
    keyspace: String,
    table: String,
    (if_exists, names): (bool, &[String]),
    timestamp: Option<&Term>,
) -> Result<Ddl, CqlError> {
    let Some(existing) = context.schema.table_named(&keyspace, &table) else {
        return Err(CqlError::invalid(format!("Table '{keyspace}.{table}' doesn't exist")));
    };
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let column = existing.column(name);
        match column.map(|c| c.kind) {
            None if if_exists => continue,
            None => {
                return Err(CqlError::invalid(format!(
                    "Column {name} was not found in table '{keyspace}.{table}'"
                )));
            }
            Some(ColumnKind::PartitionKey | ColumnKind::Clustering) => {
                return Err(CqlError::invalid(format!("Cannot drop PRIMARY KEY column {name}")));
            }
            Some(ColumnKind::Regular | ColumnKind::Static) => columns.push(name.clone()),
        }
        if let Some(column) = column {
            ddl_views::check_drop_column(context, existing, column)?;
        }
    }
    let at_us = match timestamp {
        None => None,
        Some(Term::Literal(Literal::Integer(n))) => {
            Some(n.parse().map_err(|_| CqlError::invalid("Invalid timestamp value"))?)
        }
        Some(_) => return Err(CqlError::unsupported("DROP … USING TIMESTAMP other than as a constant")),
    };
    if columns.is_empty() {
        return Ok(Ddl::Nothing);
    }
    Ok(Ddl::Change(SchemaChange::DropColumns {
        keyspace,
        table,
        columns,
        at_us,
    }))
}

/// The error of a refused change, with code and text as real servers send them.
pub fn schema_error(error: &SchemaError) -> CqlError {
    match error {
        SchemaError::KeyspaceExists { keyspace } => CqlError::already_exists(keyspace, None),
        SchemaError::TableExists { keyspace, table } => CqlError::already_exists(keyspace, Some(table)),
        SchemaError::NoKeyspace { keyspace } => CqlError::invalid(format!("Keyspace '{keyspace}' doesn't exist")),
        SchemaError::NoTable { keyspace, table } => {
            CqlError::invalid(format!("Table '{keyspace}.{table}' doesn't exist"))
        }
        SchemaError::ColumnExists { column, .. } => {
            CqlError::invalid(format!("Column with name '{column}' already exists"))
        }
        SchemaError::BadReplication { what, .. } => CqlError::config(what.clone()),
        SchemaError::NoColumn { .. }
        | SchemaError::KeyColumn { .. }
        | SchemaError::Malformed { .. }
        | SchemaError::Refused { .. } => CqlError::invalid(error.to_string()),
    }
}

/// The schema that these statements make of an empty one, and the image a cluster can start from.
///
/// Statements other than CREATE, ALTER, DROP and USE are refused: an image has no data.
///
/// # Errors
/// The first refusal, with the statement.
pub fn schema_image(server: &super::Server, statements: &[&str]) -> Result<Schema, CqlError> {
    let mut schema = Schema::default();
    let mut keyspace: Option<String> = None;
    for text in statements {
        let with_text = |e: CqlError| CqlError {
            message: format!("{} (in: {text})", e.message),
            detail: e.detail,
        };
        let parsed = crate::cql::parse::parse(text).map_err(|e| with_text(e.into()))?;
        if let Statement::Use(name) = parsed.statement {
            keyspace = Some(name);
            continue;
        }
        let context = Context {
            schema: &schema,
            keyspace: keyspace.as_deref(),
            server,
        };
        let ddl = resolve(&context, &parsed.statement).map_err(with_text)?;
        if let Ddl::Change(change) = ddl {
            schema = schema.apply(&change, 0).map_err(|e| with_text(schema_error(&e)))?.0;
        }
    }
    Ok(schema)
}

/// The keyspace and table a change is about, and the word for it; `None` if it changed nothing.
pub fn wire_change(effect: &SchemaEffect) -> Option<crate::cql::frame::response::SchemaChange> {
    let (change, target) = match effect {
        SchemaEffect::Created(t) => ("CREATED", t),
        SchemaEffect::Updated(t) => ("UPDATED", t),
        SchemaEffect::Dropped(t) => ("DROPPED", t),
        SchemaEffect::Nothing => return None,
    };
    let is_type = matches!(target, SchemaTarget::Type { .. });
    let (keyspace, table) = match target {
        SchemaTarget::Keyspace { keyspace } => (keyspace.clone(), None),
        SchemaTarget::Table { keyspace, table } => (keyspace.clone(), Some(table.clone())),
        SchemaTarget::Type { keyspace, name } => (keyspace.clone(), Some(name.clone())),
    };
    Some(crate::cql::frame::response::SchemaChange {
        change,
        keyspace,
        table,
        is_type,
    })
}
