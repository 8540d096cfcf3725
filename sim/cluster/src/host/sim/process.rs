//! One running node: its core, its front, its connections and its log, and the carrying out of what the core asks for.
//! It lives from the start of the machine's program to the death of its process.

use super::Cluster;
use super::connection::Client;
use super::inbox::Delivery;
use super::record;
use crate::core::Node;
use crate::core::boundary::BoundaryHook;
use crate::core::message::{ClientRef, Effect, Input};
use crate::cql::frame::response::{self, Event};
use crate::cql::front::{Front, Submission};
use crate::cql::system::NodeView;
use crate::host::asked::{Asked, AskedList};
use crate::host::changes::schema_changes;
use crate::model::{NodeIdx, Response, Schema};
use sim_world::disk::DiskFile;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

/// The port of CQL.
pub const CQL_PORT: u16 = 9042;

/// What the core asked for that has to wait until no lock is held.
#[derive(Debug, Default)]
pub(super) struct After {
    /// Connections with answers to write.
    pub(super) dirty: Vec<u64>,
    /// kill -9 of this node.
    pub(super) kill: bool,
    /// Freeze this node for so many milliseconds.
    pub(super) pause_ms: Option<u64>,
    /// Who waits for something looks again.
    pub(super) look_again: bool,
    /// Open the CQL port.
    pub(super) wake_program: Option<Waker>,
}

/// The running process of a node.
pub(super) struct Process {
    pub(super) node: Node,
    pub(super) front: Front,
    pub(super) log: Arc<DiskFile>,
    pub(super) clients: BTreeMap<u64, Client>,
    /// Connections so far: their numbers.
    pub(super) connections: u64,
    /// Connections with answers that were not written yet.
    pub(super) dirty: Vec<u64>,
    /// Requests under way; at most the core's `in_flight_max`, and those whose answer a fault swallowed.
    asked: AskedList,
    /// Syncs asked for, by token; one sync serves all that wait when it begins.
    pub(super) syncs: VecDeque<u64>,
    pub(super) sync_waker: Option<Waker>,
    /// Whether the CQL port is to be open.
    pub(super) serving: bool,
    /// Whether the node stopped, in order or because it cannot go on.
    pub(super) stopped: bool,
    program_waker: Option<Waker>,
    /// The schema that clients were last told of.
    schema_told: Arc<Schema>,
    effects: Vec<Effect>,
    /// Kept empty between steps, for its memory.
    due: Vec<Delivery>,
    after: After,
}

/// What the front is told of a node.
pub(super) fn view(node: &Node) -> NodeView<'_> {
    NodeView {
        config: node.config(),
        ring: node.ring(),
        me: node.index(),
        generation: i32::try_from(node.generation()).unwrap_or(i32::MAX),
        port: CQL_PORT,
        schema: node.schema(),
        lists_own_tables: false,
        facts: node.facts(),
        view_builds: node.view_builds(),
        wall_us: 0,
    }
}

impl Process {
    pub(super) fn new(cluster: &Cluster, node: Node, log: DiskFile) -> Self {
        let front = Front::new(&view(&node), Some(cluster.registry.clone()));
        let schema_told = node.schema().clone();
        Process {
            node,
            front,
            log: Arc::new(log),
            clients: BTreeMap::new(),
            connections: 0,
            dirty: Vec::new(),
            asked: AskedList::default(),
            syncs: VecDeque::new(),
            sync_waker: None,
            serving: false,
            stopped: false,
            program_waker: None,
            schema_told,
            effects: Vec::new(),
            due: Vec::new(),
            after: After::default(),
        }
    }

    /// Whom to wake when the process begins to serve, or stops.
    pub(super) fn listen(&mut self, waker: &Waker) {
        self.program_waker = Some(waker.clone());
    }

    /// Gives the core what is due by `now_ns`: arrivals, then its deadlines.
    pub(super) fn work(&mut self, cluster: &Cluster, now_ns: u64) {
        let me = self.node.index();
        let now_us = now_ns / 1000;
        let mut due = std::mem::take(&mut self.due);
        cluster.with_inbox(me, |inbox| inbox.take_due(now_ns, &mut due));
        for delivery in due.drain(..) {
            self.deliver(cluster, me, now_us, delivery);
        }
        self.due = due;
        if self.node.next_deadline_us().is_some_and(|at_us| at_us <= now_us) {
            self.step(cluster, now_us, Input::Tick);
        }
    }

    /// Gives the core a request of a client.
    pub(super) fn submit(&mut self, cluster: &Cluster, client: u64, submission: Submission, now_us: u64) {
        let Submission { request, pending } = submission;
        let from = self.asked.keep(Asked { client, pending });
        self.step(cluster, now_us, Input::Client { from, request });
    }

    /// Gives the core something that happened; its effects wait for [`Process::carry_out`].
    pub(super) fn step(&mut self, cluster: &Cluster, now_us: u64, input: Input) {
        if !cluster.is_hooked() {
            self.node.step(now_us, input, None, &mut self.effects);
            return;
        }
        let mut hook = cluster.hook();
        let hook = hook.as_mut().map(|h| &mut **h as &mut dyn BoundaryHook);
        self.node.step(now_us, input, hook, &mut self.effects);
    }

    /// Gives the core what arrived from a peer.
    fn deliver(&mut self, cluster: &Cluster, me: NodeIdx, now_us: u64, delivery: Delivery) {
        match delivery {
            Delivery::Peer { from, ref msg } if cluster.has_kept_back(from, msg) => {}
            Delivery::Peer { from, msg } => {
                record::delivered(cluster, me, from);
                self.step(cluster, now_us, Input::Peer { from, msg });
            }
            Delivery::Reset(peer) => self.step(cluster, now_us, Input::PeerReset { peer }),
        }
    }

    /// Starts the core from the bytes of the log.
    pub(super) fn boot(&mut self, now_us: u64, log: &[u8], start: crate::core::Start) {
        self.node.boot(now_us, log, start, &mut self.effects);
    }

    /// A connection ended: its requests go on without it. Returns what must be dropped outside the lock.
    #[must_use = "to be dropped outside the lock"]
    pub(super) fn disconnected(&mut self, cluster: &Cluster, id: u64, now_us: u64) -> Option<Client> {
        let gone = self.clients.remove(&id)?;
        self.step(cluster, now_us, Input::Disconnected { conn: id });
        Some(gone)
    }

    /// Carries out what the core asked for, in order. What needs locks to be free is returned.
    pub(super) fn carry_out(&mut self, cluster: &Cluster, now_us: u64) -> After {
        let me = self.node.index();
        // A failed write to the log is told to the core at once and may have effects of its own.
        while !self.effects.is_empty() {
            let mut effects = std::mem::take(&mut self.effects);
            for effect in effects.drain(..) {
                self.effect(cluster, me, now_us, effect);
                if self.after.kill {
                    // Nothing comes out of a dead process.
                    self.effects.clear();
                    break;
                }
            }
            if self.effects.is_empty() {
                effects.clear();
                self.effects = effects;
                break;
            }
        }
        self.after.dirty.append(&mut self.dirty);
        std::mem::take(&mut self.after)
    }

    fn effect(&mut self, cluster: &Cluster, me: NodeIdx, now_us: u64, effect: Effect) {
        match effect {
            Effect::Send { to, msg } => cluster.send(me, to, msg),
            Effect::Reply { to, response } => self.reply(cluster, to, response),
            Effect::LogAppend { pieces } => {
                if let Err(error) = self.log.append_shared(pieces) {
                    let error = format!("append: {error}");
                    self.step(cluster, now_us, Input::LogFailed { error });
                }
            }
            Effect::LogSync { token } => {
                self.syncs.push_back(token);
                if let Some(waker) = &self.sync_waker {
                    waker.wake_by_ref();
                }
            }
            Effect::LogTruncate { length_bytes } => {
                if let Err(error) = self.log.set_len(length_bytes) {
                    let error = format!("truncate: {error}");
                    self.step(cluster, now_us, Input::LogFailed { error });
                }
            }
            Effect::Ready => {
                self.serving = true;
                self.after.wake_program = self.program_waker.clone();
            }
            Effect::Status { peer, up } => {
                let address = cluster.config.nodes[usize::from(peer.0)].ip;
                self.tell(&Event::Status {
                    up,
                    address,
                    port: CQL_PORT,
                });
            }
            Effect::Replaced { peer } => {
                let address = cluster.config.nodes[usize::from(peer.0)].ip;
                self.tell(&Event::Topology {
                    joined: true,
                    address,
                    port: CQL_PORT,
                });
            }
            Effect::SchemaChanged { schema } => {
                let before = std::mem::replace(&mut self.schema_told, schema.clone());
                for change in schema_changes(&before, &schema) {
                    self.tell(&Event::Schema(change));
                }
            }
            Effect::KillSelf => self.after.kill = true,
            Effect::PauseSelf { ms } => self.after.pause_ms = Some(ms),
            Effect::RepairEnded { .. } => self.after.look_again = true,
            Effect::Stopped => self.stop(),
            Effect::Halted { reason } => {
                *super::lock(&cluster.slot(me).halted) = Some(reason.clone());
                self.after.look_again = true;
                record::halted(cluster, me, reason);
                self.stop();
            }
            Effect::Event(event) => record::event(cluster, me, &event),
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.after.wake_program = self.program_waker.clone();
    }

    fn reply(&mut self, cluster: &Cluster, to: ClientRef, response: Response) {
        let Some(asked) = self.asked.take(to.request) else {
            return;
        };
        let Some(client) = self.clients.get_mut(&asked.client) else {
            return;
        };
        if let Response::Error(error) = &response {
            record::answered_error(cluster, self.node.index(), asked.client, &asked.pending, error);
        }
        self.front
            .complete(&view(&self.node), asked.pending, response, &mut client.out);
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(asked.client);
        }
    }

    /// Tells the clients that registered for it.
    fn tell(&mut self, event: &Event) {
        for (id, client) in &mut self.clients {
            if client.front.wants(event) {
                response::event(&mut client.out, event);
                if !client.dirty {
                    client.dirty = true;
                    self.dirty.push(*id);
                }
            }
        }
    }
}
