//! Which sequences were seen, and which are wanted next. Pure bookkeeping: no sockets, no time, no events.

use std::collections::BTreeSet;

use settlement_events::OutputSequence;

use crate::ranges::Ranges;

/// How many separate ranges a reader may ask for again at once. Beyond that the two nearest ones are fetched as one,
/// with what lies between: duplicates cost a little, an unbounded list could cost anything.
const AGAIN_RANGES_MAX: usize = 64;

/// What to do with an event that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Seen for the first time: deliver it.
    New,
    /// Seen before: deliver it, the reader decides whether it is the same.
    Repeated,
    /// Too far ahead of a hole: drop it, it will be wanted later.
    BeyondWindow,
}

/// The sequences seen and wanted.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// Everything below was seen.
    next: u64,
    /// Seen beyond a hole; never `next` itself.
    ahead: BTreeSet<u64>,
    /// The highest sequence known to exist.
    head: u64,
    ahead_max: u64,
    /// Wanted again though seen.
    again: Ranges,
}

impl Tracker {
    /// Begins with everything below `next`, and what is in `have`, as seen.
    #[must_use]
    pub fn new(next: OutputSequence, have: &[OutputSequence], ahead_max: u64) -> Self {
        let mut tracker = Self {
            next: next.0,
            ahead: BTreeSet::new(),
            head: 0,
            ahead_max: ahead_max.max(1),
            again: Ranges::default(),
        };
        for seq in have {
            tracker.head = tracker.head.max(seq.0);
            tracker.see(seq.0);
        }
        tracker
    }

    /// An event came.
    pub fn offer(&mut self, seq: OutputSequence) -> Offer {
        let seq = seq.0;
        self.head = self.head.max(seq);
        self.forget_again(seq);
        if seq < self.next || self.ahead.contains(&seq) {
            return Offer::Repeated;
        }
        if seq - self.next >= self.ahead_max {
            return Offer::BeyondWindow;
        }
        self.see(seq);
        Offer::New
    }

    fn see(&mut self, seq: u64) {
        if seq > self.next {
            self.ahead.insert(seq);
        } else if seq == self.next {
            self.next += 1;
            while self.ahead.remove(&self.next) {
                self.next += 1;
            }
        }
    }

    /// The stream is known to reach `head`. Whether that is news: more than was ever seen or said.
    pub fn reach(&mut self, head: OutputSequence) -> bool {
        let more = head.0 > self.head && head.0 >= self.next;
        self.head = self.head.max(head.0);
        more
    }

    /// Everything below `next` counts as seen from now on.
    pub fn advance(&mut self, next: OutputSequence) {
        if next.0 <= self.next {
            return;
        }
        self.ahead = self.ahead.split_off(&next.0);
        self.next = next.0;
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
    }

    /// Fetch these again, seen or not.
    pub fn want_again(&mut self, from: OutputSequence, to: OutputSequence) {
        self.again.add(from.max(OutputSequence(1)), to);
        if self.again.ranges() > AGAIN_RANGES_MAX {
            self.again.join_nearest();
        }
    }

    /// A range asked for again is done with as far as this event if it is the first of it: replays come in order, and
    /// what comes out of order must not make more ranges of one.
    fn forget_again(&mut self, seq: u64) {
        let seq = OutputSequence(seq);
        if self.again.around(seq).is_some_and(|(first, _)| first == seq) {
            self.again.remove(seq);
        }
    }

    /// Gives up what was asked for again up to and including `to`.
    pub fn stop_again(&mut self, to: OutputSequence) {
        self.again.remove_until(to);
    }

    /// The first range to fetch that begins at or behind `from`, at most `count` events.
    #[must_use]
    pub fn wanted(&self, from: OutputSequence, count: u64) -> Option<(OutputSequence, OutputSequence)> {
        let asked = self.again.next_from(from).map(|(first, last)| (first.0, last.0));
        let hole = self.hole_from(from.0);
        let (first, last) = match (asked, hole) {
            (Some(asked), Some(hole)) => asked.min(hole),
            (asked, hole) => asked.or(hole)?,
        };
        let last = last.min(first.saturating_add(count.max(1) - 1));
        Some((OutputSequence(first), OutputSequence(last)))
    }

    fn hole_from(&self, from: u64) -> Option<(u64, u64)> {
        let mut first = from.max(self.next);
        while self.ahead.contains(&first) {
            first += 1;
        }
        let last = self.ahead.range(first..).next().map_or(self.head, |&seen| seen - 1);
        // Further ahead than anything would be delivered from.
        let window_end = self.next.saturating_add(self.ahead_max - 1);
        (first <= last && first <= window_end).then_some((first, last.min(window_end)))
    }

    /// The first hole, whatever its size: from the first event missing to the last before one that was seen, or to the
    /// head.
    #[must_use]
    pub fn hole(&self) -> Option<(OutputSequence, OutputSequence)> {
        let last = self.ahead.first().map_or(self.head, |&seen| seen - 1);
        (self.next <= last).then_some((OutputSequence(self.next), OutputSequence(last)))
    }

    /// Whether something beyond the first hole was seen.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// The first sequence not seen.
    #[must_use]
    pub fn next(&self) -> OutputSequence {
        OutputSequence(self.next)
    }

    /// The highest sequence known to exist; 0 when nothing is known.
    #[must_use]
    pub fn head(&self) -> OutputSequence {
        OutputSequence(self.head)
    }

    /// How many are remembered beyond the hole.
    #[must_use]
    pub fn ahead_len(&self) -> usize {
        self.ahead.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seq(value: u64) -> OutputSequence {
        OutputSequence(value)
    }

    #[test]
    fn in_order_nothing_is_wanted() {
        let mut tracker = Tracker::new(seq(1), &[], 8);
        for value in 1..=20 {
            assert_eq!(tracker.offer(seq(value)), Offer::New);
            assert_eq!(tracker.wanted(seq(0), 10), None);
        }
    }

    #[test]
    fn a_hole_is_wanted_until_it_is_closed() {
        let mut tracker = Tracker::new(seq(1), &[], 8);
        tracker.offer(seq(1));
        assert_eq!(tracker.offer(seq(4)), Offer::New);
        assert_eq!(tracker.wanted(seq(0), 10), Some((seq(2), seq(3))));
        assert_eq!(tracker.wanted(seq(0), 1), Some((seq(2), seq(2))));
        tracker.offer(seq(3));
        assert_eq!(tracker.wanted(seq(0), 10), Some((seq(2), seq(2))));
        tracker.offer(seq(2));
        assert_eq!((tracker.next(), tracker.wanted(seq(0), 10)), (seq(5), None));
    }

    #[test]
    fn only_the_head_betrays_a_lost_tail() {
        let mut tracker = Tracker::new(seq(1), &[], 8);
        tracker.offer(seq(1));
        assert!(!tracker.reach(seq(1)));
        assert!(tracker.reach(seq(3)));
        assert!(!tracker.reach(seq(3)));
        assert_eq!(tracker.wanted(seq(0), 10), Some((seq(2), seq(3))));
    }

    #[test]
    fn what_lies_too_far_ahead_is_dropped_and_wanted_later() {
        let mut tracker = Tracker::new(seq(1), &[], 4);
        assert_eq!(tracker.offer(seq(4)), Offer::New);
        assert_eq!(tracker.offer(seq(5)), Offer::BeyondWindow);
        for value in [1, 2, 3] {
            tracker.offer(seq(value));
        }
        assert_eq!(tracker.wanted(seq(0), 10), Some((seq(5), seq(5))));
    }

    #[test]
    fn past_a_refused_range_the_next_hole_is_found_within_the_window() {
        let mut tracker = Tracker::new(seq(1), &[], 100);
        tracker.reach(seq(500));
        assert_eq!(tracker.wanted(seq(31), 50), Some((seq(31), seq(80))));
        assert_eq!(tracker.wanted(seq(101), 50), None);
    }

    #[test]
    fn what_was_seen_can_be_wanted_again() {
        let mut tracker = Tracker::new(seq(10), &[], 8);
        tracker.want_again(seq(3), seq(4));
        tracker.want_again(seq(5), seq(6));
        assert_eq!(tracker.wanted(seq(0), 10), Some((seq(3), seq(6))));
        assert_eq!(tracker.offer(seq(3)), Offer::Repeated);
        assert_eq!(tracker.wanted(seq(0), 10), Some((seq(4), seq(6))));
        tracker.stop_again(seq(5));
        assert_eq!(tracker.wanted(seq(0), 10), Some((seq(6), seq(6))));
    }

    #[test]
    fn too_many_ranges_become_fewer_and_cover_the_same() {
        let mut tracker = Tracker::new(seq(100_000), &[], 8);
        for index in 0..500 {
            tracker.want_again(seq(1 + index * 10), seq(2 + index * 10));
        }
        assert_eq!(tracker.again.ranges(), AGAIN_RANGES_MAX);
        for index in 0..500 {
            let first = 1 + index * 10;
            assert!(
                tracker
                    .again
                    .around(seq(first))
                    .is_some_and(|(_, last)| last > seq(first)),
                "{first}"
            );
        }
    }

    /// The same rules, said with one set of everything seen.
    struct Reference {
        start: u64,
        seen: BTreeSet<u64>,
        head: u64,
        ahead_max: u64,
    }

    impl Reference {
        fn next(&self) -> u64 {
            (self.start..)
                .find(|value| !self.seen.contains(value))
                .unwrap_or(u64::MAX)
        }

        fn offer(&mut self, value: u64) -> Offer {
            self.head = self.head.max(value);
            if value < self.start || self.seen.contains(&value) {
                return Offer::Repeated;
            }
            if value >= self.next() + self.ahead_max {
                return Offer::BeyondWindow;
            }
            self.seen.insert(value);
            Offer::New
        }

        fn first_hole(&self) -> Option<(u64, u64)> {
            let next = self.next();
            let last = (next..=self.head)
                .take_while(|value| !self.seen.contains(value))
                .last()?;
            Some((next, last))
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Offer(u64),
        Reach(u64),
        Replay(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (1_u64..60).prop_map(Step::Offer),
            1 => (1_u64..60).prop_map(Step::Reach),
            2 => (1_u64..8).prop_map(Step::Replay),
        ];
        prop::collection::vec(step, 0..120)
    }

    proptest! {
        #[test]
        fn any_loss_duplication_and_order_agrees_with_the_reference(
            start in 1_u64..10,
            ahead_max in 1_u64..20,
            have in prop::collection::btree_set(1_u64..30, 0..6),
            steps in steps(),
        ) {
            let have: Vec<_> = have.into_iter().filter(|value| *value >= start).collect();
            let listed: Vec<_> = have.iter().copied().map(seq).collect();
            let mut tracker = Tracker::new(seq(start), &listed, ahead_max);
            let head = have.iter().copied().max().unwrap_or(0);
            let mut reference = Reference { start, seen: have.iter().copied().collect(), head, ahead_max };
            for step in steps {
                match step {
                    Step::Offer(value) => prop_assert_eq!(tracker.offer(seq(value)), reference.offer(value)),
                    Step::Reach(value) => {
                        let news = value > reference.head && value >= reference.next();
                        prop_assert_eq!(tracker.reach(seq(value)), news);
                        reference.head = reference.head.max(value);
                    }
                    Step::Replay(count) => if let Some((from, to)) = tracker.wanted(seq(0), count) {
                        prop_assert_eq!(from, seq(reference.next()));
                        prop_assert!(to.0 - from.0 < count);
                        for value in from.0..=to.0 {
                            prop_assert_eq!(tracker.offer(seq(value)), Offer::New);
                            prop_assert_eq!(reference.offer(value), Offer::New);
                        }
                    },
                }
                prop_assert_eq!(tracker.next(), seq(reference.next()));
                prop_assert_eq!(tracker.hole().map(|(from, to)| (from.0, to.0)), reference.first_hole());
                prop_assert!(tracker.ahead_len() as u64 <= ahead_max + have.len() as u64);
            }
        }

        #[test]
        fn asking_for_what_is_wanted_delivers_everything_once(
            head in 1_u64..200, chunk in 1_u64..20, ahead_max in 1_u64..30, lost in prop::collection::vec(any::<bool>(), 200),
        ) {
            let mut tracker = Tracker::new(seq(1), &[], ahead_max);
            let mut new = BTreeSet::new();
            for value in (1..=head).filter(|&value| !lost[value as usize - 1]) {
                if tracker.offer(seq(value)) == Offer::New {
                    new.insert(value);
                }
            }
            tracker.reach(seq(head));
            let mut asked = 0;
            while let Some((from, to)) = tracker.wanted(seq(0), chunk) {
                asked += 1;
                prop_assert!(asked <= head, "no progress");
                for value in from.0..=to.0 {
                    prop_assert_eq!(tracker.offer(seq(value)), Offer::New);
                    prop_assert!(new.insert(value));
                }
            }
            prop_assert_eq!(new.len() as u64, head);
        }
    }
}
