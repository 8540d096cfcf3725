//! Invariant 16. What leaves settlement for the database is what the design says: every event whole in one LOGGED batch, at
//! a quorum, and the same bytes each time it is sent; so there are as many different contents as events. Verified on the
//! wire. Final books cannot tell: a retry that is long enough repairs what a weaker write has left behind, and a reader sees
//! half an event until then. And whatever request wrote it, every row lies on the replicas under the timestamp that its
//! version and the configured generation make, or a later right one could not replace it. Not verified here: what is in a
//! batch (1, 2, 3, 6, 7).
use super::Finding;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let untimely = evidence.untimely.iter().map(Finding::text);
    on_the_wire(evidence).into_iter().chain(untimely).collect()
}

fn on_the_wire(evidence: &Evidence) -> Vec<Finding> {
    let Some(requests) = evidence.requests.as_ref().filter(|_| evidence.promises.idempotent) else {
        return Vec::new();
    };
    let (batches, contents) = (requests.batches, requests.contents);
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
    if requests.unread_frames > 0 {
        findings.push(format!(
            "{} frames between settlement and the database could not be read, in which there may be more",
            requests.unread_frames
        ));
    }
    let events = Events::of(evidence);
    if contents > events.published {
        findings.push(format!(
            "{batches} batches had {contents} different contents of {} events: each is to be whole in one batch, with \
             the same bytes when it is sent again",
            events.published
        ));
    }
    if contents < events.settled {
        findings.push(format!(
            "{batches} batches had {contents} different contents, and {} events are settled: each is to be in a batch of \
             its own or with others",
            events.settled
        ));
    }
    findings.into_iter().map(Finding::text).collect()
}

/// How many events the batches must be of. Refused ones are in none.
struct Events {
    /// Those that may have been sent.
    published: u64,
    /// Those that must have been.
    settled: u64,
}

impl Events {
    fn of(evidence: &Evidence) -> Events {
        let (facts, ending) = (&evidence.facts, &evidence.ending);
        let settled = facts.iter().filter(|(seq, _)| *seq <= ending.acknowledged);
        Events {
            published: facts.len() as u64,
            settled: settled.count() as u64,
        }
    }
}
