//! Invariant 16. What leaves settlement for the database is what the design says: every event whole in one LOGGED batch, at
//! a quorum, and the same bytes each time it is sent. Verified on the wire. Final books cannot tell: a retry that is long enough
//! repairs what a weaker write has left behind, and a reader sees half an event until then. Not verified here: what is
//! in a batch (1, 2, 3, 6, 7), and other requests than batches.
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Some(requests) = evidence.requests.as_ref().filter(|_| evidence.promises.idempotent) else {
        return Vec::new();
    };
    let (batches, contents, events) = (requests.batches, requests.contents, evidence.ending.head);
    let mut findings = Vec::new();
    if requests.not_logged > 0 {
        findings.push(format!("{} of {batches} batches were not LOGGED", requests.not_logged));
    }
    if requests.below_quorum > 0 {
        findings.push(format!(
            "{} of {batches} batches were written below a quorum",
            requests.below_quorum
        ));
    }
    if contents > events {
        findings.push(format!(
            "{batches} batches had {contents} different contents of {events} events: each is to be whole in one batch, with \
             the same bytes when it is sent again"
        ));
    }
    findings.into_iter().map(Finding::text).collect()
}
