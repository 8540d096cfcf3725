//! The simulated clock as nanoseconds since the run began, and exact callbacks at an instant of it. Not the timers of
//! programs: those are in `time`.

use madsim::time::{Duration, Instant, Sleep, TimeHandle};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

/// Nanoseconds in a millisecond.
pub(crate) const MS: u64 = 1_000_000;

/// Reads madsim's clock and arms madsim's timers.
#[derive(Clone)]
pub(crate) struct Clock {
    time: TimeHandle,
    base: Instant,
}

impl Clock {
    /// The clock of the runtime that is running on this thread.
    pub(crate) fn current() -> Self {
        let time = TimeHandle::current();
        let base = time.now_instant() - time.elapsed();
        Clock { time, base }
    }

    /// Simulated nanoseconds since the run began. A run of 584 years would wrap.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.time.elapsed().as_nanos() as u64
    }

    /// The instant at which the run is `at_ns` old.
    pub(crate) fn instant(&self, at_ns: u64) -> Instant {
        self.base + Duration::from_nanos(at_ns)
    }

    /// The age of the run at this instant; 0 for instants before it.
    pub(crate) fn ns_at(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// Has `waker` woken at exactly `at_ns`; false when that has already passed and nothing was armed.
    ///
    /// madsim offers no public timer below 1 ms, but `Sleep::reset` has no floor and `Sleep::poll` stores whatever waker
    /// it is given, for good: the entry cannot be taken back. The waker runs under madsim's timer lock. It may wake
    /// tasks; adding a timer there would spin for ever.
    pub(crate) fn arm(&self, at_ns: u64, waker: &Waker) -> bool {
        let mut sleep: Sleep = self.time.sleep(Duration::ZERO);
        Pin::new(&mut sleep).reset(self.instant(at_ns));
        Pin::new(&mut sleep).poll(&mut Context::from_waker(waker)).is_pending()
    }
}
