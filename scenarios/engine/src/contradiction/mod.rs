//! Events that contradict themselves, or what came before, on purpose: correctly sealed, placed in the stream at a stated
//! command, and false. They are for testing what a settlement does with a refused event; nothing later in the stream
//! depends on them.
//!
//! Each is of users that nobody else is (most are deposits; orders and trades are in [`market`]), so that refusing it
//! leaves every other account's versions and balances untouched, and so that the books are right exactly if it is not
//! settled. What contradicts earlier events has those, which are true and to be settled, right before it.

mod market;

use serde::{Deserialize, Serialize};
use settlement_events::{
    Amount, AssetId, BalanceChange, Body, EventId, RefusalCode, Registry, SignedAmount, UserId, Version,
};

use market::Market;

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
    /// A second change that does not continue the first one: right in itself, so that only who knows the first can tell.
    Discontinuity,
    /// The same, of what is frozen.
    FrozenDiscontinuity,
    /// Another first change of an account that has one.
    SameVersion,
    /// A trade whose amount is not what its quantity and price make, though buyer and seller agree on it.
    WrongPrice,
    /// A trade in which the seller receives more than the buyer spends.
    MakesMoney,
    /// A trade that calls an order filled which is filled in part.
    FilledInPart,
    /// A cancellation that gives back more than the order had locked.
    UnlocksTooMuch,
    /// A second cancellation of an order.
    CancelledTwice,
    /// A second placing of an order.
    PlacedTwice,
    /// A cancellation of an order that is for less than the one that was placed, and gives back as much less.
    OtherOrder,
    /// A second trade of two orders, of which each is filled by one more than it trades.
    FilledByMore,
    /// A trade that comes again under a number of its own. The two before it are true and have one id.
    TradedAgain,
    /// No event at all: one byte too many behind a true one, and the digest is right.
    Unreadable,
}

/// The code of what cannot be read; the others are [`RefusalCode`]s.
pub const UNREADABLE: &str = "unreadable";

/// What every one of these deposits brings.
const AMOUNT: u64 = 1_000;
/// What lies between the id of an event and that of the true one before it.
const EARLIER_EVENT_IDS: u64 = 1_000_000;

impl Falsehood {
    /// Those that show in the event alone.
    pub const ALONE: [Self; 9] = [
        Self::Arithmetic,
        Self::UnknownAsset,
        Self::Overflow,
        Self::ZeroQuantity,
        Self::WrongPrice,
        Self::MakesMoney,
        Self::FilledInPart,
        Self::UnlocksTooMuch,
        Self::Unreadable,
    ];
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::Arithmetic,
        Self::UnknownAsset,
        Self::Overflow,
        Self::ZeroQuantity,
        Self::WrongPrice,
        Self::MakesMoney,
        Self::FilledInPart,
        Self::UnlocksTooMuch,
        Self::Unreadable,
        Self::Discontinuity,
        Self::FrozenDiscontinuity,
        Self::SameVersion,
        Self::CancelledTwice,
        Self::PlacedTwice,
        Self::OtherOrder,
        Self::FilledByMore,
        Self::TradedAgain,
    ];

    /// The code with which a reader must refuse it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        let code = match self {
            Self::Unreadable => return UNREADABLE,
            Self::Arithmetic
            | Self::Discontinuity
            | Self::FrozenDiscontinuity
            | Self::SameVersion
            | Self::WrongPrice
            | Self::MakesMoney
            | Self::UnlocksTooMuch
            | Self::PlacedTwice
            | Self::OtherOrder
            | Self::FilledByMore
            | Self::TradedAgain => RefusalCode::Contradiction,
            Self::FilledInPart | Self::CancelledTwice => RefusalCode::IllegalTransition,
            Self::UnknownAsset => RefusalCode::UnknownAsset,
            Self::Overflow => RefusalCode::Overflow,
            Self::ZeroQuantity => RefusalCode::ZeroQuantity,
        };
        code.as_str()
    }

    /// The event, the `nth` of its run (from 0).
    #[must_use]
    pub fn body(self, nth: u32, registry: &Registry) -> Body {
        let market = Market::new(nth, registry);
        let mut change = first_change(nth, registry);
        match self {
            Self::WrongPrice => return market.wrong_price(),
            Self::MakesMoney => return market.makes_money(),
            Self::FilledInPart => return market.filled_in_part(),
            Self::UnlocksTooMuch => return market.unlocks_too_much(),
            Self::CancelledTwice => return market.cancelled_twice(),
            Self::PlacedTwice => return market.placed_twice(),
            Self::OtherOrder => return market.other_order(),
            Self::FilledByMore => return market.filled_by_more(),
            Self::TradedAgain => return market.traded_again(),
            Self::Unreadable => {}
            Self::Arithmetic => change.avail = Amount(AMOUNT + 1),
            Self::UnknownAsset => change.asset_id = NO_ASSET,
            Self::Overflow => change.avail = Amount(i64::MAX as u64 + AMOUNT),
            Self::ZeroQuantity => {
                change.delta_avail = SignedAmount::ZERO;
                change.avail = Amount::ZERO;
            }
            Self::Discontinuity => {
                change.version = Version(2);
                change.avail = Amount(2 * AMOUNT + 1);
            }
            Self::FrozenDiscontinuity => {
                change.version = Version(2);
                change.avail = Amount(2 * AMOUNT);
                change.frozen = Amount(1);
            }
            Self::SameVersion => {
                change.delta_avail = SignedAmount(2 * AMOUNT as i64);
                change.avail = Amount(2 * AMOUNT);
            }
        }
        Body::Deposit {
            event_id: EventId(FIRST_USER.0 + u64::from(nth)),
            change,
        }
    }

    /// The true events that have to come right before it; none before what shows alone.
    #[must_use]
    pub fn groundwork(self, nth: u32, registry: &Registry) -> Vec<Body> {
        match self {
            Self::CancelledTwice => Market::new(nth, registry).cancelled_once(),
            Self::PlacedTwice => Market::new(nth, registry).placed_once(),
            Self::OtherOrder => Market::new(nth, registry).placed_once(),
            Self::FilledByMore => Market::new(nth, registry).traded_once(),
            Self::TradedAgain => Market::new(nth, registry).traded_twice(),
            _ if Self::ALONE.contains(&self) => Vec::new(),
            _ => vec![Body::Deposit {
                event_id: EventId(FIRST_USER.0 - EARLIER_EVENT_IDS + u64::from(nth)),
                change: first_change(nth, registry),
            }],
        }
    }
}

/// A true first change of the account of the `nth` user.
fn first_change(nth: u32, registry: &Registry) -> BalanceChange {
    BalanceChange {
        user_id: UserId(FIRST_USER.0 + u64::from(nth)),
        asset_id: registry.assets().first().map_or(NO_ASSET, |asset| asset.id),
        version: Version::FIRST,
        delta_avail: SignedAmount(AMOUNT as i64),
        delta_frozen: SignedAmount::ZERO,
        avail: Amount(AMOUNT),
        frozen: Amount::ZERO,
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
    use settlement_events::{OrderState, check, samples};

    use super::*;

    #[test]
    fn each_falsehood_that_shows_alone_is_refused_with_its_code() {
        let registry = Registry::example();
        let readable = Falsehood::ALONE.into_iter().filter(|f| *f != Falsehood::Unreadable);
        for (nth, falsehood) in (0..).zip(readable) {
            assert_eq!(falsehood.groundwork(nth, &registry), []);
            let event = samples::chain(vec![falsehood.body(nth, &registry)]).remove(0);
            let refusal = check(&event, &registry).expect_err("a falsehood");
            assert_eq!(refusal.code.as_str(), falsehood.code(), "{falsehood:?}: {refusal}");
        }
    }

    #[test]
    fn the_others_are_right_in_themselves_and_do_not_continue_what_comes_before_them() {
        let registry = Registry::example();
        for falsehood in Falsehood::ALL.into_iter().filter(|f| !Falsehood::ALONE.contains(f)) {
            let mut bodies = falsehood.groundwork(3, &registry);
            bodies.push(falsehood.body(3, &registry));
            let events = samples::chain(bodies);
            for event in &events {
                assert_eq!(
                    check(event, &registry),
                    Ok(()),
                    "{falsehood:?}: event {}",
                    event.output_sequence
                );
            }
            let [.., before, last] = &events[..] else {
                panic!("{falsehood:?} needs something before it")
            };
            let [first, second] = [before, last].map(|event| event.changes()[0]);
            assert_eq!((first.user_id, first.asset_id), (second.user_id, second.asset_id));
            let adds_up = second.delta_avail.apply(first.avail) == Ok(second.avail)
                && second.delta_frozen.apply(first.frozen) == Ok(second.frozen);
            let follows = first.version.next() == Some(second.version);
            let id = |event: &settlement_events::Event| event.orders().first().map(|order| order.order_id);
            // Of an order the account's part is right, and the order had a state that this one cannot follow.
            let traded = last.trade().map_or(0, |trade| trade.quantity.0);
            let cannot_follow = |was: OrderState, is: OrderState| {
                let moved = was.version.next() == Some(is.version);
                was.version >= is.version
                    || !was.status.may_become(is.status)
                    || was.quantity != is.quantity
                    || (moved && was.filled_quantity.0 + traded != is.filled_quantity.0)
            };
            let breaks_order = events[..events.len() - 1].iter().any(|event| {
                let [was, is] = [event, last].map(|event| event.orders().first().copied());
                id(event) == id(last) && was.zip(is).is_some_and(|(was, is)| cannot_follow(was, is))
            });
            assert!(
                !(follows && adds_up) || breaks_order,
                "{falsehood:?} continues what comes before it"
            );
        }
    }
}
