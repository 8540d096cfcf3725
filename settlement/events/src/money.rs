//! Money: integers in minor units of an asset, checked everywhere, and the one rule that turns a price and a
//! quantity into an amount. What an account holds and what may happen to it is not here.

use std::fmt;

use crate::integer::{self, unsigned_serde};

/// The largest amount anything may hold: `i64::MAX`, the largest CQL `bigint`.
pub const AMOUNT_MAX: u64 = i64::MAX as u64;

/// The most decimals an asset may have: 10^18 is the last power of ten whose double still fits a `bigint`.
pub const DECIMALS_MAX: u8 = 18;

/// What went wrong with a piece of money arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The result is above `i64::MAX`.
    #[error("the result is above {AMOUNT_MAX}, the largest amount a database bigint holds")]
    Overflow,
    /// The result would be below zero.
    #[error("the result would be negative")]
    Negative,
    /// The number of decimals is not one an asset can have.
    #[error("{0} decimals: an asset has at most {DECIMALS_MAX}")]
    Decimals(u8),
}

macro_rules! unsigned_unit {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        unsigned_serde!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// The sum, or [`MoneyError::Overflow`] above `i64::MAX`.
            pub const fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
                match self.0.checked_add(other.0) {
                    Some(sum) if sum <= AMOUNT_MAX => Ok(Self(sum)),
                    _ => Err(MoneyError::Overflow),
                }
            }

            /// The difference, or [`MoneyError::Negative`].
            pub const fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
                match self.0.checked_sub(other.0) {
                    Some(difference) => Ok(Self(difference)),
                    None => Err(MoneyError::Negative),
                }
            }

            /// Whether it is zero.
            #[must_use]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// As a database `bigint`, or [`MoneyError::Overflow`].
            pub const fn to_bigint(self) -> Result<i64, MoneyError> {
                if self.0 <= AMOUNT_MAX { Ok(self.0 as i64) } else { Err(MoneyError::Overflow) }
            }
        }
    };
}

unsigned_unit!(
    /// An amount of some asset in its minor units. Decoding accepts any `u64`; whatever uses one refuses what is
    /// above `i64::MAX` (see [`crate::check`]).
    Amount
);
unsigned_unit!(
    /// Minor units of the quote asset for one whole unit (10^decimals minor units) of the base asset.
    Price
);
unsigned_unit!(
    /// Minor units of the base asset.
    Quantity
);

impl Quantity {
    /// The same number of minor units as an amount of the base asset.
    #[must_use]
    pub const fn amount(self) -> Amount {
        Amount(self.0)
    }
}

/// A change of an amount, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignedAmount(pub i64);

impl SignedAmount {
    /// No change.
    pub const ZERO: Self = Self(0);

    /// A change by as much as `amount`, upwards; [`MoneyError::Overflow`] above `i64::MAX`.
    pub const fn plus(amount: Amount) -> Result<Self, MoneyError> {
        match amount.to_bigint() {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(error),
        }
    }

    /// A change by as much as `amount`, downwards; [`MoneyError::Overflow`] above `i64::MAX`.
    pub const fn minus(amount: Amount) -> Result<Self, MoneyError> {
        match amount.to_bigint() {
            Ok(value) => Ok(Self(-value)),
            Err(error) => Err(error),
        }
    }

    /// What `before` becomes, or why it cannot.
    pub const fn apply(self, before: Amount) -> Result<Amount, MoneyError> {
        if self.0 >= 0 {
            before.checked_add(Amount(self.0.unsigned_abs()))
        } else {
            before.checked_sub(Amount(self.0.unsigned_abs()))
        }
    }

    /// What it was before it became `after`, or why there is no such amount.
    pub const fn undo(self, after: Amount) -> Result<Amount, MoneyError> {
        if self.0 >= 0 {
            after.checked_sub(Amount(self.0.unsigned_abs()))
        } else {
            after.checked_add(Amount(self.0.unsigned_abs()))
        }
    }
}

impl fmt::Display for SignedAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+}", self.0)
    }
}

impl serde::Serialize for SignedAmount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        integer::serialize_i64(self.0, serializer)
    }
}

impl<'de> serde::Deserialize<'de> for SignedAmount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        integer::deserialize_i64(deserializer).map(Self)
    }
}

/// What a quantity at a price costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuoteAmount {
    /// Minor units of the quote asset, rounded toward zero.
    pub amount: Amount,
    /// What the rounding left, in units of 1 / 10^base_decimals of a quote minor unit; zero if the division was exact.
    pub remainder: u64,
}

/// `price x quantity / 10^base_decimals` in i128, rounded toward zero.
///
/// The remainder stays where it was: the buyer's lock keeps it until the order's last fill or cancellation gives
/// it back. Errors: [`MoneyError::Overflow`] when the result is above `i64::MAX`, [`MoneyError::Decimals`].
pub const fn quote_amount(price: Price, quantity: Quantity, base_decimals: u8) -> Result<QuoteAmount, MoneyError> {
    if base_decimals > DECIMALS_MAX {
        return Err(MoneyError::Decimals(base_decimals));
    }
    let product = match (price.0 as i128).checked_mul(quantity.0 as i128) {
        Some(product) => product,
        None => return Err(MoneyError::Overflow),
    };
    let scale = 10_i128.pow(base_decimals as u32);
    let amount = product / scale;
    if amount > AMOUNT_MAX as i128 {
        return Err(MoneyError::Overflow);
    }
    Ok(QuoteAmount {
        amount: Amount(amount as u64),
        remainder: (product % scale) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_times_a_quantity_rounds_toward_zero_and_keeps_the_remainder() {
        // 27,123.45678901 USDT for a BTC, 0.12345678 BTC: 3,348.57463764 USDT and a bit.
        let cost = quote_amount(Price(2_712_345_678_901), Quantity(12_345_678), 8).unwrap();
        assert_eq!(cost.amount, Amount(334_857_463_764));
        assert_eq!(cost.remainder, 3_139_878);
        let product = 2_712_345_678_901_i128 * 12_345_678;
        assert_eq!(
            i128::from(cost.amount.0) * 100_000_000 + i128::from(cost.remainder),
            product
        );
    }

    #[test]
    fn a_cost_below_one_minor_unit_is_zero_with_a_remainder() {
        let cost = quote_amount(Price(3), Quantity(2), 1).unwrap();
        assert_eq!((cost.amount, cost.remainder), (Amount(0), 6));
    }

    #[test]
    fn overflow_is_an_error_not_a_wrap() {
        assert_eq!(
            quote_amount(Price(u64::MAX), Quantity(u64::MAX), 0),
            Err(MoneyError::Overflow)
        );
        assert_eq!(
            quote_amount(Price(AMOUNT_MAX), Quantity(1), 0).unwrap().amount,
            Amount(AMOUNT_MAX)
        );
        assert_eq!(
            quote_amount(Price(AMOUNT_MAX + 1), Quantity(1), 0),
            Err(MoneyError::Overflow)
        );
        assert_eq!(Amount(AMOUNT_MAX).checked_add(Amount(1)), Err(MoneyError::Overflow));
        assert_eq!(Amount(1).checked_sub(Amount(2)), Err(MoneyError::Negative));
        assert_eq!(SignedAmount(i64::MIN).apply(Amount(5)), Err(MoneyError::Negative));
    }

    #[test]
    fn an_asset_with_too_many_decimals_is_refused() {
        assert_eq!(quote_amount(Price(1), Quantity(1), 19), Err(MoneyError::Decimals(19)));
        assert!(quote_amount(Price(1), Quantity(1), 18).is_ok());
    }

    #[test]
    fn a_change_can_be_undone() {
        let after = SignedAmount(-7).apply(Amount(10)).unwrap();
        assert_eq!(after, Amount(3));
        assert_eq!(SignedAmount(-7).undo(after), Ok(Amount(10)));
        assert_eq!(SignedAmount(4).undo(after), Err(MoneyError::Negative));
    }
}
