//! Repairs on command, as an operator's `nodetool` asks a node for them: the node coordinates, whoever asked waits.

use super::{Body, LOOK, TcpCluster};
use crate::core::message::Input;
use crate::core::{RepairScope, RepairState};
use crate::model::NodeIdx;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::sleep;

impl TcpCluster {
    /// Repairs a keyspace, or one table of it, and waits for the end: every replica of each range is read, and what one
    /// lacks is written to it (`nodetool repair --full`). With `by`, which counts from 0, that node coordinates, and the
    /// ranges that it has a copy of are repaired; without, all ranges are, by the first node that serves. Returns how many
    /// mutations were lacking.
    ///
    /// # Errors
    /// Why it failed. What it wrote until then stays.
    pub async fn repair(&self, by: Option<usize>, keyspace: &str, table: Option<&str>) -> Result<u64, String> {
        let scope = RepairScope {
            keyspace: keyspace.to_owned(),
            table: table.map(str::to_owned),
            whole_ring: by.is_none(),
        };
        self.body.repair(by.map(|n| NodeIdx(n as u8)), scope).await
    }
}

impl Body {
    /// Has a repair made, and waits for its end.
    pub(super) async fn repair(&self, by: Option<NodeIdx>, scope: RepairScope) -> Result<u64, String> {
        let number = self.repairs.fetch_add(1, Relaxed) + 1;
        let (node, life) = self.shared.turn(|state, now_us| {
            let first = || {
                state
                    .nodes
                    .iter()
                    .find(|p| p.is_serving && !p.is_idle())
                    .map(|p| p.node.index())
            };
            let node = by.or_else(first).ok_or("no node serves")?;
            let process = state.process(node);
            process.step(now_us, Input::Repair { number, scope });
            Ok::<_, String>((node, process.life))
        })?;
        loop {
            let state = self.shared.with(node, |p| match p.is_over || p.life != life {
                true => {
                    let reason = format!("node {}, which coordinated it, is dead", node.0 + 1);
                    Some(RepairState::Failed { reason })
                }
                // One that stands still gets to it when it goes on.
                false => p.node.repair_state(number).cloned(),
            });
            match state {
                Some(RepairState::Done { mutations }) => return Ok(mutations),
                Some(RepairState::Failed { reason }) => return Err(reason),
                Some(RepairState::Running) | None => sleep(LOOK).await,
            }
        }
    }
}
