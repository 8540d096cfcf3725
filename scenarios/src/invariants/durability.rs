//! Invariant 5. What a checkpoint calls durable is on the fsynced storage of a quorum: looked at when a checkpoint
//! arrives, when the WAL is truncated, and when a node loses data. The runner looks at those moments, because
//! afterwards the storage has changed; this file judges what it saw. Only in the simulator.
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    if !evidence.promises.durable {
        return Vec::new();
    }
    let breaches = evidence.durability.breaches.iter();
    breaches
        .map(|b| {
            Finding::text(format!(
                "at {} ms ({}): event {} is called durable (checkpoint {}), but is on the fsynced storage of {} node(s)",
                b.at_ms, b.when, b.output_sequence, b.durable, b.on_nodes
            ))
        })
        .collect()
}
