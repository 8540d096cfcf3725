//! Nodes in the place of lost ones. The ring itself does not change while a cluster runs.

use super::{Cluster, SimCluster, lock};
use crate::host::NoNewNodes;
use crate::model::NodeIdx;
use sim_world::HostState;
use std::future::poll_fn;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

impl SimCluster {
    /// A node is lost with its disk, and a new one takes its address and its tokens (`replace_address_first_boot`): it gets
    /// its data from the other replicas, and serves then. Returns at once; [`SimCluster::replaced`] waits.
    pub fn replace(&self, node: NodeIdx) {
        self.kill_if_up(node);
        let slot = self.inner.slot(node);
        let heard = |peer| self.inner.with_process(peer, |p| p.node.peer_generation(node));
        let generation = self.nodes().filter(|n| *n != node).filter_map(heard).max();
        *lock(&slot.replacing) = Some(generation.unwrap_or(0));
        *lock(&slot.halted) = None;
        slot.powered_off.store(false, Relaxed);
        slot.host.disk().replace();
        slot.host.restart();
    }

    /// Waits until a node that takes the place of a lost one serves.
    ///
    /// # Errors
    /// Why it cannot; [`SimCluster::replace`] tries again.
    pub async fn replaced(&self, node: NodeIdx) -> Result<(), String> {
        poll_fn(|cx| {
            if self.is_serving(node) {
                return Poll::Ready(Ok(()));
            }
            if let Some(reason) = self.inner.given_up(node) {
                return Poll::Ready(Err(reason));
            }
            lock(&self.inner.waiting).push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Refused: the ring of a running cluster does not change.
    ///
    /// # Errors
    /// Always, with what to do instead.
    pub fn add_node(&self) -> Result<NodeIdx, NoNewNodes> {
        Err(NoNewNodes)
    }
}

impl Cluster {
    /// Why a node will not serve, if that is so.
    fn given_up(&self, node: NodeIdx) -> Option<String> {
        let slot = self.slot(node);
        let halted = lock(&slot.halted).clone();
        halted.or_else(|| (slot.host.state() == HostState::Down).then(|| format!("{node} is down")))
    }
}
