//! How many bytes this process has exchanged with the database, as the kernel counts them for each TCP connection: what
//! the other side acknowledged, and what was received, without the headers of packets. Asked through `sock_diag`, which
//! needs no special rights for one's own sockets.

use std::collections::BTreeSet;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

use super::usage::open_sockets;

/// The kernel's messages are at most 32 KiB.
const MESSAGE_BYTES_MAX: usize = 32 << 10;

/// Bytes until some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Sent to the database, and acknowledged by its side.
    pub sent: u64,
    /// Received from it.
    pub received: u64,
}

impl Bytes {
    /// Over all connections of this process to these ports, until now; `None` if the kernel does not say.
    pub async fn now(ports: &BTreeSet<u16>) -> Option<Self> {
        let ours = open_sockets(std::process::id()).await;
        let mut sum = Self::default();
        for family in [AF_INET, AF_INET6] {
            sum = sum.plus(of_family(family, &ours, ports)?);
        }
        Some(sum)
    }

    /// What came since `before`. A connection that was closed in between takes its bytes along.
    pub const fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(before.sent),
            received: self.received.saturating_sub(before.received),
        }
    }

    /// Both together.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }
}

fn of_family(family: u8, ours: &BTreeSet<u64>, ports: &BTreeSet<u16>) -> Option<Bytes> {
    let socket = ask(family)?;
    let mut sum = Bytes::default();
    loop {
        let mut buffer = Vec::with_capacity(MESSAGE_BYTES_MAX);
        socket.recv(&mut buffer, 0).ok()?;
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).ok()?;
            // Messages are aligned to four bytes.
            let length = usize::try_from(message.header.length).ok()?.next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    let header = &response.header;
                    let is_ours = ours.contains(&u64::from(header.inode));
                    if is_ours && ports.contains(&header.socket_id.destination_port) {
                        sum = sum.plus(bytes_of(&response));
                    }
                }
                NetlinkPayload::Done(_) => return Some(sum),
                NetlinkPayload::Error(_) => return None,
                _ => {}
            }
        }
    }
}

fn bytes_of(response: &InetResponse) -> Bytes {
    let info = response.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(info) => Some(info),
        _ => None,
    });
    info.map_or_else(Bytes::default, |info| Bytes {
        sent: info.bytes_acked,
        received: info.bytes_received,
    })
}

/// Asks for every established connection of a family.
fn ask(family: u8) -> Option<Socket> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG).ok()?;
    socket.bind_auto().ok()?;
    socket.connect(&SocketAddr::new(0, 0)).ok()?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::ESTABLISHED,
        socket_id: if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// The kernel's own count of a connection of our own.
    #[tokio::test]
    async fn what_travels_on_a_connection_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let (mut server, _) = listener.accept().await.expect("somebody connected");
        let ports = BTreeSet::from([address.port()]);
        let before = Bytes::now(&ports).await.expect("Linux says");
        client.write_all(&[7; 10_000]).await.expect("it is open");
        server.read_exact(&mut [0; 10_000]).await.expect("they were sent");
        server.write_all(&[7; 300]).await.expect("it is open");
        client.read_exact(&mut [0; 300]).await.expect("they were sent");
        let after = Bytes::now(&ports).await.expect("Linux says");
        let expected = Bytes {
            sent: 10_000,
            received: 300,
        };
        assert_eq!(after.since(before), expected);
        assert_eq!(
            Bytes::now(&BTreeSet::new()).await,
            Some(Bytes::default()),
            "no port, no connection"
        );
    }
}
