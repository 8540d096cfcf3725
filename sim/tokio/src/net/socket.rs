//! `tokio::net::TcpSocket`: options and a local address before connecting or listening. Buffers, keepalive and the like
//! have no effect in the simulator; what is set through the descriptor goes to one real socket that is never connected.

use super::{TcpListener, TcpStream};
use sim_world::net::OptionsFd;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A socket that is neither connected nor listening.
#[derive(Debug)]
pub struct TcpSocket {
    options: OptionsFd,
    set: Mutex<Set>,
}

/// What was set and can be asked for again.
#[derive(Debug)]
struct Set {
    local: SocketAddr,
    linger: Option<Duration>,
    nodelay: bool,
    keepalive: bool,
    reuseaddr: bool,
    reuseport: bool,
    send_buffer_bytes: u32,
    recv_buffer_bytes: u32,
}

/// What Linux gives a new socket.
const BUFFER_BYTES: u32 = 212_992;

impl TcpSocket {
    fn new(ip: IpAddr) -> io::Result<TcpSocket> {
        let set = Set {
            local: SocketAddr::new(ip, 0),
            linger: None,
            nodelay: false,
            keepalive: false,
            reuseaddr: false,
            reuseport: false,
            send_buffer_bytes: BUFFER_BYTES,
            recv_buffer_bytes: BUFFER_BYTES,
        };
        Ok(TcpSocket {
            options: OptionsFd::current(),
            set: Mutex::new(set),
        })
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For IPv4.
    ///
    /// # Errors
    /// None in the simulator, as for every setting below.
    pub fn new_v4() -> io::Result<TcpSocket> {
        TcpSocket::new(Ipv4Addr::UNSPECIFIED.into())
    }

    /// For IPv6.
    pub fn new_v6() -> io::Result<TcpSocket> {
        TcpSocket::new(Ipv6Addr::UNSPECIFIED.into())
    }

    /// The local address to connect from or to listen on. Whether it is free is seen then.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        self.set().local = addr;
        Ok(())
    }

    /// The address given to [`TcpSocket::bind`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.set().local)
    }

    /// No effect.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.set().nodelay = nodelay;
        Ok(())
    }

    /// What was set.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.set().nodelay)
    }

    /// No effect.
    pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
        self.set().keepalive = keepalive;
        Ok(())
    }

    /// What was set.
    pub fn keepalive(&self) -> io::Result<bool> {
        Ok(self.set().keepalive)
    }

    /// No effect: ports of dead connections are free at once.
    pub fn set_reuseaddr(&self, reuse: bool) -> io::Result<()> {
        self.set().reuseaddr = reuse;
        Ok(())
    }

    /// What was set.
    pub fn reuseaddr(&self) -> io::Result<bool> {
        Ok(self.set().reuseaddr)
    }

    /// No effect.
    pub fn set_reuseport(&self, reuse: bool) -> io::Result<()> {
        self.set().reuseport = reuse;
        Ok(())
    }

    /// What was set.
    pub fn reuseport(&self) -> io::Result<bool> {
        Ok(self.set().reuseport)
    }

    /// No effect: the window is the world's.
    pub fn set_send_buffer_size(&self, bytes: u32) -> io::Result<()> {
        self.set().send_buffer_bytes = bytes;
        Ok(())
    }

    /// What was set.
    pub fn send_buffer_size(&self) -> io::Result<u32> {
        Ok(self.set().send_buffer_bytes)
    }

    /// No effect: the window is the world's.
    pub fn set_recv_buffer_size(&self, bytes: u32) -> io::Result<()> {
        self.set().recv_buffer_bytes = bytes;
        Ok(())
    }

    /// What was set.
    pub fn recv_buffer_size(&self) -> io::Result<u32> {
        Ok(self.set().recv_buffer_bytes)
    }

    /// Zero: dropping the connection resets it. Other durations have no effect.
    #[deprecated = "`SO_LINGER` causes the socket to block the thread on drop"]
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.set().linger = linger;
        Ok(())
    }

    /// Dropping the connection resets it.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set().linger = Some(Duration::ZERO);
        Ok(())
    }

    /// What was set.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.set().linger)
    }

    /// Connects.
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, `AddrInUse`.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        let (port, linger, nodelay) = {
            let set = self.set();
            (set.local.port(), set.linger, set.nodelay)
        };
        let stream = TcpStream::new(sim_world::net::connect_from((port != 0).then_some(port), addr).await?);
        stream.set_nodelay(nodelay)?;
        stream.apply_linger(linger)?;
        Ok(stream)
    }

    /// Listens; the backlog is the world's.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`.
    pub fn listen(self, _: u32) -> io::Result<TcpListener> {
        let local = self.set().local;
        sim_world::net::TcpListener::bind_one(local).map(TcpListener::new)
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.options.as_fd()
    }
}
