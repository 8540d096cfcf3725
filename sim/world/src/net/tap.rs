//! Taps: hooks that see the bytes of a connection where they enter and leave it and return a verdict. They are how faults
//! strike at a boundary that only bytes mark: the request leaving, the response on its way back, an event delivered.
//!
//! Taps run in the task that writes or reads, outside every lock of the world: they may cut links, kill machines, record.
//! A tap sees what one write or one read moves; whoever needs whole frames keeps the rest until they are complete.

use crate::trace::HostId;
use crate::world::Shared;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};

/// What a tap is told about the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnInfo {
    /// Number of the connection within the run.
    pub id: u64,
    /// The machine that connected.
    pub client: HostId,
    /// The machine that accepted.
    pub server: HostId,
    /// The client's address.
    pub client_addr: SocketAddr,
    /// The server's address.
    pub server_addr: SocketAddr,
    /// Whether these bytes travel from the client to the server.
    pub to_server: bool,
}

impl ConnInfo {
    /// Who writes these bytes.
    pub fn from(&self) -> HostId {
        if self.to_server { self.client } else { self.server }
    }

    /// Who reads these bytes.
    pub fn to(&self) -> HostId {
        if self.to_server { self.server } else { self.client }
    }
}

/// What becomes of bytes that a program writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TapVerdict {
    /// They travel.
    Pass,
    /// The program believes them written; they never travel.
    Swallow,
    /// These travel instead: more, fewer, in another order, twice. The program believes its own bytes written.
    Replace(Vec<u8>),
    /// They travel, and arrive this many nanoseconds later; so does what is written after them.
    Hold {
        /// Nanoseconds added to their arrival.
        extra_ns: u64,
    },
    /// The writing machine's process dies before they leave.
    KillSender,
    /// They leave, and the writing machine's process dies.
    PassThenKillSender,
}

/// What becomes of bytes that have arrived, as a program reads them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliverVerdict {
    /// The program gets them.
    Pass,
    /// They are gone; the program reads on.
    Swallow,
    /// The reading machine's process dies before it has seen them.
    KillReceiver,
}

/// A hook on the connections that a [`TapFilter`] matches.
pub trait TcpTap: Send {
    /// A program writes these bytes.
    fn on_write(&mut self, conn: &ConnInfo, bytes: &[u8]) -> TapVerdict {
        let _ = (conn, bytes);
        TapVerdict::Pass
    }

    /// Whether it is to be shown what is read; asked once. Showing costs a copy.
    fn watches_deliveries(&self) -> bool {
        false
    }

    /// A program reads these bytes. Only of taps that watch deliveries.
    fn on_deliver(&mut self, conn: &ConnInfo, bytes: &[u8]) -> DeliverVerdict {
        let _ = (conn, bytes);
        DeliverVerdict::Pass
    }
}

pub(super) type SharedTap = Arc<Mutex<Box<dyn TcpTap>>>;

/// Which connections a tap watches. None: any.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TapFilter {
    /// The machine that connects.
    pub client: Option<HostId>,
    /// The machine that accepts.
    pub server: Option<HostId>,
    /// The port that is connected to.
    pub port: Option<u16>,
}

impl TapFilter {
    pub(super) fn matches(&self, client: Option<HostId>, server: Option<HostId>, port: u16) -> bool {
        self.client.is_none_or(|want| client == Some(want))
            && self.server.is_none_or(|want| server == Some(want))
            && self.port.is_none_or(|want| port == want)
    }
}

/// Removes its tap when it drops.
#[must_use = "the tap is removed when its guard drops"]
#[derive(Debug)]
pub struct TapGuard {
    shared: Weak<Shared>,
    id: u64,
}

impl TapGuard {
    pub(super) fn new(shared: &Arc<Shared>, id: u64) -> Self {
        TapGuard {
            shared: Arc::downgrade(shared),
            id,
        }
    }

    /// Leaves the tap in place for the rest of the run.
    pub fn forget(mut self) {
        self.shared = Weak::new();
    }
}

impl Drop for TapGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.net.remove_tap(self.id);
        }
    }
}
