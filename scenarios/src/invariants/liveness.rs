//! Invariant 10. After the last fault, with the network healed and nothing else repaired, every event settles within
//! the bound. What is not settled is a failure, not a reason.
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let ending = &evidence.ending;
    if let Some(reason) = &ending.stopped {
        return vec![Finding::text(format!("settlement stopped by itself: {reason}"))];
    }
    let mut findings = Vec::new();
    let behind = [("acknowledged", ending.acknowledged), ("durable", ending.durable)];
    for (what, at) in behind {
        if at < ending.head && (what == "acknowledged" || evidence.promises.durable) {
            findings.push(Finding::text(format!(
                "{what} is {at} of {} published events, {} ms after the last fault (the bound is {} ms)",
                ending.head, ending.waited_ms, ending.bound_ms
            )));
        }
    }
    findings
}
