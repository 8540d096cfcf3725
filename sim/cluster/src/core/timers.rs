//! A node's timers and its table of operations under way.
//!
//! Both are plain memory: the host asks for the next deadline and gives a tick when it has come. Timers of operations
//! that are over are dropped when they reach the head, so an idle node asks for nothing but its gossip.

use super::message::OpId;
use crate::model::{NodeIdx, TableId};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// An operation's deadline.
    Deadline(OpId),
    /// An operation goes on after a pause, or a parked request executes.
    Resume(OpId),
    /// A read has waited long enough for its replicas.
    Speculate(OpId),
    /// Heartbeats, and a look at who is silent.
    Gossip,
    /// A peer that was heard again is up from now on.
    PeerUp(NodeIdx),
    /// Hand the log's bytes to the host.
    LogFlush,
    /// Sync the log.
    LogSync,
    /// Replay the batchlog.
    Replay,
    /// Deliver hints to a peer.
    Hints(NodeIdx),
    /// Move young hints to the log.
    HintFlush,
    /// Open the CQL port.
    Ready,
    /// Get the data of the node whose place this one takes.
    Join,
    /// Go on building a view.
    ViewBuild(TableId),
    /// The rest of a torn update.
    Torn,
    /// A message of a Paxos round has its turn.
    PaxosTurn(u64),
}

/// Timers in order of time; those of equal time in order of setting.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(u64, u64, Timer)>>,
    set: u64,
}

impl Timers {
    /// Sets a timer.
    pub fn set(&mut self, at_us: u64, timer: Timer) {
        self.set += 1;
        self.heap.push(Reverse((at_us, self.set, timer)));
    }

    /// Time of the first timer that `alive` wants; drops those before it.
    pub fn next(&mut self, mut alive: impl FnMut(&Timer) -> bool) -> Option<u64> {
        while let Some(Reverse((at, _, timer))) = self.heap.peek() {
            if alive(timer) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// The first timer that is due.
    pub fn due(&mut self, now_us: u64) -> Option<(u64, Timer)> {
        match self.heap.peek() {
            Some(Reverse((at, _, _))) if *at <= now_us => self.heap.pop().map(|Reverse((at, _, t))| (at, t)),
            _ => None,
        }
    }
}

/// Operations under way, by slot. An operation is taken out while it is worked on and put back after.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    next_stamp: u32,
    live: usize,
}

impl<T> Slab<T> {
    /// An empty table whose stamps begin at `first_stamp`, so that those of an earlier life of the node do not match.
    pub fn new(first_stamp: u32) -> Slab<T> {
        Slab {
            slots: vec![],
            free: vec![],
            next_stamp: first_stamp,
            live: 0,
        }
    }

    /// Number of operations, those taken out included.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Reserves a place; fill it with [`Slab::put`].
    pub fn reserve(&mut self) -> OpId {
        self.next_stamp = self.next_stamp.wrapping_add(1);
        self.live += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = (self.next_stamp, None);
        OpId {
            slot,
            stamp: self.next_stamp,
        }
    }

    /// Takes an operation out to work on it; `None` when it is over.
    pub fn take(&mut self, id: OpId) -> Option<T> {
        let (stamp, op) = self.slots.get_mut(id.slot as usize)?;
        if *stamp == id.stamp { op.take() } else { None }
    }

    /// Puts an operation (back).
    pub fn put(&mut self, id: OpId, op: T) {
        debug_assert_eq!(self.slots[id.slot as usize].0, id.stamp, "the place is still reserved");
        self.slots[id.slot as usize].1 = Some(op);
    }

    /// Gives up the place of an operation that was taken out.
    pub fn release(&mut self, id: OpId) {
        self.slots[id.slot as usize] = (0, None);
        self.free.push(id.slot);
        self.live -= 1;
    }

    /// Whether the operation is there.
    pub fn contains(&self, id: OpId) -> bool {
        self.slots
            .get(id.slot as usize)
            .is_some_and(|(stamp, op)| *stamp == id.stamp && op.is_some())
    }

    /// The operations there, by slot.
    pub fn ids(&self) -> impl Iterator<Item = OpId> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, (_, op))| op.is_some())
            .map(|(slot, (stamp, _))| OpId {
                slot: slot as u32,
                stamp: *stamp,
            })
    }

    /// Looks at an operation.
    pub fn get(&self, id: OpId) -> Option<&T> {
        let (stamp, op) = self.slots.get(id.slot as usize)?;
        if *stamp == id.stamp { op.as_ref() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_never_reaches_a_new_operation_in_its_slot() {
        let mut slab = Slab::new(7);
        let a = slab.reserve();
        slab.put(a, "a");
        assert_eq!(slab.take(a), Some("a"));
        slab.release(a);
        let b = slab.reserve();
        slab.put(b, "b");
        assert_eq!(a.slot, b.slot);
        assert_eq!(slab.take(a), None);
        assert_eq!((slab.contains(b), slab.len()), (true, 1));
    }

    #[test]
    fn timers_come_in_order_of_time_then_of_setting_and_dead_ones_are_dropped() {
        let mut t = Timers::default();
        t.set(20, Timer::Gossip);
        t.set(10, Timer::Replay);
        t.set(10, Timer::LogSync);
        assert_eq!(t.next(|timer| *timer != Timer::Replay), Some(10));
        assert_eq!(t.due(9), None);
        assert_eq!(t.due(10), Some((10, Timer::LogSync)));
        assert_eq!(t.due(30), Some((20, Timer::Gossip)));
        assert_eq!(t.due(30), None);
    }
}
