//! What the replicas hold, for checks: taken from memory and from the disks, never through reads, which would repair the
//! evidence.

use super::{LOG_PATH, SimCluster};
use crate::core::BatchId;
use crate::core::marks::{Changes, Marks};
use crate::core::murmur3;
use crate::core::snapshot::{self, LentRow, ReplicaSnapshot, TableSnapshot};
use crate::model::{NodeIdx, TableId};
use std::collections::BTreeSet;

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

    /// What a node's process holds of one table; `None` when none runs or it has no such table.
    pub fn live_table(&self, node: NodeIdx, table: TableId) -> Option<TableSnapshot> {
        let now_us = self.inner.now_us();
        self.inner
            .with_process(node, |p| snapshot::live_table(&p.node, table, now_us))?
    }

    /// Gives `each` the partition key and the live cells of every row that a node's process holds of one table, in storage
    /// order; false when no process runs.
    pub fn visit(&self, node: NodeIdx, table: TableId, each: impl FnMut(&[u8], LentRow<'_>)) -> bool {
        let now_us = self.inner.now_us();
        self.inner
            .with_process(node, |p| snapshot::visit(&p.node, table, now_us, each))
            .is_some()
    }

    /// The signature of a table on a running node: see [`crate::core::store::TableStore::signature`].
    pub fn signature(&self, node: NodeIdx, table: TableId) -> Option<u64> {
        self.inner
            .with_process(node, |p| Some(p.node.store().table(table)?.signature()))?
    }

    /// Remembers the rows of these tables as a running node holds them.
    pub fn mark(&self, node: NodeIdx, tables: &[TableId]) -> Option<Marks> {
        let now_us = self.inner.now_us();
        self.inner.with_process(node, |p| p.node.mark(tables, now_us))
    }

    /// What differs from the marks; `None` when the node does not run, or not since then.
    pub fn changes_since(&self, node: NodeIdx, marks: &Marks) -> Option<Changes> {
        let now_us = self.inner.now_us();
        self.inner.with_process(node, |p| p.node.changes_since(marks, now_us))?
    }

    /// The hashes of a table's rows as they were marked on a node that runs since then.
    pub fn marked_rows(&self, node: NodeIdx, marks: &Marks, table: TableId) -> BTreeSet<u128> {
        let now_us = self.inner.now_us();
        self.inner
            .with_process(node, |p| p.node.marked_rows(marks, table, now_us))
            .unwrap_or_default()
    }

    /// Whether the last write of a row, as a running process holds it, is on its disk: a look-up instead of
    /// [`SimCluster::durable`]. `Some(false)` says only that: an equal row may be on the disk since an earlier write.
    /// `None` when no process runs, or it has no such row. `partition` and `clustering` are serialized as
    /// [`crate::model`] describes.
    pub fn is_row_durable(&self, node: NodeIdx, table: TableId, partition: &[u8], clustering: &[u8]) -> Option<bool> {
        let token = murmur3::token(partition);
        self.inner.with_process(node, |p| {
            let layout = p.node.store().table(table)?.layout();
            let key = layout.row(token, partition, clustering).ok()?;
            p.node.is_row_durable(table, &key)
        })?
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
