//! Invariant 2. Every account's balance equals what the facts give; where the design keeps a ledger, every posting of
//! every account is there, equal in every column, and the balance row is the last of them. Verified on what a client
//! reads at the end, and on every replica before the heal that a posting present is a right one. Not verified here:
//! that money is conserved (1), which follows only if every account is looked at.
use super::Finding;
use crate::evidence::{Evidence, distinct};
use crate::protocol::{TAccount, TLine};
use crate::rows::{LedgerRow, Tables};
use oracle::{AccountKey, Cause, Posting};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = bad_rows(evidence);
    findings.extend(balances(evidence));
    if evidence.promises.ledger {
        findings.extend(ledger(evidence));
        for (node, tables) in distinct(&evidence.replicas_before_heal) {
            findings.extend(replica(evidence, node, tables));
        }
    }
    findings
}

/// Rows that lack a value which every write binds.
fn bad_rows(evidence: &Evidence) -> Vec<Finding> {
    evidence
        .found
        .bad
        .iter()
        .map(|bad| Finding::text(format!("{}: {}", bad.table, bad.text)))
        .collect()
}

fn balances(evidence: &Evidence) -> Vec<Finding> {
    let mut found = BTreeMap::new();
    for row in &evidence.found.balances {
        found.insert((row.user_id as u64, row.asset_id as u32), row);
    }
    let keys: BTreeSet<AccountKey> = found.keys().chain(evidence.books.accounts.keys()).copied().collect();
    let mut findings = Vec::new();
    for key in keys {
        let expected = evidence
            .books
            .accounts
            .get(&key)
            .and_then(|account| account.postings.last());
        let row = found.get(&key);
        let same_money = match (expected, row) {
            (Some(p), Some(row)) => p.avail == i128::from(row.avail) && p.frozen == i128::from(row.frozen),
            _ => false,
        };
        let same_version =
            !evidence.promises.ledger || expected.map(|p| p.version) == row.map(|row| row.version as u64);
        let same_digest = !evidence.promises.ledger
            || expected
                .and_then(|p| evidence.digests.get(&p.seq))
                .map(|d| d.short().to_vec())
                == row.and_then(|row| row.digest.as_ref()).map(|d| d.to_vec());
        if !same_money {
            findings.push(wrong_balance(
                evidence,
                key,
                expected,
                row.map(|row| (row.avail, row.frozen)),
            ));
        } else if !same_version {
            findings.push(Finding::text(format!(
                "user {} {}: the balance row has version {}, the account's last change is version {}",
                key.0,
                evidence.asset_name(key.1),
                row.map_or(0, |row| row.version),
                expected.map_or(0, |p| p.version)
            )));
        } else if !same_digest {
            findings.push(Finding::text(format!(
                "user {} {}: the balance row's digest is not that of the account's last change",
                key.0,
                evidence.asset_name(key.1)
            )));
        }
    }
    findings
}

fn wrong_balance(
    evidence: &Evidence,
    key: AccountKey,
    expected: Option<&Posting>,
    found: Option<(i64, i64)>,
) -> Finding {
    let (user, asset) = key;
    let name = evidence.asset_name(asset);
    let (want_avail, want_frozen) = expected.map_or((0, 0), |p| (p.avail, p.frozen));
    let text = match found {
        None => format!(
            "user {user} has no {name} balance row; {} is theirs",
            evidence.amount(asset, want_avail + want_frozen)
        ),
        Some((avail, frozen)) => {
            let total = i128::from(avail) + i128::from(frozen) - want_avail - want_frozen;
            let amount = evidence.amount(asset, total.abs());
            match total {
                0 => format!("user {user}: {name} is split wrongly between available and frozen"),
                t if t < 0 => format!("user {user} lost {amount} {name}"),
                _ => format!("user {user} was given {amount} {name} that is not theirs"),
            }
        }
    };
    Finding {
        text,
        accounts: vec![t_account(evidence, key, found)],
    }
}

/// The account's last postings as they should be, against the ledger as found, and the balance.
fn t_account(evidence: &Evidence, key: AccountKey, found: Option<(i64, i64)>) -> TAccount {
    let (user, asset) = key;
    let rows: BTreeMap<i64, &LedgerRow> = evidence
        .found
        .ledger
        .iter()
        .filter(|row| (row.user_id as u64, row.asset_id as u32) == key)
        .map(|row| (row.seq, row))
        .collect();
    let postings = evidence
        .books
        .accounts
        .get(&key)
        .map_or(&[][..], |account| &account.postings);
    let shown = postings.len().saturating_sub(8);
    let mut lines = Vec::new();
    for posting in &postings[shown..] {
        let show = |avail: i128, frozen: i128| {
            format!("{} / {}", evidence.amount(asset, avail), evidence.amount(asset, frozen))
        };
        let row = rows.get(&(posting.version as i64));
        lines.push(TLine {
            what: format!("{} (event {})", cause(posting.cause), posting.seq),
            expected: show(posting.delta_avail, posting.delta_frozen),
            found: match row {
                Some(row) => show(row.delta_avail.into(), row.delta_frozen.into()),
                None if evidence.promises.ledger => String::new(),
                None => "(no ledger kept)".into(),
            },
        });
    }
    let (avail, frozen) = postings.last().map_or((0, 0), |p| (p.avail, p.frozen));
    for (what, expected, found) in [
        ("available", avail, found.map(|f| f.0)),
        ("frozen", frozen, found.map(|f| f.1)),
    ] {
        lines.push(TLine {
            what: what.into(),
            expected: evidence.amount(asset, expected),
            found: found.map_or_else(String::new, |f| evidence.amount(asset, f.into())),
        });
    }
    TAccount {
        owner: format!("user {user}"),
        asset: evidence.asset_name(asset),
        lines,
    }
}

fn cause(cause: Cause) -> String {
    match cause {
        Cause::Deposit => "deposit".into(),
        Cause::Withdrawal => "withdrawal".into(),
        Cause::Placed(order) => format!("order {order} placed"),
        Cause::Cancelled(order) => format!("order {order} cancelled"),
        Cause::Trade(trade) => format!("trade {trade}"),
    }
}

fn ledger(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found: Vec<(AccountKey, u64, &LedgerRow)> = evidence
        .found
        .ledger
        .iter()
        .map(|row| ((row.user_id as u64, row.asset_id as u32), row.seq as u64, row))
        .collect();
    found.sort_by_key(|(key, version, _)| (*key, *version));
    found.dedup_by(|later, earlier| {
        let twice = (later.0, later.1) == (earlier.0, earlier.1);
        if twice {
            let (user, version) = (later.0.0, later.2.seq);
            findings.push(Finding::text(format!(
                "user {user}: ledger version {version} was read twice"
            )));
            *earlier = *later;
        }
        twice
    });
    // Both sides ascend, so that they are walked side by side.
    let (mut rest, mut of_nobody) = (found.as_slice(), Vec::new());
    for (key, account) in &evidence.books.accounts {
        let (before, others) = rest.split_at(rest.partition_point(|(other, ..)| other < key));
        of_nobody.extend(before);
        let (rows, others) = others.split_at(others.partition_point(|(other, ..)| other == key));
        rest = others;
        for posting in &account.postings {
            match rows.binary_search_by_key(&posting.version, |(_, version, _)| *version) {
                Err(_) => findings.push(Finding::text(format!(
                    "user {} {}: ledger version {} ({}, event {}) is missing",
                    key.0,
                    evidence.asset_name(key.1),
                    posting.version,
                    cause(posting.cause),
                    posting.seq
                ))),
                Ok(at) => findings.extend(posting_differs(evidence, *key, posting, rows[at].2)),
            }
        }
        for (_, version, _) in rows
            .iter()
            .filter(|(_, version, _)| account.version(*version).is_none())
        {
            findings.push(extra(evidence, *key, *version));
        }
    }
    of_nobody.extend(rest);
    findings.extend(
        of_nobody
            .into_iter()
            .map(|(key, version, _)| extra(evidence, key, version)),
    );
    findings
}

fn extra(evidence: &Evidence, key: AccountKey, version: u64) -> Finding {
    let name = evidence.asset_name(key.1);
    Finding::text(format!(
        "user {} {name}: ledger version {version} is no change that the engine made",
        key.0
    ))
}

/// A posting found that is not the one that the facts give; at any moment, on any replica, that is wrong.
fn posting_differs(evidence: &Evidence, key: AccountKey, posting: &Posting, row: &LedgerRow) -> Option<Finding> {
    let money = |row: &LedgerRow| [row.delta_avail, row.delta_frozen, row.avail, row.frozen].map(i128::from);
    let expected = [posting.delta_avail, posting.delta_frozen, posting.avail, posting.frozen];
    let (kind, reference) = cause_columns(evidence, key, posting);
    let digest = evidence.digests.get(&posting.seq).map(|d| d.short());
    let fault = if money(row) != expected {
        format!(
            "it says {:?}, the facts say {expected:?} (deltas, then balances, minor units)",
            money(row)
        )
    } else if row.output_sequence as u64 != posting.seq {
        format!(
            "it names event {}, the change is event {}",
            row.output_sequence, posting.seq
        )
    } else if Some(row.digest.as_slice()) != digest.as_ref().map(|d| &d[..]) {
        format!("its digest {:02x?} is not event {}'s", row.digest, posting.seq)
    } else if row.cause != kind || row.reference as u64 != reference {
        format!(
            "it names {} {}, the change is {kind} {reference}",
            row.cause, row.reference
        )
    } else {
        return None;
    };
    let (user, name) = (key.0, evidence.asset_name(key.1));
    Some(Finding::text(format!(
        "user {user} {name}: ledger version {} is wrong: {fault}",
        posting.version
    )))
}

/// The `cause` and `reference` columns: the event's kind (`fee` for what a trade credits to a fee account), and the id of
/// what it is about.
fn cause_columns(evidence: &Evidence, key: AccountKey, posting: &Posting) -> (&'static str, u64) {
    let kind = match posting.cause {
        Cause::Trade(_) if is_fee(evidence, posting.seq, key, posting.version) => "fee",
        _ => evidence.kinds.get(&posting.seq).copied().unwrap_or(""),
    };
    let reference = match posting.cause {
        Cause::Deposit | Cause::Withdrawal => evidence.event_ids.get(&posting.seq).copied().unwrap_or(0),
        Cause::Placed(id) | Cause::Cancelled(id) | Cause::Trade(id) => id,
    };
    (kind, reference)
}

/// Whether this version of the account is one of the fee credits of the trade of this event; they come behind the four of
/// the two sides.
fn is_fee(evidence: &Evidence, sequence: u64, key: AccountKey, version: u64) -> bool {
    let record = evidence.books.trades.get(&sequence);
    record.is_some_and(|record| record.versions.iter().skip(4).any(|fee| *fee == (key, version)))
}

fn replica(evidence: &Evidence, node: usize, tables: &Tables) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in &tables.ledger {
        let key = (row.user_id as u64, row.asset_id as u32);
        let posting = evidence
            .books
            .accounts
            .get(&key)
            .and_then(|account| account.version(row.seq as u64));
        let finding = match posting {
            None => Some(extra(evidence, key, row.seq as u64)),
            Some(posting) => posting_differs(evidence, key, posting, row),
        };
        findings.extend(finding.map(|f| Finding::text(format!("on node {node} before the heal: {}", f.text))));
    }
    findings
}
