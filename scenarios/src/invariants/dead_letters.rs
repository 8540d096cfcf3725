//! Invariant 9. Every event that had to be refused is a dead letter with its reason, and nothing else is. What had to
//! be refused is known from the fault that published it, not from settlement. The stream goes on behind a refused event
//! only if an operator's decision to skip it is recorded as it was made, and nothing else is ever skipped.
use super::Finding;
use crate::evidence::Evidence;
use crate::rows::{BUCKET_SEQUENCES, DeadLetterRow, SkipRow};
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
    let letters = evidence.found.dead_letters.iter();
    findings.extend(
        letters
            .filter_map(|row| letter_differs(evidence, row))
            .map(Finding::text),
    );
    findings.extend(skips(evidence));
    findings
}

/// Whether the dead letters and skips that are there are right, however many are missing.
pub(super) fn present_are_right(evidence: &Evidence) -> bool {
    let refused = |seq: i64| evidence.refused.get(&(seq as u64));
    let is_letter = |row: &DeadLetterRow| {
        refused(row.output_sequence).is_some_and(|code| *code == row.code) && letter_differs(evidence, row).is_none()
    };
    let is_skip = |row: &SkipRow| refused(row.output_sequence).is_some() && skip_differs(evidence, row).is_none();
    !evidence.promises.dead_letters
        || evidence.found.dead_letters.iter().all(is_letter) && evidence.found.skips.iter().all(is_skip)
}

/// What is wrong with a dead letter besides its reason.
fn letter_differs(evidence: &Evidence, row: &DeadLetterRow) -> Option<String> {
    let seq = row.output_sequence;
    let digest = evidence.digests.get(&(seq as u64));
    if row.detail.is_empty() || row.event.is_empty() {
        return Some(format!(
            "dead letter {seq} lacks the event's bytes or the detail of its reason"
        ));
    }
    if digest != Some(&Digest::of(&row.event)) {
        return Some(format!("dead letter {seq} holds other bytes than the event's"));
    }
    if digest.map(|digest| &digest.0[..]) != Some(row.digest.as_slice()) {
        return Some(format!("dead letter {seq} has another digest than the event"));
    }
    wrong_bucket(row.bucket, seq).map(|bucket| format!("dead letter {seq} {bucket}"))
}

/// What is wrong with a skip of an event that is refused.
fn skip_differs(evidence: &Evidence, row: &SkipRow) -> Option<String> {
    let seq = row.output_sequence;
    let digest = evidence.digests.get(&(seq as u64)).map(|digest| &digest.0[..]);
    if digest != Some(row.digest.as_slice()) {
        return Some(format!("the skip of event {seq} names another digest than the event's"));
    }
    let decided = evidence.decisions.get(&(seq as u64));
    if let Some(decision) = decided.filter(|decision| decision.reason != row.reason) {
        return Some(format!(
            "the skip of event {seq} says {:?}, the operator said {:?}",
            row.reason, decision.reason
        ));
    }
    wrong_bucket(row.bucket, seq).map(|bucket| format!("the skip of event {seq} {bucket}"))
}

fn wrong_bucket(bucket: i64, seq: i64) -> Option<String> {
    (bucket as u64 != seq as u64 / BUCKET_SEQUENCES)
        .then(|| format!("is in bucket {bucket}, where nobody looks for it"))
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
    let rows = evidence.found.skips.iter();
    let rows = rows.filter(|row| evidence.refused.contains_key(&(row.output_sequence as u64)));
    let differing = rows.filter_map(|row| skip_differs(evidence, row)).map(Finding::text);
    let early = evidence.refused.keys().filter_map(|seq| {
        let passed = evidence
            .acknowledged_ms
            .iter()
            .find(|(_, acknowledged)| acknowledged >= seq);
        let decision = evidence.decisions.get(seq);
        let (passed_ms, decided_ms) = (passed?.0, decision.map_or(u64::MAX, |decision| decision.at_ms));
        (passed_ms < decided_ms).then(|| {
            Finding::text(format!(
                "event {seq} was refused and passed over at {passed_ms} ms, before an operator had decided to skip it"
            ))
        })
    });
    unrecorded.chain(wrong).chain(differing).chain(early).collect()
}
