//! Whatever valid facts come, books conserve money, are never negative and number their postings without gaps.
use oracle::{Books, Fact, Market, Side, Symbol, Trade};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Try {
    Deposit(u64, u32, u64),
    Withdraw(u64, u32, u64),
    Place(u64, bool, u64, u64),
    Cancel(usize),
    Match(usize, usize, u64),
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let one = prop_oneof![
        3 => (0..4u64, 1..3u32, 1..1_000_000u64).prop_map(|(u, a, n)| Try::Deposit(u, a, n)),
        1 => (0..4u64, 1..3u32, 1..1_000_000u64).prop_map(|(u, a, n)| Try::Withdraw(u, a, n)),
        4 => (0..4u64, any::<bool>(), 1..2_000u64, 1..5_000u64).prop_map(|(u, b, p, q)| Try::Place(u, b, p, q)),
        1 => (0..40usize).prop_map(Try::Cancel),
        6 => (0..40usize, 0..40usize, 1..5_000u64).prop_map(|(b, s, q)| Try::Match(b, s, q)),
    ];
    prop::collection::vec(one, 1..200)
}

fn fact(books: &Books, next: u64, what: &Try) -> Fact {
    match *what {
        Try::Deposit(user, asset, amount) => Fact::Deposit { user, asset, amount },
        Try::Withdraw(user, asset, amount) => Fact::Withdrawal { user, asset, amount },
        Try::Place(user, buy, price, quantity) => {
            let side = if buy { Side::Buy } else { Side::Sell };
            Fact::OrderPlaced {
                user,
                order: next,
                symbol: 1,
                side,
                price,
                quantity,
            }
        }
        Try::Cancel(n) => Fact::OrderCancelled { order: nth(books, n) },
        Try::Match(buy, sell, quantity) => {
            let (buy_order, sell_order) = (nth(books, buy), nth(books, sell));
            let price = books.orders.get(&sell_order).map_or(1, |o| o.price);
            Fact::Trade(Trade {
                trade_id: next,
                buy_order,
                sell_order,
                price,
                quantity,
                fees: vec![],
            })
        }
    }
}

fn nth(books: &Books, n: usize) -> u64 {
    books
        .orders
        .keys()
        .copied()
        .nth(n % books.orders.len().max(1))
        .unwrap_or(0)
}

proptest! {
    #[test]
    fn sound_books(tries in tries(), decimals in 0..3u32) {
        let market = Market { symbols: [(1, Symbol { base: 1, quote: 2, base_decimals: decimals, rates: None })].into() };
        let mut books = Books::new(market);
        let mut next = 0;
        for what in &tries {
            next += 1;
            let fact = fact(&books, next, what);
            let mut after = books.clone();
            // An impossible fact is refused; the books go on without it.
            if after.apply(next, &fact).is_ok() {
                books = after;
            }
        }
        for (asset, (held, external)) in books.conservation() {
            prop_assert_eq!(held, external, "asset {}", asset);
        }
        for account in books.accounts.values() {
            let (mut avail, mut frozen) = (0, 0);
            for (index, p) in account.postings.iter().enumerate() {
                avail += p.delta_avail;
                frozen += p.delta_frozen;
                prop_assert_eq!((p.version, p.avail, p.frozen), (index as u64 + 1, avail, frozen));
                prop_assert!(avail >= 0 && frozen >= 0);
            }
        }
        for order in books.orders.values() {
            let filled: Vec<_> = order.steps.iter().map(|s| s.filled).collect();
            prop_assert!(filled.is_sorted() && filled.iter().all(|f| *f <= order.quantity));
        }
    }
}
