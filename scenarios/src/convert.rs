//! From the engine's events to the oracle's facts. Only what happened is handed over: no balance, version or refund
//! that an event carries gets into the oracle.
use oracle::{Fact, Market};
use settlement_events::{Body, Event, Registry, Side};

/// The market of a registry.
pub fn market(registry: &Registry) -> Market {
    let symbols = registry.symbols().iter().filter_map(|symbol| {
        let base_decimals = registry.asset(symbol.base)?.decimals.into();
        Some((
            symbol.id.0,
            oracle::Symbol {
                base: symbol.base.0,
                quote: symbol.quote.0,
                base_decimals,
                rates: Some(oracle::FeeRates {
                    maker_ppm: symbol.maker_fee_ppm,
                    taker_ppm: symbol.taker_fee_ppm,
                }),
            },
        ))
    });
    Market {
        symbols: symbols.collect(),
    }
}

/// The fact of an event; None for an event that moves nothing.
pub fn fact(event: &Event) -> Option<Fact> {
    Some(match &event.body {
        Body::Deposit { change, .. } => Fact::Deposit {
            user: change.user_id.0,
            asset: change.asset_id.0,
            amount: u64::try_from(change.delta_avail.0).unwrap_or(0),
        },
        Body::Withdrawal { change, .. } => Fact::Withdrawal {
            user: change.user_id.0,
            asset: change.asset_id.0,
            amount: change
                .delta_avail
                .0
                .checked_neg()
                .and_then(|n| u64::try_from(n).ok())
                .unwrap_or(0),
        },
        Body::OrderPlaced { order, .. } => Fact::OrderPlaced {
            user: order.user_id.0,
            order: order.order_id.0,
            symbol: order.symbol.0,
            side: if order.side == Side::Buy {
                oracle::Side::Buy
            } else {
                oracle::Side::Sell
            },
            price: order.price.0,
            quantity: order.quantity.0,
        },
        Body::OrderCancelled { order, .. } => Fact::OrderCancelled {
            order: order.order_id.0,
        },
        Body::Trade(trade) => Fact::Trade(oracle::Trade {
            trade_id: trade.trade_id.0,
            buy_order: trade.buy_order_id.0,
            sell_order: trade.sell_order_id.0,
            price: trade.price.0,
            quantity: trade.quantity.0,
            fees: fees(trade),
        }),
        Body::EpochStart { .. } => return None,
    })
}

/// Who pays what to which fee account: the account is that of the change listed for the fee, behind the four of the
/// two sides.
fn fees(trade: &settlement_events::Trade) -> Vec<oracle::Fee> {
    let accounts = trade.changes.iter().skip(4).map(|change| change.user_id.0);
    trade
        .fees
        .iter()
        .zip(accounts)
        .map(|(fee, account)| oracle::Fee {
            payer: fee.payer.0,
            asset: fee.asset_id.0,
            amount: fee.amount.0,
            account,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_market_has_the_rates_of_its_registry() {
        let registry = Registry::example();
        let market = market(&registry);
        assert_eq!(market.symbols.len(), registry.symbols().len());
        for symbol in registry.symbols() {
            let rates = market.symbols[&symbol.id.0].rates.expect("known");
            let expected = (symbol.maker_fee_ppm, symbol.taker_fee_ppm);
            assert_eq!((rates.maker_ppm, rates.taker_ppm), expected);
            assert!(
                expected.0 > 0 && expected.1 > expected.0,
                "rates that tell the sides apart: {expected:?}"
            );
        }
    }
}
