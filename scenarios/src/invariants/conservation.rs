//! Invariant 1. Per asset, the sum over all users of available and frozen, fee accounts included, equals deposits minus
//! withdrawals. Verified on what a client reads at the end. Not verified here: that the right users hold it (2).
use super::Finding;
use crate::evidence::Evidence;
use std::collections::BTreeMap;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut held: BTreeMap<u32, i128> = evidence.books.external.keys().map(|asset| (*asset, 0)).collect();
    for row in &evidence.found.balances {
        *held.entry(row.asset_id as u32).or_default() += i128::from(row.avail) + i128::from(row.frozen);
    }
    let wrong = held.into_iter().filter_map(|(asset, held)| {
        let external = evidence.books.external.get(&asset).copied().unwrap_or(0);
        (held != external).then(|| {
            let (name, difference) = (evidence.asset_name(asset), evidence.amount(asset, held - external));
            let (held, external) = (evidence.amount(asset, held), evidence.amount(asset, external));
            Finding::text(format!(
                "{name}: users hold {held}, but deposits minus withdrawals are {external}; the difference is {difference}"
            ))
        })
    });
    wrong.collect()
}
