//! What arrives: handshakes, bytes, resets, and the ends of patience. Runs inside timer callbacks: it changes the state
//! and collects wake-ups and timers, nothing else.

use super::conn::{CLIENT, Phase, SERVER};
use super::state::{Event, State, What};
use crate::trace::{HostId, Kind, Trace, code};
use std::io::ErrorKind;

impl State {
    /// Everything of the earliest instant happens. Timers fire in order, one per instant.
    pub(super) fn fire(&mut self, trace: &Trace) {
        let Some((now_ns, events)) = self.queue.pop_first() else {
            return;
        };
        self.stats.timers += 1;
        for event in events {
            if let Some(conn) = self.find(event.slot) {
                self.stats.events += 1;
                let bytes = self.handle(now_ns, conn, event);
                self.record(trace, now_ns, conn, event, bytes);
            }
        }
    }

    /// Returns how many bytes arrived.
    fn handle(&mut self, now_ns: u64, conn: usize, event: Event) -> usize {
        match event.what {
            What::Arrive(side) => return self.on_bytes(conn, side.into(), now_ns),
            What::Syn => self.on_syn(conn, now_ns),
            What::SynAck => self.on_syn_ack(conn, now_ns),
            What::Established => self.on_established(conn, now_ns),
            What::Retry => self.on_retry(conn, now_ns),
            What::Reset(side) => self.on_reset(conn, side.into()),
            What::GiveUp(side) => self.on_give_up(conn, side.into(), now_ns),
        }
        0
    }

    fn record(&self, trace: &Trace, now_ns: u64, conn: usize, event: Event, bytes: usize) {
        let a = now_ns ^ u64::from(event.slot.index) << 48;
        let What::Arrive(side) = event.what else {
            trace.emit_fast(code::SOCKET, a, event.what.number());
            return;
        };
        let (from, to) = self.hosts_of(conn, side.into());
        let (from, to) = (from.unwrap_or(HostId::MAIN), to.unwrap_or(HostId::MAIN));
        let hashed = (code::DELIVERY, a, (bytes as u64) << 1 | u64::from(side));
        trace.emit_rated_at(now_ns, hashed, to, || Kind::Delivery {
            conn: event.slot.index,
            from,
            to,
            bytes: bytes as u64,
        });
    }

    fn on_bytes(&mut self, conn: usize, side: usize, now_ns: u64) -> usize {
        let powered = self
            .hosts_of(conn, side)
            .1
            .is_some_and(|to| self.hosts[to.index()].powered);
        if !powered {
            // The machine is off: everything on its way waits for it to come back.
            self.conns[conn].pipes[side].recall();
            self.stall(conn, side, now_ns);
            return 0;
        }
        let k = &mut self.conns[conn];
        let reads = k.ends[1 - side].phase != Phase::Closed;
        let bytes = k.pipes[side].arrive(now_ns);
        if reads {
            let reader = k.pipes[side].reader.take();
            self.wake(reader);
        } else if bytes > 0 {
            // Bytes for an old socket.
            k.pipes[side].discard();
            self.send_reset(conn, 1 - side, now_ns);
        }
        bytes
    }

    fn on_syn(&mut self, conn: usize, now_ns: u64) {
        let ends = &self.conns[conn].ends;
        let Some(server) = ends[SERVER].host else { return };
        if ends[SERVER].phase != Phase::Closed
            || ends[CLIENT].phase != Phase::Handshake
            || !self.hosts[server.index()].powered
        {
            return;
        }
        let addr = ends[SERVER].addr;
        let backlog = self.config.backlog;
        let host = &mut self.hosts[server.index()];
        let listener = host
            .listeners
            .get_mut(&addr.port())
            .filter(|listener| listener.ip.is_unspecified() || listener.ip == addr.ip());
        let Some(listener) = listener else {
            self.send_reset(conn, SERVER, now_ns);
            return;
        };
        if listener.queue.len() + listener.pending >= backlog {
            return; // ignored; the client tries again
        }
        let id = listener.id;
        let Some(at_ns) = self.travel(conn, SERVER, now_ns, 0) else {
            return;
        };
        if let Some(listener) = self.hosts[server.index()].listeners.get_mut(&addr.port()) {
            listener.pending += 1;
        }
        let k = &mut self.conns[conn];
        k.ends[SERVER].phase = Phase::Handshake;
        k.listener = id;
        self.schedule(at_ns, conn, What::SynAck);
    }

    fn on_syn_ack(&mut self, conn: usize, now_ns: u64) {
        let k = &mut self.conns[conn];
        if k.ends[CLIENT].phase != Phase::Handshake {
            // The client has given up: it answers with the reset that it sent when it closed.
            return;
        }
        k.ends[CLIENT].phase = Phase::Open;
        let wakers = k.take_wakers();
        self.effects.wake.extend(wakers);
        let at_ns = self
            .travel(conn, CLIENT, now_ns, 0)
            .unwrap_or(now_ns + self.config.rto_ns);
        self.conns[conn].pipes[CLIENT].last_ns = at_ns;
        self.schedule(at_ns, conn, What::Established);
    }

    fn on_established(&mut self, conn: usize, now_ns: u64) {
        let slot = self.slot(conn);
        let k = &mut self.conns[conn];
        let Some(server) = k.ends[SERVER].host else { return };
        if k.ends[SERVER].phase != Phase::Handshake {
            return; // the process that took the SYN is gone
        }
        let (id, port) = (k.listener, k.ends[SERVER].addr.port());
        k.ends[SERVER].phase = Phase::Open;
        match self.hosts[server.index()]
            .listeners
            .get_mut(&port)
            .filter(|listener| listener.id == id)
        {
            Some(listener) => {
                listener.pending -= 1;
                listener.queue.push_back(slot);
                let waker = listener.waker.take();
                self.wake(waker);
            }
            None => {
                self.conns[conn].ends[SERVER].reset_on_close = true;
                self.close(conn, SERVER, now_ns);
            }
        }
    }

    fn on_retry(&mut self, conn: usize, now_ns: u64) {
        let k = &self.conns[conn];
        if k.ends[CLIENT].phase != Phase::Handshake || k.ends[CLIENT].broken {
            return;
        }
        if now_ns >= k.started_ns + self.config.connect_timeout_ns {
            self.fail(conn, CLIENT, ErrorKind::TimedOut);
        } else {
            self.send_syn(conn, now_ns);
        }
    }

    fn on_reset(&mut self, conn: usize, side: usize) {
        match (self.conns[conn].ends[side].phase, side) {
            (Phase::Closed, _) => {}
            (Phase::Handshake, CLIENT) => self.fail(conn, side, ErrorKind::ConnectionRefused),
            (Phase::Handshake, _) => self.forget_handshake(conn),
            (Phase::Open, _) => self.fail(conn, side, ErrorKind::ConnectionReset),
        }
    }

    /// The client gave up in the middle of the handshake; no program has seen the connection at this side.
    fn forget_handshake(&mut self, conn: usize) {
        let k = &mut self.conns[conn];
        k.ends[SERVER].phase = Phase::Closed;
        let (id, port, server) = (k.listener, k.ends[SERVER].addr.port(), k.ends[SERVER].host);
        let host = server.map(|server| &mut self.hosts[server.index()]);
        let listener = host
            .and_then(|host| host.listeners.get_mut(&port))
            .filter(|listener| listener.id == id);
        if let Some(listener) = listener {
            listener.pending -= 1;
        }
        self.reap(conn);
    }

    fn on_give_up(&mut self, conn: usize, side: usize, now_ns: u64) {
        let since_ns = self.conns[conn].pipes[side].stalled_ns;
        if since_ns.is_some_and(|since_ns| now_ns - since_ns >= self.config.give_up_ns) {
            self.fail(conn, side, ErrorKind::TimedOut);
        }
    }
}

impl What {
    fn number(self) -> u64 {
        match self {
            What::Arrive(side) => u64::from(side),
            What::Syn => 2,
            What::SynAck => 3,
            What::Established => 4,
            What::Retry => 5,
            What::Reset(side) => 6 + u64::from(side),
            What::GiveUp(side) => 8 + u64::from(side),
        }
    }
}
