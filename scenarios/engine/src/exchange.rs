//! The matching engine proper: accounts, orders and books, and what each command makes of them. Pure: no clock, no
//! sockets, no files, no randomness, so the same commands always give the same events.
//!
//! # The money rule
//!
//! All in minor units; `cost(price, quantity)` is `price x quantity / 10^base_decimals`, rounded toward zero.
//!
//! 1. **Lock.** Placing a buy order moves `cost(limit, whole quantity)` of the quote asset from avail to frozen; placing
//!    a sell order moves its quantity of the base asset.
//! 2. **Fill** of `q` at the maker's limit `p`: the buyer's frozen quote falls by `cost(p, q)`, the seller's avail quote
//!    rises by it; the seller's frozen base falls by `q`, the buyer's avail base rises by it.
//! 3. **Refund.** What a buy order locked and did not spend (better prices, roundings) stays frozen until its last fill,
//!    whose `buyer_refund` moves `lock - sum of cost` from frozen to avail. Since roundings are toward zero, this is
//!    never negative. `seller_refund` is always zero: a sell order locks exactly what it sells.
//! 4. **Cancel** moves what is left of the lock back: `lock - sum of cost` for a buy, `quantity - filled` for a sell.
//! 5. **Fees** come out of what each side receives (the buyer's base, the seller's quote): `received x ppm /
//!    1,000,000`, rounded toward zero, at the symbol's maker or taker rate; nothing is listed if that is zero. Both go to the fee
//!    account number `trade_id mod number of fee accounts`.
//!
//! An order whose lock is zero (worth less than one minor unit) is rejected; a fill that costs zero is possible when a
//! small remainder is filled, and the remainder then stays with the buyer.

use std::collections::BTreeMap;

use settlement_events::{
    Amount, AssetId, BalanceChange, Body, Fee, MatchSeq, OrderId, OrderState, OrderStatus, Price, Quantity, Registry,
    Side, SignedAmount, Symbol, SymbolId, Trade, TradeId, UserId, Version, quote_amount,
};

use crate::accounts::{Account, Accounts};
use crate::book::{Book, crosses};
use crate::command::{Command, Matching, Rejection};

/// Why matching may assume that its arithmetic holds: placement checked it.
const CHECKED_AT_PLACEMENT: &str = "the lock covers every fill and the supply of an asset fits, both checked before";

/// An order that can still be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOrder {
    /// Its state as last published.
    pub state: OrderState,
    /// What is left of its lock.
    pub locked: Amount,
    /// Whether it stands in the visible book.
    pub visible: bool,
}

impl OpenOrder {
    /// What can still be filled.
    #[must_use]
    pub const fn left(&self) -> Quantity {
        Quantity(self.state.quantity.0 - self.state.filled_quantity.0)
    }
}

/// A fill that would happen: of which order, at which price, how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The resting order.
    pub maker: OrderId,
    /// Its limit.
    pub price: Price,
    /// How much of it.
    pub quantity: Quantity,
}

#[derive(Clone, Debug, Default)]
struct Market {
    book: Book,
    matches: u64,
}

/// Accounts, orders and books of a whole exchange.
#[derive(Clone, Debug)]
pub struct Exchange {
    registry: Registry,
    accounts: Accounts,
    orders: BTreeMap<OrderId, OpenOrder>,
    markets: BTreeMap<SymbolId, Market>,
    last_order: OrderId,
    last_trade: TradeId,
}

impl Exchange {
    /// An empty exchange.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        let markets = registry
            .symbols()
            .iter()
            .map(|symbol| (symbol.id, Market::default()))
            .collect();
        Self {
            registry,
            accounts: Accounts::default(),
            orders: BTreeMap::new(),
            markets,
            last_order: OrderId(0),
            last_trade: TradeId(0),
        }
    }

    /// The registry it was made with.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The state of an account; all zero if nothing ever happened to it.
    #[must_use]
    pub fn account(&self, user: UserId, asset: AssetId) -> Account {
        self.accounts.get(user, asset)
    }

    /// Every account that ever changed, by user and asset.
    pub fn accounts(&self) -> impl Iterator<Item = (UserId, AssetId, Account)> + '_ {
        self.accounts.iter()
    }

    /// Deposits minus withdrawals of an asset.
    #[must_use]
    pub fn supply(&self, asset: AssetId) -> Amount {
        self.accounts.supply(asset)
    }

    /// An order that can still be filled.
    #[must_use]
    pub fn open_order(&self, order: OrderId) -> Option<&OpenOrder> {
        self.orders.get(&order)
    }

    /// All orders that can still be filled, the oldest first.
    pub fn open_orders(&self) -> impl Iterator<Item = &OpenOrder> + '_ {
        self.orders.values()
    }

    /// How many orders were accepted; the last one has this id.
    #[must_use]
    pub const fn last_order(&self) -> OrderId {
        self.last_order
    }

    /// How many trades there were; the last one has this id.
    #[must_use]
    pub const fn trades(&self) -> u64 {
        self.last_trade.0
    }

    /// The best visible price of one side of a book.
    #[must_use]
    pub fn best_price(&self, symbol: SymbolId, side: Side) -> Option<Price> {
        self.markets.get(&symbol)?.book.best(side).map(|(_, price)| price)
    }

    /// The fills that an order with this side and limit would get now, if it were large enough for all of them.
    pub fn preview(&self, symbol: SymbolId, side: Side, limit: Price) -> impl Iterator<Item = Preview> + '_ {
        let queue = self
            .markets
            .get(&symbol)
            .map(|market| market.book.queue(side.opposite()));
        queue
            .into_iter()
            .flatten()
            .take_while(move |&(_, price)| crosses(side, limit, price))
            .filter_map(|(maker, price)| {
                self.orders.get(&maker).map(|order| Preview {
                    maker,
                    price,
                    quantity: order.left(),
                })
            })
    }

    /// What placing such an order locks: the asset and the amount.
    pub fn lock_of(
        &self,
        symbol: &Symbol,
        side: Side,
        price: Price,
        quantity: Quantity,
    ) -> Result<(AssetId, Amount), Rejection> {
        match side {
            Side::Sell => Ok((symbol.base, quantity.amount())),
            Side::Buy => {
                let cost = quote_amount(price, quantity, self.registry.base_decimals(symbol));
                Ok((symbol.quote, cost.map_err(Rejection::money("price x quantity"))?.amount))
            }
        }
    }

    /// Carries a command out and appends what happened; on a rejection nothing has changed and nothing is appended.
    pub fn execute(&mut self, command: &Command, out: &mut Vec<Body>) -> Result<(), Rejection> {
        match *command {
            Command::Deposit {
                event_id,
                user,
                asset,
                amount,
            } => {
                self.check_transfer(asset, amount)?;
                let change = self
                    .accounts
                    .deposit(user, asset, amount)
                    .map_err(Rejection::money("deposit"))?;
                out.push(Body::Deposit { event_id, change });
            }
            Command::Withdraw {
                event_id,
                user,
                asset,
                amount,
            } => {
                self.check_transfer(asset, amount)?;
                self.check_funds(user, asset, amount)?;
                let change = self
                    .accounts
                    .withdraw(user, asset, amount)
                    .map_err(Rejection::money("withdrawal"))?;
                out.push(Body::Withdrawal { event_id, change });
            }
            Command::Place {
                user,
                symbol,
                side,
                price,
                quantity,
                matching,
            } => {
                let order = NewOrder {
                    user,
                    symbol,
                    side,
                    price,
                    quantity,
                    matching,
                };
                self.place(&order, out)?;
            }
            Command::Cancel { user, order } => {
                let owned = self.orders.get(&order).is_some_and(|open| open.state.user_id == user);
                if !owned {
                    return Err(Rejection::UnknownOrder { user, order });
                }
                self.cancel(order, out);
            }
        }
        Ok(())
    }

    fn check_transfer(&self, asset: AssetId, amount: Amount) -> Result<(), Rejection> {
        if self.registry.asset(asset).is_none() {
            return Err(Rejection::UnknownAsset(asset));
        }
        if amount.is_zero() {
            return Err(Rejection::Zero("the amount"));
        }
        amount.to_bigint().map(|_| ()).map_err(Rejection::money("amount"))
    }

    fn check_funds(&self, user: UserId, asset: AssetId, needed: Amount) -> Result<(), Rejection> {
        let avail = self.accounts.get(user, asset).avail;
        if avail < needed {
            Err(Rejection::Insufficient {
                user,
                asset,
                avail,
                needed,
            })
        } else {
            Ok(())
        }
    }

    fn place(&mut self, new: &NewOrder, out: &mut Vec<Body>) -> Result<(), Rejection> {
        let (asset, lock) = self.check_new(new)?;
        let id = self.last_order.next().ok_or(Rejection::Exhausted("order ids"))?;
        let change = self.relock(new.user, asset, lock).map_err(Rejection::money("lock"))?;
        self.last_order = id;
        let state = OrderState {
            user_id: new.user,
            order_id: id,
            version: Version::FIRST,
            symbol: new.symbol,
            side: new.side,
            price: new.price,
            quantity: new.quantity,
            filled_quantity: Quantity::ZERO,
            status: OrderStatus::Placed,
        };
        out.push(Body::OrderPlaced { change, order: state });
        self.orders.insert(
            id,
            OpenOrder {
                state,
                locked: lock,
                visible: false,
            },
        );
        match new.matching {
            Matching::Limit | Matching::Immediate => self.sweep(id, out),
            Matching::Against(maker) => self.fill(id, maker, out),
            Matching::Rest | Matching::Hidden => {}
        }
        if self.orders.contains_key(&id) {
            match new.matching {
                Matching::Limit | Matching::Rest => self.show(id),
                Matching::Immediate => self.cancel(id, out),
                Matching::Hidden | Matching::Against(_) => {}
            }
        }
        Ok(())
    }

    /// Everything that can be wrong with an order, before anything changes.
    fn check_new(&self, new: &NewOrder) -> Result<(AssetId, Amount), Rejection> {
        let symbol = self
            .registry
            .symbol(new.symbol)
            .ok_or(Rejection::UnknownSymbol(new.symbol))?;
        if self.registry.is_fee_account(new.user) {
            return Err(Rejection::FeeAccount(new.user));
        }
        if new.quantity.is_zero() || new.price.is_zero() {
            return Err(Rejection::Zero(if new.price.is_zero() {
                "the price"
            } else {
                "the quantity"
            }));
        }
        new.price.to_bigint().map_err(Rejection::money("price"))?;
        new.quantity.to_bigint().map_err(Rejection::money("quantity"))?;
        let (asset, lock) = self.lock_of(symbol, new.side, new.price, new.quantity)?;
        if lock.is_zero() {
            return Err(Rejection::Zero("what the order is worth"));
        }
        // A sell order receives quote: its limit is the least it may get, so that must be an amount too.
        quote_amount(new.price, new.quantity, self.registry.base_decimals(symbol))
            .map_err(Rejection::money("price x quantity"))?;
        self.check_funds(new.user, asset, lock)?;
        if let Matching::Against(maker) = new.matching {
            self.check_maker(new, maker)?;
        }
        Ok((asset, lock))
    }

    fn check_maker(&self, new: &NewOrder, maker: OrderId) -> Result<(), Rejection> {
        let bad = |detail| Err(Rejection::BadMaker { maker, detail });
        let Some(open) = self.orders.get(&maker) else {
            return bad("it is not open");
        };
        if open.state.symbol != new.symbol || open.state.side == new.side {
            return bad("it is not on the other side of this book");
        }
        if !crosses(new.side, new.price, open.state.price) {
            return bad("its price does not cross");
        }
        if open.left() < new.quantity {
            return bad("less than that is left of it");
        }
        Ok(())
    }

    /// Moves an amount from avail to frozen.
    fn relock(
        &mut self,
        user: UserId,
        asset: AssetId,
        lock: Amount,
    ) -> Result<BalanceChange, settlement_events::MoneyError> {
        self.accounts
            .change(user, asset, SignedAmount::minus(lock)?, SignedAmount::plus(lock)?)
    }

    fn market(&mut self, symbol: SymbolId) -> &mut Market {
        self.markets
            .get_mut(&symbol)
            .expect("every symbol of the registry has a market")
    }

    /// Lets an order stand in the visible book.
    fn show(&mut self, id: OrderId) {
        if let Some(open) = self.orders.get_mut(&id) {
            open.visible = true;
            let OrderState {
                symbol, side, price, ..
            } = open.state;
            self.market(symbol).book.insert(side, price, id);
        }
    }

    /// Matches an order with what crosses it, best price first, earliest first.
    fn sweep(&mut self, taker: OrderId, out: &mut Vec<Body>) {
        while let Some(open) = self.orders.get(&taker) {
            let OrderState {
                symbol, side, price, ..
            } = open.state;
            match self.market(symbol).book.best(side.opposite()) {
                Some((maker, resting)) if crosses(side, price, resting) => self.fill(taker, maker, out),
                _ => break,
            }
        }
    }

    /// One trade between two open orders, at the maker's price, as much as both have left.
    fn fill(&mut self, taker: OrderId, maker: OrderId, out: &mut Vec<Body>) {
        let (taker_order, maker_order) = (self.orders[&taker], self.orders[&maker]);
        let buyer_is_maker = maker_order.state.side == Side::Buy;
        let (buy, sell) = if buyer_is_maker {
            (maker_order, taker_order)
        } else {
            (taker_order, maker_order)
        };
        let terms = Terms {
            price: maker_order.state.price,
            quantity: taker_order.left().min(maker_order.left()),
            buyer_is_maker,
        };
        let trade = self.trade(buy, sell, &terms);
        out.push(Body::Trade(Box::new(trade)));
    }

    fn trade(&mut self, buy: OpenOrder, sell: OpenOrder, terms: &Terms) -> Trade {
        let symbol = self
            .registry
            .symbol(buy.state.symbol)
            .expect("checked when it was placed");
        let (base, quote) = (symbol.base, symbol.quote);
        let decimals = self.registry.base_decimals(symbol);
        let (buyer_ppm, seller_ppm) = if terms.buyer_is_maker {
            (symbol.maker_fee_ppm, symbol.taker_fee_ppm)
        } else {
            (symbol.taker_fee_ppm, symbol.maker_fee_ppm)
        };
        let quote_amount = quote_amount(terms.price, terms.quantity, decimals)
            .expect(CHECKED_AT_PLACEMENT)
            .amount;
        let locked = buy.locked.checked_sub(quote_amount).expect(CHECKED_AT_PLACEMENT);
        let buy_filled = terms.quantity == buy.left();
        let buyer_refund = if buy_filled { locked } else { Amount::ZERO };
        let trade_id = self.last_trade.next().expect("2^63 trades are more than there can be");
        self.last_trade = trade_id;
        let market = self.market(buy.state.symbol);
        market.matches += 1;
        let match_seq = MatchSeq(market.matches);
        let mut trade = Trade {
            trade_id,
            match_seq,
            buy_order_id: buy.state.order_id,
            sell_order_id: sell.state.order_id,
            buyer_user_id: buy.state.user_id,
            seller_user_id: sell.state.user_id,
            symbol: buy.state.symbol,
            base_asset: base,
            quote_asset: quote,
            price: terms.price,
            quantity: terms.quantity,
            quote_amount,
            buyer_refund,
            seller_refund: Amount::ZERO,
            buyer_is_maker: terms.buyer_is_maker,
            fees: Vec::new(),
            changes: Vec::with_capacity(6),
            orders: [
                self.advance(buy, terms.quantity, locked),
                self.advance(sell, terms.quantity, sell.locked_after(terms.quantity)),
            ],
        };
        let buyer_fee = fee_of(terms.quantity.amount(), buyer_ppm);
        let seller_fee = fee_of(quote_amount, seller_ppm);
        self.move_money(&mut trade, buyer_fee, seller_fee);
        trade
    }

    /// One step of an order's life: its new state; closed orders leave the books.
    fn advance(&mut self, open: OpenOrder, quantity: Quantity, locked: Amount) -> OrderState {
        let mut state = open.state;
        state.filled_quantity = state
            .filled_quantity
            .checked_add(quantity)
            .expect("never more than the quantity");
        state.version = state.version.next().expect("fewer fills than the quantity");
        let filled = state.filled_quantity == state.quantity;
        state.status = if filled {
            OrderStatus::Filled
        } else {
            OrderStatus::Partial
        };
        if filled {
            self.close(&open);
        } else {
            self.orders.insert(state.order_id, OpenOrder { state, locked, ..open });
        }
        state
    }

    fn close(&mut self, open: &OpenOrder) {
        let OrderState {
            symbol,
            side,
            price,
            order_id,
            ..
        } = open.state;
        self.orders.remove(&order_id);
        if open.visible {
            self.market(symbol).book.remove(side, price, order_id);
        }
    }

    /// The account changes of a trade, in the order in which the event lists them.
    fn move_money(&mut self, trade: &mut Trade, buyer_fee: Amount, seller_fee: Amount) {
        let (buyer, seller) = (trade.buyer_user_id, trade.seller_user_id);
        let (base, quote) = (trade.base_asset, trade.quote_asset);
        let bought = trade.quantity.amount();
        let released = trade
            .quote_amount
            .checked_add(trade.buyer_refund)
            .expect(CHECKED_AT_PLACEMENT);
        let net =
            |amount: Amount, fee: Amount| amount.checked_sub(fee).expect("a fee is at most what it is taken from");
        let moves = [
            (buyer, base, plus(net(bought, buyer_fee)), SignedAmount::ZERO),
            (buyer, quote, plus(trade.buyer_refund), minus(released)),
            (seller, base, SignedAmount::ZERO, minus(bought)),
            (
                seller,
                quote,
                plus(net(trade.quote_amount, seller_fee)),
                SignedAmount::ZERO,
            ),
        ];
        for (user, asset, avail, frozen) in moves {
            trade.changes.push(
                self.accounts
                    .change(user, asset, avail, frozen)
                    .expect(CHECKED_AT_PLACEMENT),
            );
        }
        for (payer, asset_id, amount) in [(buyer, base, buyer_fee), (seller, quote, seller_fee)] {
            if !amount.is_zero() {
                let account = fee_account(&self.registry, trade.trade_id);
                trade.fees.push(Fee {
                    payer,
                    asset_id,
                    amount,
                });
                let credit = self
                    .accounts
                    .change(account, asset_id, plus(amount), SignedAmount::ZERO);
                trade.changes.push(credit.expect(CHECKED_AT_PLACEMENT));
            }
        }
    }

    fn cancel(&mut self, id: OrderId, out: &mut Vec<Body>) {
        let open = self.orders[&id];
        self.close(&open);
        let mut order = open.state;
        order.status = OrderStatus::Cancelled;
        order.version = order.version.next().expect("fewer fills than the quantity");
        let symbol = self.registry.symbol(order.symbol).expect("checked when it was placed");
        let asset = if order.side == Side::Buy {
            symbol.quote
        } else {
            symbol.base
        };
        let change = self
            .accounts
            .change(order.user_id, asset, plus(open.locked), minus(open.locked))
            .expect(CHECKED_AT_PLACEMENT);
        out.push(Body::OrderCancelled { change, order });
    }
}

impl OpenOrder {
    /// What a sell order has locked after selling so much.
    fn locked_after(&self, sold: Quantity) -> Amount {
        self.locked
            .checked_sub(sold.amount())
            .expect("a sell order locks what it sells")
    }
}

/// An order before it has a number.
struct NewOrder {
    user: UserId,
    symbol: SymbolId,
    side: Side,
    price: Price,
    quantity: Quantity,
    matching: Matching,
}

struct Terms {
    price: Price,
    quantity: Quantity,
    buyer_is_maker: bool,
}

fn plus(amount: Amount) -> SignedAmount {
    SignedAmount::plus(amount).expect(CHECKED_AT_PLACEMENT)
}

fn minus(amount: Amount) -> SignedAmount {
    SignedAmount::minus(amount).expect(CHECKED_AT_PLACEMENT)
}

fn fee_of(received: Amount, ppm: u32) -> Amount {
    let fee = u128::from(received.0) * u128::from(ppm) / u128::from(settlement_events::registry::FEE_PPM_MAX);
    Amount(u64::try_from(fee).expect("a rate of at most 100% gives at most what is received"))
}

/// Fees are spread over the fee accounts, because one alone would be a hot partition of the settled tables.
fn fee_account(registry: &Registry, trade: TradeId) -> UserId {
    let accounts = registry.fee_accounts();
    let at = trade.0 % accounts.len() as u64;
    accounts[usize::try_from(at).expect("an index below a length")]
}
