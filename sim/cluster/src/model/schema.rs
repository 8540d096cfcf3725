//! Tables, columns, keyspaces, and the changes that DDL makes to them.
//!
//! A [`Schema`] is a value: nodes hold one behind an `Arc` and replace it as a whole. It validates changes (exists, does
//! not exist, bad replication) but knows nothing of CQL text; the words of the errors are the edge's.

use super::Components;
use super::indexes::Index;
use super::types::{CqlType, UserType};
use super::views::{NewView, View};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// A table, by a small number that is never reused within one cluster. It is what mutations and logs carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId(pub u16);

/// A column of one table, by a small number: its index in creation order, kept when columns are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ColumnId(pub u16);

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "CQL's own names")]
pub enum ColumnKind {
    PartitionKey,
    Clustering,
    Static,
    Regular,
}

/// Order of a clustering column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "CQL's own names")]
pub enum ClusteringOrder {
    #[default]
    Asc,
    Desc,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its number in the table.
    pub id: ColumnId,
    /// Its name, case preserved.
    pub name: String,
    /// What it is for.
    pub kind: ColumnKind,
    /// Index among the columns of its kind for key columns, 0 otherwise.
    pub position: u16,
    /// Order, for clustering columns.
    pub order: ClusteringOrder,
    /// Its type.
    pub ty: CqlType,
    /// Cells with a timestamp at or below this are invisible: the column was dropped then and added again since.
    pub hidden_until_us: Option<i64>,
}

/// A column that was dropped, kept so that adding it again hides what was written before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedColumn {
    /// The column as it was.
    pub column: Column,
    /// Timestamp of the drop, microseconds (`ALTER TABLE ... DROP ... USING TIMESTAMP`, or the coordinator's clock).
    pub dropped_at_us: i64,
}

/// Table options that change behaviour here; every other option is the edge's to keep as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableOptions {
    /// `gc_grace_seconds`.
    pub gc_grace_s: u32,
    /// `default_time_to_live`, seconds; 0 is none.
    pub default_ttl_s: u32,
    /// Options kept as they were written, for `system_schema.tables` and DESCRIBE.
    pub other: BTreeMap<String, String>,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions {
            gc_grace_s: 864_000,
            default_ttl_s: 0,
            other: BTreeMap::new(),
        }
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its number, as mutations carry it.
    pub id: TableId,
    /// Its public identity (`system_schema.tables.id`).
    pub uuid: Uuid,
    /// Keyspace it belongs to.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Partition key columns in order, then clustering columns in order, then the others in order of creation.
    pub columns: Vec<Column>,
    /// Number of partition key columns.
    pub partition_columns: usize,
    /// Number of clustering columns.
    pub clustering_columns: usize,
    /// Columns dropped and not added again.
    pub dropped: Vec<DroppedColumn>,
    /// Options.
    pub options: TableOptions,
    /// Its indexes by name. In a log they stand behind the rest of the schema: see [`Schema::to_bytes`].
    #[serde(skip)]
    pub indexes: Vec<Index>,
}

impl Table {
    /// Partition key columns in order.
    pub fn partition_key(&self) -> &[Column] {
        &self.columns[..self.partition_columns]
    }
    /// Clustering columns in order.
    pub fn clustering(&self) -> &[Column] {
        &self.columns[self.partition_columns..self.partition_columns + self.clustering_columns]
    }
    /// Static and regular columns.
    pub fn values(&self) -> &[Column] {
        &self.columns[self.partition_columns + self.clustering_columns..]
    }
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
    /// The column with that number.
    pub fn column_by_id(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|c| c.id == id)
    }
    /// Whether its columns beside the key are counters.
    pub fn is_counter(&self) -> bool {
        self.values().first().is_some_and(|c| c.ty == CqlType::Counter)
    }
    /// Whether the table has static columns.
    pub fn has_static(&self) -> bool {
        self.values().iter().any(|c| c.kind == ColumnKind::Static)
    }
    /// Named components of a clustering key, for messages and fault matching.
    pub fn clustering_values<'a>(&'a self, clustering: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.clustering()
            .iter()
            .map(|c| c.name.as_str())
            .zip(Components::new(clustering))
    }
}

/// How a keyspace's partitions are placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replication {
    /// `SimpleStrategy`: the next nodes on the ring, racks and data centres ignored.
    Simple {
        /// Replicas in all.
        factor: u8,
    },
    /// `NetworkTopologyStrategy`: per data centre, spread over racks.
    NetworkTopology(BTreeMap<String, u8>),
}

/// A keyspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyspace {
    /// Its name.
    pub name: String,
    /// Placement.
    pub replication: Replication,
    /// `durable_writes`, true by default. Kept for `system_schema.keyspaces`; the core always logs.
    pub durable_writes: bool,
    /// Its tables by name.
    pub tables: BTreeMap<String, TableId>,
}

/// Everything DDL has made. `version` changes with every change and is what `system.local.schema_version` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Number of changes so far: the higher of two schemas of one cluster is the newer.
    pub change: u64,
    /// Public version, derived from the content of the changes.
    pub version: Uuid,
    /// Keyspaces by name.
    pub keyspaces: BTreeMap<String, Keyspace>,
    /// Tables by number; `None` where one was dropped.
    pub tables: Vec<Option<Arc<Table>>>,
    /// User-defined types by keyspace and name. In a log they stand behind the rest: see [`Schema::to_bytes`].
    #[serde(skip)]
    pub types: BTreeMap<(String, String), UserType>,
    /// What makes some of the tables materialized views. In a log behind the types.
    #[serde(skip)]
    pub views: BTreeMap<TableId, View>,
}

impl Default for Schema {
    fn default() -> Self {
        // The version every empty Cassandra schema has (MD5 of nothing).
        Schema {
            change: 0,
            version: Uuid::from_u128(0xd41d8cd98f003204a9800998ecf8427e),
            keyspaces: BTreeMap::new(),
            tables: vec![],
            types: BTreeMap::new(),
            views: BTreeMap::new(),
        }
    }
}

/// A table as DDL describes it, before it has numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTable {
    /// Keyspace it goes to.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Columns: partition key in order, clustering in order, then the others.
    pub columns: Vec<NewColumn>,
    /// Options.
    pub options: TableOptions,
}

/// A column as DDL describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewColumn {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: ColumnKind,
    /// Order, for clustering columns.
    pub order: ClusteringOrder,
    /// Its type.
    pub ty: CqlType,
}

/// One DDL statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "fields are the parts of the statement")]
pub enum SchemaChange {
    CreateKeyspace {
        name: String,
        replication: Replication,
        durable_writes: bool,
        if_not_exists: bool,
    },
    AlterKeyspace {
        name: String,
        replication: Option<Replication>,
        durable_writes: Option<bool>,
    },
    DropKeyspace {
        name: String,
        if_exists: bool,
    },
    CreateTable {
        table: NewTable,
        if_not_exists: bool,
    },
    AddColumns {
        keyspace: String,
        table: String,
        columns: Vec<NewColumn>,
    },
    /// `at_us` None: the coordinator's clock.
    DropColumns {
        keyspace: String,
        table: String,
        columns: Vec<String>,
        at_us: Option<i64>,
    },
    AlterOptions {
        keyspace: String,
        table: String,
        options: TableOptions,
    },
    DropTable {
        keyspace: String,
        table: String,
        if_exists: bool,
    },
    /// Old and new names of key columns.
    RenameColumns {
        keyspace: String,
        table: String,
        names: Vec<(String, String)>,
    },
    CreateType {
        new: UserType,
        if_not_exists: bool,
    },
    AddFields {
        keyspace: String,
        name: String,
        fields: Vec<(String, CqlType)>,
    },
    /// Old and new names of fields.
    RenameFields {
        keyspace: String,
        name: String,
        names: Vec<(String, String)>,
    },
    DropType {
        keyspace: String,
        name: String,
        if_exists: bool,
    },
    CreateView {
        view: Box<NewView>,
        if_not_exists: bool,
    },
    DropView {
        keyspace: String,
        name: String,
        if_exists: bool,
    },
    /// An index without a name gets one.
    CreateIndex {
        keyspace: String,
        table: String,
        index: Box<Index>,
        if_not_exists: bool,
    },
    DropIndex {
        keyspace: String,
        name: String,
        if_exists: bool,
    },
}

/// What a change did, for the SCHEMA_CHANGE result and event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "CQL's own words")]
pub enum SchemaEffect {
    Created(SchemaTarget),
    Updated(SchemaTarget),
    Dropped(SchemaTarget),
    /// `IF [NOT] EXISTS` made it a no-op: the answer is a Void result.
    Nothing,
}

/// What a schema change was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "CQL's own words")]
pub enum SchemaTarget {
    Keyspace { keyspace: String },
    Table { keyspace: String, table: String },
    Type { keyspace: String, name: String },
}

/// Why a schema change was refused. The edge turns each into its code and its exact text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[expect(missing_docs, reason = "fields name what the message says")]
pub enum SchemaError {
    #[error("keyspace '{keyspace}' already exists")]
    KeyspaceExists { keyspace: String },
    #[error("table '{keyspace}.{table}' already exists")]
    TableExists { keyspace: String, table: String },
    #[error("keyspace '{keyspace}' doesn't exist")]
    NoKeyspace { keyspace: String },
    #[error("table '{keyspace}.{table}' doesn't exist")]
    NoTable { keyspace: String, table: String },
    #[error("column '{column}' already exists in table '{keyspace}.{table}'")]
    ColumnExists {
        keyspace: String,
        table: String,
        column: String,
    },
    #[error("column '{column}' was not found in table '{keyspace}.{table}'")]
    NoColumn {
        keyspace: String,
        table: String,
        column: String,
    },
    #[error("cannot drop key column '{column}' of '{keyspace}.{table}'")]
    KeyColumn {
        keyspace: String,
        table: String,
        column: String,
    },
    #[error("table '{keyspace}.{table}' is not well formed: {what}")]
    Malformed {
        keyspace: String,
        table: String,
        what: String,
    },
    #[error("replication of keyspace '{keyspace}': {what}")]
    BadReplication { keyspace: String, what: String },
    /// In the words of real servers.
    #[error("{what}")]
    Refused { what: String },
}

impl Schema {
    /// The user-defined type of that name.
    pub fn user_type(&self, keyspace: &str, name: &str) -> Option<&UserType> {
        self.types.get(&(keyspace.to_owned(), name.to_owned()))
    }

    /// The table of that number, unless it was dropped.
    pub fn table(&self, id: TableId) -> Option<&Arc<Table>> {
        self.tables.get(usize::from(id.0))?.as_ref()
    }

    /// The table of that name.
    pub fn table_named(&self, keyspace: &str, table: &str) -> Option<&Arc<Table>> {
        self.table(*self.keyspaces.get(keyspace)?.tables.get(table)?)
    }

    /// All tables in order of creation.
    pub fn all_tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.iter().flatten()
    }

    /// The schema after `change`, with what it did; `now_us` is the coordinator's clock, for a DROP without timestamp.
    /// Equal schemas given equal changes become equal schemas, numbers and uuids included.
    pub fn apply(&self, change: &SchemaChange, now_us: i64) -> Result<(Schema, SchemaEffect), SchemaError> {
        let mut next = self.clone();
        let effect = next.edit(change, now_us)?;
        if effect != SchemaEffect::Nothing {
            next.change += 1;
            next.version = fingerprint(self.version, next.change, &format!("{change:?}"));
        }
        Ok((next, effect))
    }

    fn edit(&mut self, change: &SchemaChange, now_us: i64) -> Result<SchemaEffect, SchemaError> {
        match change {
            SchemaChange::CreateKeyspace {
                name,
                replication,
                durable_writes,
                if_not_exists,
            } => self.create_keyspace(name, replication, *durable_writes, *if_not_exists),
            SchemaChange::AlterKeyspace {
                name,
                replication,
                durable_writes,
            } => {
                let ks = self.keyspace_mut(name)?;
                if let Some(r) = replication {
                    check_replication(name, r)?;
                    ks.replication = r.clone();
                }
                ks.durable_writes = durable_writes.unwrap_or(ks.durable_writes);
                Ok(SchemaEffect::Updated(SchemaTarget::Keyspace { keyspace: name.clone() }))
            }
            SchemaChange::DropKeyspace { name, if_exists } => self.drop_keyspace(name, *if_exists),
            SchemaChange::CreateTable { table, if_not_exists } => self.create_table(table, *if_not_exists),
            SchemaChange::AddColumns {
                keyspace,
                table,
                columns,
            } => {
                let effect = self.alter(keyspace, table, |t| columns.iter().try_for_each(|c| add_column(t, c)))?;
                self.add_to_views(keyspace, table, columns);
                Ok(effect)
            }
            SchemaChange::DropColumns {
                keyspace,
                table,
                columns,
                at_us,
            } => {
                let at_us = at_us.unwrap_or(now_us);
                self.alter(keyspace, table, |t| {
                    columns.iter().try_for_each(|c| drop_column(t, c, at_us))
                })
            }
            SchemaChange::AlterOptions {
                keyspace,
                table,
                options,
            } => self.alter(keyspace, table, |t| {
                t.options = options.clone();
                Ok(())
            }),
            SchemaChange::DropTable {
                keyspace,
                table,
                if_exists,
            } => {
                self.check_has_no_views(keyspace, table)?;
                self.drop_table(keyspace, table, *if_exists)
            }
            SchemaChange::RenameColumns { keyspace, table, names } => {
                let effect = self.alter(keyspace, table, |t| rename_columns(t, names))?;
                self.rename_in_views(keyspace, table, names);
                Ok(effect)
            }
            SchemaChange::CreateIndex {
                keyspace,
                table,
                index,
                if_not_exists,
            } => self.create_index(keyspace, table, index, *if_not_exists),
            SchemaChange::DropIndex {
                keyspace,
                name,
                if_exists,
            } => self.drop_index(keyspace, name, *if_exists),
            of_others => self.edit_views(of_others),
        }
    }

    fn keyspace_mut(&mut self, name: &str) -> Result<&mut Keyspace, SchemaError> {
        self.keyspaces.get_mut(name).ok_or_else(|| SchemaError::NoKeyspace {
            keyspace: name.to_owned(),
        })
    }

    fn create_keyspace(
        &mut self,
        name: &str,
        replication: &Replication,
        durable_writes: bool,
        if_not_exists: bool,
    ) -> Result<SchemaEffect, SchemaError> {
        if self.keyspaces.contains_key(name) {
            return match if_not_exists {
                true => Ok(SchemaEffect::Nothing),
                false => Err(SchemaError::KeyspaceExists {
                    keyspace: name.to_owned(),
                }),
            };
        }
        check_replication(name, replication)?;
        let ks = Keyspace {
            name: name.to_owned(),
            replication: replication.clone(),
            durable_writes,
            tables: BTreeMap::new(),
        };
        self.keyspaces.insert(name.to_owned(), ks);
        Ok(SchemaEffect::Created(SchemaTarget::Keyspace {
            keyspace: name.to_owned(),
        }))
    }

    fn drop_keyspace(&mut self, name: &str, if_exists: bool) -> Result<SchemaEffect, SchemaError> {
        let Some(ks) = self.keyspaces.remove(name) else {
            return match if_exists {
                true => Ok(SchemaEffect::Nothing),
                false => Err(SchemaError::NoKeyspace {
                    keyspace: name.to_owned(),
                }),
            };
        };
        for id in ks.tables.values() {
            self.tables[usize::from(id.0)] = None;
        }
        self.types.retain(|(keyspace, _), _| keyspace != name);
        self.prune_views();
        Ok(SchemaEffect::Dropped(SchemaTarget::Keyspace {
            keyspace: name.to_owned(),
        }))
    }

    pub(super) fn create_table(&mut self, new: &NewTable, if_not_exists: bool) -> Result<SchemaEffect, SchemaError> {
        let (keyspace, name) = (new.keyspace.clone(), new.name.clone());
        let id = TableId(self.tables.len() as u16);
        let version = self.version;
        let ks = self.keyspace_mut(&keyspace)?;
        if ks.tables.contains_key(&name) {
            return match if_not_exists {
                true => Ok(SchemaEffect::Nothing),
                false => Err(SchemaError::TableExists { keyspace, table: name }),
            };
        }
        let table = build_table(
            new,
            id,
            fingerprint(version, u64::from(id.0), &format!("table {keyspace}.{name}")),
        )?;
        ks.tables.insert(name.clone(), id);
        self.tables.push(Some(Arc::new(table)));
        Ok(SchemaEffect::Created(SchemaTarget::Table { keyspace, table: name }))
    }

    pub(super) fn drop_table(
        &mut self,
        keyspace: &str,
        table: &str,
        if_exists: bool,
    ) -> Result<SchemaEffect, SchemaError> {
        let removed = self.keyspace_mut(keyspace).map(|ks| ks.tables.remove(table));
        match removed {
            Ok(Some(id)) => self.tables[usize::from(id.0)] = None,
            _ if if_exists => return Ok(SchemaEffect::Nothing),
            Ok(None) => {
                return Err(SchemaError::NoTable {
                    keyspace: keyspace.to_owned(),
                    table: table.to_owned(),
                });
            }
            Err(e) => return Err(e),
        }
        Ok(SchemaEffect::Dropped(SchemaTarget::Table {
            keyspace: keyspace.to_owned(),
            table: table.to_owned(),
        }))
    }

    pub(super) fn alter(
        &mut self,
        keyspace: &str,
        table: &str,
        edit: impl FnOnce(&mut Table) -> Result<(), SchemaError>,
    ) -> Result<SchemaEffect, SchemaError> {
        let missing = || SchemaError::NoTable {
            keyspace: keyspace.to_owned(),
            table: table.to_owned(),
        };
        let id = *self.keyspace_mut(keyspace)?.tables.get(table).ok_or_else(missing)?;
        let slot = self.tables[usize::from(id.0)].as_mut().ok_or_else(missing)?;
        edit(Arc::make_mut(slot))?;
        Ok(SchemaEffect::Updated(SchemaTarget::Table {
            keyspace: keyspace.to_owned(),
            table: table.to_owned(),
        }))
    }
}

fn check_replication(keyspace: &str, r: &Replication) -> Result<(), SchemaError> {
    let bad = |what: &str| {
        Err(SchemaError::BadReplication {
            keyspace: keyspace.to_owned(),
            what: what.to_owned(),
        })
    };
    match r {
        Replication::Simple { factor: 0 } => bad("replication_factor must be positive"),
        Replication::NetworkTopology(dcs) if dcs.values().all(|f| *f == 0) => {
            bad("no data centre has a positive factor")
        }
        _ => Ok(()),
    }
}

/// A uuid derived from what led to it, so that equal histories give equal versions on every run. Shaped as version 3.
fn fingerprint(base: Uuid, number: u64, text: &str) -> Uuid {
    let mut bytes = base.as_bytes().to_vec();
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    let (h1, h2) = crate::core::murmur3::hash128(&bytes);
    let raw = (u128::from(h1) << 64) | u128::from(h2);
    Uuid::from_u128((raw & !(0xf << 76) & !(0x3 << 62)) | (0x3 << 76) | (0x2 << 62))
}

fn build_table(new: &NewTable, id: TableId, uuid: Uuid) -> Result<Table, SchemaError> {
    let malformed = |what: &str| {
        Err(SchemaError::Malformed {
            keyspace: new.keyspace.clone(),
            table: new.name.clone(),
            what: what.to_owned(),
        })
    };
    let count = |kind| new.columns.iter().filter(|c| c.kind == kind).count();
    let (partition_columns, clustering_columns) = (count(ColumnKind::PartitionKey), count(ColumnKind::Clustering));
    if partition_columns == 0 {
        return malformed("no partition key");
    }
    if count(ColumnKind::Static) > 0 && clustering_columns == 0 {
        return malformed("static columns need a clustering key");
    }
    let mut table = Table {
        id,
        uuid,
        keyspace: new.keyspace.clone(),
        name: new.name.clone(),
        columns: vec![],
        partition_columns,
        clustering_columns,
        dropped: vec![],
        options: new.options.clone(),
        indexes: vec![],
    };
    let sorted = [ColumnKind::PartitionKey, ColumnKind::Clustering]
        .into_iter()
        .flat_map(|k| new.columns.iter().filter(move |c| c.kind == k))
        .chain(
            new.columns
                .iter()
                .filter(|c| matches!(c.kind, ColumnKind::Static | ColumnKind::Regular)),
        );
    for c in sorted {
        if c.kind == ColumnKind::Clustering && !crate::core::key::orderable(&c.ty) {
            return malformed(&format!(
                "clustering column {} has a type that cannot be ordered here",
                c.name
            ));
        }
        push_column(&mut table, c)?;
    }
    for (i, c) in table.columns.iter_mut().enumerate() {
        c.position = match c.kind {
            ColumnKind::PartitionKey => i as u16,
            ColumnKind::Clustering => (i - partition_columns) as u16,
            _ => 0,
        };
    }
    Ok(table)
}

fn push_column(table: &mut Table, c: &NewColumn) -> Result<(), SchemaError> {
    if table.column(&c.name).is_some() {
        return Err(SchemaError::ColumnExists {
            keyspace: table.keyspace.clone(),
            table: table.name.clone(),
            column: c.name.clone(),
        });
    }
    let id = ColumnId((table.columns.len() + table.dropped.len()) as u16);
    table.columns.push(Column {
        id,
        name: c.name.clone(),
        kind: c.kind,
        position: 0,
        order: c.order,
        ty: c.ty.clone(),
        hidden_until_us: None,
    });
    Ok(())
}

/// Adds a static or regular column. One that was dropped before comes back under its old number, with what was written
/// before the drop hidden: with hand-made timestamps below the drop's, that is everything ever written to it.
fn add_column(table: &mut Table, c: &NewColumn) -> Result<(), SchemaError> {
    if !matches!(c.kind, ColumnKind::Static | ColumnKind::Regular) {
        return Err(SchemaError::KeyColumn {
            keyspace: table.keyspace.clone(),
            table: table.name.clone(),
            column: c.name.clone(),
        });
    }
    push_column(table, c)?;
    if let Some(at) = table.dropped.iter().position(|d| d.column.name == c.name) {
        let old = table.dropped.remove(at);
        let back = table.columns.last_mut().expect("pushed above");
        back.id = old.column.id;
        back.hidden_until_us = Some(old.dropped_at_us);
    }
    Ok(())
}

fn rename_columns(table: &mut Table, names: &[(String, String)]) -> Result<(), SchemaError> {
    let keys = table.partition_columns + table.clustering_columns;
    for (old, new) in names {
        table.check_unindexed("Can't rename", old)?;
        let is_free = table.column(new).is_none();
        match table.columns[..keys].iter_mut().find(|c| c.name == *old) {
            Some(column) if is_free => column.name.clone_from(new),
            _ => {
                return Err(SchemaError::Refused {
                    what: format!("Cannot rename column {old} to {new}"),
                });
            }
        }
    }
    Ok(())
}

fn drop_column(table: &mut Table, name: &str, at_us: i64) -> Result<(), SchemaError> {
    let (keyspace, tname) = (table.keyspace.clone(), table.name.clone());
    let Some(at) = table.columns.iter().position(|c| c.name == name) else {
        return Err(SchemaError::NoColumn {
            keyspace,
            table: tname,
            column: name.to_owned(),
        });
    };
    if at < table.partition_columns + table.clustering_columns {
        return Err(SchemaError::KeyColumn {
            keyspace,
            table: tname,
            column: name.to_owned(),
        });
    }
    table.check_unindexed("Cannot drop", name)?;
    let column = table.columns.remove(at);
    table.dropped.push(DroppedColumn {
        column,
        dropped_at_us: at_us,
    });
    Ok(())
}
