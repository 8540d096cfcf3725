//! The time of a cluster on a real machine: the wall clock as of the start, and from there the monotonic clock.
//!
//! It is microseconds since the Unix epoch, so that what a log says of time means the same after a restart. A step of
//! the machine's clock is seen at the next start only; a clock that went back makes kept batches younger than they are,
//! which delays their replay and changes nothing else (generations and timestamps never go back).

use std::time::Duration;
use tokio::time::Instant;

/// A clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    base_us: u64,
    start: Instant,
}

impl Clock {
    /// A clock that shows the machine's time, now.
    pub(super) fn start() -> Clock {
        #[expect(
            clippy::disallowed_methods,
            reason = "a real cluster stamps writes with the machine's wall clock"
        )]
        let wall = std::time::SystemTime::now();
        let since = wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Clock {
            base_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
            start: Instant::now(),
        }
    }

    /// Microseconds since the Unix epoch.
    pub(super) fn now_us(&self) -> u64 {
        self.base_us + u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX / 2)
    }

    /// When that time comes.
    pub(super) fn instant(&self, at_us: u64) -> Instant {
        self.start + Duration::from_micros(at_us.saturating_sub(self.base_us))
    }
}
