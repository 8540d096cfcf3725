//! The pause between two attempts, and what is noted of a failed one. Attempts are bounded in rate and, by the number of
//! batches in flight, in concurrency; never in number: a transient failure is never a reason to give an event up
//! (rule 7).

use std::time::Duration;

use settlement_events::OutputSequence;

use crate::config::Retry;
use crate::metrics::{Metrics, set};
use crate::outcome::{NotApplied, Outcome};

/// How many parts of the pause spread the retries of events that failed together.
const SPREAD_PARTS: u64 = 16;

/// The pause after the n-th failed attempt (from 1). It doubles up to the bound; up to a quarter more spreads the
/// events that failed together, by their sequence, because there is no chance here.
#[must_use]
pub fn pause(retry: &Retry, attempt: u32, sequence: OutputSequence) -> Duration {
    let factor = 1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
    let base_us = retry
        .pause_min_ms
        .saturating_mul(factor)
        .min(retry.pause_max_ms)
        .saturating_mul(1_000);
    let part = sequence.0 % SPREAD_PARTS;
    Duration::from_micros(base_us + base_us / 4 * part / SPREAD_PARTS)
}

/// Counts what an attempt that was not acknowledged means.
pub fn count(metrics: &Metrics, outcome: &Outcome) {
    match outcome {
        Outcome::Applied => {}
        Outcome::NotApplied { why, .. } => {
            metrics.not_applied.inc();
            if *why == NotApplied::Rejected {
                metrics.rejected.inc();
            }
        }
        Outcome::Indeterminate { .. } => {
            metrics.indeterminate.inc();
        }
    }
}

/// Puts an event on the list of stalled ones once it failed as often as the configuration says.
pub fn failed(metrics: &Metrics, retry: &Retry, sequence: OutputSequence, attempt: u32, outcome: &Outcome) {
    if attempt < retry.stalled_after {
        return;
    }
    let (is_new, stalled) = metrics.stalled_events.put(sequence, outcome.to_string());
    set(&metrics.stalled, stalled as u64);
    if is_new {
        tracing::error!(target: "settlement", seq = sequence.0, attempt, outcome = %outcome, "stalled");
    }
}

/// Takes a settled event off that list, however few attempts its last batch took: it may have failed in one that it shared.
pub fn settled(metrics: &Metrics, sequence: OutputSequence) {
    if metrics.stalled.get() > 0 {
        set(&metrics.stalled, metrics.stalled_events.take(sequence) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_bound_and_is_spread_by_sequence() {
        let retry = Retry::default();
        let of = |attempt, sequence| pause(&retry, attempt, OutputSequence(sequence));
        assert_eq!(of(1, 16), Duration::from_millis(20));
        assert_eq!(of(3, 16), Duration::from_millis(80));
        for attempt in [8, 40, 64, 65, u32::MAX] {
            assert_eq!(of(attempt, 16), Duration::from_millis(2_000), "{attempt}");
        }
        assert!(of(8, 31) > of(8, 17) && of(8, 31) < Duration::from_millis(2_500));
    }

    #[test]
    fn an_event_is_stalled_after_the_stated_number_of_attempts_and_until_it_is_settled() {
        let (metrics, retry) = (
            Metrics::new(),
            Retry {
                stalled_after: 3,
                ..Retry::default()
            },
        );
        for attempt in 1..=4 {
            failed(&metrics, &retry, OutputSequence(7), attempt, &Outcome::Applied);
            assert_eq!(
                metrics.snapshot().stalled,
                u64::from(attempt >= 3),
                "after attempt {attempt}"
            );
        }
        assert_eq!(metrics.stalled_events.list().len(), 1);
        settled(&metrics, OutputSequence(7));
        assert_eq!(
            (metrics.snapshot().stalled, metrics.stalled_events.list().len()),
            (0, 0)
        );
    }
}
