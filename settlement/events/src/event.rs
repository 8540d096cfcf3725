//! The events of the output stream: what the matching engine says happened, with the account and order states that
//! result, so that a reader verifies instead of computing. Plain data; whether it is consistent is [`crate::check`]'s
//! question, how it is written [`crate::codec`]'s.
//!
//! The order of fields is the canonical encoding of format version 1: a field added, removed or moved is a new
//! format version.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::Digest;
use crate::ids::{
    AssetId, Epoch, EventId, MatchSeq, OrderId, OutputSequence, SymbolId, TimeMs, TradeId, UserId, Version,
};
use crate::money::{Amount, Price, Quantity, SignedAmount};

/// One change of one account (a user's holding of an asset), with the state after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceChange {
    /// Whose account.
    pub user_id: UserId,
    /// In which asset.
    pub asset_id: AssetId,
    /// The running number of this state of the account, from 1, without holes.
    pub version: Version,
    /// By how much the spendable part changed.
    pub delta_avail: SignedAmount,
    /// By how much the part locked by open orders changed.
    pub delta_frozen: SignedAmount,
    /// The spendable part after the change.
    pub avail: Amount,
    /// The locked part after the change.
    pub frozen: Amount,
}

/// Which way an order goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Side {
    /// Gives quote, takes base.
    Buy,
    /// Gives base, takes quote.
    Sell,
}

impl Side {
    /// The side it trades against.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }

    /// `BUY` or `SELL`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "BUY",
            Self::Sell => "SELL",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an order is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderStatus {
    /// Accepted, nothing filled.
    Placed,
    /// Something filled, something left.
    Partial,
    /// Everything filled. Final.
    Filled,
    /// What was left is taken back. Final.
    Cancelled,
}

impl OrderStatus {
    /// Whether an order in this status may be in status `next` after one event. A first fill may also be the last,
    /// and a partly filled order may be filled a bit more.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (
                Self::Placed | Self::Partial,
                Self::Partial | Self::Filled | Self::Cancelled
            )
        )
    }

    /// `PLACED`, `PARTIAL`, `FILLED` or `CANCELLED`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "PLACED",
            Self::Partial => "PARTIAL",
            Self::Filled => "FILLED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One state of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderState {
    /// Whose order.
    pub user_id: UserId,
    /// Which order.
    pub order_id: OrderId,
    /// The running number of this state of the order, from 1, without holes.
    pub version: Version,
    /// In which book.
    pub symbol: SymbolId,
    /// Which way.
    pub side: Side,
    /// The limit.
    pub price: Price,
    /// How much it is for.
    pub quantity: Quantity,
    /// How much of that is filled by now.
    pub filled_quantity: Quantity,
    /// Where it is in its life.
    pub status: OrderStatus,
}

/// A fee, taken from what its payer receives in the trade (the buyer pays in base, the seller in quote).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fee {
    /// Who pays: the buyer or the seller.
    pub payer: UserId,
    /// In which asset: the one the payer receives.
    pub asset_id: AssetId,
    /// How much. Never zero: a fee that rounds to nothing is not listed.
    pub amount: Amount,
}

/// A match of two orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trade {
    /// Which trade.
    pub trade_id: TradeId,
    /// The running number of the match in its book.
    pub match_seq: MatchSeq,
    /// The order that buys.
    pub buy_order_id: OrderId,
    /// The order that sells.
    pub sell_order_id: OrderId,
    /// Who buys; may be the seller (a self-trade).
    pub buyer_user_id: UserId,
    /// Who sells.
    pub seller_user_id: UserId,
    /// In which book.
    pub symbol: SymbolId,
    /// What is bought.
    pub base_asset: AssetId,
    /// What it is paid with.
    pub quote_asset: AssetId,
    /// The maker's limit.
    pub price: Price,
    /// How much changes hands.
    pub quantity: Quantity,
    /// What the buyer spends: [`crate::quote_amount`] of price and quantity.
    pub quote_amount: Amount,
    /// What the buy order locked minus what it spent, given back at its last fill; zero before.
    pub buyer_refund: Amount,
    /// What the sell order locked minus what it sold, at its last fill. Zero: a sell order locks what it sells.
    pub seller_refund: Amount,
    /// Whether the buy order rested in the book and the sell order came.
    pub buyer_is_maker: bool,
    /// At most one per side, the buyer's first.
    pub fees: Vec<Fee>,
    /// Buyer base, buyer quote, seller base, seller quote, then the credit of a fee account for each fee, in the
    /// order of `fees`. Where an account appears twice the later change follows the earlier one.
    pub changes: Vec<BalanceChange>,
    /// The buy order's state after the trade, then the sell order's.
    pub orders: [OrderState; 2],
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Body {
    /// Money came in.
    Deposit {
        /// Which deposit.
        event_id: EventId,
        /// The account it went to.
        change: BalanceChange,
    },
    /// Money went out.
    Withdrawal {
        /// Which withdrawal.
        event_id: EventId,
        /// The account it came from.
        change: BalanceChange,
    },
    /// An order was accepted and what it may need is locked.
    OrderPlaced {
        /// The lock: avail to frozen.
        change: BalanceChange,
        /// Its first state.
        order: OrderState,
    },
    /// What was left of an order is taken back.
    OrderCancelled {
        /// The unlock: frozen to avail, by what the order locked minus what it spent.
        change: BalanceChange,
        /// Its last state.
        order: OrderState,
    },
    /// Two orders matched.
    Trade(Box<Trade>),
    /// The stream goes on under another epoch: the only thing that may move the sequence by other than one.
    EpochStart {
        /// The epoch that begins.
        epoch: Epoch,
        /// The sequence of this event, above every sequence of every earlier epoch.
        first_seq: OutputSequence,
        /// The digest of the last event of the epoch before.
        prev_digest: Digest,
    },
}

/// The kind of an event, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// [`Body::Deposit`]
    Deposit,
    /// [`Body::Withdrawal`]
    Withdrawal,
    /// [`Body::OrderPlaced`]
    OrderPlaced,
    /// [`Body::OrderCancelled`]
    OrderCancelled,
    /// [`Body::Trade`]
    Trade,
    /// [`Body::EpochStart`]
    EpochStart,
}

impl EventKind {
    /// The name that rows and reports use, such as `order_placed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Withdrawal => "withdrawal",
            Self::OrderPlaced => "order_placed",
            Self::OrderCancelled => "order_cancelled",
            Self::Trade => "trade",
            Self::EpochStart => "epoch_start",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Body {
    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Deposit { .. } => EventKind::Deposit,
            Self::Withdrawal { .. } => EventKind::Withdrawal,
            Self::OrderPlaced { .. } => EventKind::OrderPlaced,
            Self::OrderCancelled { .. } => EventKind::OrderCancelled,
            Self::Trade(_) => EventKind::Trade,
            Self::EpochStart { .. } => EventKind::EpochStart,
        }
    }

    /// The account changes, in the order in which they follow one another.
    #[must_use]
    pub fn changes(&self) -> &[BalanceChange] {
        match self {
            Self::Deposit { change, .. }
            | Self::Withdrawal { change, .. }
            | Self::OrderPlaced { change, .. }
            | Self::OrderCancelled { change, .. } => std::slice::from_ref(change),
            Self::Trade(trade) => &trade.changes,
            Self::EpochStart { .. } => &[],
        }
    }

    /// The order states that result.
    #[must_use]
    pub fn orders(&self) -> &[OrderState] {
        match self {
            Self::OrderPlaced { order, .. } | Self::OrderCancelled { order, .. } => std::slice::from_ref(order),
            Self::Trade(trade) => &trade.orders,
            Self::Deposit { .. } | Self::Withdrawal { .. } | Self::EpochStart { .. } => &[],
        }
    }
}

/// One entry of the output stream. Its identity is `(epoch, output_sequence, digest, prev_digest)`, the digest being
/// that of its canonical encoding ([`Event::digest`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The stream's life.
    pub epoch: Epoch,
    /// Its position, from 1.
    pub output_sequence: OutputSequence,
    /// When the matching engine accepted what caused it.
    pub event_time_ms: TimeMs,
    /// The digest of the event before; [`Digest::ZERO`] for the first.
    pub prev_digest: Digest,
    /// What happened.
    pub body: Body,
}

impl Event {
    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        self.body.kind()
    }

    /// The account changes, in the order in which they follow one another.
    #[must_use]
    pub fn changes(&self) -> &[BalanceChange] {
        self.body.changes()
    }

    /// The order states that result.
    #[must_use]
    pub fn orders(&self) -> &[OrderState] {
        self.body.orders()
    }

    /// The trade, if it is one.
    #[must_use]
    pub const fn trade(&self) -> Option<&Trade> {
        match &self.body {
            Body::Trade(trade) => Some(trade),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OrderStatus::{Cancelled, Filled, Partial, Placed};

    #[test]
    fn final_states_are_final_and_nothing_becomes_placed() {
        for from in [Placed, Partial, Filled, Cancelled] {
            assert!(!from.may_become(Placed), "{from} -> PLACED");
            assert!(!Filled.may_become(from), "FILLED -> {from}");
            assert!(!Cancelled.may_become(from), "CANCELLED -> {from}");
        }
        for open in [Placed, Partial] {
            for next in [Partial, Filled, Cancelled] {
                assert!(open.may_become(next), "{open} -> {next}");
            }
        }
    }
}
