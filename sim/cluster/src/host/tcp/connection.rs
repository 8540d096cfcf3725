//! One client connection: a task that reads requests and writes answers.

use super::Shared;
use crate::model::NodeIdx;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Duration, sleep};

/// Bytes of unread answers above which a connection's requests are not read: a client that does not read its answers
/// cannot make the node hold any number of them.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// Bytes of requests that were read and not taken above which no more are read: two of the largest frames, and a frozen
/// node takes none.
const UNTAKEN_BYTES_MAX: usize = 32 << 20;
/// Bytes read at a time at least.
const READ_BYTES: usize = 64 << 10;
/// An empty buffer that is larger is given back: one large request or answer of each connection would add up.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Connections of one node: drivers open one or two each, and what is open costs a file descriptor. The usual limit of a
/// process is 1,024 of those.
const CONNECTIONS_MAX: usize = 900;
/// After a connection could not be accepted (no file descriptor is left, say) the next try comes this much later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections of a node for as long as it serves.
pub(super) async fn accept(shared: Arc<Shared>, node: NodeIdx, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                // Answers are small and awaited. A socket that refuses the option is on its way to its end.
                let _refused = stream.set_nodelay(true);
                match shared.with(node, |p| {
                    (p.is_serving && p.connected() < CONNECTIONS_MAX).then(|| p.open(from.ip()))
                }) {
                    Some((id, wake)) => drop(tokio::spawn(serve(shared.clone(), node, id, wake, stream))),
                    None => shared.tell_accept(node, "it is not serving, or has too many connections"),
                }
            }
            Err(error) => {
                shared.tell_accept(node, &error.to_string());
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection to its end.
async fn serve(shared: Arc<Shared>, node: NodeIdx, id: u64, wake: Arc<Notify>, stream: TcpStream) {
    // However it ends, the client sees the socket closed; there is nobody else to tell.
    let _ended = talk(&shared, node, id, &wake, stream).await;
    shared.turn(|state, now_us| state.process(node).close(id, now_us));
}

async fn talk(shared: &Shared, node: NodeIdx, id: u64, wake: &Notify, mut stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut input: Vec<u8> = Vec::with_capacity(READ_BYTES);
    let mut unsent: Vec<u8> = Vec::new();
    let mut sent = 0;
    let (mut is_last, mut is_more) = (false, false);
    loop {
        let left = unsent.len() - sent;
        if is_last && left == 0 {
            return writer.shutdown().await;
        }
        input.reserve(READ_BYTES);
        tokio::select! {
            read = reader.read_buf(&mut input), if !is_last && left <= UNSENT_BYTES_MAX && input.len() <= UNTAKEN_BYTES_MAX => {
                if read? == 0 {
                    return Ok(());
                }
                is_more = take_requests(shared, node, id, &mut input);
            }
            written = writer.write(&unsent[sent..]), if left > 0 => {
                match written? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => sent += n,
                }
                if sent == unsent.len() {
                    unsent.clear();
                    sent = 0;
                    if unsent.capacity() > KEPT_BYTES_MAX {
                        unsent = Vec::new();
                    }
                }
            }
            // A frozen node leaves requests where they are, and wakes this when it goes on.
            () = wake.notified() => {
                if is_more || !input.is_empty() {
                    // After those who wait for the node, or for another one.
                    yield_now().await;
                    is_more = take_requests(shared, node, id, &mut input);
                }
            }
        }
        let Some(answers) = shared.with(node, |p| p.take_answers(id)) else {
            return Ok(());
        };
        unsent.extend_from_slice(&answers.bytes);
        is_last |= answers.is_last;
    }
}

/// Gives the node the whole requests of what was read, and keeps the rest. True if some have to wait for their turn.
fn take_requests(shared: &Shared, node: NodeIdx, id: u64, input: &mut Vec<u8>) -> bool {
    let taken = shared.turn(|state, now_us| state.process(node).requests(id, input, now_us));
    input.drain(..taken.bytes);
    if input.is_empty() && input.capacity() > KEPT_BYTES_MAX {
        *input = Vec::new();
    }
    taken.is_more
}
