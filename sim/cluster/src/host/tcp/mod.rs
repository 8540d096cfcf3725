//! A cluster on real TCP and real files, all nodes in this process: the same core and the same CQL edge as in the
//! simulator, under tokio and the machine's clock. It is what `scylla-sim` runs, and can be run inside a test.
//!
//! - `process`: one node, and the carrying out of what its core asks for,
//! - `connection`: one client of it,
//! - `control`: kill, freeze, resume and start again one node of them, cut links, lose hints,
//! - `repair`, `compact`, `replace`: anti-entropy repair and major compaction on command; a node in the place of a lost one,
//! - `faults`, `trace`: faults on command (`--plan`, the control endpoint), and what happened,
//! - `http`: the control endpoint,
//! - `status`: how the nodes are,
//! - `data_dir`, `log_file`: the directory and its lock; the log of a node, and its compaction,
//! - `clock`, `error`, `notice`: the time, why a start fails, what a person is told.
//!
//! All nodes share one lock. Whoever has something for a node (bytes of a client, a deadline, a finished sync) takes it,
//! gives it to the node, and delivers what nodes say to each other until nobody has anything more to say: messages between
//! nodes take no time. Files are appended under the lock (the kernel takes the bytes); syncs run on threads of their own,
//! one at a time for each node, and one serves all that wait when it begins.
//!
//! Everything is kept in memory: this is for tests and development, not for keeping data.

mod clock;
mod compact;
mod connection;
mod control;
mod data_dir;
mod error;
pub mod faults;
mod http;
mod log_file;
mod notice;
mod process;
mod repair;
mod replace;
mod status;
mod trace;

pub use error::StartError;
pub use notice::{Notice, Tell};
pub use status::NodeStatus;
pub use trace::{TRACE_LINES_MAX, TraceEvent, TraceLine};

use crate::core::Start;
use crate::core::config::{ClusterConfig, CommitlogSync};
use crate::core::flavor::Flavor;
use crate::core::knobs::Knob;
use crate::core::message::{Input, Msg};
use crate::core::node::Node;
use crate::cql::roles::Roles;
use crate::cql::traces::Traces;
use crate::model::NodeIdx;
use clock::Clock;
use data_dir::DataDir;
use faults::{Fault, FaultSpec, Faults, InjectError};
use process::{Around, Process};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};
use trace::Trace;

/// Updates of views that leave late do so after this, microseconds: from, to.
const LATE_VIEW_UPDATES_US: (u64, u64) = (200, 3_000);

/// Nodes of a cluster at most (`ClusterConfig::nodes`).
pub const NODES_MAX: usize = 64;
/// Messages between nodes delivered in one turn. Above it clients and deadlines get theirs first: handing over many hints
/// is a long conversation.
const MESSAGES_PER_TURN_MAX: usize = 10_000;
/// And for so long at most: what is asked of replicas may be a whole table.
const TURN: Duration = Duration::from_millis(5);
/// A directory in use is looked at again for so long: a killed process takes a moment to go, and its lock with it.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// A stop waits so long for requests under way: a little more than the longest of them takes, a range read of 10 s.
const DRAIN: Duration = Duration::from_secs(11);
/// And so long for the last sync of the logs: slow disks take a second or two.
const LAST_SYNC: Duration = Duration::from_secs(20);
/// And so long for the last answers to be written to clients that may not read them.
const LAST_WRITES: Duration = Duration::from_millis(300);
/// How often those who wait look.
const LOOK: Duration = Duration::from_millis(5);
/// How long a node that is started again waits for its port: a client's connection of a moment may have been given it.
const PORT_COMES_BACK: Duration = Duration::from_secs(2);
/// How many ports the system is asked for until it gives one that is free on all nodes' addresses.
const PORT_ATTEMPTS: usize = 8;

/// What a cluster is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of nodes.
    pub nodes: usize,
    /// Where the first node listens; the others have the addresses after it and the same port.
    pub listen: SocketAddr,
    /// Where the data are.
    pub data_dir: PathBuf,
    /// Which server it behaves like.
    pub flavor: Flavor,
    /// Rules of it that no source decides and that turn out the other way.
    pub knobs: BTreeSet<Knob>,
    /// When a write reaches the disk.
    pub commitlog_sync: CommitlogSync,
    /// Whether clients have to log in, and as whom at first.
    pub auth: Option<Credentials>,
}

/// The first superuser of a cluster that asks for a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password is nobody's business.
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What all tasks share.
struct Shared {
    state: Mutex<State>,
    clock: Clock,
    tell: Tell,
    /// Wakes the pump for an earlier deadline, or for what did not fit into a turn.
    pump: Notify,
    over: watch::Sender<bool>,
}

/// The nodes.
struct State {
    nodes: Vec<Process>,
    /// What nodes say to each other: (to, from, what). As much as their requests under way make; see `host::sim::inbox`.
    mail: VecDeque<(NodeIdx, NodeIdx, Msg)>,
    /// Links that are cut: by which fault, from whom, to whom.
    cuts: Vec<(u32, NodeIdx, NodeIdx)>,
    /// When the pump will look.
    armed_us: u64,
}

/// A cluster that runs. Dropping it ends it at once, as kill -9 would; [`TcpCluster::stop`] does it in good order.
#[must_use = "dropping a cluster ends it"]
pub struct TcpCluster {
    body: Arc<Body>,
    /// Pump, syncs, the director of faults and the control endpoint; ended when this is dropped.
    tasks: Mutex<JoinSet<()>>,
}

/// What a cluster consists of, its tasks aside.
struct Body {
    shared: Arc<Shared>,
    faults: Arc<Faults>,
    trace: Arc<Trace>,
    addresses: Arc<[SocketAddr]>,
    is_new: bool,
    /// Repairs so far: their numbers.
    repairs: AtomicU64,
    listeners: Listeners,
    /// Its lock is held until the last.
    data: DataDir,
}

/// The tasks that accept connections, one for each node that has an open port; they end when this is dropped.
#[derive(Debug, Default)]
struct Listeners {
    tasks: Mutex<(JoinSet<()>, BTreeMap<usize, AbortHandle>)>,
}

impl Listeners {
    fn spawn(&self, node: usize, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = tasks.0.spawn(task);
        tasks.1.insert(node, handle);
    }

    /// Closes the port of a node: soon, when the runtime gets to it ([`Listeners::is_closed`]).
    fn abort(&self, node: usize) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = tasks.1.get(&node) {
            handle.abort();
        }
    }

    fn is_closed(&self, node: usize) -> bool {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.1.get(&node).is_none_or(AbortHandle::is_finished)
    }

    async fn shutdown(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.0.shutdown().await;
    }
}

impl std::fmt::Debug for TcpCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpCluster")
            .field("addresses", &self.body.addresses)
            .finish_non_exhaustive()
    }
}

impl TcpCluster {
    /// Starts a cluster: takes its addresses, locks its directory, reads its logs, and serves.
    ///
    /// # Errors
    /// See [`StartError`]; nothing of an existing directory is changed then.
    pub async fn start(options: Options, tell: Tell) -> Result<TcpCluster, StartError> {
        let (sockets, addresses) = listen(&options).await?;
        let data = open_data(&options).await?;
        let clock = Clock::start();
        let config = Arc::new(cluster_config(&options, &addresses));
        let trace = Arc::new(Trace::default());
        let tell = traced(trace.clone(), clock, tell);
        let (orders, ordered) = mpsc::channel(faults::ORDERS_MAX);
        let faults = Arc::new(Faults::new(options.nodes, orders, trace.clone()));
        let around = Around {
            addresses: addresses.clone(),
            tell: tell.clone(),
            faults: faults.clone(),
            roles: options
                .auth
                .as_ref()
                .map(|a| Arc::new(Roles::new(&a.user, &a.password))),
            traces: Arc::new(Traces::new(Box::new(move || clock.now_us()))),
        };
        let mut nodes = Vec::new();
        for node in config.node_indices() {
            let log = data.open_log(node)?;
            let seed = Shared::seed(clock.now_us(), node);
            let core = Node::new(config.clone(), node, seed);
            nodes.push(Process::new(core, log, around.clone()));
        }
        let now_us = clock.now_us();
        for process in &mut nodes {
            let node = process.node.index();
            process
                .boot(now_us, Start::Together)
                .map_err(|e| data.unreadable(node, e))?;
        }
        let state = State {
            nodes,
            mail: VecDeque::new(),
            cuts: Vec::new(),
            armed_us: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            clock,
            tell,
            pump: Notify::new(),
            over: watch::channel(false).0,
        });
        let mut tasks = JoinSet::new();
        let listeners = Listeners::default();
        tasks.spawn(pump(shared.clone()));
        for (node, socket) in config.node_indices().zip(sockets) {
            tasks.spawn(sync_log(shared.clone(), node));
            listeners.spawn(usize::from(node.0), connection::accept(shared.clone(), node, socket));
        }
        shared.turn(|_, _| {});
        let body = Arc::new(Body {
            shared,
            faults,
            trace,
            addresses,
            is_new: data.is_new,
            repairs: AtomicU64::new(0),
            listeners,
            data,
        });
        tasks.spawn(faults::director::direct(Arc::downgrade(&body), ordered));
        Ok(TcpCluster {
            body,
            tasks: Mutex::new(tasks),
        })
    }

    /// Serves the control endpoint on an address (port 0: a free one); returns where. See `README.md` of `sim/cluster`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn control(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let at = listener.local_addr()?;
        let body = Arc::downgrade(&self.body);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(http::serve(body, listener));
        Ok(at)
    }

    /// Injects a fault; its time counts from now. Returns its number.
    ///
    /// # Errors
    /// It is wrong; the text says where and what is allowed.
    pub fn inject(&self, fault: FaultSpec) -> Result<u32, InjectError> {
        self.body.inject(fault)
    }

    /// The faults, over or not (the last [`faults::FAULTS_MAX`]).
    pub fn faults(&self) -> Vec<Fault> {
        self.body.faults.all()
    }

    /// Takes a fault back; what it does just now is ended. False if there is none of this number, or it is over.
    pub fn cancel(&self, fault: u32) -> bool {
        self.body.faults.cancel(self.body.shared.clock.now_us(), fault)
    }

    /// What happened: at most `limit` lines with greater numbers than `after`, of the last [`TRACE_LINES_MAX`].
    pub fn trace(&self, after: u64, limit: usize) -> Vec<TraceLine> {
        self.body.trace.lines(after, limit)
    }

    /// The CQL addresses of all nodes.
    pub fn contact_points(&self) -> &[SocketAddr] {
        &self.body.addresses
    }

    /// Whether the data directory was made by this start.
    pub fn is_new(&self) -> bool {
        self.body.is_new
    }

    /// The nodes as they are.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.body.status()
    }

    /// Waits until no node can go on (their disk is full, say). Those that were killed on command can.
    pub async fn ended(&self) {
        let mut over = self.body.shared.over.subscribe();
        // The sender lives as long as the cluster.
        let _ended = over.wait_for(|over| *over).await;
    }

    /// Stops in good order: no new connections, requests under way finish, logs are synced. Returns whether all of that
    /// was done within its time; if not, the next start finds what a kill would have left.
    pub async fn stop(self) -> bool {
        let shared = &self.body.shared;
        self.body.listeners.shutdown().await;
        shared.lock().nodes.iter_mut().for_each(Process::drain);
        let drained = timeout(DRAIN, self.until(|p| p.is_over || p.node.operations() == 0)).await;
        shared.turn(|state, now_us| {
            for process in &mut state.nodes {
                // One that stands still could not stop.
                process.thaw(now_us);
                process.step(now_us, Input::Shutdown);
            }
        });
        let synced = timeout(LAST_SYNC, self.until(|p| p.is_over)).await;
        // Answers that nobody reads are no reason to stay.
        let _unread = timeout(LAST_WRITES, self.until(|p| p.connected() == 0)).await;
        let halted = shared.lock().nodes.iter().any(|p| p.halted.is_some());
        drained.is_ok() && synced.is_ok() && !halted
    }

    async fn until(&self, mut done: impl FnMut(&Process) -> bool) {
        while !self.body.shared.lock().nodes.iter().all(&mut done) {
            sleep(LOOK).await;
        }
    }
}

impl Drop for TcpCluster {
    fn drop(&mut self) {
        self.body.shared.lock().nodes.iter_mut().for_each(Process::end);
    }
}

impl Shared {
    /// Where the draws of a node begin that starts now.
    fn seed(now_us: u64, node: NodeIdx) -> u64 {
        now_us.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(node.0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic that poisoned it has been reported already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at one node.
    fn with<R>(&self, node: NodeIdx, f: impl FnOnce(&mut Process) -> R) -> R {
        f(self.lock().process(node))
    }

    fn tell_accept(&self, node: NodeIdx, reason: &str) {
        (self.tell)(Notice::Accept {
            node,
            reason: reason.to_owned(),
        });
    }

    /// Lets `f` give nodes something, and delivers what they say to each other.
    fn turn<R>(&self, f: impl FnOnce(&mut State, u64) -> R) -> R {
        let mut state = self.lock();
        let now_us = self.clock.now_us();
        let result = f(&mut state, now_us);
        let next_us = self.deliver(&mut state, now_us);
        if next_us < state.armed_us {
            state.armed_us = next_us;
            self.pump.notify_one();
        }
        result
    }

    /// As [`Shared::turn`], for the deadlines of all nodes: returns when the next one is.
    fn tick(&self) -> u64 {
        let mut state = self.lock();
        let now_us = self.clock.now_us();
        for process in &mut state.nodes {
            process.tick(now_us);
        }
        state.armed_us = self.deliver(&mut state, now_us);
        state.armed_us
    }

    fn deliver(&self, state: &mut State, now_us: u64) -> u64 {
        let next_us = state.deliver(now_us);
        // One that was killed on command can be started again.
        if state.nodes.iter().all(|p| p.halted.is_some()) {
            self.over.send_replace(true);
        }
        next_us
    }
}

impl State {
    fn process(&mut self, node: NodeIdx) -> &mut Process {
        &mut self.nodes[usize::from(node.0)]
    }

    /// Delivers what nodes say to each other. Returns when there is something to do next.
    fn deliver(&mut self, now_us: u64) -> u64 {
        self.collect(now_us);
        let begun = Instant::now();
        for _ in 0..MESSAGES_PER_TURN_MAX {
            if begun.elapsed() > TURN {
                break;
            }
            let Some((to, from, msg)) = self.mail.pop_front() else {
                let next = |p: &mut Process| if p.is_idle() { None } else { p.node.next_deadline_us() };
                let next_us = self.nodes.iter_mut().filter_map(next).min();
                return next_us.unwrap_or(u64::MAX);
            };
            if self.cuts.iter().any(|(_, a, b)| (*a, *b) == (from, to)) {
                continue;
            }
            let receiver = self.process(to);
            if receiver.is_over {
                // As the kernel of a machine does whose process is dead.
                self.process(from).step(now_us, Input::PeerReset { peer: to });
            } else {
                receiver.step(now_us, Input::Peer { from, msg });
            }
            self.collect(now_us);
        }
        0
    }

    fn collect(&mut self, now_us: u64) {
        for i in 0..self.nodes.len() {
            if std::mem::take(&mut self.nodes[i].has_died) {
                self.died(now_us, NodeIdx(i as u8));
            }
        }
        for (i, process) in self.nodes.iter_mut().enumerate() {
            let from = NodeIdx(i as u8);
            self.mail
                .extend(process.outbox.drain(..).map(|(to, msg)| (to, from, msg)));
        }
    }
}

/// Tells the trace too.
fn traced(trace: Arc<Trace>, clock: Clock, tell: Tell) -> Tell {
    Arc::new(move |notice| {
        trace.notice(clock.now_us(), &notice);
        tell(notice);
    })
}

/// Gives nodes their deadlines.
async fn pump(shared: Arc<Shared>) {
    loop {
        let next_us = shared.tick();
        if next_us <= shared.clock.now_us() {
            // Clients first: what is left may be a lot.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = sleep_until(shared.clock.instant(next_us)) => {}
            () = shared.pump.notified() => {}
        }
    }
}

/// Syncs a node's log whenever its core asks for it; requests that come during a sync share the next one.
async fn sync_log(shared: Arc<Shared>, node: NodeIdx) {
    let wanted = shared.with(node, |p| p.sync_wanted.clone());
    loop {
        let (tokens, file, length, life) = shared.with(node, Process::take_syncs);
        if tokens.is_empty() {
            wanted.notified().await;
            continue;
        }
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        let outcome = synced.unwrap_or_else(|e| Err(io::Error::other(e)));
        shared.turn(|state, now_us| match outcome {
            // It was killed meanwhile, and what runs now did not ask for this.
            _ if state.process(node).life != life => {}
            Ok(()) => {
                state.process(node).synced(now_us, tokens, length);
                state.process(node).compact(now_us);
            }
            Err(error) => {
                let error = format!("sync: {error}");
                state.process(node).step(now_us, Input::LogFailed { error });
            }
        });
    }
}

fn cluster_config(options: &Options, addresses: &[SocketAddr]) -> ClusterConfig {
    let mut config = ClusterConfig::new(options.nodes, options.flavor);
    config.knobs.clone_from(&options.knobs);
    // Here a write takes an eighth of what it takes a real node (0.3 and 2.4 ms, seen by one client), so views lag by as much
    // less: what a client of a real one never sees late it does not see late here.
    config.views.late_us = LATE_VIEW_UPDATES_US;
    config.one_timestamp_of_all = Some(Arc::default());
    // Nodes tell each other of a new schema with their heartbeats. Real ones tell a random peer a second, who tells others:
    // they agree after 0.13 to 1.5 s (seen), ours within this. A Java driver adds a second of its own, and gives up after two.
    config.gossip.interval_ms = 500;
    config.commitlog_sync = options.commitlog_sync;
    // The host's time is the wall clock.
    config.wall_base_us = 0;
    for (node, address) in config.nodes.iter_mut().zip(addresses) {
        node.ip = address.ip();
        // What nodes without a snitch of their own say (both servers: `SimpleSnitch`), and what drivers are configured for.
        node.dc = "datacenter1".to_owned();
        node.rack = "rack1".to_owned();
    }
    config
}

/// Opens the data directory, with a little patience for a user of it that is just dying.
async fn open_data(options: &Options) -> Result<DataDir, StartError> {
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        match DataDir::open(&options.data_dir, options.flavor, options.nodes) {
            Err(StartError::InUse { .. }) if Instant::now() < give_up => sleep(LOOK).await,
            outcome => return outcome,
        }
    }
}

/// Takes the addresses of all nodes. Port 0 is one that the system chooses, the same for all.
async fn listen(options: &Options) -> Result<(Vec<TcpListener>, Arc<[SocketAddr]>), StartError> {
    let attempts = if options.listen.port() == 0 { PORT_ATTEMPTS } else { 1 };
    let mut outcome = listen_once(options).await;
    for _ in 1..attempts {
        if !matches!(outcome, Err(StartError::PortTaken { .. })) {
            break;
        }
        outcome = listen_once(options).await;
    }
    outcome
}

async fn listen_once(options: &Options) -> Result<(Vec<TcpListener>, Arc<[SocketAddr]>), StartError> {
    let wanted = addresses(options)?;
    let mut port = options.listen.port();
    let mut sockets = Vec::new();
    for (i, address) in wanted.iter().enumerate() {
        let address = SocketAddr::new(address.ip(), port);
        let failed = |e| cannot_listen(address, wanted[0], i + 1, e);
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        port = socket.local_addr().map_err(failed)?.port();
        sockets.push(socket);
    }
    let taken = wanted.iter().map(|a| SocketAddr::new(a.ip(), port)).collect();
    Ok((sockets, taken))
}

/// The addresses of the nodes: the first one and those after it.
fn addresses(options: &Options) -> Result<Arc<[SocketAddr]>, StartError> {
    let (nodes, first) = (options.nodes, options.listen);
    if nodes == 0 || nodes > NODES_MAX {
        return Err(StartError::Nodes {
            asked: nodes,
            most: NODES_MAX,
        });
    }
    let after = |n: u8| -> Option<IpAddr> {
        match first.ip() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                // The last is for broadcast on most networks.
                let d = d.checked_add(n).filter(|d| n == 0 || *d < 255)?;
                Some(Ipv4Addr::new(a, b, c, d).into())
            }
            IpAddr::V6(ip) => Some(Ipv6Addr::from(u128::from(ip).checked_add(u128::from(n))?).into()),
        }
    };
    (0..nodes as u8)
        .map(|n| after(n).map(|ip| SocketAddr::new(ip, first.port())))
        .collect::<Option<Arc<[SocketAddr]>>>()
        .ok_or(StartError::Addresses { nodes, first })
}

fn cannot_listen(address: SocketAddr, first: SocketAddr, node: usize, source: io::Error) -> StartError {
    match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortTaken {
            address,
            node,
            other: SocketAddr::new(first.ip(), first.port().checked_add(100).unwrap_or(9142)),
        },
        io::ErrorKind::AddrNotAvailable => StartError::NoSuchAddress { address, node },
        _ => StartError::Listen { address, node, source },
    }
}
