//! A node that stood still and goes on: what it makes of answers that came too late, and of requests and messages that
//! waited in its sockets.
//!
//! Clocks went on meanwhile, so operations that were under way are past their deadlines. Whether an answer that lies in the
//! socket still counts is a race between the thread that waits for it and the one that reads it. In Cassandra the waiting
//! thread wins: its time is over, and it says so, with one answer fewer than it needed where all have come by now
//! (C `AbstractWriteResponseHandler.get`: "we lie on the acks count", CASSANDRA-6491; seen).
//!
//! Requests that waited in sockets are executed as if they had just come, but for some: of LOGGED batches and Paxos rounds
//! that a Cassandra found after a standstill, about three never left it, however many had waited. The batches were refused at
//! once without a batchlog, the rounds timed out with the coordinator's own promise (seen: 3.3 after 4 s, 2.8 of two dozen
//! batches, 1.3 after 7 s; why these and no plain writes, we do not know).
//!
//! Few messages of writes are lost on the way to it and from it; and more rounds of Paxos are accepted and hear
//! nothing of it (seen; in which of its threads' queues, we do not know).
//!
//! Messages of other nodes have expired in the sockets; some are taken all the same, by a clock that still stands where it
//! did (seen).

use super::message::Msg;
use super::node::{Cx, Node};
use crate::model::NodeIdx;

/// A node that did nothing for so long stood still: its gossip gives it something to do every second.
const STANDSTILL_US: u64 = 1_500_000;
/// What is read within this after a standstill lay in a socket.
const WAKING_US: u64 = 50_000;
/// The first so many are not lost; of the others one in so many is, until there are enough.
const SAFE: u32 = 3;
const LOST_ONE_IN: u64 = 3;
/// So many rounds of Paxos hear their answers: none that waited for seven seconds was ever deaf, with thirty of them (seen).
const HEARD: u32 = 32;
/// Of answers that are too late, the thread that gives up has not seen the last one in one of so many.
const UNSEEN_ONE_IN: u64 = 10;

/// When this node did something, and when it last woke up.
#[derive(Debug, Default)]
pub(super) struct Waking {
    stepped_us: u64,
    woke_us: Option<u64>,
    /// Requests that waited and may be lost, and those that were, since then.
    met: u32,
    lost: u32,
    /// Rounds of Paxos that waited.
    rounds: u32,
    /// What is sent now never leaves.
    is_mute: bool,
}

impl Waking {
    /// Something happens at this node.
    pub(super) fn step(&mut self, now_us: u64) {
        if self.stepped_us > 0 && now_us - self.stepped_us > STANDSTILL_US {
            self.woke_us = Some(now_us);
            (self.met, self.lost, self.rounds) = (0, 0, 0);
        }
        self.stepped_us = now_us;
    }

    pub(super) fn is_waking(&self, now_us: u64) -> bool {
        self.woke_us.is_some_and(|woke_us| now_us - woke_us <= WAKING_US)
    }
}

impl Node {
    /// Whether a batch or a Paxos round that comes now is one of those whose messages never leave.
    pub(super) fn is_lost_on_waking(&mut self, cx: &Cx<'_>) -> bool {
        if self.waking.lost >= self.rules.lost_on_waking || !self.waking.is_waking(cx.now_us) {
            return false;
        }
        // Any of them; but one that waited alone was never seen to be lost.
        self.waking.met += 1;
        let is_lost = self.waking.met > SAFE && self.rng.below(LOST_ONE_IN) == 0;
        self.waking.lost += u32::from(is_lost);
        is_lost
    }

    /// Whether a round of Paxos that comes now will hear nothing of what it proposes.
    pub(super) fn is_deaf_on_waking(&mut self, cx: &Cx<'_>) -> bool {
        let one_in = self.rules.deaf_rounds_on_waking_one_in;
        if one_in == 0 || !self.waking.is_waking(cx.now_us) {
            return false;
        }
        self.waking.rounds += 1;
        self.waking.rounds > HEARD && self.rng.below(one_in) == 0
    }

    /// Whether a message from or to another node is lost because this one has just woken up.
    pub(super) fn is_message_lost_on_waking(&mut self, now_us: u64, msg: &Msg) -> bool {
        let one_in = self.rules.lost_messages_on_waking_one_in;
        one_in > 0 && self.waking.is_waking(now_us) && msg.is_of_write() && self.rng.below(one_in) == 0
    }

    /// Whether a message that was to be here by `expires_us` is too late.
    pub(super) fn has_expired(&mut self, cx: &Cx<'_>, expires_us: u64) -> bool {
        if cx.now_us <= expires_us {
            return false;
        }
        let percent = self.rules.expired_pass_on_waking_percent;
        let passes = percent > 0 && self.waking.is_waking(cx.now_us) && self.rng.below(100) < percent;
        !passes
    }

    /// Does something of which no message leaves this node.
    pub(super) fn mutely(&mut self, cx: &mut Cx<'_>, what: impl FnOnce(&mut Node, &mut Cx<'_>)) {
        self.waking.is_mute = true;
        what(self, cx);
        self.waking.is_mute = false;
    }

    /// Whether a message to another node is one that never leaves.
    pub(super) fn is_unsent(&self, to: NodeIdx) -> bool {
        self.waking.is_mute && to != self.me
    }

    /// Whether an answer that comes now is too late for whoever waits until `deadline_us`.
    pub(super) fn is_too_late(&self, cx: &Cx<'_>, deadline_us: u64) -> bool {
        self.rules.late_answers_time_out && cx.now_us > deadline_us
    }

    /// Of `received` answers where `required` were needed, those that are told when time is over: not all, for then it
    /// would have been reached.
    pub(super) fn told_of(&mut self, received: u32, required: u32) -> u32 {
        if received < required {
            return received;
        }
        let unseen = u32::from(self.rng.below(UNSEEN_ONE_IN) == 0);
        required.saturating_sub(1 + unseen)
    }
}
