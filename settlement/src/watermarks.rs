//! The three watermarks: received (fsynced in the WAL), acknowledged (a quorum answered for the whole event), durable
//! (proven by [`crate::durable`]). Each is contiguous: it stands at N only if everything up to N is there.
//! [`Contiguous`] makes a watermark out of arrivals in any order; it takes no decision about the stream.

use std::collections::BTreeMap;

use settlement_events::OutputSequence;

/// A watermark and what lies beyond it: everything up to [`Self::mark`], and some ranges after a hole.
///
/// Ranges that touch are merged, so memory is one entry per hole, however long a hole stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contiguous {
    mark: u64,
    /// First to last, both included; never touching each other or the mark.
    beyond: BTreeMap<u64, u64>,
}

impl Contiguous {
    /// Everything up to `mark` is there.
    #[must_use]
    pub const fn at(mark: OutputSequence) -> Self {
        Self {
            mark: mark.0,
            beyond: BTreeMap::new(),
        }
    }

    /// The last sequence up to which nothing is missing.
    #[must_use]
    pub const fn mark(&self) -> OutputSequence {
        OutputSequence(self.mark)
    }

    /// Whether this one is there.
    #[must_use]
    pub fn contains(&self, sequence: OutputSequence) -> bool {
        sequence.0 <= self.mark
            || self
                .beyond
                .range(..=sequence.0)
                .next_back()
                .is_some_and(|(_, &l)| sequence.0 <= l)
    }

    /// Adds one. Whether the mark moved.
    pub fn add(&mut self, sequence: OutputSequence) -> bool {
        let sequence = sequence.0;
        if self.contains(OutputSequence(sequence)) {
            return false;
        }
        if sequence == self.mark + 1 {
            self.mark = sequence;
            self.absorb();
            return true;
        }
        let mut first = sequence;
        let mut last = sequence;
        if let Some((&before, &end)) = self.beyond.range(..sequence).next_back()
            && end + 1 == sequence
        {
            first = before;
        }
        if let Some(end) = sequence.checked_add(1).and_then(|after| self.beyond.remove(&after)) {
            last = end;
        }
        self.beyond.insert(first, last);
        false
    }

    /// Moves the mark to at least this sequence: everything up to it is there by other means.
    pub fn raise(&mut self, mark: OutputSequence) {
        if mark.0 <= self.mark {
            return;
        }
        self.mark = mark.0;
        while let Some((&first, &last)) = self.beyond.first_key_value()
            && first <= self.mark
        {
            self.beyond.pop_first();
            self.mark = self.mark.max(last);
        }
        self.absorb();
    }

    /// The highest sequence that is there.
    #[must_use]
    pub fn highest(&self) -> OutputSequence {
        OutputSequence(self.beyond.last_key_value().map_or(self.mark, |(_, &last)| last))
    }

    /// How many holes are open.
    #[must_use]
    pub fn holes(&self) -> usize {
        self.beyond.len()
    }

    fn absorb(&mut self) {
        while let Some((&first, &last)) = self.beyond.first_key_value()
            && first == self.mark + 1
        {
            self.beyond.pop_first();
            self.mark = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What a watermark is by definition, computed from the set of everything that arrived.
    fn mark_of(start: u64, arrived: &BTreeSet<u64>) -> u64 {
        (start + 1..)
            .take_while(|sequence| arrived.contains(sequence))
            .last()
            .unwrap_or(start)
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition_after_every_arrival(
            start in 0..5_u64, arrivals in prop::collection::vec((1..60_u64, prop::bool::weighted(0.05)), 0..120),
        ) {
            let mut subject = Contiguous::at(OutputSequence(start));
            let mut arrived: BTreeSet<u64> = (1..=start).collect();
            for (sequence, raise) in arrivals {
                if raise {
                    subject.raise(OutputSequence(sequence));
                    arrived.extend(1..=sequence);
                } else {
                    let before = subject.mark();
                    let moved = subject.add(OutputSequence(sequence));
                    arrived.insert(sequence);
                    prop_assert_eq!(moved, subject.mark() > before);
                }
                prop_assert_eq!(subject.mark().0, mark_of(start, &arrived));
                for probe in 0..62 {
                    let there = probe <= subject.mark().0 || arrived.contains(&probe);
                    prop_assert_eq!(subject.contains(OutputSequence(probe)), there, "{}", probe);
                }
                let beyond: Vec<u64> = arrived.iter().copied().filter(|s| *s > subject.mark().0).collect();
                let holes = beyond.iter().filter(|s| !beyond.contains(&(**s - 1))).count();
                prop_assert_eq!(subject.holes(), holes);
                prop_assert_eq!(subject.highest().0, arrived.last().copied().unwrap_or(start).max(start));
            }
        }
    }

    #[test]
    fn a_long_stall_costs_one_entry() {
        let mut subject = Contiguous::at(OutputSequence(0));
        for sequence in 2..100_000 {
            subject.add(OutputSequence(sequence));
        }
        assert_eq!((subject.mark().0, subject.holes()), (0, 1));
        assert!(subject.add(OutputSequence(1)));
        assert_eq!((subject.mark().0, subject.holes()), (99_999, 0));
    }
}
