//! Timers that can be cancelled, and the exact alarm. The shapes of `tokio::time` are built on these in sim-tokio.
//!
//! madsim's own `Sleep` pushes a boxed closure into a heap on every poll and never removes it: a request timeout of 30 s
//! would stay there for 30 simulated seconds after the request was answered, and hold its task's memory. Here a dropped
//! timer is gone, a re-polled one only replaces its waker, and madsim holds few timers of ours: the earliest deadline,
//! and near ones, which mostly do come.

use crate::clock::MS;
use crate::courier::Courier;
use crate::world::{Shared, World};
use smallvec::SmallVec;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

pub use madsim::time::{Duration, Instant};

/// Deadlines this near are armed at once: most of them come, and arming them saves a poll of the courier each.
const NEAR_NS: u64 = 5 * MS;

/// All pending timers of a run.
#[derive(Default)]
pub(crate) struct Timers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By deadline, then by order of creation.
    pending: BTreeMap<(u64, u64), Waker>,
    created: u64,
    /// Instants for which madsim holds a timer of ours; it fires them in this order.
    armed: BTreeSet<u64>,
}

impl State {
    /// Notes that an instant is to be armed, unless a timer there or (for a distant one) before it will do.
    fn want(&mut self, at_ns: u64, now_ns: u64) -> Option<u64> {
        let covered = self.armed.first().is_some_and(|first| *first <= at_ns);
        let skip = covered && at_ns > now_ns + NEAR_NS;
        (!skip && self.armed.insert(at_ns)).then_some(at_ns)
    }
}

impl Timers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a waker in, or replaces the one under `key`. Returns the key and the instant to arm.
    fn put(&self, at_ns: u64, key: Option<u64>, now_ns: u64, waker: &Waker) -> (u64, Option<u64>) {
        let mut state = self.state();
        let key = key.unwrap_or_else(|| {
            state.created += 1;
            state.created
        });
        let mut old = None;
        match state.pending.entry((at_ns, key)) {
            Entry::Occupied(mut there) if !there.get().will_wake(waker) => old = Some(there.insert(waker.clone())),
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => {
                free.insert(waker.clone());
            }
        }
        let arm = state.want(at_ns, now_ns);
        drop(state);
        drop(old); // outside the lock: it may be the last reference to a task that owns timers
        (key, arm)
    }

    fn remove(&self, at_ns: u64, key: u64) {
        let old = self.state().pending.remove(&(at_ns, key));
        drop(old);
    }

    /// The next instant that has a timer but nothing armed for it. Called by the courier.
    pub(crate) fn next_to_arm(&self) -> Option<u64> {
        let mut state = self.state();
        let at_ns = state.pending.first_key_value()?.0.0;
        if state.armed.first().is_some_and(|first| *first <= at_ns) {
            return None;
        }
        state.armed.insert(at_ns);
        Some(at_ns)
    }

    /// The earliest armed instant has come. May run under madsim's timer lock.
    pub(crate) fn fire(&self, courier: &Courier) {
        let mut wake: SmallVec<[Waker; 4]> = SmallVec::new();
        let mut state = self.state();
        let Some(at_ns) = state.armed.pop_first() else { return };
        while let Some(entry) = state.pending.first_entry() {
            if entry.key().0 > at_ns {
                break;
            }
            wake.push(entry.remove());
        }
        let uncovered = state
            .pending
            .first_key_value()
            .is_some_and(|(key, _)| state.armed.first().is_none_or(|first| *first > key.0));
        drop(state);
        for waker in wake {
            waker.wake();
        }
        if uncovered {
            courier.call();
        }
    }
}

/// Waits for an exact instant of the simulated clock: no granularity, no minimum. For the world's own machinery; programs
/// get `tokio::time`, which is coarser.
pub struct Timer {
    shared: Arc<Shared>,
    at_ns: u64,
    key: Option<u64>,
}

impl Timer {
    /// A timer of the current world for this instant.
    pub fn at(at_ns: u64) -> Self {
        Timer::in_world(&World::current(), at_ns)
    }

    /// A timer of this world.
    pub fn in_world(world: &World, at_ns: u64) -> Self {
        Timer {
            shared: world.shared().clone(),
            at_ns,
            key: None,
        }
    }

    /// Nanoseconds since the run began at which it completes.
    pub fn deadline_ns(&self) -> u64 {
        self.at_ns
    }

    /// Whether that instant has come.
    pub fn is_elapsed(&self) -> bool {
        self.shared.clock.now_ns() >= self.at_ns
    }

    /// Sets another instant. A task that waits must poll again, as with tokio's.
    pub fn reset(&mut self, at_ns: u64) {
        self.cancel();
        self.at_ns = at_ns;
    }

    fn cancel(&mut self) {
        if let Some(key) = self.key.take() {
            self.shared.timers.remove(self.at_ns, key);
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now_ns = self.shared.clock.now_ns();
        if now_ns >= self.at_ns {
            self.cancel();
            return Poll::Ready(());
        }
        let (key, arm) = self.shared.timers.put(self.at_ns, self.key, now_ns, cx.waker());
        self.key = Some(key);
        if let Some(at_ns) = arm {
            self.shared.arm_timer(at_ns);
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer")
            .field("at_ns", &self.at_ns)
            .finish_non_exhaustive()
    }
}

/// Simulated nanoseconds since the run began, of the world on this thread.
pub fn now_ns() -> u64 {
    World::with_current(|world| world.now_ns())
}

/// The age of the current run at this instant.
pub fn ns_at(instant: Instant) -> u64 {
    World::with_current(|world| world.clock().ns_at(instant))
}

/// The instant at which the current run is this old.
pub fn instant_at(at_ns: u64) -> Instant {
    World::with_current(|world| world.clock().instant(at_ns))
}

impl Shared {
    /// Arms an instant that [`State::want`] asked for.
    pub(crate) fn arm_timer(&self, at_ns: u64) {
        if !self.clock.arm(at_ns, &self.fire_timers) {
            self.timers.fire(&self.courier);
        }
    }

    /// Wakes `waker` at this instant, without a way to take it back.
    pub(crate) fn wake_at(&self, at_ns: u64, waker: &Waker) {
        let now_ns = self.clock.now_ns();
        if at_ns <= now_ns {
            waker.wake_by_ref();
            return;
        }
        if let (_, Some(at_ns)) = self.timers.put(at_ns, None, now_ns, waker) {
            self.arm_timer(at_ns);
        }
    }
}
