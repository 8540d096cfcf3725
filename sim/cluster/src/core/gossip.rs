//! Failure detection: heartbeats, conviction after real delays, and the way back.
//!
//! Each node sends every other a heartbeat a second and convicts those it has not heard for the flavour's time. A peer
//! that stops in good order says so; one that was only silent comes back a fraction of a second after it is heard
//! again; one that restarted (a new generation) a little later. Every node has its own view.

use super::message::{Effect, Event, Msg};
use super::node::{Cx, Node};
use super::persist::Start;
use super::timers::Timer;
use crate::model::NodeIdx;
use uuid::Uuid;

/// A peer as this node sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    /// Whether it is believed alive.
    pub up: bool,
    /// When it was heard last.
    pub heard_us: u64,
    /// The generation it was heard with.
    pub generation: u32,
    /// Since when it is believed dead.
    pub down_since_us: Option<u64>,
    /// When it will be called up, if it is on its way back.
    pub up_at_us: Option<u64>,
}

/// What a node told of itself, as drivers find it in `system.peers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// Its identity, if it is another one than was configured.
    pub host_id: Option<Uuid>,
    /// The version of its schema; `None` if it was never heard.
    pub schema_version: Option<Uuid>,
}

impl Node {
    /// What this node knows of each node from its heartbeats.
    pub fn facts(&self) -> &[NodeFacts] {
        &self.facts
    }

    pub(super) fn start_gossip(&mut self, cx: &mut Cx<'_>, start: Start) {
        let together = start == Start::Together;
        for (i, p) in self.peers.iter_mut().enumerate() {
            *p = Peer {
                up: together && i != usize::from(self.me.0),
                heard_us: cx.now_us,
                ..Peer::default()
            };
        }
        let interval_us = self.config.gossip.interval_ms * 1000;
        // Nodes that start together do not tick together.
        let phase_us = if together { self.rng.below(interval_us) } else { 0 };
        self.timers.set(cx.now_us + phase_us, Timer::Gossip);
    }

    /// Once a second: heartbeats out, and a look at who is silent.
    pub(super) fn on_gossip(&mut self, cx: &mut Cx<'_>, due_us: u64) {
        let gossip = self.config.gossip;
        let interval_us = gossip.interval_ms * 1000;
        if cx.now_us.saturating_sub(due_us) > gossip.local_pause_ms * 1000 {
            // It was this node that was not there: nobody is to blame for the silence.
            for p in &mut self.peers {
                p.heard_us = cx.now_us;
            }
        }
        let convict_us = self.rules.convict_after_ms * 10 * (100 + gossip.slower_percent);
        for peer in self.others().iter() {
            self.send_heartbeat(cx, peer);
            let p = &self.peers[usize::from(peer.0)];
            let is_silent = cx.now_us.saturating_sub(p.heard_us) > convict_us;
            if is_silent && self.pending.contains(peer) {
                // It was to take a lost one's place and is lost itself: nobody waits for it any more.
                self.pending.remove(peer);
            }
            if p.up && is_silent {
                self.mark_down(cx, peer);
            }
        }
        let next_us = if due_us + interval_us > cx.now_us {
            due_us + interval_us
        } else {
            cx.now_us + interval_us
        };
        self.timers.set(next_us, Timer::Gossip);
    }

    pub(super) fn send_heartbeat(&mut self, cx: &mut Cx<'_>, to: NodeIdx) {
        let msg = self.vitals();
        self.send(cx, to, msg);
    }

    pub(super) fn on_heartbeat(&mut self, cx: &mut Cx<'_>, from: NodeIdx, generation: u32, schema: (u64, Uuid)) {
        let starting = self.phase == super::node::Phase::Starting;
        let p = &mut self.peers[usize::from(from.0)];
        if generation < p.generation {
            return;
        }
        let restarted = generation > p.generation && p.generation != 0;
        let first_heard = p.generation == 0;
        p.heard_us = cx.now_us;
        p.generation = generation;
        let (schema_change, schema_version) = schema;
        self.facts[usize::from(from.0)].schema_version = Some(schema_version);
        let newest = self.newest_schema();
        if (schema_change, schema_version) > (newest.change, newest.version) {
            self.send(cx, from, Msg::PullSchema { is_needed: false });
        }
        let p = &self.peers[usize::from(from.0)];
        if restarted || first_heard {
            // Answer at once, so that a node that just started knows its peers.
            self.send_heartbeat(cx, from);
        } else if p.up || p.up_at_us.is_some() {
            return;
        }
        if restarted {
            // Restarted before it was convicted: it is called down and up again (C `StorageService.onRestart`).
            self.mark_down(cx, from);
        }
        if self.peers[usize::from(from.0)].up || self.pending.contains(from) {
            return;
        }
        if starting {
            return self.mark_up(cx, from);
        }
        let gossip = self.config.gossip;
        let (low, high) = if restarted || first_heard {
            gossip.up_after_restart_ms
        } else {
            gossip.up_after_silence_ms
        };
        let at_us = cx.now_us + self.rng.between(low * 1000, high * 1000);
        self.peers[usize::from(from.0)].up_at_us = Some(at_us);
        self.timers.set(at_us, Timer::PeerUp(from));
    }

    pub(super) fn on_peer_up(&mut self, cx: &mut Cx<'_>, peer: NodeIdx, due_us: u64) {
        if self.peers[usize::from(peer.0)].up_at_us == Some(due_us) {
            self.mark_up(cx, peer);
        }
    }

    /// A peer stops in good order.
    pub(super) fn on_leaving(&mut self, cx: &mut Cx<'_>, from: NodeIdx, generation: u32) {
        let p = &mut self.peers[usize::from(from.0)];
        if generation >= p.generation {
            p.generation = generation;
            self.mark_down(cx, from);
        }
    }

    fn mark_up(&mut self, cx: &mut Cx<'_>, peer: NodeIdx) {
        let p = &mut self.peers[usize::from(peer.0)];
        p.up_at_us = None;
        if std::mem::replace(&mut p.up, true) {
            return;
        }
        p.down_since_us = None;
        cx.event(Event::Status { peer, up: true });
        if self.renewed.contains(peer) {
            self.renewed.remove(peer);
            cx.fx.push(Effect::Replaced { peer });
        }
        cx.fx.push(Effect::Status { peer, up: true });
        self.hints_after_up(cx, peer);
        self.tell_view_builds(cx, peer);
    }

    pub(super) fn mark_down(&mut self, cx: &mut Cx<'_>, peer: NodeIdx) {
        let p = &mut self.peers[usize::from(peer.0)];
        p.up_at_us = None;
        if !std::mem::replace(&mut p.up, false) {
            return;
        }
        p.down_since_us = Some(cx.now_us);
        cx.event(Event::Status { peer, up: false });
        cx.fx.push(Effect::Status { peer, up: false });
        self.sweep_after_down(cx, peer);
    }
}
