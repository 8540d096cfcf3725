//! The rows of the `logged-rmw` design. No timestamps: the coordinator's clock stamps them, as the source has it.

use crate::designs::fees::FeeBytes;
use crate::designs::row::{Bigint, Int, row};

row!(
    /// A trade, in its symbol's table.
    SettledTrade {
        trade_id: Bigint,
        output_sequence: Bigint,
        match_seq: Bigint,
        event_time_ms: Bigint,
        buy_order_id: Bigint,
        sell_order_id: Bigint,
        buyer_user_id: Bigint,
        seller_user_id: Bigint,
        base_asset: Int,
        quote_asset: Int,
        price: Bigint,
        quantity: Bigint,
        quote_amount: Bigint,
        buyer_refund: Bigint,
        seller_refund: Bigint,
        buyer_is_maker: bool,
        fees: FeeBytes,
    }
);

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

row!(
    /// An order as it is after its latest event.
    OrderRow {
        user_id: Bigint,
        order_id: Bigint,
        version: Bigint,
        symbol: Int,
        side: &'static str,
        price: Bigint,
        quantity: Bigint,
        filled_quantity: Bigint,
        status: &'static str,
    }
);

row!(
    /// A deposit or a withdrawal.
    LedgerEvent {
        user_id: Bigint,
        event_id: Bigint,
        output_sequence: Bigint,
        kind: &'static str,
        asset_id: Int,
        amount: Bigint,
        event_time_ms: Bigint,
    }
);

row!(
    /// An event that was given up.
    FailedTrade {
        bucket: Bigint,
        output_sequence: Bigint,
        kind: &'static str,
        reference: Bigint,
        attempts: i32,
        error: String,
        event: Vec<u8>,
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
