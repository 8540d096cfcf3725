//! One task on the main node that does what must not be done inside a timer callback: arming timers for events that were
//! born there, killing machines, running scheduled calls. Everything here is rare; nothing per message passes through.

use crate::world::Shared;
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

/// A scheduled call.
pub(crate) type Call = Box<dyn FnOnce() + Send>;

/// The courier's mailbox.
#[derive(Default)]
pub(crate) struct Courier {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waker: Option<Waker>,
    /// By instant, then by order of scheduling.
    calls: BTreeMap<(u64, u64), Call>,
    scheduled: u64,
}

impl Courier {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the courier come round. Callable from anywhere, timer callbacks included.
    pub(crate) fn call(&self) {
        let waker = self.state().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the courier's task has run for the first time.
    pub(crate) fn is_ready(&self) -> bool {
        self.state().waker.is_some()
    }

    /// Schedules a call; returns the waker to be woken at its instant.
    pub(crate) fn schedule(&self, at_ns: u64, call: Call) -> Option<Waker> {
        let mut state = self.state();
        state.scheduled += 1;
        let key = (at_ns, state.scheduled);
        state.calls.insert(key, call);
        state.waker.clone()
    }

    /// Forgets everything scheduled.
    pub(crate) fn clear(&self) {
        let calls = std::mem::take(&mut self.state().calls);
        drop(calls);
    }

    fn take_due(&self, now_ns: u64) -> Option<Call> {
        let mut state = self.state();
        let due = state.calls.first_key_value().is_some_and(|(key, _)| key.0 <= now_ns);
        due.then(|| state.calls.pop_first()).flatten().map(|(_, call)| call)
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier")
            .field("calls", &self.state().calls.len())
            .finish_non_exhaustive()
    }
}

/// The courier's task. It ends with its world.
pub(crate) async fn run(shared: Weak<Shared>) {
    poll_fn(move |cx| {
        let Some(shared) = shared.upgrade() else {
            return Poll::Ready(());
        };
        let old = shared.courier.state().waker.replace(cx.waker().clone());
        drop(old);
        round(&shared);
        Poll::Pending
    })
    .await;
}

fn round(shared: &Arc<Shared>) {
    shared.net.arm_pending(shared);
    if let Some(at_ns) = shared.timers.next_to_arm() {
        shared.arm_timer(at_ns);
    }
    while let Some(call) = shared.courier.take_due(shared.clock.now_ns()) {
        call();
    }
}
