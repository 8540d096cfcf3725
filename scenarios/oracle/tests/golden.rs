//! Golden books: small stories worked out by hand, every posting written down before the code was run. BTC has 8
//! decimals here unless a story says otherwise, so a price is USDT minor units per 10^8 BTC minor units.
use oracle::{Books, Fact, Fee, FeeRates, Market, OracleError, Side, Status, Symbol, Trade};

const BTC: u32 = 1;
const USDT: u32 = 2;
const PAIR: u32 = 1;
const ALICE: u64 = 10;
const BOB: u64 = 11;
const HOUSE: u64 = 900;

fn market(base_decimals: u32) -> Market {
    Market {
        symbols: [(
            PAIR,
            Symbol {
                base: BTC,
                quote: USDT,
                base_decimals,
                rates: None,
            },
        )]
        .into(),
    }
}

fn deposit(user: u64, asset: u32, amount: u64) -> Fact {
    Fact::Deposit { user, asset, amount }
}

fn placed(user: u64, order: u64, side: Side, price: u64, quantity: u64) -> Fact {
    Fact::OrderPlaced {
        user,
        order,
        symbol: PAIR,
        side,
        price,
        quantity,
    }
}

fn trade(trade_id: u64, buy_order: u64, sell_order: u64, price: u64, quantity: u64, fees: Vec<Fee>) -> Fact {
    Fact::Trade(Trade {
        trade_id,
        buy_order,
        sell_order,
        price,
        quantity,
        fees,
    })
}

fn books(base_decimals: u32, facts: Vec<Fact>) -> Result<Books, OracleError> {
    let facts: Vec<_> = facts
        .into_iter()
        .enumerate()
        .map(|(i, fact)| (i as u64 + 1, fact))
        .collect();
    Books::replay(market(base_decimals), &facts)
}

/// (seq, delta avail, delta frozen, avail, frozen) of each posting.
fn postings(books: &Books, user: u64, asset: u32) -> Vec<(u64, i128, i128, i128, i128)> {
    let account = &books.accounts[&(user, asset)];
    for (index, posting) in account.postings.iter().enumerate() {
        assert_eq!(posting.version, index as u64 + 1);
    }
    account
        .postings
        .iter()
        .map(|p| (p.seq, p.delta_avail, p.delta_frozen, p.avail, p.frozen))
        .collect()
}

fn steps(books: &Books, order: u64) -> Vec<(u64, u64, Status)> {
    books.orders[&order]
        .steps
        .iter()
        .map(|s| (s.seq, s.filled, s.status))
        .collect()
}

fn conserved(books: &Books) {
    for (asset, (held, external)) in books.conservation() {
        assert_eq!(held, external, "asset {asset}");
    }
}

#[test]
fn partial_fill_then_price_improvement_refunds_at_the_last_fill() {
    // Alice bids 2 BTC at 100.00 USDT (price 10,000 cents): locks 200.00. Bob sells 0.5 at 100.00 and 1.5 at 90.00:
    // fills of 50.00 and 135.00, so 200 - 50 - 135 = 15.00 comes back at the second fill, none at the first.
    let b = books(
        8,
        vec![
            deposit(ALICE, USDT, 50_000),
            deposit(BOB, BTC, 300_000_000),
            placed(ALICE, 1, Side::Buy, 10_000, 200_000_000),
            placed(BOB, 2, Side::Sell, 10_000, 50_000_000),
            trade(1, 1, 2, 10_000, 50_000_000, vec![]),
            placed(BOB, 3, Side::Sell, 9_000, 150_000_000),
            trade(2, 1, 3, 9_000, 150_000_000, vec![]),
        ],
    )
    .unwrap();
    assert_eq!(
        postings(&b, ALICE, USDT),
        [
            (1, 50_000, 0, 50_000, 0),
            (3, -20_000, 20_000, 30_000, 20_000),
            (5, 0, -5_000, 30_000, 15_000),
            (7, 1_500, -15_000, 31_500, 0),
        ]
    );
    assert_eq!(
        postings(&b, ALICE, BTC),
        [(5, 50_000_000, 0, 50_000_000, 0), (7, 150_000_000, 0, 200_000_000, 0)]
    );
    assert_eq!(
        postings(&b, BOB, BTC),
        [
            (2, 300_000_000, 0, 300_000_000, 0),
            (4, -50_000_000, 50_000_000, 250_000_000, 50_000_000),
            (5, 0, -50_000_000, 250_000_000, 0),
            (6, -150_000_000, 150_000_000, 100_000_000, 150_000_000),
            (7, 0, -150_000_000, 100_000_000, 0),
        ]
    );
    assert_eq!(
        postings(&b, BOB, USDT),
        [(5, 5_000, 0, 5_000, 0), (7, 13_500, 0, 18_500, 0)]
    );
    assert_eq!(
        steps(&b, 1),
        [
            (3, 0, Status::Placed),
            (5, 50_000_000, Status::Partial),
            (7, 200_000_000, Status::Filled)
        ]
    );
    assert_eq!((b.trades[&5].quote_amount, b.trades[&5].buyer_refund), (5_000, 0));
    assert_eq!(
        (
            b.trades[&7].quote_amount,
            b.trades[&7].buyer_refund,
            b.trades[&7].seller_refund
        ),
        (13_500, 1_500, 0)
    );
    conserved(&b);
}

#[test]
fn a_self_trade_posts_four_times_to_two_accounts() {
    // Alice sells 1 BTC to herself at 70.00: the money and the coin come back, each through two versions.
    let b = books(
        8,
        vec![
            deposit(ALICE, USDT, 7_000),
            deposit(ALICE, BTC, 100_000_000),
            placed(ALICE, 1, Side::Buy, 7_000, 100_000_000),
            placed(ALICE, 2, Side::Sell, 7_000, 100_000_000),
            trade(1, 1, 2, 7_000, 100_000_000, vec![]),
        ],
    )
    .unwrap();
    assert_eq!(
        postings(&b, ALICE, BTC),
        [
            (2, 100_000_000, 0, 100_000_000, 0),
            (4, -100_000_000, 100_000_000, 0, 100_000_000),
            (5, 100_000_000, 0, 100_000_000, 100_000_000),
            (5, 0, -100_000_000, 100_000_000, 0),
        ]
    );
    assert_eq!(
        postings(&b, ALICE, USDT),
        [
            (1, 7_000, 0, 7_000, 0),
            (3, -7_000, 7_000, 0, 7_000),
            (5, 0, -7_000, 0, 0),
            (5, 7_000, 0, 7_000, 0),
        ]
    );
    assert_eq!(
        b.trades[&5].versions,
        [
            ((ALICE, BTC), 3),
            ((ALICE, USDT), 3),
            ((ALICE, BTC), 4),
            ((ALICE, USDT), 4)
        ]
    );
    conserved(&b);
}

#[test]
fn a_cancel_after_a_partial_fill_returns_the_rest() {
    // Alice bids 3 units at 5 (decimals 0): locks 15. One unit fills at 4: spends 4. Cancel returns 15 - 4 = 11.
    // Bob offers 4 units: one is sold, cancel returns 3.
    let b = books(
        0,
        vec![
            deposit(ALICE, USDT, 20),
            deposit(BOB, BTC, 4),
            placed(ALICE, 1, Side::Buy, 5, 3),
            placed(BOB, 2, Side::Sell, 4, 4),
            trade(1, 1, 2, 4, 1, vec![]),
            Fact::OrderCancelled { order: 1 },
            Fact::OrderCancelled { order: 2 },
        ],
    )
    .unwrap();
    assert_eq!(
        postings(&b, ALICE, USDT),
        [
            (1, 20, 0, 20, 0),
            (3, -15, 15, 5, 15),
            (5, 0, -4, 5, 11),
            (6, 11, -11, 16, 0)
        ]
    );
    assert_eq!(
        postings(&b, BOB, BTC),
        [(2, 4, 0, 4, 0), (4, -4, 4, 0, 4), (5, 0, -1, 0, 3), (7, 3, -3, 3, 0)]
    );
    assert_eq!(
        steps(&b, 1),
        [
            (3, 0, Status::Placed),
            (5, 1, Status::Partial),
            (6, 1, Status::Cancelled)
        ]
    );
    conserved(&b);
}

#[test]
fn an_inexact_division_stays_with_the_buyer() {
    // One decimal: price 15, quantity 7 locks 15 x 7 / 10 = 10.5 -> 10. Fills of 3 and 4: 4.5 -> 4 and 6.0 -> 6, so
    // 10 - 4 - 6 = 0 is left. With fills of 1, 1 and 5: 1.5 -> 1, 1.5 -> 1, 7.5 -> 7, so 10 - 9 = 1 goes back.
    let story = |fills: &[u64]| {
        let mut facts = vec![
            deposit(ALICE, USDT, 10),
            deposit(BOB, BTC, 7),
            placed(ALICE, 1, Side::Buy, 15, 7),
            placed(BOB, 2, Side::Sell, 15, 7),
        ];
        facts.extend(
            fills
                .iter()
                .enumerate()
                .map(|(i, q)| trade(i as u64 + 1, 1, 2, 15, *q, vec![])),
        );
        books(1, facts).unwrap()
    };
    let two = story(&[3, 4]);
    assert_eq!(
        postings(&two, ALICE, USDT),
        [
            (1, 10, 0, 10, 0),
            (3, -10, 10, 0, 10),
            (5, 0, -4, 0, 6),
            (6, 0, -6, 0, 0)
        ]
    );
    assert_eq!(two.accounts[&(BOB, USDT)].balance(), (10, 0));
    let three = story(&[1, 1, 5]);
    assert_eq!(
        postings(&three, ALICE, USDT)[2..],
        [(5, 0, -1, 0, 9), (6, 0, -1, 0, 8), (7, 1, -8, 1, 0)]
    );
    assert_eq!(three.accounts[&(BOB, USDT)].balance(), (9, 0));
    assert_eq!(three.trades[&7].buyer_refund, 1);
    conserved(&two);
    conserved(&three);
}

#[test]
fn fees_come_out_of_what_each_side_receives() {
    // 100 units at 2 (decimals 0): Bob gets 200 less 3 taker fee, Alice 100 less 1 maker fee; the house gets both.
    let fees = vec![
        Fee {
            payer: ALICE,
            asset: BTC,
            amount: 1,
            account: HOUSE,
        },
        Fee {
            payer: BOB,
            asset: USDT,
            amount: 3,
            account: HOUSE,
        },
    ];
    let b = books(
        0,
        vec![
            deposit(ALICE, USDT, 200),
            deposit(BOB, BTC, 100),
            placed(ALICE, 1, Side::Buy, 2, 100),
            placed(BOB, 2, Side::Sell, 2, 100),
            trade(1, 1, 2, 2, 100, fees),
        ],
    )
    .unwrap();
    assert_eq!(postings(&b, ALICE, BTC), [(5, 99, 0, 99, 0)]);
    assert_eq!(postings(&b, BOB, USDT), [(5, 197, 0, 197, 0)]);
    assert_eq!(postings(&b, HOUSE, BTC), [(5, 1, 0, 1, 0)]);
    assert_eq!(postings(&b, HOUSE, USDT), [(5, 3, 0, 3, 0)]);
    assert_eq!(b.trades[&5].versions[4..], [((HOUSE, BTC), 1), ((HOUSE, USDT), 1)]);
    conserved(&b);
}

#[test]
fn a_fee_is_what_the_market_charges_the_side_that_was_there_first_and_the_other() {
    // Makers pay 1%, takers 1.6%. 130 units at 2: Alice was there first, so 1.3 of 130, and Bob pays 4.16 of 260.
    let traded = |fees: &[(u64, u32, u64)]| {
        let mut market = market(0);
        market.symbols.get_mut(&PAIR).unwrap().rates = Some(FeeRates {
            maker_ppm: 10_000,
            taker_ppm: 16_000,
        });
        let mut books = Books::new(market);
        let fees = fees.iter().map(|(payer, asset, amount)| Fee {
            payer: *payer,
            asset: *asset,
            amount: *amount,
            account: HOUSE,
        });
        let facts = [
            deposit(ALICE, USDT, 260),
            deposit(BOB, BTC, 130),
            placed(ALICE, 1, Side::Buy, 2, 130),
            placed(BOB, 2, Side::Sell, 2, 130),
            trade(1, 1, 2, 2, 130, fees.collect()),
        ];
        let mut apply = |(at, fact): (usize, &Fact)| books.apply(at as u64 + 1, fact);
        facts.iter().enumerate().try_for_each(&mut apply)
    };
    assert_eq!(traded(&[(ALICE, BTC, 1), (BOB, USDT, 4)]), Ok(()));
    let wrong = |asset, charged, expected| {
        Err(OracleError::WrongFee {
            seq: 5,
            trade: 1,
            asset,
            charged,
            expected,
        })
    };
    assert_eq!(
        traded(&[(ALICE, BTC, 2), (BOB, USDT, 4)]),
        wrong(BTC, 2, 1),
        "rounded up, or the taker's"
    );
    assert_eq!(
        traded(&[(ALICE, BTC, 1), (BOB, USDT, 2)]),
        wrong(USDT, 2, 4),
        "the maker's"
    );
    assert_eq!(traded(&[(ALICE, BTC, 1)]), wrong(USDT, 0, 4), "none");
}

#[test]
fn a_withdrawal_takes_what_is_available_and_no_more() {
    let facts = |amount| {
        vec![
            deposit(ALICE, USDT, 100),
            placed(ALICE, 1, Side::Buy, 6, 10),
            Fact::Withdrawal {
                user: ALICE,
                asset: USDT,
                amount,
            },
        ]
    };
    let b = books(0, facts(40)).unwrap();
    assert_eq!(
        postings(&b, ALICE, USDT),
        [(1, 100, 0, 100, 0), (2, -60, 60, 40, 60), (3, -40, 0, 0, 60)]
    );
    assert_eq!(b.external[&USDT], 60);
    conserved(&b);
    assert_eq!(
        books(0, facts(41)).unwrap_err(),
        OracleError::Overdrawn {
            seq: 3,
            user: ALICE,
            asset: USDT,
            avail: -1,
            frozen: 60
        }
    );
}

#[test]
fn contradictions_are_named() {
    let base = || {
        vec![
            deposit(ALICE, USDT, 100),
            deposit(BOB, BTC, 100),
            placed(ALICE, 1, Side::Buy, 5, 10),
            placed(BOB, 2, Side::Sell, 4, 10),
        ]
    };
    let with = |fact: Fact| {
        let mut facts = base();
        facts.push(fact);
        books(0, facts).unwrap_err()
    };
    let mismatch = |order, why| OracleError::Mismatch {
        seq: 5,
        trade: 1,
        order,
        why,
    };
    assert_eq!(
        with(trade(1, 1, 2, 6, 1, vec![])),
        mismatch(1, "the price is beyond its limit")
    );
    assert_eq!(
        with(trade(1, 1, 2, 3, 1, vec![])),
        mismatch(2, "the price is beyond its limit")
    );
    assert_eq!(with(trade(1, 1, 2, 5, 11, vec![])), mismatch(1, "it has less left"));
    assert_eq!(
        with(trade(1, 2, 1, 5, 1, vec![])),
        mismatch(2, "it is on the other side")
    );
    assert_eq!(
        with(trade(1, 1, 9, 5, 1, vec![])),
        OracleError::UnknownOrder { seq: 5, order: 9 }
    );
    assert_eq!(
        with(placed(BOB, 1, Side::Sell, 5, 1)),
        OracleError::OrderTwice { seq: 5, order: 1 }
    );
    let fee = Fee {
        payer: ALICE,
        asset: USDT,
        amount: 1,
        account: HOUSE,
    };
    assert_eq!(
        with(trade(1, 1, 2, 5, 1, vec![fee])),
        OracleError::BadFee {
            seq: 5,
            trade: 1,
            payer: ALICE,
            asset: USDT
        }
    );
    let mut closed = base();
    closed.extend([Fact::OrderCancelled { order: 1 }, trade(1, 1, 2, 5, 1, vec![])]);
    assert_eq!(
        books(0, closed).unwrap_err(),
        OracleError::OrderClosed { seq: 6, order: 1 }
    );
}

/// Rule 4: which of the two the engine meant is not for the books to say.
#[test]
fn a_trade_id_used_twice_leaves_both_trades() {
    let b = books(
        0,
        vec![
            deposit(ALICE, USDT, 100),
            deposit(BOB, BTC, 100),
            placed(ALICE, 1, Side::Buy, 2, 20),
            placed(BOB, 2, Side::Sell, 2, 20),
            trade(7, 1, 2, 2, 5, vec![]),
            trade(7, 1, 2, 2, 10, vec![]),
        ],
    )
    .unwrap();
    let both: Vec<_> = b
        .trades
        .iter()
        .map(|(seq, t)| (*seq, t.trade.trade_id, t.trade.quantity))
        .collect();
    assert_eq!(both, [(5, 7, 5), (6, 7, 10)]);
    assert_eq!(b.accounts[&(ALICE, BTC)].balance(), (15, 0));
    assert_eq!(b.accounts[&(BOB, USDT)].balance(), (30, 0));
    conserved(&b);
}
