//! Invariant 4. No balance is negative, anywhere anyone looks: what a client reads, every replica before and after the
//! heal, every read during the run. Not verified here: that the numbers are the right ones (2, 11).
use super::Finding;
use crate::evidence::{Evidence, distinct};
use crate::rows::Tables;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = negatives(&evidence.found, "");
    for (place, replicas) in [
        ("before", &evidence.replicas_before_heal),
        ("after", &evidence.replicas_after_heal),
    ] {
        for (node, tables) in distinct(replicas) {
            findings.extend(negatives(tables, &format!("on node {node} {place} the heal: ")));
        }
    }
    for read in evidence.reads.iter().filter(|read| read.avail < 0 || read.frozen < 0) {
        let (user, asset, at) = (read.user, evidence.asset_name(read.asset), read.at_ms);
        findings.push(Finding::text(format!(
            "read at {at} ms: user {user} {asset} has {} available and {} frozen (minor units)",
            read.avail, read.frozen
        )));
    }
    findings
}

fn negatives(tables: &Tables, place: &str) -> Vec<Finding> {
    let balances = tables
        .balances
        .iter()
        .map(|row| ("balance", row.user_id, row.asset_id, row.avail, row.frozen));
    let ledger = tables
        .ledger
        .iter()
        .map(|row| ("ledger", row.user_id, row.asset_id, row.avail, row.frozen));
    balances
        .chain(ledger)
        .filter(|(_, _, _, avail, frozen)| *avail < 0 || *frozen < 0)
        .map(|(what, user, asset, avail, frozen)| {
            Finding::text(format!(
                "{place}user {user} asset {asset}: the {what} row has {avail} available and {frozen} frozen (minor units)"
            ))
        })
        .collect()
}
