//! Contents of the system tables, built when they are read: from the configuration of the cluster and from the schema
//! as the node knows it. A row is made by column name, so that definition and content cannot drift apart.

use super::{NodeView, SystemRow, options};
use crate::cql::bind::ddl_indexes;
use crate::cql::dialect::Dialect;
use crate::cql::types;
use crate::model::{ClusteringOrder, ColumnKind, Index, Keyspace, NodeIdx, Replication, Table, UserType};
use std::collections::BTreeMap;
use std::net::IpAddr;
use uuid::Uuid;

/// Version that cluster software reports; drivers choose their queries by it.
fn release_version(node: &NodeView<'_>) -> &'static str {
    node.dialect().release_version
}

impl NodeView<'_> {
    fn dialect(&self) -> &'static Dialect {
        Dialect::of(self.config.flavor)
    }

    /// A node's identity, as this one knows it.
    pub(super) fn host_id(&self, of: NodeIdx) -> Uuid {
        let place = usize::from(of.0);
        let known = self.facts.get(place).and_then(|f| f.host_id);
        known.unwrap_or(self.config.nodes[place].host_id)
    }

    /// The version of a node's schema, as this one knows it; of one that was never heard, its own.
    fn schema_version(&self, of: NodeIdx) -> Uuid {
        let told = self.facts.get(usize::from(of.0)).and_then(|f| f.schema_version);
        told.filter(|_| of != self.me).unwrap_or(self.schema.version)
    }

    /// The server's own tables, if they are listed.
    pub(in crate::cql) fn own_tables(&self) -> impl Iterator<Item = Table> + use<> {
        let listed = self.lists_own_tables.then(|| super::tables::all(self.config.flavor));
        listed.into_iter().flatten()
    }
}

/// Cassandra's storage port.
const STORAGE_PORT: i32 = 7000;

/// Values by column name.
pub(super) type Fields = BTreeMap<&'static str, Vec<u8>>;

pub(super) fn text(s: &str) -> Vec<u8> {
    s.as_bytes().to_vec()
}

pub(super) fn int(n: i32) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn inet(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

pub(super) fn list<S: AsRef<str>>(items: &[S]) -> Vec<u8> {
    collection(items.len(), items.iter().map(AsRef::as_ref))
}

pub(super) fn map(entries: &[(&str, &str)]) -> Vec<u8> {
    collection(entries.len(), entries.iter().flat_map(|(k, v)| [*k, *v]))
}

fn collection<'a>(count: usize, parts: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut out = (count as i32).to_be_bytes().to_vec();
    for part in parts {
        out.extend((part.len() as i32).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

/// The rows of `table` on this node, in the table's key order.
pub(super) fn of(node: &NodeView<'_>, table: &Table) -> Vec<SystemRow> {
    let fields = match (table.keyspace.as_str(), table.name.as_str()) {
        ("system", "local") => vec![local(node)],
        ("system", "peers") => peers(node, peer),
        ("system", "peers_v2") => peers(node, peer_v2),
        ("system", "config") => config(node),
        ("system_views", "settings") => settings(node),
        ("system_schema", "keyspaces") => keyspaces(node),
        ("system_schema", "tables") => tables(node),
        ("system_schema", "columns") => columns(node),
        ("system_schema", "dropped_columns") => dropped_columns(node),
        ("system_schema", "scylla_tables") => scylla_tables(node),
        ("system_schema", "types") => user_types(node),
        ("system_schema", "indexes") => indexes(node),
        ("system_schema", "views") => super::views::definitions(node),
        ("system", "built_views") => super::views::built(node),
        ("system", "view_build_status_v2") | ("system_distributed", "view_build_status") => {
            super::views::build_status(node)
        }
        // Functions, aggregates, triggers: there are none here.
        _ => Vec::new(),
    };
    fields
        .into_iter()
        .map(|mut f| table.columns.iter().map(|c| f.remove(c.name.as_str())).collect())
        .collect()
}

/// What `system.local` and `system.peers` tell of a node alike.
fn common(node: &NodeView<'_>, of: NodeIdx) -> Fields {
    let spec = &node.config.nodes[usize::from(of.0)];
    let tokens: Vec<String> = node.ring.tokens_of(of).map(|t| t.0.to_string()).collect();
    let mut sorted = tokens;
    // A set<text> is kept in the order of its texts.
    sorted.sort();
    BTreeMap::from([
        ("data_center", text(&spec.dc)),
        ("host_id", node.host_id(of).as_bytes().to_vec()),
        ("rack", text(&spec.rack)),
        ("release_version", text(release_version(node))),
        ("schema_version", node.schema_version(of).as_bytes().to_vec()),
        ("tokens", list(&sorted)),
    ])
}

/// What Scylla's `system.config` says of the settings that clients ask for.
fn config(node: &NodeView<'_>) -> Vec<Fields> {
    let rules = node.config.flavor.rules();
    let row = |name: &str, kib: u64| {
        BTreeMap::from([
            ("name", text(name)),
            ("source", text("default")),
            ("type", text("integer")),
            ("value", text(&kib.to_string())),
        ])
    };
    vec![
        row("batch_size_fail_threshold_in_kb", rules.batch_fail_bytes >> 10),
        row("batch_size_warn_threshold_in_kb", rules.batch_warn_bytes >> 10),
    ]
}

/// The same in Cassandra's `system_views.settings`, in its words.
fn settings(node: &NodeView<'_>) -> Vec<Fields> {
    let rules = node.config.flavor.rules();
    let row = |name: &str, kib: u64| BTreeMap::from([("name", text(name)), ("value", text(&format!("{kib}KiB")))]);
    vec![
        row("batch_size_fail_threshold", rules.batch_fail_bytes >> 10),
        row("batch_size_warn_threshold", rules.batch_warn_bytes >> 10),
    ]
}

fn local(node: &NodeView<'_>) -> Fields {
    let mut f = common(node, node.me);
    let ip = node.config.nodes[usize::from(node.me.0)].ip;
    f.extend([
        ("key", text("local")),
        ("bootstrapped", text("COMPLETED")),
        ("broadcast_address", inet(ip)),
        ("cluster_name", text(&node.config.name)),
        ("cql_version", text(node.dialect().cql_version)),
        ("gossip_generation", int(node.generation)),
        ("broadcast_port", int(STORAGE_PORT)),
        ("listen_address", inet(ip)),
        ("listen_port", int(STORAGE_PORT)),
        ("native_protocol_version", text(node.dialect().native_protocol_version)),
        ("partitioner", text("org.apache.cassandra.dht.Murmur3Partitioner")),
        ("rpc_address", inet(ip)),
        ("rpc_port", int(i32::from(node.port))),
    ]);
    f
}

fn peers(node: &NodeView<'_>, row: fn(&NodeView<'_>, NodeIdx) -> Fields) -> Vec<Fields> {
    node.config
        .node_indices()
        .filter(|n| *n != node.me)
        .map(|n| row(node, n))
        .collect()
}

fn peer(node: &NodeView<'_>, of: NodeIdx) -> Fields {
    let mut f = common(node, of);
    let ip = node.config.nodes[usize::from(of.0)].ip;
    f.extend([
        ("peer", inet(ip)),
        ("preferred_ip", inet(ip)),
        ("rpc_address", inet(ip)),
    ]);
    f
}

fn peer_v2(node: &NodeView<'_>, of: NodeIdx) -> Fields {
    let mut f = common(node, of);
    let ip = node.config.nodes[usize::from(of.0)].ip;
    f.extend([
        ("peer", inet(ip)),
        ("peer_port", int(STORAGE_PORT)),
        ("native_address", inet(ip)),
        ("native_port", int(i32::from(node.port))),
    ]);
    f
}

fn replication(keyspace: &Keyspace) -> Vec<u8> {
    match &keyspace.replication {
        Replication::Simple { factor } => map(&[
            ("class", "org.apache.cassandra.locator.SimpleStrategy"),
            ("replication_factor", &factor.to_string()),
        ]),
        Replication::NetworkTopology(factors) => {
            let numbers: Vec<(String, String)> = factors.iter().map(|(dc, n)| (dc.clone(), n.to_string())).collect();
            let mut entries = vec![("class", "org.apache.cassandra.locator.NetworkTopologyStrategy")];
            entries.extend(numbers.iter().map(|(dc, n)| (dc.as_str(), n.as_str())));
            map(&entries)
        }
    }
}

fn keyspaces(node: &NodeView<'_>) -> Vec<Fields> {
    let own = ["system", "system_schema"].map(|name| {
        BTreeMap::from([
            ("keyspace_name", text(name)),
            ("durable_writes", vec![1]),
            (
                "replication",
                map(&[("class", "org.apache.cassandra.locator.LocalStrategy")]),
            ),
        ])
    });
    let users = node.schema.keyspaces.values().map(|k| {
        BTreeMap::from([
            ("keyspace_name", text(&k.name)),
            ("durable_writes", vec![u8::from(k.durable_writes)]),
            ("replication", replication(k)),
        ])
    });
    // In the simulator nobody looks at these, and drivers read this list with every session.
    let others = [("system_distributed", "3"), ("system_traces", "2")].map(|(name, copies)| {
        let class = "org.apache.cassandra.locator.SimpleStrategy";
        BTreeMap::from([
            ("keyspace_name", text(name)),
            ("durable_writes", vec![1]),
            ("replication", map(&[("class", class), ("replication_factor", copies)])),
        ])
    });
    let others = others.into_iter().filter(|_| node.lists_own_tables);
    users.chain(own).chain(others).collect()
}

/// Tables by keyspace and name.
fn by_name<'a>(node: &'a NodeView<'_>) -> impl Iterator<Item = &'a Table> {
    let ids = node.schema.keyspaces.values().flat_map(|k| k.tables.values());
    ids.filter_map(|id| node.schema.table(*id)).map(|t| &**t)
}

fn tables(node: &NodeView<'_>) -> Vec<Fields> {
    let own: Vec<Table> = node.own_tables().collect();
    let row = |t: &Table| {
        let mut fields = option_fields(node, t);
        fields.extend([("keyspace_name", text(&t.keyspace)), ("table_name", text(&t.name))]);
        fields
    };
    let tables = by_name(node).filter(|t| node.schema.view(t.id).is_none());
    tables.chain(&own).map(row).collect()
}

/// What is told of a table and of a view alike.
pub(super) fn option_fields(node: &NodeView<'_>, t: &Table) -> Fields {
    let seconds = |s: u32| int(i32::try_from(s).unwrap_or(i32::MAX));
    let mut fields = if node.dialect().is_scylla() {
        options::scylla(t)
    } else {
        options::cassandra(t)
    };
    fields.extend([
        ("default_time_to_live", seconds(t.options.default_ttl_s)),
        ("gc_grace_seconds", seconds(t.options.gc_grace_s)),
        ("id", t.uuid.as_bytes().to_vec()),
    ]);
    fields
}

fn kind(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::PartitionKey => "partition_key",
        ColumnKind::Clustering => "clustering",
        ColumnKind::Static => "static",
        ColumnKind::Regular => "regular",
    }
}

fn columns(node: &NodeView<'_>) -> Vec<Fields> {
    let own: Vec<Table> = node.own_tables().collect();
    let mut all = Vec::new();
    for table in by_name(node).chain(&own) {
        let mut sorted: Vec<_> = table.columns.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        all.extend(sorted.into_iter().map(|c| {
            let is_key = matches!(c.kind, ColumnKind::PartitionKey | ColumnKind::Clustering);
            let order = match (c.kind, c.order) {
                (ColumnKind::Clustering, ClusteringOrder::Asc) => "asc",
                (ColumnKind::Clustering, ClusteringOrder::Desc) => "desc",
                _ => "none",
            };
            BTreeMap::from([
                ("keyspace_name", text(&table.keyspace)),
                ("table_name", text(&table.name)),
                ("column_name", text(&c.name)),
                ("clustering_order", text(order)),
                ("column_name_bytes", text(&c.name)),
                ("kind", text(kind(c.kind))),
                ("position", int(if is_key { i32::from(c.position) } else { -1 })),
                ("type", text(&types::name(&c.ty))),
            ])
        }));
    }
    all
}

fn dropped_columns(node: &NodeView<'_>) -> Vec<Fields> {
    let of_table = |t: &Table| -> Vec<Fields> {
        // Those that were added again are listed still.
        let back = t.columns.iter().filter_map(|c| Some((c, c.hidden_until_us?)));
        let gone = t.dropped.iter().map(|d| (&d.column, d.dropped_at_us));
        let mut all: Vec<_> = gone.chain(back).collect();
        all.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        all.into_iter()
            .map(|(column, at_us)| {
                BTreeMap::from([
                    ("keyspace_name", text(&t.keyspace)),
                    ("table_name", text(&t.name)),
                    ("column_name", text(&column.name)),
                    ("dropped_time", (at_us / 1000).to_be_bytes().to_vec()),
                    ("kind", text(kind(column.kind))),
                    ("type", text(&types::name(&column.ty))),
                ])
            })
            .collect()
    };
    by_name(node).flat_map(of_table).collect()
}

fn indexes(node: &NodeView<'_>) -> Vec<Fields> {
    let of_table = |t: &'_ Table| -> Vec<Fields> {
        let fields = |i: &Index| {
            let target = ddl_indexes::target(i);
            let mut options: BTreeMap<&str, &str> = i.options.iter().map(|(k, v)| (&k[..], &v[..])).collect();
            options.insert("target", &target);
            if let Some(class) = &i.class {
                options.insert("class_name", class);
            }
            let options: Vec<(&str, &str)> = options.into_iter().collect();
            BTreeMap::from([
                ("keyspace_name", text(&t.keyspace)),
                ("table_name", text(&t.name)),
                ("index_name", text(&i.name)),
                ("kind", text(if i.class.is_some() { "CUSTOM" } else { "COMPOSITES" })),
                ("options", map(&options)),
            ])
        };
        t.indexes.iter().map(fields).collect()
    };
    by_name(node).flat_map(of_table).collect()
}

fn user_types(node: &NodeView<'_>) -> Vec<Fields> {
    let of_type = |udt: &UserType| {
        let names: Vec<&str> = udt.fields.iter().map(|(n, _)| n.as_str()).collect();
        let field_types: Vec<String> = udt.fields.iter().map(|(_, t)| types::name(t)).collect();
        let field_types: Vec<&str> = field_types.iter().map(String::as_str).collect();
        BTreeMap::from([
            ("keyspace_name", text(&udt.keyspace)),
            ("type_name", text(&udt.name)),
            ("field_names", list(&names)),
            ("field_types", list(&field_types)),
        ])
    };
    node.schema.types.values().map(of_type).collect()
}

fn scylla_tables(node: &NodeView<'_>) -> Vec<Fields> {
    by_name(node)
        .map(|t| {
            BTreeMap::from([
                ("keyspace_name", text(&t.keyspace)),
                ("table_name", text(&t.name)),
                ("version", t.uuid.as_bytes().to_vec()),
            ])
        })
        .collect()
}
