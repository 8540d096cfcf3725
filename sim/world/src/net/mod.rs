//! The simulated network: one table of links rules everything that travels, TCP and the cluster's messages.
//!
//! - [`links`]: delay, loss, bandwidth and cuts per directed link, and when something sent now arrives.
//! - `addr`: names and addresses.
//! - `conn`: the data of a connection: two byte rings and two ends. No behaviour.
//! - `state`: all hosts, listeners and connections behind one lock; sending, closing, dying.
//! - `events`: what arrives: handshake, bytes, resets, timeouts.
//! - `stream`, `listener`: the sockets that programs hold.
//! - [`tap`]: watching and bending connections.
//! - here: the lock, and how timers and wake-ups leave it.
//!
//! Rules that keep it sound: no waker is woken or dropped, and no timer armed, while the lock is held (it may drop a
//! future that owns a socket). Timers that are born inside a timer callback are armed by the courier.

mod addr;
mod conn;
mod events;
pub mod links;
mod listener;
mod state;
mod stream;
pub mod tap;

pub use addr::{ToSocketAddrs, lookup_host};
pub use links::{Link, Links};
pub use listener::TcpListener;
pub use stream::{TcpStream, connect_from};
pub use tap::{ConnInfo, DeliverVerdict, TapFilter, TapGuard, TapVerdict, TcpTap};

use crate::clock::MS;
use crate::host::Death;
use crate::seed::Source;
use crate::summary::NetStats;
use crate::trace::{Class, HostId, Kind};
use crate::world::{Shared, World, lock};
use smallvec::SmallVec;
use state::{State, TapEntry};
use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;

/// The settings of the network. Times in nanoseconds.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Every link between two different machines, until it is set otherwise.
    pub link: Link,
    /// A machine's link to itself.
    pub loopback: Link,
    /// Bytes written and not yet read that one direction of a connection may hold: send plus receive buffer.
    pub window_bytes: usize,
    /// First retransmission timeout; it doubles with every further loss of the same packet.
    pub rto_ns: u64,
    /// Connecting gives up after this long (Linux: SYNs at 0, 1, 3, 7, ... s, 127 s in all).
    pub connect_timeout_ns: u64,
    /// An established connection whose data is not acknowledged for this long fails (Linux: 15 retransmissions, 924 s).
    pub give_up_ns: u64,
    /// Arrivals are rounded up to this grid, so that packets of one instant share one timer. 1: exact.
    pub grid_ns: u64,
    /// Connections that wait to be accepted; further SYNs are ignored (Linux: net.core.somaxconn, 4096).
    pub backlog: usize,
    /// Fold every written byte into the trace hash, not only times and sizes.
    pub hash_bytes: bool,
}

impl Default for NetConfig {
    fn default() -> Self {
        NetConfig {
            link: Link::default(),
            loopback: Link {
                base_ns: 5_000,
                jitter_ns: 1_000,
                ..Link::default()
            },
            window_bytes: 256 << 10,
            rto_ns: 200 * MS,
            connect_timeout_ns: 127_000 * MS,
            give_up_ns: 924_000 * MS,
            grid_ns: 1_000,
            backlog: 4096,
            hash_bytes: false,
        }
    }
}

/// The network of one world.
pub(crate) struct Net {
    state: Mutex<State>,
    /// A timer callback is waking tasks. A waker may hold the last reference to a socket (those of zeromq's fair queue do),
    /// so that waking drops the socket, which has news for its peer; but no timer may be added now.
    in_callback: AtomicBool,
    /// One real, never connected socket that takes the socket options of every simulated one.
    options: OnceLock<OwnedFd>,
}

/// A descriptor that takes socket options, for sockets that are not connected yet.
pub struct OptionsFd {
    shared: Arc<Shared>,
}

impl OptionsFd {
    /// The one of the world that runs on this thread.
    pub fn current() -> Self {
        OptionsFd {
            shared: World::with_current(|world| world.shared().clone()),
        }
    }
}

impl AsFd for OptionsFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.net.options_fd()
    }
}

impl fmt::Debug for OptionsFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptionsFd").finish_non_exhaustive()
    }
}

/// What a change of the state asks for once the lock is released.
#[derive(Default)]
pub(crate) struct Effects {
    /// Instants for which a timer must be armed.
    arm: SmallVec<[u64; 4]>,
    /// Tasks to wake.
    wake: SmallVec<[Waker; 4]>,
}

impl Effects {
    fn is_empty(&self) -> bool {
        self.arm.is_empty() && self.wake.is_empty()
    }
}

impl Net {
    pub(crate) fn new(config: NetConfig) -> Self {
        Net {
            state: Mutex::new(State::new(config)),
            in_callback: AtomicBool::new(false),
            options: OnceLock::new(),
        }
    }

    /// Gives the network its stream of draws.
    pub(crate) fn set_source(&self, source: Source) {
        lock(&self.state).links.set_source(source);
    }

    /// Runs `f` under the lock; afterwards, outside it, arms new timers and wakes tasks.
    pub(crate) fn with<R>(&self, shared: &Shared, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = lock(&self.state);
        let result = f(&mut state);
        if state.effects.is_empty() {
            return result;
        }
        if self.in_callback.load(Ordering::Relaxed) {
            // Stays in the state; the courier comes for it.
            drop(state);
            shared.courier.call();
            return result;
        }
        let effects = std::mem::take(&mut state.effects);
        drop(state);
        for at_ns in effects.arm {
            if !shared.clock.arm(at_ns, &shared.fire_net) {
                self.fire(shared);
            }
        }
        for waker in effects.wake {
            waker.wake();
        }
        result
    }

    /// The earliest armed instant has come. May run under madsim's timer lock: may wake tasks, must not add timers.
    pub(crate) fn fire(&self, shared: &Shared) {
        let mut state = lock(&self.state);
        state.fire(&shared.trace);
        let wake = std::mem::take(&mut state.effects.wake);
        let orphans = !state.effects.arm.is_empty();
        drop(state);
        self.in_callback(|| wake.into_iter().for_each(Waker::wake));
        if orphans {
            shared.courier.call();
        }
    }

    /// Runs what wakes tasks inside a timer callback: until it ends, the network adds no timer.
    pub(crate) fn in_callback(&self, wake: impl FnOnce()) {
        let nested = self.in_callback.swap(true, Ordering::Relaxed);
        wake();
        self.in_callback.store(nested, Ordering::Relaxed);
    }

    /// Arms the timers that were born in a timer callback. Called by the courier.
    pub(crate) fn arm_pending(&self, shared: &Shared) {
        self.with(shared, |_| ());
    }

    pub(crate) fn stats(&self) -> NetStats {
        lock(&self.state).stats
    }

    pub(crate) fn add_host(&self, id: HostId, ip: IpAddr) {
        lock(&self.state).add_host(id, ip);
    }

    pub(crate) fn host_down(&self, shared: &Shared, host: HostId, death: Death) {
        self.with(shared, |state| state.host_down(host, death, shared.clock.now_ns()));
    }

    pub(crate) fn host_up(&self, shared: &Shared, host: HostId) {
        self.with(shared, |state| state.host_up(host, shared.clock.now_ns()));
    }

    /// Cuts or heals a directed link and records it if that changes anything.
    pub(crate) fn cut(&self, shared: &Shared, from: HostId, to: HostId, class: Class, cut: bool) {
        let changed = self.with(shared, |state| {
            let changed = state.links.cut(from, to, class, cut);
            if changed && !cut && class == Class::Client {
                state.heal(shared.clock.now_ns(), |a, b| (a, b) == (from, to));
            }
            changed
        });
        if changed {
            shared.trace.emit(None, Kind::Link { from, to, class, cut });
        }
    }

    /// A file descriptor that takes socket options. Nothing ever travels through it.
    pub(crate) fn options_fd(&self) -> BorrowedFd<'_> {
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).map(OwnedFd::from);
        self.options
            .get_or_init(|| socket().expect("the system gives one unconnected socket"))
            .as_fd()
    }

    pub(crate) fn add_tap(&self, shared: &Arc<Shared>, filter: TapFilter, tap: Box<dyn TcpTap>) -> TapGuard {
        let entry = TapEntry::new(filter, tap);
        let id = lock(&self.state).add_tap(entry);
        TapGuard::new(shared, id)
    }

    pub(crate) fn remove_tap(&self, id: u64) {
        let tap = lock(&self.state).remove_tap(id);
        drop(tap);
    }

    pub(crate) fn clear_taps(&self) {
        let taps = lock(&self.state).clear_taps();
        drop(taps);
    }
}
