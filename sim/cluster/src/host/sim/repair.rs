//! Repairs on command, as an operator's `nodetool` asks a node for them: the node coordinates, whoever asked waits.

use super::{Cluster, SimCluster};
use crate::core::message::Input;
use crate::core::{RepairScope, RepairState};
use crate::model::NodeIdx;
use sim_world::HostState;
use std::future::poll_fn;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

impl SimCluster {
    /// Repairs a keyspace, or one table of it, and waits for the end: every replica of each range is read, and what one
    /// lacks is written to it (`nodetool repair --full`). With `by`, that node coordinates, and the ranges that it has a
    /// copy of are repaired; without, all ranges are, by the first node that serves. Returns how many mutations were
    /// lacking. A paused node begins when it goes on.
    ///
    /// # Errors
    /// Why it failed. What it wrote until then stays.
    pub async fn repair(&self, by: Option<NodeIdx>, keyspace: &str, table: Option<&str>) -> Result<u64, String> {
        let scope = RepairScope {
            keyspace: keyspace.to_owned(),
            table: table.map(str::to_owned),
            whole_ring: by.is_none(),
        };
        let first = || self.nodes().find(|n| self.is_serving(*n));
        let node = by.or_else(first).ok_or("no node serves")?;
        let inner = self.inner.clone();
        let start = inner.slot(node).starts.load(Relaxed);
        let number = inner.repairs.fetch_add(1, Relaxed) + 1;
        let begin = async move {
            let repair = Input::Repair { number, scope };
            inner.turn(node, |process, now_us| process.step(&inner, now_us, repair));
        };
        drop(self.host(node).spawn(begin));
        poll_fn(|cx| match self.inner.repair_state(node, start, number) {
            Some(RepairState::Done { mutations }) => Poll::Ready(Ok(mutations)),
            Some(RepairState::Failed { reason }) => Poll::Ready(Err(reason)),
            Some(RepairState::Running) | None => {
                super::lock(&self.inner.waiting).push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Cluster {
    /// How far a repair is that was given to this life of a node; `None` if it did not get to it yet.
    fn repair_state(&self, node: NodeIdx, start: u64, number: u64) -> Option<RepairState> {
        let slot = self.slot(node);
        if slot.starts.load(Relaxed) != start || slot.host.state() == HostState::Down {
            let reason = format!("{node}, which coordinated it, is dead");
            return Some(RepairState::Failed { reason });
        }
        self.with_process(node, |p| p.node.repair_state(number).cloned())?
    }
}
