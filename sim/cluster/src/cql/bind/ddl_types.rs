//! CREATE, ALTER and DROP of user-defined types, in the words of Cassandra 5.0.

use super::Context;
use super::ddl::{Ddl, scope_of, user_keyspace};
use crate::cql::error::CqlError;
use crate::cql::parse::ast::{AlterType, TableName, TypeAst};
use crate::cql::types;
use crate::model::{CqlType, SchemaChange, UserType};

/// The type of a field: no counter, and no user-defined type that is not frozen.
fn field_type(context: &Context<'_>, keyspace: &str, ast: &TypeAst) -> Result<CqlType, CqlError> {
    let scope = scope_of(context, keyspace);
    let not_frozen = || CqlError::invalid("A user type cannot contain non-frozen UDTs");
    if let TypeAst::User(..) = ast {
        return Err(not_frozen());
    }
    match types::resolve(ast, scope) {
        Ok(CqlType::Counter) => Err(CqlError::invalid("A user type cannot contain counters")),
        Ok(CqlType::Udt(_)) => Err(not_frozen()),
        // A name that is no type is one of a user-defined type that is not frozen (seen).
        Err(_) if matches!(ast, TypeAst::Named(_)) => Err(not_frozen()),
        other => other,
    }
}

/// CREATE TYPE.
///
/// # Errors
/// Fields twice, or of types that cannot be fields.
pub(super) fn create(
    context: &Context<'_>,
    name: &TableName,
    if_not_exists: bool,
    fields: &[(String, TypeAst)],
) -> Result<SchemaChange, CqlError> {
    let keyspace = user_keyspace(context, name)?;
    if !context.schema.keyspaces.contains_key(&keyspace) {
        return Err(CqlError::invalid(format!("Keyspace '{keyspace}' doesn't exist")));
    }
    let mut known: Vec<(String, CqlType)> = Vec::with_capacity(fields.len());
    for (field, ast) in fields {
        if known.iter().any(|(f, _)| f == field) {
            return Err(CqlError::invalid(format!(
                "Duplicate field name '{field}' in type '{}'",
                name.table
            )));
        }
        known.push((field.clone(), field_type(context, &keyspace, ast)?));
    }
    let new = UserType {
        keyspace,
        name: name.table.clone(),
        fields: known,
    };
    Ok(SchemaChange::CreateType { new, if_not_exists })
}

/// ALTER TYPE.
///
/// # Errors
/// Types and fields that are not there, or are there already.
pub(super) fn alter(
    context: &Context<'_>,
    name: &TableName,
    if_exists: bool,
    change: &AlterType,
) -> Result<Ddl, CqlError> {
    let keyspace = user_keyspace(context, name)?;
    let name = name.table.clone();
    let Some(existing) = context.schema.user_type(&keyspace, &name) else {
        return match if_exists {
            true => Ok(Ddl::Nothing),
            false => Err(CqlError::invalid(format!("Type {keyspace}.{name} doesn't exist"))),
        };
    };
    let is_there = |field: &str| existing.fields.iter().any(|(f, _)| f == field);
    match change {
        AlterType::Add { if_not_exists, fields } => {
            let mut added = Vec::new();
            for (field, ast) in fields {
                if is_there(field) && *if_not_exists {
                    continue;
                }
                if is_there(field) {
                    return Err(CqlError::invalid(format!(
                        "Cannot add field {field} to type {keyspace}.{name}: a field with name {field} already exists"
                    )));
                }
                let ty = field_type(context, &keyspace, ast)?;
                if ty.uses(&keyspace, &name) {
                    return Err(CqlError::invalid(format!(
                        "Cannot add new field {field} of type {} to user type {keyspace}.{name} as it would create a \
                         circular reference",
                        types::name(&ty)
                    )));
                }
                added.push((field.clone(), ty));
            }
            if added.is_empty() {
                return Ok(Ddl::Nothing);
            }
            Ok(Ddl::Change(SchemaChange::AddFields {
                keyspace,
                name,
                fields: added,
            }))
        }
        AlterType::Rename(names) => {
            for (old, new) in names {
                if !is_there(old) {
                    // The word is Cassandra's.
                    return Err(CqlError::invalid(format!(
                        "Unkown field {old} in user type {keyspace}.{name}"
                    )));
                }
                if is_there(new) {
                    return Err(CqlError::invalid(format!(
                        "Duplicate field name {new} in type {keyspace}"
                    )));
                }
            }
            Ok(Ddl::Change(SchemaChange::RenameFields {
                keyspace,
                name,
                names: names.clone(),
            }))
        }
    }
}
