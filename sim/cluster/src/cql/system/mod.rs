//! Tables that every node answers by itself: `system.local`, its peers, and the schema as rows. Drivers read them on
//! every connection; nothing can write them. Column lists are those of Cassandra 5.0.5 and ScyllaDB, as far as drivers
//! and cqlsh use them; `tables` says what exists, `rows` what is in it.

mod options;
mod rows;
mod tables;
mod views;

use super::bind::Server;
use super::error::{CqlError, Detail};
use crate::core::NodeFacts;
use crate::core::config::ClusterConfig;
use crate::core::ring::Ring;
use crate::core::views::ViewBuilds;
use crate::model::{NodeIdx, Schema, Table};
use std::sync::Arc;

/// A row of a system table: a value or null per column of the table.
pub type SystemRow = Vec<Option<Vec<u8>>>;

/// What a node knows of itself and of its cluster.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    /// The cluster.
    pub config: &'a ClusterConfig,
    /// Its ring.
    pub ring: &'a Ring,
    /// The node that answers.
    pub me: NodeIdx,
    /// `gossip_generation`: changes with every start of the node, seconds.
    pub generation: i32,
    /// CQL port of every node.
    pub port: u16,
    /// The schema as the node knows it.
    pub schema: &'a Arc<Schema>,
    /// Whether `system_schema` lists the server's own tables too, as real servers do; cqlsh reads none that it does not
    /// find there. Drivers read the whole list with every session, so the simulator, where nobody looks, leaves them out.
    pub lists_own_tables: bool,
    /// What the node knows of each node from its heartbeats, itself included; what is not there is as it is configured.
    pub facts: &'a [NodeFacts],
    /// Which nodes have built their part of which view, as far as the node knows.
    pub view_builds: &'a ViewBuilds,
    /// What the node's clock shows while it answers a request, Unix microseconds: for `now()` and its like.
    pub wall_us: i64,
}

/// Whether the keyspace is the server's own.
pub fn is_system_keyspace(name: &str) -> bool {
    name == "system" || name.starts_with("system_")
}

/// The refusal of any change in a keyspace of the server's own.
pub fn not_modifiable(keyspace: &str) -> CqlError {
    CqlError {
        message: format!("{keyspace} keyspace is not user-modifiable."),
        detail: Detail::Unauthorized,
    }
}

/// The definition of a system table, if this flavour has it.
pub fn table(server: &Server, keyspace: &str, name: &str) -> Option<Arc<Table>> {
    tables::find(server.dialect.flavor, keyspace, name)
}

/// The rows of a system table as this node sees them, in the order of its columns.
pub fn rows(node: &NodeView<'_>, table: &Table) -> Vec<SystemRow> {
    rows::of(node, table)
}
