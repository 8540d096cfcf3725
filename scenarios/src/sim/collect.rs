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
/// At most this many differing cells are reported.
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

/// Every cell of every replica with its timestamp: (node, table, partition, clustering, column) to (value, timestamp).
pub type Cells = BTreeMap<(u8, String, Vec<u8>, Vec<u8>, u32), (Vec<u8>, i64)>;

/// All cells of the design's tables, of every replica.
pub fn cells(plant: &Plant) -> Cells {
    let keyspace = plant.settlement_config.keyspace();
    let mut cells = Cells::new();
    for node in plant.cluster.nodes() {
        for table in replica(plant, node).tables {
            if table.keyspace != keyspace || NOT_COMPARED.contains(&table.name.as_str()) {
                continue;
            }
            for row in &table.rows {
                for cell in row.row.cells() {
                    let place = (row.partition.bytes.clone(), row.row.clustering().to_vec());
                    let key = (node.0, table.name.clone(), place.0, place.1, u32::from(cell.column.0));
                    cells.insert(key, (cell.value.to_vec(), cell.timestamp_us));
                }
            }
        }
    }
    cells
}

/// What differs, in words. A cell that a replica had lost and now has again is no difference: settling again is how
/// it is brought back.
pub fn differences(before: &Cells, after: &Cells) -> Vec<String> {
    let known: BTreeMap<_, _> = before
        .iter()
        .map(|((_, table, partition, clustering, column), cell)| ((table, partition, clustering, column), cell))
        .collect();
    let mut texts = Vec::new();
    for (key, cell) in after {
        let place = (&key.1, &key.2, &key.3, &key.4);
        let was = before.get(key).or_else(|| known.get(&place).copied());
        if was == Some(cell) {
            continue;
        }
        let (node, table) = (key.0, &key.1);
        let what = match was {
            None => "a cell that was on no replica".to_string(),
            Some((value, _)) if *value != cell.0 => format!("a value, written at {}", cell.1),
            Some((_, timestamp)) => format!("a timestamp, from {timestamp} to {}", cell.1),
        };
        texts.push(format!(
            "{table} on node {node}: {what} (partition {:02x?}, column {})",
            key.2, key.4
        ));
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        texts.push(format!(
            "{} on node {}: a cell is gone (partition {:02x?})",
            key.1, key.0, key.2
        ));
    }
    texts.truncate(DIFFERENCES_MAX);
    texts
}
