//! `tokio::net::TcpListener` over the simulated listener.

use super::{TcpStream, ToSocketAddrs, unsupported};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

/// Listens on the simulated network.
#[derive(Debug)]
pub struct TcpListener {
    inner: sim_world::net::TcpListener,
}

impl TcpListener {
    pub(super) fn new(inner: sim_world::net::TcpListener) -> Self {
        TcpListener { inner }
    }

    /// Listens on the first address that can be bound.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`, or what resolving the address gives.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        sim_world::net::TcpListener::bind(addr).await.map(TcpListener::new)
    }

    /// Real listeners have no place here.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn from_std(_: std::net::TcpListener) -> io::Result<TcpListener> {
        Err(unsupported("TcpListener::from_std"))
    }

    /// The next connection.
    ///
    /// # Errors
    /// When the listener's process is gone.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.inner.accept().await?;
        Ok((TcpStream::new(stream), peer))
    }

    /// As [`TcpListener::accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.inner
            .poll_accept(cx)
            .map_ok(|(stream, peer)| (TcpStream::new(stream), peer))
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The hop limit, which has no effect.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(64)
    }

    /// No effect.
    ///
    /// # Errors
    /// None in the simulator.
    pub fn set_ttl(&self, _: u32) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}
