//! The rows that the designs taken from the source have in common, and how an event becomes one. No timestamps: the
//! coordinator's clock stamps them, as the source has it.

use settlement_events::{Body, Event, OrderState, Trade};

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

/// The row of a trade.
pub(crate) fn trade_row(event: &Event, trade: &Trade) -> SettledTrade {
    SettledTrade {
        trade_id: trade.trade_id.into(),
        output_sequence: event.output_sequence.into(),
        match_seq: trade.match_seq.into(),
        event_time_ms: event.event_time_ms.into(),
        buy_order_id: trade.buy_order_id.into(),
        sell_order_id: trade.sell_order_id.into(),
        buyer_user_id: trade.buyer_user_id.into(),
        seller_user_id: trade.seller_user_id.into(),
        base_asset: trade.base_asset.into(),
        quote_asset: trade.quote_asset.into(),
        price: trade.price.into(),
        quantity: trade.quantity.into(),
        quote_amount: trade.quote_amount.into(),
        buyer_refund: trade.buyer_refund.into(),
        seller_refund: trade.seller_refund.into(),
        buyer_is_maker: trade.buyer_is_maker,
        fees: FeeBytes::of(&trade.fees),
    }
}

/// The row of a deposit or a withdrawal; `None` of anything else.
pub(crate) fn ledger_event_row(event: &Event) -> Option<LedgerEvent> {
    let (Body::Deposit { event_id, change } | Body::Withdrawal { event_id, change }) = &event.body else {
        return None;
    };
    Some(LedgerEvent {
        user_id: change.user_id.into(),
        event_id: (*event_id).into(),
        output_sequence: event.output_sequence.into(),
        kind: event.kind().as_str(),
        asset_id: change.asset_id.into(),
        amount: Bigint(change.delta_avail.0.unsigned_abs()),
        event_time_ms: event.event_time_ms.into(),
    })
}

/// The row of an order.
pub(crate) fn order_row(order: &OrderState) -> OrderRow {
    OrderRow {
        user_id: order.user_id.into(),
        order_id: order.order_id.into(),
        version: order.version.into(),
        symbol: order.symbol.into(),
        side: order.side.as_str(),
        price: order.price.into(),
        quantity: order.quantity.into(),
        filled_quantity: order.filled_quantity.into(),
        status: order.status.as_str(),
    }
}
