//! Invariant 11. Each balance row that the reader saw during the run is whole and equals exactly one version that the
//! engine produced; and a QUORUM read that began after an acknowledgement has a row for every account that this gives one,
//! and shows at least that version. Once a replica may have lost what it had not synced, acknowledged writes may be away
//! until they are sent again; durable ones may not, so from then on a read shows at least what was durable before it began.
//! Verified for designs that keep the engine's versions. Not verified here: what nobody read.
use super::Finding;
use crate::evidence::{BalanceRead, Evidence, ReadRow};
use oracle::Account;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    if !evidence.promises.ledger {
        return Vec::new();
    }
    let lossless = evidence.replica_losses_ms.first().copied().unwrap_or(u64::MAX);
    let reads = evidence.reads.iter();
    reads
        .flat_map(|read| one(evidence, read, read.at_ms < lossless))
        .collect()
}

/// What a read has to show: everything up to an event that was acknowledged, or durable, before it began.
#[derive(Clone, Copy)]
struct Due {
    upto: u64,
    was: &'static str,
}

fn one(evidence: &Evidence, read: &BalanceRead, lossless: bool) -> Vec<Finding> {
    let (upto, was) = match lossless {
        true => (read.acknowledged_before, "acknowledged"),
        false => (read.durable_before, "durable"),
    };
    let due = Due { upto, was };
    let who = format!("read at {} ms: user {}", read.at_ms, read.user);
    let wrong = read.rows.iter().filter_map(|row| row_wrong(evidence, read, row, due));
    wrong
        .chain(missing(evidence, read, due))
        .map(|text| Finding::text(format!("{who} {text}")))
        .collect()
}

/// What is wrong with a row.
fn row_wrong(evidence: &Evidence, read: &BalanceRead, row: &ReadRow, due: Due) -> Option<String> {
    let Some(asset) = row.asset else {
        return Some("was answered with a row that names no asset".into());
    };
    let name = evidence.asset_name(asset);
    let (Some(version), Some(avail), Some(frozen)) = (row.version, row.avail, row.frozen) else {
        return Some(format!(
            "{name} is not a whole row: version {}, available {}, frozen {}",
            value(row.version),
            value(row.avail),
            value(row.frozen)
        ));
    };
    let Some(account) = evidence.books.accounts.get(&(read.user, asset)) else {
        return Some(format!("{name} has a balance row, but no such account exists"));
    };
    let Some(posting) = account.version(version as u64) else {
        return Some(format!("{name} shows version {version}, which the engine never made"));
    };
    let amount = |minor: i128| evidence.amount(asset, minor);
    if (posting.avail, posting.frozen) != (avail.into(), frozen.into()) {
        return Some(format!(
            "{name} shows {} / {} as version {version}, the engine made {} / {}",
            amount(avail.into()),
            amount(frozen.into()),
            amount(posting.avail),
            amount(posting.frozen)
        ));
    }
    let least = last_version(account, due.upto);
    ((version as u64) < least).then(|| {
        format!(
            "{name} shows version {version}, although version {least} was {} before the read",
            due.was
        )
    })
}

fn value(found: Option<i64>) -> String {
    found.map_or_else(|| "null".into(), |found| found.to_string())
}

/// The accounts of the user that the read does not show and had to.
fn missing(evidence: &Evidence, read: &BalanceRead, due: Due) -> impl Iterator<Item = String> {
    let accounts = evidence.books.accounts.range((read.user, 0)..=(read.user, u32::MAX));
    accounts.filter_map(move |((_, asset), account)| {
        let least = last_version(account, due.upto);
        let is_shown = read.rows.iter().any(|row| row.asset == Some(*asset));
        (least > 0 && !is_shown).then(|| {
            format!(
                "{} has no row, although version {least} was {} before the read",
                evidence.asset_name(*asset),
                due.was
            )
        })
    })
}

/// The account's last version among the events up to `seq`.
fn last_version(account: &Account, seq: u64) -> u64 {
    account.postings.partition_point(|posting| posting.seq <= seq) as u64
}
