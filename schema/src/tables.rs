//! The registry of tables: one line per table and design. The columns stand in the `.cql` file alone; here is what the
//! file cannot say: for which design it is, whether there is one per symbol, and where the timestamp of a row comes
//! from.

use settlement_events::{Registry, Symbol};

use crate::design::DesignName;
use crate::parse::{self, ColumnDef, ColumnKind, CqlType, ParseError};

/// Where the timestamp of a table's rows comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampRule {
    /// [`crate::RowTimestamp`] of the value of this column and the generation. Start-up and reconciliation can check
    /// that `WRITETIME` of every cell is exactly that.
    FromColumn(&'static str),
    /// [`crate::RowTimestamp`] of this number, generation 0: every writer writes the same row.
    Fixed(u64),
    /// The clock of whichever coordinator took the write. What the source designs do.
    ServerClock,
}

/// One line of the registry.
struct Line {
    name: &'static str,
    per_symbol: bool,
    timestamp: TimestampRule,
    file: &'static str,
}

macro_rules! line {
    ($folder:literal, $name:literal, $timestamp:expr) => {
        line!(@ $folder, $name, false, $timestamp)
    };
    ($folder:literal, $name:literal per symbol, $timestamp:expr) => {
        line!(@ $folder, $name, true, $timestamp)
    };
    (@ $folder:literal, $name:literal, $per_symbol:literal, $timestamp:expr) => {
        Line {
            name: $name,
            per_symbol: $per_symbol,
            timestamp: $timestamp,
            file: include_str!(concat!("../cql/", $folder, $name, ".cql")),
        }
    };
}

use TimestampRule::{Fixed, FromColumn, ServerClock};

/// The tables that every design has.
const COMMON: &[Line] = &[line!("", "schema_migrations", Fixed(1))];

const LEDGER: &[Line] = &[
    line!("ledger/", "settled_events", FromColumn("output_sequence")),
    line!("ledger/", "settled_trades" per symbol, FromColumn("output_sequence")),
    line!("ledger/", "trades_by_user", FromColumn("output_sequence")),
    line!("ledger/", "balance_ledger", FromColumn("seq")),
    line!("ledger/", "user_balances", FromColumn("version")),
    line!("ledger/", "orders", FromColumn("version")),
    line!("ledger/", "ledger_events", FromColumn("output_sequence")),
    line!("ledger/", "settlement_checkpoint", FromColumn("durable")),
    line!("ledger/", "dead_letters", FromColumn("output_sequence")),
    line!("ledger/", "skips", FromColumn("output_sequence")),
];

const LOGGED_RMW: &[Line] = &[
    line!("logged_rmw/", "settled_trades" per symbol, ServerClock),
    line!("logged_rmw/", "user_balances", ServerClock),
    line!("logged_rmw/", "orders", ServerClock),
    line!("logged_rmw/", "ledger_events", ServerClock),
    line!("logged_rmw/", "failed_trades", ServerClock),
    line!("logged_rmw/", "settlement_checkpoint", FromColumn("durable")),
    line!("logged_rmw/", "dead_letters", FromColumn("output_sequence")),
    line!("logged_rmw/", "skips", FromColumn("output_sequence")),
];

const SEQUENTIAL_DELTA: &[Line] = &[
    line!("sequential_delta/", "settled_trades" per symbol, ServerClock),
    line!("sequential_delta/", "user_balances", ServerClock),
    line!("sequential_delta/", "orders", ServerClock),
    line!("sequential_delta/", "ledger_events", ServerClock),
    line!("sequential_delta/", "failed_trades", ServerClock),
    line!("sequential_delta/", "settlement_checkpoint", FromColumn("durable")),
    line!("sequential_delta/", "dead_letters", FromColumn("output_sequence")),
    line!("sequential_delta/", "skips", FromColumn("output_sequence")),
];

const KEYSPACE_FILE: &str = include_str!("../cql/keyspace.cql");

/// The longest name a keyspace or a table may have in Cassandra and Scylla.
const NAME_LEN_MAX: usize = 48;

fn lines(design: DesignName) -> impl Iterator<Item = &'static Line> {
    let own = match design {
        DesignName::Ledger => LEDGER,
        DesignName::LoggedRmw => LOGGED_RMW,
        DesignName::SequentialDelta => SEQUENTIAL_DELTA,
    };
    COMMON.iter().chain(own)
}

/// A table as it must be: its columns, and where the timestamps of its rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDef {
    /// Its name, without the keyspace.
    pub name: String,
    /// Its columns, in the order in which `INSERT` binds them.
    pub columns: Vec<ColumnDef>,
    /// Where the timestamp of a row comes from.
    pub timestamp: TimestampRule,
    file: &'static str,
    symbol: Option<String>,
}

impl TableDef {
    /// Whether rows carry a timestamp made of a version.
    #[must_use]
    pub const fn is_pinned(&self) -> bool {
        !matches!(self.timestamp, TimestampRule::ServerClock)
    }

    /// Whether its values are counters: no `INSERT`, no timestamps, only additions.
    #[must_use]
    pub fn is_counter(&self) -> bool {
        self.columns.iter().any(|column| column.cql_type == CqlType::Counter)
    }

    /// An `UPDATE` that adds to every counter of the table: binds what is added, then the key, each in the order of
    /// [`Self::columns`]. Not of a table without counters, which adds nothing to nothing.
    #[must_use]
    pub fn add_cql(&self, keyspace: &str) -> String {
        let of = |is_counter: bool| {
            let columns = self.columns.iter();
            columns.filter(move |column| (column.cql_type == CqlType::Counter) == is_counter)
        };
        let additions: Vec<String> = of(true).map(|column| format!("{0} = {0} + ?", column.name)).collect();
        let key: Vec<String> = of(false).map(|column| format!("{} = ?", column.name)).collect();
        format!(
            "UPDATE {keyspace}.{} SET {} WHERE {}",
            self.name,
            additions.join(", "),
            key.join(" AND ")
        )
    }

    /// An `INSERT` that binds every column of the table, in the order of [`Self::columns`]; then, if the timestamp is
    /// pinned, the timestamp. Binding every column is what keeps two contents of one version from mixing unnoticed.
    #[must_use]
    pub fn insert_cql(&self, keyspace: &str) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let markers = vec!["?"; names.len()];
        let using = if self.is_pinned() { " USING TIMESTAMP ?" } else { "" };
        format!(
            "INSERT INTO {keyspace}.{} ({}) VALUES ({}){using}",
            self.name,
            names.join(", "),
            markers.join(", ")
        )
    }

    /// A `SELECT` of the named columns that is restricted by equality on the named key columns.
    #[must_use]
    pub fn select_cql(&self, keyspace: &str, columns: &[&str], by: &[&str]) -> String {
        let restrictions: Vec<String> = by.iter().map(|column| format!("{column} = ?")).collect();
        format!(
            "SELECT {} FROM {keyspace}.{} WHERE {}",
            columns.join(", "),
            self.name,
            restrictions.join(" AND ")
        )
    }

    /// The `CREATE TABLE IF NOT EXISTS` for a keyspace.
    #[must_use]
    pub fn create_cql(&self, keyspace: &str) -> String {
        let statement = parse::statement(self.file).replace("{keyspace}", keyspace);
        match &self.symbol {
            Some(symbol) => statement.replace("{symbol}", symbol),
            None => statement,
        }
    }

    /// The columns of the partition key, in order.
    pub fn partition_key(&self) -> impl Iterator<Item = &ColumnDef> {
        self.columns
            .iter()
            .filter(|column| matches!(column.kind, ColumnKind::PartitionKey(_)))
    }
}

/// Why the statements of a keyspace cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DdlError {
    /// The keyspace's name.
    #[error(
        "{name:?} cannot be the name of a keyspace: use 1 to {NAME_LEN_MAX} lower-case letters, digits and \
         underscores, beginning with a letter"
    )]
    Keyspace {
        /// The name.
        name: String,
    },
    /// The replication factor.
    #[error("a replication factor of 0 keeps nothing: use 3, or 1 for a single test node")]
    ReplicationFactor,
    /// The name of a symbol.
    #[error("symbol {symbol:?} is too long: the table {table} named after it has more than {NAME_LEN_MAX} characters")]
    TableName {
        /// The symbol.
        symbol: String,
        /// Its table.
        table: String,
    },
    /// A file of this crate.
    #[error(transparent)]
    File(#[from] ParseError),
}

/// The tables of a design: those of all designs, its own, and one per symbol where it has such.
pub fn table_defs(design: DesignName, registry: &Registry) -> Result<Vec<TableDef>, DdlError> {
    let mut defs = Vec::new();
    for line in lines(design) {
        if line.per_symbol {
            for symbol in registry.symbols() {
                defs.push(symbol_table(line, symbol)?);
            }
        } else {
            defs.push(table(line, line.name.to_owned(), None)?);
        }
    }
    Ok(defs)
}

/// The name of the table of one symbol, such as `settled_trades_btc_usdt`.
#[must_use]
pub fn settled_trades_table(symbol: &Symbol) -> String {
    format!("settled_trades_{}", symbol.table_suffix())
}

/// Every statement that makes a keyspace of a design, in order. Running them twice changes nothing.
pub fn ddl(
    design: DesignName,
    keyspace: &str,
    replication_factor: u8,
    registry: &Registry,
) -> Result<Vec<String>, DdlError> {
    let mut statements = vec![keyspace_cql(keyspace, replication_factor)?];
    statements.extend(table_defs(design, registry)?.iter().map(|def| def.create_cql(keyspace)));
    Ok(statements)
}

/// The `CREATE KEYSPACE IF NOT EXISTS`.
pub(crate) fn keyspace_cql(keyspace: &str, replication_factor: u8) -> Result<String, DdlError> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins_well = keyspace.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins_well || keyspace.len() > NAME_LEN_MAX || !keyspace.chars().all(legal) {
        return Err(DdlError::Keyspace {
            name: keyspace.to_owned(),
        });
    }
    if replication_factor == 0 {
        return Err(DdlError::ReplicationFactor);
    }
    let statement = parse::statement(KEYSPACE_FILE).replace("{keyspace}", keyspace);
    Ok(statement.replace("{replication_factor}", &replication_factor.to_string()))
}

fn symbol_table(line: &Line, symbol: &Symbol) -> Result<TableDef, DdlError> {
    let suffix = symbol.table_suffix();
    let name = format!("{}_{suffix}", line.name);
    if name.len() > NAME_LEN_MAX {
        return Err(DdlError::TableName {
            symbol: symbol.name.clone(),
            table: name,
        });
    }
    table(line, name, Some(suffix))
}

fn table(line: &Line, name: String, symbol: Option<String>) -> Result<TableDef, DdlError> {
    let columns = parse::columns(&name, line.file)?;
    Ok(TableDef {
        name,
        columns,
        timestamp: line.timestamp,
        file: line.file,
        symbol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defs(design: DesignName) -> Vec<TableDef> {
        table_defs(design, &Registry::example()).expect("the files are in shape")
    }

    #[test]
    fn the_column_that_stamps_a_row_is_a_bigint_of_its_table() {
        for design in DesignName::ALL {
            for def in defs(*design) {
                if let FromColumn(name) = def.timestamp {
                    let column = def.columns.iter().find(|column| column.name == name);
                    assert_eq!(
                        column.map(|c| c.cql_type),
                        Some(CqlType::Bigint),
                        "{design} {}.{name}",
                        def.name
                    );
                }
            }
        }
    }

    #[test]
    fn an_insert_binds_every_column_and_the_timestamp_where_it_is_pinned() {
        for design in DesignName::ALL {
            for def in defs(*design).iter().filter(|def| !def.is_counter()) {
                let markers = def.insert_cql("ks").matches('?').count();
                assert_eq!(
                    markers,
                    def.columns.len() + usize::from(def.is_pinned()),
                    "{design} {}",
                    def.name
                );
            }
        }
    }

    #[test]
    fn a_table_of_counters_is_added_to_and_has_nothing_else_beside_its_key() {
        for design in DesignName::ALL {
            let all = defs(*design);
            let counters: Vec<&TableDef> = all.iter().filter(|def| def.is_counter()).collect();
            assert_eq!(!counters.is_empty(), design.needs_counters(), "{design}");
            for def in counters {
                assert!(!def.is_pinned(), "{}", def.name);
                let values = def.columns.iter().filter(|column| column.kind == ColumnKind::Regular);
                assert!(
                    values.clone().all(|column| column.cql_type == CqlType::Counter),
                    "{}",
                    def.name
                );
                assert_eq!(
                    def.add_cql("ks"),
                    "UPDATE ks.user_balances SET avail = avail + ?, frozen = frozen + ? WHERE user_id = ? AND asset_id = ?"
                );
            }
        }
    }

    #[test]
    fn every_row_of_the_ledger_that_holds_money_carries_the_digest_of_its_event() {
        for def in defs(DesignName::Ledger) {
            let exempt = def.name == "schema_migrations";
            assert!(
                exempt || def.columns.iter().any(|column| column.name == "digest"),
                "{}",
                def.name
            );
        }
    }

    #[test]
    fn nothing_in_the_ledger_is_stamped_by_a_clock() {
        for def in defs(DesignName::Ledger) {
            assert!(def.is_pinned(), "{}", def.name);
        }
    }

    #[test]
    fn there_is_one_trades_table_per_symbol() {
        let registry = Registry::example();
        let names: Vec<String> = defs(DesignName::Ledger).into_iter().map(|def| def.name).collect();
        for symbol in registry.symbols() {
            assert!(names.contains(&settled_trades_table(symbol)), "{}", symbol.name);
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        let registry = Registry::example();
        for name in ["", "Trading", "1st", "a-b", "a; DROP KEYSPACE b", &"k".repeat(49)] {
            assert!(
                matches!(
                    ddl(DesignName::Ledger, name, 3, &registry),
                    Err(DdlError::Keyspace { .. })
                ),
                "{name}"
            );
        }
        assert_eq!(
            ddl(DesignName::Ledger, "trading", 0, &registry),
            Err(DdlError::ReplicationFactor)
        );
    }

    #[test]
    fn the_statements_of_each_design() {
        for design in DesignName::ALL {
            let statements = ddl(*design, design.default_keyspace(), 3, &Registry::example()).expect("is in shape");
            insta::assert_snapshot!(format!("ddl_{design}"), statements.join("\n"));
        }
    }
}
