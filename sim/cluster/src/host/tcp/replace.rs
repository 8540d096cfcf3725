//! Nodes in the place of lost ones. The ring itself does not change while a cluster runs.

use super::{Body, LOOK, TcpCluster};
use crate::core::Start;
use crate::host::NoNewNodes;
use crate::model::NodeIdx;
use tokio::time::sleep;

impl TcpCluster {
    /// A node is lost with its disk, and a new one takes its address and its tokens (`replace_address_first_boot`): it gets
    /// its data from the other replicas, and serves then. `node` counts from 0.
    ///
    /// # Errors
    /// Why it cannot. It is down then; this tries again.
    pub async fn replace(&self, node: usize) -> Result<(), String> {
        self.body.replace(NodeIdx(node as u8)).await
    }

    /// Refused: the ring of a running cluster does not change.
    ///
    /// # Errors
    /// Always, with what to do instead.
    pub fn add_node(&self) -> Result<usize, NoNewNodes> {
        Err(NoNewNodes)
    }
}

impl Body {
    /// Has a node replaced, and waits until it serves.
    pub(super) async fn replace(&self, node: NodeIdx) -> Result<(), String> {
        self.kill(node);
        let generation = self.shared.turn(|state, _| {
            let process = state.process(node);
            process
                .lose_log()
                .map_err(|e| format!("its log cannot be emptied: {e}"))?;
            Ok::<_, String>(process.node.generation())
        })?;
        let start = Start::InPlaceOf { generation };
        // Until it has its data nobody can connect.
        self.launch(node, start).map_err(|e| e.to_string())?;
        let life = self.shared.with(node, |p| p.life);
        loop {
            let state = self.shared.with(node, |p| match () {
                () if p.life != life => Err("it was started anew meanwhile".to_owned()),
                () if p.is_over => Err(p.halted.clone().unwrap_or_else(|| "it was killed meanwhile".to_owned())),
                () => Ok(p.is_serving),
            });
            match state? {
                true => break,
                false => sleep(LOOK).await,
            }
        }
        let socket = self.take_port(node).await.map_err(|e| e.to_string())?;
        self.open_port(node, socket);
        Ok(())
    }
}
