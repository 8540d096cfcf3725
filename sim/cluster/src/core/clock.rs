//! A node's wall clock and the timestamps it hands out.
//!
//! The clock is simulated time plus skew plus drift: the only wall clock a database node has. Servers make timestamps
//! unique only within one connection (ScyllaDB) or one coordinator (Cassandra); two coordinators can produce equal ones.

use super::config::ClockSpec;
use super::flavor::ServerTimestamps;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A node's clock.
#[derive(Debug, Clone)]
pub struct Clock {
    base_us: i64,
    spec: ClockSpec,
    /// Simulated time since which the drift accumulates.
    drift_since_us: u64,
    /// The last timestamp that a coordinator gave; several share one where `ClusterConfig::one_timestamp_of_all` says so.
    last_us: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that shows `base_us` (Unix microseconds) plus its skew at simulated time 0.
    pub fn new(base_us: i64, spec: ClockSpec) -> Clock {
        Clock {
            base_us,
            spec,
            drift_since_us: 0,
            last_us: Arc::default(),
        }
    }

    /// From now on no timestamp is given twice by those that share `last_us`.
    pub fn share(&mut self, last_us: Arc<AtomicI64>) {
        self.last_us = last_us;
    }

    /// Changes skew and drift from now on: a jump of the clock.
    pub fn set(&mut self, now_us: u64, spec: ClockSpec) {
        self.spec = spec;
        self.drift_since_us = now_us;
    }

    /// How far it is ahead of simulated time by its skew, microseconds.
    pub fn skew_us(&self) -> i64 {
        self.spec.skew_us
    }

    /// What the clock shows, Unix microseconds.
    pub fn wall_us(&self, now_us: u64) -> i64 {
        let drift = now_us.saturating_sub(self.drift_since_us) as i128 * i128::from(self.spec.drift_ppm) / 1_000_000;
        self.base_us + now_us as i64 + self.spec.skew_us + drift as i64
    }

    /// What the clock shows, Unix seconds (never before the epoch).
    pub fn wall_s(&self, now_us: u64) -> u32 {
        (self.wall_us(now_us) / 1_000_000).clamp(0, i64::from(u32::MAX)) as u32
    }

    /// A timestamp for a write that brought none. `connection_last_us` is the last one given on the same connection and
    /// is updated.
    pub fn timestamp(&mut self, now_us: u64, rule: ServerTimestamps, connection_last_us: &mut i64) -> i64 {
        match rule {
            ServerTimestamps::PerConnection => {
                *connection_last_us = self.wall_us(now_us).max(*connection_last_us + 1);
                *connection_last_us
            }
            ServerTimestamps::PerCoordinator => {
                // The nodes of a process take turns, so nobody is in between.
                let next_us = (self.wall_us(now_us) / 1000 * 1000).max(self.last_us.load(Ordering::Relaxed) + 1);
                self.last_us.store(next_us, Ordering::Relaxed);
                next_us
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_and_drift_show_in_the_wall_clock() {
        let mut c = Clock::new(
            1_000_000_000,
            ClockSpec {
                skew_us: -500,
                drift_ppm: 100,
            },
        );
        assert_eq!(c.wall_us(0), 999_999_500);
        assert_eq!(c.wall_us(10_000_000), 1_010_000_500);
        c.set(
            10_000_000,
            ClockSpec {
                skew_us: 7,
                drift_ppm: 0,
            },
        );
        assert_eq!(c.wall_us(10_000_000), 1_010_000_007);
    }

    #[test]
    fn scylla_counts_per_connection_and_cassandra_per_coordinator() {
        let mut c = Clock::new(0, ClockSpec::default());
        let (mut a, mut b) = (0, 0);
        let t = |c: &mut Clock, rule, conn: &mut i64| c.timestamp(5_300, rule, conn);
        assert_eq!(t(&mut c, ServerTimestamps::PerConnection, &mut a), 5_300);
        assert_eq!(t(&mut c, ServerTimestamps::PerConnection, &mut a), 5_301);
        assert_eq!(
            t(&mut c, ServerTimestamps::PerConnection, &mut b),
            5_300,
            "two connections may collide"
        );
        assert_eq!(
            t(&mut c, ServerTimestamps::PerCoordinator, &mut a),
            5_000,
            "millisecond granularity"
        );
        assert_eq!(
            t(&mut c, ServerTimestamps::PerCoordinator, &mut b),
            5_001,
            "never twice on one coordinator"
        );
        let mut other = Clock::new(0, ClockSpec::default());
        assert_eq!(t(&mut other, ServerTimestamps::PerCoordinator, &mut b), 5_000);
        other.share(c.last_us.clone());
        assert_eq!(t(&mut other, ServerTimestamps::PerCoordinator, &mut b), 5_002);
        assert_eq!(t(&mut c, ServerTimestamps::PerCoordinator, &mut b), 5_003);
    }
}
