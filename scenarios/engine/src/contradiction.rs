//! Events that contradict themselves on purpose: correctly sealed, placed in the stream at a stated command, and false.
//! They are for testing what a settlement does with a refused event; nothing later in the stream depends on them.
//!
//! Each is a deposit to a user that nobody else is, so that refusing it leaves every other account's versions and
//! balances untouched, and so that the books are right exactly if it is not settled.

use serde::{Deserialize, Serialize};
use settlement_events::{
    Amount, AssetId, BalanceChange, Body, EventId, RefusalCode, Registry, SignedAmount, UserId, Version,
};

/// The user of the first contradiction; the next ones follow. Above the users of workloads, below nothing.
pub const FIRST_USER: UserId = UserId(990_000_001);

/// An asset that no registry has (a registry's ids fit a CQL `int`).
const NO_ASSET: AssetId = AssetId(u32::MAX);

/// What is wrong with the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Falsehood {
    /// A first change that ends with more than it deposited.
    Arithmetic,
    /// An asset that the registry does not have.
    UnknownAsset,
    /// A balance above `i64::MAX`.
    Overflow,
    /// A deposit of nothing.
    ZeroQuantity,
}

impl Falsehood {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Arithmetic, Self::UnknownAsset, Self::Overflow, Self::ZeroQuantity];

    /// The code with which a reader must refuse it.
    #[must_use]
    pub const fn code(self) -> RefusalCode {
        match self {
            Self::Arithmetic => RefusalCode::Contradiction,
            Self::UnknownAsset => RefusalCode::UnknownAsset,
            Self::Overflow => RefusalCode::Overflow,
            Self::ZeroQuantity => RefusalCode::ZeroQuantity,
        }
    }

    /// The event, the `nth` of its run (from 0).
    #[must_use]
    pub fn body(self, nth: u32, registry: &Registry) -> Body {
        let known = registry.assets().first().map_or(NO_ASSET, |asset| asset.id);
        let mut change = BalanceChange {
            user_id: UserId(FIRST_USER.0 + u64::from(nth)),
            asset_id: known,
            version: Version::FIRST,
            delta_avail: SignedAmount(1_000),
            delta_frozen: SignedAmount::ZERO,
            avail: Amount(1_000),
            frozen: Amount::ZERO,
        };
        match self {
            Self::Arithmetic => change.avail = Amount(1_001),
            Self::UnknownAsset => change.asset_id = NO_ASSET,
            Self::Overflow => change.avail = Amount(i64::MAX as u64 + 1_000),
            Self::ZeroQuantity => {
                change.delta_avail = SignedAmount::ZERO;
                change.avail = Amount::ZERO;
            }
        }
        Body::Deposit {
            event_id: EventId(FIRST_USER.0 + u64::from(nth)),
            change,
        }
    }
}

/// When to publish which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contradiction {
    /// Before the command with this index (from 0) among the accepted ones.
    pub before_command: u64,
    /// What is wrong with it.
    pub falsehood: Falsehood,
}

#[cfg(test)]
mod tests {
    use settlement_events::{check, samples};

    use super::*;

    #[test]
    fn each_falsehood_is_refused_with_its_code() {
        let registry = Registry::example();
        for (nth, falsehood) in (0..).zip(Falsehood::ALL) {
            let event = samples::chain(vec![falsehood.body(nth, &registry)]).remove(0);
            let refusal = check(&event, &registry).expect_err("a falsehood");
            assert_eq!(refusal.code, falsehood.code(), "{falsehood:?}: {refusal}");
        }
    }
}
