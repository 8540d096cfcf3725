//! Invariant 7, as far as there are such tables: the trades by user and the ledger of deposits and withdrawals agree
//! with the facts, row by row. The materialized view comes with its own issue.
use super::Finding;
use crate::evidence::Evidence;
use oracle::Fact;
use std::collections::BTreeSet;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = ledger_events(evidence);
    if evidence.promises.identity {
        findings.extend(trades_by_user(evidence));
    }
    findings
}

/// Names what is on one side only.
fn compare<T: Ord + std::fmt::Debug>(table: &str, expected: &BTreeSet<T>, found: &BTreeSet<T>) -> Vec<Finding> {
    let missing = expected
        .difference(found)
        .map(|row| Finding::text(format!("{table}: {row:?} is missing")));
    let extra = found
        .difference(expected)
        .map(|row| Finding::text(format!("{table}: {row:?} should not be there")));
    missing.chain(extra).collect()
}

fn ledger_events(evidence: &Evidence) -> Vec<Finding> {
    let expected: BTreeSet<_> = evidence
        .facts
        .iter()
        .filter_map(|(seq, fact)| {
            let (kind, user, asset, amount) = match fact {
                Fact::Deposit { user, asset, amount } => ("deposit", user, asset, amount),
                Fact::Withdrawal { user, asset, amount } => ("withdrawal", user, asset, amount),
                _ => return None,
            };
            let id = evidence.event_ids.get(seq).copied().unwrap_or(0);
            Some((*user, id, *seq, kind, *asset, *amount))
        })
        .collect();
    let found = evidence.found.ledger_events.iter().map(|row| {
        let (user, id, seq) = (row.user_id as u64, row.event_id as u64, row.output_sequence as u64);
        (user, id, seq, row.kind.as_str(), row.asset_id as u32, row.amount as u64)
    });
    compare(
        "ledger_events (user, event, sequence, kind, asset, amount)",
        &expected,
        &found.collect(),
    )
}

fn trades_by_user(evidence: &Evidence) -> Vec<Finding> {
    let mut expected = BTreeSet::new();
    for record in evidence.books.trades.values() {
        let trade = &record.trade;
        let sides = [
            ("BUY", record.buyer, trade.buy_order, record.buyer_refund),
            ("SELL", record.seller, trade.sell_order, record.seller_refund),
        ];
        for (side, user, order, refund) in sides {
            let numbers = [
                trade.trade_id,
                order,
                trade.price,
                trade.quantity,
                record.quote_amount,
                refund,
            ];
            expected.insert((user, record.seq, side, record.symbol, numbers));
        }
    }
    let found = evidence.found.trades_by_user.iter().map(|row| {
        let numbers = [
            row.trade_id,
            row.order_id,
            row.price,
            row.quantity,
            row.quote_amount,
            row.refund,
        ]
        .map(|n| n as u64);
        (
            row.user_id as u64,
            row.output_sequence as u64,
            row.side.as_str(),
            row.symbol as u32,
            numbers,
        )
    });
    let table = "trades_by_user (user, sequence, side, symbol, [trade, order, price, quantity, quote, refund])";
    compare(table, &expected, &found.collect())
}
