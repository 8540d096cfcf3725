//! Hinted handoff: mutations kept for replicas that did not take them, delivered when they are back.
//!
//! A hint keeps the original timestamps, so a late delivery changes nothing that was written since. Hints reach the
//! node's log every so often, not at once: a coordinator killed before that loses them, as real ones do.

use super::flavor::HintDelivery;
use super::log::EntryKind;
use super::message::{Event, Msg, Which};
use super::node::{Cx, Node};
use super::seal::Sealed;
use super::timers::Timer;
use crate::model::{NodeIdx, TableId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// With `HintDelivery::ByFile`, one delivery in so many comes to nothing (C aborts it, puts the file back and tries again the
/// next time; in one of three runs a sixth of the hints that a node cut off had made came ten seconds later than the clocks
/// alone explain, in the others none, seen).
const GIVEN_UP_ONE_IN: u64 = 12;

#[derive(Debug, Clone)]
struct Hint {
    sealed: Arc<Sealed>,
    index: u16,
    /// When it was made, simulated microseconds: what was truncated since does not want it (C `Hint.creationTime`).
    created_us: u64,
}

/// See [`HintDelivery::ByFile`].
#[derive(Debug, Clone, Copy)]
struct Strikes {
    flush_us: u64,
    dispatch_us: u64,
}

/// The next time after `now_us` at which a clock strikes that does so every `period_ms`.
fn next_strike(now_us: u64, strike_us: u64, period_ms: u64) -> u64 {
    let period_us = (period_ms * 1000).max(1);
    now_us + period_us - (now_us + period_us - strike_us) % period_us
}

/// Hints of one node, by peer and number.
#[derive(Debug, Default)]
pub(super) struct Hints {
    waiting: BTreeMap<(NodeIdx, u64), Hint>,
    /// How many wait, per peer.
    counts: BTreeMap<NodeIdx, usize>,
    next: u64,
    /// Not in the log yet.
    young: BTreeSet<(NodeIdx, u64)>,
    /// Sent and not acknowledged.
    in_flight: BTreeSet<(NodeIdx, u64)>,
    flush_set: bool,
    /// Peers to which a delivery is planned already.
    planned: BTreeSet<NodeIdx>,
    /// The highest number in the closed files of a peer (`HintDelivery::ByFile`).
    closed: BTreeMap<NodeIdx, u64>,
    /// When the two clocks strike, microseconds within their periods; drawn when they are first asked for.
    strikes: Option<Strikes>,
    /// Whether no new ones are kept.
    pub(super) is_off: bool,
}

impl Hints {
    fn of_peer(&self, peer: NodeIdx) -> impl DoubleEndedIterator<Item = (&(NodeIdx, u64), &Hint)> {
        self.waiting.range((peer, 0)..=(peer, u64::MAX))
    }

    fn keep(&mut self, key: (NodeIdx, u64), hint: Hint) {
        if self.waiting.insert(key, hint).is_none() {
            *self.counts.entry(key.0).or_default() += 1;
        }
    }

    /// Hints that the log has: header and mutation of each.
    pub(super) fn logged(&self) -> impl Iterator<Item = ([u8; HINT_HEADER_BYTES], &[u8])> {
        let logged = self.waiting.iter().filter(|(key, _)| !self.young.contains(key));
        logged.map(|(key, hint)| {
            (
                header(key.0, key.1, hint.created_us),
                hint.sealed.entry(usize::from(hint.index)),
            )
        })
    }

    fn drop_one(&mut self, key: (NodeIdx, u64)) -> bool {
        let was_there = self.waiting.remove(&key).is_some();
        if was_there && let Some(n) = self.counts.get_mut(&key.0) {
            *n -= 1;
        }
        was_there
    }

    pub(super) fn recover_stored(&mut self, payload: &[u8]) {
        if let Some((peer, number, created_us, entry)) = read_header(payload)
            && let Some(sealed) = Sealed::from_entries(entry)
        {
            self.keep(
                (peer, number),
                Hint {
                    sealed: Arc::new(sealed),
                    index: 0,
                    created_us,
                },
            );
            self.next = self.next.max(number);
        }
    }

    pub(super) fn recover_done(&mut self, payload: &[u8]) {
        if let Some((peer, number, ..)) = read_header(payload) {
            self.drop_one((peer, number));
        }
    }
}

/// Bytes of a hint's header in the log: peer, number, time.
pub(super) const HINT_HEADER_BYTES: usize = 17;

fn header(peer: NodeIdx, number: u64, created_us: u64) -> [u8; HINT_HEADER_BYTES] {
    let mut h = [peer.0; HINT_HEADER_BYTES];
    h[1..9].copy_from_slice(&number.to_le_bytes());
    h[9..].copy_from_slice(&created_us.to_le_bytes());
    h
}

fn read_header(payload: &[u8]) -> Option<(NodeIdx, u64, u64, &[u8])> {
    let (h, rest) = payload.split_first_chunk::<HINT_HEADER_BYTES>()?;
    let number = |at: usize| Some(u64::from_le_bytes(h[at..at + 8].try_into().ok()?));
    Some((NodeIdx(h[0]), number(1)?, number(9)?, rest))
}

impl Node {
    /// Keeps a hint for each of these mutations. False if none may be kept.
    pub(super) fn hint(&mut self, cx: &mut Cx<'_>, peer: NodeIdx, sealed: &Arc<Sealed>, which: &Which) -> bool {
        let down_for_us = self.peers[usize::from(peer.0)]
            .down_since_us
            .map_or(0, |t| cx.now_us - t);
        let refused = self.hints.is_off
            || down_for_us > self.config.hints.window_ms * 1000
            || self
                .hints
                .counts
                .get(&peer)
                .is_some_and(|n| *n >= self.config.hints.per_peer_max);
        if refused {
            cx.event(Event::HintRefused { peer });
            return false;
        }
        for i in which.indices() {
            self.hints.next += 1;
            let key = (peer, self.hints.next);
            self.hints.keep(
                key,
                Hint {
                    sealed: sealed.clone(),
                    index: i as u16,
                    created_us: cx.now_us,
                },
            );
            self.hints.young.insert(key);
            cx.event(Event::HintStored { peer });
        }
        if !std::mem::replace(&mut self.hints.flush_set, true) {
            let at_us = self.hint_flush_us(cx.now_us);
            self.timers.set(at_us, Timer::HintFlush);
        }
        // The peer may be up already (it was only slow): nothing else would start the delivery.
        if self.peers[usize::from(peer.0)].up {
            // It waits for the flush first, and then for the next delivery.
            let flushed_ms = match self.rules.hint_delivery {
                HintDelivery::Prompt => self.rng.below(self.config.hints.flush_every_ms),
                HintDelivery::ByFile => 0,
            };
            self.schedule_hints(cx, peer, flushed_ms);
        }
        true
    }

    fn hint_strikes(&mut self) -> Strikes {
        let (flush_ms, dispatch_ms) = (self.config.hints.flush_every_ms, self.config.hints.retry_ms);
        let rng = &mut self.rng;
        *self.hints.strikes.get_or_insert_with(|| Strikes {
            flush_us: rng.below(flush_ms * 1000),
            dispatch_us: rng.below(dispatch_ms * 1000),
        })
    }

    fn hint_flush_us(&mut self, now_us: u64) -> u64 {
        let period_ms = self.config.hints.flush_every_ms;
        match self.rules.hint_delivery {
            HintDelivery::Prompt => now_us + period_ms * 1000,
            HintDelivery::ByFile => next_strike(now_us, self.hint_strikes().flush_us, period_ms),
        }
    }

    pub(super) fn on_hint_flush(&mut self, cx: &mut Cx<'_>) {
        self.hints.flush_set = false;
        let mut logged = false;
        for key in std::mem::take(&mut self.hints.young) {
            if let Some(h) = self.hints.waiting.get(&key) {
                let entry = h.sealed.entry(usize::from(h.index));
                self.replica
                    .log
                    .append(EntryKind::HintStored, &[&header(key.0, key.1, h.created_us), entry]);
                logged = true;
            }
        }
        if logged {
            self.log_dirty(cx);
        }
    }

    /// After a start: hints found in the log wait for their peers.
    pub(super) fn start_hints(&mut self, cx: &mut Cx<'_>) {
        for peer in self.others().iter() {
            self.close_hint_file(peer);
            if self.peers[usize::from(peer.0)].up && self.hints.of_peer(peer).next().is_some() {
                self.schedule_hints(cx, peer, 0);
            }
        }
    }

    pub(super) fn hints_after_up(&mut self, cx: &mut Cx<'_>, peer: NodeIdx) {
        // What was under way when it went down may be lost.
        self.hints.in_flight.retain(|(p, _)| *p != peer);
        if self.hints.of_peer(peer).next().is_some() {
            self.schedule_hints(cx, peer, 0);
        }
    }

    /// Plans the next delivery after `from_ms`; one that is planned already brings all hints.
    fn schedule_hints(&mut self, cx: &mut Cx<'_>, peer: NodeIdx, from_ms: u64) {
        if !self.hints.planned.insert(peer) {
            return;
        }
        let (low, high) = self.config.hints.deliver_after_up_ms;
        let at_us = match self.rules.hint_delivery {
            HintDelivery::Prompt => cx.now_us + from_ms * 1000 + self.rng.between(low * 1000, high * 1000),
            HintDelivery::ByFile => self.hint_dispatch_us(cx.now_us),
        };
        self.timers.set(at_us, Timer::Hints(peer));
    }

    /// Whether a delivery comes to nothing and is done the next time.
    fn is_hint_delivery_given_up(&mut self) -> bool {
        self.rules.hint_delivery == HintDelivery::ByFile && self.rng.below(GIVEN_UP_ONE_IN) == 0
    }

    fn hint_dispatch_us(&mut self, now_us: u64) -> u64 {
        let period_ms = self.config.hints.retry_ms;
        match self.rules.hint_delivery {
            HintDelivery::Prompt => now_us + period_ms * 1000,
            HintDelivery::ByFile => next_strike(now_us, self.hint_strikes().dispatch_us, period_ms),
        }
    }

    /// The file to which hints of this peer are written is closed: they are delivered from the next time on.
    fn close_hint_file(&mut self, peer: NodeIdx) {
        let is_written = |key: &&(NodeIdx, u64)| !self.hints.young.contains(*key);
        let last = self.hints.of_peer(peer).map(|(key, _)| key).rev().find(is_written);
        if let Some((_, last)) = last.copied() {
            self.hints.closed.insert(peer, last);
        }
    }

    /// Time to deliver to a peer, or to try again.
    pub(super) fn on_hint_timer(&mut self, cx: &mut Cx<'_>, peer: NodeIdx) {
        self.hints.planned.remove(&peer);
        if !self.peers[usize::from(peer.0)].up || self.hints.of_peer(peer).next().is_none() {
            return;
        }
        self.hints.planned.insert(peer);
        self.hints.in_flight.retain(|(p, _)| *p != peer);
        if !self.is_hint_delivery_given_up() {
            self.deliver_hints(cx, peer);
        }
        self.close_hint_file(peer);
        let at_us = self.hint_dispatch_us(cx.now_us);
        self.timers.set(at_us, Timer::Hints(peer));
    }

    fn deliver_hints(&mut self, cx: &mut Cx<'_>, peer: NodeIdx) {
        let under_way = self.hints.in_flight.range((peer, 0)..=(peer, u64::MAX)).count();
        let room = self.config.hints.in_flight_max.saturating_sub(under_way);
        let last = match self.rules.hint_delivery {
            HintDelivery::Prompt => u64::MAX,
            HintDelivery::ByFile => self.hints.closed.get(&peer).copied().unwrap_or(0),
        };
        let next: Vec<(u64, Hint)> = self
            .hints
            .of_peer(peer)
            .filter(|(key, _)| key.1 <= last && !self.hints.in_flight.contains(key))
            .take(room)
            .map(|(key, hint)| (key.1, hint.clone()))
            .collect();
        for (number, hint) in next {
            self.hints.in_flight.insert((peer, number));
            self.send(
                cx,
                peer,
                Msg::Hint {
                    number,
                    sealed: hint.sealed,
                    index: hint.index,
                    created_us: hint.created_us,
                    expires_us: cx.now_us + self.config.timeouts.write_ms * 1000,
                },
            );
        }
    }

    pub(super) fn on_hint_applied(&mut self, cx: &mut Cx<'_>, from: NodeIdx, number: u64) {
        let key = (from, number);
        self.hints.in_flight.remove(&key);
        if !self.hints.drop_one(key) {
            return;
        }
        cx.event(Event::HintDelivered { peer: from });
        if !self.hints.young.remove(&key) {
            self.replica
                .log
                .append(EntryKind::HintDone, &[&header(from, number, 0)]);
            self.log_dirty(cx);
        }
        self.deliver_hints(cx, from);
    }

    /// Forgets hints that wait, in the log too; what is on its way is not taken back.
    pub(super) fn lose_hints(&mut self, cx: &mut Cx<'_>, peer: Option<NodeIdx>) {
        let lost: Vec<(NodeIdx, u64)> = self.hints.waiting.keys().copied().collect();
        let mut counts: BTreeMap<NodeIdx, u64> = BTreeMap::new();
        for key in lost.into_iter().filter(|(of, _)| peer.is_none_or(|p| p == *of)) {
            self.hints.drop_one(key);
            self.hints.in_flight.remove(&key);
            if !self.hints.young.remove(&key) {
                self.replica
                    .log
                    .append(EntryKind::HintDone, &[&header(key.0, key.1, 0)]);
                self.log_dirty(cx);
            }
            *counts.entry(key.0).or_default() += 1;
        }
        for (peer, hints) in counts {
            cx.event(Event::HintsLost { peer, hints });
        }
    }

    /// Whether a hint has waited for longer than the shortest gc_grace of its tables: what it would bring back may have been
    /// deleted meanwhile, and the deletion forgotten. Of 0 there are never any hints delivered.
    pub(super) fn is_hint_too_old(&self, cx: &Cx<'_>, tables: impl Iterator<Item = TableId>, created_us: u64) -> bool {
        let age_us = cx.now_us.saturating_sub(created_us) + self.rules.hint_expires_early_s * 1_000_000;
        let shortest_s = tables
            .filter_map(|t| self.schema.table(t))
            .map(|t| t.options.gc_grace_s)
            .min();
        shortest_s.is_some_and(|s| age_us >= u64::from(s) * 1_000_000)
    }

    /// Hints that wait, all peers together.
    pub fn pending_hints(&self) -> usize {
        self.hints.waiting.len()
    }
}
