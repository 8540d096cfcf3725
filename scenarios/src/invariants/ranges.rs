//! Invariant 4. No balance is negative, anywhere anyone looks: what a client reads, every replica before and after the
//! heal, every read during the run. Not verified here: that the numbers are the right ones (2, 11).
use super::Finding;
use crate::evidence::{BalanceRead, Evidence, ReadRow, distinct};
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
    for read in &evidence.reads {
        findings.extend(read.rows.iter().flat_map(|row| negative_in_read(evidence, read, row)));
    }
    findings
}

fn negative_in_read(evidence: &Evidence, read: &BalanceRead, row: &ReadRow) -> impl Iterator<Item = Finding> {
    let (at, user) = (read.at_ms, read.user);
    let name = row
        .asset
        .map_or_else(|| "without an asset".into(), |asset| evidence.asset_name(asset));
    let values = [("available", row.avail), ("frozen", row.frozen)];
    let below_zero = values
        .into_iter()
        .filter_map(|(what, value)| Some((what, value.filter(|value| *value < 0)?)));
    below_zero.map(move |(what, value)| {
        Finding::text(format!(
            "read at {at} ms: user {user} {name} has {value} {what} (minor units)"
        ))
    })
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
