//! What the replicas hold, for checks: taken from memory and from the disks, never through reads, which would repair the
//! evidence.

use super::{LOG_PATH, SimCluster};
use crate::core::BatchId;
use crate::core::snapshot::{self, ReplicaSnapshot};
use crate::model::NodeIdx;

/// What one node holds.
#[derive(Debug, Clone)]
pub struct NodeSnapshot {
    /// The node.
    pub node: NodeIdx,
    /// What its process holds; `None` when none runs.
    pub live: Option<ReplicaSnapshot>,
    /// What a start would find after a power loss of this moment at the latest: what is on the platter.
    pub durable: ReplicaSnapshot,
    /// Hints it keeps for others; 0 when no process runs.
    pub pending_hints: usize,
}

/// What all nodes hold at one instant.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Simulated nanoseconds since the run began.
    pub at_ns: u64,
    /// By node.
    pub nodes: Vec<NodeSnapshot>,
}

impl SimCluster {
    /// What every node holds now, live and fsynced.
    pub fn snapshot(&self) -> Snapshot {
        let nodes = self.nodes().map(|node| NodeSnapshot {
            node,
            live: self.live(node),
            durable: self.durable(node),
            pending_hints: self.pending_hints(node),
        });
        Snapshot {
            at_ns: self.inner.now_ns(),
            nodes: nodes.collect(),
        }
    }

    /// What a node's process holds; `None` when none runs.
    pub fn live(&self, node: NodeIdx) -> Option<ReplicaSnapshot> {
        let now_us = self.inner.now_us();
        self.inner.with_process(node, |p| snapshot::live(&p.node, now_us))
    }

    /// What a node would hold if its power went now and it started again: the fsynced part of its log.
    pub fn durable(&self, node: NodeIdx) -> ReplicaSnapshot {
        let bytes = self.host(node).disk().read_durable(LOG_PATH).unwrap_or_default();
        snapshot::recoverable(self.config(), &bytes, self.inner.now_us())
    }

    /// What a node would hold if its process were killed now: what its kernel has of the log.
    pub fn survives_kill(&self, node: NodeIdx) -> ReplicaSnapshot {
        let bytes = self.host(node).disk().read_live(LOG_PATH).unwrap_or_default();
        snapshot::recoverable(self.config(), &bytes, self.inner.now_us())
    }

    /// Batches that running nodes keep in their batchlogs, each with its holder.
    pub fn batchlog_entries(&self) -> Vec<(NodeIdx, BatchId)> {
        let of = |node| {
            self.inner
                .with_process(node, |p| p.node.kept_batches().map(|(id, _)| (node, *id)).collect())
        };
        self.nodes().filter_map(of).flat_map(|kept: Vec<_>| kept).collect()
    }

    /// Hints a running node keeps for others; 0 when no process runs.
    pub fn pending_hints(&self, node: NodeIdx) -> usize {
        self.inner.with_process(node, |p| p.node.pending_hints()).unwrap_or(0)
    }

    /// Requests that a running node coordinates at the moment.
    pub fn operations(&self, node: NodeIdx) -> usize {
        self.inner.with_process(node, |p| p.node.operations()).unwrap_or(0)
    }

    /// Whether nothing is left to be delivered: no batch is kept, no hint pending, no request under way.
    pub fn is_quiet(&self) -> bool {
        self.batchlog_entries().is_empty()
            && self
                .nodes()
                .all(|n| self.pending_hints(n) == 0 && self.operations(n) == 0)
    }
}
