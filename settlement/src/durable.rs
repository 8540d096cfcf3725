//! Rule 8: durable is later than acknowledged. With a commit log that is synced periodically, a quorum's
//! acknowledgement can vanish when its nodes die before their next sync. So an event counts as durable only when every
//! node, asked by itself after the sync period plus slack, is still the process it was before the event was sent.
//!
//! [`Durability`] is the arithmetic alone: it is told what was acknowledged and what each probe of the nodes found, and
//! says how far the stream is durable, and from where a window must be sent again. Asking the nodes is
//! [`crate::probe`]'s part.
//!
//! Assumed, as the fault budget states it: a node syncs its commit log at least once in `sync_period + slack`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use settlement_events::OutputSequence;
use tokio::time::Instant;

/// A node, by the id that the cluster gives it.
pub type NodeId = u128;

/// A node's `gossip_generation`: another number is another process.
pub type NodeGeneration = i32;

/// What asking every node once found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Before the first node was asked.
    pub started: Instant,
    /// After the last one answered.
    pub finished: Instant,
    /// The nodes of the cluster at that time; `None` for one that could not be asked.
    pub nodes: BTreeMap<NodeId, Option<NodeGeneration>>,
}

/// What a probe means for the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything up to here is durable (it may have been before).
    Durable(OutputSequence),
    /// A node could not be asked: the watermark stays where it is.
    Stalled {
        /// How many nodes.
        unasked: usize,
    },
    /// A node is another process, or another node, than before: what was acknowledged beyond the durable watermark
    /// may be lost, and is to be sent again.
    SendAgain {
        /// From the event after this one.
        after: OutputSequence,
    },
}

/// How a stretch of acknowledgements is remembered: by its end.
#[derive(Clone, Copy, Debug)]
struct Mark {
    opened: Instant,
    /// When the last acknowledgement of it was taken note of.
    acknowledged: Instant,
    upto: OutputSequence,
}

/// How far the stream is durable.
#[derive(Debug)]
pub struct Durability {
    /// Sync period plus slack.
    settle: Duration,
    /// Acknowledgements closer together than this share a mark. It bounds the number of marks by the longest time
    /// that nodes cannot be asked, over this.
    grain: Duration,
    durable: OutputSequence,
    /// The nodes as every probe since `stable_since` found them.
    known: BTreeMap<NodeId, NodeGeneration>,
    /// The end of the probe that first found the nodes as they are. An event sent before it proves nothing.
    stable_since: Option<Instant>,
    marks: VecDeque<Mark>,
}

/// Acknowledgements within a twentieth of the settling time share a mark: the durable watermark moves at most so much
/// later than it could.
const GRAINS: u32 = 20;

/// The bound of the list of marks. Beyond it the last one is extended: later, never wrong.
const MARKS_MAX: usize = 1_000;

impl Durability {
    /// Everything up to `durable` is durable; nodes sync within `settle`.
    #[must_use]
    pub fn new(durable: OutputSequence, settle: Duration) -> Self {
        Self {
            settle,
            grain: settle / GRAINS,
            durable,
            known: BTreeMap::new(),
            stable_since: None,
            marks: VecDeque::new(),
        }
    }

    /// The durable watermark.
    #[must_use]
    pub const fn durable(&self) -> OutputSequence {
        self.durable
    }

    /// Whether an acknowledgement of something sent at `sent` counts: only if every node has been the same process
    /// since before.
    #[must_use]
    pub fn counts(&self, sent: Instant) -> bool {
        self.stable_since.is_some_and(|since| sent >= since)
    }

    /// Everything up to `upto` is acknowledged, by acknowledgements that all [count](Self::counts), at `now`.
    pub fn acknowledged(&mut self, upto: OutputSequence, now: Instant) {
        if upto <= self.durable {
            return;
        }
        let full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some(last) if full || now < last.opened + self.grain => {
                last.upto = last.upto.max(upto);
                last.acknowledged = now;
            }
            _ => self.marks.push_back(Mark {
                opened: now,
                acknowledged: now,
                upto,
            }),
        }
    }

    /// When the next probe can prove something: at once while nothing counts, and `None` when nothing waits.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if self.stable_since.is_none() {
            return Some(now);
        }
        self.marks.front().map(|first| first.acknowledged + self.settle)
    }

    /// Takes note of a probe.
    pub fn probed(&mut self, probe: &Probe) -> Verdict {
        let changed = probe.nodes.iter().any(|(node, generation)| {
            generation.is_some_and(|generation| self.known.get(node).is_some_and(|known| *known != generation))
        });
        let unasked = probe.nodes.values().filter(|generation| generation.is_none()).count();
        let joined = probe
            .nodes
            .iter()
            .any(|(node, found)| found.is_some() && !self.known.contains_key(node));
        let left = self.known.keys().any(|node| !probe.nodes.contains_key(node));
        if self.stable_since.is_some() && (changed || joined || left) {
            self.restart(probe);
            return Verdict::SendAgain { after: self.durable };
        }
        if unasked > 0 {
            return Verdict::Stalled { unasked };
        }
        if self.stable_since.is_none() {
            self.restart(probe);
            return Verdict::SendAgain { after: self.durable };
        }
        self.advance(probe.started)
    }

    fn advance(&mut self, asked: Instant) -> Verdict {
        while let Some(first) = self.marks.front()
            && first.acknowledged + self.settle <= asked
        {
            self.durable = self.durable.max(first.upto);
            self.marks.pop_front();
        }
        Verdict::Durable(self.durable)
    }

    /// Forgets every acknowledgement and begins anew with the nodes as they are now. A node that could not be asked
    /// keeps nothing from beginning anew later, because until then nothing counts.
    fn restart(&mut self, probe: &Probe) {
        self.marks.clear();
        self.known = probe
            .nodes
            .iter()
            .filter_map(|(node, found)| Some((*node, (*found)?)))
            .collect();
        let complete = self.known.len() == probe.nodes.len();
        self.stable_since = complete.then_some(probe.finished);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(12);

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }

        fn probe(&self, seconds: u64, generations: &[Option<i32>]) -> Probe {
            let nodes = generations
                .iter()
                .enumerate()
                .map(|(node, generation)| (node as u128, *generation))
                .collect();
            Probe {
                started: self.at(seconds),
                finished: self.at(seconds + 1),
                nodes,
            }
        }
    }

    const SAME: [Option<i32>; 3] = [Some(1), Some(1), Some(1)];

    fn started() -> (Clock, Durability) {
        let clock = Clock(Instant::now());
        let mut subject = Durability::new(OutputSequence(10), SETTLE);
        assert!(
            !subject.counts(clock.at(0)),
            "nothing counts before the nodes were asked"
        );
        assert_eq!(
            subject.probed(&clock.probe(0, &SAME)),
            Verdict::SendAgain {
                after: OutputSequence(10)
            }
        );
        (clock, subject)
    }

    #[test]
    fn durable_after_the_sync_period_plus_slack_when_nothing_changed() {
        let (clock, mut subject) = started();
        assert!(!subject.counts(clock.at(0)) && subject.counts(clock.at(1)));
        subject.acknowledged(OutputSequence(20), clock.at(5));
        assert_eq!(subject.due(clock.at(6)), Some(clock.at(17)));
        assert_eq!(
            subject.probed(&clock.probe(16, &SAME)),
            Verdict::Durable(OutputSequence(10)),
            "too early"
        );
        assert_eq!(
            subject.probed(&clock.probe(17, &SAME)),
            Verdict::Durable(OutputSequence(20))
        );
        assert_eq!(subject.due(clock.at(18)), None);
    }

    #[test]
    fn a_node_that_became_another_process_makes_the_window_be_sent_again() {
        let (clock, mut subject) = started();
        subject.acknowledged(OutputSequence(20), clock.at(5));
        let changed = clock.probe(17, &[Some(1), Some(2), Some(1)]);
        assert_eq!(
            subject.probed(&changed),
            Verdict::SendAgain {
                after: OutputSequence(10)
            }
        );
        assert!(!subject.counts(clock.at(17)), "sent before the probe ended");
        assert!(subject.counts(clock.at(18)));
        subject.acknowledged(OutputSequence(20), clock.at(20));
        assert_eq!(
            subject.probed(&clock.probe(32, &[Some(1), Some(2), Some(1)])),
            Verdict::Durable(OutputSequence(20))
        );
    }

    #[test]
    fn a_node_that_cannot_be_asked_stalls_and_then_lets_go_on() {
        let (clock, mut subject) = started();
        subject.acknowledged(OutputSequence(20), clock.at(5));
        assert_eq!(
            subject.probed(&clock.probe(18, &[Some(1), None, Some(1)])),
            Verdict::Stalled { unasked: 1 }
        );
        assert_eq!(subject.durable(), OutputSequence(10));
        assert_eq!(
            subject.probed(&clock.probe(40, &SAME)),
            Verdict::Durable(OutputSequence(20))
        );
    }

    #[test]
    fn a_change_is_noticed_even_when_another_node_cannot_be_asked() {
        let (clock, mut subject) = started();
        subject.acknowledged(OutputSequence(20), clock.at(5));
        let changed = clock.probe(18, &[Some(7), None, Some(1)]);
        assert_eq!(
            subject.probed(&changed),
            Verdict::SendAgain {
                after: OutputSequence(10)
            }
        );
        assert!(
            !subject.counts(clock.at(60)),
            "nothing counts until every node was asked"
        );
        let complete = [Some(7), Some(1), Some(1)];
        assert_eq!(
            subject.probed(&clock.probe(60, &complete)),
            Verdict::SendAgain {
                after: OutputSequence(10)
            }
        );
        assert!(subject.counts(clock.at(61)));
    }

    #[test]
    fn a_node_that_joined_or_left_is_a_change() {
        let (clock, mut subject) = started();
        let joined = clock.probe(5, &[Some(1), Some(1), Some(1), Some(1)]);
        assert_eq!(
            subject.probed(&joined),
            Verdict::SendAgain {
                after: OutputSequence(10)
            }
        );
        assert_eq!(
            subject.probed(&clock.probe(7, &SAME)),
            Verdict::SendAgain {
                after: OutputSequence(10)
            }
        );
    }

    #[test]
    fn marks_are_few_however_many_acknowledgements_come() {
        let (clock, mut subject) = started();
        for millisecond in 0..60_000_u64 {
            let now = clock.at(1) + Duration::from_millis(millisecond);
            subject.acknowledged(OutputSequence(11 + millisecond), now);
        }
        assert!(subject.marks.len() <= 101, "{}", subject.marks.len());
        assert_eq!(subject.probed(&clock.probe(33, &SAME)), {
            let last = subject.durable();
            Verdict::Durable(last)
        });
        let durable = subject.durable().0;
        assert!((19_400..=20_011).contains(&durable), "{durable}");
    }
}
