//! All hosts, listeners and connections behind one lock, in slabs and ordered maps, so that cut, heal, kill and power
//! loss walk them in a fixed order. Here: opening, sending, closing, dying. What arrives is in `events`.

use super::conn::{CLIENT, Conn, End, Phase, SERVER, STUCK};
use super::links::LinkTable;
use super::tap::{ConnInfo, SharedTap, TapFilter, TcpTap};
use super::{Effects, NetConfig};
use crate::host::Death;
use crate::summary::NetStats;
use crate::trace::{Class, HostId};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// Linux's range of ephemeral ports.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

/// The longest pause between two retransmissions (Linux: TCP_RTO_MAX).
const RTO_MAX_NS: u64 = 120_000 * crate::clock::MS;

/// A connection under one of its generations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    pub(super) index: u32,
    pub(super) generation: u32,
}

pub(super) struct Listener {
    pub(super) id: u64,
    /// The address it was bound to; unspecified: all of the host's.
    pub(super) ip: IpAddr,
    /// Established and not yet accepted.
    pub(super) queue: VecDeque<Slot>,
    /// In the last step of the handshake.
    pub(super) pending: usize,
    pub(super) waker: Option<Waker>,
}

pub(super) struct NetHost {
    pub(super) ip: IpAddr,
    /// The kernel lives.
    pub(super) powered: bool,
    /// A process runs.
    pub(super) running: bool,
    pub(super) listeners: BTreeMap<u16, Listener>,
    /// Ports that connections from here use, with their peers.
    ports: BTreeSet<(u16, SocketAddr)>,
    next_port: u16,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// Bytes or a FIN that this side wrote arrive.
    Arrive(u8),
    /// The client's SYN arrives.
    Syn,
    /// The server's SYN-ACK arrives.
    SynAck,
    /// The client's last ACK arrives: the connection can be accepted.
    Established,
    /// The client sends its SYN again or gives up.
    Retry,
    /// A reset arrives at this side.
    Reset(u8),
    /// This side may have waited long enough for an acknowledgement.
    GiveUp(u8),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) slot: Slot,
    pub(super) what: What,
}

pub(super) struct TapEntry {
    filter: TapFilter,
    tap: SharedTap,
    watches_deliveries: bool,
}

impl TapEntry {
    pub(super) fn new(filter: TapFilter, tap: Box<dyn TcpTap>) -> TapEntry {
        TapEntry {
            filter,
            watches_deliveries: tap.watches_deliveries(),
            tap: Arc::new(Mutex::new(tap)),
        }
    }
}

pub(crate) struct State {
    pub(super) config: NetConfig,
    pub(crate) links: LinkTable,
    pub(super) hosts: Vec<NetHost>,
    pub(super) by_ip: BTreeMap<IpAddr, HostId>,
    pub(super) conns: Vec<Conn>,
    free: Vec<u32>,
    /// What is to come, by instant; one timer per instant.
    pub(super) queue: BTreeMap<u64, SmallVec<[Event; 3]>>,
    taps: BTreeMap<u64, TapEntry>,
    numbered: u64,
    pub(super) effects: Effects,
    pub(super) stats: NetStats,
}

impl State {
    pub(super) fn new(config: NetConfig) -> Self {
        State {
            links: LinkTable::new(config.link, config.loopback, config.grid_ns, config.rto_ns),
            config,
            hosts: Vec::new(),
            by_ip: BTreeMap::new(),
            conns: Vec::new(),
            free: Vec::new(),
            queue: BTreeMap::new(),
            taps: BTreeMap::new(),
            numbered: 0,
            effects: Effects::default(),
            stats: NetStats::default(),
        }
    }

    pub(super) fn add_host(&mut self, id: HostId, ip: IpAddr) {
        debug_assert_eq!(id.index(), self.hosts.len());
        assert!(self.by_ip.insert(ip, id).is_none(), "the address {ip} is taken");
        self.hosts.push(NetHost {
            ip,
            powered: true,
            running: true,
            listeners: BTreeMap::new(),
            ports: BTreeSet::new(),
            next_port: *EPHEMERAL.start(),
        });
        self.links.add_host();
    }

    /// A number that no connection, listener or tap of this run had before.
    pub(super) fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    pub(super) fn wake(&mut self, waker: Option<Waker>) {
        self.effects.wake.extend(waker);
    }

    pub(super) fn slot(&self, index: usize) -> Slot {
        Slot {
            index: index as u32,
            generation: self.conns[index].generation,
        }
    }

    /// The connection of a slot, unless the slot has been used again.
    pub(super) fn find(&self, slot: Slot) -> Option<usize> {
        let index = slot.index as usize;
        let conn = &self.conns[index];
        (conn.live && conn.generation == slot.generation).then_some(index)
    }

    pub(super) fn schedule(&mut self, at_ns: u64, conn: usize, what: What) {
        let event = Event {
            slot: self.slot(conn),
            what,
        };
        let State { queue, effects, .. } = self;
        let events = queue.entry(at_ns).or_insert_with(|| {
            effects.arm.push(at_ns);
            SmallVec::new()
        });
        events.push(event);
    }

    /// Who sends and who receives what `side` writes.
    pub(super) fn hosts_of(&self, conn: usize, side: usize) -> (Option<HostId>, Option<HostId>) {
        let ends = &self.conns[conn].ends;
        (ends[side].host, ends[1 - side].host)
    }

    /// When a packet from `side` arrives at the other one; None when it vanishes.
    pub(super) fn travel(&mut self, conn: usize, side: usize, now_ns: u64, bytes: usize) -> Option<u64> {
        let (Some(from), Some(to)) = self.hosts_of(conn, side) else {
            return None;
        };
        if !self.hosts[to.index()].powered {
            return None;
        }
        self.links.travel(from, to, now_ns, bytes, Class::Client)
    }

    /// As [`State::travel`], for a message that is not part of a connection.
    pub(super) fn travel_message(
        &mut self,
        from: HostId,
        to: HostId,
        now_ns: u64,
        bytes: usize,
        class: Class,
    ) -> Option<u64> {
        self.stats.messages += 1;
        let there = self.hosts[to.index()].running;
        let at_ns = if there {
            self.links.travel(from, to, now_ns, bytes, class)
        } else {
            None
        };
        self.stats.vanished += u64::from(at_ns.is_none());
        at_ns
    }

    // ---- opening and closing ------------------------------------------------------------------------------------

    /// Opens a connection from `host`; the first SYN leaves.
    pub(super) fn connect(
        &mut self,
        host: HostId,
        port: Option<u16>,
        peer: SocketAddr,
        now_ns: u64,
    ) -> io::Result<(Slot, SocketAddr)> {
        let local_ip = if peer.ip().is_loopback() {
            peer.ip()
        } else {
            self.hosts[host.index()].ip
        };
        let port = self.hosts[host.index()].take_port(port, peer)?;
        let local = SocketAddr::new(local_ip, port);
        let to = if peer.ip().is_loopback() {
            Some(host)
        } else {
            self.by_ip.get(&peer.ip()).copied()
        };
        let index = self.free.pop().map_or_else(
            || {
                self.conns.push(Conn::empty());
                self.conns.len() - 1
            },
            |index| index as usize,
        );
        let id = self.number();
        let conn = &mut self.conns[index];
        (conn.live, conn.id, conn.started_ns, conn.tries, conn.tap) = (true, id, now_ns, 0, None);
        conn.ends = [
            End::new(Some(host), local, Phase::Handshake),
            End::new(to, peer, Phase::Closed),
        ];
        conn.pipes.iter_mut().for_each(super::conn::Pipe::reset);
        self.stats.connects += 1;
        self.choose_tap(index);
        self.send_syn(index, now_ns);
        Ok((self.slot(index), local))
    }

    pub(super) fn send_syn(&mut self, conn: usize, now_ns: u64) {
        let Conn { tries, started_ns, .. } = &mut self.conns[conn];
        let backoff_ns = (1000 * crate::clock::MS) << (*tries).min(6);
        *tries += 1;
        let deadline_ns = *started_ns + self.config.connect_timeout_ns;
        let again_ns = (now_ns + backoff_ns).min(deadline_ns).max(now_ns + 1);
        self.schedule(again_ns, conn, What::Retry);
        if let Some(at_ns) = self.travel(conn, CLIENT, now_ns, 0) {
            self.schedule(at_ns, conn, What::Syn);
        }
    }

    /// The program dropped its handle, or its process ended in order.
    pub(super) fn close(&mut self, conn: usize, side: usize, now_ns: u64) {
        let end = &mut self.conns[conn].ends[side];
        let (phase, reset) = (end.phase, end.reset_on_close);
        if phase == Phase::Closed {
            return;
        }
        end.phase = Phase::Closed;
        let unread = self.conns[conn].pipes[1 - side].visible > 0;
        if phase == Phase::Handshake {
            if self.conns[conn].ends[1 - side].phase != Phase::Closed {
                self.send_reset(conn, side, now_ns);
            }
        } else if unread || reset {
            // As Linux: whoever closes with unread bytes, or does not linger, resets the connection.
            if reset {
                self.conns[conn].pipes[side].unsent = 0;
            }
            self.send_reset(conn, side, now_ns);
        } else {
            self.finish(conn, side, now_ns);
        }
        self.reap(conn);
    }

    /// Frees a connection that both sides have closed.
    pub(super) fn reap(&mut self, conn: usize) {
        let k = &mut self.conns[conn];
        if !k.live || k.ends.iter().any(|end| end.phase != Phase::Closed) {
            return;
        }
        self.effects.wake.extend(k.take_wakers());
        k.live = false;
        k.generation += 1;
        k.pipes.iter_mut().for_each(super::conn::Pipe::discard);
        let end = &k.ends[CLIENT];
        if let Some(host) = end.host {
            self.hosts[host.index()]
                .ports
                .remove(&(end.addr.port(), k.ends[SERVER].addr));
        }
        self.free.push(conn as u32);
    }

    /// The connection is over for this end. As on Linux, the next operation reports why; after the peer's FIN it is a
    /// broken pipe, and only writers learn of it.
    pub(super) fn fail(&mut self, conn: usize, side: usize, error: ErrorKind) {
        let k = &mut self.conns[conn];
        let end = &mut k.ends[side];
        if !std::mem::replace(&mut end.broken, true) {
            end.error = Some(if k.pipes[1 - side].eof {
                ErrorKind::BrokenPipe
            } else {
                error
            });
        }
        self.effects.wake.extend(k.take_wakers());
    }

    // ---- sending --------------------------------------------------------------------------------------------------

    /// How many bytes this side may write now.
    pub(super) fn room(&self, conn: usize, side: usize) -> usize {
        self.config
            .window_bytes
            .saturating_sub(self.conns[conn].pipes[side].ring.len())
    }

    /// Takes bytes from the program and sends them; `hold_ns` delays their arrival.
    pub(super) fn send(&mut self, conn: usize, side: usize, now_ns: u64, bytes: &[u8], hold_ns: u64) {
        self.conns[conn].pipes[side].ring.extend(bytes);
        self.stats.writes += 1;
        self.stats.bytes += bytes.len() as u64;
        self.transmit(conn, side, now_ns, bytes.len(), hold_ns);
    }

    /// The last `bytes` of the ring (0: only a FIN) leave, or get stuck.
    fn transmit(&mut self, conn: usize, side: usize, now_ns: u64, bytes: usize, hold_ns: u64) {
        let stalled = self.conns[conn].pipes[side].stalled_ns.is_some();
        let arrival = if stalled {
            None
        } else {
            self.travel(conn, side, now_ns, bytes)
        };
        let Some(at_ns) = arrival else {
            self.conns[conn].pipes[side].unsent += bytes;
            self.stall(conn, side, now_ns);
            return;
        };
        let pipe = &mut self.conns[conn].pipes[side];
        let at_ns = (at_ns + hold_ns).max(pipe.last_ns);
        pipe.last_ns = at_ns;
        if bytes == 0 {
            pipe.fin_ns = Some(at_ns);
        }
        match pipe.flight.back_mut() {
            Some((last_ns, length)) if *last_ns == at_ns => *length += bytes,
            _ => {
                pipe.flight.push_back((at_ns, bytes));
                self.schedule(at_ns, conn, What::Arrive(side as u8));
            }
        }
    }

    /// Packets of this direction vanish from now on, until they are sent again.
    pub(super) fn stall(&mut self, conn: usize, side: usize, now_ns: u64) {
        let pipe = &mut self.conns[conn].pipes[side];
        if pipe.stalled_ns.is_none() {
            pipe.stalled_ns = Some(now_ns);
            self.schedule(now_ns + self.config.give_up_ns, conn, What::GiveUp(side as u8));
        }
    }

    /// This side has written its last byte.
    pub(super) fn finish(&mut self, conn: usize, side: usize, now_ns: u64) {
        let pipe = &mut self.conns[conn].pipes[side];
        if pipe.fin_ns.is_none() {
            pipe.fin_ns = Some(STUCK);
            self.transmit(conn, side, now_ns, 0, 0);
        }
    }

    /// A reset leaves this side, behind what it has sent.
    pub(super) fn send_reset(&mut self, conn: usize, side: usize, now_ns: u64) {
        if let Some(at_ns) = self.travel(conn, side, now_ns, 0) {
            let at_ns = at_ns.max(self.conns[conn].pipes[side].last_ns);
            self.schedule(at_ns, conn, What::Reset(1 - side as u8));
        }
    }

    /// Connections that stalled on a matching link, `(from, to)`, retransmit at the next step of their backoff.
    pub(super) fn heal(&mut self, now_ns: u64, matches: impl Fn(HostId, HostId) -> bool) {
        for conn in 0..self.conns.len() {
            for side in [CLIENT, SERVER] {
                let (Some(from), Some(to)) = self.hosts_of(conn, side) else {
                    continue;
                };
                if !self.conns[conn].live {
                    continue;
                }
                if matches(to, from) {
                    // acknowledgements get through again
                    let writer = self.conns[conn].pipes[side].writer.take();
                    self.wake(writer);
                }
                if let Some(since_ns) = self.conns[conn].pipes[side].stalled_ns
                    && matches(from, to)
                {
                    self.retransmit(conn, side, since_ns, now_ns);
                }
            }
        }
    }

    fn retransmit(&mut self, conn: usize, side: usize, since_ns: u64, now_ns: u64) {
        let (mut at_ns, mut step_ns) = (since_ns, self.config.rto_ns);
        while at_ns < now_ns {
            at_ns += step_ns;
            step_ns = (step_ns * 2).min(RTO_MAX_NS);
        }
        let bytes = self.conns[conn].pipes[side].unsent;
        let Some(at_ns) = self.travel(conn, side, at_ns, bytes) else {
            return;
        };
        let pipe = &mut self.conns[conn].pipes[side];
        let at_ns = at_ns.max(pipe.last_ns);
        pipe.stalled_ns = None;
        pipe.last_ns = at_ns;
        pipe.unsent = 0;
        pipe.flight.push_back((at_ns, bytes));
        if pipe.fin_ns == Some(STUCK) {
            pipe.fin_ns = Some(at_ns);
        }
        self.schedule(at_ns, conn, What::Arrive(side as u8));
    }

    // ---- machines -------------------------------------------------------------------------------------------------

    /// The process of a host has ended.
    pub(super) fn host_down(&mut self, host: HostId, death: Death, now_ns: u64) {
        let k = &mut self.hosts[host.index()];
        k.running = false;
        k.powered &= death != Death::PoweredOff;
        for listener in std::mem::take(&mut k.listeners).into_values() {
            self.wake(listener.waker);
        }
        for conn in 0..self.conns.len() {
            for side in [CLIENT, SERVER] {
                if self.conns[conn].live && self.conns[conn].ends[side].host == Some(host) {
                    self.die(conn, side, death, now_ns);
                }
            }
        }
    }

    fn die(&mut self, conn: usize, side: usize, death: Death, now_ns: u64) {
        if self.conns[conn].ends[side].phase == Phase::Closed {
            return;
        }
        if death == Death::Exited {
            self.close(conn, side, now_ns);
            return;
        }
        self.conns[conn].ends[side].phase = Phase::Closed;
        let pipe = &mut self.conns[conn].pipes[side];
        // What never left dies with the process.
        (pipe.fin_ns, pipe.unsent) = (Some(STUCK), 0);
        if death == Death::Killed {
            self.send_reset(conn, side, now_ns);
        }
        self.reap(conn);
    }

    /// The kernel of a host is back: what was sent to it meanwhile is retransmitted, and met with resets.
    pub(super) fn host_up(&mut self, host: HostId, now_ns: u64) {
        let k = &mut self.hosts[host.index()];
        k.running = true;
        if !std::mem::replace(&mut k.powered, true) {
            self.heal(now_ns, |_, to| to == host);
        }
    }

    // ---- taps -----------------------------------------------------------------------------------------------------

    pub(super) fn add_tap(&mut self, entry: TapEntry) -> u64 {
        let id = self.number();
        self.taps.insert(id, entry);
        (0..self.conns.len()).for_each(|conn| self.choose_tap(conn));
        id
    }

    /// Returns what was removed, to be dropped outside the lock.
    pub(super) fn remove_tap(&mut self, id: u64) -> Option<TapEntry> {
        let removed = self.taps.remove(&id);
        (0..self.conns.len()).for_each(|conn| self.choose_tap(conn));
        removed
    }

    pub(super) fn clear_taps(&mut self) -> BTreeMap<u64, TapEntry> {
        self.conns.iter_mut().for_each(|conn| conn.tap = None);
        std::mem::take(&mut self.taps)
    }

    fn choose_tap(&mut self, conn: usize) {
        let ends = &self.conns[conn].ends;
        let (client, server, port) = (ends[CLIENT].host, ends[SERVER].host, ends[SERVER].addr.port());
        let tap = self
            .taps
            .iter()
            .find(|(_, entry)| entry.filter.matches(client, server, port))
            .map(|(id, _)| *id);
        self.conns[conn].tap = tap;
    }

    /// As [`State::tap_of`], if that tap is to be shown what is read.
    pub(super) fn reading_tap_of(&self, conn: usize, side: usize) -> Option<(SharedTap, ConnInfo)> {
        let entry = self.taps.get(&self.conns[conn].tap?)?;
        entry.watches_deliveries.then(|| self.tap_of(conn, side)).flatten()
    }

    /// The tap of a connection and what it is told about the connection.
    pub(super) fn tap_of(&self, conn: usize, side: usize) -> Option<(SharedTap, ConnInfo)> {
        let k = &self.conns[conn];
        let entry = self.taps.get(&k.tap?)?;
        let info = ConnInfo {
            id: k.id,
            client: k.ends[CLIENT].host?,
            server: k.ends[SERVER].host?,
            client_addr: k.ends[CLIENT].addr,
            server_addr: k.ends[SERVER].addr,
            to_server: side == CLIENT,
        };
        Some((entry.tap.clone(), info))
    }
}

impl NetHost {
    /// Takes a local port for a connection to `peer`: the one asked for, or an ephemeral one.
    fn take_port(&mut self, wanted: Option<u16>, peer: SocketAddr) -> io::Result<u16> {
        let port = match wanted {
            Some(port) if self.ports.contains(&(port, peer)) => return Err(ErrorKind::AddrInUse.into()),
            Some(port) => port,
            None => self.ephemeral().ok_or(ErrorKind::AddrNotAvailable)?,
        };
        self.ports.insert((port, peer));
        Ok(port)
    }

    /// The next free ephemeral port, in turn.
    pub(super) fn ephemeral(&mut self) -> Option<u16> {
        for _ in EPHEMERAL {
            let port = self.next_port;
            self.next_port = if port == *EPHEMERAL.end() {
                *EPHEMERAL.start()
            } else {
                port + 1
            };
            let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
            let used = self
                .ports
                .range((port, nobody)..)
                .next()
                .is_some_and(|(other, _)| *other == port);
            if !used && !self.listeners.contains_key(&port) {
                return Some(port);
            }
        }
        None
    }
}
