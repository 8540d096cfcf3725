//! How the nodes of a running cluster are.

use super::Body;
use super::process::Process;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its number, from 1.
    pub node: u16,
    /// Its CQL address.
    pub address: SocketAddr,
    /// `up`, `starting`, `joining` (it takes the place of a lost one), `frozen`, `down`, or `halted` (it cannot go on).
    pub state: &'static str,
    /// `gossip_generation`: grows with every start.
    pub generation: u32,
    /// Why it cannot go on, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
    /// The other nodes that it sees up, by number.
    pub sees_up: Vec<u16>,
    /// Connections of clients.
    pub connections: usize,
    /// Requests under way.
    pub requests: usize,
    /// Bytes of its commit log.
    pub log_bytes: u64,
    /// Hints that it keeps for others.
    pub hints: usize,
    /// Batches that it keeps for others.
    pub kept_batches: usize,
    /// Rows that it holds by table, deleted ones included.
    pub rows: BTreeMap<String, usize>,
}

impl Body {
    /// How the nodes are.
    pub(super) fn status(&self) -> Vec<NodeStatus> {
        let state = self.shared.lock();
        let each = state.nodes.iter().zip(self.addresses.iter());
        each.map(|(process, address)| status(process, *address)).collect()
    }
}

fn status(process: &Process, address: SocketAddr) -> NodeStatus {
    let node = &process.node;
    let me = node.index();
    let others = node.config().node_indices().filter(|n| *n != me && node.sees_up(*n));
    let rows = node.store().tables().map(|t| {
        let table = t.table();
        (format!("{}.{}", table.keyspace, table.name), t.row_count())
    });
    NodeStatus {
        node: u16::from(me.0) + 1,
        address,
        state: match () {
            () if process.halted.is_some() => "halted",
            () if process.is_over => "down",
            () if process.is_frozen => "frozen",
            () if process.is_serving => "up",
            () if node.is_joining() => "joining",
            () => "starting",
        },
        generation: node.generation(),
        halted: process.halted.clone(),
        sees_up: others.map(|n| u16::from(n.0) + 1).collect(),
        connections: process.connected(),
        requests: node.operations(),
        log_bytes: process.log_bytes(),
        hints: node.pending_hints(),
        kept_batches: node.kept_batches().count(),
        rows: rows.collect(),
    }
}
