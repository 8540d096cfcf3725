//! Strategies for arbitrary events: every field of every kind over its whole range, consistent or not. They are boxed
//! because values nested this deep overflow the stack of an unoptimised test thread. Encodings must
//! carry all of them; only `check` cares whether they make sense.

use proptest::array::uniform2;
use proptest::collection::vec;
use proptest::prelude::*;
use settlement_events::{
    Amount, AssetId, BalanceChange, Body, Digest, Epoch, Event, EventId, Fee, MatchSeq, OrderId, OrderState,
    OrderStatus, OutputSequence, Price, Quantity, Side, SignedAmount, SymbolId, TimeMs, Trade, TradeId, UserId,
    Version,
};

/// Mostly small numbers and the edges where varints, doubles and bigints change their form.
fn number() -> BoxedStrategy<u64> {
    prop_oneof![
        4 => 0..300_u64,
        4 => any::<u64>(),
        1 => prop::sample::select(vec![0, 127, 128, 1 << 53, (1 << 53) + 1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX]),
    ].boxed()
}

fn signed() -> BoxedStrategy<i64> {
    prop_oneof![
        4 => -300..300_i64,
        4 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, -(1 << 53) - 1, -(1 << 53), 1 << 53, (1 << 53) + 1, i64::MAX]),
    ]
    .boxed()
}

fn digest() -> BoxedStrategy<Digest> {
    any::<[u8; 32]>().prop_map(Digest).boxed()
}

fn change() -> BoxedStrategy<BalanceChange> {
    (number(), any::<u32>(), number(), signed(), signed(), number(), number())
        .prop_map(
            |(user, asset, version, delta_avail, delta_frozen, avail, frozen)| BalanceChange {
                user_id: UserId(user),
                asset_id: AssetId(asset),
                version: Version(version),
                delta_avail: SignedAmount(delta_avail),
                delta_frozen: SignedAmount(delta_frozen),
                avail: Amount(avail),
                frozen: Amount(frozen),
            },
        )
        .boxed()
}

fn order() -> BoxedStrategy<OrderState> {
    let side = prop::sample::select(vec![Side::Buy, Side::Sell]);
    let status = prop::sample::select(vec![
        OrderStatus::Placed,
        OrderStatus::Partial,
        OrderStatus::Filled,
        OrderStatus::Cancelled,
    ]);
    (
        number(),
        number(),
        number(),
        any::<u32>(),
        side,
        number(),
        number(),
        number(),
        status,
    )
        .prop_map(
            |(user, order, version, symbol, side, price, quantity, filled, status)| OrderState {
                user_id: UserId(user),
                order_id: OrderId(order),
                version: Version(version),
                symbol: SymbolId(symbol),
                side,
                price: Price(price),
                quantity: Quantity(quantity),
                filled_quantity: Quantity(filled),
                status,
            },
        )
        .boxed()
}

fn fee() -> BoxedStrategy<Fee> {
    (number(), any::<u32>(), number())
        .prop_map(|(payer, asset, amount)| Fee {
            payer: UserId(payer),
            asset_id: AssetId(asset),
            amount: Amount(amount),
        })
        .boxed()
}

fn trade() -> BoxedStrategy<Trade> {
    let ids = (number(), number(), number(), number(), number(), number());
    let terms = (any::<u32>(), any::<u32>(), any::<u32>(), number(), number(), number());
    let rest = (number(), number(), any::<bool>());
    (
        ids,
        terms,
        rest,
        vec(fee(), 0..3),
        vec(change(), 0..7),
        uniform2(order()),
    )
        .prop_map(|(ids, terms, rest, fees, changes, orders)| Trade {
            trade_id: TradeId(ids.0),
            match_seq: MatchSeq(ids.1),
            buy_order_id: OrderId(ids.2),
            sell_order_id: OrderId(ids.3),
            buyer_user_id: UserId(ids.4),
            seller_user_id: UserId(ids.5),
            symbol: SymbolId(terms.0),
            base_asset: AssetId(terms.1),
            quote_asset: AssetId(terms.2),
            price: Price(terms.3),
            quantity: Quantity(terms.4),
            quote_amount: Amount(terms.5),
            buyer_refund: Amount(rest.0),
            seller_refund: Amount(rest.1),
            buyer_is_maker: rest.2,
            fees,
            changes,
            orders,
        })
        .boxed()
}

fn body() -> BoxedStrategy<Body> {
    prop_oneof![
        (number(), change()).prop_map(|(id, change)| Body::Deposit {
            event_id: EventId(id),
            change
        }),
        (number(), change()).prop_map(|(id, change)| Body::Withdrawal {
            event_id: EventId(id),
            change
        }),
        (change(), order()).prop_map(|(change, order)| Body::OrderPlaced { change, order }),
        (change(), order()).prop_map(|(change, order)| Body::OrderCancelled { change, order }),
        trade().prop_map(|trade| Body::Trade(Box::new(trade))),
        (any::<u32>(), number(), digest()).prop_map(|(epoch, first, prev_digest)| Body::EpochStart {
            epoch: Epoch(epoch),
            first_seq: OutputSequence(first),
            prev_digest,
        }),
    ]
    .boxed()
}

/// Any event at all.
pub fn event() -> BoxedStrategy<Event> {
    (any::<u32>(), number(), number(), digest(), body())
        .prop_map(|(epoch, sequence, time, prev_digest, body)| Event {
            epoch: Epoch(epoch),
            output_sequence: OutputSequence(sequence),
            event_time_ms: TimeMs(time),
            prev_digest,
            body,
        })
        .boxed()
}
