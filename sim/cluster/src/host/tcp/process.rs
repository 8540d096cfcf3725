//! One node on real sockets and files: its core, its front, its clients and its log, and the carrying out of what the core
//! asks for. What is for other nodes is left in `outbox`: the cluster delivers it.

use super::faults::Faults;
use super::log_file::LogFile;
use super::notice::{Notice, Tell};
use crate::core::flavor::Flavor;
use crate::core::message::{ClientRef, Effect, Input, Msg};
use crate::core::{BoundaryHook, Node, Start};
use crate::cql::frame::response::{self, Event};
use crate::cql::frame::{VERSION, v5};
use crate::cql::front::{Connection, Front, Outcome, Submission};
use crate::cql::roles::Roles;
use crate::cql::system::NodeView;
use crate::cql::traces::Traces;
use crate::host::asked::{Asked, AskedList};
use crate::host::changes::schema_changes;
use crate::model::{NodeIdx, Response, Schema};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// A connection's requests are taken for so long at a time; then others have their turn. A count of a large table takes
/// longer, and is one request.
const TURN: Duration = Duration::from_millis(1);
/// How often a node's log is synced, at most, before it is compacted: each sync may let requests go on that append more.
const SETTLE_TRIES: usize = 8;

/// What was taken of a client's bytes.
#[derive(Debug)]
pub(super) struct Taken {
    /// How many of them.
    pub bytes: usize,
    /// There are whole requests left, among the bytes or in what was taken: a segment holds many.
    pub is_more: bool,
}

/// A client's connection as its node holds it; the socket is its task's.
#[derive(Debug, Default)]
struct Client {
    front: Connection,
    /// Answers that the task has not taken yet.
    out: Vec<u8>,
    /// Whether `wake` was called since the task last took answers.
    is_woken: bool,
    /// The connection ends once everything is written.
    closing: bool,
    wake: Arc<Notify>,
}

/// What a connection's task is to write.
#[derive(Debug)]
pub(super) struct ToWrite {
    pub(super) bytes: Vec<u8>,
    /// Whether the connection ends after them.
    pub(super) is_last: bool,
}

/// What the processes of a cluster have in common.
#[derive(Clone)]
pub(super) struct Around {
    pub(super) addresses: Arc<[SocketAddr]>,
    pub(super) tell: Tell,
    pub(super) faults: Arc<Faults>,
    pub(super) roles: Option<Arc<Roles>>,
    pub(super) traces: Arc<Traces>,
}

/// A running node.
pub(super) struct Process {
    around: Around,
    pub(super) node: Node,
    front: Front,
    log: LogFile,
    address: SocketAddr,
    addresses: Arc<[SocketAddr]>,
    clients: BTreeMap<u64, Client>,
    connections: u64,
    /// Requests under way; at most the core's `in_flight_max`.
    asked: AskedList,
    /// Syncs asked for, by token; one sync serves all that wait when it begins.
    syncs: Vec<u64>,
    pub(super) sync_wanted: Arc<Notify>,
    pub(super) is_serving: bool,
    /// Whether requests are not taken any more.
    is_draining: bool,
    /// Whether the node has stopped, in order or because it cannot go on.
    pub(super) is_over: bool,
    /// Whether it stands still, as after SIGSTOP.
    pub(super) is_frozen: bool,
    /// What arrived meanwhile.
    held: Vec<Input>,
    /// What it was about to do when it froze in the middle of a step.
    held_effects: Vec<Effect>,
    /// Whether it died by a fault's verdict and its peers were not told yet.
    pub(super) has_died: bool,
    faults: Arc<Faults>,
    /// Which process of this node it is: a killed one may be followed by another.
    pub(super) life: u64,
    /// Why it could not go on.
    pub(super) halted: Option<String>,
    /// Messages to other nodes, in order.
    pub(super) outbox: Vec<(NodeIdx, Msg)>,
    /// The schema that clients were last told of.
    schema_told: Arc<Schema>,
    effects: Vec<Effect>,
    tell: Tell,
}

impl Process {
    pub(super) fn new(node: Node, log: LogFile, around: Around) -> Process {
        let Around {
            addresses,
            tell,
            faults,
            ..
        } = around.clone();
        let address = addresses[usize::from(node.index().0)];
        let front = Front::new(&view(&node, address.port()), None)
            .asking_for(around.roles.clone())
            .speaking_up_to(greatest_version(node.config().flavor))
            .tracing_to(Some(around.traces.clone()));
        let schema_told = node.schema().clone();
        Process {
            node,
            front,
            log,
            address,
            addresses,
            clients: BTreeMap::new(),
            connections: 0,
            asked: AskedList::default(),
            syncs: Vec::new(),
            sync_wanted: Arc::default(),
            is_serving: false,
            is_draining: false,
            is_over: false,
            is_frozen: false,
            held: Vec::new(),
            held_effects: Vec::new(),
            has_died: false,
            around,
            faults,
            life: 0,
            halted: None,
            outbox: Vec::new(),
            schema_told,
            effects: Vec::new(),
            tell,
        }
    }

    /// Starts the core from its log. A log that cannot be read to its end is left as it is.
    pub(super) fn boot(&mut self, now_us: u64, start: Start) -> io::Result<()> {
        let mut pieces = self.log.pieces();
        self.node.boot_from(now_us, &mut pieces, start, &mut self.effects);
        if let Some(error) = pieces.failed {
            self.effects.clear();
            return Err(error);
        }
        self.log.set_needed(self.node.live_log_bytes());
        self.carry_out(now_us);
        Ok(())
    }

    /// Compacts the log if enough of it is needed no more, and everything in it is on the disk by then; if it is not, the
    /// next sync is soon enough.
    pub(super) fn compact(&mut self, now_us: u64) {
        if self.is_over || self.is_frozen || !self.log.wants_compaction() {
            return;
        }
        if let Err(error) = self.settle_log(now_us) {
            return self.log_failed(now_us, format!("sync: {error}"));
        }
        if !self.node.is_log_settled() {
            return;
        }
        let before = self.log.length();
        match self.log.compact(&self.node, &mut |_| {}) {
            Ok(()) => {
                self.node.shed_log();
                let (node, after) = (self.node.index(), self.log.length());
                (self.tell)(Notice::Compacted { node, before, after });
            }
            // The old log goes on. Whatever is wrong with the disk, an append will tell.
            Err(error) => {
                self.log.set_needed(before);
                let (node, reason) = (self.node.index(), error.to_string());
                (self.tell)(Notice::NotCompacted { node, reason });
            }
        }
    }

    /// Syncs what the log has, and lets those go on who wait for it: they may append more, but not for long.
    fn settle_log(&mut self, now_us: u64) -> io::Result<()> {
        for _ in 0..SETTLE_TRIES {
            self.node.flush_all(&mut self.effects);
            self.carry_out(now_us);
            let length = self.log.length();
            self.log.shared().sync_data()?;
            self.syncs.clear();
            // Covers every sync that was asked for; those under way find nobody who waits.
            self.synced(now_us, vec![u64::MAX], length);
            if self.node.is_log_settled() {
                break;
            }
        }
        Ok(())
    }

    /// The process that takes the place of this one, which was killed: numbers go on, so that what was asked by the old
    /// one is not taken for the new one's.
    pub(super) fn successor(&self, node: Node, log: LogFile) -> Process {
        let mut new = Process::new(node, log, self.around.clone());
        new.life = self.life + 1;
        new.connections = self.connections;
        new.sync_wanted = self.sync_wanted.clone();
        new
    }

    /// kill -9: nothing more comes out of it, not even answers that are ready.
    pub(super) fn kill(&mut self) {
        self.clients.values_mut().for_each(|c| c.out.clear());
        self.held.clear();
        self.held_effects.clear();
        self.syncs.clear();
        self.outbox.clear();
        self.is_frozen = false;
        self.end();
    }

    /// Goes on after it was frozen.
    pub(super) fn thaw(&mut self, now_us: u64) {
        if !std::mem::take(&mut self.is_frozen) {
            return;
        }
        let unfinished = std::mem::take(&mut self.held_effects);
        self.effects.extend(unfinished);
        self.carry_out(now_us);
        for input in std::mem::take(&mut self.held) {
            self.step(now_us, input);
        }
        // Connections have bytes that were not looked at, and syncs may wait.
        self.clients.values_mut().for_each(wake);
        self.sync_wanted.notify_one();
        self.tick(now_us);
    }

    /// Whether its deadlines mean nothing now.
    pub(super) fn is_idle(&self) -> bool {
        self.is_over || self.is_frozen
    }

    /// Gives the core something that happened, and carries out what it asks for.
    pub(super) fn step(&mut self, now_us: u64, input: Input) {
        if self.is_over {
            return;
        }
        if self.is_frozen {
            self.held.push(input);
        } else {
            let mut hook = self.faults.hook();
            let hook = hook.as_mut().map(|h| h as &mut dyn BoundaryHook);
            self.node.step(now_us, input, hook, &mut self.effects);
            self.carry_out(now_us);
        }
    }

    /// Its log cannot be written any more.
    pub(super) fn fail_disk(&mut self, now_us: u64) {
        let error = "no space left on device, as it was told".to_owned();
        self.step(now_us, Input::LogFailed { error });
    }

    /// A machine lost power: what the disk does not have is gone. For a process that was killed.
    pub(super) fn lose_unsynced(&mut self) -> io::Result<()> {
        self.log.lose_unsynced()
    }

    /// The disk is another one. For a process that was killed.
    pub(super) fn lose_log(&mut self) -> io::Result<()> {
        self.log.truncate(0)
    }

    /// Bytes of its log.
    pub(super) fn log_bytes(&self) -> u64 {
        self.log.length()
    }

    /// Gives the core its deadlines that have come.
    pub(super) fn tick(&mut self, now_us: u64) {
        if !self.is_idle() && self.node.next_deadline_us().is_some_and(|at_us| at_us <= now_us) {
            self.step(now_us, Input::Tick);
        }
    }

    /// Takes a new connection in: its number, and what wakes its task.
    pub(super) fn open(&mut self, from: IpAddr) -> (u64, Arc<Notify>) {
        self.connections += 1;
        let client = Client {
            front: Connection::from(from),
            ..Client::default()
        };
        let wake = client.wake.clone();
        self.clients.insert(self.connections, client);
        (self.connections, wake)
    }

    pub(super) fn connected(&self) -> usize {
        self.clients.len()
    }

    /// Forgets a connection that ended; its requests go on without it.
    pub(super) fn close(&mut self, id: u64, now_us: u64) {
        if self.clients.remove(&id).is_some() {
            self.step(now_us, Input::Disconnected { conn: id });
        }
    }

    /// Handles the whole frames at the front of `bytes`, as many as fit into a turn.
    pub(super) fn requests(&mut self, id: u64, bytes: &[u8], now_us: u64) -> Taken {
        let (mut start, mut served) = (0, 0);
        if self.is_frozen {
            // It looks again when it goes on.
            return Taken {
                bytes: 0,
                is_more: true,
            };
        }
        let begun = Instant::now();
        while let Some(client) = self.clients.get_mut(&id) {
            if served > 0 && begun.elapsed() > TURN {
                // Others wait; it comes again after them.
                client.wake.notify_one();
                return Taken {
                    bytes: start,
                    is_more: true,
                };
            }
            if client.closing || self.is_draining {
                // Whatever else it sends means nothing any more.
                start = bytes.len();
                break;
            }
            let mut view = view(&self.node, self.address.port());
            view.wall_us = self.node.wall_us(now_us);
            let (taken, outcome) = self
                .front
                .next(&view, &mut client.front, &bytes[start..], &mut client.out);
            start += taken;
            served += 1;
            match outcome {
                Outcome::Incomplete => break,
                Outcome::Answered => {}
                Outcome::Submit(submission) => self.submit(id, submission, now_us),
                Outcome::Close => client.closing = true,
            }
        }
        Taken {
            bytes: start,
            is_more: false,
        }
    }

    fn submit(&mut self, client: u64, submission: Submission, now_us: u64) {
        let Submission { request, pending } = submission;
        let from = self.asked.keep(Asked { client, pending });
        self.step(now_us, Input::Client { from, request });
    }

    /// What the task of a connection is to write; `None` when the connection is not known any more.
    pub(super) fn take_answers(&mut self, id: u64) -> Option<ToWrite> {
        let client = self.clients.get_mut(&id)?;
        client.is_woken = false;
        let answers = std::mem::take(&mut client.out);
        Some(ToWrite {
            bytes: client.front.outgoing(answers),
            is_last: client.closing,
        })
    }

    /// Ends all connections once what they have is written.
    fn close_all(&mut self) {
        for client in self.clients.values_mut() {
            client.closing = true;
            client.wake.notify_one();
        }
    }

    /// A sync is done that began when the log had this length.
    pub(super) fn synced(&mut self, now_us: u64, tokens: Vec<u64>, length: u64) {
        self.log.synced_to(length);
        for token in tokens {
            self.step(now_us, Input::LogSynced { token });
        }
    }

    /// What is to be synced: the tokens that wait for it, the file and its length, and whose they are.
    pub(super) fn take_syncs(&mut self) -> (Vec<u64>, Arc<File>, u64, u64) {
        let tokens = if self.is_frozen {
            Vec::new()
        } else {
            std::mem::take(&mut self.syncs)
        };
        (tokens, self.log.shared(), self.log.length(), self.life)
    }

    fn carry_out(&mut self, now_us: u64) {
        // A failed write to the log is told to the core at once and has effects of its own.
        while !self.effects.is_empty() {
            let mut effects = std::mem::take(&mut self.effects);
            for effect in effects.drain(..) {
                if self.has_died {
                    // Nothing comes out of a dead process.
                } else if self.is_frozen {
                    self.held_effects.push(effect);
                } else {
                    self.effect(now_us, effect);
                }
            }
            if self.effects.is_empty() {
                // Kept for its memory.
                self.effects = effects;
            }
        }
    }

    fn effect(&mut self, now_us: u64, effect: Effect) {
        match effect {
            Effect::Send { to, msg } => self.outbox.push((to, msg)),
            Effect::Reply { to, response } => self.reply(to, response),
            Effect::LogAppend { pieces } => {
                if let Err(error) = self.log.append(&pieces) {
                    self.log_failed(now_us, format!("append: {error}"));
                }
            }
            Effect::LogSync { token } => {
                self.syncs.push(token);
                self.sync_wanted.notify_one();
            }
            Effect::LogTruncate { length_bytes } => {
                if let Err(error) = self.log.truncate(length_bytes) {
                    self.log_failed(now_us, format!("truncate: {error}"));
                }
            }
            Effect::Ready => self.is_serving = true,
            Effect::Status { peer, up } => {
                let of_peer = self.addresses[usize::from(peer.0)];
                self.tell_clients(&Event::Status {
                    up,
                    address: of_peer.ip(),
                    port: of_peer.port(),
                });
            }
            Effect::Replaced { peer } => {
                let of_peer = self.addresses[usize::from(peer.0)];
                self.tell_clients(&Event::Topology {
                    joined: true,
                    address: of_peer.ip(),
                    port: of_peer.port(),
                });
            }
            Effect::SchemaChanged { schema } => {
                let before = std::mem::replace(&mut self.schema_told, schema.clone());
                for change in schema_changes(&before, &schema) {
                    self.tell_clients(&Event::Schema(change));
                }
            }
            Effect::KillSelf => {
                self.kill();
                self.has_died = true;
            }
            // The director of faults knows when it goes on.
            Effect::PauseSelf { .. } => self.is_frozen = true,
            // Whoever waits for it looks now and then.
            Effect::RepairEnded { .. } => {}
            Effect::Stopped => self.end(),
            Effect::Halted { reason } => {
                let node = self.node.index();
                (self.tell)(Notice::Halted {
                    node,
                    reason: reason.clone(),
                });
                self.halted = Some(reason);
                self.end();
            }
            Effect::Event(event) => (self.tell)(Notice::Event {
                node: self.node.index(),
                event,
            }),
        }
    }

    fn log_failed(&mut self, now_us: u64, error: String) {
        self.node
            .step(now_us, Input::LogFailed { error }, None, &mut self.effects);
    }

    /// Takes no more requests: the node is about to stop.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Nothing more comes out of the node.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.is_serving = false;
        self.close_all();
        self.sync_wanted.notify_one();
    }

    fn reply(&mut self, to: ClientRef, response: Response) {
        let Some(asked) = self.asked.take(to.request) else {
            return;
        };
        let Some(client) = self.clients.get_mut(&asked.client) else {
            return;
        };
        let view = view(&self.node, self.address.port());
        self.front.complete(&view, asked.pending, response, &mut client.out);
        wake(client);
    }

    /// Tells the clients that registered for it.
    fn tell_clients(&mut self, event: &Event) {
        for client in self.clients.values_mut().filter(|c| c.front.wants(event)) {
            response::event(&mut client.out, event);
            wake(client);
        }
    }
}

fn wake(client: &mut Client) {
    if !std::mem::replace(&mut client.is_woken, true) {
        client.wake.notify_one();
    }
}

/// The latest version of the protocol that servers of this flavour speak.
fn greatest_version(flavor: Flavor) -> u8 {
    match flavor {
        Flavor::Scylla => VERSION,
        Flavor::Cassandra => v5::BETA_VERSION,
    }
}

/// What the front is told of a node.
fn view(node: &Node, port: u16) -> NodeView<'_> {
    NodeView {
        config: node.config(),
        ring: node.ring(),
        me: node.index(),
        generation: i32::try_from(node.generation()).unwrap_or(i32::MAX),
        port,
        schema: node.schema(),
        lists_own_tables: true,
        facts: node.facts(),
        view_builds: node.view_builds(),
        wall_us: 0,
    }
}
