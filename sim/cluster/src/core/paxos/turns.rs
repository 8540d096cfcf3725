//! How long a replica takes to come to a message of a Paxos round.
//!
//! A round is many steps of many threads, and each replica comes to its part at a moment of its own. That is what
//! contention is made of: a rival's promise gets in between on one replica and not on another, so a proposal is accepted by
//! some and not by a quorum (code 1700, unknown), and dozens of clients outbid each other until some time out. Were every
//! replica to answer at once, and all in one order, none of that would ever be seen. `ci/contention` measures it beside real
//! nodes; its figures stand in DIFFERENCES.md.

use crate::core::message::Msg;
use crate::core::node::{Cx, Node};
use crate::core::timers::Timer;
use crate::model::{NodeIdx, TableId};
use std::collections::BTreeMap;

/// Messages that wait for their turn, by number. As many as coordinators have rounds under way
/// (`ClusterConfig::in_flight_max` each).
#[derive(Debug, Default)]
pub(in crate::core) struct Turns {
    waiting: BTreeMap<u64, (NodeIdx, Msg)>,
    last: u64,
}

impl Node {
    /// A message of a round arrives. What a node that wakes says to itself has its turn at once: of its rounds that come to
    /// nothing then it has made its own promise (seen).
    pub(in crate::core) fn await_turn(&mut self, cx: &mut Cx<'_>, from: NodeIdx, msg: Msg) {
        if from == self.me && self.waking.is_waking(cx.now_us) {
            return self.take_turn(cx, from, msg);
        }
        let turn = self.config.paxos;
        let (low, high) = match self.rng.below(turn.late_one_in.max(1)) {
            0 => turn.late_us,
            _ => turn.prompt_us,
        };
        self.turns.last += 1;
        let (number, delay_us) = (self.turns.last, self.rng.between(low, high));
        self.turns.waiting.insert(number, (from, msg));
        self.timers.set(cx.now_us + delay_us, Timer::PaxosTurn(number));
    }

    /// Its turn has come.
    pub(in crate::core) fn on_turn(&mut self, cx: &mut Cx<'_>, number: u64) {
        if let Some((from, msg)) = self.turns.waiting.remove(&number) {
            self.take_turn(cx, from, msg);
        }
    }

    /// What waits for this table has its turn at once, in the order in which it came. A truncation begins with a flush, which
    /// takes a real node far longer than any of these waits: what reached the node before it is never seen after it.
    pub(in crate::core) fn finish_turns_of(&mut self, cx: &mut Cx<'_>, table: TableId) {
        let concerned = |msg: &Msg| match msg {
            Msg::Prepare { key, .. } | Msg::Propose { key, .. } | Msg::Commit { key, .. } => key.table == table,
            _ => false,
        };
        let numbers: Vec<u64> = self
            .turns
            .waiting
            .iter()
            .filter(|(_, (_, msg))| concerned(msg))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.on_turn(cx, number);
        }
    }

    fn take_turn(&mut self, cx: &mut Cx<'_>, from: NodeIdx, msg: Msg) {
        match msg {
            Msg::Prepare {
                op,
                ballot,
                key,
                expires_us,
            } => self.replica_prepare(cx, from, op, ballot, &key, expires_us),
            Msg::Propose {
                op,
                key,
                proposal,
                expires_us,
            } => self.replica_propose(cx, from, op, &key, proposal, expires_us),
            Msg::Commit { op, key, proposal } => self.replica_commit(cx, from, op, &key, proposal),
            // Nothing else waits here.
            _ => {}
        }
    }
}
