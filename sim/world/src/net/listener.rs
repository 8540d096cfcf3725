//! The listening socket of a program.

use super::addr::ToSocketAddrs;
use super::state::Listener;
use super::stream::{Socket, TcpStream, park};
use crate::host::Gate;
use crate::task;
use crate::world::{Shared, World};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

/// As tokio's, on the simulated network.
pub struct TcpListener {
    shared: Arc<Shared>,
    gate: Gate,
    id: u64,
    addr: SocketAddr,
}

impl TcpListener {
    /// Listens on the first address that can be bound. Port 0 takes an ephemeral one.
    ///
    /// # Errors
    /// `AddrInUse` where something listens on the port, `AddrNotAvailable` for an address of another machine.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        let mut last = io::Error::new(ErrorKind::InvalidInput, "could not resolve to any address");
        for addr in addr.resolve()? {
            match TcpListener::bind_one(addr) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Listens on exactly this address.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn bind_one(mut addr: SocketAddr) -> io::Result<TcpListener> {
        let world = World::current();
        let gate = Gate::here(&world, task::place());
        if !gate.is_open() {
            return Err(gone());
        }
        let shared = world.shared().clone();
        let id = shared.net.with(&shared, |state| {
            let id = state.number();
            let host = &mut state.hosts[gate.cell.id.index()];
            if addr.ip() != host.ip && !addr.ip().is_unspecified() && !addr.ip().is_loopback() {
                return Err(io::Error::from(ErrorKind::AddrNotAvailable));
            }
            if addr.port() == 0 {
                addr.set_port(host.ephemeral().ok_or(ErrorKind::AddrInUse)?);
            }
            if host.listeners.contains_key(&addr.port()) {
                return Err(ErrorKind::AddrInUse.into());
            }
            host.listeners.insert(
                addr.port(),
                Listener {
                    id,
                    ip: addr.ip(),
                    queue: VecDeque::new(),
                    pending: 0,
                    waker: None,
                },
            );
            Ok(id)
        })?;
        Ok(TcpListener { shared, gate, id, addr })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    /// The next established connection and the address of its client.
    ///
    /// # Errors
    /// When the listener's process is gone.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`TcpListener::accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let mut old = None;
        let accepted = self.shared.net.with(&self.shared, |state| {
            let host = self.gate.cell.id.index();
            loop {
                let listener = state.hosts[host]
                    .listeners
                    .get_mut(&self.addr.port())
                    .filter(|listener| listener.id == self.id);
                let Some(listener) = listener else { return Err(gone()) };
                let Some(slot) = listener.queue.pop_front() else {
                    old = park(&mut listener.waker, cx);
                    return Ok(None);
                };
                if let Some(conn) = state.find(slot) {
                    let ends = &state.conns[conn].ends;
                    return Ok(Some((
                        slot,
                        ends[super::conn::SERVER].addr,
                        ends[super::conn::CLIENT].addr,
                    )));
                }
            }
        });
        drop(old);
        match accepted {
            Err(error) => Poll::Ready(Err(error)),
            Ok(None) => Poll::Pending,
            Ok(Some((slot, local, peer))) => {
                let socket = Socket::new(self.shared.clone(), slot, super::conn::SERVER);
                Poll::Ready(Ok((TcpStream::new(socket, local, peer), peer)))
            }
        }
    }
}

pub(super) fn gone() -> io::Error {
    io::Error::new(ErrorKind::ConnectionReset, "the process that owned this socket is gone")
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let now_ns = self.shared.clock.now_ns();
        let listener = self.shared.net.with(&self.shared, |state| {
            let listeners = &mut state.hosts[self.gate.cell.id.index()].listeners;
            // A restarted process may listen on this port already.
            if listeners
                .get(&self.addr.port())
                .is_none_or(|listener| listener.id != self.id)
            {
                return None;
            }
            let listener = listeners.remove(&self.addr.port())?;
            for slot in &listener.queue {
                if let Some(conn) = state.find(*slot) {
                    state.conns[conn].ends[super::conn::SERVER].reset_on_close = true;
                    state.close(conn, super::conn::SERVER, now_ns);
                }
            }
            Some(listener)
        });
        drop(listener);
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.net.options_fd()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
