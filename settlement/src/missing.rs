//! The events that were never received and that the matching engine does not serve: an exact list, for people (rule 10).

use std::sync::{Mutex, MutexGuard, PoisonError};

use settlement_events::OutputSequence;

use crate::ranges::{Range, Ranges};

/// The list. As many ranges as replays that were refused and are still wanted.
#[derive(Debug, Default)]
pub struct Missing(Mutex<Ranges>);

impl Missing {
    /// Puts these on the list, first and last one included.
    pub fn put(&self, from: OutputSequence, to: OutputSequence) {
        self.lock().add(from, to);
    }

    /// Takes one event off the list: it was received, though others before it are missing.
    pub fn take(&self, sequence: OutputSequence) {
        self.lock().remove(sequence);
    }

    /// Takes off the list what was received: everything up to this event. How many are left.
    pub fn take_until(&self, received: OutputSequence) -> u64 {
        let mut ranges = self.lock();
        ranges.remove_until(received);
        ranges.events()
    }

    /// The ranges, the first events first.
    #[must_use]
    pub fn list(&self) -> Vec<Range> {
        self.lock().iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ranges> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_what_was_received_is_off_the_list() {
        let missing = Missing::default();
        let put = |from, to| missing.put(OutputSequence(from), OutputSequence(to));
        for (from, to) in [(5, 9), (20, 25), (10, 12), (8, 8), (24, 30), (2, 3), (31, 30)] {
            put(from, to);
        }
        let listed = || {
            missing
                .list()
                .iter()
                .map(|(from, to)| (from.0, to.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(listed(), [(2, 3), (5, 12), (20, 30)]);
        assert_eq!(missing.take_until(OutputSequence(1)), 2 + 8 + 11);
        assert_eq!(missing.take_until(OutputSequence(7)), 5 + 11);
        assert_eq!(listed(), [(8, 12), (20, 30)]);
        put(1, 40);
        assert_eq!(listed(), [(1, 40)], "as one that is around others");
        for sequence in [1, 40, 20, 20, 41, 0, 21] {
            missing.take(OutputSequence(sequence));
        }
        assert_eq!(listed(), [(2, 19), (22, 39)]);
        assert_eq!(missing.take_until(OutputSequence(40)), 0);
        assert_eq!(listed(), []);
    }
}
