//! Invariant 13, as far as there is something to compare with: what settlement says of itself is so. The watermarks never
//! overtake each other or go back, at the end they are where the stream is, and the counters of batches, refusals and
//! skips fit the facts. The runner compares while it looks on; reconciliation comes with its own issue.
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    if !evidence.promises.durable {
        return Vec::new();
    }
    evidence.untrue_metrics.iter().map(Finding::text).collect()
}
