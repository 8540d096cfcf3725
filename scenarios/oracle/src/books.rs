//! Folds facts into books, one at a time, so that a judge can follow a run while it goes on. Every posting of every
//! account and every step of every order is kept: a reader may have seen any of them.
use crate::error::OracleError;
use crate::facts::{Fact, Fee, Market, Side, Symbol, Trade};
use std::collections::BTreeMap;

/// A user's holding of one asset: (user, asset).
pub type AccountKey = (u64, u32);

/// What a posting came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A deposit.
    Deposit,
    /// A withdrawal.
    Withdrawal,
    /// The order that locked.
    Placed(u64),
    /// The order that unlocked.
    Cancelled(u64),
    /// The trade.
    Trade(u64),
}

/// One change of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// From 1, without gaps, per account.
    pub version: u64,
    /// Sequence of the fact.
    pub seq: u64,
    /// What it came from.
    pub cause: Cause,
    /// Change of available, minor units.
    pub delta_avail: i128,
    /// Change of frozen, minor units.
    pub delta_frozen: i128,
    /// Available after it.
    pub avail: i128,
    /// Frozen after it.
    pub frozen: i128,
}

/// An account's history; the last posting is its balance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// In order of version.
    pub postings: Vec<Posting>,
}

impl Account {
    /// (available, frozen) now.
    pub fn balance(&self) -> (i128, i128) {
        self.postings.last().map_or((0, 0), |p| (p.avail, p.frozen))
    }

    /// The posting with that version, from 1.
    pub fn version(&self, version: u64) -> Option<&Posting> {
        self.postings.get(usize::try_from(version.checked_sub(1)?).ok()?)
    }
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing filled.
    Placed,
    /// Something filled.
    Partial,
    /// All filled.
    Filled,
    /// The rest taken back.
    Cancelled,
}

/// One state of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderStep {
    /// From 1, without gaps, per order.
    pub version: u64,
    /// Sequence of the fact.
    pub seq: u64,
    /// Filled so far, base minor units.
    pub filled: u64,
    /// Where it stands.
    pub status: Status,
}

/// An order with its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whose.
    pub user: u64,
    /// Symbol id.
    pub symbol: u32,
    /// Side.
    pub side: Side,
    /// Limit.
    pub price: u64,
    /// Base minor units.
    pub quantity: u64,
    /// Still locked of what it locked, minor units of quote (buy) or base (sell).
    pub locked: i128,
    /// In order of version.
    pub steps: Vec<OrderStep>,
}

impl Order {
    fn now(&self) -> (u64, Status) {
        self.steps.last().map_or((0, Status::Placed), |s| (s.filled, s.status))
    }

    fn step(&mut self, seq: u64, filled: u64, status: Status) {
        self.steps.push(OrderStep {
            version: self.steps.len() as u64 + 1,
            seq,
            filled,
            status,
        });
    }
}

/// A trade as it must stand in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeRecord {
    /// Sequence of the fact.
    pub seq: u64,
    /// Who bought.
    pub buyer: u64,
    /// Who sold.
    pub seller: u64,
    /// Symbol id.
    pub symbol: u32,
    /// Quote that changed hands.
    pub quote_amount: u64,
    /// Returned to the buyer at the buy order's last fill.
    pub buyer_refund: u64,
    /// Returned to the seller at the sell order's last fill.
    pub seller_refund: u64,
    /// Versions taken, in posting order: buyer base, buyer quote, seller base, seller quote, fees.
    pub versions: Vec<(AccountKey, u64)>,
    /// The fact itself.
    pub trade: Trade,
}

/// The books after the facts so far.
#[derive(Clone, Debug, Default)]
pub struct Books {
    market: Market,
    last_seq: u64,
    /// By (user, asset).
    pub accounts: BTreeMap<AccountKey, Account>,
    /// By order id.
    pub orders: BTreeMap<u64, Order>,
    /// By sequence: an id may come twice, and then both trades stand (rule 4).
    pub trades: BTreeMap<u64, TradeRecord>,
    /// Deposits minus withdrawals, by asset.
    pub external: BTreeMap<u32, i128>,
}

/// A change to one account, before it is posted.
struct Change {
    key: AccountKey,
    avail: i128,
    frozen: i128,
}

impl Books {
    /// Empty books.
    pub fn new(market: Market) -> Books {
        Books {
            market,
            ..Books::default()
        }
    }

    /// Books after all of `facts`.
    pub fn replay<'a>(market: Market, facts: impl IntoIterator<Item = &'a (u64, Fact)>) -> Result<Books, OracleError> {
        let mut books = Books::new(market);
        for (seq, fact) in facts {
            books.apply(*seq, fact)?;
        }
        Ok(books)
    }

    /// Sequence of the last fact.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Takes one fact. After an error the books are as before the fact, except that a partly posted trade may remain:
    /// an error means that the facts are worthless, so nothing must be concluded from the books then.
    pub fn apply(&mut self, seq: u64, fact: &Fact) -> Result<(), OracleError> {
        if seq <= self.last_seq {
            return Err(OracleError::OutOfOrder {
                seq,
                last: self.last_seq,
            });
        }
        match fact {
            Fact::Deposit { user, asset, amount } => self.external(seq, *user, *asset, *amount, 1, Cause::Deposit)?,
            Fact::Withdrawal { user, asset, amount } => {
                self.external(seq, *user, *asset, *amount, -1, Cause::Withdrawal)?;
            }
            Fact::OrderPlaced {
                user,
                order,
                symbol,
                side,
                price,
                quantity,
            } => {
                self.placed(
                    seq,
                    *order,
                    Order {
                        user: *user,
                        symbol: *symbol,
                        side: *side,
                        price: *price,
                        quantity: *quantity,
                        locked: 0,
                        steps: Vec::new(),
                    },
                )?;
            }
            Fact::OrderCancelled { order } => self.cancelled(seq, *order)?,
            Fact::Trade(trade) => self.trade(seq, trade)?,
        }
        self.last_seq = seq;
        Ok(())
    }

    /// Per asset: what users hold, and what came in minus what went out. Equal in sound books.
    pub fn conservation(&self) -> BTreeMap<u32, (i128, i128)> {
        let mut sums: BTreeMap<u32, (i128, i128)> = self.external.iter().map(|(a, v)| (*a, (0, *v))).collect();
        for ((_, asset), account) in &self.accounts {
            let (avail, frozen) = account.balance();
            sums.entry(*asset).or_default().0 += avail + frozen;
        }
        sums
    }

    fn external(
        &mut self,
        seq: u64,
        user: u64,
        asset: u32,
        amount: u64,
        sign: i128,
        cause: Cause,
    ) -> Result<(), OracleError> {
        if amount == 0 {
            return Err(OracleError::Zero {
                seq,
                what: "the amount",
            });
        }
        let delta = sign * i128::from(amount);
        self.post(
            seq,
            cause,
            Change {
                key: (user, asset),
                avail: delta,
                frozen: 0,
            },
        )?;
        *self.external.entry(asset).or_default() += delta;
        Ok(())
    }

    fn placed(&mut self, seq: u64, id: u64, mut order: Order) -> Result<(), OracleError> {
        if self.orders.contains_key(&id) {
            return Err(OracleError::OrderTwice { seq, order: id });
        }
        let symbol = self.symbol(seq, order.symbol)?;
        if order.quantity == 0 || order.price == 0 {
            return Err(OracleError::Zero {
                seq,
                what: "the order's price or quantity",
            });
        }
        let (asset, locked) = match order.side {
            Side::Buy => (
                symbol.quote,
                quote_amount(seq, order.price, order.quantity, symbol.base_decimals)?,
            ),
            Side::Sell => (symbol.base, i128::from(order.quantity)),
        };
        self.post(
            seq,
            Cause::Placed(id),
            Change {
                key: (order.user, asset),
                avail: -locked,
                frozen: locked,
            },
        )?;
        order.locked = locked;
        order.step(seq, 0, Status::Placed);
        self.orders.insert(id, order);
        Ok(())
    }

    fn cancelled(&mut self, seq: u64, id: u64) -> Result<(), OracleError> {
        let order = open_order(&mut self.orders, seq, id)?;
        let (filled, rest) = (order.now().0, std::mem::take(&mut order.locked));
        let (user, symbol, side) = (order.user, order.symbol, order.side);
        order.step(seq, filled, Status::Cancelled);
        let symbol = self.symbol(seq, symbol)?;
        let asset = if side == Side::Buy { symbol.quote } else { symbol.base };
        self.post(
            seq,
            Cause::Cancelled(id),
            Change {
                key: (user, asset),
                avail: rest,
                frozen: -rest,
            },
        )
    }

    /// Holds the fees against the market's rates: the buyer pays of the base that it receives, the seller of the quote.
    fn check_fees(&self, seq: u64, trade: &Trade, symbol: Symbol, base: i128, quote: i128) -> Result<(), OracleError> {
        let Some(rates) = symbol.rates else { return Ok(()) };
        let placed = |order: &u64| {
            self.orders
                .get(order)
                .and_then(|order| order.steps.first())
                .map(|step| step.seq)
        };
        let (buyer_ppm, seller_ppm) = match placed(&trade.buy_order) < placed(&trade.sell_order) {
            true => (rates.maker_ppm, rates.taker_ppm),
            false => (rates.taker_ppm, rates.maker_ppm),
        };
        for (asset, expected) in [
            (symbol.base, rated(base, buyer_ppm)),
            (symbol.quote, rated(quote, seller_ppm)),
        ] {
            let charged = trade
                .fees
                .iter()
                .filter(|fee| fee.asset == asset)
                .map(|fee| fee.amount)
                .sum();
            if i128::from(charged) != expected {
                let trade = trade.trade_id;
                return Err(OracleError::WrongFee {
                    seq,
                    trade,
                    asset,
                    charged,
                    expected,
                });
            }
        }
        Ok(())
    }

    fn trade(&mut self, seq: u64, trade: &Trade) -> Result<(), OracleError> {
        if trade.quantity == 0 || trade.price == 0 {
            return Err(OracleError::Zero {
                seq,
                what: "the trade's price or quantity",
            });
        }
        let symbol_id = self.orders.get(&trade.buy_order).map(|o| o.symbol);
        let symbol_id = symbol_id.ok_or(OracleError::UnknownOrder {
            seq,
            order: trade.buy_order,
        })?;
        let symbol = self.symbol(seq, symbol_id)?;
        let quote = quote_amount(seq, trade.price, trade.quantity, symbol.base_decimals)?;
        let (buyer, buyer_refund) = self.fill(seq, trade, trade.buy_order, Side::Buy, symbol_id, quote)?;
        let base = i128::from(trade.quantity);
        let (seller, seller_refund) = self.fill(seq, trade, trade.sell_order, Side::Sell, symbol_id, base)?;
        let mut changes = vec![
            Change {
                key: (buyer, symbol.base),
                avail: base,
                frozen: 0,
            },
            Change {
                key: (buyer, symbol.quote),
                avail: buyer_refund,
                frozen: -quote - buyer_refund,
            },
            Change {
                key: (seller, symbol.base),
                avail: seller_refund,
                frozen: -base - seller_refund,
            },
            Change {
                key: (seller, symbol.quote),
                avail: quote,
                frozen: 0,
            },
        ];
        self.check_fees(seq, trade, symbol, base, quote)?;
        for fee in &trade.fees {
            charge(
                seq,
                trade.trade_id,
                fee,
                (buyer, symbol.base),
                (seller, symbol.quote),
                &mut changes,
            )?;
        }
        let mut versions = Vec::with_capacity(changes.len());
        for change in changes {
            let key = change.key;
            self.post(seq, Cause::Trade(trade.trade_id), change)?;
            versions.push((key, self.accounts[&key].postings.len() as u64));
        }
        let fits = |what, value: i128| u64::try_from(value).map_err(|_| OracleError::Overflow { seq, what });
        let record = TradeRecord {
            seq,
            buyer,
            seller,
            symbol: symbol_id,
            quote_amount: fits("the quote amount", quote)?,
            buyer_refund: fits("the buyer's refund", buyer_refund)?,
            seller_refund: fits("the seller's refund", seller_refund)?,
            versions,
            trade: trade.clone(),
        };
        self.trades.insert(seq, record);
        Ok(())
    }

    /// Fills one side of a trade, which spends `spent` of what the order locked. Returns whose order it is and what
    /// goes back to them, which is nothing before the last fill.
    fn fill(
        &mut self,
        seq: u64,
        trade: &Trade,
        id: u64,
        side: Side,
        symbol: u32,
        spent: i128,
    ) -> Result<(u64, i128), OracleError> {
        let order = open_order(&mut self.orders, seq, id)?;
        let mismatch = |why| {
            Err(OracleError::Mismatch {
                seq,
                trade: trade.trade_id,
                order: id,
                why,
            })
        };
        if order.side != side {
            return mismatch("it is on the other side");
        }
        if order.symbol != symbol {
            return mismatch("it is of another symbol");
        }
        let beyond = if side == Side::Buy {
            trade.price > order.price
        } else {
            trade.price < order.price
        };
        if beyond {
            return mismatch("the price is beyond its limit");
        }
        let filled = order.now().0 + trade.quantity;
        if filled > order.quantity {
            return mismatch("it has less left");
        }
        order.locked -= spent;
        if order.locked < 0 {
            return mismatch("it locked less");
        }
        let last = filled == order.quantity;
        let refund = if last { std::mem::take(&mut order.locked) } else { 0 };
        order.step(seq, filled, if last { Status::Filled } else { Status::Partial });
        Ok((order.user, refund))
    }

    fn symbol(&self, seq: u64, symbol: u32) -> Result<crate::facts::Symbol, OracleError> {
        self.market
            .symbols
            .get(&symbol)
            .copied()
            .ok_or(OracleError::UnknownSymbol { seq, symbol })
    }

    fn post(&mut self, seq: u64, cause: Cause, change: Change) -> Result<(), OracleError> {
        let account = self.accounts.entry(change.key).or_default();
        let (avail, frozen) = account.balance();
        let (avail, frozen) = (avail + change.avail, frozen + change.frozen);
        if avail < 0 || frozen < 0 {
            return Err(OracleError::Overdrawn {
                seq,
                user: change.key.0,
                asset: change.key.1,
                avail,
                frozen,
            });
        }
        if avail > i128::from(i64::MAX) || frozen > i128::from(i64::MAX) {
            return Err(OracleError::Overflow { seq, what: "a balance" });
        }
        account.postings.push(Posting {
            version: account.postings.len() as u64 + 1,
            seq,
            cause,
            delta_avail: change.avail,
            delta_frozen: change.frozen,
            avail,
            frozen,
        });
        Ok(())
    }
}

/// An order that can still change.
fn open_order(orders: &mut BTreeMap<u64, Order>, seq: u64, id: u64) -> Result<&mut Order, OracleError> {
    let order = orders
        .get_mut(&id)
        .ok_or(OracleError::UnknownOrder { seq, order: id })?;
    if matches!(order.now().1, Status::Filled | Status::Cancelled) {
        return Err(OracleError::OrderClosed { seq, order: id });
    }
    Ok(order)
}

/// What a rate takes of an amount, minor units.
fn rated(amount: i128, ppm: u32) -> i128 {
    amount * i128::from(ppm) / 1_000_000
}

/// Takes a fee out of the change in which its payer receives the asset, and adds the fee account's own change.
fn charge(
    seq: u64,
    trade: u64,
    fee: &Fee,
    buyer_receives: AccountKey,
    seller_receives: AccountKey,
    changes: &mut Vec<Change>,
) -> Result<(), OracleError> {
    let bad = OracleError::BadFee {
        seq,
        trade,
        payer: fee.payer,
        asset: fee.asset,
    };
    let payer = (fee.payer, fee.asset);
    // Position 0 is the buyer's base, 3 the seller's quote: what each side receives.
    let index = if payer == buyer_receives {
        0
    } else if payer == seller_receives {
        3
    } else {
        return Err(bad);
    };
    let amount = i128::from(fee.amount);
    changes[index].avail -= amount;
    if changes[index].avail < 0 {
        return Err(bad);
    }
    changes.push(Change {
        key: (fee.account, fee.asset),
        avail: amount,
        frozen: 0,
    });
    Ok(())
}

/// `price x quantity / 10^decimals`, toward zero.
fn quote_amount(seq: u64, price: u64, quantity: u64, decimals: u32) -> Result<i128, OracleError> {
    let overflow = OracleError::Overflow {
        seq,
        what: "price x quantity",
    };
    let unit = 10i128.checked_pow(decimals).ok_or(overflow.clone())?;
    let product = i128::from(price)
        .checked_mul(i128::from(quantity))
        .ok_or(overflow.clone())?;
    let quote = product / unit;
    if quote > i128::from(i64::MAX) {
        Err(overflow)
    } else {
        Ok(quote)
    }
}
