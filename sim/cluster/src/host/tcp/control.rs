//! What can be done to one node while the others go on: kill -9, loss of power, freeze, resume, start again; to the links
//! between nodes, and to the hints that they keep. All nodes live in one process, so no signal from outside could do it.
//!
//! What differs from real processes: the kernel's part is played here. Messages to a frozen node wait in its mailbox (as in
//! a socket's buffer, without its bound: what requests under way make), its sockets accept connections and bytes; those of
//! a killed node are closed, and nobody listens until it is started again. What crosses a cut link is lost without a sign.

use super::error::StartError;
use super::faults::{Deed, FaultSpec, InjectError};
use super::process::Process;
use super::{Body, LOOK, PORT_COMES_BACK, Shared, State, TcpCluster, cannot_listen, connection};
use crate::core::config::ClockSpec;
use crate::core::message::Input;
use crate::core::{Node, Start};
use crate::model::NodeIdx;
use std::io::ErrorKind;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

impl TcpCluster {
    /// kill -9 of a node: what it holds is gone, what it gave to the kernel is kept, peers and clients are reset. `node`
    /// counts from 0.
    pub fn kill(&self, node: usize) {
        self.body.kill(NodeIdx(node as u8));
    }

    /// SIGSTOP of a node: it does nothing, and nobody is told.
    pub fn freeze(&self, node: usize) {
        self.body.freeze(NodeIdx(node as u8));
    }

    /// SIGCONT of a frozen node: what waited for it arrives now, and its deadlines with it.
    pub fn resume(&self, node: usize) {
        self.body.resume(NodeIdx(node as u8));
    }

    /// Starts a killed node again, from its log and on its address. One that runs is killed first.
    ///
    /// # Errors
    /// Its address was taken meanwhile, or its log cannot be read.
    pub async fn revive(&self, node: usize) -> Result<(), StartError> {
        self.body.revive(NodeIdx(node as u8)).await
    }
}

impl Body {
    /// Injects a fault.
    pub(super) fn inject(&self, fault: FaultSpec) -> Result<u32, InjectError> {
        self.faults.inject(self.shared.clock.now_us(), fault)
    }

    /// Does what a fault says; returns what there is to be told of it.
    pub(super) async fn perform(&self, fault: u32, deed: Deed) -> Result<String, String> {
        match deed {
            Deed::Kill { node, power } => {
                self.kill(node);
                if power {
                    let lost = self.shared.with(node, Process::lose_unsynced);
                    lost.map_err(|e| e.to_string())?;
                }
            }
            Deed::Bury(node) => self.listeners.abort(usize::from(node.0)),
            Deed::Start(node) => self.revive(node).await.map_err(|e| e.to_string())?,
            Deed::Freeze(node) => self.freeze(node),
            Deed::Resume(node) => self.resume(node),
            Deed::Cut(links) => {
                let cuts = links.into_iter().map(|(from, to)| (fault, from, to));
                self.shared.lock().cuts.extend(cuts);
            }
            Deed::Heal => self.shared.lock().cuts.retain(|(by, ..)| *by != fault),
            Deed::LoseHints { nodes, off } => {
                for node in nodes {
                    self.give(node, Input::LoseHints { peer: None });
                    if off {
                        self.give(node, Input::Handoff { on: false });
                    }
                }
            }
            Deed::ViewUpdates { nodes, fault } => nodes
                .into_iter()
                .for_each(|n| self.give(n, Input::ViewUpdates { fault })),
            Deed::KeepHints(nodes) => nodes
                .into_iter()
                .for_each(|n| self.give(n, Input::Handoff { on: true })),
            Deed::Clock { node, skew_ms } => self.shared.turn(|state, now_us| {
                let skew_us = skew_ms * 1000;
                let spec = ClockSpec { skew_us, drift_ppm: 0 };
                state.process(node).node.set_clock(now_us, spec);
            }),
            Deed::FailDisk(node) => self.shared.turn(|state, now_us| state.process(node).fail_disk(now_us)),
            Deed::Replace(node) => self.replace(node).await?,
            Deed::HoldSchema { node, on } => self.give(node, Input::HoldSchema { on }),
            Deed::Compact { node, keyspace, table } => self.compact(node, &keyspace, table.as_deref())?,
            Deed::Repair { by, scope } => {
                let mutations = self.repair(by, scope).await?;
                return Ok(format!("done, {mutations} mutations were lacking"));
            }
        }
        Ok(String::new())
    }

    fn give(&self, node: NodeIdx, input: Input) {
        self.shared
            .turn(|state, now_us| state.process(node).step(now_us, input));
    }

    pub(super) fn kill(&self, node: NodeIdx) {
        self.listeners.abort(usize::from(node.0));
        self.shared.turn(|state, now_us| {
            if state.process(node).is_over {
                return;
            }
            state.process(node).kill();
            state.died(now_us, node);
            self.trace.note(now_us, Some(node), "killed", None, String::new());
        });
    }

    pub(super) fn freeze(&self, node: NodeIdx) {
        self.shared.turn(|state, now_us| {
            state.process(node).is_frozen = true;
            self.trace.note(now_us, Some(node), "frozen", None, String::new());
        });
    }

    pub(super) fn resume(&self, node: NodeIdx) {
        self.shared.turn(|state, now_us| {
            state.process(node).thaw(now_us);
            self.trace.note(now_us, Some(node), "resumed", None, String::new());
        });
    }

    pub(super) async fn revive(&self, node: NodeIdx) -> Result<(), StartError> {
        self.kill(node);
        let socket = self.take_port(node).await?;
        self.launch(node, Start::Alone)?;
        self.open_port(node, socket);
        Ok(())
    }

    /// The CQL port of a node that was killed.
    pub(super) async fn take_port(&self, node: NodeIdx) -> Result<TcpListener, StartError> {
        let place = usize::from(node.0);
        let address = self.addresses[place];
        let failed = |e| cannot_listen(address, self.addresses[0], place + 1, e);
        // The task that held the port was told to end; the runtime needs a moment for it.
        while !self.listeners.is_closed(place) {
            sleep(LOOK).await;
        }
        // A client elsewhere may have been given the port for a connection of its own meanwhile.
        let give_up = Instant::now() + PORT_COMES_BACK;
        loop {
            match TcpListener::bind(address).await {
                Err(e) if e.kind() == ErrorKind::AddrInUse && Instant::now() < give_up => sleep(LOOK).await,
                outcome => return outcome.map_err(failed),
            }
        }
    }

    /// From now on the node answers there.
    pub(super) fn open_port(&self, node: NodeIdx, socket: TcpListener) {
        let shared = self.shared.clone();
        let accept = connection::accept(shared, node, socket);
        self.listeners.spawn(usize::from(node.0), accept);
    }

    /// Starts the process that follows one that was killed.
    pub(super) fn launch(&self, node: NodeIdx, start: Start) -> Result<(), StartError> {
        let log = self.data.open_log(node)?;
        let booted = self.shared.turn(|state, now_us| {
            let old = state.process(node);
            let seed = Shared::seed(now_us, node);
            let core = Node::new(old.node.config().clone(), node, seed);
            let mut process = old.successor(core, log);
            process.boot(now_us, start)?;
            *old = process;
            self.trace.note(now_us, Some(node), "started", None, String::new());
            Ok(())
        });
        booted.map_err(|e| self.data.unreadable(node, e))
    }
}

impl State {
    /// A node's process is dead: what it said and was not heard is lost, and its peers' connections to it are reset.
    pub(super) fn died(&mut self, now_us: u64, node: NodeIdx) {
        self.mail.retain(|(_, from, _)| *from != node);
        for (i, peer) in self.nodes.iter_mut().enumerate() {
            if i != usize::from(node.0) {
                peer.step(now_us, Input::PeerReset { peer: node });
            }
        }
    }
}
