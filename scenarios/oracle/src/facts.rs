//! What happened, in the oracle's own words. Identifiers are plain numbers: whoever converts into these types cannot
//! smuggle in a computed balance, because there is no place for one.
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which side of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Buys base for quote.
    Buy,
    /// Sells base for quote.
    Sell,
}

/// A traded pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol {
    /// Asset bought and sold.
    pub base: u32,
    /// Asset paid with.
    pub quote: u32,
    /// Decimals of the base asset: a price is quote minor units per 10^decimals base minor units.
    pub base_decimals: u32,
    /// What a trade charges; `None`: whatever the fact says.
    pub rates: Option<FeeRates>,
}

/// What a trade charges each side of what it receives, millionths, rounded down; nothing is charged that is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeRates {
    /// Of the order that was there first.
    pub maker_ppm: u32,
    /// Of the other one.
    pub taker_ppm: u32,
}

/// What can be traded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Market {
    /// By symbol id.
    pub symbols: BTreeMap<u32, Symbol>,
}

/// A fee that a trade charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fee {
    /// Who pays.
    pub payer: u64,
    /// In which asset, one that the payer receives by the trade.
    pub asset: u32,
    /// Minor units.
    pub amount: u64,
    /// The account credited.
    pub account: u64,
}

/// A match of two orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trade {
    /// Identity.
    pub trade_id: u64,
    /// The buy order filled.
    pub buy_order: u64,
    /// The sell order filled.
    pub sell_order: u64,
    /// Quote minor units per 10^base_decimals base minor units.
    pub price: u64,
    /// Base minor units.
    pub quantity: u64,
    /// In the order in which they were charged.
    pub fees: Vec<Fee>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// Money came in.
    Deposit {
        /// Whose.
        user: u64,
        /// Asset.
        asset: u32,
        /// Minor units.
        amount: u64,
    },
    /// Money went out.
    Withdrawal {
        /// Whose.
        user: u64,
        /// Asset.
        asset: u32,
        /// Minor units.
        amount: u64,
    },
    /// A limit order was accepted.
    OrderPlaced {
        /// Whose.
        user: u64,
        /// Its id, unique over all users.
        order: u64,
        /// Symbol id.
        symbol: u32,
        /// Side.
        side: Side,
        /// Limit.
        price: u64,
        /// Base minor units.
        quantity: u64,
    },
    /// What was left of an order was taken back.
    OrderCancelled {
        /// Its id.
        order: u64,
    },
    /// Two orders met.
    Trade(Trade),
}
