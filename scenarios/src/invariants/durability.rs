//! Invariant 5. What a checkpoint calls durable is on the fsynced storage of a quorum: looked at when a checkpoint
//! arrives, when the WAL is truncated, and when a node loses data. The runner looks at those moments, because
//! afterwards the storage has changed; this file judges what it saw, and the claims that came before they could (rule 8).
//! Only in the simulator; everywhere, that in the end there is one checkpoint, of the last event, which is where the next
//! start goes on. The engine's own promise belongs
//! here, too: it publishes only what its log has fsynced, or it would fork its stream.
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    if !evidence.promises.durable {
        return Vec::new();
    }
    let breaches = evidence.durability.breaches.iter();
    let mut findings = checkpoints(evidence);
    findings.extend(evidence.durability.unlogged.iter().map(Finding::text));
    findings.extend(evidence.durability.early.iter().map(Finding::text));
    findings.extend(last_checkpoint(evidence));
    findings.extend(breaches.map(|b| {
        Finding::text(format!(
            "at {} ms ({}): event {} is called durable (checkpoint {}), but is on the fsynced storage of {} node(s)",
            b.at_ms, b.when, b.output_sequence, b.durable, b.on_nodes
        ))
    }));
    findings
}

/// A checkpoint names an event of the stream by its own digest, because a start from it compares the two: the row at the
/// end, and every row that a node would have served before.
fn checkpoints(evidence: &Evidence) -> Vec<Finding> {
    let is_of_stream = |durable: u64, digest: &[u8]| {
        let event = evidence.digests.get(&durable);
        event.map(|digest| &digest.0[..]) == Some(digest)
    };
    let at_the_end =
        evidence.found.checkpoint.iter().filter(|row| {
            row.epoch as u32 != evidence.epoch || !is_of_stream(row.durable as u64, row.digest.as_slice())
        });
    let mut findings: Vec<Finding> = at_the_end
        .map(|row| {
            Finding::text(format!(
                "the checkpoint row (epoch {}, durable {}, digest {:02x?}) is not that event of the stream",
                row.epoch, row.durable, row.digest
            ))
        })
        .collect();
    let seen = evidence.durability.checkpoints.iter();
    let seen = seen.flat_map(|(durable, digests)| digests.iter().map(move |digest| (*durable, digest)));
    let wrong = seen.filter(|(durable, digest)| *durable > 0 && !is_of_stream(*durable, digest));
    findings.extend(wrong.map(|(durable, digest)| {
        Finding::text(format!(
            "a checkpoint called event {durable} durable with digest {digest:02x?}, which is not that event's"
        ))
    }));
    findings
}

/// Once everything is durable the checkpoint says so. The runner has waited for it.
fn last_checkpoint(evidence: &Evidence) -> Option<Finding> {
    let ending = &evidence.ending;
    if ending.head == 0 || ending.durable < ending.head {
        return None;
    }
    let found: Vec<u64> = evidence.found.checkpoint.iter().map(|row| row.durable as u64).collect();
    (found != [ending.durable]).then(|| {
        Finding::text(format!(
            "settlement calls {} events durable, and the checkpoints in the database say {found:?}",
            ending.durable
        ))
    })
}
