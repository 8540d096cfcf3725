//! Does one event agree with itself and with the registry? Pure, one event at a time.
//!
//! Verified: every number within what a database `bigint` and a row timestamp hold; known symbols and assets; each
//! account change against its own deltas (the state before it exists and is not negative); the equations of each
//! kind (what is locked, spent, received, given back, paid as fee); order states and the one step they took.
//!
//! Not verified, because one event does not know it: that versions, balances and fills continue those of earlier events,
//! that the order had this limit all along (settlement's `Verifier` looks at those), what a partly filled order spent
//! before (the oracle does), and the rate of a fee, which may have been another when the event was made.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::{BalanceChange, Body, Event, OrderState, OrderStatus, Side, Trade};
use crate::ids::{AssetId, OutputSequence, UserId, Version};
use crate::money::{AMOUNT_MAX, Amount, MoneyError, Price, Quantity, SignedAmount, quote_amount};
use crate::registry::{Registry, Symbol};

/// What kind of contradiction an event contains; the reason code of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// A number above `i64::MAX`, a version or sequence above what a timestamp holds, or a product that is.
    Overflow,
    /// A quantity or a price of zero.
    ZeroQuantity,
    /// An asset that the registry does not have.
    UnknownAsset,
    /// A symbol that the registry does not have.
    UnknownSymbol,
    /// Numbers that do not add up.
    Contradiction,
    /// An order state that cannot be the result of this event.
    IllegalTransition,
    /// A fee that nobody may be asked for, or that goes to an account that collects none.
    BadFee,
    /// An epoch start that contradicts its own place in the stream.
    BadEpoch,
}

impl RefusalCode {
    /// The code as rows and reports carry it, such as `unknown_asset`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::ZeroQuantity => "zero_quantity",
            Self::UnknownAsset => "unknown_asset",
            Self::UnknownSymbol => "unknown_symbol",
            Self::Contradiction => "contradiction",
            Self::IllegalTransition => "illegal_transition",
            Self::BadFee => "bad_fee",
            Self::BadEpoch => "bad_epoch",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an event is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// The kind of contradiction.
    pub code: RefusalCode,
    /// What contradicts what, with the numbers.
    pub detail: String,
}

impl Refusal {
    /// A refusal with its detail.
    #[must_use]
    pub fn new(code: RefusalCode, detail: impl fmt::Display) -> Self {
        Self {
            code,
            detail: detail.to_string(),
        }
    }
}

type Checked = Result<(), Refusal>;

/// Looks at one event. `Ok` means: nothing in it contradicts itself or the registry.
pub fn check(event: &Event, registry: &Registry) -> Checked {
    bigint("epoch", u64::from(event.epoch.0))?;
    bigint("event_time_ms", event.event_time_ms.0)?;
    if event.output_sequence.0 == 0 || event.output_sequence > OutputSequence::MAX {
        let detail = format_args!(
            "output_sequence {}: must be 1 to {}",
            event.output_sequence,
            OutputSequence::MAX
        );
        return Err(Refusal::new(RefusalCode::Overflow, detail));
    }
    event
        .changes()
        .iter()
        .try_for_each(|change| check_change(change, registry))?;
    event
        .orders()
        .iter()
        .try_for_each(|order| check_order(order, registry))?;
    check_repeated_accounts(event.changes())?;
    match &event.body {
        Body::Deposit { event_id, change } => {
            bigint("event_id", event_id.0)?;
            check_transfer("deposit", change, change.delta_avail.0 > 0)
        }
        Body::Withdrawal { event_id, change } => {
            bigint("event_id", event_id.0)?;
            check_transfer("withdrawal", change, change.delta_avail.0 < 0)
        }
        Body::OrderPlaced { change, order } => check_placed(change, order, registry),
        Body::OrderCancelled { change, order } => check_cancelled(change, order, registry),
        Body::Trade(trade) => check_trade(trade, registry),
        Body::EpochStart {
            epoch,
            first_seq,
            prev_digest,
        } => {
            let agrees = (*epoch, *first_seq, *prev_digest) == (event.epoch, event.output_sequence, event.prev_digest);
            holds(agrees, RefusalCode::BadEpoch, || {
                format!(
                    "epoch start {epoch} at {first_seq} stands in epoch {} at {}",
                    event.epoch, event.output_sequence
                )
            })
        }
    }
}

fn holds(condition: bool, code: RefusalCode, detail: impl FnOnce() -> String) -> Checked {
    if condition {
        Ok(())
    } else {
        Err(Refusal { code, detail: detail() })
    }
}

fn bigint(what: &str, value: u64) -> Checked {
    holds(value <= AMOUNT_MAX, RefusalCode::Overflow, || {
        format!("{what} {value} is above {AMOUNT_MAX}")
    })
}

fn check_version(what: &str, version: Version) -> Checked {
    holds(version >= Version::FIRST, RefusalCode::Contradiction, || {
        format!("{what} version 0: versions start at 1")
    })?;
    holds(version <= Version::MAX, RefusalCode::Overflow, || {
        format!(
            "{what} version {version} is above {}, the largest a row timestamp holds",
            Version::MAX
        )
    })
}

/// One change against itself: the state before it, computed back from the deltas, must be one an account can have.
fn check_change(change: &BalanceChange, registry: &Registry) -> Checked {
    holds(
        registry.asset(change.asset_id).is_some(),
        RefusalCode::UnknownAsset,
        || {
            format!(
                "asset {} of user {} is not in the registry",
                change.asset_id, change.user_id
            )
        },
    )?;
    bigint("user_id", change.user_id.0)?;
    bigint("avail", change.avail.0)?;
    bigint("frozen", change.frozen.0)?;
    check_version("account", change.version)?;
    let before = (
        change.delta_avail.undo(change.avail),
        change.delta_frozen.undo(change.frozen),
    );
    let (Ok(avail), Ok(frozen)) = before else {
        return Err(Refusal::new(RefusalCode::Contradiction, NoStateBefore(change)));
    };
    let fresh = avail.is_zero() && frozen.is_zero();
    holds(
        change.version > Version::FIRST || fresh,
        RefusalCode::Contradiction,
        || {
            format!(
                "the first change of user {} asset {} starts from avail {avail} frozen {frozen}, not from nothing",
                change.user_id, change.asset_id
            )
        },
    )
}

struct NoStateBefore<'a>(&'a BalanceChange);

impl fmt::Display for NoStateBefore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BalanceChange {
            user_id,
            asset_id,
            version,
            delta_avail,
            delta_frozen,
            avail,
            frozen,
        } = self.0;
        write!(
            f,
            "user {user_id} asset {asset_id} version {version}: avail {avail} after {delta_avail} and frozen \
             {frozen} after {delta_frozen} have no state before them"
        )
    }
}

/// Where an account appears more than once, the later change must continue the earlier one.
fn check_repeated_accounts(changes: &[BalanceChange]) -> Checked {
    for (at, later) in changes.iter().enumerate() {
        let same = |earlier: &&BalanceChange| (earlier.user_id, earlier.asset_id) == (later.user_id, later.asset_id);
        let Some(earlier) = changes[..at].iter().rev().find(same) else {
            continue;
        };
        let continues = earlier.version.next() == Some(later.version)
            && later.delta_avail.apply(earlier.avail) == Ok(later.avail)
            && later.delta_frozen.apply(earlier.frozen) == Ok(later.frozen);
        holds(continues, RefusalCode::Contradiction, || {
            format!(
                "user {} asset {}: version {} does not continue version {} of the same event",
                later.user_id, later.asset_id, later.version, earlier.version
            )
        })?;
    }
    Ok(())
}

fn check_order(order: &OrderState, registry: &Registry) -> Checked {
    known_symbol(order.symbol, registry)?;
    bigint("user_id", order.user_id.0)?;
    bigint("order_id", order.order_id.0)?;
    bigint("price", order.price.0)?;
    bigint("quantity", order.quantity.0)?;
    check_version("order", order.version)?;
    let positive = !order.quantity.is_zero() && !order.price.is_zero();
    holds(positive, RefusalCode::ZeroQuantity, || {
        format!(
            "order {}: quantity {} at price {}",
            order.order_id, order.quantity, order.price
        )
    })?;
    let (filled, whole) = (order.filled_quantity, order.quantity);
    let fits = match order.status {
        OrderStatus::Placed => filled.is_zero() && order.version == Version::FIRST,
        OrderStatus::Partial => !filled.is_zero() && filled < whole && order.version > Version::FIRST,
        OrderStatus::Filled => filled == whole && order.version > Version::FIRST,
        OrderStatus::Cancelled => filled < whole && order.version > Version::FIRST,
    };
    holds(fits, RefusalCode::IllegalTransition, || {
        format!(
            "order {} is {} at version {} with {filled} of {whole} filled",
            order.order_id, order.status, order.version
        )
    })
}

fn known_symbol(id: crate::ids::SymbolId, registry: &Registry) -> Result<&Symbol, Refusal> {
    registry.symbol(id).ok_or_else(|| {
        Refusal::new(
            RefusalCode::UnknownSymbol,
            format_args!("symbol {id} is not in the registry"),
        )
    })
}

fn check_transfer(what: &str, change: &BalanceChange, direction: bool) -> Checked {
    holds(
        change.delta_avail != SignedAmount::ZERO,
        RefusalCode::ZeroQuantity,
        || format!("a {what} of nothing"),
    )?;
    holds(
        direction && change.delta_frozen == SignedAmount::ZERO,
        RefusalCode::Contradiction,
        || {
            format!(
                "a {what} that changes avail by {} and frozen by {}",
                change.delta_avail, change.delta_frozen
            )
        },
    )
}

/// The account that an order locks, and how much of it.
fn lock_of(order: &OrderState, symbol: &Symbol, registry: &Registry) -> Result<(AssetId, Amount), Refusal> {
    match order.side {
        Side::Buy => Ok((symbol.quote, cost(order.price, order.quantity, symbol, registry)?)),
        Side::Sell => Ok((symbol.base, order.quantity.amount())),
    }
}

fn cost(price: Price, quantity: Quantity, symbol: &Symbol, registry: &Registry) -> Result<Amount, Refusal> {
    quote_amount(price, quantity, registry.base_decimals(symbol))
        .map(|cost| cost.amount)
        .map_err(|error| {
            Refusal::new(
                RefusalCode::Overflow,
                format_args!("{quantity} at price {price}: {error}"),
            )
        })
}

/// Whether a change is of this account and by these amounts.
fn expect_change(
    what: &str,
    change: &BalanceChange,
    account: (UserId, AssetId),
    deltas: Result<(SignedAmount, SignedAmount), MoneyError>,
) -> Checked {
    let (delta_avail, delta_frozen) =
        deltas.map_err(|error| Refusal::new(RefusalCode::Overflow, format_args!("{what}: {error}")))?;
    holds(
        (change.user_id, change.asset_id) == account,
        RefusalCode::Contradiction,
        || {
            format!(
                "{what}: the change is of user {} asset {}, not of user {} asset {}",
                change.user_id, change.asset_id, account.0, account.1
            )
        },
    )?;
    holds(
        (change.delta_avail, change.delta_frozen) == (delta_avail, delta_frozen),
        RefusalCode::Contradiction,
        || {
            format!(
                "{what}: avail {} frozen {}, but it must be avail {delta_avail} frozen {delta_frozen}",
                change.delta_avail, change.delta_frozen
            )
        },
    )
}

fn both(
    avail: Result<SignedAmount, MoneyError>,
    frozen: Result<SignedAmount, MoneyError>,
) -> Result<(SignedAmount, SignedAmount), MoneyError> {
    Ok((avail?, frozen?))
}

fn check_placed(change: &BalanceChange, order: &OrderState, registry: &Registry) -> Checked {
    let symbol = known_symbol(order.symbol, registry)?;
    holds(
        order.status == OrderStatus::Placed,
        RefusalCode::IllegalTransition,
        || format!("order {} is placed with status {}", order.order_id, order.status),
    )?;
    let (asset, lock) = lock_of(order, symbol, registry)?;
    let deltas = both(SignedAmount::minus(lock), SignedAmount::plus(lock));
    expect_change("order lock", change, (order.user_id, asset), deltas)
}

fn check_cancelled(change: &BalanceChange, order: &OrderState, registry: &Registry) -> Checked {
    let symbol = known_symbol(order.symbol, registry)?;
    let untouched = order.filled_quantity.is_zero();
    let version_fits = if untouched {
        order.version.0 == 2
    } else {
        order.version.0 > 2
    };
    holds(
        order.status == OrderStatus::Cancelled && version_fits,
        RefusalCode::IllegalTransition,
        || {
            format!(
                "order {} is cancelled into {} at version {}",
                order.order_id, order.status, order.version
            )
        },
    )?;
    let (asset, lock) = lock_of(order, symbol, registry)?;
    let unlocked = Amount(u64::try_from(change.delta_avail.0).map_err(|_| {
        Refusal::new(
            RefusalCode::Contradiction,
            format_args!("a cancellation changes avail by {}", change.delta_avail),
        )
    })?);
    let deltas = both(SignedAmount::plus(unlocked), SignedAmount::minus(unlocked));
    expect_change("order unlock", change, (order.user_id, asset), deltas)?;
    let left = Quantity(order.quantity.0 - order.filled_quantity.0);
    // A buy order filled in part spent an amount that this event does not say, but at most its limit's worth.
    let least = match order.side {
        Side::Buy if untouched => lock,
        Side::Buy => cost(order.price, left, symbol, registry)?,
        Side::Sell => left.amount(),
    };
    let most = if order.side == Side::Sell { least } else { lock };
    holds(
        least <= unlocked && unlocked <= most,
        RefusalCode::Contradiction,
        || {
            format!(
                "order {} unlocks {unlocked}, but {least} to {most} was left of its lock",
                order.order_id
            )
        },
    )
}

fn check_trade(trade: &Trade, registry: &Registry) -> Checked {
    let symbol = known_symbol(trade.symbol, registry)?;
    check_trade_terms(trade, symbol, registry)?;
    let [buy, sell] = &trade.orders;
    check_trade_order(trade, buy, (Side::Buy, trade.buyer_user_id, trade.buy_order_id.0))?;
    check_trade_order(trade, sell, (Side::Sell, trade.seller_user_id, trade.sell_order_id.0))?;
    check_refunds(trade, buy, symbol, registry)?;
    let (buyer_fee, seller_fee) = check_fees(trade, registry)?;
    check_trade_changes(trade, buyer_fee, seller_fee, registry)
}

fn check_trade_terms(trade: &Trade, symbol: &Symbol, registry: &Registry) -> Checked {
    bigint("trade_id", trade.trade_id.0)?;
    bigint("match_seq", trade.match_seq.0)?;
    bigint("price", trade.price.0)?;
    bigint("quantity", trade.quantity.0)?;
    for asset in [trade.base_asset, trade.quote_asset] {
        holds(registry.asset(asset).is_some(), RefusalCode::UnknownAsset, || {
            format!("asset {asset} of trade {} is not in the registry", trade.trade_id)
        })?;
    }
    holds(
        (trade.base_asset, trade.quote_asset) == (symbol.base, symbol.quote),
        RefusalCode::Contradiction,
        || {
            format!(
                "{} trades asset {} for {}, not {} for {}",
                symbol.name, symbol.base, symbol.quote, trade.base_asset, trade.quote_asset
            )
        },
    )?;
    holds(
        !trade.quantity.is_zero() && !trade.price.is_zero(),
        RefusalCode::ZeroQuantity,
        || {
            format!(
                "trade {}: quantity {} at price {}",
                trade.trade_id, trade.quantity, trade.price
            )
        },
    )?;
    let amount = cost(trade.price, trade.quantity, symbol, registry)?;
    holds(amount == trade.quote_amount, RefusalCode::Contradiction, || {
        format!(
            "{} at price {} is {amount}, not {}",
            trade.quantity, trade.price, trade.quote_amount
        )
    })?;
    holds(
        trade.buy_order_id != trade.sell_order_id,
        RefusalCode::Contradiction,
        || format!("order {} trades with itself", trade.buy_order_id),
    )
}

/// One order of a trade: the right one, within its limit, one legal step further.
fn check_trade_order(trade: &Trade, order: &OrderState, (side, user, id): (Side, UserId, u64)) -> Checked {
    let is_the_one = (order.side, order.user_id, order.order_id.0, order.symbol) == (side, user, id, trade.symbol);
    holds(is_the_one, RefusalCode::Contradiction, || {
        format!(
            "the {side} order is {} {} of user {} in symbol {}, not {id} of user {user} in symbol {}",
            order.side, order.order_id, order.user_id, order.symbol, trade.symbol
        )
    })?;
    let is_maker = (side == Side::Buy) == trade.buyer_is_maker;
    let within_limit = match side {
        _ if is_maker => trade.price == order.price,
        Side::Buy => trade.price <= order.price,
        Side::Sell => trade.price >= order.price,
    };
    holds(within_limit, RefusalCode::Contradiction, || {
        format!(
            "price {} for {side} order {id} with limit {}, maker: {is_maker}",
            trade.price, order.price
        )
    })?;
    let moved = matches!(order.status, OrderStatus::Partial | OrderStatus::Filled);
    let covered = order.filled_quantity >= trade.quantity;
    let first_fill = order.filled_quantity == trade.quantity;
    holds(
        moved && covered && first_fill == (order.version.0 == 2),
        RefusalCode::IllegalTransition,
        || {
            format!(
                "{side} order {id} is {} at version {} with {} filled after a fill of {}",
                order.status, order.version, order.filled_quantity, trade.quantity
            )
        },
    )
}

/// Refunds: nothing before the last fill; then what was locked minus what was spent, which this event knows only
/// if the fill was the only one.
fn check_refunds(trade: &Trade, buy: &OrderState, symbol: &Symbol, registry: &Registry) -> Checked {
    bigint("buyer_refund", trade.buyer_refund.0)?;
    let lock = cost(buy.price, buy.quantity, symbol, registry)?;
    let unspent = lock.checked_sub(trade.quote_amount).map_err(|_| {
        Refusal::new(
            RefusalCode::Contradiction,
            format_args!("order {} locked {lock} and spent {}", buy.order_id, trade.quote_amount),
        )
    })?;
    let only_fill = buy.filled_quantity == trade.quantity;
    let fits = match buy.status {
        OrderStatus::Filled if only_fill => trade.buyer_refund == unspent,
        OrderStatus::Filled => trade.buyer_refund <= unspent,
        _ => trade.buyer_refund.is_zero(),
    };
    holds(fits, RefusalCode::Contradiction, || {
        format!(
            "{} order {} of which {unspent} may be unspent gives back {}",
            buy.status, buy.order_id, trade.buyer_refund
        )
    })?;
    holds(trade.seller_refund.is_zero(), RefusalCode::Contradiction, || {
        format!(
            "a sell order locks exactly what it sells, yet gives back {}",
            trade.seller_refund
        )
    })
}

/// The fees by side; at most one each, paid by who receives the asset, the buyer's first.
fn check_fees(trade: &Trade, registry: &Registry) -> Result<(Amount, Amount), Refusal> {
    let mut by_side = (Amount::ZERO, Amount::ZERO);
    for fee in &trade.fees {
        let (payer, received, paid) = if fee.asset_id == trade.base_asset {
            (trade.buyer_user_id, trade.quantity.amount(), &mut by_side.0)
        } else if fee.asset_id == trade.quote_asset {
            (trade.seller_user_id, trade.quote_amount, &mut by_side.1)
        } else {
            let unknown = registry.asset(fee.asset_id).is_none();
            let code = if unknown {
                RefusalCode::UnknownAsset
            } else {
                RefusalCode::BadFee
            };
            return Err(Refusal::new(
                code,
                format_args!("a fee in asset {}, which is not traded", fee.asset_id),
            ));
        };
        let legal = fee.payer == payer && !fee.amount.is_zero() && fee.amount <= received && paid.is_zero();
        holds(legal, RefusalCode::BadFee, || {
            format!(
                "user {} pays {} of asset {} (received by user {payer}: {received})",
                fee.payer, fee.amount, fee.asset_id
            )
        })?;
        *paid = fee.amount;
    }
    let buyer_first = trade.fees.len() < 2 || trade.fees[0].asset_id == trade.base_asset;
    holds(buyer_first, RefusalCode::BadFee, || {
        "the seller's fee is listed before the buyer's".to_owned()
    })?;
    Ok(by_side)
}

fn check_trade_changes(trade: &Trade, buyer_fee: Amount, seller_fee: Amount, registry: &Registry) -> Checked {
    let (main, credits) = trade.changes.split_first_chunk::<4>().ok_or_else(|| {
        Refusal::new(
            RefusalCode::Contradiction,
            format_args!("a trade with {} balance changes", trade.changes.len()),
        )
    })?;
    holds(credits.len() == trade.fees.len(), RefusalCode::Contradiction, || {
        format!(
            "{} fees and {} credits to fee accounts",
            trade.fees.len(),
            credits.len()
        )
    })?;
    let (buyer, seller) = (trade.buyer_user_id, trade.seller_user_id);
    let bought = trade.quantity.amount();
    let none = Ok(SignedAmount::ZERO);
    let released = |amount: Amount, refund: Amount| amount.checked_add(refund).and_then(SignedAmount::minus);
    let [buyer_base, buyer_quote, seller_base, seller_quote] = main;
    let received = bought.checked_sub(buyer_fee).and_then(SignedAmount::plus);
    expect_change(
        "buyer base",
        buyer_base,
        (buyer, trade.base_asset),
        both(received, none),
    )?;
    let deltas = both(
        SignedAmount::plus(trade.buyer_refund),
        released(trade.quote_amount, trade.buyer_refund),
    );
    expect_change("buyer quote", buyer_quote, (buyer, trade.quote_asset), deltas)?;
    let deltas = both(
        SignedAmount::plus(trade.seller_refund),
        released(bought, trade.seller_refund),
    );
    expect_change("seller base", seller_base, (seller, trade.base_asset), deltas)?;
    let received = trade.quote_amount.checked_sub(seller_fee).and_then(SignedAmount::plus);
    expect_change(
        "seller quote",
        seller_quote,
        (seller, trade.quote_asset),
        both(received, none),
    )
    .and_then(|()| check_credits(trade, credits, registry))
}

fn check_credits(trade: &Trade, credits: &[BalanceChange], registry: &Registry) -> Checked {
    for (fee, credit) in trade.fees.iter().zip(credits) {
        let account = (credit.user_id, fee.asset_id);
        expect_change(
            "fee",
            credit,
            account,
            both(SignedAmount::plus(fee.amount), Ok(SignedAmount::ZERO)),
        )?;
        holds(registry.is_fee_account(credit.user_id), RefusalCode::BadFee, || {
            format!("user {} collects no fees", credit.user_id)
        })?;
    }
    Ok(())
}
