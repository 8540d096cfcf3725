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
    let mut findings = checkpoints(evidence);
    findings.extend(breaches.map(|b| {
        Finding::text(format!(
            "at {} ms ({}): event {} is called durable (checkpoint {}), but is on the fsynced storage of {} node(s)",
            b.at_ms, b.when, b.output_sequence, b.durable, b.on_nodes
        ))
    }));
    findings
}

/// The checkpoint's row names an event of the stream by its own digest: a start from it compares the two.
fn checkpoints(evidence: &Evidence) -> Vec<Finding> {
    let wrong = evidence.found.checkpoint.iter().filter(|row| {
        let digest = evidence.digests.get(&(row.durable as u64));
        row.epoch as u32 != evidence.epoch || digest.map(|digest| &digest.0[..]) != Some(row.digest.as_slice())
    });
    wrong
        .map(|row| {
            Finding::text(format!(
                "the checkpoint row (epoch {}, durable {}, digest {:02x?}) is not that event of the stream",
                row.epoch, row.durable, row.digest
            ))
        })
        .collect()
}
