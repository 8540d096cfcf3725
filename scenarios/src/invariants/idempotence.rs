//! Invariant 12. On a healed, quiet cluster, settling everything again from sequence 1 with the recorded generations
//! leaves every replica's logical cells and their timestamps as they were. Checkpoint, dead letters, skips and
//! migrations are left out. The runner does the settling and the comparing; it says so when it did not.
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
    failed.chain(changed).map(Finding::text).collect()
}
