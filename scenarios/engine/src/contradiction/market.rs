//! False orders and trades: of two users whom nobody else is, in the registry's first symbol. A buyer bids for
//! [`QUANTITY`], a seller asks as much at the same price, and [`FILLED`] of it is traded. What is said of that is wrong
//! in one number each time, and in five cases only for who remembers what was said before.

use settlement_events::{
    Amount, AssetId, BalanceChange, Body, EventId, MatchSeq, OrderId, OrderState, OrderStatus, Price, Quantity,
    Registry, Side, SignedAmount, Symbol, SymbolId, Trade, TradeId, UserId, Version,
};

use super::{EARLIER_EVENT_IDS, FIRST_USER, NO_ASSET};

/// How much each order is for.
const QUANTITY: u64 = 1_000;
/// How much of it is traded: so little that no fee is due at up to 0.11%, because a fee would be one more account.
const FILLED: u64 = 300;
/// What one minor unit of the base asset costs in minor units of the quote asset.
const UNIT_PRICE: u64 = 3;
/// What the buyer's order locks.
const LOCKED: u64 = QUANTITY * UNIT_PRICE;
/// What the buyer spends in the trade.
const SPENT: u64 = FILLED * UNIT_PRICE;
/// What the buyer has deposited: enough for two such orders.
const DEPOSITED: u64 = 3 * LOCKED;
/// What lies between the ids of a buyer and of its seller.
const SELLERS: u64 = 1_000_000;
/// What lies between the ids of the two orders of a user, and between the numbers of two matches.
const SECOND_ORDERS: u64 = 2_000_000;

/// The users and the market of the `nth` contradiction.
pub(super) struct Market<'r> {
    nth: u64,
    symbol: Option<&'r Symbol>,
    price: Price,
}

impl<'r> Market<'r> {
    pub(super) fn new(nth: u32, registry: &'r Registry) -> Self {
        let symbol = registry.symbols().first();
        let scale = symbol.map_or(0, |symbol| u32::from(registry.base_decimals(symbol)));
        Self {
            nth: u64::from(nth),
            symbol,
            price: Price(UNIT_PRICE * 10_u64.saturating_pow(scale)),
        }
    }

    fn buyer(&self) -> UserId {
        UserId(FIRST_USER.0 + self.nth)
    }

    fn seller(&self) -> UserId {
        UserId(FIRST_USER.0 + SELLERS + self.nth)
    }

    fn base(&self) -> AssetId {
        self.symbol.map_or(NO_ASSET, |symbol| symbol.base)
    }

    fn quote(&self) -> AssetId {
        self.symbol.map_or(NO_ASSET, |symbol| symbol.quote)
    }

    fn order(&self, side: Side, version: u64, filled: u64, status: OrderStatus) -> OrderState {
        let user_id = match side {
            Side::Buy => self.buyer(),
            Side::Sell => self.seller(),
        };
        OrderState {
            user_id,
            order_id: OrderId(user_id.0),
            version: Version(version),
            symbol: self.symbol.map_or(SymbolId(u32::MAX), |symbol| symbol.id),
            side,
            price: self.price,
            quantity: Quantity(QUANTITY),
            filled_quantity: Quantity(filled),
            status,
        }
    }

    /// The buyer's deposit and two orders, of which the first is the one above, so that something is still locked when
    /// that one has ended.
    fn two_orders(&self) -> Vec<Body> {
        let (locked, buyer, quote) = (LOCKED as i64, self.buyer(), self.quote());
        let first = self.order(Side::Buy, 1, 0, OrderStatus::Placed);
        let second = OrderState {
            order_id: OrderId(first.order_id.0 + SECOND_ORDERS),
            ..first
        };
        vec![
            Body::Deposit {
                event_id: EventId(buyer.0 - EARLIER_EVENT_IDS),
                change: change(buyer, quote, 1, (DEPOSITED as i64, 0), (DEPOSITED, 0)),
            },
            Body::OrderPlaced {
                change: change(buyer, quote, 2, (-locked, locked), (DEPOSITED - LOCKED, LOCKED)),
                order: first,
            },
            Body::OrderPlaced {
                change: change(buyer, quote, 3, (-locked, locked), (DEPOSITED - 2 * LOCKED, 2 * LOCKED)),
                order: second,
            },
        ]
    }

    /// What comes before [`Self::cancelled_twice`].
    pub(super) fn cancelled_once(&self) -> Vec<Body> {
        let locked = LOCKED as i64;
        let mut bodies = self.two_orders();
        bodies.push(Body::OrderCancelled {
            change: change(
                self.buyer(),
                self.quote(),
                4,
                (locked, -locked),
                (DEPOSITED - LOCKED, LOCKED),
            ),
            order: self.order(Side::Buy, 2, 0, OrderStatus::Cancelled),
        });
        bodies
    }

    /// The order's lock is given back once more: to who remembers only the account it looks right.
    pub(super) fn cancelled_twice(&self) -> Body {
        let locked = LOCKED as i64;
        Body::OrderCancelled {
            change: change(self.buyer(), self.quote(), 5, (locked, -locked), (DEPOSITED, 0)),
            order: self.order(Side::Buy, 3, 1, OrderStatus::Cancelled),
        }
    }

    /// What comes before [`Self::placed_twice`] and [`Self::other_order`].
    pub(super) fn placed_once(&self) -> Vec<Body> {
        self.two_orders()
    }

    /// The order is placed once more, and locks once more.
    pub(super) fn placed_twice(&self) -> Body {
        let locked = LOCKED as i64;
        Body::OrderPlaced {
            change: change(self.buyer(), self.quote(), 4, (-locked, locked), (0, 3 * LOCKED)),
            order: self.order(Side::Buy, 1, 0, OrderStatus::Placed),
        }
    }

    /// An order of half the quantity is cancelled, and gives back what that would have locked.
    pub(super) fn other_order(&self) -> Body {
        let unlocked = LOCKED as i64 / 2;
        let after = (DEPOSITED - 2 * LOCKED + LOCKED / 2, 2 * LOCKED - LOCKED / 2);
        Body::OrderCancelled {
            change: change(self.buyer(), self.quote(), 4, (unlocked, -unlocked), after),
            order: OrderState {
                quantity: Quantity(QUANTITY / 2),
                ..self.order(Side::Buy, 2, 0, OrderStatus::Cancelled)
            },
        }
    }

    /// An order that was not touched gives back more than it locked.
    pub(super) fn unlocks_too_much(&self) -> Body {
        let unlocked = LOCKED as i64 + 1;
        Body::OrderCancelled {
            change: change(self.buyer(), self.quote(), 3, (unlocked, -unlocked), (DEPOSITED, 0)),
            order: self.order(Side::Buy, 2, 0, OrderStatus::Cancelled),
        }
    }

    /// Buyer and seller agree on another amount than quantity and price make.
    pub(super) fn wrong_price(&self) -> Body {
        self.trade(SPENT + 1, SPENT + 1, OrderStatus::Partial)
    }

    /// The seller receives more than the buyer spends.
    pub(super) fn makes_money(&self) -> Body {
        self.trade(SPENT, SPENT + 1, OrderStatus::Partial)
    }

    /// An order that is filled in part is called filled.
    pub(super) fn filled_in_part(&self) -> Body {
        self.trade(SPENT, SPENT, OrderStatus::Filled)
    }

    /// What comes before [`Self::traded_again`]: deposits, orders, and two trades under one id. Both are true, and rule 4
    /// wants both kept, and told.
    pub(super) fn traded_twice(&self) -> Vec<Body> {
        let mut bodies = self.traded_once();
        bodies.push(self.fill(2, SPENT, SPENT, OrderStatus::Partial));
        bodies
    }

    /// What comes before [`Self::filled_by_more`]: deposits, orders, and the first trade.
    pub(super) fn traded_once(&self) -> Vec<Body> {
        let mut bodies = self.two_orders();
        bodies.truncate(2);
        let (seller, base, offered) = (self.seller(), self.base(), QUANTITY as i64);
        bodies.extend([
            Body::Deposit {
                event_id: EventId(seller.0 - EARLIER_EVENT_IDS),
                change: change(seller, base, 1, (offered, 0), (QUANTITY, 0)),
            },
            Body::OrderPlaced {
                change: change(seller, base, 2, (-offered, offered), (0, QUANTITY)),
                order: self.order(Side::Sell, 1, 0, OrderStatus::Placed),
            },
            self.trade(SPENT, SPENT, OrderStatus::Partial),
        ]);
        bodies
    }

    /// The second trade, behind which both orders are filled by one more than it traded.
    pub(super) fn filled_by_more(&self) -> Body {
        let mut body = self.fill(2, SPENT, SPENT, OrderStatus::Partial);
        if let Body::Trade(trade) = &mut body {
            trade.trade_id.0 += SECOND_ORDERS;
            trade.orders.iter_mut().for_each(|order| order.filled_quantity.0 += 1);
        }
        body
    }

    /// The second trade once more, under a number of its own.
    pub(super) fn traded_again(&self) -> Body {
        self.fill(2, SPENT, SPENT, OrderStatus::Partial)
    }

    /// The first trade, in which the buyer spends and the seller receives so much, and the seller's order is then this.
    fn trade(&self, spent: u64, received: u64, sold: OrderStatus) -> Body {
        self.fill(1, spent, received, sold)
    }

    /// The `nth` trade of the two orders, from 1, each like the first one.
    fn fill(&self, nth: u64, spent: u64, received: u64, sold: OrderStatus) -> Body {
        let (buyer, seller, base, quote) = (self.buyer(), self.seller(), self.base(), self.quote());
        let (bought, filled) = (FILLED as i64, nth * FILLED);
        let orders = [
            self.order(Side::Buy, 1 + nth, filled, OrderStatus::Partial),
            self.order(Side::Sell, 1 + nth, filled, sold),
        ];
        Body::Trade(Box::new(Trade {
            trade_id: TradeId(buyer.0),
            match_seq: MatchSeq(buyer.0 + (nth - 1) * SECOND_ORDERS),
            buy_order_id: orders[0].order_id,
            sell_order_id: orders[1].order_id,
            buyer_user_id: buyer,
            seller_user_id: seller,
            symbol: orders[0].symbol,
            base_asset: base,
            quote_asset: quote,
            price: self.price,
            quantity: Quantity(FILLED),
            quote_amount: Amount(spent),
            buyer_refund: Amount::ZERO,
            seller_refund: Amount::ZERO,
            buyer_is_maker: true,
            fees: Vec::new(),
            changes: vec![
                change(buyer, base, nth, (bought, 0), (filled, 0)),
                change(
                    buyer,
                    quote,
                    2 + nth,
                    (0, -(spent as i64)),
                    (DEPOSITED - LOCKED, LOCKED - nth * spent),
                ),
                change(seller, base, 2 + nth, (0, -bought), (0, QUANTITY - filled)),
                change(seller, quote, nth, (received as i64, 0), (nth * received, 0)),
            ],
            orders,
        }))
    }
}

/// Everything a change says, in the order of its fields.
fn change(user: UserId, asset: AssetId, version: u64, deltas: (i64, i64), after: (u64, u64)) -> BalanceChange {
    BalanceChange {
        user_id: user,
        asset_id: asset,
        version: Version(version),
        delta_avail: SignedAmount(deltas.0),
        delta_frozen: SignedAmount(deltas.1),
        avail: Amount(after.0),
        frozen: Amount(after.1),
    }
}

#[cfg(test)]
mod tests {
    use settlement_events::{check, samples};

    use super::*;

    #[test]
    fn what_the_false_trades_are_made_from_is_true() {
        let registry = Registry::example();
        let body = Market::new(3, &registry).trade(SPENT, SPENT, OrderStatus::Partial);
        assert_eq!(check(&samples::chain(vec![body])[0], &registry), Ok(()));
    }
}
