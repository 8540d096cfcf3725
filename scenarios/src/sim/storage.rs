//! What the database's disks hold of the event identities (`settled_events`), for the durability watch. It looks at
//! nodes and disks, never through reads, which would repair the evidence.
use super::plant::Plant;
use crate::rows::BUCKET_SEQUENCES;
use sim_cluster::core::snapshot::{SnapshotRow, TableSnapshot};
use sim_cluster::host::sim::SimCluster;
use sim_cluster::model::{ClusteringKey, ColumnId, Components, TableId};
use std::collections::BTreeSet;

/// Where the tables are; none of them for a design that keeps no identities.
pub struct Storage {
    keyspace: String,
    identities: Option<TableId>,
    /// Table, what it calls durable, and the digest of that event.
    checkpoints: Option<(TableId, ColumnId, ColumnId)>,
}

/// What all disks would give after a loss of power, read whole.
pub struct Disks {
    /// By node.
    identities: Vec<BTreeSet<u64>>,
    /// Sequences that some node knows as dead letters, fsynced or not.
    pub dead_letters: BTreeSet<u64>,
}

impl Storage {
    /// Finds the tables in the schema that the cluster was started with.
    pub fn new(plant: &Plant) -> Storage {
        let keyspace = plant.settlement_config.keyspace().to_string();
        let schema = &plant.cluster.config().schema;
        let identities = schema.table_named(&keyspace, "settled_events").map(|table| table.id);
        let checkpoints = schema.table_named(&keyspace, "settlement_checkpoint");
        let checkpoints =
            checkpoints.and_then(|table| Some((table.id, table.column("durable")?.id, table.column("digest")?.id)));
        Storage {
            keyspace,
            identities,
            checkpoints,
        }
    }

    /// On how many nodes the last write of an event's identity is known to be on the disk. Fewer than hold it, perhaps:
    /// a node that is down is not asked, and the identity may have been written again since.
    pub fn known_durable(&self, cluster: &SimCluster, sequence: u64) -> usize {
        let Some(table) = self.identities else { return 0 };
        let bucket = (sequence / BUCKET_SEQUENCES).to_be_bytes();
        let clustering = ClusteringKey::of(&[&sequence.to_be_bytes()]);
        let durable = |node| cluster.is_row_durable(node, table, &bucket, &clustering.0) == Some(true);
        cluster.nodes().filter(|node| durable(*node)).count()
    }

    /// The checkpoints that running nodes would serve: what is durable, and the digest of that event.
    pub fn checkpoints(&self, cluster: &SimCluster) -> Vec<(u64, Vec<u8>)> {
        let Some((table, durable, digest)) = self.checkpoints else {
            return Vec::new();
        };
        let tables = cluster.nodes().filter_map(|node| cluster.live_table(node, table));
        let read = |row: &SnapshotRow| {
            let digest = row.row.cell(digest).map(|cell| cell.value.to_vec());
            Some((unsigned(row.row.cell(durable)?.value)?, digest.unwrap_or_default()))
        };
        let rows = tables.flat_map(|table| table.rows);
        rows.filter_map(|row| read(&row)).collect()
    }

    /// Reads every log. Costs as much as a start of every node.
    pub fn read_disks(&self, cluster: &SimCluster) -> Disks {
        let of = |table: Option<&TableSnapshot>| table.map(sequences).unwrap_or_default();
        let identities = cluster
            .nodes()
            .map(|node| of(cluster.durable(node).table(&self.keyspace, "settled_events")));
        let dead_letters = cluster
            .nodes()
            .flat_map(|node| of(cluster.survives_kill(node).table(&self.keyspace, "dead_letters")));
        Disks {
            identities: identities.collect(),
            dead_letters: dead_letters.collect(),
        }
    }
}

impl Disks {
    /// On how many nodes' disks an event's identity is.
    pub fn holding(&self, sequence: u64) -> usize {
        self.identities.iter().filter(|node| node.contains(&sequence)).count()
    }
}

/// The clustering keys (output sequences) of a table's rows.
fn sequences(table: &TableSnapshot) -> BTreeSet<u64> {
    let rows = table.rows.iter();
    rows.filter_map(|row| unsigned(Components::new(row.row.clustering()).next()?))
        .collect()
}

fn unsigned(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
