//! A cluster in the simulated world: machines `db-1`, `db-2`, … with a CQL port each, messages over the world's links,
//! logs on the world's disks. [`SimCluster`] is the handle of scenarios and faults.
//!
//! - `program`: what a database machine runs,
//! - `process`: one running node,
//! - `connection`: one client of it,
//! - `inbox`: what is on its way to it,
//! - `record`: what the trace is told,
//! - `repair`, `compact`, `replace`: anti-entropy repair and major compaction on command; a node in the place of a lost one,
//! - `snapshot`: what the replicas hold, for checks.
//!
//! Locks: each node's process and inbox have one; a process may lock inboxes, never another process. A hook runs under
//! the lock of the coordinator that calls it: it may kill and pause machines and bend links, and must not ask the
//! cluster for anything of that node (snapshots and the like; it would find the node missing, not hang).

mod compact;
mod connection;
mod inbox;
mod process;
mod program;
mod record;
mod repair;
mod replace;
mod snapshot;

pub use process::CQL_PORT;
pub use program::{DATA_DIR, LOG_PATH};
pub use snapshot::{NodeSnapshot, Snapshot};

use crate::core::boundary::BoundaryHook;
use crate::core::config::{ClockSpec, ClusterConfig};
use crate::core::message::{Input, Msg};
use crate::core::{Lie, ViewFault};
use crate::cql::bind::ddl;
use crate::cql::error::CqlError;
use crate::cql::front::Registry;
use crate::model::{NodeIdx, Schema};
use inbox::{Delivery, Inbox};
use process::{After, Process};
use sim_world::trace::{Class, HostId};
use sim_world::{Host, HostState, Links, Stream, Trace, World};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Poll, Waker};

/// One thread runs a world; a panic that poisoned a lock has been reported already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a pump found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pumped {
    /// The node has stopped, or was killed.
    Over,
    /// It serves clients.
    Serving,
    /// It does not serve clients yet.
    NotYet,
}

/// One node's machine and what belongs to it beyond one process.
struct Slot {
    host: Host,
    inbox: Mutex<Inbox>,
    process: Mutex<Option<Process>>,
    /// Starts of the program so far.
    starts: AtomicU64,
    /// Whether the machine itself is off, and not only its process dead.
    powered_off: AtomicBool,
    clock: Mutex<ClockSpec>,
    /// Whether the next process takes the place of a lost node, and the generation of that one.
    replacing: Mutex<Option<u32>>,
    /// Why the last process could not go on, if so.
    halted: Mutex<Option<String>>,
}

/// What the handles and the tasks of a cluster share.
struct Cluster {
    world: World,
    links: Links,
    trace: Trace,
    config: Arc<ClusterConfig>,
    /// See the rule of this name.
    unsent_at_strike_percent: u64,
    slots: Vec<Slot>,
    hook: Mutex<Option<Box<dyn BoundaryHook>>>,
    hooked: AtomicBool,
    registry: Registry,
    deliveries: AtomicU64,
    /// Repairs so far: their numbers.
    repairs: AtomicU64,
    /// How late the last write that a hook put off is to be executed, milliseconds: for the trace.
    late_ms: AtomicU64,
    draws: Stream,
    /// Who waits for nodes to serve, or for what they were told to do.
    waiting: Mutex<Vec<Waker>>,
}

/// A handle to a simulated cluster. Clones are the same cluster.
#[derive(Clone)]
pub struct SimCluster {
    inner: Arc<Cluster>,
}

impl std::fmt::Debug for SimCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimCluster")
            .field("nodes", &self.inner.slots.len())
            .finish_non_exhaustive()
    }
}

/// The schema that these CQL statements make: an image to start a cluster from (`ClusterConfig::schema`), so that a seed
/// need not run the migration over the wire.
///
/// # Errors
/// The first refused statement, with its text.
pub fn schema_image<S: AsRef<str>>(config: &ClusterConfig, statements: &[S]) -> Result<Schema, CqlError> {
    let server = crate::cql::front::server(config);
    let texts: Vec<&str> = statements.iter().map(AsRef::as_ref).collect();
    ddl::schema_image(&server, &texts)
}

impl SimCluster {
    /// Creates the machines of the cluster, with the names `db-1` and so on and the addresses of the configuration, and
    /// starts their programs. They serve once the world has run them: wait with [`SimCluster::ready`].
    ///
    /// Panics when a machine of such a name or address exists already.
    pub fn start(world: &World, config: ClusterConfig) -> SimCluster {
        let slots = config.nodes.iter().enumerate().map(|(i, spec)| Slot {
            host: world.host(&NodeIdx(i as u8).to_string(), spec.ip),
            inbox: Mutex::default(),
            process: Mutex::default(),
            starts: AtomicU64::new(0),
            powered_off: AtomicBool::new(false),
            clock: Mutex::new(spec.clock),
            replacing: Mutex::default(),
            halted: Mutex::default(),
        });
        let inner = Arc::new(Cluster {
            world: world.clone(),
            links: world.links(),
            trace: world.trace(),
            slots: slots.collect(),
            hook: Mutex::default(),
            hooked: AtomicBool::new(false),
            registry: Registry::default(),
            deliveries: AtomicU64::new(0),
            repairs: AtomicU64::new(0),
            late_ms: AtomicU64::new(0),
            draws: world.stream("cluster/nodes"),
            waiting: Mutex::default(),
            unsent_at_strike_percent: config.rules().unsent_at_strike_percent,
            config: Arc::new(config),
        });
        for node in inner.config.node_indices() {
            // The world owns the program: a strong handle here would keep both alive for ever.
            let cluster = Arc::downgrade(&inner);
            inner.slot(node).host.start(move || {
                let cluster = cluster.upgrade();
                Box::pin(async move {
                    if let Some(cluster) = cluster {
                        program::run(cluster, node).await;
                    }
                })
            });
        }
        SimCluster { inner }
    }

    /// As [`SimCluster::start`], with the schema that these statements make on every node.
    ///
    /// # Errors
    /// The first refused statement, with its text; no machine is created then.
    pub fn start_with<S: AsRef<str>>(
        world: &World,
        mut config: ClusterConfig,
        ddl: &[S],
    ) -> Result<SimCluster, CqlError> {
        config.schema = Arc::new(schema_image(&config, ddl)?);
        Ok(SimCluster::start(world, config))
    }

    /// Waits until every node that is up serves clients.
    pub async fn ready(&self) {
        poll_fn(|cx| {
            let inner = &self.inner;
            let serving = inner
                .config
                .node_indices()
                .all(|n| self.is_serving(n) || inner.slot(n).host.state() != HostState::Up);
            if serving {
                return Poll::Ready(());
            }
            lock(&inner.waiting).push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The CQL addresses of all nodes.
    pub fn contact_points(&self) -> Vec<SocketAddr> {
        self.inner
            .config
            .nodes
            .iter()
            .map(|n| SocketAddr::new(n.ip, CQL_PORT))
            .collect()
    }

    /// What the cluster was started with.
    pub fn config(&self) -> &Arc<ClusterConfig> {
        &self.inner.config
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeIdx> + use<> {
        self.inner.config.node_indices().collect::<Vec<_>>().into_iter()
    }

    /// A node's machine.
    pub fn host(&self, node: NodeIdx) -> Host {
        self.inner.slot(node).host.clone()
    }

    /// The node on this machine.
    pub fn node_of(&self, host: HostId) -> Option<NodeIdx> {
        self.nodes().find(|n| self.inner.host_id(*n) == host)
    }

    /// kill -9: what the process holds is gone, what it gave to the kernel is kept, peers and clients are reset.
    pub fn kill(&self, node: NodeIdx) {
        let slot = self.inner.slot(node);
        slot.host.kill();
        self.inner.ended(node, slot.starts.load(Relaxed));
    }

    /// The power of a node's machine goes: silence, and what was not synced is lost.
    pub fn power_off(&self, node: NodeIdx) {
        let slot = self.inner.slot(node);
        slot.powered_off.store(true, Relaxed);
        slot.host.power_off();
        self.inner.ended(node, slot.starts.load(Relaxed));
    }

    /// Starts a node that is down, or kills it and starts it again.
    pub fn restart(&self, node: NodeIdx) {
        self.kill_if_up(node);
        let slot = self.inner.slot(node);
        slot.powered_off.store(false, Relaxed);
        slot.host.restart();
    }

    fn kill_if_up(&self, node: NodeIdx) {
        if self.inner.slot(node).host.state() != HostState::Down {
            self.kill(node);
        }
    }

    /// Stops a node in good order, as SIGTERM does: it announces itself, finishes what it has, syncs and exits. A paused
    /// node does so when it goes on.
    pub fn stop(&self, node: NodeIdx) {
        let inner = self.inner.clone();
        let shutdown = async move {
            inner.turn(node, |process, now_us| process.step(&inner, now_us, Input::Shutdown));
        };
        drop(self.host(node).spawn(shutdown));
    }

    /// A node's tasks stand still, as in a long stall; its kernel goes on accepting bytes.
    pub fn pause(&self, node: NodeIdx) {
        self.inner.slot(node).host.pause();
    }

    /// Ends a pause. Timers that came due meanwhile fire now.
    pub fn resume(&self, node: NodeIdx) {
        self.inner.slot(node).host.resume();
    }

    /// Keeps a running node from learning of changes to the schema that others make, or lets it learn of them again. Its
    /// restart ends that.
    pub fn hold_schema(&self, node: NodeIdx, on: bool) {
        self.give(node, Input::HoldSchema { on });
    }

    /// Has a running node show an anomaly on record, or not any more. Its restart ends that.
    pub fn lie(&self, node: NodeIdx, lie: Lie, on: bool) {
        self.give(node, Input::Lie { lie, on });
    }

    /// What becomes of the updates that a running node has for views. Its restart ends that.
    pub fn view_updates(&self, node: NodeIdx, fault: ViewFault) {
        self.give(node, Input::ViewUpdates { fault });
    }

    /// Gives a node's core an input; a paused one gets it when it goes on.
    fn give(&self, node: NodeIdx, input: Input) {
        let inner = self.inner.clone();
        let turn = move || {
            inner.turn(node, |process, now_us| process.step(&inner, now_us, input));
        };
        match self.host(node).state() {
            HostState::Paused => drop(self.host(node).spawn(async move { turn() })),
            _ => turn(),
        }
    }

    /// Sets how far a node's clock is ahead of simulated time, microseconds; it keeps that over restarts.
    pub fn set_clock_skew(&self, node: NodeIdx, skew_us: i64) {
        let drift_ppm = self.inner.clock(node).drift_ppm;
        self.set_clock(node, ClockSpec { skew_us, drift_ppm });
    }

    /// Sets skew and drift of a node's clock; it keeps them over restarts.
    pub fn set_clock(&self, node: NodeIdx, spec: ClockSpec) {
        *lock(&self.inner.slot(node).clock) = spec;
        let now_us = self.inner.now_us();
        self.inner
            .with_process(node, |process| process.node.set_clock(now_us, spec));
    }

    /// Sets the hook that coordinators consult at boundary points, in place of the one before. It runs under the lock of
    /// the node that consults it; see the module documentation for what it may do. A hook that owns a handle to this
    /// cluster keeps it alive until [`SimCluster::unhook`].
    pub fn hook(&self, hook: Box<dyn BoundaryHook>) {
        let old = lock(&self.inner.hook).replace(hook);
        self.inner.hooked.store(true, Relaxed);
        drop(old);
    }

    /// Takes the hook away.
    pub fn unhook(&self) {
        self.inner.hooked.store(false, Relaxed);
        let old = lock(&self.inner.hook).take();
        drop(old);
    }

    /// Statements prepared on any node, for [`crate::host::tap`].
    pub fn registry(&self) -> Registry {
        self.inner.registry.clone()
    }

    /// Whether a node's process runs and serves clients.
    pub fn is_serving(&self, node: NodeIdx) -> bool {
        self.inner
            .with_process(node, |p| p.serving && !p.stopped)
            .unwrap_or(false)
    }

    /// `gossip_generation` of a node's running process.
    pub fn generation(&self, node: NodeIdx) -> Option<i32> {
        self.inner.with_process(node, |p| program::port_and_generation(p).1)
    }

    /// The schema as a running node knows it.
    pub fn schema(&self, node: NodeIdx) -> Option<Arc<Schema>> {
        self.inner.with_process(node, |p| p.node.schema().clone())
    }

    /// Whether `by`, which must run, sees `node` up.
    pub fn sees_up(&self, by: NodeIdx, node: NodeIdx) -> Option<bool> {
        self.inner.with_process(by, |p| p.node.sees_up(node))
    }
}

impl Cluster {
    fn slot(&self, node: NodeIdx) -> &Slot {
        &self.slots[usize::from(node.0)]
    }

    fn host_id(&self, node: NodeIdx) -> HostId {
        self.slot(node).host.id()
    }

    fn now_ns(&self) -> u64 {
        self.world.now_ns()
    }

    fn now_us(&self) -> u64 {
        self.world.now_ns() / 1000
    }

    fn clock(&self, node: NodeIdx) -> ClockSpec {
        *lock(&self.slot(node).clock)
    }

    /// A draw for a node that starts.
    fn draw(&self, _: NodeIdx) -> u64 {
        self.draws.bits()
    }

    fn is_hooked(&self) -> bool {
        self.hooked.load(Relaxed)
    }

    fn hook(&self) -> MutexGuard<'_, Option<Box<dyn BoundaryHook>>> {
        lock(&self.hook)
    }

    fn with_inbox<R>(&self, node: NodeIdx, f: impl FnOnce(&mut Inbox) -> R) -> R {
        f(&mut lock(&self.slot(node).inbox))
    }

    /// Looks at a node's process; `None` if none runs, or if the caller is its own hook.
    fn with_process<R>(&self, node: NodeIdx, f: impl FnOnce(&mut Process) -> R) -> Option<R> {
        let mut process = match self.slot(node).process.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        process.as_mut().map(f)
    }

    /// Works off everything that is due on a node.
    fn pump(&self, node: NodeIdx) -> Pumped {
        loop {
            let now_ns = self.now_ns();
            let state = self.with_process(node, |process| {
                process.work(self, now_ns);
                let after = process.carry_out(self, now_ns / 1000);
                let pumped = match (process.stopped, process.serving) {
                    (true, _) => Pumped::Over,
                    (false, true) => Pumped::Serving,
                    (false, false) => Pumped::NotYet,
                };
                (after, process.node.next_deadline_us(), pumped)
            });
            let Some((after, deadline_us, pumped)) = state else {
                return Pumped::Over;
            };
            let next_ns = self.wake_at_next(node, deadline_us);
            self.after(node, after);
            if pumped == Pumped::Over || next_ns.is_none_or(|at_ns| at_ns > now_ns) {
                return pumped;
            }
        }
    }

    /// Sets the wake-up of a node's pump for its next arrival or deadline, and returns when that is.
    fn wake_at_next(&self, node: NodeIdx, deadline_us: Option<u64>) -> Option<u64> {
        let deadline_ns = deadline_us.map(|us| us.saturating_mul(1000));
        self.with_inbox(node, |inbox| {
            let next_ns = [deadline_ns, inbox.next_ns()].into_iter().flatten().min();
            if let Some(at_ns) = next_ns {
                inbox.wake_at(&self.world, at_ns);
            }
            next_ns
        })
    }

    /// Lets `f` give the core inputs, carries out the effects, and sets the next wake-up; `false` if no process runs.
    fn turn(&self, node: NodeIdx, f: impl FnOnce(&mut Process, u64)) -> bool {
        let now_us = self.now_us();
        let done = self.with_process(node, |process| {
            f(process, now_us);
            let after = process.carry_out(self, now_us);
            (after, process.node.next_deadline_us())
        });
        let Some((after, deadline_us)) = done else { return false };
        self.wake_at_next(node, deadline_us);
        self.after(node, after);
        true
    }

    /// What had to wait until the process was not locked.
    fn after(&self, node: NodeIdx, after: After) {
        if after.kill {
            let slot = self.slot(node);
            slot.host.kill();
            self.ended(node, slot.starts.load(Relaxed));
            return;
        }
        if let Some(waker) = after.wake_program {
            waker.wake();
        }
        if after.look_again {
            self.look_again();
        }
        for id in after.dirty {
            self.write_answers(node, id);
        }
        if let Some(ms) = after.pause_ms {
            let host = self.slot(node).host.clone();
            host.pause();
            let at_ns = self.now_ns() + ms * 1_000_000;
            self.world.call_at(at_ns, move || host.resume());
        }
    }

    /// Sends a message between nodes over the world's links.
    fn send(&self, from: NodeIdx, to: NodeIdx, msg: Msg) {
        let (from_host, to_host) = (self.host_id(from), self.host_id(to));
        let bytes = usize::try_from(msg.wire_bytes()).unwrap_or(usize::MAX);
        match self.links.travel(from_host, to_host, bytes, Class::Peer) {
            Some(at_ns) => self.put(to, at_ns, Delivery::Peer { from, msg }),
            None => self.refuse(from, to),
        }
    }

    /// Whether a message that arrives now had not left its sender when that was stopped. What a node says as it goes in good
    /// order has left it.
    fn has_kept_back(&self, from: NodeIdx, msg: &Msg) -> bool {
        let percent = self.unsent_at_strike_percent;
        percent > 0
            && !matches!(msg, Msg::Leaving { .. })
            && self.slot(from).host.state() != HostState::Up
            && self.world.stream("cluster/strikes").ratio(percent, 100)
    }

    fn put(&self, to: NodeIdx, at_ns: u64, delivery: Delivery) {
        let number = self.deliveries.fetch_add(1, Relaxed);
        self.with_inbox(to, |inbox| inbox.put(&self.world, at_ns, number, delivery));
    }

    /// A message could not travel: if the machine lives and only its process is dead, its kernel says so.
    fn refuse(&self, from: NodeIdx, to: NodeIdx) {
        let slot = self.slot(to);
        let (there, back) = (self.host_id(from), self.host_id(to));
        let is_cut = self.links.is_cut(Class::Peer, there, back) || self.links.is_cut(Class::Peer, back, there);
        if is_cut || slot.powered_off.load(Relaxed) || slot.host.state() != HostState::Down {
            return;
        }
        let delay_ns = self.links.get(there, back).base_ns + self.links.get(back, there).base_ns;
        self.put(from, self.now_ns() + delay_ns, Delivery::Reset(to));
    }

    /// A program starts: returns its number.
    fn started(&self, node: NodeIdx) -> u64 {
        self.slot(node).starts.fetch_add(1, Relaxed) + 1
    }

    fn install(&self, node: NodeIdx, process: Process) {
        let old = lock(&self.slot(node).process).replace(process);
        drop(old);
    }

    /// Who waits for nodes to serve, or for what they were told to do, looks again.
    fn look_again(&self) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The process with this number ended, however it did: what it held is dropped, what was on its way to it is gone,
    /// and its kernel, if it lives, resets its connections to the peers.
    fn ended(&self, node: NodeIdx, start: u64) {
        let slot = self.slot(node);
        if slot.starts.load(Relaxed) != start {
            return;
        }
        let process = match slot.process.try_lock() {
            Ok(mut guard) => guard.take(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
            // Its own hook killed it: the end of its program comes here again.
            Err(TryLockError::WouldBlock) => return,
        };
        let inbox = self.with_inbox(node, Inbox::clear);
        let ran = process.is_some();
        drop(process);
        drop(inbox);
        self.look_again();
        if !ran || slot.powered_off.load(Relaxed) {
            return;
        }
        for peer in self.config.node_indices().filter(|p| *p != node) {
            self.reset(node, peer);
        }
    }

    /// The kernel of `dead`'s machine resets the connection with `peer`.
    fn reset(&self, dead: NodeIdx, peer: NodeIdx) {
        let (from, to) = (self.host_id(dead), self.host_id(peer));
        if self.slot(peer).host.state() == HostState::Down || self.links.is_cut(Class::Peer, from, to) {
            return;
        }
        let at_ns = self.now_ns() + self.links.get(from, to).base_ns;
        self.put(peer, at_ns, Delivery::Reset(dead));
    }
}
