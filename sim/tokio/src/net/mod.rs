//! `tokio::net` on the simulated network: TCP only.

mod listener;
mod socket;
mod stream;

pub use listener::TcpListener;
pub use sim_world::net::{ToSocketAddrs, lookup_host};
pub use socket::TcpSocket;
pub use stream::TcpStream;

/// The halves of a split stream.
pub mod tcp {
    pub use super::stream::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
}

/// An operation that would need a socket of the real machine.
fn unsupported(what: &str) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::Unsupported,
        format!("{what}: a socket of the real machine has no place in the simulated world"),
    )
}
