//! One event of each kind with numbers worked out by hand, in one valid stream, for the tests of every crate that
//! stores, prints or transports events. Not a workload: the engine makes those.
//!
//! The story, in the example registry's `BTC_USDT` (8 and 6 decimals, maker 0.05%, taker 0.1%): user 7 deposits
//! 1,000 USDT and bids for 0.03 BTC at 20,000.50; user 8 deposits 0.02 BTC and sells 0.01 BTC to that bid with a
//! limit of 20,000; user 7 cancels the rest and withdraws 100 USDT; the stream goes on in epoch 2.

use crate::codec::Digest;
use crate::event::{BalanceChange, Body, Event, Fee, OrderState, OrderStatus, Side, Trade};
use crate::ids::{
    AssetId, Epoch, EventId, MatchSeq, OrderId, OutputSequence, SymbolId, TimeMs, TradeId, UserId, Version,
};
use crate::money::{Amount, Price, Quantity, SignedAmount};

const BTC: u32 = 1;
const USDT: u32 = 3;
/// 20,000.50 USDT for a BTC.
const BID: u64 = 20_000_500_000;
/// 20,000 USDT for a BTC.
const ASK: u64 = 20_000_000_000;
/// 0.01 BTC, the quantity that is traded.
const TRADED: u64 = 1_000_000;
/// What the bid for 0.03 BTC locks: 600.015 USDT.
const LOCKED: u64 = 600_015_000;
/// What the buyer spends: 0.01 BTC at 20,000.50, 200.005 USDT.
const SPENT: u64 = 200_005_000;
/// The taker's fee, 0.1% of 200.005 USDT, rounded toward zero: 0.200005.
const SELLER_FEE: u64 = 200_005;
/// The maker's fee, 0.05% of 0.01 BTC: 0.000005.
const BUYER_FEE: u64 = 500;
/// 12 April 2021, 13:30 UTC.
const START_MS: u64 = 1_618_234_200_000;

/// Everything a change says, in the order of its fields.
fn change(user: u64, asset: u32, version: u64, deltas: (i64, i64), after: (u64, u64)) -> BalanceChange {
    BalanceChange {
        user_id: UserId(user),
        asset_id: AssetId(asset),
        version: Version(version),
        delta_avail: SignedAmount(deltas.0),
        delta_frozen: SignedAmount(deltas.1),
        avail: Amount(after.0),
        frozen: Amount(after.1),
    }
}

fn bid(version: u64, filled: u64, status: OrderStatus) -> OrderState {
    OrderState {
        user_id: UserId(7),
        order_id: OrderId(501),
        version: Version(version),
        symbol: SymbolId(1),
        side: Side::Buy,
        price: Price(BID),
        quantity: Quantity(3_000_000),
        filled_quantity: Quantity(filled),
        status,
    }
}

fn ask(version: u64, filled: u64, status: OrderStatus) -> OrderState {
    OrderState {
        user_id: UserId(8),
        order_id: OrderId(502),
        version: Version(version),
        symbol: SymbolId(1),
        side: Side::Sell,
        price: Price(ASK),
        quantity: Quantity(TRADED),
        filled_quantity: Quantity(filled),
        status,
    }
}

/// The trade of the story: two fees, a price better than the seller's limit.
#[must_use]
pub fn trade() -> Trade {
    Trade {
        trade_id: TradeId(9_001),
        match_seq: MatchSeq(1),
        buy_order_id: OrderId(501),
        sell_order_id: OrderId(502),
        buyer_user_id: UserId(7),
        seller_user_id: UserId(8),
        symbol: SymbolId(1),
        base_asset: AssetId(BTC),
        quote_asset: AssetId(USDT),
        price: Price(BID),
        quantity: Quantity(TRADED),
        quote_amount: Amount(SPENT),
        buyer_refund: Amount::ZERO,
        seller_refund: Amount::ZERO,
        buyer_is_maker: true,
        fees: vec![
            Fee {
                payer: UserId(7),
                asset_id: AssetId(BTC),
                amount: Amount(BUYER_FEE),
            },
            Fee {
                payer: UserId(8),
                asset_id: AssetId(USDT),
                amount: Amount(SELLER_FEE),
            },
        ],
        changes: vec![
            change(7, BTC, 1, (999_500, 0), (999_500, 0)),
            change(7, USDT, 3, (0, -200_005_000), (399_985_000, 400_010_000)),
            change(8, BTC, 3, (0, -1_000_000), (1_000_000, 0)),
            change(8, USDT, 1, (199_804_995, 0), (199_804_995, 0)),
            change(900_001, BTC, 1, (500, 0), (500, 0)),
            change(900_001, USDT, 1, (200_005, 0), (200_005, 0)),
        ],
        orders: [
            bid(2, TRADED, OrderStatus::Partial),
            ask(2, TRADED, OrderStatus::Filled),
        ],
    }
}

/// Puts bodies into one chained stream, one second apart, from sequence 1 of epoch 1.
#[must_use]
pub fn chain(bodies: Vec<Body>) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::with_capacity(bodies.len());
    for (output_sequence, body) in (1..).zip(bodies) {
        events.push(Event {
            epoch: Epoch(1),
            output_sequence: OutputSequence(output_sequence),
            event_time_ms: TimeMs(START_MS + output_sequence * 1_000),
            prev_digest: events.last().map_or(Digest::ZERO, Event::digest),
            body,
        });
    }
    events
}

/// The whole story, one valid chained stream with every kind of event in it.
#[must_use]
pub fn stream() -> Vec<Event> {
    let lock = LOCKED as i64;
    let mut events = chain(vec![
        Body::Deposit {
            event_id: EventId(31),
            change: change(7, USDT, 1, (1_000_000_000, 0), (1_000_000_000, 0)),
        },
        Body::Deposit {
            event_id: EventId(32),
            change: change(8, BTC, 1, (2_000_000, 0), (2_000_000, 0)),
        },
        Body::OrderPlaced {
            change: change(7, USDT, 2, (-lock, lock), (399_985_000, LOCKED)),
            order: bid(1, 0, OrderStatus::Placed),
        },
        Body::OrderPlaced {
            change: change(8, BTC, 2, (-1_000_000, 1_000_000), (1_000_000, 1_000_000)),
            order: ask(1, 0, OrderStatus::Placed),
        },
        Body::Trade(Box::new(trade())),
        Body::OrderCancelled {
            change: change(7, USDT, 4, (400_010_000, -400_010_000), (799_995_000, 0)),
            order: bid(3, TRADED, OrderStatus::Cancelled),
        },
        Body::Withdrawal {
            event_id: EventId(33),
            change: change(7, USDT, 5, (-100_000_000, 0), (699_995_000, 0)),
        },
    ]);
    let prev_digest = events.last().map_or(Digest::ZERO, Event::digest);
    events.push(Event {
        epoch: Epoch(2),
        output_sequence: OutputSequence(10),
        event_time_ms: TimeMs(START_MS + 60_000),
        prev_digest,
        body: Body::EpochStart {
            epoch: Epoch(2),
            first_seq: OutputSequence(10),
            prev_digest,
        },
    });
    events
}
