//! What a node tells its clients when its schema changes: the core hands over the schema as a whole, clients are told what
//! became of each keyspace and table.

use crate::cql::frame::response::SchemaChange;
use crate::model::{Schema, Table};

/// What changed from one schema to another, as events tell it: dropped tables before their keyspace, created keyspaces
/// before their tables.
pub(super) fn schema_changes(before: &Schema, after: &Schema) -> Vec<SchemaChange> {
    let change = |change, keyspace: &str, table: Option<&str>| SchemaChange {
        change,
        keyspace: keyspace.to_owned(),
        table: table.map(str::to_owned),
        is_type: false,
    };
    let mut changes = Vec::new();
    let table_of = |schema: &Schema, t: &Table| schema.table_named(&t.keyspace, &t.name).cloned();
    for old in before.all_tables() {
        match table_of(after, old) {
            Some(new) if new.id != old.id => {
                changes.push(change("DROPPED", &old.keyspace, Some(&old.name)));
            }
            Some(new) if new != *old => changes.push(change("UPDATED", &old.keyspace, Some(&old.name))),
            Some(_) => {}
            None => changes.push(change("DROPPED", &old.keyspace, Some(&old.name))),
        }
    }
    for old in before.keyspaces.values() {
        if !after.keyspaces.contains_key(&old.name) {
            changes.push(change("DROPPED", &old.name, None));
        }
    }
    for new in after.keyspaces.values() {
        match before.keyspaces.get(&new.name) {
            None => changes.push(change("CREATED", &new.name, None)),
            Some(old) if old.replication != new.replication || old.durable_writes != new.durable_writes => {
                changes.push(change("UPDATED", &new.name, None));
            }
            Some(_) => {}
        }
    }
    let of_type = |word, (keyspace, name): &(String, String)| SchemaChange {
        is_type: true,
        ..change(word, keyspace, Some(name))
    };
    for (key, old) in &before.types {
        match after.types.get(key) {
            None => changes.push(of_type("DROPPED", key)),
            Some(new) if new != old => changes.push(of_type("UPDATED", key)),
            Some(_) => {}
        }
    }
    for key in after.types.keys().filter(|k| !before.types.contains_key(*k)) {
        changes.push(of_type("CREATED", key));
    }
    for new in after.all_tables() {
        if table_of(before, new).is_none_or(|old| old.id != new.id) {
            changes.push(change("CREATED", &new.keyspace, Some(&new.name)));
        }
    }
    changes
}
