//! One symbol's book: which orders rest at which price, in price-time priority. Only positions; what the orders are
//! is in [`crate::exchange`].

use std::collections::BTreeMap;

use settlement_events::{OrderId, Price, Side};

/// Where an order stands: its price turned so that better is smaller, then its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    badness: u64,
    arrival: OrderId,
}

impl Position {
    /// Order ids grow with arrival, so they are the time in price-time priority.
    fn new(side: Side, price: Price, order: OrderId) -> Self {
        let badness = match side {
            Side::Sell => price.0,
            Side::Buy => u64::MAX - price.0,
        };
        Self {
            badness,
            arrival: order,
        }
    }
}

/// The resting orders of one symbol.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    bids: BTreeMap<Position, Price>,
    asks: BTreeMap<Position, Price>,
}

impl Book {
    fn side(&self, side: Side) -> &BTreeMap<Position, Price> {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut BTreeMap<Position, Price> {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    /// Lets an order rest.
    pub(crate) fn insert(&mut self, side: Side, price: Price, order: OrderId) {
        self.side_mut(side).insert(Position::new(side, price, order), price);
    }

    /// Takes an order out; whether it was there.
    pub(crate) fn remove(&mut self, side: Side, price: Price, order: OrderId) -> bool {
        self.side_mut(side).remove(&Position::new(side, price, order)).is_some()
    }

    /// The resting orders of a side, the next to be matched first.
    pub(crate) fn queue(&self, side: Side) -> impl Iterator<Item = (OrderId, Price)> + '_ {
        self.side(side)
            .iter()
            .map(|(position, price)| (position.arrival, *price))
    }

    /// The order that is matched next.
    pub(crate) fn best(&self, side: Side) -> Option<(OrderId, Price)> {
        self.side(side)
            .first_key_value()
            .map(|(position, price)| (position.arrival, *price))
    }
}

/// Whether an order with this limit may trade with one resting at `resting`.
pub(crate) fn crosses(side: Side, limit: Price, resting: Price) -> bool {
    match side {
        Side::Buy => limit >= resting,
        Side::Sell => limit <= resting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_prices_first_and_earlier_orders_first_at_a_price() {
        let mut book = Book::default();
        for (order, price) in [(1, 100), (2, 101), (3, 100), (4, 99)] {
            book.insert(Side::Buy, Price(price), OrderId(order));
            book.insert(Side::Sell, Price(price), OrderId(order + 10));
        }
        let orders = |side| book.queue(side).map(|(order, _)| order.0).collect::<Vec<_>>();
        assert_eq!(orders(Side::Buy), [2, 1, 3, 4]);
        assert_eq!(orders(Side::Sell), [14, 11, 13, 12]);
        assert_eq!(book.best(Side::Buy), Some((OrderId(2), Price(101))));
    }

    #[test]
    fn what_is_removed_is_gone_and_only_once() {
        let mut book = Book::default();
        book.insert(Side::Sell, Price(5), OrderId(1));
        assert!(book.remove(Side::Sell, Price(5), OrderId(1)));
        assert!(!book.remove(Side::Sell, Price(5), OrderId(1)));
        assert_eq!(book.best(Side::Sell), None);
    }

    #[test]
    fn a_price_equal_to_the_limit_crosses() {
        assert!(crosses(Side::Buy, Price(5), Price(5)) && crosses(Side::Sell, Price(5), Price(5)));
        assert!(!crosses(Side::Buy, Price(4), Price(5)) && !crosses(Side::Sell, Price(6), Price(5)));
    }
}
