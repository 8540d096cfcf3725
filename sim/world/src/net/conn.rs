//! The data of a TCP connection. No behaviour beyond what one ring or one end can do alone.
//!
//! TCP is a stream, so one direction of a connection is ONE byte ring with a moving watermark,
//! `[visible | in flight | unsent]`: sending is a copy and an arrival stamp, delivery moves the watermark and wakes the
//! reader. No message objects, no task and no allocation per message.

use crate::trace::HostId;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::task::Waker;

/// The side that connected.
pub(super) const CLIENT: usize = 0;
/// The side that accepted.
pub(super) const SERVER: usize = 1;

/// A FIN that was asked for but is stuck behind a cut.
pub(super) const STUCK: u64 = u64::MAX;

/// How far one end of a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The handshake goes on.
    Handshake,
    /// Established.
    Open,
    /// The handle was dropped or the process is gone; data that arrives is answered with a reset.
    Closed,
}

/// One end of a connection.
pub(super) struct End {
    /// None: nobody has that address.
    pub(super) host: Option<HostId>,
    pub(super) addr: SocketAddr,
    pub(super) phase: Phase,
    /// What the next operation of this end fails with, once.
    pub(super) error: Option<ErrorKind>,
    /// The connection has failed: once the error was reported, reads find the end and writes a broken pipe.
    pub(super) broken: bool,
    /// The task that waits for the handshake.
    pub(super) connecting: Option<Waker>,
    /// Closing resets the connection instead of finishing it (SO_LINGER with 0 s).
    pub(super) reset_on_close: bool,
}

impl End {
    pub(super) fn new(host: Option<HostId>, addr: SocketAddr, phase: Phase) -> Self {
        End {
            host,
            addr,
            phase,
            error: None,
            broken: false,
            connecting: None,
            reset_on_close: false,
        }
    }
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    /// Visible bytes, then those of `flight`, then `unsent` ones.
    pub(super) ring: VecDeque<u8>,
    /// Bytes that have arrived and can be read.
    pub(super) visible: usize,
    /// Arrival and length of what is on its way, in order.
    pub(super) flight: VecDeque<(u64, usize)>,
    /// Bytes that cannot leave: the link is cut or the other machine is off.
    pub(super) unsent: usize,
    /// The last arrival so far: a stream does not overtake itself.
    pub(super) last_ns: u64,
    /// Since when packets have been vanishing.
    pub(super) stalled_ns: Option<u64>,
    /// Arrival of the FIN; [`STUCK`] when it cannot leave.
    pub(super) fin_ns: Option<u64>,
    /// The FIN has arrived.
    pub(super) eof: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Pipe {
    /// Makes an old pipe new, keeping its memory. Its wakers must have been taken.
    pub(super) fn reset(&mut self) {
        debug_assert!(self.reader.is_none() && self.writer.is_none());
        self.ring.clear();
        self.flight.clear();
        (self.visible, self.unsent, self.last_ns) = (0, 0, 0);
        (self.stalled_ns, self.fin_ns, self.eof) = (None, None, false);
    }

    /// Takes back what is on its way: it vanished and waits to be sent again.
    pub(super) fn recall(&mut self) {
        self.unsent += self.flight.drain(..).map(|(_, bytes)| bytes).sum::<usize>();
        if self.fin_ns.is_some() && !self.eof {
            self.fin_ns = Some(STUCK);
        }
    }

    /// Moves what has arrived by `now_ns` into sight; returns how many bytes.
    pub(super) fn arrive(&mut self, now_ns: u64) -> usize {
        let mut bytes = 0;
        while let Some((at_ns, length)) = self.flight.front().copied() {
            if at_ns > now_ns {
                break;
            }
            self.flight.pop_front();
            bytes += length;
        }
        self.visible += bytes;
        self.eof |= self.fin_ns.is_some_and(|fin_ns| fin_ns <= now_ns);
        bytes
    }

    /// Copies visible bytes out; returns how many.
    pub(super) fn copy_out(&self, limit: usize, mut put: impl FnMut(&[u8])) -> usize {
        let bytes = self.visible.min(limit);
        let (head, tail) = self.ring.as_slices();
        let first = bytes.min(head.len());
        put(&head[..first]);
        put(&tail[..bytes - first]);
        bytes
    }

    /// Drops bytes that were copied out.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.ring.drain(..bytes);
        self.visible -= bytes;
    }

    /// Forgets all bytes: the receiver is gone.
    pub(super) fn discard(&mut self) {
        self.ring.clear();
        self.flight.clear();
        (self.visible, self.unsent) = (0, 0);
    }
}

/// A connection; `pipes[side]` carries what that side writes. Slots are used again under another generation.
pub(super) struct Conn {
    pub(super) generation: u32,
    pub(super) live: bool,
    /// Number of the connection within the run.
    pub(super) id: u64,
    pub(super) ends: [End; 2],
    pub(super) pipes: [Pipe; 2],
    /// When the first SYN left.
    pub(super) started_ns: u64,
    /// SYNs sent.
    pub(super) tries: u32,
    /// The listener that took the SYN.
    pub(super) listener: u64,
    /// The tap that watches it.
    pub(super) tap: Option<u64>,
}

impl Conn {
    pub(super) fn empty() -> Self {
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let end = || End::new(None, nobody, Phase::Closed);
        Conn {
            generation: 0,
            live: false,
            id: 0,
            ends: [end(), end()],
            pipes: [Pipe::default(), Pipe::default()],
            started_ns: 0,
            tries: 0,
            listener: 0,
            tap: None,
        }
    }

    /// All wakers of the connection, to be woken outside the lock.
    pub(super) fn take_wakers(&mut self) -> impl Iterator<Item = Waker> {
        let [a, b] = &mut self.pipes;
        let [c, d] = &mut self.ends;
        let wakers = [
            a.reader.take(),
            a.writer.take(),
            b.reader.take(),
            b.writer.take(),
            c.connecting.take(),
            d.connecting.take(),
        ];
        wakers.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Send(Vec<u8>, u64),
        Wait(u64),
        Read(usize),
        Recall,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (prop::collection::vec(any::<u8>(), 0..20), 0u64..10).prop_map(|(bytes, delay)| Op::Send(bytes, delay)),
            (0u64..10).prop_map(Op::Wait),
            (0usize..30).prop_map(Op::Read),
            Just(Op::Recall),
        ]
    }

    proptest! {
        /// The reference: a list of (arrival, byte), none of which overtakes another.
        #[test]
        fn a_pipe_is_a_queue_of_bytes_with_arrivals(ops in prop::collection::vec(op(), 0..60)) {
            let (mut pipe, mut now_ns, mut last_ns) = (Pipe::default(), 0, 0);
            let mut reference: VecDeque<(u64, u8)> = VecDeque::new();
            for op in ops {
                match op {
                    Op::Send(bytes, delay) => {
                        last_ns = last_ns.max(now_ns + delay);
                        // unsent bytes can only be the last ones of the ring: a stalled pipe sends nothing
                        if pipe.unsent == 0 {
                            pipe.ring.extend(&bytes);
                            pipe.flight.push_back((last_ns, bytes.len()));
                            reference.extend(bytes.iter().map(|b| (last_ns, *b)));
                        }
                    }
                    Op::Wait(ns) => {
                        now_ns += ns;
                        pipe.arrive(now_ns);
                    }
                    Op::Read(limit) => {
                        let mut got = Vec::new();
                        let n = pipe.copy_out(limit, |part| got.extend_from_slice(part));
                        pipe.consume(n);
                        let want: Vec<u8> = reference.iter().take_while(|(at, _)| *at <= now_ns).take(limit).map(|(_, b)| *b).collect();
                        // arrivals become visible at the next Wait, so what is visible may lag behind the reference
                        prop_assert!(want.starts_with(&got));
                        reference.drain(..got.len());
                    }
                    Op::Recall => {
                        pipe.arrive(now_ns);
                        let seen = pipe.visible;
                        pipe.recall();
                        prop_assert_eq!(pipe.unsent, reference.len() - seen);
                        for entry in reference.iter_mut().skip(seen) {
                            entry.0 = u64::MAX;
                        }
                    }
                }
                prop_assert_eq!(pipe.ring.len(), reference.len());
            }
        }
    }
}
