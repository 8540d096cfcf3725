//! The rows of the `logged-rmw` design. No timestamps: the coordinator's clock stamps them, as the source has it.

use crate::designs::row::{Bigint, Int, row};
use crate::designs::source::rows::{LedgerEvent, OrderRow, SettledTrade};

row!(
    /// An account as this design computed it. Signed: nothing keeps a balance from going below zero.
    UserBalance {
        user_id: Bigint,
        asset_id: Int,
        version: i64,
        avail: i64,
        frozen: i64,
    }
);

/// A row of any table that a batch writes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Row {
    /// `settled_trades_<symbol>`
    Trade(SettledTrade),
    /// `ledger_events`
    LedgerEvent(LedgerEvent),
    /// `user_balances`
    Balance(UserBalance),
    /// `orders`
    Order(OrderRow),
}

impl scylla::serialize::row::SerializeRow for Row {
    fn serialize(
        &self,
        ctx: &scylla::serialize::row::RowSerializationContext<'_>,
        writer: &mut scylla::serialize::writers::RowWriter,
    ) -> Result<(), scylla::serialize::SerializationError> {
        match self {
            Self::Trade(row) => row.serialize(ctx, writer),
            Self::LedgerEvent(row) => row.serialize(ctx, writer),
            Self::Balance(row) => row.serialize(ctx, writer),
            Self::Order(row) => row.serialize(ctx, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}
