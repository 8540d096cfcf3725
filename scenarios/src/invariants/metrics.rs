//! Invariant 13, as far as there is something to compare with: what settlement says of itself is so. The watermarks never
//! overtake each other or go back, at the end they are where the stream is, and the counters of batches, refusals and
//! skips fit the facts. The runner compares while it looks on; what it takes the whole stream to know is compared here.
//! Reconciliation comes with its own issue.
use super::Finding;
use crate::evidence::Evidence;
use std::collections::BTreeSet;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    if !evidence.promises.durable {
        return Vec::new();
    }
    let mut findings: Vec<Finding> = evidence.untrue_metrics.iter().map(Finding::text).collect();
    findings.extend(reused_ids(evidence));
    findings
}

/// Rule 4: a trade id that is used twice is told. An event may be looked at more than once, so the count may be higher.
fn reused_ids(evidence: &Evidence) -> Option<Finding> {
    let mut ids = BTreeSet::new();
    let trades = evidence.books.trades.values();
    let reused = trades.filter(|record| !ids.insert(record.trade.trade_id)).count() as u64;
    let told = evidence.trade_ids_reused?;
    (told < reused || (reused == 0 && told > 0)).then(|| {
        Finding::text(format!(
            "{told} trades were told of whose id was used before, and there are {reused}"
        ))
    })
}
