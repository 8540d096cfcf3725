//! Whether whatever is wrong is only that something is not there yet. What is not settled when waiting ends is missing from
//! every table, and that is one failure of liveness; but what *is* there must be right all the same: money that nobody made,
//! a trade that stands twice, are failures of safety however much else is missing.
use super::{dead_letters, denormalised, exactly_once, orders};
use crate::evidence::Evidence;
use std::collections::BTreeSet;

/// Whether everything that a client finds is right as far as it goes: trades are the engine's, once and unchanged; events carry
/// their digests; every balance, every posting and every order is one that was; the tables beside them and the dead letters
/// hold nothing that they should not.
pub fn is_all(evidence: &Evidence) -> bool {
    evidence.found.bad.is_empty()
        && trades_are_right(evidence)
        && events_are_right(evidence)
        && accounts_are_right(evidence)
        && evidence
            .found
            .orders
            .iter()
            .all(|row| orders::at_any_time(evidence, row).is_none())
        && denormalised::present_are_right(evidence)
        && dead_letters::present_are_right(evidence)
}

fn trades_are_right(evidence: &Evidence) -> bool {
    let mut seen = BTreeSet::new();
    let tables = evidence.found.trades.iter();
    tables
        .flat_map(|(symbol, rows)| rows.iter().map(move |row| (*symbol, row)))
        .all(|(symbol, row)| {
            let record = evidence.books.trades.get(&(row.output_sequence as u64));
            let is_right = record.is_some_and(|record| {
                record.trade.trade_id == row.trade_id as u64
                    && exactly_once::differs(evidence, record, symbol, row).is_none()
            });
            is_right && seen.insert(row.output_sequence)
        })
}

fn events_are_right(evidence: &Evidence) -> bool {
    evidence.found.settled.iter().all(|row| {
        let digest = evidence.digests.get(&(row.output_sequence as u64));
        digest.is_some_and(|digest| digest.0[..] == row.digest[..])
    })
}

fn accounts_are_right(evidence: &Evidence) -> bool {
    let account = |user: i64, asset: i32| evidence.books.accounts.get(&(user as u64, asset as u32));
    let balances = evidence.found.balances.iter().all(|row| {
        let money = (i128::from(row.avail), i128::from(row.frozen));
        account(row.user_id, row.asset_id).is_some_and(|account| {
            if evidence.promises.ledger {
                let posting = account.version(row.version as u64);
                return posting.is_some_and(|posting| (posting.avail, posting.frozen) == money);
            }
            // Its rows have no versions: any state that the account went through.
            money == (0, 0)
                || account
                    .postings
                    .iter()
                    .any(|posting| (posting.avail, posting.frozen) == money)
        })
    });
    let postings = evidence.found.ledger.iter().all(|row| {
        let posting = account(row.user_id, row.asset_id).and_then(|account| account.version(row.seq as u64));
        let money = (i128::from(row.avail), i128::from(row.frozen));
        posting.is_some_and(|posting| (posting.avail, posting.frozen) == money)
    });
    balances && postings
}
