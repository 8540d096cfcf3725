//! Invariant 7, as far as there are such tables: the trades by user and the ledger of deposits and withdrawals agree
//! with the facts, row by row. The materialized view comes with its own issue.
use super::Finding;
use crate::evidence::Evidence;
use crate::rows::Blob;
use oracle::Fact;
use std::collections::BTreeSet;

/// A day of an event's own time.
const DAY_MS: u64 = 86_400_000;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = ledger_events(evidence).compare(LEDGER_EVENTS);
    if evidence.promises.identity {
        findings.extend(trades_by_user(evidence).compare(TRADES_BY_USER));
    }
    findings
}

/// Whether the rows that are there are right, however many are missing.
pub(super) fn present_are_right(evidence: &Evidence) -> bool {
    ledger_events(evidence).is_subset() && (!evidence.promises.identity || trades_by_user(evidence).is_subset())
}

const LEDGER_EVENTS: &str = "ledger_events ((user, event, sequence), kind, asset, amount, time, (version, digest))";
const TRADES_BY_USER: &str =
    "trades_by_user ((user, day, sequence), side, symbol, [trade, order, price, quantity, quote, refund], digest)";

/// The rows of a table as they should be, and as they are.
struct Rows<T> {
    expected: BTreeSet<T>,
    found: BTreeSet<T>,
}

impl<T: Ord + std::fmt::Debug> Rows<T> {
    /// Names what is on one side only.
    fn compare(&self, table: &str) -> Vec<Finding> {
        let Rows { expected, found } = self;
        if expected == found {
            return Vec::new();
        }
        let missing = expected
            .difference(found)
            .map(|row| Finding::text(format!("{table}: {row:?} is missing")));
        let extra = found
            .difference(expected)
            .map(|row| Finding::text(format!("{table}: {row:?} should not be there")));
        missing.chain(extra).collect()
    }

    fn is_subset(&self) -> bool {
        self.found.is_subset(&self.expected)
    }
}

fn ledger_events(evidence: &Evidence) -> Rows<impl Ord + std::fmt::Debug> {
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
            let time_ms = evidence.times_ms.get(seq).copied().unwrap_or(0);
            Some((
                (*user, id, *seq),
                kind,
                *asset,
                *amount,
                time_ms,
                engine_columns(evidence, *seq, *user, *asset),
            ))
        })
        .collect();
    let found = evidence.found.ledger_events.iter().map(|row| {
        let key = (row.user_id as u64, row.event_id as u64, row.output_sequence as u64);
        let engine = (row.version.map(|v| v as u64), row.digest.clone());
        let (asset, amount, time_ms) = (row.asset_id as u32, row.amount as u64, row.event_time_ms as u64);
        (key, row.kind.as_str(), asset, amount, time_ms, engine)
    });
    Rows {
        expected,
        found: found.collect(),
    }
}

/// Version and digest, for designs that keep the engine's.
fn engine_columns(evidence: &Evidence, seq: u64, user: u64, asset: u32) -> (Option<u64>, Option<Blob>) {
    if !evidence.promises.ledger {
        return (None, None);
    }
    let account = evidence.books.accounts.get(&(user, asset));
    let posting = account.and_then(|account| account.postings.iter().find(|posting| posting.seq == seq));
    let digest = evidence
        .digests
        .get(&seq)
        .map(|digest| Blob::from_slice(&digest.short()));
    (posting.map(|posting| posting.version), digest)
}

fn trades_by_user(evidence: &Evidence) -> Rows<impl Ord + std::fmt::Debug> {
    let mut expected = Vec::with_capacity(2 * evidence.books.trades.len());
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
            let day = (evidence.times_ms.get(&record.seq).copied().unwrap_or(0) / DAY_MS) as i32;
            let digest = evidence
                .digests
                .get(&record.seq)
                .map(|digest| Blob::from_slice(&digest.short()));
            expected.push(((user, day, record.seq), side, record.symbol, numbers, digest));
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
        let key = (row.user_id as u64, row.day, row.output_sequence as u64);
        (
            key,
            row.side.as_str(),
            row.symbol as u32,
            numbers,
            Some(row.digest.clone()),
        )
    });
    Rows {
        expected: expected.into_iter().collect(),
        found: found.collect(),
    }
}
