//! Definitions of the system tables.

use crate::core::flavor::Flavor;
use crate::model::{ClusteringOrder, Column, ColumnId, ColumnKind, CqlType, Table, TableId, TableOptions};
use md5::{Digest, Md5};
use std::sync::Arc;
use uuid::{Builder, Uuid};

/// Which flavour has a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Has {
    Both,
    Scylla,
    Cassandra,
}

impl Has {
    fn only(flavor: Flavor) -> Has {
        match flavor {
            Flavor::Scylla => Has::Scylla,
            Flavor::Cassandra => Has::Cassandra,
        }
    }
}

/// A table as text: `p` partition key, `c` clustering, `r` regular; then name and type.
struct Definition {
    keyspace: &'static str,
    name: &'static str,
    has: Has,
    columns: &'static str,
}

/// Options that `tables` and `views` share.
macro_rules! table_options {
    () => {
        "r bloom_filter_fp_chance double, r caching map, r comment text, r compaction map, r compression map, \
         r crc_check_chance double, r dclocal_read_repair_chance double, r default_time_to_live int, \
         r extensions blobs, r gc_grace_seconds int, r id uuid, r max_index_interval int, \
         r memtable_flush_period_in_ms int, r min_index_interval int, r read_repair_chance double, \
         r speculative_retry text"
    };
}

const DEFINITIONS: [Definition; 31] = [
    Definition {
        keyspace: "system",
        name: "local",
        has: Has::Cassandra,
        columns: "p key text, r bootstrapped text, r broadcast_address inet, r broadcast_port int, r cluster_name text, \
                  r cql_version text, r data_center text, r gossip_generation int, r host_id uuid, r listen_address inet, \
                  r listen_port int, r native_protocol_version text, r partitioner text, r rack text, \
                  r release_version text, r rpc_address inet, r rpc_port int, r schema_version uuid, r tokens texts, \
                  r truncated_at blobs_by_uuid",
    },
    Definition {
        keyspace: "system",
        name: "local",
        has: Has::Scylla,
        columns: "p key text, r bootstrapped text, r broadcast_address inet, r cluster_name text, r cql_version text, \
                  r data_center text, r gossip_generation int, r host_id uuid, r listen_address inet, \
                  r native_protocol_version text, r partitioner text, r rack text, r release_version text, \
                  r rpc_address inet, r rpc_port int, r schema_version uuid, r tokens texts",
    },
    Definition {
        keyspace: "system",
        name: "peers",
        has: Has::Both,
        columns: "p peer inet, r data_center text, r host_id uuid, r preferred_ip inet, r rack text, \
                  r release_version text, r rpc_address inet, r schema_version uuid, r tokens texts",
    },
    Definition {
        keyspace: "system",
        name: "peers_v2",
        has: Has::Cassandra,
        columns: "p peer inet, c peer_port int, r data_center text, r host_id uuid, r native_address inet, \
                  r native_port int, r preferred_ip inet, r preferred_port int, r rack text, r release_version text, \
                  r schema_version uuid, r tokens texts",
    },
    Definition {
        keyspace: "system_schema",
        name: "keyspaces",
        has: Has::Both,
        columns: "p keyspace_name text, r durable_writes boolean, r replication map",
    },
    Definition {
        keyspace: "system_schema",
        name: "tables",
        has: Has::Scylla,
        columns: concat!(
            "p keyspace_name text, c table_name text, r flags texts, ",
            table_options!()
        ),
    },
    Definition {
        keyspace: "system_schema",
        name: "tables",
        has: Has::Cassandra,
        columns: concat!(
            "p keyspace_name text, c table_name text, r flags frozen_texts, r additional_write_policy text, \
             r allow_auto_snapshot boolean, r cdc boolean, r incremental_backups boolean, r memtable text, \
             r read_repair text, ",
            table_options!()
        ),
    },
    Definition {
        keyspace: "system_schema",
        name: "columns",
        has: Has::Both,
        columns: "p keyspace_name text, c table_name text, c column_name text, r clustering_order text, \
                  r column_name_bytes blob, r kind text, r position int, r type text",
    },
    Definition {
        keyspace: "system_schema",
        name: "dropped_columns",
        has: Has::Both,
        columns: "p keyspace_name text, c table_name text, c column_name text, r dropped_time timestamp, r kind text, \
                  r type text",
    },
    Definition {
        keyspace: "system_schema",
        name: "types",
        has: Has::Both,
        columns: "p keyspace_name text, c type_name text, r field_names list, r field_types list",
    },
    Definition {
        keyspace: "system_schema",
        name: "views",
        has: Has::Scylla,
        columns: concat!(
            "p keyspace_name text, c view_name text, r base_table_id uuid, r base_table_name text, \
             r include_all_columns boolean, r where_clause text, ",
            table_options!()
        ),
    },
    Definition {
        keyspace: "system_schema",
        name: "views",
        has: Has::Cassandra,
        columns: concat!(
            "p keyspace_name text, c view_name text, r base_table_id uuid, r base_table_name text, \
             r include_all_columns boolean, r where_clause text, r additional_write_policy text, \
             r allow_auto_snapshot boolean, r cdc boolean, r incremental_backups boolean, r memtable text, \
             r read_repair text, ",
            table_options!()
        ),
    },
    Definition {
        keyspace: "system_schema",
        name: "functions",
        has: Has::Both,
        columns: "p keyspace_name text, c function_name text, c argument_types list, r argument_names list, \
                  r body text, r called_on_null_input boolean, r language text, r return_type text",
    },
    Definition {
        keyspace: "system_schema",
        name: "aggregates",
        has: Has::Both,
        columns: "p keyspace_name text, c aggregate_name text, c argument_types list, r final_func text, \
                  r initcond text, r return_type text, r state_func text, r state_type text",
    },
    Definition {
        keyspace: "system_schema",
        name: "triggers",
        has: Has::Both,
        columns: "p keyspace_name text, c table_name text, c trigger_name text, r options map",
    },
    Definition {
        keyspace: "system_schema",
        name: "indexes",
        has: Has::Both,
        columns: "p keyspace_name text, c table_name text, c index_name text, r kind text, r options map",
    },
    Definition {
        keyspace: "system_schema",
        name: "scylla_keyspaces",
        has: Has::Scylla,
        columns: "p keyspace_name text, r initial_tablets int, r storage_options map, r storage_type text",
    },
    Definition {
        keyspace: "system_schema",
        name: "scylla_tables",
        has: Has::Scylla,
        columns: "p keyspace_name text, c table_name text, r cdc map, r partitioner text, \
                  r per_partition_rate_limit map, r version uuid",
    },
    Definition {
        keyspace: "system",
        name: "built_views",
        has: Has::Both,
        columns: "p keyspace_name text, c view_name text",
    },
    Definition {
        keyspace: "system",
        name: "view_build_status_v2",
        has: Has::Scylla,
        columns: "p keyspace_name text, p view_name text, c host_id uuid, r status text",
    },
    Definition {
        keyspace: "system_distributed",
        name: "view_build_status",
        has: Has::Both,
        columns: "p keyspace_name text, p view_name text, c host_id uuid, r status text",
    },
    Definition {
        keyspace: "system",
        name: "runtime_info",
        has: Has::Scylla,
        columns: "p group text, c item text, r value text",
    },
    Definition {
        keyspace: "system",
        name: "config",
        has: Has::Scylla,
        columns: "p name text, r source text, r type text, r value text",
    },
    Definition {
        keyspace: "system_views",
        name: "settings",
        has: Has::Cassandra,
        columns: "p name text, r value text",
    },
    Definition {
        keyspace: "system_traces",
        name: "sessions",
        has: Has::Cassandra,
        columns: "p session_id uuid, r client inet, r command text, r coordinator inet, r coordinator_port int, \
                  r duration int, r parameters unfrozen_map, r request text, r started_at timestamp",
    },
    Definition {
        keyspace: "system_traces",
        name: "events",
        has: Has::Cassandra,
        columns: "p session_id uuid, c event_id timeuuid, r activity text, r source inet, r source_elapsed int, \
                  r source_port int, r thread text",
    },
    // S `tracing/trace_keyspace_helper.cc`; there was no ScyllaDB to ask.
    Definition {
        keyspace: "system_traces",
        name: "sessions",
        has: Has::Scylla,
        columns: "p session_id uuid, r client inet, r command text, r coordinator inet, r duration int, \
                  r parameters unfrozen_map, r request text, r request_size int, r response_size int, \
                  r started_at timestamp, r username text",
    },
    Definition {
        keyspace: "system_traces",
        name: "events",
        has: Has::Scylla,
        columns: "p session_id uuid, c event_id timeuuid, r activity text, r scylla_parent_id bigint, \
                  r scylla_span_id bigint, r source inet, r source_elapsed int, r thread text",
    },
    Definition {
        keyspace: "system_virtual_schema",
        name: "keyspaces",
        has: Has::Cassandra,
        columns: "p keyspace_name text",
    },
    Definition {
        keyspace: "system_virtual_schema",
        name: "tables",
        has: Has::Cassandra,
        columns: "p keyspace_name text, c table_name text, r comment text",
    },
    Definition {
        keyspace: "system_virtual_schema",
        name: "columns",
        has: Has::Cassandra,
        columns: "p keyspace_name text, c table_name text, c column_name text, r clustering_order text, \
                  r column_name_bytes blob, r kind text, r position int, r type text",
    },
];

/// The table of that name, if the flavour has it.
pub fn find(flavor: Flavor, keyspace: &str, name: &str) -> Option<Arc<Table>> {
    let is_here = |d: &&Definition| {
        let flavour = Has::only(flavor);
        d.keyspace == keyspace && d.name == name && (d.has == Has::Both || d.has == flavour)
    };
    DEFINITIONS.iter().find(is_here).map(|d| Arc::new(build(d)))
}

/// All tables of the flavour.
pub fn all(flavor: Flavor) -> impl Iterator<Item = Table> {
    let flavour = Has::only(flavor);
    // Cassandra makes up those of these keyspaces and lists them in none of its tables.
    let is_virtual = |d: &Definition| matches!(d.keyspace, "system_virtual_schema" | "system_views");
    let is_here = move |d: &&Definition| (d.has == Has::Both || d.has == flavour) && !is_virtual(d);
    DEFINITIONS.iter().filter(is_here).map(build)
}

fn build(definition: &Definition) -> Table {
    let mut columns = Vec::new();
    for (i, text) in definition.columns.split(',').enumerate() {
        let mut words = text.split_whitespace();
        let (Some(kind), Some(name), Some(ty)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let kind = match kind {
            "p" => ColumnKind::PartitionKey,
            "c" => ColumnKind::Clustering,
            _ => ColumnKind::Regular,
        };
        // Columns of a key count from 0, those of the clustering too: drivers drop a keyspace where they do not.
        let position = columns.iter().filter(|c: &&Column| c.kind == kind).count() as u16;
        columns.push(Column {
            id: ColumnId(i as u16),
            name: name.to_string(),
            kind,
            position,
            order: ClusteringOrder::Asc,
            ty: column_type(ty),
            hidden_until_us: None,
        });
    }
    let count = |kind| columns.iter().filter(|c: &&Column| c.kind == kind).count();
    Table {
        // No table of the cluster can have this number: it is only ever read by name.
        id: TableId(u16::MAX),
        uuid: uuid(definition),
        keyspace: definition.keyspace.to_string(),
        name: definition.name.to_string(),
        partition_columns: count(ColumnKind::PartitionKey),
        clustering_columns: count(ColumnKind::Clustering),
        columns,
        dropped: Vec::new(),
        options: TableOptions::default(),
        indexes: Vec::new(),
    }
}

/// Made of its name, as Cassandra makes the ids of its own tables: the same on every node.
fn uuid(definition: &Definition) -> Uuid {
    let name = format!("{}{}", definition.keyspace, definition.name);
    Builder::from_md5_bytes(Md5::digest(name).into()).into_uuid()
}

fn column_type(word: &str) -> CqlType {
    let frozen = |t| CqlType::Frozen(Box::new(t));
    let text = || Box::new(CqlType::Text);
    match word {
        "bigint" => CqlType::Bigint,
        "blob" => CqlType::Blob,
        "blobs" => frozen(CqlType::Map(text(), Box::new(CqlType::Blob))),
        "blobs_by_uuid" => CqlType::Map(Box::new(CqlType::Uuid), Box::new(CqlType::Blob)),
        "boolean" => CqlType::Boolean,
        "double" => CqlType::Double,
        "frozen_texts" => frozen(CqlType::Set(text())),
        "inet" => CqlType::Inet,
        "int" => CqlType::Int,
        "list" => frozen(CqlType::List(text())),
        "map" => frozen(CqlType::Map(text(), text())),
        "texts" => CqlType::Set(text()),
        "timestamp" => CqlType::Timestamp,
        "timeuuid" => CqlType::Timeuuid,
        "unfrozen_map" => CqlType::Map(text(), text()),
        "uuid" => CqlType::Uuid,
        _ => CqlType::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_well_formed() {
        for d in &DEFINITIONS {
            let table = build(d);
            assert_eq!(table.columns.len(), d.columns.split(',').count(), "{}", d.name);
            assert!(table.partition_columns > 0, "{}", d.name);
            let kinds: Vec<_> = table.columns.iter().map(|c| c.kind).collect();
            assert!(kinds.is_sorted(), "{}: keys come first", d.name);
        }
    }

    #[test]
    fn flavours_have_their_own_tables() {
        assert!(find(Flavor::Scylla, "system_schema", "scylla_tables").is_some());
        assert!(find(Flavor::Cassandra, "system_schema", "scylla_tables").is_none());
        assert!(find(Flavor::Cassandra, "system", "peers_v2").is_some());
        assert!(find(Flavor::Scylla, "system", "peers_v2").is_none());
    }
    /// The Rust driver drops a keyspace with a table of which it finds no first column of the clustering.
    #[test]
    fn columns_of_a_key_count_from_zero() {
        for table in [Flavor::Scylla, Flavor::Cassandra].into_iter().flat_map(all) {
            for (kind, count) in [
                (ColumnKind::PartitionKey, table.partition_columns),
                (ColumnKind::Clustering, table.clustering_columns),
            ] {
                let of_kind = table.columns.iter().filter(|c| c.kind == kind);
                let positions: Vec<usize> = of_kind.map(|c| usize::from(c.position)).collect();
                assert_eq!(
                    positions,
                    (0..count).collect::<Vec<_>>(),
                    "{}.{}",
                    table.keyspace,
                    table.name
                );
            }
        }
    }
}
