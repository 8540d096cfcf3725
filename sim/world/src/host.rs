//! Machines: what starts, stands still, dies and comes back. Not their sockets (`net`) nor their files (`disk`), which
//! are told here that the machine's generation has changed, before any of its tasks is dropped.

use crate::disk::Disk;
use crate::task::{Guarded, MainTasks, Place};
use crate::trace::{HostChange, HostId, Kind};
use crate::world::{Shared, World, lock};
use madsim::task::NodeId;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// A program of a machine.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

type Program = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Whether a machine's tasks run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostState {
    /// Tasks run.
    Up,
    /// Tasks stand still; the kernel goes on accepting bytes and connections.
    Paused,
    /// No process: killed, powered off, or its program has returned.
    Down,
}

/// The part of a machine that its sockets and files look at on every operation.
#[derive(Debug)]
pub(crate) struct HostCell {
    pub(crate) id: HostId,
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    generation: AtomicU32,
    state: AtomicU8,
}

const UP: u8 = 0;
const PAUSED: u8 = 1;
const DOWN: u8 = 2;

impl HostCell {
    pub(crate) fn new(id: HostId, name: &str, ip: IpAddr) -> Self {
        HostCell {
            id,
            name: name.to_owned(),
            ip,
            generation: AtomicU32::new(0),
            state: AtomicU8::new(UP),
        }
    }

    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    fn state(&self) -> HostState {
        match self.state.load(Relaxed) {
            UP => HostState::Up,
            PAUSED => HostState::Paused,
            _ => HostState::Down,
        }
    }
}

/// One process of a machine: what is opened under one generation is of no use in the next.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) cell: Arc<HostCell>,
    generation: u32,
}

impl Gate {
    pub(crate) fn of(cell: Arc<HostCell>, generation: u32) -> Self {
        Gate { cell, generation }
    }

    /// The gate of the calling task's process.
    pub(crate) fn here(world: &World, place: Place) -> Self {
        Gate::of(world.shared().hosts.get(place.host).cell, place.generation)
    }

    /// Whether that process still is the one that runs.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.cell.generation() == self.generation
    }
}

/// What the world keeps of a machine.
#[derive(Clone)]
pub(crate) struct HostEntry {
    pub(crate) cell: Arc<HostCell>,
    pub(crate) disk: Disk,
    node: NodeId,
    program: Option<Program>,
    signal: Arc<Mutex<Signal>>,
}

/// Requests to stop that the program of the present generation has asked for.
#[derive(Default)]
struct Signal {
    generation: u32,
    installed: bool,
    count: u64,
    waiting: Vec<Waker>,
}

impl HostEntry {
    pub(crate) fn new(cell: Arc<HostCell>, node: NodeId, disk: Disk) -> Self {
        HostEntry {
            cell,
            disk,
            node,
            program: None,
            signal: Arc::default(),
        }
    }
}

/// All machines, by number.
#[derive(Default)]
pub(crate) struct Hosts {
    entries: Mutex<Vec<HostEntry>>,
    main_tasks: MainTasks,
}

impl Hosts {
    pub(crate) fn push(&self, entry: HostEntry) {
        lock(&self.entries).push(entry);
    }

    pub(crate) fn main_tasks(&self) -> &MainTasks {
        &self.main_tasks
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.entries).len()
    }

    pub(crate) fn get(&self, id: HostId) -> HostEntry {
        lock(&self.entries)
            .get(id.index())
            .unwrap_or_else(|| panic!("there is no {id}"))
            .clone()
    }

    pub(crate) fn find(&self, matches: impl Fn(&HostEntry) -> bool) -> Option<HostEntry> {
        lock(&self.entries).iter().find(|entry| matches(entry)).cloned()
    }

    pub(crate) fn all(&self) -> Vec<HostEntry> {
        lock(&self.entries).clone()
    }

    fn set_program(&self, id: HostId, program: Program) {
        lock(&self.entries)[id.index()].program = Some(program);
    }

    /// Programs may own the world that owns them.
    pub(crate) fn forget_programs(&self) {
        let programs: Vec<_> = lock(&self.entries)
            .iter_mut()
            .map(|entry| entry.program.take())
            .collect();
        drop(programs);
    }
}

/// A simulated machine. Clones are the same machine.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
    cell: Arc<HostCell>,
}

impl Host {
    pub(crate) fn new(shared: Arc<Shared>, cell: Arc<HostCell>) -> Self {
        Host { shared, cell }
    }

    /// Its number.
    pub fn id(&self) -> HostId {
        self.cell.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.cell.name
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.cell.ip
    }

    /// How often a process of it has ended or begun: sockets and files of another generation are dead.
    pub fn generation(&self) -> u32 {
        self.cell.generation()
    }

    /// Whether its tasks run.
    pub fn state(&self) -> HostState {
        self.cell.state()
    }

    /// Its disk.
    pub fn disk(&self) -> Disk {
        self.entry().disk
    }

    /// Runs a program now and again at each restart. When it returns, its process ends as processes do: connections are
    /// closed, other tasks of the machine are dropped. When it panics, the same, and the panic is reported.
    pub fn start<F>(&self, make: F)
    where
        F: Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        self.shared.hosts.set_program(self.id(), Arc::new(make));
        if self.state() == HostState::Down {
            self.restart();
            return;
        }
        self.record(HostChange::Started);
        self.launch();
    }

    /// Runs a future as a task of this machine. On a machine that is down it never runs.
    pub fn spawn<F>(&self, future: F) -> crate::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        crate::task::spawn_at(&self.shared, self.entry().node, self.place(), future)
    }

    /// kill -9: the process is gone at once, its sockets are reset by the kernel, which lives on. The page cache is kept.
    pub fn kill(&self) {
        if self.state() != HostState::Down {
            self.stop(Death::Killed);
            self.record(HostChange::Killed);
        }
    }

    /// The power goes: nothing leaves the machine any more, what is sent to it vanishes, unsynced data is lost. Also on
    /// a machine whose process has ended: the page cache is lost.
    pub fn power_off(&self) {
        self.stop(Death::PoweredOff);
        self.entry().disk.power_loss();
        self.record(HostChange::PoweredOff);
    }

    /// Boots the machine, or kills and starts its process anew where it is up, and runs its program.
    pub fn restart(&self) {
        self.kill();
        let node = self.mortal_node("restarted");
        self.bump();
        self.cell.state.store(UP, Relaxed);
        self.shared.net.host_up(&self.shared, self.id());
        madsim::runtime::Handle::current().restart(node);
        self.record(HostChange::Restarted);
        self.launch();
    }

    /// All tasks stand still, as in a long stall; time goes on. Its kernel still accepts bytes and connections.
    pub fn pause(&self) {
        if self.state() == HostState::Up {
            let node = self.mortal_node("paused");
            self.cell.state.store(PAUSED, Relaxed);
            madsim::runtime::Handle::current().pause(node);
            self.record(HostChange::Paused);
        }
    }

    /// Ends a pause.
    pub fn resume(&self) {
        if self.state() == HostState::Paused {
            let node = self.mortal_node("resumed");
            self.cell.state.store(UP, Relaxed);
            madsim::runtime::Handle::current().resume(node);
            self.record(HostChange::Resumed);
        }
    }

    /// Asks the program to stop, as SIGINT and SIGTERM do: `tokio::signal` completes. A program that never asked for the
    /// signal ends at once.
    pub fn interrupt(&self) {
        if self.state() == HostState::Down {
            return;
        }
        self.record(HostChange::Interrupted);
        let entry = self.entry();
        let waiting = {
            let mut signal = lock(&entry.signal);
            let asked = signal.installed && signal.generation == self.generation();
            signal.count += 1;
            asked.then(|| std::mem::take(&mut signal.waiting))
        };
        match waiting {
            Some(wakers) => wakers.into_iter().for_each(Waker::wake),
            None => self.exit(),
        }
    }

    /// The process ends in order: connections are closed rather than reset.
    fn exit(&self) {
        if self.state() != HostState::Down {
            self.stop(Death::Exited);
            self.record(HostChange::Exited);
        }
    }

    /// The order matters: the generation first, so that nothing a dying task does has an effect; tasks last.
    fn stop(&self, death: Death) {
        let node = self.mortal_node("stopped");
        let before = self.state();
        self.bump();
        self.cell.state.store(DOWN, Relaxed);
        self.shared.net.host_down(&self.shared, self.id(), death);
        let kernel = madsim::runtime::Handle::current();
        if before == HostState::Paused {
            // madsim drops the tasks of a paused node under its own lock, where their destructors could hang; resumed,
            // they are dropped by the executor.
            kernel.resume(node);
        }
        if before != HostState::Down {
            kernel.kill(node);
        }
    }

    /// At the end of a run: no record of it, for it is no event of the run.
    pub(crate) fn tear_down(&self) {
        if self.state() != HostState::Down {
            self.stop(Death::PoweredOff);
        }
    }

    /// The runner lives on the main node.
    fn mortal_node(&self, what: &str) -> NodeId {
        assert!(self.id() != HostId::MAIN, "the main node cannot be {what}");
        self.entry().node
    }

    fn bump(&self) {
        self.cell.generation.store(self.cell.generation() + 1, Relaxed);
    }

    fn launch(&self) {
        let Some(program) = self.entry().program else { return };
        let host = self.clone();
        let generation = self.generation();
        drop(self.spawn(async move {
            let program = Guarded::new(&host.shared, host.place(), program());
            // A panic has been recorded by the guard; either way the process is over.
            let _ = program.await;
            if host.generation() == generation {
                host.exit();
            }
        }));
    }

    fn place(&self) -> Place {
        Place {
            host: self.id(),
            generation: self.generation(),
        }
    }

    fn entry(&self) -> HostEntry {
        self.shared.hosts.get(self.id())
    }

    fn record(&self, change: HostChange) {
        self.shared.trace.emit(
            Some(self.id()),
            Kind::Host {
                name: self.cell.name.clone(),
                change,
            },
        );
    }
}

/// How a process ends, as its peers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Death {
    /// The kernel closes the connections.
    Exited,
    /// The kernel resets the connections.
    Killed,
    /// Silence.
    PoweredOff,
}

/// Waits until the calling process is asked to stop; see [`Host::interrupt`]. From the first poll on, the signal no
/// longer ends the process by itself.
pub async fn interrupted() {
    let world = World::current();
    let place = crate::task::place();
    let signal = world.shared().hosts.get(place.host).signal;
    let mut seen = None;
    std::future::poll_fn(move |cx| {
        let mut signal = lock(&signal);
        if signal.generation != place.generation {
            *signal = Signal {
                generation: place.generation,
                ..Signal::default()
            };
        }
        signal.installed = true;
        let since = *seen.get_or_insert(signal.count);
        if signal.count > since {
            return std::task::Poll::Ready(());
        }
        if !signal.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            signal.waiting.push(cx.waker().clone());
        }
        std::task::Poll::Pending
    })
    .await
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("id", &self.id().0)
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
