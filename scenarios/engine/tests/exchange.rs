//! The matching engine command by command, with numbers worked out by hand: locks, price improvement, refunds, priority,
//! self-trades, fees, and everything it declines.

use engine::command::{Command, Matching, Rejection};
use engine::exchange::Exchange;
use proptest::prelude::*;
use settlement_events::{
    Amount, Asset, AssetId, Body, EventId, MoneyError, OrderId, OrderStatus, Price, Quantity, Registry, Side, Symbol,
    SymbolId, Trade, UserId,
};

const BASE: AssetId = AssetId(1);
const QUOTE: AssetId = AssetId(2);
const FEES: u64 = 900;

/// One symbol; the base has 2 decimals, so a price is for 100 minor units; maker 1%, taker 2%.
fn exchange() -> Exchange {
    let asset = |id, name: &str| Asset {
        id,
        name: name.into(),
        decimals: 2,
    };
    let symbol = Symbol {
        id: SymbolId(1),
        name: "A_B".into(),
        base: BASE,
        quote: QUOTE,
        maker_fee_ppm: 10_000,
        taker_fee_ppm: 20_000,
    };
    let registry = Registry::new(
        vec![asset(BASE, "A"), asset(QUOTE, "B")],
        vec![symbol],
        vec![UserId(FEES)],
    );
    Exchange::new(registry.expect("consistent"))
}

fn run(exchange: &mut Exchange, command: Command) -> Result<Vec<Body>, Rejection> {
    let mut out = Vec::new();
    exchange.execute(&command, &mut out).map(|()| out)
}

fn deposit(user: u64, asset: AssetId, amount: u64) -> Command {
    Command::Deposit {
        event_id: EventId(1),
        user: UserId(user),
        asset,
        amount: Amount(amount),
    }
}

fn place(user: u64, side: Side, price: u64, quantity: u64, matching: Matching) -> Command {
    let (price, quantity) = (Price(price), Quantity(quantity));
    Command::Place {
        user: UserId(user),
        symbol: SymbolId(1),
        side,
        price,
        quantity,
        matching,
    }
}

/// An exchange where users 1 to 3 have plenty of both assets.
fn funded() -> Exchange {
    let mut exchange = exchange();
    for user in 1..=3 {
        for asset in [BASE, QUOTE] {
            run(&mut exchange, deposit(user, asset, 1_000_000)).expect("accepted");
        }
    }
    exchange
}

fn trades(bodies: &[Body]) -> Vec<&Trade> {
    let mut trades = Vec::new();
    for body in bodies {
        if let Body::Trade(trade) = body {
            trades.push(&**trade);
        }
    }
    trades
}

fn held(exchange: &Exchange, user: u64, asset: AssetId) -> (u64, u64) {
    let account = exchange.account(UserId(user), asset);
    (account.avail.0, account.frozen.0)
}

#[test]
fn a_better_price_and_the_roundings_come_back_at_the_last_fill() {
    let mut exchange = funded();
    run(&mut exchange, place(1, Side::Sell, 301, 33, Matching::Limit)).expect("accepted");
    run(&mut exchange, place(1, Side::Sell, 305, 50, Matching::Limit)).expect("accepted");
    // Locks 399 x 83 / 100 = 331.17, so 331.
    let bodies = run(&mut exchange, place(2, Side::Buy, 399, 83, Matching::Limit)).expect("accepted");
    let [first, last] = trades(&bodies)[..] else {
        panic!("two makers")
    };
    // 301 x 33 / 100 = 99.33; 305 x 50 / 100 = 152.5; so 331 - 99 - 152 = 80 come back, at the second.
    assert_eq!((first.quote_amount.0, first.buyer_refund.0), (99, 0));
    assert_eq!((last.quote_amount.0, last.buyer_refund.0), (152, 80));
    assert_eq!(held(&exchange, 2, QUOTE), (1_000_000 - 99 - 152, 0));
    // The taker pays 2% of 33 and of 50 shares, rounded toward zero: 0 and 1.
    assert_eq!(held(&exchange, 2, BASE), (1_000_000 + 83 - 1, 0));
    // The maker pays 1% of 99 and of 152: 0 and 1.
    assert_eq!(held(&exchange, 1, QUOTE), (1_000_000 + 99 + 152 - 1, 0));
    assert_eq!(
        (held(&exchange, FEES, BASE), held(&exchange, FEES, QUOTE)),
        ((1, 0), (1, 0))
    );
    assert_eq!(
        (
            first.fees.len(),
            first.changes.len(),
            last.fees.len(),
            last.changes.len()
        ),
        (0, 4, 2, 6)
    );
}

#[test]
fn a_cancelled_buy_gets_back_what_it_did_not_spend() {
    let mut exchange = funded();
    run(&mut exchange, place(1, Side::Sell, 301, 33, Matching::Limit)).expect("accepted");
    // Locks 399; spends 99; the rest is cancelled at once.
    let bodies = run(&mut exchange, place(2, Side::Buy, 399, 100, Matching::Immediate)).expect("accepted");
    let Some(Body::OrderCancelled { change, order }) = bodies.last() else {
        panic!("{bodies:?}")
    };
    assert_eq!(
        (change.delta_avail.0, order.filled_quantity.0, order.version.0),
        (300, 33, 3)
    );
    assert_eq!(held(&exchange, 2, QUOTE), (1_000_000 - 99, 0));
    assert_eq!(exchange.open_orders().count(), 0);
}

#[test]
fn price_then_time_and_the_makers_price() {
    let mut exchange = funded();
    for (user, price) in [(1, 310), (2, 300), (3, 300)] {
        run(&mut exchange, place(user, Side::Sell, price, 10, Matching::Limit)).expect("accepted");
    }
    let bodies = run(&mut exchange, place(1, Side::Buy, 310, 25, Matching::Limit)).expect("accepted");
    let matched: Vec<_> = trades(&bodies)
        .iter()
        .map(|t| (t.sell_order_id.0, t.price.0, t.quantity.0))
        .collect();
    assert_eq!(matched, [(2, 300, 10), (3, 300, 10), (1, 310, 5)]);
    let last = trades(&bodies)[2];
    assert_eq!(
        (last.buyer_user_id, last.seller_user_id),
        (UserId(1), UserId(1)),
        "a self-trade is a trade"
    );
    assert_eq!(
        last.orders.map(|order| order.status),
        [OrderStatus::Filled, OrderStatus::Partial]
    );
    assert!(!last.buyer_is_maker);
}

#[test]
fn hidden_orders_are_reached_by_name_only() {
    let mut exchange = funded();
    run(&mut exchange, place(1, Side::Sell, 300, 10, Matching::Hidden)).expect("accepted");
    let bodies = run(&mut exchange, place(2, Side::Buy, 400, 10, Matching::Immediate)).expect("accepted");
    assert_eq!(trades(&bodies).len(), 0);
    let against = |price, quantity, maker| place(2, Side::Buy, price, quantity, Matching::Against(OrderId(maker)));
    for (command, detail) in [
        (against(400, 10, 99), "not open"),
        (against(299, 10, 1), "does not cross"),
        (against(400, 11, 1), "less than that"),
        (
            place(2, Side::Sell, 300, 1, Matching::Against(OrderId(1))),
            "other side",
        ),
    ] {
        let rejection = run(&mut exchange, command).expect_err(detail);
        assert!(rejection.to_string().contains(detail), "{rejection}");
    }
    let bodies = run(&mut exchange, against(400, 10, 1)).expect("accepted");
    assert_eq!(trades(&bodies).len(), 1);
}

#[test]
fn what_is_declined_changes_nothing() {
    let mut exchange = funded();
    let before = format!("{exchange:?}");
    let too_large = i64::MAX as u64 + 1;
    let withdraw = |asset, amount| Command::Withdraw {
        event_id: EventId(1),
        user: UserId(1),
        asset,
        amount: Amount(amount),
    };
    let cancel = |user, order| Command::Cancel {
        user: UserId(user),
        order: OrderId(order),
    };
    for (command, reason) in [
        (deposit(1, AssetId(9), 1), "asset 9 is not"),
        (deposit(1, BASE, 0), "the amount is zero"),
        (deposit(1, BASE, too_large), "largest amount"),
        (deposit(1, BASE, i64::MAX as u64), "deposit: the result is above"),
        (withdraw(BASE, 1_000_001), "not 1000001"),
        (withdraw(QUOTE, 0), "the amount is zero"),
        (place(1, Side::Buy, 100, 0, Matching::Limit), "the quantity is zero"),
        (place(1, Side::Sell, 0, 1, Matching::Limit), "the price is zero"),
        (place(1, Side::Buy, 1, 1, Matching::Limit), "worth is zero"),
        (place(1, Side::Buy, 100_000_100, 1, Matching::Limit), "not 1000001"),
        (place(1, Side::Sell, 100, 1_000_001, Matching::Limit), "not 1000001"),
        (
            place(1, Side::Buy, too_large, 1, Matching::Limit),
            "price: the result is above",
        ),
        (
            place(1, Side::Sell, i64::MAX as u64, 1_000, Matching::Limit),
            "price x quantity: the result is above",
        ),
        (place(FEES, Side::Sell, 100, 1, Matching::Limit), "fee account"),
        (cancel(1, 5), "no open order 5"),
    ] {
        let rejection = run(&mut exchange, command).expect_err(reason);
        assert!(rejection.to_string().contains(reason), "{command}: {rejection}");
        assert_eq!(format!("{exchange:?}"), before, "{command}");
    }
    run(&mut exchange, place(1, Side::Sell, 100, 5, Matching::Limit)).expect("accepted");
    assert!(
        matches!(run(&mut exchange, cancel(2, 1)), Err(Rejection::UnknownOrder { .. })),
        "somebody else's order"
    );
}

#[test]
fn the_supply_of_an_asset_is_bounded_so_that_no_account_can_overflow() {
    let mut exchange = exchange();
    run(&mut exchange, deposit(1, QUOTE, i64::MAX as u64)).expect("exactly full");
    let declined = run(&mut exchange, deposit(2, QUOTE, 1)).expect_err("one too many");
    assert_eq!(
        declined,
        Rejection::Money {
            what: "deposit",
            source: MoneyError::Overflow
        }
    );
    run(&mut exchange, deposit(2, BASE, i64::MAX as u64)).expect("exactly full");
    // All there is for all there is: 100 base minor units for 100 quote minor units.
    run(
        &mut exchange,
        place(2, Side::Sell, 100, i64::MAX as u64, Matching::Limit),
    )
    .expect("accepted");
    let bodies = run(
        &mut exchange,
        place(1, Side::Buy, 100, i64::MAX as u64, Matching::Limit),
    )
    .expect("accepted");
    assert_eq!(trades(&bodies)[0].quote_amount, Amount(i64::MAX as u64));
}

proptest! {
    #[test]
    fn any_command_is_carried_out_whole_or_not_at_all(
        commands in prop::collection::vec(
            (1..4_u64, any::<bool>(), prop_oneof![1..400_u64, any::<u64>()], prop_oneof![1..2_000_u64, any::<u64>()], 0..5_u8),
            1..60,
        ),
    ) {
        let mut exchange = funded();
        for (user, buy, price, quantity, how) in commands {
            let side = if buy { Side::Buy } else { Side::Sell };
            let command = match how {
                0 => place(user, side, price, quantity, Matching::Immediate),
                1 => Command::Cancel { user: UserId(user), order: OrderId(quantity % 20) },
                2 => deposit(user, if buy { QUOTE } else { BASE }, quantity),
                _ => place(user, side, price, quantity, Matching::Limit),
            };
            let before = format!("{exchange:?}");
            if run(&mut exchange, command).is_err() {
                prop_assert_eq!(format!("{exchange:?}"), before);
            }
            for asset in [BASE, QUOTE] {
                let all = exchange.accounts().filter(|(_, of, _)| *of == asset);
                let held: u128 = all.map(|(_, _, a)| u128::from(a.avail.0) + u128::from(a.frozen.0)).sum();
                prop_assert_eq!(held, u128::from(exchange.supply(asset).0));
            }
        }
    }
}
