//! Every contradiction that `check` knows, made from the valid sample stream by one edit each, and that it accepts the
//! stream as it is.

mod common;

use proptest::prelude::*;
use settlement_events::{
    Amount, AssetId, Body, Digest, Event, Fee, OrderStatus, OutputSequence, Price, Quantity, RefusalCode, Registry,
    Side, SignedAmount, SymbolId, Trade, UserId, Version, check, samples,
};

const DEPOSIT: usize = 0;
const PLACED_BUY: usize = 2;
const PLACED_SELL: usize = 3;
const TRADE: usize = 4;
const CANCELLED: usize = 5;
const WITHDRAWAL: usize = 6;
const EPOCH: usize = 7;

#[track_caller]
fn refused(at: usize, code: RefusalCode, detail: &str, edit: impl FnOnce(&mut Event)) {
    let mut event = samples::stream().remove(at);
    edit(&mut event);
    let refusal = check(&event, &Registry::example()).expect_err("must be refused");
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(refusal.detail.contains(detail), "{refusal}");
}

#[track_caller]
fn refused_trade(code: RefusalCode, detail: &str, edit: impl FnOnce(&mut Trade)) {
    refused(TRADE, code, detail, |event| match &mut event.body {
        Body::Trade(trade) => edit(trade),
        other => panic!("the sample at {TRADE} is {other:?}"),
    });
}

fn change(event: &mut Event) -> &mut settlement_events::BalanceChange {
    match &mut event.body {
        Body::Deposit { change, .. }
        | Body::Withdrawal { change, .. }
        | Body::OrderPlaced { change, .. }
        | Body::OrderCancelled { change, .. } => change,
        other => panic!("no single change in {other:?}"),
    }
}

fn order(event: &mut Event) -> &mut settlement_events::OrderState {
    match &mut event.body {
        Body::OrderPlaced { order, .. } | Body::OrderCancelled { order, .. } => order,
        other => panic!("no single order in {other:?}"),
    }
}

#[test]
fn the_sample_stream_is_consistent() {
    let registry = Registry::example();
    for event in samples::stream() {
        assert_eq!(check(&event, &registry), Ok(()), "{event:?}");
    }
}

#[test]
fn numbers_beyond_a_bigint_overflow() {
    let too_large = i64::MAX as u64 + 1;
    refused(DEPOSIT, RefusalCode::Overflow, "avail 9223372036854775808", |e| {
        change(e).avail = Amount(too_large)
    });
    refused(DEPOSIT, RefusalCode::Overflow, "user_id", |e| {
        change(e).user_id = UserId(too_large)
    });
    refused(DEPOSIT, RefusalCode::Overflow, "version", |e| {
        change(e).version = Version(Version::MAX.0 + 1)
    });
    refused(DEPOSIT, RefusalCode::Overflow, "event_time_ms", |e| {
        e.event_time_ms.0 = u64::MAX
    });
    refused(DEPOSIT, RefusalCode::Overflow, "output_sequence 0", |e| {
        e.output_sequence = OutputSequence(0)
    });
    refused(PLACED_BUY, RefusalCode::Overflow, "above", |e| {
        order(e).price = Price(i64::MAX as u64);
        order(e).quantity = Quantity(100_000_001);
    });
    refused_trade(RefusalCode::Overflow, "trade_id", |t| t.trade_id.0 = u64::MAX);
    refused_trade(RefusalCode::Overflow, "buyer_refund", |t| {
        t.buyer_refund = Amount(u64::MAX)
    });
}

#[test]
fn quantities_and_prices_of_zero() {
    refused(PLACED_SELL, RefusalCode::ZeroQuantity, "order 502", |e| {
        order(e).quantity = Quantity(0)
    });
    refused(PLACED_SELL, RefusalCode::ZeroQuantity, "at price 0", |e| {
        order(e).price = Price(0)
    });
    refused_trade(RefusalCode::ZeroQuantity, "trade 9001", |t| t.quantity = Quantity(0));
    refused(DEPOSIT, RefusalCode::ZeroQuantity, "of nothing", |e| {
        *change(e) = settlement_events::BalanceChange {
            delta_avail: SignedAmount(0),
            avail: Amount(0),
            ..*change(e)
        };
    });
}

#[test]
fn unknown_assets_and_symbols() {
    refused(DEPOSIT, RefusalCode::UnknownAsset, "asset 99", |e| {
        change(e).asset_id = AssetId(99)
    });
    refused(PLACED_BUY, RefusalCode::UnknownSymbol, "symbol 99", |e| {
        order(e).symbol = SymbolId(99)
    });
    refused_trade(RefusalCode::UnknownAsset, "asset 99 of trade", |t| {
        t.quote_asset = AssetId(99)
    });
    refused_trade(RefusalCode::UnknownSymbol, "symbol 99", |t| t.symbol = SymbolId(99));
    refused_trade(RefusalCode::UnknownAsset, "fee in asset 99", |t| {
        t.fees[0].asset_id = AssetId(99)
    });
}

#[test]
fn balances_that_do_not_add_up() {
    // 700,005,000 and not 699,995,000: more than it can have been, the delta being what it is, is still possible...
    refused(WITHDRAWAL, RefusalCode::Contradiction, "avail by +100", |e| {
        change(e).delta_avail = SignedAmount(100)
    });
    // ... but not that there was less than nothing before.
    refused(DEPOSIT, RefusalCode::Contradiction, "no state before", |e| {
        change(e).avail = Amount(999_999_999)
    });
    refused(DEPOSIT, RefusalCode::Contradiction, "not from nothing", |e| {
        change(e).avail = Amount(1_000_000_001)
    });
    refused(DEPOSIT, RefusalCode::Contradiction, "versions start at 1", |e| {
        change(e).version = Version(0)
    });
    refused(PLACED_BUY, RefusalCode::Contradiction, "order lock", |e| {
        change(e).delta_frozen = SignedAmount(600_014_999)
    });
    refused(PLACED_BUY, RefusalCode::Contradiction, "not of user 9", |e| {
        order(e).user_id = UserId(9)
    });
    refused(CANCELLED, RefusalCode::Contradiction, "unlocks", |e| {
        // One minor unit more than the limit's worth of everything.
        change(e).delta_avail = SignedAmount(600_015_001);
        change(e).delta_frozen = SignedAmount(-600_015_001);
    });
    refused(CANCELLED, RefusalCode::Contradiction, "changes avail by -5", |e| {
        change(e).delta_avail = SignedAmount(-5)
    });
}

#[test]
fn a_sell_order_unlocks_exactly_what_is_left() {
    let registry = Registry::example();
    let mut event = samples::stream().remove(PLACED_SELL);
    let Body::OrderPlaced { mut change, mut order } = event.body else {
        panic!("sample {PLACED_SELL}")
    };
    order.status = OrderStatus::Cancelled;
    order.version = Version(3);
    order.filled_quantity = Quantity(400_000);
    change.version = Version(4);
    for (unlocked, right) in [(600_000, true), (599_999, false), (600_001, false)] {
        change.delta_avail = SignedAmount(unlocked);
        change.delta_frozen = SignedAmount(-unlocked);
        event.body = Body::OrderCancelled { change, order };
        assert_eq!(check(&event, &registry).is_ok(), right, "unlocks {unlocked}");
    }
}

#[test]
fn order_states_that_cannot_follow() {
    use RefusalCode::IllegalTransition;
    refused(PLACED_BUY, IllegalTransition, "version 2", |e| {
        order(e).version = Version(2)
    });
    refused(PLACED_BUY, IllegalTransition, "PLACED at version 1 with 5", |e| {
        order(e).filled_quantity = Quantity(5)
    });
    refused(CANCELLED, IllegalTransition, "FILLED", |e| {
        order(e).status = OrderStatus::Filled
    });
    refused(CANCELLED, IllegalTransition, "version 2", |e| {
        order(e).version = Version(2)
    });
    refused_trade(IllegalTransition, "CANCELLED", |t| {
        t.orders[1].status = OrderStatus::Cancelled
    });
    refused_trade(IllegalTransition, "PARTIAL", |t| {
        t.orders[1].status = OrderStatus::Partial
    });
    refused_trade(IllegalTransition, "version 3", |t| t.orders[1].version = Version(3));
    refused_trade(IllegalTransition, "after a fill", |t| {
        t.orders[0].filled_quantity = Quantity(999_999)
    });
}

#[test]
fn trades_that_contradict_themselves() {
    use RefusalCode::Contradiction;
    refused_trade(Contradiction, "200005000, not 200005001", |t| t.quote_amount.0 += 1);
    refused_trade(Contradiction, "trades asset 1 for 3, not 2 for 3", |t| {
        t.base_asset = AssetId(2)
    });
    refused_trade(Contradiction, "trades with itself", |t| {
        t.sell_order_id = t.buy_order_id
    });
    refused_trade(Contradiction, "the BUY order is SELL", |t| {
        t.orders[0].side = Side::Sell
    });
    refused_trade(Contradiction, "of user 9", |t| t.buyer_user_id = UserId(9));
    refused_trade(Contradiction, "maker: true", |t| t.orders[0].price.0 += 1);
    refused_trade(Contradiction, "with limit 20000500001", |t| {
        t.orders[1].price = Price(20_000_500_001)
    });
    refused_trade(Contradiction, "maker: true", |t| t.buyer_is_maker = false);
    refused_trade(Contradiction, "gives back 1", |t| t.buyer_refund = Amount(1));
    refused_trade(Contradiction, "gives back 1", |t| t.seller_refund = Amount(1));
    refused_trade(Contradiction, "3 balance changes", |t| t.changes.truncate(3));
    refused_trade(Contradiction, "2 fees and 1 credits", |t| t.changes.truncate(5));
    refused_trade(Contradiction, "buyer base", |t| t.changes.swap(0, 1));
    refused_trade(Contradiction, "seller quote", |t| {
        t.changes[3].delta_avail.0 -= 1;
        t.changes[3].avail.0 -= 1;
    });
    refused_trade(Contradiction, "fee: avail", |t| {
        t.changes[5].delta_avail.0 -= 1;
        t.changes[5].avail.0 -= 1;
    });
}

#[test]
fn an_account_that_appears_twice_in_one_trade_must_continue_itself() {
    let self_trade = |t: &mut Trade| {
        // User 7 buys from itself: the seller's account becomes the buyer's.
        t.seller_user_id = UserId(7);
        t.orders[1].user_id = UserId(7);
        t.fees[1].payer = UserId(7);
        for change in &mut t.changes[..4] {
            change.user_id = UserId(7);
        }
        t.changes[0].version = Version(2);
        t.changes[0].frozen = Amount(1_000_000);
        t.changes[2].avail = Amount(999_500);
        t.changes[3].version = Version(4);
        t.changes[3].avail = Amount(399_985_000 + 199_804_995);
        t.changes[3].frozen = Amount(400_010_000);
    };
    let mut event = samples::stream().remove(TRADE);
    let Body::Trade(trade) = &mut event.body else {
        panic!("sample {TRADE}")
    };
    self_trade(trade);
    assert_eq!(check(&event, &Registry::example()), Ok(()));
    for edit in [
        (|t: &mut Trade| t.changes[2].version = Version(4)) as fn(&mut Trade),
        |t| t.changes[2].avail = Amount(999_501),
        |t| t.changes[3].frozen = Amount(400_010_001),
    ] {
        refused_trade(RefusalCode::Contradiction, "does not continue", |t| {
            self_trade(t);
            edit(t);
        });
    }
}

#[test]
fn fees_that_nobody_may_be_asked_for() {
    use RefusalCode::BadFee;
    refused_trade(BadFee, "which is not traded", |t| t.fees[0].asset_id = AssetId(2));
    refused_trade(BadFee, "user 8 pays 500", |t| t.fees[0].payer = UserId(8));
    refused_trade(BadFee, "pays 0", |t| t.fees[0].amount = Amount(0));
    refused_trade(BadFee, "pays 1000001", |t| t.fees[0].amount = Amount(1_000_001));
    refused_trade(BadFee, "pays 500", |t| {
        let again: Fee = t.fees[0];
        t.fees.push(again);
    });
    refused_trade(BadFee, "before the buyer's", |t| t.fees.swap(0, 1));
    refused_trade(BadFee, "user 12 collects no fees", |t| {
        t.changes[4].user_id = UserId(12)
    });
}

#[test]
fn an_epoch_start_names_its_own_place() {
    refused(EPOCH, RefusalCode::BadEpoch, "stands in epoch 2 at 11", |e| {
        e.output_sequence = OutputSequence(11)
    });
    refused(EPOCH, RefusalCode::BadEpoch, "stands in epoch", |e| {
        e.prev_digest = Digest::ZERO
    });
}

#[test]
fn the_refund_of_an_order_filled_at_once_is_exactly_what_it_did_not_spend() {
    let registry = Registry::example();
    let mut event = samples::stream().remove(TRADE);
    let Body::Trade(trade) = &mut event.body else {
        panic!("sample {TRADE}")
    };
    // The seller rests at 20,000; the buyer takes the whole with a limit of 20,000.50 and gets 0.005 USDT back.
    trade.buyer_is_maker = false;
    trade.price = Price(20_000_000_000);
    trade.quote_amount = Amount(200_000_000);
    trade.orders[0].quantity = Quantity(1_000_000);
    trade.orders[0].status = OrderStatus::Filled;
    trade.fees.clear();
    trade.changes.truncate(4);
    trade.changes[0].delta_avail = SignedAmount(1_000_000);
    trade.changes[0].avail = Amount(1_000_000);
    trade.changes[1].frozen = Amount(0);
    trade.changes[3].delta_avail = SignedAmount(200_000_000);
    trade.changes[3].avail = Amount(200_000_000);
    for (refund, right) in [(5_000, true), (4_999, false), (5_001, false), (0, false)] {
        let Body::Trade(trade) = &mut event.body else {
            panic!("sample {TRADE}")
        };
        trade.buyer_refund = Amount(refund);
        trade.changes[1].delta_avail = SignedAmount(refund as i64);
        trade.changes[1].delta_frozen = SignedAmount(-200_000_000 - refund as i64);
        assert_eq!(
            check(&event, &registry).is_ok(),
            right,
            "refund {refund}: {:?}",
            check(&event, &registry)
        );
    }
}

proptest! {
    #[test]
    fn any_event_at_all_gets_an_answer(event in common::event()) {
        // Random numbers never add up, and looking at them never panics.
        let refused = check(&event, &Registry::example()).is_err();
        prop_assert!(refused);
    }
}
