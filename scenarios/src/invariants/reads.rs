//! Invariant 11. Each balance row that the reader saw during the run equals exactly one version that the engine
//! produced; and a QUORUM read that began after an acknowledgement shows at least that version. Once a replica may have lost
//! what it had not synced, acknowledged writes may be away until they are sent again; durable ones may not, so from then on
//! a read shows at least what was durable before it began. Verified for designs that keep the engine's versions. Not verified
//! here: what nobody read.
use super::Finding;
use crate::evidence::{BalanceRead, Evidence};
use oracle::Account;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    if !evidence.promises.ledger {
        return Vec::new();
    }
    let lossless = evidence.replica_losses_ms.first().copied().unwrap_or(u64::MAX);
    evidence
        .reads
        .iter()
        .filter_map(|read| one(evidence, read, read.at_ms < lossless))
        .collect()
}

fn one(evidence: &Evidence, read: &BalanceRead, lossless: bool) -> Option<Finding> {
    let name = evidence.asset_name(read.asset);
    let who = format!("read at {} ms: user {} {name}", read.at_ms, read.user);
    let Some(account) = evidence.books.accounts.get(&(read.user, read.asset)) else {
        return Some(Finding::text(format!(
            "{who} has a balance row, but no such account exists"
        )));
    };
    let Some(posting) = account.version(read.version as u64) else {
        return Some(Finding::text(format!(
            "{who} shows version {}, which the engine never made",
            read.version
        )));
    };
    if (posting.avail, posting.frozen) != (read.avail.into(), read.frozen.into()) {
        return Some(Finding::text(format!(
            "{who} shows {} / {} as version {}, the engine made {} / {}",
            evidence.amount(read.asset, read.avail.into()),
            evidence.amount(read.asset, read.frozen.into()),
            read.version,
            evidence.amount(read.asset, posting.avail),
            evidence.amount(read.asset, posting.frozen)
        )));
    }
    let (upto, what) = match lossless {
        true => (read.acknowledged_before, "acknowledged"),
        false => (read.durable_before, "durable"),
    };
    let least = last_version(account, upto);
    ((read.version as u64) < least).then(|| {
        Finding::text(format!(
            "{who} shows version {}, although version {least} was {what} before the read",
            read.version
        ))
    })
}

/// The account's last version among the events up to `seq`.
fn last_version(account: &Account, seq: u64) -> u64 {
    account.postings.partition_point(|posting| posting.seq <= seq) as u64
}
