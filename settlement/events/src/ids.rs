//! One newtype per identifier and unit, so that the compiler notices when two are swapped. No arithmetic except
//! "the next one", which says when there is none.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::integer::unsigned_serde;

macro_rules! id_u64 {
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
            /// The value after this one; `None` past `i64::MAX`, where the databases' `bigint` ends.
            #[must_use]
            pub const fn next(self) -> Option<Self> {
                if self.0 >= i64::MAX as u64 { None } else { Some(Self(self.0 + 1)) }
            }
        }
    };
}

macro_rules! id_u32 {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id_u64!(
    /// A user of the exchange, or one of the accounts that collect fees.
    UserId
);
id_u64!(
    /// An order, unique over all symbols of an epoch.
    OrderId
);
id_u64!(
    /// A trade, unique over all symbols. One that appears twice in the stream is a defect that must stay visible.
    TradeId
);
id_u64!(
    /// The running number of a match within its symbol's book, from 1.
    MatchSeq
);
id_u64!(
    /// A deposit or withdrawal, as the system that ordered it numbers them.
    EventId
);
id_u64!(
    /// The position of an event in its epoch's stream, from 1, without holes.
    OutputSequence
);
id_u64!(
    /// The running number of the states of one account (user and asset) or of one order, from 1, without holes.
    Version
);
id_u64!(
    /// A moment on the matching engine's clock, milliseconds since the Unix epoch.
    TimeMs
);
id_u32!(
    /// An asset of the registry.
    AssetId
);
id_u32!(
    /// A symbol (a pair of assets with a book) of the registry.
    SymbolId
);
id_u32!(
    /// One life of the output stream: a new epoch begins when the matching engine had to start another stream.
    Epoch
);

impl OutputSequence {
    /// The largest sequence that a row timestamp (`sequence << 12 | generation`, microseconds) can hold.
    pub const MAX: Self = Self((1 << 51) - 1);
}

impl Version {
    /// The largest version that a row timestamp (`version << 12 | generation`, microseconds) can hold.
    pub const MAX: Self = Self((1 << 51) - 1);
    /// The version of an account's or an order's first state.
    pub const FIRST: Self = Self(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_ends_where_bigint_ends() {
        assert_eq!(OrderId(7).next(), Some(OrderId(8)));
        assert_eq!(OrderId(i64::MAX as u64 - 1).next(), Some(OrderId(i64::MAX as u64)));
        assert_eq!(OrderId(i64::MAX as u64).next(), None);
        assert_eq!(OrderId(u64::MAX).next(), None);
    }

    #[test]
    fn the_largest_version_fits_a_timestamp() {
        let timestamp = (i128::from(Version::MAX.0) << 12) | 0xfff;
        assert!(timestamp <= i128::from(i64::MAX));
        assert!((i128::from(Version::MAX.0 + 1) << 12) > i128::from(i64::MAX));
    }
}
