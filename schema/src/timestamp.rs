//! The row timestamp. A database cell keeps the value with the highest timestamp, so a timestamp made of the version
//! of what the row describes makes the highest version win, whatever the order of arrival and whatever the clocks say.
//!
//! Layout, in the microseconds of CQL: `version << 12 | generation`. The version is that of an account, of an order or
//! the sequence of an event; the generation covers the format of a row and an authorised repair, so that a row of a
//! later generation replaces the same version of an earlier one. Nothing that reads a clock may ever write these
//! tables: a wall-clock timestamp is above every version for ever.

use std::fmt;

use serde::{Deserialize, Serialize};
use settlement_events::{OutputSequence, Version};

/// How many low bits hold the generation.
pub const GENERATION_BITS: u32 = 12;

/// The largest version or sequence that a timestamp holds: 2^51 - 1.
pub const VERSION_MAX: u64 = (i64::MAX as u64) >> GENERATION_BITS;

/// The largest generation: 4095.
pub const GENERATION_MAX: u16 = (1 << GENERATION_BITS) - 1;

// What the wire types call the largest version is what a timestamp can hold; a change of one must not pass unseen.
const _: () = assert!(Version::MAX.0 == VERSION_MAX && OutputSequence::MAX.0 == VERSION_MAX);

/// The generation of a row: its format, and authorised repairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Generation(u16);

impl Generation {
    /// The generation of a keyspace that was never repaired.
    pub const FIRST: Self = Self(0);

    /// Checks the range.
    pub const fn new(generation: u16) -> Result<Self, TimestampError> {
        if generation > GENERATION_MAX {
            Err(TimestampError::Generation { generation })
        } else {
            Ok(Self(generation))
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Generation {
    type Error = TimestampError;

    fn try_from(generation: u16) -> Result<Self, TimestampError> {
        Self::new(generation)
    }
}

impl From<Generation> for u16 {
    fn from(generation: Generation) -> Self {
        generation.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The timestamp that a row is written with, in the microseconds of CQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowTimestamp(i64);

impl RowTimestamp {
    /// Of a version (or a sequence) and a generation. Versions begin with 1; 0 or above [`VERSION_MAX`] is an error.
    pub const fn new(version: u64, generation: Generation) -> Result<Self, TimestampError> {
        if version == 0 || version > VERSION_MAX {
            return Err(TimestampError::Version { version });
        }
        Ok(Self(((version as i64) << GENERATION_BITS) | generation.0 as i64))
    }

    /// Of an account's or an order's version.
    pub const fn of_version(version: Version, generation: Generation) -> Result<Self, TimestampError> {
        Self::new(version.0, generation)
    }

    /// Of an event's place in the stream.
    pub const fn of_sequence(sequence: OutputSequence, generation: Generation) -> Result<Self, TimestampError> {
        Self::new(sequence.0, generation)
    }

    /// What goes into `USING TIMESTAMP`.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The version back out of a row's `WRITETIME`; an error for one that no version can have made.
    pub const fn from_micros(micros: i64) -> Result<Self, TimestampError> {
        if micros >> GENERATION_BITS < 1 {
            Err(TimestampError::NotOurs { micros })
        } else {
            Ok(Self(micros))
        }
    }

    /// The version part.
    #[must_use]
    pub const fn version(self) -> u64 {
        (self.0 >> GENERATION_BITS) as u64
    }

    /// The generation part.
    #[must_use]
    pub const fn generation(self) -> Generation {
        Generation((self.0 & GENERATION_MAX as i64) as u16)
    }
}

/// A number that does not fit a row timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The version.
    #[error("version {version} cannot be a row timestamp: it must lie between 1 and {VERSION_MAX}")]
    Version {
        /// The one asked for.
        version: u64,
    },
    /// The generation.
    #[error("generation {generation} is above {GENERATION_MAX}, the largest that a row timestamp holds")]
    Generation {
        /// The one asked for.
        generation: u16,
    },
    /// A `WRITETIME` that no version makes.
    #[error("{micros} is not the timestamp of any version: something else wrote this row")]
    NotOurs {
        /// The timestamp found.
        micros: i64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn generation(number: u16) -> Generation {
        Generation::new(number).expect("in range")
    }

    #[test]
    fn the_layout_is_version_shifted_by_twelve_bits_and_the_generation_below() {
        let timestamp = RowTimestamp::of_version(Version(5), generation(3)).expect("fits");
        assert_eq!(timestamp.as_micros(), 5 * 4096 + 3);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_never_wraps() {
        assert_eq!(
            RowTimestamp::new(0, Generation::FIRST),
            Err(TimestampError::Version { version: 0 })
        );
        let above = VERSION_MAX + 1;
        assert_eq!(
            RowTimestamp::new(above, Generation::FIRST),
            Err(TimestampError::Version { version: above })
        );
        let highest = RowTimestamp::new(VERSION_MAX, generation(GENERATION_MAX)).expect("fits");
        assert_eq!(highest.as_micros(), i64::MAX);
        assert!(Generation::new(4096).is_err());
        assert!(RowTimestamp::from_micros(4095).is_err() && RowTimestamp::from_micros(-1).is_err());
    }

    proptest! {
        #[test]
        fn parts_come_back(version in 1..=VERSION_MAX, g in 0..=GENERATION_MAX) {
            let timestamp = RowTimestamp::new(version, generation(g)).expect("in range");
            prop_assert_eq!((timestamp.version(), timestamp.generation()), (version, generation(g)));
            prop_assert_eq!(RowTimestamp::from_micros(timestamp.as_micros()), Ok(timestamp));
        }

        #[test]
        fn the_order_is_that_of_versions_then_of_generations(
            a in (1..=VERSION_MAX, 0..=GENERATION_MAX), b in (1..=VERSION_MAX, 0..=GENERATION_MAX),
        ) {
            let stamp = |(version, g)| RowTimestamp::new(version, generation(g)).expect("in range");
            prop_assert_eq!(stamp(a).cmp(&stamp(b)), a.cmp(&b));
            prop_assert_eq!(stamp(a).as_micros().cmp(&stamp(b).as_micros()), a.cmp(&b));
        }
    }
}
