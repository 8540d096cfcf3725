//! CREATE INDEX and DROP INDEX, in the words of Cassandra 5.0.

use super::ddl::user_keyspace;
use super::{Context, keyspace_of, no_column};
use crate::cql::describe::identifier;
use crate::cql::error::CqlError;
use crate::cql::parse::ast::{CreateIndex, TableName};
use crate::cql::system::is_system_keyspace;
use crate::model::{ColumnKind, CqlType, Index, IndexedPart, SchemaChange, Table};

/// The class of storage-attached indexes.
pub const SAI: &str = "StorageAttachedIndex";

/// CREATE INDEX.
///
/// # Errors
/// Columns that are not there, or that cannot be indexed so.
pub(super) fn create(context: &Context<'_>, create: &CreateIndex) -> Result<SchemaChange, CqlError> {
    let keyspace = user_keyspace(context, &create.table)?;
    let name = &create.table.table;
    let Some(table) = context.schema.table_named(&keyspace, name) else {
        let missing = match context.schema.keyspaces.contains_key(&keyspace) {
            true => format!("Table '{name}' doesn't exist"),
            false => format!("Keyspace '{keyspace}' doesn't exist"),
        };
        return Err(CqlError::invalid(missing));
    };
    if context.schema.view(table.id).is_some() {
        return Err(CqlError::invalid(
            "Secondary indexes on materialized views aren't supported",
        ));
    }
    let class = class(create)?;
    let index = Index {
        // Given names are in lower case unless they were quoted, and taken as they are.
        name: create.name.clone().unwrap_or_default(),
        column: create.column.clone(),
        part: part(context, table, create, class.is_some())?,
        class,
        options: create.options.clone(),
    };
    Ok(SchemaChange::CreateIndex {
        keyspace,
        table: name.clone(),
        index: Box::new(index),
        if_not_exists: create.if_not_exists,
    })
}

/// The class of a custom index.
fn class(create: &CreateIndex) -> Result<Option<String>, CqlError> {
    let Some(given) = &create.class else {
        return match create.is_custom {
            true => Err(no_class("legacy_local_table")),
            false => Ok(None),
        };
    };
    match given.rsplit('.').next().unwrap_or(given) {
        "legacy_local_table" => Ok(None),
        "sai" | SAI => Ok(Some(given.clone())),
        "SASIIndex" => Err(CqlError::invalid(
            "SASI indexes are disabled. Enable in cassandra.yaml to use.",
        )),
        _ => Err(no_class(given)),
    }
}

fn no_class(name: &str) -> CqlError {
    CqlError::config(format!("Unable to find custom indexer class '{name}'"))
}

/// What of the column is indexed, if it can be.
fn part(context: &Context<'_>, table: &Table, create: &CreateIndex, is_custom: bool) -> Result<IndexedPart, CqlError> {
    let name = &create.column;
    let refused = |what: String| Err(CqlError::invalid(what));
    let Some(column) = table.column(name) else {
        return Err(no_column(context, table, name));
    };
    if table.is_counter() {
        return refused("Secondary indexes on counter tables aren't supported".into());
    }
    if column.kind == ColumnKind::PartitionKey && table.partition_columns == 1 {
        return refused(format!(
            "Cannot create secondary index on the only partition key column {name}"
        ));
    }
    let is_collection = |ty: &CqlType| matches!(ty, CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..));
    let part = match (&column.ty, create.part) {
        (CqlType::Duration, _) => return refused("Secondary indexes are not supported on duration columns".into()),
        (CqlType::Udt(_), _) => return refused(format!("Cannot create index on non-frozen UDT column {name}")),
        (ty, Some("full")) if !matches!(ty, CqlType::Frozen(inner) if is_collection(inner)) => {
            return refused("full() indexes can only be created on frozen collections".into());
        }
        (CqlType::Frozen(inner), Some(part)) if is_collection(inner) && part != "full" => {
            return refused(format!(
                "Cannot create {part}() index on frozen column {name}. Frozen collections are immutable and must be fully \
                 indexed by using the 'full({name})' modifier"
            ));
        }
        (CqlType::Frozen(inner), None) if is_collection(inner) && !is_custom => {
            return refused(format!(
                "Cannot create values() index on frozen column {name}. Frozen collections are immutable and must be fully \
                 indexed by using the 'full({name})' modifier"
            ));
        }
        (_, Some("full")) => IndexedPart::Full,
        (CqlType::Map(..), Some("keys")) => IndexedPart::Keys,
        (CqlType::Map(..), Some("entries")) => IndexedPart::Entries,
        (ty, Some("values") | None) if is_collection(ty) => IndexedPart::Values,
        (ty, Some(part)) if is_collection(ty) => {
            return refused(format!(
                "Cannot create index on {part} of column {name} with non-map type"
            ));
        }
        (_, Some(part)) => {
            return refused(format!(
                "Cannot create {part}() index on {name}. Non-collection columns only support simple indexes"
            ));
        }
        (_, None) => IndexedPart::Whole,
    };
    Ok(part)
}

/// DROP INDEX.
///
/// # Errors
/// No keyspace, or one of the server's own.
pub(super) fn drop_index(context: &Context<'_>, name: &TableName, if_exists: bool) -> Result<SchemaChange, CqlError> {
    let keyspace = keyspace_of(context, name)?.to_owned();
    if is_system_keyspace(&keyspace) {
        return Err(CqlError::invalid(format!(
            "System keyspace '{keyspace}' is not user-modifiable"
        )));
    }
    Ok(SchemaChange::DropIndex {
        keyspace,
        name: name.table.clone(),
        if_exists,
    })
}

/// What is indexed, as `system_schema.indexes` and DESCRIBE have it.
pub fn target(index: &Index) -> String {
    let column = identifier(&index.column);
    match index.part {
        IndexedPart::Whole => column,
        IndexedPart::Full => format!("full({column})"),
        IndexedPart::Values => format!("values({column})"),
        IndexedPart::Keys => format!("keys({column})"),
        IndexedPart::Entries => format!("entries({column})"),
    }
}

/// The statement that makes the index.
pub fn statement(table: &Table, index: &Index) -> String {
    let custom = if index.class.is_some() { "CUSTOM " } else { "" };
    let mut text = format!(
        "CREATE {custom}INDEX {} ON {}.{} ({})",
        identifier(&index.name),
        identifier(&table.keyspace),
        identifier(&table.name),
        target(index)
    );
    if let Some(class) = &index.class {
        text += &format!(" USING '{class}'");
    }
    if !index.options.is_empty() {
        let options: Vec<String> = index.options.iter().map(|(k, v)| format!("'{k}': '{v}'")).collect();
        text += &format!(" WITH OPTIONS = {{{}}}", options.join(", "));
    }
    text + ";"
}
