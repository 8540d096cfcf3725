//! Major compactions on command, as an operator's `nodetool` asks a node for them.

use super::{Body, TcpCluster};
use crate::core::message::Input;
use crate::model::NodeIdx;

impl TcpCluster {
    /// Compacts a keyspace, or one table of it, on one node, which counts from 0 (`nodetool compact`): what deletions hide is
    /// dropped, and deletions older than `gc_grace_seconds` with it.
    ///
    /// # Errors
    /// There is no such keyspace or table, or the node is dead.
    pub fn compact(&self, node: usize, keyspace: &str, table: Option<&str>) -> Result<(), String> {
        self.body.compact(NodeIdx(node as u8), keyspace, table)
    }
}

impl Body {
    pub(super) fn compact(&self, node: NodeIdx, keyspace: &str, table: Option<&str>) -> Result<(), String> {
        self.shared.turn(|state, now_us| {
            let process = state.process(node);
            if process.is_over {
                return Err(format!("node {} is dead", node.0 + 1));
            }
            let tables = process.node.tables_named(keyspace, table)?;
            process.step(now_us, Input::Compact { tables });
            Ok(())
        })
    }
}
