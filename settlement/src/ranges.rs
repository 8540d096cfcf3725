//! Sets of events, kept as ranges: what is missing, what is to be fetched again.

use std::collections::BTreeMap;

use settlement_events::OutputSequence;

/// The first and the last event of a range; both belong to it.
pub type Range = (OutputSequence, OutputSequence);

/// A set of events as ranges, none of which touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds the events from `from` to `to`, both included; none if `to` is the lower one.
    pub fn add(&mut self, from: OutputSequence, to: OutputSequence) {
        let (mut first, mut last) = (from.0, to.0);
        if first > last {
            return;
        }
        while let Some((&start, &end)) = self.0.range(..=last.saturating_add(1)).next_back()
            && end.saturating_add(1) >= first
        {
            self.0.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.0.insert(first, last);
    }

    /// Takes one event out, which may leave two ranges of one.
    pub fn remove(&mut self, event: OutputSequence) {
        let Some((OutputSequence(first), OutputSequence(last))) = self.around(event) else {
            return;
        };
        self.0.remove(&first);
        if first < event.0 {
            self.0.insert(first, event.0 - 1);
        }
        if event.0 < last {
            self.0.insert(event.0 + 1, last);
        }
    }

    /// Takes out every event up to and including `to`.
    pub fn remove_until(&mut self, to: OutputSequence) {
        while let Some((&first, &last)) = self.0.first_key_value()
            && first <= to.0
        {
            self.0.remove(&first);
            if last > to.0 {
                self.0.insert(to.0 + 1, last);
            }
        }
    }

    /// The range that this event belongs to.
    #[must_use]
    pub fn around(&self, event: OutputSequence) -> Option<Range> {
        let (&first, &last) = self.0.range(..=event.0).next_back()?;
        (last >= event.0).then_some((OutputSequence(first), OutputSequence(last)))
    }

    /// The first range at or behind `from`, of which what lies before `from` is left out.
    #[must_use]
    pub fn next_from(&self, from: OutputSequence) -> Option<Range> {
        let inside = self.around(from).map(|(_, last)| (from, last));
        inside.or_else(|| {
            let (&first, &last) = self.0.range(from.0..).next()?;
            Some((OutputSequence(first), OutputSequence(last)))
        })
    }

    /// Makes one range of the two that lie nearest to each other, with what lies between.
    pub fn join_nearest(&mut self) {
        let gap = |((_, end), (start, _)): &((&u64, &u64), (&u64, &u64))| *start - *end;
        let nearest = self.0.iter().zip(self.0.iter().skip(1)).min_by_key(gap);
        if let Some(((&first, _), (&start, &last))) = nearest {
            self.0.remove(&start);
            self.0.insert(first, last);
        }
    }

    /// The ranges, the first events first.
    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        self.0
            .iter()
            .map(|(&first, &last)| (OutputSequence(first), OutputSequence(last)))
    }

    /// How many ranges there are.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.0.len()
    }

    /// How many events there are.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.0.iter().fold(0, |sum, (first, last)| {
            (last - first).saturating_add(1).saturating_add(sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn seq(value: u64) -> OutputSequence {
        OutputSequence(value)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u64, u64),
        Remove(u64),
        RemoveUntil(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0_u64..50, 0_u64..8).prop_map(|(from, more)| Step::Add(from, from + more)),
            1 => (1_u64..50).prop_map(|from| Step::Add(from, from - 1)),
            4 => (0_u64..60).prop_map(Step::Remove),
            1 => (0_u64..30).prop_map(Step::RemoveUntil),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn ranges_agree_with_a_set_of_numbers(steps in steps(), probe in 0_u64..60) {
            let (mut ranges, mut reference) = (Ranges::default(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Add(from, to) => {
                        ranges.add(seq(from), seq(to));
                        reference.extend(from..=to);
                    }
                    Step::Remove(value) => {
                        ranges.remove(seq(value));
                        reference.remove(&value);
                    }
                    Step::RemoveUntil(to) => {
                        ranges.remove_until(seq(to));
                        reference = reference.split_off(&(to + 1));
                    }
                }
                let listed: Vec<_> = ranges.iter().map(|(from, to)| (from.0, to.0)).collect();
                let all: BTreeSet<u64> = listed.iter().flat_map(|&(from, to)| from..=to).collect();
                prop_assert_eq!(&all, &reference);
                prop_assert!(listed.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?} touch", listed);
                prop_assert_eq!((ranges.ranges(), ranges.events()), (listed.len(), reference.len() as u64));
                prop_assert_eq!(ranges.around(seq(probe)).is_some(), reference.contains(&probe));
                let next = ranges.next_from(seq(probe)).map(|(from, _)| from.0);
                prop_assert_eq!(next, reference.range(probe..).next().copied());
            }
        }
    }

    #[test]
    fn the_two_nearest_ranges_become_one() {
        let mut ranges = Ranges::default();
        for (from, to) in [(1, 2), (10, 12), (15, 20), (u64::MAX - 1, u64::MAX)] {
            ranges.add(seq(from), seq(to));
        }
        ranges.join_nearest();
        let listed: Vec<_> = ranges.iter().map(|(from, to)| (from.0, to.0)).collect();
        assert_eq!(listed, [(1, 2), (10, 20), (u64::MAX - 1, u64::MAX)]);
        ranges.remove_until(seq(u64::MAX));
        assert_eq!(ranges, Ranges::default());
    }
}
