//! Invariant 14. What has a stated bound stays within it: queues, batches in flight, WAL size, retry rates, the size of a
//! batch. The values come from settlement's own metrics as sampled by the runner, the bounds from its configuration; for
//! the batches from what the database answered.
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let seen = evidence.bounds.seen.iter();
    let beyond = seen
        .filter(|(_, value, bound)| value > bound)
        .map(|(name, value, bound)| Finding::text(format!("{name} reached {value}, its bound is {bound}")));
    beyond.chain(oversized(evidence)).collect()
}

/// Settlement asks the database how heavy a batch may be. Only some databases tell the client when one is heavier.
fn oversized(evidence: &Evidence) -> Option<Finding> {
    let warned = evidence.requests.as_ref().map_or(0, |requests| requests.oversized);
    (warned > 0).then(|| {
        Finding::text(format!(
            "the database warned of the size of {warned} batches, and it says beforehand what it takes without a warning"
        ))
    })
}
