//! Every invariant against evidence worked out from a small stream: silent on right books, and for each kind of wrong
//! books exactly the invariants that should speak.
use super::{absence, check};
use crate::convert;
use crate::evidence::{
    BalanceRead, Bounds, BySequence, Decision, Durability, DurabilityBreach, Ending, Evidence, Promises, ReadRow,
    Requests, Resettled,
};
use crate::rows::{
    BalanceRow, Blob, CheckpointRow, DeadLetterRow, LedgerEventRow, LedgerRow, OrderRow, SettledRow, SkipRow, Tables,
    TradeByUserRow, TradeRow,
};
use oracle::Books;
use settlement_events::{Body, Digest, Event, OrderStatus, Registry, Side, samples};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Of a small stream, all of it settled as it should be.
pub(crate) fn evidence() -> Evidence {
    let registry = Registry::example();
    let events = samples::stream();
    let facts: Vec<_> = events
        .iter()
        .filter_map(|e| Some((e.output_sequence.0, convert::fact(e)?)))
        .collect();
    let books = Books::replay(convert::market(&registry), &facts).expect("the samples are valid");
    let head = events.iter().map(|e| e.output_sequence.0).max().unwrap_or(0);
    let found = tables(&events);
    let to_settle = facts.len() as u64;
    Evidence {
        promises: Promises {
            ledger: true,
            identity: true,
            dead_letters: true,
            durable: true,
            idempotent: true,
        },
        facts,
        digests: events.iter().map(|e| (e.output_sequence.0, e.digest())).collect(),
        kinds: events
            .iter()
            .map(|e| (e.output_sequence.0, e.kind().as_str()))
            .collect(),
        times_ms: events
            .iter()
            .map(|e| (e.output_sequence.0, e.event_time_ms.0))
            .collect(),
        epoch: events[0].epoch.0,
        event_ids: event_ids(&events),
        trade_meta: events
            .iter()
            .filter_map(|e| Some((e.output_sequence.0, (e.trade()?.match_seq.0, e.trade()?.buyer_is_maker))))
            .collect(),
        refused: BTreeMap::new(),
        decisions: BTreeMap::new(),
        acknowledged_ms: Vec::new(),
        books,
        replicas_before_heal: vec![Arc::new(found.clone())],
        replicas_after_heal: vec![Arc::new(found.clone())],
        found,
        reads: Vec::new(),
        replica_losses_ms: Vec::new(),
        durability: Durability {
            looked_at: head,
            breaches: Vec::new(),
            checkpoints: BTreeMap::new(),
            unlogged: Vec::new(),
            early: Vec::new(),
        },
        resettled: Some(Resettled::default()),
        bounds: Bounds {
            seen: vec![("batches in flight".into(), 3, 64)],
        },
        untrue_metrics: Vec::new(),
        trade_ids_reused: Some(0),
        requests: Some(Requests {
            batches: to_settle + 1,
            contents: to_settle,
            again: Some(to_settle),
            ..Requests::default()
        }),
        untimely: Vec::new(),
        ending: Ending {
            head,
            acknowledged: head,
            durable: head,
            bound_ms: 180_000,
            ..Ending::default()
        },
        registry,
    }
}

fn event_ids(events: &[Event]) -> BySequence<u64> {
    let id = |e: &Event| match &e.body {
        Body::Deposit { event_id, .. } | Body::Withdrawal { event_id, .. } => Some((e.output_sequence.0, event_id.0)),
        _ => None,
    };
    events.iter().filter_map(id).collect()
}

/// The rows that a right settlement writes, from the states that the events carry.
fn tables(events: &[Event]) -> Tables {
    let mut t = Tables::default();
    for event in events.iter().filter(|e| !matches!(e.body, Body::EpochStart { .. })) {
        let (seq, digest) = (
            event.output_sequence.0 as i64,
            Blob::from_slice(&event.digest().short()),
        );
        t.settled.push(SettledRow {
            bucket: 0,
            output_sequence: seq,
            epoch: event.epoch.0 as i32,
            kind: event.kind().as_str().into(),
            digest: Blob::from_slice(&event.digest().0),
            prev_digest: Blob::from_slice(&event.prev_digest.0),
        });
        let reference = match &event.body {
            Body::Deposit { event_id, .. } | Body::Withdrawal { event_id, .. } => event_id.0,
            Body::OrderPlaced { order, .. } | Body::OrderCancelled { order, .. } => order.order_id.0,
            Body::Trade(trade) => trade.trade_id.0,
            Body::EpochStart { .. } => 0,
        };
        for (place, c) in event.changes().iter().enumerate() {
            let fee = place >= 4;
            let (user_id, asset_id) = (c.user_id.0 as i64, c.asset_id.0 as i32);
            let (avail, frozen) = (c.avail.0 as i64, c.frozen.0 as i64);
            t.ledger.push(LedgerRow {
                user_id,
                asset_id,
                seq: c.version.0 as i64,
                delta_avail: c.delta_avail.0,
                delta_frozen: c.delta_frozen.0,
                avail,
                frozen,
                cause: if fee { "fee" } else { event.kind().as_str() }.into(),
                reference: reference as i64,
                output_sequence: seq,
                digest: digest.clone(),
            });
            t.balances
                .retain(|row| (row.user_id, row.asset_id) != (user_id, asset_id));
            let version = c.version.0 as i64;
            t.balances.push(BalanceRow {
                user_id,
                asset_id,
                version,
                avail,
                frozen,
                digest: Some(digest.clone()),
            });
        }
        for o in event.orders() {
            t.orders.retain(|row| row.order_id != o.order_id.0 as i64);
            t.orders.push(OrderRow {
                user_id: o.user_id.0 as i64,
                order_id: o.order_id.0 as i64,
                version: o.version.0 as i64,
                symbol: o.symbol.0 as i32,
                side: o.side.as_str().into(),
                price: o.price.0 as i64,
                quantity: o.quantity.0 as i64,
                filled_quantity: o.filled_quantity.0 as i64,
                status: o.status.as_str().into(),
                digest: Some(digest.clone()),
            });
        }
        special(&mut t, event, seq, &digest);
    }
    t.checkpoint = events.last().map(checkpoint_at).into_iter().collect();
    t
}

/// The checkpoint that calls everything up to this event durable. (The samples end with another epoch, which the engine does
/// not.)
fn checkpoint_at(event: &Event) -> CheckpointRow {
    CheckpointRow {
        epoch: 1,
        durable: event.output_sequence.0 as i64,
        digest: Blob::from_slice(&event.digest().0),
    }
}

fn special(t: &mut Tables, event: &Event, seq: i64, digest: &[u8]) {
    match &event.body {
        Body::Deposit { event_id, change } | Body::Withdrawal { event_id, change } => {
            t.ledger_events.push(LedgerEventRow {
                user_id: change.user_id.0 as i64,
                event_id: event_id.0 as i64,
                output_sequence: seq,
                kind: event.kind().as_str().into(),
                asset_id: change.asset_id.0 as i32,
                amount: change.delta_avail.0.abs(),
                event_time_ms: event.event_time_ms.0 as i64,
                version: Some(change.version.0 as i64),
                digest: Some(Blob::from_slice(digest)),
            });
        }
        Body::Trade(trade) => {
            let version = |i: usize| Some(trade.changes[i].version.0 as i64);
            t.trades.entry(trade.symbol.0).or_default().push(TradeRow {
                trade_id: trade.trade_id.0 as i64,
                output_sequence: seq,
                match_seq: trade.match_seq.0 as i64,
                event_time_ms: event.event_time_ms.0 as i64,
                buy_order_id: trade.buy_order_id.0 as i64,
                sell_order_id: trade.sell_order_id.0 as i64,
                buyer_user_id: trade.buyer_user_id.0 as i64,
                seller_user_id: trade.seller_user_id.0 as i64,
                base_asset: trade.base_asset.0 as i32,
                quote_asset: trade.quote_asset.0 as i32,
                price: trade.price.0 as i64,
                quantity: trade.quantity.0 as i64,
                quote_amount: trade.quote_amount.0 as i64,
                buyer_refund: trade.buyer_refund.0 as i64,
                seller_refund: trade.seller_refund.0 as i64,
                buyer_is_maker: trade.buyer_is_maker,
                fees: settlement::designs::fees::FeeBytes::of(&trade.fees).as_slice().into(),
                buyer_base_version: version(0),
                buyer_quote_version: version(1),
                seller_base_version: version(2),
                seller_quote_version: version(3),
                digest: Some(Blob::from_slice(digest)),
            });
            for (side, user, order, refund) in [
                (Side::Buy, trade.buyer_user_id, trade.buy_order_id, trade.buyer_refund),
                (
                    Side::Sell,
                    trade.seller_user_id,
                    trade.sell_order_id,
                    trade.seller_refund,
                ),
            ] {
                t.trades_by_user.push(TradeByUserRow {
                    user_id: user.0 as i64,
                    day: (event.event_time_ms.0 / 86_400_000) as i32,
                    output_sequence: seq,
                    side: side.as_str().into(),
                    trade_id: trade.trade_id.0 as i64,
                    symbol: trade.symbol.0 as i32,
                    order_id: order.0 as i64,
                    price: trade.price.0 as i64,
                    quantity: trade.quantity.0 as i64,
                    quote_amount: trade.quote_amount.0 as i64,
                    refund: refund.0 as i64,
                    digest: Blob::from_slice(digest),
                });
            }
        }
        _ => {}
    }
}

fn spoken(evidence: &Evidence) -> BTreeSet<u32> {
    check(evidence)
        .into_iter()
        .map(|violation| violation.invariant)
        .collect()
}

#[test]
fn right_books_are_silent() {
    assert_eq!(check(&evidence()), []);
}

#[test]
fn each_wrong_book_is_caught_by_the_invariants_that_should() {
    type Spoil = fn(&mut Evidence);
    let cases: &[(&str, Spoil, &[u32])] = &[
        ("money appears", |e| e.found.balances[0].avail += 1, &[1, 2]),
        ("money moves to another user", |e| swap_money(e), &[2]),
        ("a posting is missing", |e| drop(e.found.ledger.remove(1)), &[2]),
        ("a posting is wrong", |e| e.found.ledger[1].delta_avail += 1, &[2]),
        ("a posting has no business there", |e| extra_posting(e), &[2]),
        (
            "a replica holds a wrong posting",
            |e| Arc::make_mut(&mut e.replicas_before_heal[0]).ledger[0].digest[0] ^= 1,
            &[2],
        ),
        ("a trade is missing", |e| e.found.trades.clear(), &[3]),
        ("a trade stands twice", |e| twice(e), &[3]),
        ("a trade has another price", |e| trade(e).price += 1, &[3]),
        ("an event is not marked settled", |e| drop(e.found.settled.pop()), &[3]),
        (
            "a negative balance on a replica",
            |e| Arc::make_mut(&mut e.replicas_after_heal[0]).balances[0].frozen = -1,
            &[4],
        ),
        ("a checkpoint too early", |e| breach(e), &[5]),
        (
            "an engine that forgot",
            |e| e.durability.unlogged.push("it did".into()),
            &[5],
        ),
        ("a claim too early", |e| e.durability.early.push("it is".into()), &[5]),
        ("a row of now", |e| e.untimely.push("it is".into()), &[16]),
        (
            "an order in the wrong state",
            |e| e.found.orders[0].status = OrderStatus::Cancelled.as_str().into(),
            &[6],
        ),
        (
            "a deposit is missing from its table",
            |e| drop(e.found.ledger_events.pop()),
            &[7],
        ),
        (
            "a trade is missing from a user's history",
            |e| drop(e.found.trades_by_user.pop()),
            &[7],
        ),
        ("a dead letter for a good event", |e| dead_letter(e), &[9]),
        (
            "settlement stops without a reason",
            |e| e.ending.stops.push("the stream has forked".into()),
            &[10],
        ),
        (
            "settling again leaves an event out",
            |e| requests(e).again = requests(e).again.map(|events| events - 1),
            &[12],
        ),
        ("events are left behind", |e| e.ending.acknowledged -= 1, &[10]),
        (
            "settling again changes a cell",
            |e| resettled(e).differences.push("node 1 orders".into()),
            &[12],
        ),
        (
            "settling again fails",
            |e| resettled(e).failed = Some("no engine".into()),
            &[12],
        ),
        ("too much in flight", |e| e.bounds.seen[0].1 = 65, &[14]),
        (
            "a metric lies",
            |e| e.untrue_metrics.push("acknowledged went back".into()),
            &[13],
        ),
        (
            "an alert about a trade id that came once",
            |e| e.trade_ids_reused = Some(1),
            &[13],
        ),
        (
            "no alert about a trade id that came twice",
            |e| id_used_twice(e),
            &[3, 7, 13],
        ),
        ("an UNLOGGED batch", |e| requests(e).not_logged = 1, &[16]),
        ("a batch at ONE", |e| requests(e).below_quorum = 1, &[16]),
        ("a batch in two parts", |e| requests(e).contents += 1, &[16]),
        ("an event without a batch", |e| requests(e).contents -= 1, &[16]),
        ("no batch at all", |e| e.requests = Some(Requests::default()), &[16]),
        ("a frame that nobody can read", |e| requests(e).unread_frames = 1, &[16]),
        ("a batch that is too large", |e| requests(e).oversized = 1, &[14]),
        (
            "an event in a bucket where nobody looks",
            |e| e.found.settled[0].bucket = 1,
            &[3],
        ),
        ("a trade without its fees", |e| trade(e).fees.push(1), &[3]),
        (
            "a trade with the wrong maker",
            |e| trade(e).buyer_is_maker ^= true,
            &[3],
        ),
        ("an event of another epoch", |e| e.found.settled[0].epoch += 1, &[3]),
        (
            "a trade in the wrong day's history",
            |e| e.found.trades_by_user[0].day += 1,
            &[7],
        ),
        (
            "a deposit with another time",
            |e| e.found.ledger_events[0].event_time_ms += 1,
            &[7],
        ),
        (
            "a balance with another digest",
            |e| e.found.balances[0].digest = None,
            &[2],
        ),
        ("a good event is skipped", |e| skip(e, 1), &[9]),
        ("a checkpoint of something else", |e| checkpoint_of(e, 1, 10), &[5]),
        ("no checkpoint", |e| e.found.checkpoint.clear(), &[5]),
        ("a checkpoint that was left behind", |e| checkpoint_of(e, 2, 2), &[5]),
        (
            "two checkpoints",
            |e| {
                let row = e.found.checkpoint[0].clone();
                e.found.checkpoint.push(row);
            },
            &[5],
        ),
        (
            "a checkpoint of something else, once",
            |e| {
                let digest = e.digests[&1].0.to_vec();
                e.durability.checkpoints.entry(2).or_default().insert(digest);
            },
            &[5],
        ),
    ];
    for (name, spoil, expected) in cases {
        let mut evidence = evidence();
        spoil(&mut evidence);
        assert_eq!(spoken(&evidence), expected.iter().copied().collect(), "{name}");
    }
}

#[test]
fn what_is_missing_is_told_from_what_is_wrong() {
    type Spoil = fn(&mut Evidence);
    let cases: &[(&str, Spoil, bool)] = &[
        ("nothing", |_| {}, true),
        ("a trade is missing", |e| e.found.trades.clear(), true),
        ("an event is not marked settled", |e| drop(e.found.settled.pop()), true),
        ("a balance is missing", |e| drop(e.found.balances.pop()), true),
        ("money appears", |e| e.found.balances[0].avail += 1, false),
        ("a trade stands twice", |e| twice(e), false),
        ("a trade has another price", |e| trade(e).price += 1, false),
        ("a posting has no business there", |e| extra_posting(e), false),
        (
            "an event of another content",
            |e| e.found.settled[0].digest[0] ^= 1,
            false,
        ),
        ("an order is missing", |e| drop(e.found.orders.pop()), true),
        ("an order as it was earlier", earlier_order, true),
        (
            "an order as it never was",
            |e| e.found.orders[0].filled_quantity += 1,
            false,
        ),
        ("an order of nobody", |e| e.found.orders[0].order_id = 77, false),
        ("a user's history is missing", |e| e.found.trades_by_user.clear(), true),
        (
            "a wrong line in a user's history",
            |e| e.found.trades_by_user[0].price += 1,
            false,
        ),
        ("a deposit is missing", |e| drop(e.found.ledger_events.pop()), true),
        (
            "a deposit with another amount",
            |e| e.found.ledger_events[0].amount += 1,
            false,
        ),
        ("a dead letter for a good event", dead_letter, false),
        ("a refused event is missing", |e| drop(refuse(e)), true),
        (
            "a refused event is a dead letter",
            |e| {
                let row = refuse(e);
                e.found.dead_letters.push(row);
            },
            true,
        ),
        (
            "a dead letter for another reason",
            |e| {
                let row = refuse(e);
                e.found.dead_letters.push(DeadLetterRow {
                    code: "contradiction".into(),
                    ..row
                });
            },
            false,
        ),
        ("a good event is skipped", |e| skip(e, 1), false),
    ];
    for (name, spoil, is_absence) in cases {
        let mut evidence = evidence();
        spoil(&mut evidence);
        assert_eq!(absence::is_all(&evidence), *is_absence, "{name}");
    }
}

fn trade(e: &mut Evidence) -> &mut TradeRow {
    e.found
        .trades
        .values_mut()
        .flatten()
        .next()
        .expect("the samples have a trade")
}

fn swap_money(e: &mut Evidence) {
    let rows = &mut e.found.balances;
    let first = rows[0].asset_id;
    let other = rows
        .iter()
        .skip(1)
        .position(|row| row.asset_id == first)
        .expect("two users hold the first asset")
        + 1;
    rows[0].avail += 1;
    rows[other].avail -= 1;
}

fn twice(e: &mut Evidence) {
    let copy = trade(e).clone();
    e.found.trades.values_mut().next().expect("a symbol").push(copy);
}

/// In the books only: the rows of that trade are missing as well.
fn id_used_twice(e: &mut Evidence) {
    let mut again = e.books.trades.values().next().expect("a trade").clone();
    again.seq += 1_000;
    e.books.trades.insert(again.seq, again);
}

fn extra_posting(e: &mut Evidence) {
    let mut row = e.found.ledger[0].clone();
    row.seq = 1_000;
    e.found.ledger.push(row);
}

fn breach(e: &mut Evidence) {
    let when = "a checkpoint arrived".into();
    e.durability.breaches.push(DurabilityBreach {
        at_ms: 5,
        durable: 3,
        output_sequence: 2,
        on_nodes: 1,
        when,
    });
}

fn requests(e: &mut Evidence) -> &mut Requests {
    e.requests.as_mut().expect("looked at")
}

fn resettled(e: &mut Evidence) -> &mut Resettled {
    e.resettled.as_mut().expect("it was done")
}

/// The first order as its first step left it.
fn earlier_order(e: &mut Evidence) {
    let row = &mut e.found.orders[0];
    let step = e.books.orders[&(row.order_id as u64)].steps[0];
    row.version = step.version as i64;
    row.filled_quantity = 0;
    row.status = OrderStatus::Placed.as_str().into();
    row.digest = Some(Blob::from_slice(&e.digests[&step.seq].short()));
}

fn skip(e: &mut Evidence, output_sequence: i64) {
    e.found.skips.push(SkipRow {
        bucket: 0,
        output_sequence,
        reason: "x".into(),
        digest: Blob::from_slice(&e.digests[&(output_sequence as u64)].0),
    });
}

/// Makes the only checkpoint one of event `durable` with the digest of another.
fn checkpoint_of(e: &mut Evidence, digest_of: u64, durable: i64) {
    e.found.checkpoint[0].durable = durable;
    e.found.checkpoint[0].digest = Blob::from_slice(&e.digests[&digest_of].0);
}

fn dead_letter(e: &mut Evidence) {
    let row = DeadLetterRow {
        bucket: 0,
        output_sequence: 1,
        code: "overflow".into(),
        detail: "x".into(),
        digest: Blob::from_slice(&e.digests[&1].0),
        event: vec![1],
    };
    e.found.dead_letters.push(row);
}

/// One more event, which is to be refused; its dead letter as it should be.
fn refuse(e: &mut Evidence) -> DeadLetterRow {
    let (seq, event) = (e.ending.head + 1, vec![1]);
    let digest = Digest::of(&event);
    e.refused.insert(seq, "overflow".into());
    e.digests.insert(seq, digest);
    DeadLetterRow {
        bucket: 0,
        output_sequence: seq as i64,
        code: "overflow".into(),
        detail: "x".into(),
        digest: Blob::from_slice(&digest.0),
        event,
    }
}

#[test]
fn a_refused_event_must_be_a_dead_letter_with_its_reason() {
    let mut e = evidence();
    let row = refuse(&mut e);
    assert_eq!(spoken(&e), [9].into(), "it is no dead letter");
    e.found.dead_letters = vec![row.clone()];
    assert_eq!(spoken(&e), BTreeSet::new());
    type Spoil = fn(&mut DeadLetterRow);
    let cases: [(&str, Spoil); 5] = [
        ("another reason", |row| row.code = "contradiction".into()),
        ("no detail", |row| row.detail.clear()),
        ("another event's bytes", |row| row.event = vec![2]),
        ("another digest", |row| row.digest[0] ^= 1),
        ("a bucket where nobody looks", |row| row.bucket = 1),
    ];
    for (name, spoil) in cases {
        e.found.dead_letters = vec![row.clone()];
        spoil(&mut e.found.dead_letters[0]);
        assert_eq!(spoken(&e), [9].into(), "{name}");
    }
}

#[test]
fn a_refused_event_is_passed_over_only_as_an_operator_decided() {
    let mut e = evidence();
    let row = refuse(&mut e);
    let seq = row.output_sequence as u64;
    e.found.dead_letters = vec![row];
    (e.ending.head, e.ending.acknowledged, e.ending.durable) = (seq, seq, seq);
    checkpoint_of(&mut e, seq, seq as i64);
    assert_eq!(spoken(&e), [9].into(), "passed over, and nobody decided it");
    skip(&mut e, seq as i64);
    assert_eq!(spoken(&e), BTreeSet::new());
    let decision = |at_ms, reason: &str| Decision {
        at_ms,
        reason: reason.into(),
    };
    e.acknowledged_ms = vec![(100, 1), (600, seq)];
    e.decisions.insert(seq, decision(500, "x"));
    assert_eq!(spoken(&e), BTreeSet::new());
    e.decisions.insert(seq, decision(700, "x"));
    assert_eq!(spoken(&e), [9].into(), "passed over before anybody had decided");
    e.decisions.insert(seq, decision(500, "y"));
    assert_eq!(spoken(&e), [9].into(), "for another reason than the operator's");
    e.decisions.insert(seq, decision(500, "x"));
    e.found.skips[0].bucket = 1;
    assert_eq!(spoken(&e), [9].into(), "in a bucket where nobody looks");
    e.found.skips[0].bucket = 0;
    e.found.skips[0].digest[0] ^= 1;
    assert_eq!(spoken(&e), [9].into(), "of another content");
}

/// A read of the first user who has an account with a history and another one: as it should be once everything up to the
/// account's first change was acknowledged, and the place of that account's row in it.
fn a_read(e: &Evidence) -> (BalanceRead, usize) {
    let of = |user: u64| e.books.accounts.range((user, 0)..=(user, u32::MAX));
    let ((user, asset), account) = e
        .books
        .accounts
        .iter()
        .find(|((user, _), account)| account.postings.len() > 1 && of(*user).count() > 1)
        .expect("an account with history");
    let acknowledged_before = account.postings[0].seq;
    let rows: Vec<ReadRow> = of(*user)
        .map(|((_, asset), account)| ReadRow {
            asset: Some(*asset),
            version: Some(1),
            avail: Some(account.postings[0].avail as i64),
            frozen: Some(account.postings[0].frozen as i64),
        })
        .collect();
    let place = rows.iter().position(|row| row.asset == Some(*asset));
    let read = BalanceRead {
        at_ms: 10,
        user: *user,
        acknowledged_before,
        durable_before: 0,
        rows,
    };
    (read, place.expect("its own row"))
}

#[test]
fn a_row_that_is_read_must_be_whole_and_a_version_that_was() {
    let mut e = evidence();
    let (read, at) = a_read(&e);
    e.reads = vec![read.clone()];
    assert_eq!(spoken(&e), BTreeSet::new());
    type Spoil = fn(&mut ReadRow);
    let cases: [(&str, Spoil, &[u32]); 7] = [
        ("other money", |row| row.avail = row.avail.map(|n| n + 1), &[11]),
        ("a version that never was", |row| row.version = Some(1_000), &[11]),
        ("no version", |row| row.version = None, &[11]),
        ("nothing available", |row| row.avail = None, &[11]),
        ("nothing frozen", |row| row.frozen = None, &[11]),
        ("no asset", |row| row.asset = None, &[11]),
        ("less than nothing", |row| row.frozen = Some(-1), &[4, 11]),
    ];
    for (name, spoil, expected) in cases {
        e.reads = vec![read.clone()];
        spoil(&mut e.reads[0].rows[at]);
        assert_eq!(spoken(&e), expected.iter().copied().collect(), "{name}");
    }
}

#[test]
fn a_read_must_show_what_was_acknowledged_or_durable_before_it() {
    let mut e = evidence();
    let (read, at) = a_read(&e);
    e.reads = vec![read.clone()];
    e.reads[0].acknowledged_before = e.ending.head;
    assert_eq!(spoken(&e), [11].into(), "an older version than the acknowledged one");
    e.reads = vec![read.clone()];
    e.reads[0].rows.remove(at);
    assert_eq!(spoken(&e), [11].into(), "no row of an acknowledged account");
    e.reads[0].acknowledged_before = 0;
    assert_eq!(spoken(&e), BTreeSet::new(), "nothing had to be there yet");
    e.reads[0].acknowledged_before = e.ending.head;
    e.replica_losses_ms = vec![5];
    assert_eq!(spoken(&e), BTreeSet::new(), "a replica had lost unsynced data before");
    e.reads[0].durable_before = e.ending.head;
    assert_eq!(spoken(&e), [11].into(), "but not what was durable");
    e.reads = vec![read];
    e.reads[0].durable_before = e.ending.head;
    assert_eq!(spoken(&e), [11].into(), "nor a later version of it");
}
