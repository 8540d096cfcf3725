//! Rule 4: the identity of what a feed delivers. An event that is already there is a duplicate if its digest is the
//! same; another digest at the same place, or a chain that does not fit, is a fork, and a fork stops everything.
//!
//! Nothing is sent or written here, and what is sent again on purpose (start-up, a node's loss, `settlement resettle`)
//! does not pass here. Residual risk, stated: beyond a gap an event's chain is checked against its neighbours that are
//! there, and against the stream only when the gap closes.

use std::collections::BTreeMap;

use settlement_events::{Digest, OutputSequence};

/// What an event that a feed delivered is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before.
    New,
    /// The same as what is there.
    Duplicate,
    /// It lies before everything that is remembered: compare it with its row in `settled_events`.
    LookUp,
    /// Something else than what is there.
    Fork(Fork),
}

/// Two versions of one stream. Which one is right is not for a program to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fork {
    /// Two contents for one place.
    #[error("event {sequence} is here with digest {ours:.16} and came again with digest {theirs:.16}")]
    Content {
        /// The place.
        sequence: OutputSequence,
        /// The digest of what is here.
        ours: Digest,
        /// The digest of what came.
        theirs: Digest,
    },
    /// An event that does not follow the one before it.
    #[error("event {sequence} says it follows {says:.16}, but the event before it has digest {before:.16}")]
    Chain {
        /// The later of the two events.
        sequence: OutputSequence,
        /// What it names as the event before.
        says: Digest,
        /// The digest of the event before.
        before: Digest,
    },
    /// The matching engine's head is an event that is here with another content.
    #[error("the matching engine's head is event {sequence} with digest {theirs:.16}; here it has digest {ours:.16}")]
    Head {
        /// The head's place.
        sequence: OutputSequence,
        /// The digest of what is here.
        ours: Digest,
        /// The head's digest.
        theirs: Digest,
    },
}

/// The two ends of an event.
#[derive(Clone, Copy, Debug)]
struct Link {
    digest: Digest,
    /// `None` for an event that cannot be read.
    prev_digest: Option<Digest>,
}

/// The chain of everything that was taken in.
#[derive(Debug)]
pub struct Identity {
    head: OutputSequence,
    /// `None` where the chain was entered in its middle.
    head_digest: Option<Digest>,
    /// What lies beyond a hole. As many as the feed delivers ahead of a gap, at most.
    ahead: BTreeMap<OutputSequence, Link>,
}

impl Identity {
    /// Everything up to `head` was taken in; its digest is the chain's end.
    #[must_use]
    pub const fn at(head: OutputSequence, head_digest: Digest) -> Self {
        Self {
            head,
            head_digest: Some(head_digest),
            ahead: BTreeMap::new(),
        }
    }

    /// The chain is entered after `head`, whose digest is not known.
    #[must_use]
    pub const fn entered_after(head: OutputSequence) -> Self {
        Self {
            head,
            head_digest: None,
            ahead: BTreeMap::new(),
        }
    }

    /// The end of the chain without holes.
    #[must_use]
    pub const fn head(&self) -> OutputSequence {
        self.head
    }

    /// What an event is. `kept` is the digest that is kept for its place, if any; `prev_digest` is not known of an
    /// event that cannot be read.
    #[must_use]
    pub fn judge(
        &self,
        sequence: OutputSequence,
        digest: Digest,
        prev_digest: Option<Digest>,
        kept: Option<Digest>,
    ) -> Verdict {
        if let Some(ours) = kept.or_else(|| self.ahead.get(&sequence).map(|link| link.digest)) {
            return if ours == digest {
                Verdict::Duplicate
            } else {
                Verdict::Fork(Fork::Content {
                    sequence,
                    ours,
                    theirs: digest,
                })
            };
        }
        if sequence <= self.head {
            return Verdict::LookUp;
        }
        if let (Some(before), Some(says)) = (self.before(sequence), prev_digest)
            && before != says
        {
            return Verdict::Fork(Fork::Chain { sequence, says, before });
        }
        if let Some((after, link)) = sequence.next().and_then(|after| self.ahead.get_key_value(&after))
            && let Some(says) = link.prev_digest
            && says != digest
        {
            return Verdict::Fork(Fork::Chain {
                sequence: *after,
                says,
                before: digest,
            });
        }
        Verdict::New
    }

    /// Takes an event in that was judged [`Verdict::New`].
    pub fn accept(&mut self, sequence: OutputSequence, digest: Digest, prev_digest: Option<Digest>) {
        if self.head.next() != Some(sequence) {
            self.ahead.insert(sequence, Link { digest, prev_digest });
            return;
        }
        self.head = sequence;
        self.head_digest = Some(digest);
        while let Some(next) = self.head.next()
            && let Some(link) = self.ahead.remove(&next)
        {
            self.head = next;
            self.head_digest = Some(link.digest);
        }
    }

    /// Whether the matching engine's head is a fork of what is here. A head that lies ahead says nothing yet.
    #[must_use]
    pub fn judge_head(&self, sequence: OutputSequence, theirs: Digest, kept: Option<Digest>) -> Option<Fork> {
        let ours = if sequence == self.head { self.head_digest } else { kept };
        ours.filter(|ours| *ours != theirs)
            .map(|ours| Fork::Head { sequence, ours, theirs })
    }

    /// The digest of the event before this one, where it is known.
    fn before(&self, sequence: OutputSequence) -> Option<Digest> {
        if self.head.next() == Some(sequence) {
            return self.head_digest;
        }
        self.ahead
            .get(&OutputSequence(sequence.0.checked_sub(1)?))
            .map(|link| link.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(of: u64) -> Digest {
        Digest::of(&of.to_be_bytes())
    }

    fn seq(sequence: u64) -> OutputSequence {
        OutputSequence(sequence)
    }

    /// The true stream: event n has digest(n) and names digest(n - 1), the first one zero.
    fn prev(sequence: u64) -> Option<Digest> {
        Some(if sequence == 1 {
            Digest::ZERO
        } else {
            digest(sequence - 1)
        })
    }

    fn deliver(subject: &mut Identity, sequence: u64, kept: Option<Digest>) -> Verdict {
        let verdict = subject.judge(seq(sequence), digest(sequence), prev(sequence), kept);
        if verdict == Verdict::New {
            subject.accept(seq(sequence), digest(sequence), prev(sequence));
        }
        verdict
    }

    #[test]
    fn duplicates_forks_and_what_is_too_old() {
        let mut subject = Identity::at(seq(0), Digest::ZERO);
        for sequence in 1..=3 {
            assert_eq!(deliver(&mut subject, sequence, None), Verdict::New);
        }
        assert_eq!(deliver(&mut subject, 2, Some(digest(2))), Verdict::Duplicate);
        assert_eq!(deliver(&mut subject, 2, None), Verdict::LookUp);
        let fork = Fork::Content {
            sequence: seq(2),
            ours: digest(77),
            theirs: digest(2),
        };
        assert_eq!(deliver(&mut subject, 2, Some(digest(77))), Verdict::Fork(fork));
    }

    #[test]
    fn a_broken_chain_is_a_fork_on_either_side_of_a_hole() {
        let mut subject = Identity::at(seq(5), digest(5));
        let broken = subject.judge(seq(6), digest(6), Some(digest(99)), None);
        let fork = Fork::Chain {
            sequence: seq(6),
            says: digest(99),
            before: digest(5),
        };
        assert_eq!(broken, Verdict::Fork(fork));

        assert_eq!(deliver(&mut subject, 8, None), Verdict::New);
        let filler = subject.judge(seq(7), digest(70), Some(digest(6)), None);
        let fork = Fork::Chain {
            sequence: seq(8),
            says: digest(7),
            before: digest(70),
        };
        assert_eq!(filler, Verdict::Fork(fork), "what comes later must fit what is there");
        assert_eq!(deliver(&mut subject, 7, None), Verdict::New);
        assert_eq!(subject.head(), seq(5));
        assert_eq!(deliver(&mut subject, 6, None), Verdict::New);
        assert_eq!(subject.head(), seq(8));
    }

    #[test]
    fn the_engines_head_is_compared_where_it_is_known() {
        let subject = Identity::at(seq(5), digest(5));
        assert_eq!(subject.judge_head(seq(5), digest(5), None), None);
        assert_eq!(subject.judge_head(seq(9), digest(9), None), None);
        assert!(subject.judge_head(seq(5), digest(50), None).is_some());
        assert!(subject.judge_head(seq(4), digest(40), Some(digest(4))).is_some());
        assert_eq!(subject.judge_head(seq(4), digest(4), Some(digest(4))), None);
    }

    proptest! {
        #[test]
        fn any_order_of_a_true_stream_is_taken_in_once(order in Just((1..40_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut subject = Identity::at(seq(0), Digest::ZERO);
            let mut kept: Vec<u64> = Vec::new();
            for sequence in order {
                prop_assert_eq!(deliver(&mut subject, sequence, None), Verdict::New);
                kept.push(sequence);
                let again = *kept.first().expect("not empty");
                prop_assert_eq!(deliver(&mut subject, again, Some(digest(again))), Verdict::Duplicate);
            }
            prop_assert_eq!(subject.head(), seq(39));
            prop_assert!(subject.ahead.is_empty());
        }

        #[test]
        fn one_false_event_is_a_fork_in_any_order(
            order in Just((1..20_u64).collect::<Vec<_>>()).prop_shuffle(), at in 1..19_u64,
        ) {
            let mut subject = Identity::at(seq(0), Digest::ZERO);
            let mut forks = 0;
            for sequence in order {
                let content = if sequence == at { digest(1_000) } else { digest(sequence) };
                match subject.judge(seq(sequence), content, prev(sequence), None) {
                    Verdict::New => subject.accept(seq(sequence), content, prev(sequence)),
                    Verdict::Fork(_) => forks += 1,
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert!(forks > 0);
        }
    }
}
