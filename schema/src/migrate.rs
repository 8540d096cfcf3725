//! Creates a keyspace and its tables, and checks that what is there is what the registry says. Safe to run twice and
//! from two machines at once: every statement is `IF NOT EXISTS`, agreement is awaited, and the record rows are the
//! same bytes under the same timestamp whoever writes them. It adds what is missing; it never alters or drops: a table
//! that differs is an error for a person.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::cluster::metadata::Strategy;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError, SchemaAgreementError};
use settlement_events::Registry;

use crate::design::DesignName;
use crate::parse::{ClusteringOrder, ColumnKind};
use crate::tables::{DdlError, TableDef, TimestampRule, keyspace_cql, table_defs};
use crate::timestamp::{Generation, RowTimestamp};

/// How often a statement is tried. Two machines that migrate at once make each other's statements fail now and then
/// (Scylla: concurrent modification of group 0; Cassandra: a table id that lost); each failure lets the other finish,
/// so few attempts suffice.
const ATTEMPTS_MAX: u32 = 5;

/// The pause before attempt n + 1 is n times this.
const PAUSE_MS: u64 = 200;

/// What is to be there.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// For which design.
    pub design: DesignName,
    /// In which keyspace.
    pub keyspace: &'a str,
    /// How many copies a data centre keeps: of a keyspace that does not exist yet exactly, of another one at least.
    pub replication_factor: u8,
    /// The symbols that get tables.
    pub registry: &'a Registry,
}

/// What a migration did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// The tables that were not there before, by name.
    pub created: Vec<String>,
    /// How many tables are there now.
    pub tables: usize,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.created.is_empty() {
            return write!(f, "nothing to do: all {} tables are there", self.tables);
        }
        write!(
            f,
            "created {} of {} tables: {}",
            self.created.len(),
            self.tables,
            self.created.join(", ")
        )
    }
}

/// Why a keyspace is not, or cannot be made, what is needed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// A name or a number that cannot be used.
    #[error(transparent)]
    Ddl(#[from] DdlError),
    /// The keyspace is not there.
    #[error(
        "keyspace {keyspace} does not exist: create it with `settlement migrate`, or set `keyspace` (and `design`) to \
         the one that was meant"
    )]
    KeyspaceMissing {
        /// Which one.
        keyspace: String,
    },
    /// A table is not there.
    #[error(
        "keyspace {keyspace} has no table {table}, which design {design} needs: run `settlement migrate`, or set \
         `keyspace` to the one of this design (its default is {default})",
        default = design.default_keyspace()
    )]
    TableMissing {
        /// Where.
        keyspace: String,
        /// Which one.
        table: String,
        /// For which design.
        design: DesignName,
    },
    /// A table is there and is another.
    #[error(
        "table {keyspace}.{table} is not the one that design {design} needs: {difference}. The keyspace belongs to \
         another design or to another version of this program: set `keyspace` to an own one (the default is \
         {default}); nothing was changed",
        default = design.default_keyspace()
    )]
    DifferentTable {
        /// Where.
        keyspace: String,
        /// Which one.
        table: String,
        /// For which design.
        design: DesignName,
        /// What differs first.
        difference: String,
    },
    /// The keyspace keeps fewer copies than it was meant to.
    #[error(
        "the replication factor of keyspace {keyspace} in {place} is {copies}, and the configuration says \
         `replication_factor` = {wanted}: with fewer copies, a lost node takes along what the database has \
         acknowledged. Give the keyspace more of them (ALTER KEYSPACE, then a repair), or set `replication_factor` to \
         {copies} if that is what was meant; nothing was changed"
    )]
    TooFewCopies {
        /// Which one.
        keyspace: String,
        /// Where.
        place: String,
        /// How many it keeps there.
        copies: usize,
        /// How many were meant.
        wanted: u8,
    },
    /// The database did not take a statement.
    #[error(
        "the database did not execute {statement:?}: {source}. If it cannot be reached, check `contact_points`; if it \
         refuses, check the permissions of the user; then run this again, it continues where it stopped"
    )]
    Statement {
        /// The statement.
        statement: String,
        /// What the driver says.
        source: Box<ExecutionError>,
    },
    /// The nodes did not agree on a schema.
    #[error(
        "the nodes do not agree on one schema: {source}. A node is probably down or cut off: bring it back, then run \
         this again, it continues where it stopped"
    )]
    Agreement {
        /// What the driver says.
        source: Box<SchemaAgreementError>,
    },
    /// The schema tables cannot be read.
    #[error("the tables of keyspace {keyspace} cannot be read from system_schema: {detail}")]
    Unreadable {
        /// Which keyspace.
        keyspace: String,
        /// What went wrong.
        detail: String,
    },
}

/// Creates what is missing and checks what is there.
///
/// Errors: see [`SchemaError`]. After an error running it again continues where it stopped.
pub async fn migrate(session: &Session, target: &Target<'_>) -> Result<Migrated, SchemaError> {
    let defs = table_defs(target.design, target.registry)?;
    run_ddl(session, &keyspace_cql(target.keyspace, target.replication_factor)?).await?;
    agree(session).await?;
    check_copies(session, target)?;

    let found = found_tables(session, target.keyspace).await?;
    let mut created = Vec::new();
    for def in &defs {
        match found.get(&def.name) {
            Some(columns) => compare(target, def, columns)?,
            None => {
                run_ddl(session, &def.create_cql(target.keyspace)).await?;
                created.push(def.name.clone());
            }
        }
    }
    agree(session).await?;
    check_defs(target, &defs, &found_tables(session, target.keyspace).await?)?;
    record(session, target, &defs).await?;
    Ok(Migrated {
        created,
        tables: defs.len(),
    })
}

/// Checks that the keyspace has every table of the design, column by column. Reads `system_schema` once.
pub async fn check(session: &Session, target: &Target<'_>) -> Result<Vec<TableDef>, SchemaError> {
    let defs = table_defs(target.design, target.registry)?;
    keyspace_cql(target.keyspace, 1)?;
    check_defs(target, &defs, &found_tables(session, target.keyspace).await?)?;
    check_copies(session, target)?;
    Ok(defs)
}

/// Whether every data centre that keeps copies keeps enough, as far as the driver knows the keyspace's replication: it
/// fetches it for routing.
fn check_copies(session: &Session, target: &Target<'_>) -> Result<(), SchemaError> {
    let state = session.get_cluster_state();
    match state
        .get_keyspace(target.keyspace)
        .and_then(|known| fewest_copies(&known.strategy))
    {
        Some((place, copies)) if copies < target.replication_factor.into() => Err(SchemaError::TooFewCopies {
            keyspace: target.keyspace.to_owned(),
            place,
            copies,
            wanted: target.replication_factor,
        }),
        _ => Ok(()),
    }
}

/// Where a keyspace keeps the fewest copies, and how many; None if its replication is not one of the usual two.
fn fewest_copies(strategy: &Strategy) -> Option<(String, usize)> {
    match strategy {
        Strategy::SimpleStrategy { replication_factor } => Some(("the cluster".into(), *replication_factor)),
        Strategy::NetworkTopologyStrategy { datacenter_repfactors } => {
            let with_copies = datacenter_repfactors.iter().filter(|(_, copies)| **copies > 0);
            // By name where they are equal, so that the answer does not depend on the map.
            let (name, copies) = with_copies.min_by_key(|(name, copies)| (**copies, *name))?;
            Some((format!("data centre {name}"), *copies))
        }
        _ => None,
    }
}

/// A column as `system_schema.columns` describes it: kind and type.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FoundColumn {
    kind: String,
    cql_type: String,
}

type FoundTables = BTreeMap<String, BTreeMap<String, FoundColumn>>;

async fn found_tables(session: &Session, keyspace: &str) -> Result<FoundTables, SchemaError> {
    let statement = format!(
        "SELECT table_name, column_name, clustering_order, kind, position, type FROM system_schema.columns WHERE \
         keyspace_name = '{keyspace}'"
    );
    let unreadable = |detail: &dyn fmt::Display| SchemaError::Unreadable {
        keyspace: keyspace.to_owned(),
        detail: detail.to_string(),
    };
    let result = session.query_unpaged(statement.as_str(), ()).await;
    let result = result.map_err(|source| SchemaError::Statement {
        statement,
        source: Box::new(source),
    })?;
    let rows = result.into_rows_result().map_err(|error| unreadable(&error))?;
    let rows = rows
        .rows::<(&str, &str, &str, &str, i32, &str)>()
        .map_err(|error| unreadable(&error))?;
    let mut tables = FoundTables::new();
    for row in rows {
        let (table, column, order, kind, position, cql_type) = row.map_err(|error| unreadable(&error))?;
        let kind = found_kind(kind, position, order);
        let found = FoundColumn {
            kind,
            cql_type: cql_type.to_owned(),
        };
        tables
            .entry(table.to_owned())
            .or_default()
            .insert(column.to_owned(), found);
    }
    Ok(tables)
}

/// In the words of [`ColumnKind`]'s display, or in the database's own where it is nothing we use.
fn found_kind(kind: &str, position: i32, order: &str) -> String {
    let place = usize::try_from(position).unwrap_or(usize::MAX);
    match (kind, order) {
        ("partition_key", _) => ColumnKind::PartitionKey(place).to_string(),
        ("clustering", "desc") => ColumnKind::Clustering(place, ClusteringOrder::Desc).to_string(),
        ("clustering", _) => ColumnKind::Clustering(place, ClusteringOrder::Asc).to_string(),
        (other, _) => other.to_owned(),
    }
}

fn check_defs(target: &Target<'_>, defs: &[TableDef], found: &FoundTables) -> Result<(), SchemaError> {
    if found.is_empty() {
        return Err(SchemaError::KeyspaceMissing {
            keyspace: target.keyspace.to_owned(),
        });
    }
    for def in defs {
        let columns = found.get(&def.name).ok_or_else(|| SchemaError::TableMissing {
            keyspace: target.keyspace.to_owned(),
            table: def.name.clone(),
            design: target.design,
        })?;
        compare(target, def, columns)?;
    }
    Ok(())
}

fn compare(target: &Target<'_>, def: &TableDef, found: &BTreeMap<String, FoundColumn>) -> Result<(), SchemaError> {
    match difference(def, found) {
        None => Ok(()),
        Some(difference) => Err(SchemaError::DifferentTable {
            keyspace: target.keyspace.to_owned(),
            table: def.name.clone(),
            design: target.design,
            difference,
        }),
    }
}

/// The first difference, in the order of the expected columns; then columns nobody expects, which an `INSERT` of ours
/// would leave unbound.
fn difference(def: &TableDef, found: &BTreeMap<String, FoundColumn>) -> Option<String> {
    for column in &def.columns {
        let Some(actual) = found.get(&column.name) else {
            return Some(format!("column {} is missing", column.name));
        };
        if actual.cql_type != column.cql_type.as_str() {
            return Some(format!(
                "column {} is {}, not {}",
                column.name, actual.cql_type, column.cql_type
            ));
        }
        let expected = column.kind.to_string();
        if actual.kind != expected {
            return Some(format!("column {} is {}, not {expected}", column.name, actual.kind));
        }
    }
    let unexpected = found
        .keys()
        .find(|name| def.columns.iter().all(|column| column.name != **name))?;
    Some(format!("it has a column {unexpected} that does not belong there"))
}

/// Runs one statement, again after a pause when it fails; a table that exists by now is what was wanted.
async fn run_ddl(session: &Session, statement: &str) -> Result<(), SchemaError> {
    let mut attempt = 1;
    loop {
        let error = match session.query_unpaged(statement, ()).await {
            Ok(_) => return Ok(()),
            Err(error) if already_exists(&error) => return Ok(()),
            Err(ExecutionError::SchemaAgreementError(source)) if attempt == ATTEMPTS_MAX => {
                return Err(SchemaError::Agreement {
                    source: Box::new(source),
                });
            }
            Err(error) => error,
        };
        if attempt == ATTEMPTS_MAX {
            return Err(SchemaError::Statement {
                statement: statement.to_owned(),
                source: Box::new(error),
            });
        }
        pause(&mut attempt).await;
    }
}

fn already_exists(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::AlreadyExists { .. }, _))
    )
}

async fn agree(session: &Session) -> Result<(), SchemaError> {
    let mut attempt = 1;
    loop {
        match session.await_schema_agreement().await {
            Ok(_) => return Ok(()),
            Err(source) if attempt == ATTEMPTS_MAX => {
                return Err(SchemaError::Agreement {
                    source: Box::new(source),
                });
            }
            Err(_) => pause(&mut attempt).await,
        }
    }
}

/// Says in the keyspace itself from which statements it was made.
async fn record(session: &Session, target: &Target<'_>, defs: &[TableDef]) -> Result<(), SchemaError> {
    let Some(record) = defs.iter().find(|def| def.name == "schema_migrations") else {
        return Ok(());
    };
    let TimestampRule::Fixed(version) = record.timestamp else {
        return Ok(());
    };
    let timestamp = RowTimestamp::new(version, Generation::FIRST).map_or(0, RowTimestamp::as_micros);
    let insert = record.insert_cql(target.keyspace);
    let fail = |source: ExecutionError| SchemaError::Statement {
        statement: insert.clone(),
        source: Box::new(source),
    };
    let mut prepared = session
        .prepare(insert.as_str())
        .await
        .map_err(|error| fail(error.into()))?;
    // The same cells under the same timestamp: writing them again changes nothing.
    prepared.set_is_idempotent(true);
    for def in defs {
        let row = (def.name.as_str(), def.create_cql(target.keyspace), timestamp);
        let mut attempt = 1;
        while let Err(source) = session.execute_unpaged(&prepared, &row).await {
            if attempt == ATTEMPTS_MAX {
                return Err(fail(source));
            }
            pause(&mut attempt).await;
        }
    }
    Ok(())
}

async fn pause(attempt: &mut u32) {
    tokio::time::sleep(Duration::from_millis(PAUSE_MS * u64::from(*attempt))).await;
    *attempt += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(name: &str) -> TableDef {
        let defs = table_defs(DesignName::Ledger, &Registry::example()).expect("is in shape");
        defs.into_iter().find(|def| def.name == name).expect("is registered")
    }

    fn as_found(def: &TableDef) -> BTreeMap<String, FoundColumn> {
        let found = |column: &crate::parse::ColumnDef| FoundColumn {
            kind: column.kind.to_string(),
            cql_type: column.cql_type.to_string(),
        };
        def.columns
            .iter()
            .map(|column| (column.name.clone(), found(column)))
            .collect()
    }

    #[test]
    fn the_data_centre_with_the_fewest_copies_counts_and_one_without_any_does_not() {
        let topology = |factors: &[(&str, usize)]| {
            let factors = factors.iter().map(|(name, copies)| ((*name).to_owned(), *copies));
            fewest_copies(&Strategy::NetworkTopologyStrategy {
                datacenter_repfactors: factors.collect(),
            })
        };
        let found = |place: &str, copies| Some((place.to_owned(), copies));
        assert_eq!(topology(&[("a", 3), ("b", 1), ("c", 0)]), found("data centre b", 1));
        assert_eq!(topology(&[("b", 2), ("a", 2)]), found("data centre a", 2));
        assert_eq!(topology(&[("a", 0)]), None);
        let simple = Strategy::SimpleStrategy { replication_factor: 2 };
        assert_eq!(fewest_copies(&simple), found("the cluster", 2));
        assert_eq!(fewest_copies(&Strategy::LocalStrategy), None);
    }

    #[test]
    fn the_first_difference_is_told() {
        let def = def("balance_ledger");
        let same = as_found(&def);
        assert_eq!(difference(&def, &same), None);

        let mut ascending = same.clone();
        ascending.get_mut("seq").expect("is there").kind = found_kind("clustering", 0, "asc");
        assert_eq!(
            difference(&def, &ascending).as_deref(),
            Some("column seq is clustering 0 ascending, not clustering 0 descending")
        );
        let mut narrow = same.clone();
        narrow.get_mut("avail").expect("is there").cql_type = "int".into();
        assert_eq!(
            difference(&def, &narrow).as_deref(),
            Some("column avail is int, not bigint")
        );
        let mut missing = same.clone();
        missing.remove("digest");
        assert_eq!(difference(&def, &missing).as_deref(), Some("column digest is missing"));
        let mut more = same;
        more.insert(
            "note".into(),
            FoundColumn {
                kind: "regular".into(),
                cql_type: "text".into(),
            },
        );
        assert_eq!(
            difference(&def, &more).as_deref(),
            Some("it has a column note that does not belong there")
        );
    }

    #[test]
    fn errors_say_what_to_do() {
        let registry = Registry::example();
        let target = Target {
            design: DesignName::Ledger,
            keyspace: "trading_x",
            replication_factor: 3,
            registry: &registry,
        };
        let defs = [def("user_balances")];
        let none = FoundTables::new();
        let other = FoundTables::from([("orders".to_owned(), as_found(&def("orders")))]);
        let different = FoundTables::from([("user_balances".to_owned(), as_found(&def("orders")))]);
        let texts: Vec<String> = [none, other, different]
            .iter()
            .map(|found| {
                check_defs(&target, &defs, found)
                    .expect_err("must be refused")
                    .to_string()
            })
            .collect();
        insta::assert_snapshot!(texts.join("\n"));
    }
}
