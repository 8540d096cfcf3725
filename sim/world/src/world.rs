//! One run: a madsim runtime, our network, timers and disks in it, and what is left when it ends.
//!
//! A run follows from its seed and its configuration alone: nothing in this crate outlives it. (Process-wide randomness
//! of other crates is the worker's business: it forks a pristine process per seed and runs it on a fresh thread.)

use crate::clock::Clock;
use crate::config::WorldConfig;
use crate::courier::{self, Courier};
use crate::disk::Disk;
use crate::host::{Host, HostCell, HostEntry, Hosts};
use crate::net::{Links, Net, TapFilter, TapGuard, TcpTap};
use crate::seed::{Seed, Source, Stream};
use crate::summary::{DiskStats, RunSummary, TaskPanic};
use crate::task;
use crate::time::Timers;
use crate::trace::{HostId, Kind, Trace};
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

thread_local! {
    static CURRENT: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// A handle to the running world. Clones are the same world.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
}

/// What the parts of one run share.
pub(crate) struct Shared {
    pub(crate) seed: Seed,
    pub(crate) config: WorldConfig,
    pub(crate) clock: Clock,
    pub(crate) trace: Trace,
    pub(crate) hosts: Hosts,
    pub(crate) net: Net,
    pub(crate) timers: Timers,
    pub(crate) courier: Courier,
    pub(crate) fire_timers: Waker,
    pub(crate) fire_net: Waker,
    streams: Mutex<BTreeMap<String, StreamEntry>>,
    select: OnceLock<Stream>,
    panics: Mutex<Vec<TaskPanic>>,
    tasks_spawned: AtomicU64,
}

struct StreamEntry {
    draws: Arc<AtomicU64>,
    /// None: the world draws from it itself.
    handle: Option<Stream>,
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The future given to [`World::run`], or the world itself, panicked.
    #[error("seed {}: the run panicked after {} simulated ns: {message}", .summary.seed, .summary.sim_time_ns)]
    Panicked {
        /// The message of the panic.
        message: String,
        /// What the run had left by then.
        summary: Box<RunSummary>,
    },
    /// A task of a machine panicked, and the configuration does not tolerate that.
    #[error("seed {}: a task on {} panicked after {} simulated ns: {}", .summary.seed, .panic.host_name, .panic.at_ns, .panic.message)]
    TaskPanicked {
        /// The first panic.
        panic: TaskPanic,
        /// What the run left.
        summary: Box<RunSummary>,
    },
    /// Nothing can ever happen again, and the run has not ended: every task waits for another.
    #[error("seed {}: after {} simulated ns every task waits and no timer is set: a deadlock", .summary.seed, .summary.sim_time_ns)]
    Stuck {
        /// What the run had left by then.
        summary: Box<RunSummary>,
    },
    /// The run simulated more time than its configuration allows.
    #[error("seed {}: not finished after {} simulated ns, the limit of the configuration", .summary.seed, .summary.sim_time_ns)]
    TimeLimit {
        /// What the run had left by then.
        summary: Box<RunSummary>,
    },
}

impl RunError {
    /// What the run had left when it failed.
    pub fn summary(&self) -> &RunSummary {
        match self {
            RunError::Panicked { summary, .. }
            | RunError::TaskPanicked { summary, .. }
            | RunError::Stuck { summary }
            | RunError::TimeLimit { summary } => summary,
        }
    }
}

impl World {
    /// Runs `f` in a new world made from the seed, on this thread, until its future ends; then ends every machine.
    /// The summary is that of the moment when the future ended.
    ///
    /// # Errors
    /// See [`RunError`]. Every error carries the summary of what was recorded until then.
    pub fn run<F, Fut, R>(seed: Seed, config: WorldConfig, f: F) -> Result<(R, RunSummary), RunError>
    where
        F: FnOnce(World) -> Fut,
        Fut: Future<Output = R>,
    {
        let (tolerant, leave_standing) = (config.tolerate_panics, config.leave_standing);
        let mut runtime = madsim::runtime::Runtime::with_seed_and_config(
            seed.stream("world/kernel").bits(),
            madsim::Config::default(),
        );
        if let Some(limit_ns) = config.time_limit_ns {
            runtime.set_time_limit(Duration::from_nanos(limit_ns));
        }
        let built: RefCell<Option<World>> = RefCell::new(None);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let world = World::build(seed, config);
                *built.borrow_mut() = Some(world.clone());
                let entered = Entered::new(world.clone());
                world.start_courier().await;
                let result = f(world.clone()).await;
                let summary = world.summary();
                if leave_standing {
                    // Tasks that are ready now are still polled once, and look for their world.
                    std::mem::forget(entered);
                } else {
                    world.tear_down().await;
                }
                (result, summary)
            })
        }));
        let Some(world) = built.into_inner() else {
            match outcome {
                Err(payload) => std::panic::resume_unwind(payload),
                Ok(_) => unreachable!("a run that returns has built its world"),
            }
        };
        let outcome = outcome.map_err(|payload| RunError::of(payload.as_ref(), world.summary()));
        let late_panics = world.take_panics();
        if leave_standing {
            std::mem::forget((world, runtime));
        } else {
            drop((world, runtime));
        }
        let (result, mut summary) = outcome?;
        summary.panics.extend(late_panics);
        match summary.panics.first() {
            Some(panic) if !tolerant => Err(RunError::TaskPanicked {
                panic: panic.clone(),
                summary: Box::new(summary),
            }),
            _ => Ok((result, summary)),
        }
    }

    /// The world that runs on this thread. Panics outside of one.
    pub fn current() -> World {
        World::with_current(World::clone)
    }

    /// The world that runs on this thread, if there is one.
    pub fn try_current() -> Option<World> {
        World::try_with_current(World::clone)
    }

    /// As [`World::try_current`], without cloning the handle.
    pub fn try_with_current<R>(f: impl FnOnce(&World) -> R) -> Option<R> {
        CURRENT
            .try_with(|current| current.try_borrow().ok().and_then(|world| world.as_ref().map(f)))
            .ok()
            .flatten()
    }

    /// As [`World::current`], without cloning the handle.
    pub fn with_current<R>(f: impl FnOnce(&World) -> R) -> R {
        CURRENT.with(|current| {
            f(current
                .borrow()
                .as_ref()
                .expect("no simulated world runs on this thread: call World::run first"))
        })
    }

    fn build(seed: Seed, config: WorldConfig) -> World {
        let clock = Clock::current();
        let trace = {
            let clock = clock.clone();
            Trace::new(Arc::new(move || clock.now_ns()), config.record_all)
        };
        let shared = Arc::new_cyclic(|weak: &Weak<Shared>| Shared {
            seed,
            clock,
            trace,
            hosts: Hosts::default(),
            net: Net::new(config.net.clone()),
            timers: Timers::default(),
            courier: Courier::default(),
            fire_timers: Waker::from(Arc::new(FireTimers(weak.clone()))),
            fire_net: Waker::from(Arc::new(FireNet(weak.clone()))),
            streams: Mutex::default(),
            select: OnceLock::new(),
            panics: Mutex::default(),
            tasks_spawned: AtomicU64::new(0),
            config,
        });
        let world = World { shared };
        world.shared.net.set_source(world.source("world/links"));
        world.add_main_host();
        world
    }

    async fn start_courier(&self) {
        madsim::task::spawn(courier::run(Arc::downgrade(&self.shared)));
        while !self.shared.courier.is_ready() {
            madsim::task::yield_now().await;
        }
    }

    /// Ends a seed cleanly: without this, about 5 MB of tasks and timers would outlive it.
    async fn tear_down(&self) {
        self.shared.hosts.forget_programs();
        for host in self.hosts() {
            host.tear_down();
        }
        task::abort_main_tasks(&self.shared);
        self.shared.net.clear_taps();
        self.shared.courier.clear();
        // The executor drops the futures of killed tasks when their turn comes.
        madsim::time::sleep(Duration::from_millis(1)).await;
        self.shared.courier.call();
    }

    fn take_panics(&self) -> Vec<TaskPanic> {
        std::mem::take(&mut *lock(&self.shared.panics))
    }

    fn summary(&self) -> RunSummary {
        let mut disk = DiskStats::default();
        for host in self.shared.hosts.all() {
            disk.add(&host.disk.stats());
        }
        RunSummary {
            seed: self.shared.seed,
            trace_hash: self.shared.trace.hash(),
            events: self.shared.trace.events(),
            records: self.shared.trace.take_records(),
            marks: self.shared.trace.marks(),
            draws: self
                .streams()
                .iter()
                .map(|(label, entry)| (label.clone(), entry.draws.load(Ordering::Relaxed)))
                .collect(),
            net: self.shared.net.stats(),
            disk,
            panics: self.take_panics(),
            sim_time_ns: self.now_ns(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn of(shared: &Arc<Shared>) -> World {
        World { shared: shared.clone() }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The seed of this run.
    pub fn seed(&self) -> Seed {
        self.shared.seed
    }

    /// The settings of this run.
    pub fn config(&self) -> &WorldConfig {
        &self.shared.config
    }

    /// Simulated nanoseconds since the run began.
    pub fn now_ns(&self) -> u64 {
        self.shared.clock.now_ns()
    }

    /// The trace of this run.
    pub fn trace(&self) -> Trace {
        self.shared.trace.clone()
    }

    /// The links between all machines.
    pub fn links(&self) -> Links {
        Links::new(self.shared.clone())
    }

    /// The stream of draws with this label: one sequence per label, however many ask for it. Labels that begin with
    /// `world/` belong to the world and panic here.
    pub fn stream(&self, label: &str) -> Stream {
        if let Some(entry) = self.streams().get(label) {
            return entry
                .handle
                .clone()
                .unwrap_or_else(|| panic!("the stream `{label}` belongs to the world itself"));
        }
        let source = self.new_source(label);
        let draws = source.counter();
        let stream = Stream::new(source);
        self.streams().insert(
            label.to_owned(),
            StreamEntry {
                draws,
                handle: Some(stream.clone()),
            },
        );
        stream
    }

    /// A stream of the world's own, without a lock.
    pub(crate) fn source(&self, label: &str) -> Source {
        let source = self.new_source(label);
        self.streams().insert(
            label.to_owned(),
            StreamEntry {
                draws: source.counter(),
                handle: None,
            },
        );
        source
    }

    /// Draws of `select!`.
    pub(crate) fn select_source(&self) -> &Stream {
        self.shared
            .select
            .get_or_init(|| Stream::new(self.source("world/select")))
    }

    fn new_source(&self, label: &str) -> Source {
        let id = self.streams().len() as u32;
        self.shared.seed.source(label, Some((self.shared.trace.clone(), id)))
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<String, StreamEntry>> {
        lock(&self.shared.streams)
    }

    /// Creates a machine: up, with an empty disk, reachable at `ip`, nothing running on it.
    /// Panics when the name or the address is taken.
    pub fn host(&self, name: &str, ip: IpAddr) -> Host {
        let node = madsim::runtime::Handle::current().create_node().name(name).build().id();
        self.add_host(name, ip, node)
    }

    fn add_main_host(&self) {
        let ip = IpAddr::from([10, 255, 255, 254]);
        self.add_host("main", ip, madsim::plugin::node());
    }

    fn add_host(&self, name: &str, ip: IpAddr, node: madsim::task::NodeId) -> Host {
        let id = HostId(u16::try_from(self.shared.hosts.len()).expect("fewer than 65,536 machines"));
        assert!(
            self.host_by_name(name).is_none(),
            "a machine named `{name}` exists already"
        );
        self.shared.net.add_host(id, ip);
        let cell = Arc::new(HostCell::new(id, name, ip));
        let disk = Disk::new(self, cell.clone());
        self.shared.hosts.push(HostEntry::new(cell.clone(), node, disk));
        Host::new(self.shared.clone(), cell)
    }

    /// The machine with this name.
    pub fn host_by_name(&self, name: &str) -> Option<Host> {
        let entry = self.shared.hosts.find(|entry| entry.cell.name == name)?;
        Some(Host::new(self.shared.clone(), entry.cell))
    }

    /// The machine with this number. Panics when there is none.
    pub fn host_by_id(&self, id: HostId) -> Host {
        Host::new(self.shared.clone(), self.shared.hosts.get(id).cell)
    }

    /// All machines but the main node, in the order of creation.
    pub fn hosts(&self) -> Vec<Host> {
        self.shared
            .hosts
            .all()
            .into_iter()
            .skip(1)
            .map(|entry| Host::new(self.shared.clone(), entry.cell))
            .collect()
    }

    /// The machine on which the calling code runs: the main node for the runner.
    pub fn current_host(&self) -> Host {
        self.host_by_id(task::place().host)
    }

    /// Calls `f` at this simulated instant (now, if it has passed), as part of a task of the main node: it may use
    /// everything, kill machines included. Calls of one instant come in the order in which they were scheduled.
    pub fn call_at(&self, at_ns: u64, f: impl FnOnce() + Send + 'static) {
        if let Some(waker) = self.shared.courier.schedule(at_ns, Box::new(f)) {
            self.shared.wake_at(at_ns, &waker);
        }
    }

    /// Watches and bends the TCP connections that `from` opens to `to_port`, both directions, until the guard drops.
    pub fn tap(&self, from: HostId, to_port: u16, tap: Box<dyn TcpTap>) -> TapGuard {
        self.tap_where(
            TapFilter {
                client: Some(from),
                server: None,
                port: Some(to_port),
            },
            tap,
        )
    }

    /// As [`World::tap`], for all connections that the filter matches, present and future ones. Where several taps match
    /// a connection, the one installed first has it.
    pub fn tap_where(&self, filter: TapFilter, tap: Box<dyn TcpTap>) -> TapGuard {
        self.shared.net.add_tap(&self.shared, filter, tap)
    }

    /// Counters of the network so far.
    pub fn net_stats(&self) -> crate::NetStats {
        self.shared.net.stats()
    }

    /// Waits for an exact simulated instant; see [`crate::time::Timer`].
    pub fn until(&self, at_ns: u64) -> crate::time::Timer {
        crate::time::Timer::in_world(self, at_ns)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.shared.seed.0)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn next_task_id(&self) -> u64 {
        self.tasks_spawned.fetch_add(1, Ordering::Relaxed)
    }

    /// Records that a task panicked.
    pub(crate) fn panicked(&self, host: HostId, payload: &(dyn Any + Send)) {
        let message = panic_message(payload);
        let entry = self.hosts.get(host);
        self.trace.emit(
            Some(host),
            Kind::Panic {
                message: message.clone(),
            },
        );
        let panic = TaskPanic {
            at_ns: self.clock.now_ns(),
            host,
            host_name: entry.cell.name.clone(),
            message,
        };
        lock(&self.panics).push(panic);
    }
}

impl RunError {
    fn of(payload: &(dyn Any + Send), summary: RunSummary) -> RunError {
        let message = panic_message(payload);
        let summary = Box::new(summary);
        // The two ways in which madsim itself ends a run are panics with these texts; its version is pinned.
        if message.starts_with("no events, all tasks will block forever") {
            RunError::Stuck { summary }
        } else if message.starts_with("time limit exceeded") {
            RunError::TimeLimit { summary }
        } else {
            RunError::Panicked { message, summary }
        }
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Locks what only one thread uses; a panic that poisoned it has been reported already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a world the current one of this thread until it drops.
struct Entered {
    before: Option<World>,
}

impl Entered {
    fn new(world: World) -> Self {
        Entered {
            before: CURRENT.with(|current| current.replace(Some(world))),
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let ours = CURRENT.with(|current| current.replace(self.before.take()));
        drop(ours);
    }
}

// Weak: madsim's timer heap must not own the world that owns the timers.
struct FireTimers(Weak<Shared>);
impl Wake for FireTimers {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.net.in_callback(|| shared.timers.fire(&shared.courier));
        }
    }
}

struct FireNet(Weak<Shared>);
impl Wake for FireNet {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.net.fire(&shared);
        }
    }
}
