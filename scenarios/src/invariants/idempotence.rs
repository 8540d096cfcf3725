//! Invariant 12. On a healed, quiet cluster, settling everything again from sequence 1 with the recorded generations
//! leaves every replica's logical cells and their timestamps as they were. Checkpoint, dead letters, skips and
//! migrations are left out. The runner does the settling and the comparing; it says so when it did not.
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    if !evidence.promises.idempotent {
        return Vec::new();
    }
    let Some(differences) = &evidence.resettled else {
        return Vec::new();
    };
    differences
        .iter()
        .map(|text| Finding::text(format!("settling everything again changed {text}")))
        .collect()
}
