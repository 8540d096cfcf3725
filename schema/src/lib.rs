//! The database side of settlement: which tables each design has, how their rows are stamped, how they are created.
//!
//! | module | what it holds |
//! |---|---|
//! | [`design`] | the settlement designs and the keyspace each lives in |
//! | [`tables`] | the registry of tables: one line per table, its columns read from its `.cql` file |
//! | [`parse`] | the reader of those files (our own `CREATE TABLE`s, nothing more) |
//! | [`timestamp`] | the row timestamp: `version << 12 | generation` |
//! | [`keys`] | buckets and days: how a sequence or a time becomes a partition key |
//! | [`size`] | what a batch of rows weighs by the database's own count |
//! | [`migrate`] | the migration runner and the check that a keyspace is the one expected |
//!
//! Which rows an event becomes is the settlement designs' business, not this crate's.
//!
//! To add a table: a `.cql` file beside the others and one line in [`tables`]. To add a design: a folder of `.cql`
//! files, a variant in [`design`] and its list in [`tables`].

pub mod design;
pub mod keys;
pub mod migrate;
pub mod parse;
pub mod size;
pub mod tables;
pub mod timestamp;

pub use design::{DesignName, UnknownDesign};
pub use migrate::{Migrated, SchemaError, Target, check, migrate};
pub use parse::{ClusteringOrder, ColumnDef, ColumnKind, CqlType};
pub use tables::{DdlError, TableDef, TimestampRule, ddl, table_defs};
pub use timestamp::{Generation, RowTimestamp, TimestampError};
