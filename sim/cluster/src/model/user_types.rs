//! Changes to user-defined types. Columns hold the whole definition of a type, so a change of one is a change of every
//! column that uses it.

use super::schema::{Schema, SchemaChange, SchemaEffect, SchemaError, SchemaTarget};
use super::types::UserType;
use std::sync::Arc;

fn refused<T>(what: String) -> Result<T, SchemaError> {
    Err(SchemaError::Refused { what })
}

impl Schema {
    /// Carries out a change to user-defined types.
    pub(super) fn edit_types(&mut self, change: &SchemaChange) -> Result<SchemaEffect, SchemaError> {
        match change {
            SchemaChange::CreateType { new, if_not_exists } => self.create_type(new, *if_not_exists),
            SchemaChange::AddFields { keyspace, name, fields } => {
                self.alter_type(keyspace, name, |udt| udt.fields.extend(fields.iter().cloned()))
            }
            SchemaChange::RenameFields { keyspace, name, names } => self.alter_type(keyspace, name, |udt| {
                for (old, new) in names {
                    if let Some((field, _)) = udt.fields.iter_mut().find(|(f, _)| f == old) {
                        field.clone_from(new);
                    }
                }
            }),
            SchemaChange::DropType {
                keyspace,
                name,
                if_exists,
            } => self.drop_type(keyspace, name, *if_exists),
            _ => refused("not a change to a type".to_owned()),
        }
    }

    fn create_type(&mut self, new: &UserType, if_not_exists: bool) -> Result<SchemaEffect, SchemaError> {
        let (keyspace, name) = (new.keyspace.clone(), new.name.clone());
        if !self.keyspaces.contains_key(&keyspace) {
            return Err(SchemaError::NoKeyspace { keyspace });
        }
        if self.user_type(&keyspace, &name).is_some() {
            return match if_not_exists {
                true => Ok(SchemaEffect::Nothing),
                false => refused(format!("A user type with name '{name}' already exists")),
            };
        }
        self.types.insert((keyspace.clone(), name.clone()), new.clone());
        Ok(SchemaEffect::Created(SchemaTarget::Type { keyspace, name }))
    }

    fn alter_type(
        &mut self,
        keyspace: &str,
        name: &str,
        edit: impl Fn(&mut UserType),
    ) -> Result<SchemaEffect, SchemaError> {
        if self.user_type(keyspace, name).is_none() {
            return refused(format!("Type {keyspace}.{name} doesn't exist"));
        }
        let mut edit_that_one = |udt: &mut UserType| {
            if udt.keyspace == keyspace && udt.name == name {
                edit(udt);
            }
        };
        for udt in self.types.values_mut() {
            udt.fields
                .iter_mut()
                .for_each(|(_, ty)| ty.user_types_mut(&mut edit_that_one));
            edit_that_one(udt);
        }
        for table in self.tables.iter_mut().flatten() {
            if table.columns.iter().any(|c| c.ty.uses(keyspace, name)) {
                let columns = &mut Arc::make_mut(table).columns;
                columns.iter_mut().for_each(|c| c.ty.user_types_mut(&mut edit_that_one));
            }
        }
        Ok(SchemaEffect::Updated(SchemaTarget::Type {
            keyspace: keyspace.to_owned(),
            name: name.to_owned(),
        }))
    }

    fn drop_type(&mut self, keyspace: &str, name: &str, if_exists: bool) -> Result<SchemaEffect, SchemaError> {
        if self.user_type(keyspace, name).is_none() {
            return match if_exists {
                true => Ok(SchemaEffect::Nothing),
                false => refused(format!("Type '{keyspace}.{name}' doesn't exist")),
            };
        }
        let types: Vec<&str> = self
            .types
            .values()
            .filter(|t| t.name != name && t.fields.iter().any(|(_, ty)| ty.uses(keyspace, name)))
            .map(|t| t.name.as_str())
            .collect();
        let tables: Vec<&str> = self
            .all_tables()
            .filter(|t| t.columns.iter().any(|c| c.ty.uses(keyspace, name)))
            .map(|t| t.name.as_str())
            .collect();
        for (what, users) in [("user types", types), ("tables", tables)] {
            if !users.is_empty() {
                return refused(format!(
                    "Cannot drop user type '{keyspace}.{name}' as it is still used by {what} {}",
                    users.join(", ")
                ));
            }
        }
        self.types.remove(&(keyspace.to_owned(), name.to_owned()));
        Ok(SchemaEffect::Dropped(SchemaTarget::Type {
            keyspace: keyspace.to_owned(),
            name: name.to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{CqlType, Replication, Schema, SchemaChange, UserType};

    fn applied(schema: &Schema, change: SchemaChange) -> Schema {
        schema.apply(&change, 0).expect("a change").0
    }

    #[test]
    fn a_schema_with_types_comes_back_from_its_bytes_and_one_without_has_the_bytes_it_always_had() {
        let empty = applied(
            &Schema::default(),
            SchemaChange::CreateKeyspace {
                name: "k".into(),
                replication: Replication::Simple { factor: 1 },
                durable_writes: true,
                if_not_exists: false,
            },
        );
        let bytes = empty.to_bytes().expect("bytes");
        assert_eq!(bytes, postcard::to_stdvec(&empty).expect("bytes"));
        assert_eq!(Schema::from_bytes(&bytes).expect("a schema"), empty);
        let new = UserType {
            keyspace: "k".into(),
            name: "t".into(),
            fields: vec![("f".into(), CqlType::Int)],
        };
        let with_type = applied(
            &empty,
            SchemaChange::CreateType {
                new,
                if_not_exists: false,
            },
        );
        let again = Schema::from_bytes(&with_type.to_bytes().expect("bytes")).expect("a schema");
        assert_eq!(again, with_type);
        assert!(again.user_type("k", "t").is_some());
    }
}
