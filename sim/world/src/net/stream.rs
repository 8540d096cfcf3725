//! The connected socket of a program.

use super::conn::{CLIENT, Phase};
use super::listener::gone;
use super::state::{Slot, State};
use super::tap::{ConnInfo, DeliverVerdict, SharedTap, TapVerdict};
use crate::host::Gate;
use crate::task;
use crate::trace::Class;
use crate::world::{Shared, World, lock};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Puts the task's waker in; the old one is returned, to be dropped outside the lock.
pub(super) fn park(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    if place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        return None;
    }
    place.replace(cx.waker().clone())
}

/// One end of a connection, closed when it drops.
pub(super) struct Socket {
    shared: Arc<Shared>,
    slot: Slot,
    side: usize,
}

impl Socket {
    pub(super) fn new(shared: Arc<Shared>, slot: Slot, side: usize) -> Self {
        Socket { shared, slot, side }
    }

    /// Runs `f` on the connection while this end of it is open: not after its process has died.
    fn with<R>(&self, f: impl FnOnce(&mut State, usize) -> io::Result<R>) -> io::Result<R> {
        self.shared.net.with(&self.shared, |state| {
            let conn = state.find(self.slot).ok_or_else(gone)?;
            if state.conns[conn].ends[self.side].phase == Phase::Closed {
                return Err(gone());
            }
            f(state, conn)
        })
    }

    fn poll<R>(&self, f: impl FnOnce(&mut State, usize) -> io::Result<Poll<R>>) -> Poll<io::Result<R>> {
        match self.with(f) {
            Ok(poll) => poll.map(Ok),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let now_ns = self.shared.clock.now_ns();
        // Whoever drops may hold a lock that this end's own wakers take (zeromq's fair queue does), and on a real kernel a
        // close wakes nobody in place: so what there is to arm and to wake is left to the courier.
        self.shared.net.in_callback(|| {
            // An end that its process's death has closed is not found, or found closed.
            let _ = self.with(|state, conn| {
                state.close(conn, self.side, now_ns);
                Ok(())
            });
        });
    }
}

/// As tokio's, on the simulated network.
pub struct TcpStream {
    socket: Socket,
    local: SocketAddr,
    peer: SocketAddr,
}

/// Connects to one address, from a given local port or an ephemeral one.
///
/// # Errors
/// `ConnectionRefused`, `TimedOut`, `AddrInUse` for a local port that a connection to the same peer has.
pub async fn connect_from(port: Option<u16>, peer: SocketAddr) -> io::Result<TcpStream> {
    let world = World::current();
    let gate = Gate::here(&world, task::place());
    if !gate.is_open() {
        return Err(gone());
    }
    let shared = world.shared().clone();
    let now_ns = shared.clock.now_ns();
    let (slot, local) = shared
        .net
        .with(&shared, |state| state.connect(gate.cell.id, port, peer, now_ns))?;
    // Dropped with this future: a caller that stops waiting closes the connection.
    let socket = Socket::new(shared, slot, CLIENT);
    poll_fn(|cx| {
        let mut old = None;
        let poll = socket.poll(|state, conn| {
            let end = &mut state.conns[conn].ends[CLIENT];
            if let Some(error) = end.error.take() {
                return Err(error.into());
            }
            if end.phase == Phase::Open {
                return Ok(Poll::Ready(()));
            }
            old = park(&mut end.connecting, cx);
            Ok(Poll::Pending)
        });
        drop(old);
        poll
    })
    .await?;
    Ok(TcpStream { socket, local, peer })
}

/// What a locked look at a stream found when a tap watches it.
type Tapped = (SharedTap, ConnInfo, usize);

impl TcpStream {
    pub(super) fn new(socket: Socket, local: SocketAddr, peer: SocketAddr) -> Self {
        TcpStream { socket, local, peer }
    }

    /// The address of this end.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }

    /// Whether dropping this end resets the connection instead of finishing it.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn set_reset_on_close(&self, reset: bool) -> io::Result<()> {
        self.socket.with(|state, conn| {
            state.conns[conn].ends[self.socket.side].reset_on_close = reset;
            Ok(())
        })
    }

    /// Whether dropping this end resets the connection.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resets_on_close(&self) -> io::Result<bool> {
        self.socket
            .with(|state, conn| Ok(state.conns[conn].ends[self.socket.side].reset_on_close))
    }

    /// The error that the connection has run into and no operation has reported yet.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.with(|state, conn| {
            Ok(state.conns[conn].ends[self.socket.side]
                .error
                .take()
                .map(io::Error::from))
        })
    }

    /// Reads into `out` through a shared reference: for halves of a split stream.
    pub fn poll_read_shared(&self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut tapped = None;
            let poll = self.poll_readable(cx, |state, conn, readable| {
                if readable > 0 && state.conns[conn].tap.is_some() {
                    tapped = state
                        .reading_tap_of(conn, 1 - self.socket.side)
                        .map(|(tap, info)| (tap, info, readable.min(out.remaining())));
                }
                if tapped.is_none() {
                    let read = state.conns[conn].pipes[1 - self.socket.side]
                        .copy_out(out.remaining(), |part| out.put_slice(part));
                    self.consume(state, conn, read);
                }
            });
            match tapped {
                Some(tapped) => {
                    if self.read_tapped(tapped, out)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                None => return poll,
            }
        }
    }

    /// Copies visible bytes out without consuming them.
    pub fn poll_peek_shared(&self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_readable(cx, |state, conn, _| {
            state.conns[conn].pipes[1 - self.socket.side].copy_out(out.remaining(), |part| out.put_slice(part));
        })
    }

    /// Ready when a read would not wait: bytes, the end of the stream, or an error.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut old = None;
        let side = self.socket.side;
        let poll = self.socket.poll(|state, conn| {
            let k = &mut state.conns[conn];
            let pipe = &mut k.pipes[1 - side];
            if pipe.visible > 0 || pipe.eof || k.ends[side].broken {
                return Ok(Poll::Ready(()));
            }
            old = park(&mut pipe.reader, cx);
            Ok(Poll::Pending)
        });
        drop(old);
        poll
    }

    /// Calls `f` with the number of readable bytes when there are any, or at the end of the stream with 0.
    fn poll_readable(&self, cx: &mut Context<'_>, f: impl FnOnce(&mut State, usize, usize)) -> Poll<io::Result<()>> {
        let mut old = None;
        let side = self.socket.side;
        let poll = self.socket.poll(|state, conn| {
            let k = &mut state.conns[conn];
            let pipe = &mut k.pipes[1 - side];
            // As on Linux, what arrived before a reset can still be read; the error comes next, and once.
            if pipe.visible == 0 && !pipe.eof {
                if let Some(error) = k.ends[side].error.take() {
                    return Err(error.into());
                }
                if !k.ends[side].broken {
                    old = park(&mut pipe.reader, cx);
                    return Ok(Poll::Pending);
                }
            }
            let readable = pipe.visible;
            f(state, conn, readable);
            Ok(Poll::Ready(()))
        });
        drop(old);
        poll
    }

    fn consume(&self, state: &mut State, conn: usize, bytes: usize) {
        let (me, them) = state.hosts_of(conn, self.socket.side);
        let pipe = &mut state.conns[conn].pipes[1 - self.socket.side];
        pipe.consume(bytes);
        if pipe.writer.is_none() || pipe.ring.len() > state.config.window_bytes / 2 {
            return;
        }
        // The window update costs no time, but it needs the way back.
        if let (Some(me), Some(them)) = (me, them)
            && !state.links.is_cut(me, them, Class::Client)
        {
            let writer = state.conns[conn].pipes[1 - self.socket.side].writer.take();
            state.wake(writer);
        }
    }

    /// Shows arrived bytes to a tap; false when they were swallowed and the reader must look again.
    fn read_tapped(&self, (tap, info, limit): Tapped, out: &mut ReadBuf<'_>) -> io::Result<bool> {
        let mut bytes = Vec::with_capacity(limit);
        self.socket.with(|state, conn| {
            state.conns[conn].pipes[1 - self.socket.side].copy_out(limit, |part| bytes.extend_from_slice(part));
            Ok(())
        })?;
        let verdict = lock(&tap).on_deliver(&info, &bytes);
        if verdict == DeliverVerdict::KillReceiver {
            World::of(&self.socket.shared).host_by_id(info.to()).kill();
            return Err(gone());
        }
        // The tap may have killed this machine by itself: then the socket is closed.
        self.socket.with(|state, conn| {
            self.consume(state, conn, bytes.len());
            Ok(())
        })?;
        if verdict == DeliverVerdict::Swallow {
            return Ok(false);
        }
        out.put_slice(&bytes);
        Ok(true)
    }

    /// Writes through a shared reference: for halves of a split stream.
    pub fn poll_write_shared(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut tapped = None;
        let poll = self.poll_writable(cx, bytes.is_empty(), |state, conn, room| {
            let written = room.min(bytes.len());
            if state.conns[conn].tap.is_some() && written > 0 {
                tapped = state
                    .tap_of(conn, self.socket.side)
                    .map(|(tap, info)| (tap, info, written));
            }
            if tapped.is_none() {
                self.send(state, conn, &bytes[..written], 0);
            }
            written
        });
        match tapped {
            Some(tapped) => Poll::Ready(self.write_tapped(tapped, bytes)),
            None => poll,
        }
    }

    /// Ready when a write would not wait: room, or an error.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut old = None;
        let side = self.socket.side;
        let poll = self.socket.poll(|state, conn| {
            let k = &state.conns[conn];
            if k.ends[side].broken || k.pipes[side].fin_ns.is_some() || state.room(conn, side) > 0 {
                return Ok(Poll::Ready(()));
            }
            old = park(&mut state.conns[conn].pipes[side].writer, cx);
            Ok(Poll::Pending)
        });
        drop(old);
        poll
    }

    /// Calls `f` with the room in the window when there is some.
    fn poll_writable(
        &self,
        cx: &mut Context<'_>,
        empty_ok: bool,
        f: impl FnOnce(&mut State, usize, usize) -> usize,
    ) -> Poll<io::Result<usize>> {
        let mut old = None;
        let side = self.socket.side;
        let poll = self.socket.poll(|state, conn| {
            let k = &mut state.conns[conn];
            if let Some(error) = k.ends[side].error.take() {
                return Err(error.into());
            }
            if k.ends[side].broken || k.pipes[side].fin_ns.is_some() {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let room = state.room(conn, side);
            if room == 0 && !empty_ok {
                old = park(&mut state.conns[conn].pipes[side].writer, cx);
                return Ok(Poll::Pending);
            }
            Ok(Poll::Ready(f(state, conn, room)))
        });
        drop(old);
        poll
    }

    fn send(&self, state: &mut State, conn: usize, bytes: &[u8], hold_ns: u64) {
        if bytes.is_empty() {
            return;
        }
        if state.config.hash_bytes {
            let mut fold = crate::trace::Fold::resume(crate::trace::Fold::START);
            fold.add_bytes(bytes);
            self.socket
                .shared
                .trace
                .emit_fast(crate::trace::code::SOCKET, fold.value(), bytes.len() as u64);
        }
        state.send(
            conn,
            self.socket.side,
            self.socket.shared.clock.now_ns(),
            bytes,
            hold_ns,
        );
    }

    /// Shows bytes to a tap before they leave.
    fn write_tapped(&self, (tap, info, written): Tapped, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..written];
        let verdict = lock(&tap).on_write(&info, bytes);
        let send = |bytes: &[u8], hold_ns| {
            self.socket.with(|state, conn| {
                self.send(state, conn, bytes, hold_ns);
                Ok(())
            })
        };
        let kill = || World::of(&self.socket.shared).host_by_id(info.from()).kill();
        match verdict {
            TapVerdict::Pass => send(bytes, 0)?,
            TapVerdict::Swallow => {}
            TapVerdict::Replace(others) => send(&others, 0)?,
            TapVerdict::Hold { extra_ns } => send(bytes, extra_ns)?,
            TapVerdict::KillSender => {
                kill();
                return Err(gone());
            }
            TapVerdict::PassThenKillSender => {
                send(bytes, 0)?;
                kill();
            }
        }
        Ok(written)
    }

    /// Finishes the writing direction.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn shutdown_write(&self) -> io::Result<()> {
        let now_ns = self.socket.shared.clock.now_ns();
        self.socket.with(|state, conn| {
            state.finish(conn, self.socket.side, now_ns);
            Ok(())
        })
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_read_shared(cx, out)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_shared(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.shared.net.options_fd()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("addr", &self.local)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
