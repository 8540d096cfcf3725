//! What the exchange can be told to do, and why it may decline. Data only; [`crate::exchange`] carries it out.

use std::fmt;

use serde::{Deserialize, Serialize};
use settlement_events::{
    Amount, AssetId, EventId, MoneyError, OrderId, Price, Quantity, Side, SymbolId, TimeMs, UserId,
};

/// How an order meets the book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// Match what crosses, rest with what is left.
    #[default]
    Limit,
    /// Match what crosses, take back what is left (a market order with a worst price).
    Immediate,
    /// Rest in the book without matching anything: what a tape says about a book that has already matched.
    Rest,
    /// Rest outside the visible book; only [`Matching::Against`] reaches it.
    Hidden,
    /// Match this resting order and no other, at its price, whatever else rests before it. The order must be open,
    /// on the other side, crossing and large enough, or the command is rejected.
    Against(OrderId),
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Credit an account.
    Deposit {
        /// The id that the ordering system gave it.
        event_id: EventId,
        /// Whose account.
        user: UserId,
        /// In which asset.
        asset: AssetId,
        /// How much, in minor units.
        amount: Amount,
    },
    /// Debit an account.
    Withdraw {
        /// The id that the ordering system gave it.
        event_id: EventId,
        /// Whose account.
        user: UserId,
        /// In which asset.
        asset: AssetId,
        /// How much, in minor units.
        amount: Amount,
    },
    /// Place an order. The exchange numbers it.
    Place {
        /// Whose order.
        user: UserId,
        /// In which book.
        symbol: SymbolId,
        /// Which way.
        side: Side,
        /// The limit.
        price: Price,
        /// How much.
        quantity: Quantity,
        /// How it meets the book.
        #[serde(default)]
        matching: Matching,
    },
    /// Take back what is left of an order.
    Cancel {
        /// Whose order: it must be theirs.
        user: UserId,
        /// Which order.
        order: OrderId,
    },
}

/// A command and the moment at which it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedCommand {
    /// The `event_time_ms` of the events that result.
    pub at: TimeMs,
    /// What to do.
    pub command: Command,
}

/// Why a command was declined. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The asset is not in the registry.
    #[error("asset {0} is not in the registry")]
    UnknownAsset(AssetId),
    /// The symbol is not in the registry.
    #[error("symbol {0} is not in the registry")]
    UnknownSymbol(SymbolId),
    /// The order is not open, or not this user's.
    #[error("user {user} has no open order {order}")]
    UnknownOrder {
        /// Who asked.
        user: UserId,
        /// For which order.
        order: OrderId,
    },
    /// An amount, quantity or price of zero, or an order that is worth less than one minor unit.
    #[error("{0} is zero")]
    Zero(&'static str),
    /// A number, a product or an asset's whole supply above what a database `bigint` holds.
    #[error("{what}: {source}")]
    Money {
        /// Which number.
        what: &'static str,
        /// What is wrong with it.
        source: MoneyError,
    },
    /// Not enough to spend.
    #[error("user {user} has {avail} of asset {asset} to spend, not {needed}")]
    Insufficient {
        /// Whose account.
        user: UserId,
        /// In which asset.
        asset: AssetId,
        /// What there is.
        avail: Amount,
        /// What would be needed.
        needed: Amount,
    },
    /// Fee accounts collect; they do not trade.
    #[error("user {0} is a fee account and places no orders")]
    FeeAccount(UserId),
    /// [`Matching::Against`] names an order that does not fit.
    #[error("order {maker} cannot be matched: {detail}")]
    BadMaker {
        /// The order named.
        maker: OrderId,
        /// Why it does not fit.
        detail: &'static str,
    },
    /// No numbers are left for orders or trades.
    #[error("all {0} are used up")]
    Exhausted(&'static str),
}

impl Rejection {
    pub(crate) fn money(what: &'static str) -> impl Fn(MoneyError) -> Self {
        move |source| Self::Money { what, source }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deposit {
                user, asset, amount, ..
            } => write!(f, "deposit {amount} of asset {asset} to user {user}"),
            Self::Withdraw {
                user, asset, amount, ..
            } => {
                write!(f, "withdraw {amount} of asset {asset} from user {user}")
            }
            Self::Place {
                user,
                symbol,
                side,
                price,
                quantity,
                matching,
            } => {
                write!(
                    f,
                    "user {user}: {side} {quantity} at {price} in symbol {symbol} ({matching:?})"
                )
            }
            Self::Cancel { user, order } => write!(f, "user {user}: cancel order {order}"),
        }
    }
}
