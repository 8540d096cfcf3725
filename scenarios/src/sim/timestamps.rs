//! Under which timestamps rows lie on the replicas. In the `ledger` design no clock decides which of two writes is the
//! later one: a row's timestamp is its version (or sequence) and the configured generation, whoever writes it, however
//! often (rules 1, 2 and 9). The columns are named here, not asked of the registry that settlement writes by.
use super::plant::Plant;
use sim_cluster::core::snapshot::LentRow;
use sim_cluster::model::{ColumnId, ColumnKind, Components, Table};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Below the version are so many bits of generation.
const GENERATION_BITS: u32 = 12;
/// At most this many rows are told.
const TOLD_MAX: usize = 10;
/// Written by the migration, before anything is settled.
const NOT_SETTLEMENTS: &str = "schema_migrations";

/// Rows that lie under another timestamp than theirs, in words. Replicas that hold the same are looked at once.
pub fn untimely(plant: &Plant) -> Vec<String> {
    let schema = &plant.cluster.config().schema;
    let keyspace = plant.settlement_config.keyspace();
    let generation = i64::from(u16::from(plant.settlement_config.generation));
    let mut told = Vec::new();
    let ours = |table: &&Arc<Table>| table.keyspace == keyspace && table.name != NOT_SETTLEMENTS;
    for table in schema.all_tables().filter(ours) {
        let Some(version) = Version::of(table) else {
            told.push(format!(
                "{}: nobody knows what its rows' timestamps must be",
                table.name
            ));
            continue;
        };
        let mut seen = BTreeSet::new();
        for node in plant.cluster.nodes() {
            if !plant
                .cluster
                .signature(node, table.id)
                .is_none_or(|signature| seen.insert(signature))
            {
                continue;
            }
            plant.cluster.visit(node, table.id, |_, row| {
                let number = version.in_row(&row);
                let wanted = number.map(|number| number << GENERATION_BITS | generation);
                let other = row.timestamps_us().find(|found| Some(*found) != wanted);
                if let Some(found) = other.filter(|_| told.len() < TOLD_MAX) {
                    let number = number.map_or("none".to_string(), |number| number.to_string());
                    told.push(format!(
                        "{} on {node}: the row with {} {number} was written at timestamp {found}, which is not that \
                         number and generation {generation}",
                        table.name, version.name
                    ));
                }
            });
        }
    }
    told
}

/// The column whose number is in the timestamp.
struct Version {
    name: &'static str,
    place: Place,
}

enum Place {
    /// Which part of the clustering key.
    Clustering(usize),
    /// A cell.
    Cell(ColumnId),
}

impl Version {
    fn of(table: &Table) -> Option<Version> {
        let name = match table.name.as_str() {
            "balance_ledger" => "seq",
            "user_balances" | "orders" => "version",
            "settlement_checkpoint" => "durable",
            "settled_events" | "trades_by_user" | "ledger_events" | "dead_letters" | "skips" => "output_sequence",
            trades if trades.starts_with("settled_trades_") => "output_sequence",
            _ => return None,
        };
        let column = table.column(name)?;
        let place = match column.kind {
            ColumnKind::Clustering => Place::Clustering(usize::from(column.position)),
            ColumnKind::PartitionKey => return None,
            _ => Place::Cell(column.id),
        };
        Some(Version { name, place })
    }

    fn in_row(&self, row: &LentRow<'_>) -> Option<i64> {
        let bytes = match self.place {
            Place::Clustering(at) => Components::new(row.clustering()).nth(at)?,
            Place::Cell(id) => row.cells().find(|(column, _)| *column == id)?.1,
        };
        Some(i64::from_be_bytes(bytes.try_into().ok()?))
    }
}
