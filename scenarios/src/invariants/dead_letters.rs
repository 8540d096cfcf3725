//! Invariant 9. Every event that had to be refused is a dead letter with its reason, and nothing else is. What had to
//! be refused is known from the fault that published it, not from settlement. The stream goes on behind a refused event
//! only if an operator's decision to skip it is recorded, and nothing else is ever skipped.
use super::Finding;
use crate::evidence::Evidence;
use settlement_events::Digest;
use std::collections::{BTreeMap, BTreeSet};

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
        let seq = row.output_sequence;
        if row.detail.is_empty() || row.event.is_empty() {
            findings.push(Finding::text(format!(
                "dead letter {seq} lacks the event's bytes or the detail of its reason"
            )));
        } else if evidence.digests.get(&(seq as u64)) != Some(&Digest::of(&row.event)) {
            findings.push(Finding::text(format!(
                "dead letter {seq} holds other bytes than the event's"
            )));
        }
    }
    findings.extend(skips(evidence));
    findings
}

fn skips(evidence: &Evidence) -> Vec<Finding> {
    let skipped: BTreeSet<u64> = evidence
        .found
        .skips
        .iter()
        .map(|row| row.output_sequence as u64)
        .collect();
    let passed = evidence
        .refused
        .keys()
        .filter(|seq| **seq <= evidence.ending.acknowledged);
    let unrecorded = passed.filter(|seq| !skipped.contains(seq)).map(|seq| {
        Finding::text(format!(
            "event {seq} was refused and passed over, but no operator's decision to skip it is recorded"
        ))
    });
    let wrong = skipped
        .iter()
        .filter(|seq| !evidence.refused.contains_key(seq))
        .map(|seq| {
            Finding::text(format!(
                "event {seq} is recorded as skipped, but there is nothing wrong with it"
            ))
        });
    let early = evidence.refused.keys().filter_map(|seq| {
        let passed = evidence
            .acknowledged_ms
            .iter()
            .find(|(_, acknowledged)| acknowledged >= seq);
        let (passed_ms, decided_ms) = (passed?.0, evidence.decided_ms.get(seq).copied().unwrap_or(u64::MAX));
        (passed_ms < decided_ms).then(|| {
            Finding::text(format!(
                "event {seq} was refused and passed over at {passed_ms} ms, before an operator had decided to skip it"
            ))
        })
    });
    unrecorded.chain(wrong).chain(early).collect()
}
