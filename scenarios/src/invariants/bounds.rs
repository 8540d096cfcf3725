//! Invariant 14. What has a stated bound stays within it: queues, batches in flight, WAL size, retry rates. The values
//! come from settlement's own metrics as sampled by the runner, the bounds from its configuration.
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let seen = evidence.bounds.seen.iter();
    seen.filter(|(_, value, bound)| value > bound)
        .map(|(name, value, bound)| Finding::text(format!("{name} reached {value}, its bound is {bound}")))
        .collect()
}
