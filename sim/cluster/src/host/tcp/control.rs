//! What can be done to one node while the others go on: kill -9, freeze, resume, start again. All nodes live in one process,
//! so no signal from outside could do it.
//!
//! What differs from real processes: the kernel's part is played here. Messages to a frozen node wait in its mailbox (as in
//! a socket's buffer, without its bound: what requests under way make), its sockets accept connections and bytes; those of
//! a killed node are closed, and nobody listens until it is started again.

use super::error::StartError;
use super::process::Process;
use super::{LOOK, Shared, TcpCluster, cannot_listen, connection};
use crate::core::message::Input;
use crate::core::{Node, Start};
use crate::model::NodeIdx;
use tokio::net::TcpListener;
use tokio::time::sleep;

impl TcpCluster {
    /// kill -9 of a node: what it holds is gone, what it gave to the kernel is kept, peers and clients are reset. `node`
    /// counts from 0.
    pub fn kill(&self, node: usize) {
        let index = NodeIdx(node as u8);
        self.listeners.abort(node);
        self.shared.turn(|state, now_us| {
            if state.process(index).is_over {
                return;
            }
            state.process(index).kill();
            state.mail.retain(|(_, from, _)| *from != index);
            for (i, peer) in state.nodes.iter_mut().enumerate() {
                if i != node {
                    peer.step(now_us, Input::PeerReset { peer: index });
                }
            }
        });
    }

    /// SIGSTOP of a node: it does nothing, and nobody is told.
    pub fn freeze(&self, node: usize) {
        self.shared.with(NodeIdx(node as u8), |p| p.is_frozen = true);
    }

    /// SIGCONT of a frozen node: what waited for it arrives now, and its deadlines with it.
    pub fn resume(&self, node: usize) {
        self.shared.turn(|state, now_us| {
            state.process(NodeIdx(node as u8)).thaw(now_us);
        });
    }

    /// Starts a killed node again, from its log and on its address. One that runs is killed first.
    ///
    /// # Errors
    /// Its address was taken meanwhile, or its log cannot be read.
    pub async fn revive(&self, node: usize) -> Result<(), StartError> {
        let index = NodeIdx(node as u8);
        self.kill(node);
        let address = self.addresses[node];
        let failed = |e| cannot_listen(address, self.addresses[0], node + 1, e);
        // The task that held the port was told to end; the runtime needs a moment for it.
        while !self.listeners.is_closed(node) {
            sleep(LOOK).await;
        }
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let (log, bytes) = self.data.open_log(index)?;
        self.shared.turn(|state, now_us| {
            let old = state.process(index);
            let seed = Shared::seed(now_us, index);
            let core = Node::new(old.node.config().clone(), index, seed);
            let mut process = Process::new(core, log, self.addresses.clone(), self.shared.tell.clone());
            process.follow(old);
            process.boot(now_us, &bytes, Start::Alone);
            *old = process;
        });
        let shared = self.shared.clone();
        self.listeners.spawn(node, connection::accept(shared, index, socket));
        Ok(())
    }
}
