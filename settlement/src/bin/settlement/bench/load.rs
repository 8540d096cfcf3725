//! The stream that `settlement bench` settles: made up, valid in every point that settlement checks, and the same for the
//! same seed. A prologue of deposits and orders, then nothing but trades, so that what is measured is trades.
//!
//! Each user has one buy and one sell order, of different symbols where there are several, so large that no trade ever
//! fills them. Users get shares of the trades as a few busy ones and many quiet ones do (weight 1 / rank). Prices are a
//! few minor units of quote for a minor unit of base: what a trade costs the database does not depend on them. Fees are
//! those of the registry. What the accounts hold in the end is kept, to compare the tables with.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use settlement_events::registry::FEE_PPM_MAX;
use settlement_events::{
    Amount, AssetId, BalanceChange, Body, Digest, Envelope, Epoch, Event, EventId, Fee, MatchSeq, MoneyError, OrderId,
    OrderState, OrderStatus, OutputSequence, Price, Quantity, Registry, Side, SignedAmount, Symbol, SymbolId, TimeMs,
    Trade, TradeId, UserId, Version, quote_amount,
};

/// Users. Thousands of accounts, far more than the database can keep in a cache of a few rows, and few enough that the
/// prologue of the slowest design takes seconds.
const USERS: u64 = 1_000;

/// What every order is for, in minor units of base. Trades are of at most [`TRADED_MAX`], so it is never filled.
const ORDERED: u64 = 1_000_000_000_000_000;

/// The largest trade.
const TRADED_MAX: u64 = 1_000_000;

/// The time of the first event. Nothing reads a clock.
const START_MS: u64 = 1_700_000_000_000;

/// What an account holds, in minor units, after how many changes.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    version: Version,
    avail: Amount,
    frozen: Amount,
}

/// The stream, as far as it was made.
pub struct Load {
    registry: Registry,
    random: ChaCha8Rng,
    accounts: BTreeMap<(UserId, AssetId), Account>,
    orders: Vec<OrderState>,
    /// Places in `orders` of each symbol's buy and sell orders, with their summed weights.
    books: Vec<Book>,
    matches: BTreeMap<SymbolId, u64>,
    last_sequence: u64,
    last_digest: Digest,
    trades: u64,
    started: bool,
}

/// Who trades a symbol.
struct Book {
    symbol: Symbol,
    buys: Shares,
    sells: Shares,
}

/// Places, each with the sum of the weights up to it.
#[derive(Default)]
struct Shares(Vec<(u64, usize)>);

impl Shares {
    fn add(&mut self, weight: u64, place: usize) {
        let before = self.0.last().map_or(0, |(sum, _)| *sum);
        self.0.push((before + weight, place));
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> Option<usize> {
        let total = self.0.last().map(|(sum, _)| *sum)?;
        let drawn = random.next_u64() % total;
        let at = self.0.partition_point(|(sum, _)| *sum <= drawn);
        self.0.get(at).map(|(_, place)| *place)
    }
}

impl Load {
    /// Of a seed, for the symbols of a registry.
    pub fn new(registry: &Registry, seed: u64) -> Self {
        Self {
            registry: registry.clone(),
            random: ChaCha8Rng::seed_from_u64(seed),
            accounts: BTreeMap::new(),
            orders: Vec::new(),
            books: Vec::new(),
            matches: BTreeMap::new(),
            last_sequence: 0,
            last_digest: Digest::ZERO,
            trades: 0,
            started: false,
        }
    }

    /// The deposits and the orders, with which the stream begins. Empty when it was asked for before.
    pub fn prologue(&mut self) -> Result<Vec<Envelope>, MoneyError> {
        let mut out = Vec::new();
        if std::mem::replace(&mut self.started, true) {
            return Ok(out);
        }
        let symbols = self.registry.symbols().to_vec();
        self.books = symbols
            .iter()
            .map(|symbol| Book {
                symbol: symbol.clone(),
                buys: Shares::default(),
                sells: Shares::default(),
            })
            .collect();
        let count = symbols.len() as u64;
        for user in 1..=USERS {
            for (side, at) in [(Side::Buy, user % count), (Side::Sell, (user + 1) % count)] {
                let at = usize::try_from(at).unwrap_or_default();
                self.place(UserId(user), side, at, &symbols[at], &mut out)?;
            }
        }
        Ok(out)
    }

    /// The next trades.
    pub fn trades(&mut self, count: usize) -> Result<Vec<Envelope>, MoneyError> {
        let mut out = Vec::with_capacity(count);
        while out.len() < count {
            let at = usize::try_from(self.random.next_u64() % self.books.len() as u64).unwrap_or_default();
            let book = &self.books[at];
            let (Some(buy), Some(sell)) = (book.buys.draw(&mut self.random), book.sells.draw(&mut self.random)) else {
                continue;
            };
            // A trade with oneself is legal and rare; here it would only make fewer accounts of four.
            if self.orders[buy].user_id == self.orders[sell].user_id {
                continue;
            }
            let body = self.trade(at, buy, sell)?;
            out.push(self.seal(Body::Trade(Box::new(body))));
        }
        Ok(out)
    }

    /// Deposits what an order locks, and places it.
    fn place(
        &mut self,
        user: UserId,
        side: Side,
        at: usize,
        symbol: &Symbol,
        out: &mut Vec<Envelope>,
    ) -> Result<(), MoneyError> {
        let price = self.price(symbol);
        let quantity = Quantity(ORDERED);
        let (asset, lock) = match side {
            Side::Buy => (
                symbol.quote,
                quote_amount(price, quantity, self.registry.base_decimals(symbol))?.amount,
            ),
            Side::Sell => (symbol.base, quantity.amount()),
        };
        let place = self.orders.len();
        let order = OrderState {
            user_id: user,
            order_id: OrderId(place as u64 + 1),
            version: Version::FIRST,
            symbol: symbol.id,
            side,
            price,
            quantity,
            filled_quantity: Quantity::ZERO,
            status: OrderStatus::Placed,
        };
        self.orders.push(order);
        // The first users are the busy ones.
        let weight = (USERS / user.0).max(1);
        match side {
            Side::Buy => self.books[at].buys.add(weight, place),
            Side::Sell => self.books[at].sells.add(weight, place),
        }
        let change = self.change(user, asset, SignedAmount::plus(lock)?, SignedAmount::ZERO)?;
        let event_id = EventId(place as u64 + 1);
        out.push(self.seal(Body::Deposit { event_id, change }));
        let change = self.change(user, asset, SignedAmount::minus(lock)?, SignedAmount::plus(lock)?)?;
        out.push(self.seal(Body::OrderPlaced { change, order }));
        Ok(())
    }

    /// One to four minor units of quote for one of base.
    fn price(&self, symbol: &Symbol) -> Price {
        let whole = 10_u64.pow(u32::from(self.registry.base_decimals(symbol)));
        Price(whole * (u64::from(symbol.id.0) % 4 + 1))
    }

    fn trade(&mut self, at: usize, buy: usize, sell: usize) -> Result<Trade, MoneyError> {
        let symbol = self.books[at].symbol.clone();
        let price = self.price(&symbol);
        let quantity = Quantity(self.random.next_u64() % TRADED_MAX + 1);
        let quote = quote_amount(price, quantity, self.registry.base_decimals(&symbol))?.amount;
        let buyer_is_maker = self.random.next_u64().is_multiple_of(2);
        let (buyer_ppm, seller_ppm) = if buyer_is_maker {
            (symbol.maker_fee_ppm, symbol.taker_fee_ppm)
        } else {
            (symbol.taker_fee_ppm, symbol.maker_fee_ppm)
        };
        self.trades += 1;
        let matches = self.matches.entry(symbol.id).or_default();
        *matches += 1;
        let match_seq = MatchSeq(*matches);
        let orders = [self.filled(buy, quantity)?, self.filled(sell, quantity)?];
        let mut trade = Trade {
            trade_id: TradeId(self.trades),
            match_seq,
            buy_order_id: orders[0].order_id,
            sell_order_id: orders[1].order_id,
            buyer_user_id: orders[0].user_id,
            seller_user_id: orders[1].user_id,
            symbol: symbol.id,
            base_asset: symbol.base,
            quote_asset: symbol.quote,
            price,
            quantity,
            quote_amount: quote,
            buyer_refund: Amount::ZERO,
            seller_refund: Amount::ZERO,
            buyer_is_maker,
            fees: Vec::new(),
            changes: Vec::with_capacity(6),
            orders,
        };
        let fees = (fee_of(quantity.amount(), buyer_ppm), fee_of(quote, seller_ppm));
        self.move_money(&mut trade, fees)?;
        Ok(trade)
    }

    fn filled(&mut self, place: usize, quantity: Quantity) -> Result<OrderState, MoneyError> {
        let order = &mut self.orders[place];
        order.filled_quantity = order.filled_quantity.checked_add(quantity)?;
        order.version = order.version.next().ok_or(MoneyError::Overflow)?;
        order.status = OrderStatus::Partial;
        Ok(*order)
    }

    /// The account changes of a trade, in the order in which an event lists them.
    fn move_money(&mut self, trade: &mut Trade, (buyer_fee, seller_fee): (Amount, Amount)) -> Result<(), MoneyError> {
        let (buyer, seller) = (trade.buyer_user_id, trade.seller_user_id);
        let (base, quote) = (trade.base_asset, trade.quote_asset);
        let (bought, paid) = (trade.quantity.amount(), trade.quote_amount);
        let none = SignedAmount::ZERO;
        let moves = [
            (buyer, base, SignedAmount::plus(bought.checked_sub(buyer_fee)?)?, none),
            (buyer, quote, none, SignedAmount::minus(paid)?),
            (seller, base, none, SignedAmount::minus(bought)?),
            (seller, quote, SignedAmount::plus(paid.checked_sub(seller_fee)?)?, none),
        ];
        for (user, asset, avail, frozen) in moves {
            let change = self.change(user, asset, avail, frozen)?;
            trade.changes.push(change);
        }
        for (payer, asset_id, amount) in [(buyer, base, buyer_fee), (seller, quote, seller_fee)] {
            let Some(account) = self.fee_account(trade.trade_id).filter(|_| !amount.is_zero()) else {
                continue;
            };
            trade.fees.push(Fee {
                payer,
                asset_id,
                amount,
            });
            let change = self.change(account, asset_id, SignedAmount::plus(amount)?, none)?;
            trade.changes.push(change);
        }
        Ok(())
    }

    /// In turn. A registry with fees has fee accounts.
    fn fee_account(&self, trade: TradeId) -> Option<UserId> {
        let accounts = self.registry.fee_accounts();
        let at = trade.0.checked_rem(accounts.len() as u64)?;
        accounts.get(usize::try_from(at).ok()?).copied()
    }

    fn change(
        &mut self,
        user_id: UserId,
        asset_id: AssetId,
        delta_avail: SignedAmount,
        delta_frozen: SignedAmount,
    ) -> Result<BalanceChange, MoneyError> {
        let account = self.accounts.entry((user_id, asset_id)).or_default();
        *account = Account {
            version: account.version.next().ok_or(MoneyError::Overflow)?,
            avail: delta_avail.apply(account.avail)?,
            frozen: delta_frozen.apply(account.frozen)?,
        };
        Ok(BalanceChange {
            user_id,
            asset_id,
            version: account.version,
            delta_avail,
            delta_frozen,
            avail: account.avail,
            frozen: account.frozen,
        })
    }

    fn seal(&mut self, body: Body) -> Envelope {
        self.last_sequence += 1;
        let envelope = Envelope::seal(&Event {
            epoch: Epoch(1),
            output_sequence: OutputSequence(self.last_sequence),
            event_time_ms: TimeMs(START_MS + self.last_sequence),
            prev_digest: self.last_digest,
            body,
        });
        self.last_digest = envelope.digest;
        envelope
    }
}

fn fee_of(received: Amount, ppm: u32) -> Amount {
    // At most what is received, so it fits.
    let fee = u128::from(received.0) * u128::from(ppm) / u128::from(FEE_PPM_MAX);
    Amount(u64::try_from(fee).unwrap_or(received.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use settlement::verify::Verifier;

    /// Everything that settlement verifies of a stream, over the whole of it.
    #[test]
    fn settlement_finds_nothing_wrong_with_it() {
        let registry = Registry::example();
        let mut load = Load::new(&registry, 7);
        let mut verifier = Verifier::new(1_000_000);
        let mut envelopes = load.prologue().expect("within bounds");
        assert!(load.prologue().expect("within bounds").is_empty());
        envelopes.extend(load.trades(2_000).expect("within bounds"));
        assert_eq!(envelopes.len() as u64, load.last_sequence);
        let (mut previous, mut fees, mut symbols) = (Digest::ZERO, 0, BTreeMap::new());
        for (sequence, envelope) in (1..).zip(&envelopes) {
            let event = envelope.open().expect("it is what was sealed");
            assert_eq!((event.output_sequence.0, event.prev_digest), (sequence, previous));
            verifier
                .check(&event, &envelope.digest, &registry)
                .expect("nothing is refused");
            previous = envelope.digest;
            if let Some(trade) = event.trade() {
                fees += trade.fees.len();
                *symbols.entry(trade.symbol).or_insert(0) += 1;
            }
        }
        assert!(fees > 3_000, "{fees}");
        assert_eq!(symbols.len(), 3);
    }

    #[test]
    fn a_seed_gives_one_stream_and_money_is_conserved() {
        let registry = Registry::example();
        let make = |seed| {
            let mut load = Load::new(&registry, seed);
            load.prologue().expect("within bounds");
            let deposited: u128 = sum(&load);
            let last = load.trades(500).expect("within bounds").pop().expect("500");
            assert_eq!(sum(&load), deposited);
            last.digest
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    /// Over all assets; a trade moves as much of each as it takes.
    fn sum(load: &Load) -> u128 {
        let accounts = load.accounts.values();
        accounts
            .map(|account| u128::from(account.avail.0) + u128::from(account.frozen.0))
            .sum()
    }

    #[test]
    fn few_users_have_most_of_the_trades() {
        let mut load = Load::new(&Registry::example(), 3);
        load.prologue().expect("within bounds");
        load.trades(3_000).expect("within bounds");
        let mut fills: Vec<u64> = load.orders.iter().map(|order| order.version.0 - 1).collect();
        fills.sort_unstable();
        let busiest: u64 = fills.iter().rev().take(20).sum();
        let all: u64 = fills.iter().sum();
        assert!(
            busiest * 4 > all && fills.iter().filter(|fills| **fills > 0).count() > 500,
            "{busiest} of {all}"
        );
    }
}
