//! How a sequence or a time becomes a partition key. Changing a constant here is a migration: rows already written
//! stay where they are.

use settlement_events::{OutputSequence, TimeMs};

/// How many consecutive sequences share one partition of `settled_events`, `dead_letters` and `skips`. At some 150
/// bytes a row that is 1.5 MB a partition, far below the 100 MB at which databases begin to suffer.
pub const BUCKET_SEQUENCES: u64 = 10_000;

const DAY_MS: u64 = 86_400_000;

/// The bucket of a sequence.
#[must_use]
pub const fn bucket(sequence: OutputSequence) -> u64 {
    sequence.0 / BUCKET_SEQUENCES
}

/// Days since 1970-01-01 of an event's own time; `None` past what a CQL `int` holds (after the year 5 million).
#[must_use]
pub fn day(time: TimeMs) -> Option<i32> {
    i32::try_from(time.0 / DAY_MS).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_days_change_where_they_should() {
        assert_eq!((bucket(OutputSequence(9_999)), bucket(OutputSequence(10_000))), (0, 1));
        assert_eq!((day(TimeMs(DAY_MS - 1)), day(TimeMs(DAY_MS))), (Some(0), Some(1)));
        assert_eq!(day(TimeMs(u64::MAX)), None);
    }
}
