//! Invariant 3. The settled trades are the engine's trades, and the settled events its events: none missing, none
//! extra, every field equal. Verified on what a client reads at the end; on every replica before the heal, that there is
//! nothing extra. Not verified here: balances (1, 2).
use super::Finding;
use crate::evidence::{BySequence, Evidence, distinct};
use crate::rows::{BUCKET_SEQUENCES, Tables, TradeRow};
use oracle::TradeRecord;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = trades(evidence);
    if evidence.promises.identity {
        findings.extend(events(evidence));
    }
    findings.extend(failed(evidence));
    for (node, tables) in distinct(&evidence.replicas_before_heal) {
        findings.extend(extra_trades(
            evidence,
            tables,
            &format!("on node {node} before the heal: "),
        ));
    }
    findings
}

fn trades(evidence: &Evidence) -> Vec<Finding> {
    let tables = evidence.found.trades.iter();
    // By sequence, then by id: an id may come twice, and then both trades stand.
    let mut found: Vec<((u64, u64), u32, &TradeRow)> = tables
        .flat_map(|(symbol, rows)| rows.iter().map(|row| (key_of(row), *symbol, row)))
        .collect();
    found.sort_by_key(|(key, ..)| *key);
    let mut findings = extra_trades(evidence, &evidence.found, "");
    // Both sides ascend, so that they are walked side by side.
    let mut rest = found.as_slice();
    for record in evidence.books.trades.values() {
        let id = record.trade.trade_id;
        let key = (record.seq, id);
        let from = rest.iter().position(|(other, ..)| *other >= key).unwrap_or(rest.len());
        rest = &rest[from..];
        let count = rest.iter().take_while(|(other, ..)| *other == key).count();
        let (rows, behind) = rest.split_at(count);
        rest = behind;
        match rows {
            [] => findings.push(Finding::text(format!(
                "trade {id} (event {}, {} for {} by users {} and {}) is not settled",
                record.seq, record.trade.quantity, record.quote_amount, record.buyer, record.seller
            ))),
            [(_, symbol, row)] => findings.extend(differs(evidence, record, *symbol, row)),
            rows => findings.push(Finding::text(format!("trade {id} is settled {} times", rows.len()))),
        }
    }
    findings
}

/// Sequence and trade id.
fn key_of(row: &TradeRow) -> (u64, u64) {
    (row.output_sequence as u64, row.trade_id as u64)
}

fn extra_trades(evidence: &Evidence, tables: &Tables, place: &str) -> Vec<Finding> {
    let rows = tables.trades.values().flatten();
    rows.filter(|row| {
        evidence
            .books
            .trades
            .get(&(row.output_sequence as u64))
            .is_none_or(|record| record.trade.trade_id != row.trade_id as u64)
    })
    .map(|row| {
        let (id, seq) = (row.trade_id, row.output_sequence);
        Finding::text(format!(
            "{place}trade {id} under event {seq} is settled, but the engine made no such trade"
        ))
    })
    .collect()
}

pub(super) fn differs(evidence: &Evidence, record: &TradeRecord, symbol: u32, row: &TradeRow) -> Option<Finding> {
    let pair = evidence.registry.symbol(settlement_events::SymbolId(record.symbol))?;
    let (match_seq, buyer_is_maker) = evidence.trade_meta.get(&record.seq).copied().unwrap_or_default();
    let event_time_ms = evidence.times_ms.get(&record.seq).copied().unwrap_or_default();
    let fields: [(&str, u64, i64); 16] = [
        ("symbol", record.symbol.into(), symbol.into()),
        ("output_sequence", record.seq, row.output_sequence),
        ("match_seq", match_seq, row.match_seq),
        ("event_time_ms", event_time_ms, row.event_time_ms),
        ("buy_order_id", record.trade.buy_order, row.buy_order_id),
        ("sell_order_id", record.trade.sell_order, row.sell_order_id),
        ("buyer_user_id", record.buyer, row.buyer_user_id),
        ("seller_user_id", record.seller, row.seller_user_id),
        ("base_asset", pair.base.0.into(), row.base_asset.into()),
        ("quote_asset", pair.quote.0.into(), row.quote_asset.into()),
        ("price", record.trade.price, row.price),
        ("quantity", record.trade.quantity, row.quantity),
        ("quote_amount", record.quote_amount, row.quote_amount),
        ("buyer_refund", record.buyer_refund, row.buyer_refund),
        ("seller_refund", record.seller_refund, row.seller_refund),
        ("buyer_is_maker", buyer_is_maker.into(), row.buyer_is_maker.into()),
    ];
    let versions = [
        ("buyer_base_version", row.buyer_base_version),
        ("buyer_quote_version", row.buyer_quote_version),
        ("seller_base_version", row.seller_base_version),
        ("seller_quote_version", row.seller_quote_version),
    ];
    let versions = versions
        .into_iter()
        .zip(&record.versions)
        .filter(|_| evidence.promises.ledger)
        .map(|((name, found), (_, version))| (name, *version, found.unwrap_or(-1)));
    if evidence.promises.ledger {
        let digest = evidence.digests.get(&record.seq).map(|d| d.short());
        if row.digest.as_deref() != digest.as_ref().map(|d| &d[..]) {
            return Some(Finding::text(format!(
                "trade {}: the row's digest is not event {}'s",
                row.trade_id, record.seq
            )));
        }
    }
    if !row.fees.iter().copied().eq(fees(record)) {
        return Some(Finding::text(format!(
            "trade {}: the fees column is {:02x?}, the engine charged {:?}",
            row.trade_id, row.fees, record.trade.fees
        )));
    }
    let (name, expected, found) = fields
        .into_iter()
        .chain(versions)
        .find(|(_, expected, found)| i128::from(*expected) != i128::from(*found))?;
    Some(Finding::text(format!(
        "trade {}: {name} is {found}, the engine says {expected}",
        row.trade_id
    )))
}

/// The column: payer, asset and amount of each fee, big-endian.
fn fees(record: &TradeRecord) -> impl Iterator<Item = u8> + '_ {
    record.trade.fees.iter().flat_map(|fee| {
        let (payer, asset) = (fee.payer.to_be_bytes(), fee.asset.to_be_bytes());
        payer.into_iter().chain(asset).chain(fee.amount.to_be_bytes())
    })
}

fn events(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    let expected: BySequence<()> = evidence.facts.iter().map(|(seq, _)| (*seq, ())).collect();
    let mut found = BySequence::default();
    for row in &evidence.found.settled {
        let seq = row.output_sequence as u64;
        if found.insert(seq, ()).is_some() {
            findings.push(Finding::text(format!("event {seq} stands twice in settled_events")));
        }
        if expected.get(&seq).is_none() {
            findings.push(Finding::text(format!(
                "event {seq} is marked settled, but the engine published no such event"
            )));
            continue;
        }
        if row.bucket as u64 != seq / BUCKET_SEQUENCES {
            findings.push(Finding::text(format!(
                "event {seq}: settled_events has it in bucket {}, where nobody looks for it",
                row.bucket
            )));
        }
        // The identity row carries the whole digest; other rows carry its first eight bytes.
        let digest = |seq: u64| evidence.digests.get(&seq).map(|d| &d.0[..]);
        if Some(row.digest.as_slice()) != digest(seq) {
            findings.push(Finding::text(format!(
                "event {seq}: settled_events has another digest than the engine's event"
            )));
        }
        if seq > 1 && Some(row.prev_digest.as_slice()) != digest(seq - 1) {
            findings.push(Finding::text(format!(
                "event {seq}: prev_digest is not event {}'s digest",
                seq - 1
            )));
        }
        if row.epoch as u32 != evidence.epoch {
            findings.push(Finding::text(format!(
                "event {seq}: settled_events names epoch {}, it is {}",
                row.epoch, evidence.epoch
            )));
        }
        if Some(row.kind.as_str()) != evidence.kinds.get(&seq).copied() {
            findings.push(Finding::text(format!(
                "event {seq}: settled_events calls it {}",
                row.kind
            )));
        }
    }
    let missing = evidence.facts.iter().filter(|(seq, _)| found.get(seq).is_none());
    findings.extend(missing.map(|(seq, _)| Finding::text(format!("event {seq} is not in settled_events"))));
    findings
}

/// Designs that give up keep what they gave up; each is an event that is not settled by the design's own word.
fn failed(evidence: &Evidence) -> Vec<Finding> {
    let rows = evidence.found.failed.iter();
    rows.map(|row| {
        Finding::text(format!(
            "event {} was given up after {} attempts: {}",
            row.output_sequence, row.attempts, row.error
        ))
    })
    .collect()
}
