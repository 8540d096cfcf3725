//! Major compactions on command, as an operator's `nodetool` asks a node for them.

use super::SimCluster;
use crate::core::message::Input;
use crate::model::NodeIdx;

impl SimCluster {
    /// Compacts a keyspace, or one table of it, on one node (`nodetool compact`): what deletions hide is dropped, and
    /// deletions older than `gc_grace_seconds` with it. A paused node does it when it goes on.
    ///
    /// # Errors
    /// There is no such keyspace or table, or the node died before it got to it.
    pub async fn compact(&self, node: NodeIdx, keyspace: &str, table: Option<&str>) -> Result<(), String> {
        let inner = self.inner.clone();
        let (keyspace, table) = (keyspace.to_owned(), table.map(str::to_owned));
        let is_dead = move || format!("{node} is dead");
        let begin = async move {
            let mut done = Err(is_dead());
            inner.turn(node, |process, now_us| {
                done = process.node.tables_named(&keyspace, table.as_deref()).map(|tables| {
                    process.step(&inner, now_us, Input::Compact { tables });
                });
            });
            done
        };
        self.host(node).spawn(begin).await.unwrap_or_else(|_| Err(is_dead()))
    }
}
