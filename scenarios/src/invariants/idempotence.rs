//! Invariant 12. On a healed, quiet cluster, settling everything again from sequence 1 with the recorded generations
//! leaves every replica's logical cells and their timestamps as they were. Checkpoint, dead letters, skips and
//! migrations are left out. The runner does the settling and the comparing; it says so when it did not. Whether every
//! event was really sent again is seen on the wire, where somebody looks: changing nothing is easy for who does nothing.
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    if !evidence.promises.idempotent {
        return Vec::new();
    }
    let Some(resettled) = &evidence.resettled else {
        return Vec::new();
    };
    let failed = resettled.failed.iter();
    let failed = failed.map(|why| format!("settling everything again failed: {why}"));
    let differences = resettled.differences.iter();
    let changed = differences.map(|text| format!("settling everything again changed what replicas hold: {text}"));
    let skipped = not_sent_again(evidence).filter(|_| resettled.failed.is_none());
    failed.chain(changed).chain(skipped).map(Finding::text).collect()
}

/// What to say if there are events that were settled and not sent again.
fn not_sent_again(evidence: &Evidence) -> Option<String> {
    let sent = evidence.requests.as_ref()?.again?;
    let settled = evidence.facts.len() as u64;
    (sent < settled).then(|| format!("settling everything again sent {sent} of {settled} events"))
}
