//! Hinted handoff: mutations kept for replicas that did not take them, delivered when they are back.
//!
//! A hint keeps the original timestamps, so a late delivery changes nothing that was written since. Hints reach the
//! node's log every so often, not at once: a coordinator killed before that loses them, as real ones do.

use super::log::EntryKind;
use super::message::{Event, Msg, Which};
use super::node::{Cx, Node};
use super::seal::Sealed;
use super::timers::Timer;
use crate::model::{NodeIdx, TableId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Clone)]
struct Hint {
    sealed: Arc<Sealed>,
    index: u16,
    /// When it was made, simulated microseconds: what was truncated since does not want it (C `Hint.creationTime`).
    created_us: u64,
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
    /// Whether no new ones are kept.
    pub(super) is_off: bool,
}

impl Hints {
    fn of_peer(&self, peer: NodeIdx) -> impl Iterator<Item = (&(NodeIdx, u64), &Hint)> {
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
            self.timers
                .set(cx.now_us + self.config.hints.flush_every_ms * 1000, Timer::HintFlush);
        }
        // The peer may be up already (it was only slow): nothing else would start the delivery.
        if self.peers[usize::from(peer.0)].up {
            // It waits for the flush first, and then for the next delivery.
            let flushed_ms = self.rng.below(self.config.hints.flush_every_ms);
            self.schedule_hints(cx, peer, flushed_ms);
        }
        true
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
        let at_us = cx.now_us + from_ms * 1000 + self.rng.between(low * 1000, high * 1000);
        self.timers.set(at_us, Timer::Hints(peer));
    }

    /// Time to deliver to a peer, or to try again.
    pub(super) fn on_hint_timer(&mut self, cx: &mut Cx<'_>, peer: NodeIdx) {
        self.hints.planned.remove(&peer);
        if !self.peers[usize::from(peer.0)].up || self.hints.of_peer(peer).next().is_none() {
            return;
        }
        self.hints.planned.insert(peer);
        self.hints.in_flight.retain(|(p, _)| *p != peer);
        self.deliver_hints(cx, peer);
        self.timers
            .set(cx.now_us + self.config.hints.retry_ms * 1000, Timer::Hints(peer));
    }

    fn deliver_hints(&mut self, cx: &mut Cx<'_>, peer: NodeIdx) {
        let under_way = self.hints.in_flight.range((peer, 0)..=(peer, u64::MAX)).count();
        let room = self.config.hints.in_flight_max.saturating_sub(under_way);
        let next: Vec<(u64, Hint)> = self
            .hints
            .of_peer(peer)
            .filter(|(key, _)| !self.hints.in_flight.contains(key))
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
