//! What settlement counts. One struct of counters and gauges that the program sets, a Prometheus registry that exports
//! them, and a snapshot of plain numbers for programs that look from outside. Nothing here decides anything.

use std::fmt;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use settlement_events::OutputSequence;

use crate::missing::Missing;
use crate::stalled::Stalled;

/// From the arrival of an event to the quorum's acknowledgement, in seconds. The source's target is 5 ms.
const SETTLEMENT_BUCKETS_S: [f64; 12] = [0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0, 60.0];

macro_rules! metrics {
    (
        counters { $($(#[doc = $cdoc:literal])+ $counter:ident,)+ }
        gauges { $($(#[doc = $gdoc:literal])+ $gauge:ident,)+ }
    ) => {
        /// Everything that is counted. Shared by reference; every field may be changed from anywhere.
        pub struct Metrics {
            $($(#[doc = $cdoc])+ pub $counter: Counter,)+
            $($(#[doc = $gdoc])+ pub $gauge: Gauge,)+
            /// Seconds from an event's arrival to its acknowledgement.
            pub settlement_seconds: Histogram,
            /// Which events are stalled, and why.
            pub stalled_events: Stalled,
            /// Which events are missing and not served.
            pub missing_events: Missing,
            registry: Registry,
        }

        /// The same as plain numbers, at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct MetricsSnapshot {
            $($(#[doc = $cdoc])+ pub $counter: u64,)+
            $($(#[doc = $gdoc])+ pub $gauge: u64,)+
        }

        impl Metrics {
            /// All zero.
            #[must_use]
            pub fn new() -> Self {
                let mut registry = Registry::with_prefix("settlement");
                $(
                    let $counter = Counter::default();
                    registry.register(stringify!($counter), concat!($($cdoc),+), $counter.clone());
                )+
                $(
                    let $gauge = Gauge::default();
                    registry.register(stringify!($gauge), concat!($($gdoc),+), $gauge.clone());
                )+
                let settlement_seconds = Histogram::new(SETTLEMENT_BUCKETS_S);
                let help = "From the arrival of an event to the acknowledgement of its batch";
                registry.register("latency_seconds", help, settlement_seconds.clone());
                Self { $($counter,)+ $($gauge,)+ settlement_seconds, stalled_events: Stalled::default(), missing_events: Missing::default(), registry }
            }

            /// All numbers as they are now.
            #[must_use]
            pub fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot {
                    $($counter: self.$counter.get(),)+
                    $($gauge: u64::try_from(self.$gauge.get()).unwrap_or(0),)+
                }
            }
        }
    };
}

metrics! {
    counters {
        /// Events that were fsynced in the WAL for the first time.
        events_received,
        /// Events whose batch was acknowledged, those sent again included.
        events_acknowledged,
        /// Batches that were acknowledged, of one event or several.
        batches_acknowledged,
        /// Batches that left, every attempt counted.
        batches_sent,
        /// Batches of several events that the database refused and whose events were sent one by one.
        groups_taken_apart,
        /// Requests of the design to the database: batches, single writes, reads. Not those of probes and checkpoints.
        requests,
        /// Attempts after the first one of a batch.
        retries,
        /// Attempts that certainly did nothing.
        not_applied,
        /// Attempts of which it is not known what they did.
        indeterminate,
        /// Attempts that the database refuses until a person does something.
        rejected,
        /// Events that came again with the same content.
        duplicates,
        /// Old duplicates that were compared with the database.
        duplicates_looked_up,
        /// Old duplicates that were dropped without a comparison: too many were being compared, or the row was not read.
        duplicates_unchecked,
        /// Old duplicates whose row was missing and which were settled again.
        duplicates_settled,
        /// Trades whose id an earlier trade had: both are settled, under sequences of their own. Any is to be looked into.
        trade_ids_reused,
        /// Forks of the stream. Any is an emergency.
        forks,
        /// Holes in the stream that were noticed.
        gaps,
        /// Ranges of events asked for again.
        replays_requested,
        /// Ranges that the matching engine did not serve.
        replays_refused,
        /// Events that were damaged on their way.
        damaged,
        /// Events refused because their content contradicts something.
        refused,
        /// Rows written to dead_letters.
        dead_letters,
        /// Refused events passed over because an operator said so.
        skipped,
        /// Events given up by a design that gives up.
        failed_trades,
        /// Times a window was sent again because a node became another process.
        windows_sent_again,
        /// Times every node was asked for its generation.
        probes,
        /// Times some node could not be asked.
        probes_stalled,
        /// Checkpoint rows written.
        checkpoints,
        /// WAL syncs, each one write and one fsync.
        wal_syncs,
        /// WAL syncs that failed and were done again.
        wal_sync_failures,
        /// WAL files given up after a failed fsync.
        wal_files_abandoned,
        /// Pages of events read back from the WAL.
        wal_pages_read,
        /// Times the intake waited because the WAL was full.
        wal_full,
    }
    gauges {
        /// The received watermark: everything up to it is fsynced in the WAL.
        received,
        /// The acknowledged watermark: a quorum answered for everything up to it.
        acknowledged,
        /// The durable watermark: everything up to it survives the loss of any one node.
        durable,
        /// The head of the stream, as the matching engine last said.
        head,
        /// Batches on their way.
        in_flight,
        /// The most there ever were.
        in_flight_peak,
        /// How many there may be now, as the database's answers have it.
        in_flight_limit,
        /// Events verified or to be verified that wait for a place in flight.
        ready,
        /// The most there ever were.
        ready_peak,
        /// Events that wait for their fsync.
        unsynced,
        /// The most there ever were.
        unsynced_peak,
        /// Old duplicates that are being compared with the database.
        lookups,
        /// The most there ever were.
        lookups_peak,
        /// Bytes of the WAL, on disk and in buffers.
        wal_bytes,
        /// The most there ever were.
        wal_bytes_peak,
        /// Files of the WAL.
        wal_segments,
        /// The low-water mark of the WAL: up to it events were dropped for being durable.
        wal_low_water,
        /// Events that failed at least `stalled_after` times and are still tried.
        stalled,
        /// Refused events that the watermarks wait for.
        refused_pending,
        /// Events known to be missing that the matching engine does not serve.
        missing,
        /// 1 while the durable watermark waits for a node that cannot be asked.
        durable_stalled,
        /// 1 while the WAL cannot be written (a full or failing disk): no event is taken.
        wal_blocked,
        /// 1 while the matching engine's feed is connected.
        feed_connected,
    }
}

impl Metrics {
    /// Attempts that failed in a way that speaks of the database's state, and not of the request.
    #[must_use]
    pub fn failed_attempts(&self) -> u64 {
        let failed = self.indeterminate.get() + self.not_applied.get();
        failed.saturating_sub(self.rejected.get())
    }

    /// In the Prometheus text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        match text::encode(&mut out, &self.registry) {
            Ok(()) => out,
            Err(fmt::Error) => String::from("# the metrics could not be written\n"),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.snapshot(), f)
    }
}

/// Sets a gauge to a count.
pub(crate) fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Sets a gauge, and the peak of it.
pub(crate) fn set_with_peak(gauge: &Gauge, peak: &Gauge, value: u64) {
    set(gauge, value);
    if peak.get() < i64::try_from(value).unwrap_or(i64::MAX) {
        set(peak, value);
    }
}

/// Sets a gauge to a sequence.
pub(crate) fn set_sequence(gauge: &Gauge, sequence: OutputSequence) {
    set(gauge, sequence.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_in_the_snapshot_and_in_the_export() {
        let metrics = Metrics::new();
        metrics.retries.inc_by(3);
        set_with_peak(&metrics.in_flight, &metrics.in_flight_peak, 9);
        set_with_peak(&metrics.in_flight, &metrics.in_flight_peak, 2);
        metrics.settlement_seconds.observe(0.004);
        let snapshot = metrics.snapshot();
        assert_eq!(
            (snapshot.retries, snapshot.in_flight, snapshot.in_flight_peak),
            (3, 2, 9)
        );
        let text = metrics.encode();
        assert!(text.contains("settlement_retries_total 3"), "{text}");
        assert!(
            text.contains("settlement_latency_seconds_bucket{le=\"0.005\"} 1"),
            "{text}"
        );
    }
}
