//! What is on its way to a node: messages of its peers in order of arrival, and the one timer that wakes the node's pump
//! for the next of them or for the next deadline of its core.
//!
//! Length: a peer has a bounded number of requests under way (`in_flight_max`) and sends a bounded number of messages
//! for each; a paused node holds what arrives meanwhile, as its kernel would, and its peers stop counting on it.

use crate::core::message::Msg;
use crate::model::NodeIdx;
use sim_world::World;
use sim_world::time::Timer;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Something that arrives at a node.
#[derive(Debug)]
pub(super) enum Delivery {
    /// A message.
    Peer {
        /// Sender.
        from: NodeIdx,
        /// Content.
        msg: Msg,
    },
    /// The connection to this peer is refused or reset: its process is dead, its machine lives.
    Reset(NodeIdx),
}

/// Arrivals and the timer of one node.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// (arrival, number, place in `parcels`).
    order: BinaryHeap<Reverse<(u64, u64, u32)>>,
    parcels: Vec<Option<Delivery>>,
    free: Vec<u32>,
    timer: Option<Timer>,
    armed_ns: Option<u64>,
    waker: Option<Waker>,
}

impl Inbox {
    /// Puts a delivery in; `number` orders deliveries of one instant.
    pub(super) fn put(&mut self, world: &World, at_ns: u64, number: u64, delivery: Delivery) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.parcels.push(None);
            self.parcels.len() as u32 - 1
        });
        self.parcels[place as usize] = Some(delivery);
        self.order.push(Reverse((at_ns, number, place)));
        self.wake_at(world, at_ns);
    }

    /// Moves what has arrived by `now_ns` to `due`, in order; the pump runs, so what was armed until now has come.
    pub(super) fn take_due(&mut self, now_ns: u64, due: &mut Vec<Delivery>) {
        if self.armed_ns.is_some_and(|armed| armed <= now_ns) {
            self.armed_ns = None;
        }
        while let Some(Reverse((at_ns, _, place))) = self.order.peek().copied() {
            if at_ns > now_ns {
                return;
            }
            self.order.pop();
            self.free.push(place);
            due.extend(self.parcels[place as usize].take());
        }
    }

    /// When the next delivery arrives.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.order.peek().map(|Reverse((at_ns, _, _))| *at_ns)
    }

    /// Sets whom to wake.
    pub(super) fn listen(&mut self, waker: &Waker) {
        self.waker = Some(waker.clone());
    }

    /// Has the pump woken at `at_ns`, or earlier if an earlier time is set already.
    pub(super) fn wake_at(&mut self, world: &World, at_ns: u64) {
        if self.armed_ns.is_some_and(|armed| armed <= at_ns) {
            return;
        }
        let Some(waker) = &self.waker else { return };
        let timer = self.timer.get_or_insert_with(|| Timer::in_world(world, at_ns));
        timer.reset(at_ns);
        self.armed_ns = Some(at_ns);
        if Pin::new(timer).poll(&mut Context::from_waker(waker)) == Poll::Ready(()) {
            waker.wake_by_ref();
        }
    }

    /// Forgets everything, as the kernel of a dead process does. Returns what must be dropped outside the lock.
    #[must_use = "to be dropped outside the lock"]
    pub(super) fn clear(&mut self) -> Inbox {
        std::mem::take(self)
    }
}
