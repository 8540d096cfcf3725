//! Anomalies on record (`scylla-semantics` section 10) that a node shows on command. Nothing of it runs while nothing is
//! commanded; what is commanded ends with the node's process.
//!
//! Others need nothing of their own: an Unavailable that was applied is a verdict ([`super::boundary::Then`]), updates lost on
//! their way to views are [`super::ViewFault`], updates lost to a fast clock are that clock.

use super::boundary::{Then, Told, Verdict};
use super::message::{Event, Msg, Which};
use super::node::{Cx, Node};
use super::paxos::PaxosKey;
use super::seal::Sealed;
use super::timers::Timer;
use crate::model::NodeIdx;
use serde::Serialize;
use std::collections::{BTreeSet, VecDeque};

/// Between the first row of a torn update and the others, microseconds: long enough for a reader to come between.
const TORN_US: u64 = 20_000;
/// A clock that is off by this much wins, or loses, over writes that people would call later, microseconds.
const ASKEW_US: i64 = 100_000;

/// What a node can be told to do wrong, or can do wrong unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// Entries of batches that are done stay in its batchlog, and are replayed (#24415).
    KeepBatchlog,
    /// It replays nothing, as when a node that is down blocks it (#25432).
    HoldReplay,
    /// Of an update of several rows of a partition the first appears before the others (#7170).
    TearPartitions,
    /// It forgets what it promised, accepted and learnt in Paxos: of two conditional writes that exclude each other both can
    /// win, as where quorums of before and after a change of members do not meet (#7116, #7243).
    ForgetPaxos,
    /// A write was answered Unavailable and is applied (#7258). By a verdict, not by [`super::Input::Lie`].
    UnavailableYetApplied,
    /// Updates of views are lost (#13273, #3340). By [`super::Input::ViewUpdates`].
    LoseViewUpdates,
    /// Writes are stamped by a clock that is far off, so that later ones lose. By the clock.
    WrongClock,
}

impl Lie {
    /// Its name in the trace.
    pub fn name(self) -> &'static str {
        match self {
            Lie::KeepBatchlog => "keep-batchlog",
            Lie::HoldReplay => "hold-replay",
            Lie::TearPartitions => "tear-partitions",
            Lie::ForgetPaxos => "forget-paxos",
            Lie::UnavailableYetApplied => "unavailable-yet-applied",
            Lie::LoseViewUpdates => "lose-view-updates",
            Lie::WrongClock => "wrong-clock",
        }
    }
}

/// What a node is told to do wrong.
#[derive(Debug, Default)]
pub(super) struct Lies {
    told: BTreeSet<Lie>,
    /// The rest of torn updates, in order of time.
    torn: VecDeque<(NodeIdx, Msg)>,
}

impl Node {
    pub(super) fn lie(&mut self, lie: Lie, on: bool) {
        match on {
            true => self.lies.told.insert(lie),
            false => self.lies.told.remove(&lie),
        };
    }

    pub(super) fn is_told(&self, lie: Lie) -> bool {
        !self.lies.told.is_empty() && self.lies.told.contains(&lie)
    }

    /// Of an update that is to be torn, applies the first row and keeps the rest for later. Whether it was one.
    pub(super) fn tear(&mut self, cx: &mut Cx<'_>, from: NodeIdx, msg: &Msg) -> bool {
        let Msg::Mutate {
            sealed,
            which,
            expires_us,
            ..
        } = msg
        else {
            return false;
        };
        // What is not to be applied at all, or not yet.
        if self.has_expired(cx, *expires_us) || self.is_news(sealed, which) {
            return false;
        }
        let has_views = |t| self.schema.views_of(t).next().is_some();
        // What views are sent depends on what was there before all of it.
        if which.indices().any(|i| has_views(sealed.mutations()[i].table)) {
            return false;
        }
        let Some(firsts) = sealed.firsts(which.indices()) else {
            return false;
        };
        cx.event(Event::Lied {
            lie: Lie::TearPartitions,
        });
        self.apply_first_rows(cx, &firsts);
        // A node that dies meanwhile finds all of it in its log: an update is torn for readers, not for good.
        for index in which.indices() {
            self.replica.log.append_entries(sealed.shared_entries(index, index));
        }
        let mut rest = msg.clone();
        if let Msg::Mutate { expires_us, .. } = &mut rest {
            *expires_us = u64::MAX;
        }
        self.lies.torn.push_back((from, rest));
        self.timers.set(cx.now_us + TORN_US, Timer::Torn);
        true
    }

    /// The rest of the oldest torn update: all of it, for what is there is the same.
    pub(super) fn on_torn(&mut self, cx: &mut Cx<'_>) {
        let Some((from, msg)) = self.lies.torn.pop_front() else {
            return;
        };
        let is_told = self.lies.told.remove(&Lie::TearPartitions);
        self.peer(cx, from, msg);
        if is_told {
            self.lies.told.insert(Lie::TearPartitions);
        }
    }

    fn apply_first_rows(&mut self, cx: &mut Cx<'_>, firsts: &Sealed) {
        let last = firsts.mutations().len().saturating_sub(1);
        // What cannot be applied is refused with the rest.
        let _applied = self.apply_here(cx, firsts, &Which::Range(0, u16::try_from(last).unwrap_or(u16::MAX)));
    }

    /// Forgets what it knows of a partition's rounds, if it is told to.
    pub(super) fn maybe_forget_paxos(&mut self, cx: &mut Cx<'_>, key: &PaxosKey) {
        if self.is_told(Lie::ForgetPaxos) && self.replica.paxos.remove(key).is_some() {
            cx.event(Event::Lied { lie: Lie::ForgetPaxos });
        }
    }

    /// A verdict puts an answer in place of the true one; tells of an Unavailable that is not true.
    pub(super) fn notice_unavailable(&self, cx: &mut Cx<'_>, verdict: Verdict) {
        if let Verdict::Refuse {
            told: Told::Unavailable { .. },
            then: Then::ApplyNow | Then::ByReplay | Then::ExecuteLate { .. },
        } = verdict
        {
            cx.event(Event::Lied {
                lie: Lie::UnavailableYetApplied,
            });
        }
    }

    /// A coordinator stamps a write; tells of it where its clock is far off.
    pub(super) fn notice_clock(&self, cx: &mut Cx<'_>) {
        if self.clock.skew_us().abs() >= ASKEW_US {
            cx.event(Event::Lied { lie: Lie::WrongClock });
        }
    }
}
