//! Invariant 10. After the last fault, with the network healed and nothing else repaired, every event settles within
//! the bound. What is not settled is a failure, not a reason. And settlement does not stop by itself where nothing that
//! struck is a reason to: whoever starts it again is a person who was called.
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let ending = &evidence.ending;
    if let Some(reason) = &ending.stopped {
        return vec![Finding::text(format!("settlement stopped by itself: {reason}"))];
    }
    let stops = ending.stops.iter();
    let without_reason = |why| {
        Finding::text(format!(
            "settlement stopped by itself, without a reason in what struck: {why}"
        ))
    };
    let mut findings: Vec<Finding> = stops.map(without_reason).collect();
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
