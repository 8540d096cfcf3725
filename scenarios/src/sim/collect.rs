//! What replicas hold, as the judge's rows and as comparable cells. Reading storage changes nothing, unlike a read at
//! ALL, which would repair the evidence.
use super::plant::Plant;
use crate::rows::{self, Cell, Tables};
use settlement_events::Registry;
use sim_cluster::core::snapshot::{ReplicaSnapshot, SnapshotRow};
use sim_cluster::model::{ColumnKind, Components, NodeIdx, Table, partition_key_components};
use std::collections::BTreeMap;

/// Tables that settling again may touch.
const NOT_COMPARED: [&str; 4] = ["settlement_checkpoint", "dead_letters", "skips", "schema_migrations"];
/// At most this many differences are reported.
const DIFFERENCES_MAX: usize = 10;

/// Trade tables by name, with their symbols.
pub fn symbols(registry: &Registry) -> BTreeMap<String, u32> {
    let symbols = registry.symbols().iter();
    symbols
        .map(|symbol| (format!("settled_trades_{}", symbol.table_suffix()), symbol.id.0))
        .collect()
}

/// What each replica holds now; for one that is down, what it would recover from its disk.
pub fn replicas(plant: &Plant) -> Vec<Tables> {
    let symbols = symbols(&plant.settlement_config.registry);
    let keyspace = plant.settlement_config.keyspace();
    plant
        .cluster
        .nodes()
        .map(|node| tables(plant, &replica(plant, node), keyspace, &symbols))
        .collect()
}

fn replica(plant: &Plant, node: NodeIdx) -> ReplicaSnapshot {
    plant
        .cluster
        .live(node)
        .unwrap_or_else(|| plant.cluster.survives_kill(node))
}

fn tables(plant: &Plant, replica: &ReplicaSnapshot, keyspace: &str, symbols: &BTreeMap<String, u32>) -> Tables {
    let mut found = Tables::default();
    for snapshot in replica.tables.iter().filter(|table| table.keyspace == keyspace) {
        let Some(columns) = rows::columns(&snapshot.name) else {
            continue;
        };
        let Some(table) = plant.cluster.config().schema.table(snapshot.table) else {
            continue;
        };
        let symbol = symbols.get(&snapshot.name).copied().unwrap_or(0);
        for row in &snapshot.rows {
            let cells: Vec<Cell<'_>> = columns.iter().map(|column| cell(table, row, column)).collect();
            found.add(&snapshot.name, symbol, &cells);
        }
    }
    found
}

fn cell<'a>(table: &Table, row: &'a SnapshotRow, column: &str) -> Cell<'a> {
    let column = table.column(column)?;
    let position = usize::from(column.position);
    match column.kind {
        ColumnKind::PartitionKey => partition_key_components(&row.partition.bytes, table.partition_columns)?
            .get(position)
            .copied(),
        ColumnKind::Clustering => Components::new(row.row.clustering()).nth(position),
        _ => row.row.cell(column.id).map(|cell| cell.value),
    }
}

/// What every replica holds, for comparing later.
pub struct Held {
    replicas: Vec<ReplicaSnapshot>,
}

/// What every replica holds of the design's tables that settling again must not change.
pub fn held(plant: &Plant) -> Held {
    let keyspace = plant.settlement_config.keyspace();
    let replicas = plant.cluster.nodes().map(|node| {
        let mut held = replica(plant, node);
        held.tables
            .retain(|table| table.keyspace == keyspace && !NOT_COMPARED.contains(&table.name.as_str()));
        held.batches.clear();
        held
    });
    Held {
        replicas: replicas.collect(),
    }
}

/// What settling again has changed, in words: rows that are gone, and cells that no replica had before, with their
/// timestamps. A row that one replica lacked and another had is no difference: settling again is how it is brought back.
pub fn differences(before: &Held, after: &Held) -> Vec<String> {
    let mut texts = Vec::new();
    for (node, (was, is)) in before.replicas.iter().zip(&after.replicas).enumerate() {
        // Equal to the last byte is the rule; only where it is not does anybody look closer.
        for (old, new) in was
            .tables
            .iter()
            .zip(&is.tables)
            .filter(|(old, new)| old.rows != new.rows)
        {
            let known = |row: &SnapshotRow| {
                let tables = before.replicas.iter().filter_map(|r| r.table(&new.keyspace, &new.name));
                tables.flat_map(|table| &table.rows).any(|other| other == row)
            };
            let name = &new.name;
            for row in new.rows.iter().filter(|row| !old.rows.contains(row) && !known(row)) {
                texts.push(format!(
                    "{name} on node {node}: the row with partition key {:02x?}",
                    row.partition.bytes
                ));
            }
            if new.rows.len() < old.rows.len() {
                texts.push(format!(
                    "{name} on node {node}: {} rows are gone",
                    old.rows.len() - new.rows.len()
                ));
            }
        }
    }
    texts.truncate(DIFFERENCES_MAX);
    texts
}
