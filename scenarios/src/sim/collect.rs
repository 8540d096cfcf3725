//! What replicas hold, as the judge's rows, and what settling again changed of it. Reading storage changes nothing,
//! unlike a read at ALL, which would repair the evidence.
use super::plant::Plant;
use crate::rows::{self, COLUMNS_MAX, Cell, TableKind, Tables};
use sim_cluster::core::marks::{Changes, Marks};
use sim_cluster::core::snapshot::LentRow;
use sim_cluster::model::{ColumnKind, Components, NodeIdx, Schema, Table, TableId, partition_key_components};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tables that settling again may touch.
const NOT_COMPARED: [&str; 4] = ["settlement_checkpoint", "dead_letters", "skips", "schema_migrations"];
/// Tables that hold money.
const MONEY: [&str; 2] = ["user_balances", "balance_ledger"];
/// At most this many differences are reported.
const DIFFERENCES_MAX: usize = 10;

/// A table that the judge reads, and for each value of a stored row the place among the judge's cells, if it wants it.
struct Judged {
    id: TableId,
    name: String,
    kind: TableKind,
    partition: Vec<Option<usize>>,
    clustering: Vec<Option<usize>>,
    /// By column id.
    columns: Vec<Option<usize>>,
}

/// Collects what replicas hold. Replicas that hold the same share one copy, and so do looks between which nothing
/// changed.
pub struct Collector<'a> {
    plant: &'a Plant,
    judged: Vec<Judged>,
    /// What was collected, with the signatures of the tables that it was collected from.
    seen: Vec<(BTreeMap<TableId, u64>, Arc<Tables>)>,
}

impl<'a> Collector<'a> {
    /// Finds the design's tables in the schema that the cluster was started with.
    pub fn new(plant: &'a Plant) -> Self {
        let symbols = rows::trade_tables(&plant.settlement_config.registry);
        let judged = |table: &Arc<Table>| {
            let symbol = symbols.get(&table.name).copied().unwrap_or(0);
            Some(Judged::new(table, TableKind::of(&table.name, symbol)?))
        };
        let tables = of_keyspace(&plant.cluster.config().schema, plant.settlement_config.keyspace());
        Collector {
            plant,
            judged: tables.filter_map(judged).collect(),
            seen: Vec::new(),
        }
    }

    /// What each replica holds now; for one that is down, what it would recover from its disk.
    pub fn replicas(&mut self) -> Vec<Arc<Tables>> {
        self.collect(|_| true)
    }

    /// As [`Collector::replicas`], of the tables that hold money; others may be missing.
    pub fn money(&mut self) -> Vec<Arc<Tables>> {
        self.collect(|table| MONEY.contains(&table.name.as_str()))
    }

    fn collect(&mut self, wanted: fn(&Judged) -> bool) -> Vec<Arc<Tables>> {
        let nodes: Vec<NodeIdx> = self.plant.cluster.nodes().collect();
        nodes.into_iter().map(|node| self.replica(node, wanted)).collect()
    }

    fn replica(&mut self, node: NodeIdx, wanted: fn(&Judged) -> bool) -> Arc<Tables> {
        let tables = || self.judged.iter().filter(|table| wanted(table));
        let signature = |table: &Judged| Some((table.id, self.plant.cluster.signature(node, table.id)?));
        let Some(signatures) = tables().map(signature).collect::<Option<BTreeMap<_, _>>>() else {
            return Arc::new(self.recoverable(node));
        };
        let same = |seen: &BTreeMap<TableId, u64>| signatures.iter().all(|(table, now)| seen.get(table) == Some(now));
        if let Some((_, tables)) = self.seen.iter().find(|(seen, _)| same(seen)) {
            return tables.clone();
        }
        let mut found = Tables::default();
        let events = usize::try_from(self.plant.published()).unwrap_or(0);
        for table in tables() {
            found.reserve(table.kind, expected_rows(table.kind, events));
            let add = |partition: &[u8], row: LentRow<'_>| table.add(partition, row, &mut found);
            self.plant.cluster.visit(node, table.id, add);
        }
        let found = Arc::new(found);
        self.seen.push((signatures, found.clone()));
        found
    }

    fn recoverable(&self, node: NodeIdx) -> Tables {
        let mut found = Tables::default();
        let snapshot = self.plant.cluster.survives_kill(node);
        for table in &self.judged {
            let held = snapshot.tables.iter().filter(|held| held.table == table.id);
            for row in held.flat_map(|held| &held.rows) {
                table.add(&row.partition.bytes, LentRow::Built(&row.row), &mut found);
            }
        }
        found
    }
}

/// About how many rows so many events leave in a table; it only saves growing.
fn expected_rows(table: TableKind, events: usize) -> usize {
    match table {
        TableKind::Ledger => events * 7 / 2,
        TableKind::Settled | TableKind::TradesByUser => events,
        TableKind::Orders => events / 2,
        TableKind::Trades(_) => events / 4,
        _ => 0,
    }
}

fn of_keyspace<'s>(schema: &'s Schema, keyspace: &str) -> impl Iterator<Item = &'s Arc<Table>> {
    schema.all_tables().filter(move |table| table.keyspace == keyspace)
}

impl Judged {
    fn new(table: &Table, kind: TableKind) -> Self {
        let mut judged = Judged {
            id: table.id,
            name: table.name.clone(),
            kind,
            partition: vec![None; table.partition_columns],
            clustering: Vec::new(),
            columns: Vec::new(),
        };
        // A column that the design's table does not have is nowhere, and its cell stays empty.
        for (place, name) in kind.columns().iter().enumerate() {
            let Some(column) = table.column(name) else { continue };
            let (places, at) = match column.kind {
                ColumnKind::PartitionKey => (&mut judged.partition, usize::from(column.position)),
                ColumnKind::Clustering => (&mut judged.clustering, usize::from(column.position)),
                _ => (&mut judged.columns, usize::from(column.id.0)),
            };
            if places.len() <= at {
                places.resize(at + 1, None);
            }
            places[at] = Some(place);
        }
        judged
    }

    fn add(&self, partition: &[u8], row: LentRow<'_>, into: &mut Tables) {
        let mut cells: [Cell<'_>; COLUMNS_MAX] = [None; COLUMNS_MAX];
        let mut put = |place: Option<usize>, value| {
            if let Some(place) = place {
                cells[place] = Some(value);
            }
        };
        if let [place] = self.partition[..] {
            put(place, partition);
        } else if let Some(components) = partition_key_components(partition, self.partition.len()) {
            self.partition
                .iter()
                .zip(components)
                .for_each(|(place, value)| put(*place, value));
        }
        for (place, value) in self.clustering.iter().zip(Components::new(row.clustering())) {
            put(*place, value);
        }
        for (column, value) in row.cells() {
            put(self.columns.get(usize::from(column.0)).copied().flatten(), value);
        }
        into.add(self.kind, &self.name, &cells[..self.kind.columns().len()]);
    }
}

/// What every replica held at a moment, for comparing later.
pub struct Held {
    nodes: Vec<(NodeIdx, Marks)>,
}

/// What every replica holds of the design's tables that settling again must not change.
///
/// # Errors
/// A node that does not run cannot be compared.
pub fn held(plant: &Plant) -> Result<Held, String> {
    let keyspace = plant.settlement_config.keyspace();
    let tables: Vec<TableId> = of_keyspace(&plant.cluster.config().schema, keyspace)
        .filter(|table| !NOT_COMPARED.contains(&table.name.as_str()))
        .map(|table| table.id)
        .collect();
    let marks = plant.cluster.nodes().map(|node| {
        let marks = plant.cluster.mark(node, &tables);
        marks
            .map(|marks| (node, marks))
            .ok_or_else(|| format!("{node} is down"))
    });
    Ok(Held {
        nodes: marks.collect::<Result<_, _>>()?,
    })
}

/// What has changed since, in words: rows that are gone, and rows that no replica had before. A row that one replica
/// lacked and another had is no difference: settling again is how it is brought back.
///
/// # Errors
/// A node that stopped meanwhile cannot be compared.
pub fn differences(plant: &Plant, before: &Held) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    for (node, marks) in &before.nodes {
        let changes = plant.cluster.changes_since(*node, marks);
        let changes = changes.ok_or_else(|| format!("{node} went down while everything was settled again"))?;
        texts.extend(in_words(plant, before, *node, &changes));
    }
    texts.truncate(DIFFERENCES_MAX);
    Ok(texts)
}

fn in_words(plant: &Plant, before: &Held, node: NodeIdx, changes: &Changes) -> Vec<String> {
    let schema = &plant.cluster.config().schema;
    let name = |id: TableId| schema.table(id).map_or("?", |table| table.name.as_str());
    let mut elsewhere: BTreeMap<TableId, BTreeSet<u128>> = BTreeMap::new();
    let mut known = |table: TableId, hash: &u128| {
        let hashes = elsewhere.entry(table).or_insert_with(|| {
            let nodes = before.nodes.iter();
            nodes
                .flat_map(|(node, marks)| plant.cluster.marked_rows(*node, marks, table))
                .collect()
        });
        hashes.contains(hash)
    };
    let mut texts = Vec::new();
    for (table, row, hash) in &changes.rows {
        if !known(*table, hash) {
            let (name, key) = (name(*table), &row.partition.bytes);
            texts.push(format!("{name} on {node}: the row with partition key {key:02x?}"));
        }
    }
    for (table, rows) in &changes.gone {
        texts.push(format!("{} on {node}: {rows} rows are gone", name(*table)));
    }
    texts
}
