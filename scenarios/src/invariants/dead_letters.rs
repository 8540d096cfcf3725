//! Invariant 9. Every event that had to be refused is a dead letter with its reason, and nothing else is. What had to
//! be refused is known from the fault that published it, not from settlement.
use super::Finding;
use crate::evidence::Evidence;
use std::collections::BTreeMap;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    if !evidence.promises.dead_letters {
        return Vec::new();
    }
    let mut found: BTreeMap<u64, &str> = evidence
        .found
        .dead_letters
        .iter()
        .map(|row| (row.output_sequence as u64, row.code.as_str()))
        .collect();
    let mut findings = Vec::new();
    for (seq, reason) in &evidence.refused {
        match found.remove(seq) {
            None => findings.push(Finding::text(format!(
                "event {seq} contradicts itself ({reason}), but is no dead letter"
            ))),
            Some(code) if code != reason => findings.push(Finding::text(format!(
                "event {seq} is a dead letter for `{code}`, the reason is `{reason}`"
            ))),
            Some(_) => {}
        }
    }
    findings.extend(found.iter().map(|(seq, code)| {
        Finding::text(format!(
            "event {seq} is a dead letter (`{code}`), but there is nothing wrong with it"
        ))
    }));
    for row in &evidence.found.dead_letters {
        if row.detail.is_empty() || row.event.is_empty() {
            let seq = row.output_sequence;
            findings.push(Finding::text(format!(
                "dead letter {seq} lacks the event's bytes or the detail of its reason"
            )));
        }
    }
    findings
}
