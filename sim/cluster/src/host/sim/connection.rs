//! One client connection of a node: its socket, its conversation, and what waits to be written.
//!
//! There is one task per connection. It reads; answers are written by whoever completes them, all those of one instant
//! in one write; only what the socket does not take is left to the task.

use super::Cluster;
use crate::cql::front::{Connection, Outcome};
use crate::model::NodeIdx;
use sim_world::net::TcpStream;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;

/// Bytes of unread answers above which a connection's requests are not read: a client that does not read its answers
/// cannot make the node hold any number of them.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// Bytes read at a time, and free room kept for them.
const READ_BYTES: usize = 16 << 10;

/// A connection as the node's process holds it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Arc<TcpStream>,
    pub(super) front: Connection,
    /// Answers not yet given to the socket.
    pub(super) out: Vec<u8>,
    /// Whether answers were added since the last write.
    pub(super) dirty: bool,
    /// Wakes the connection's task when the socket takes bytes again.
    pub(super) waker: Option<Waker>,
    /// To be closed once everything is written.
    pub(super) closing: bool,
}

impl Client {
    pub(super) fn new(stream: Arc<TcpStream>) -> Self {
        Client { stream, front: Connection::default(), out: Vec::new(), dirty: false, waker: None, closing: false }
    }
}

/// Input of a connection: what was read and not yet understood.
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// Room to read into; moves what is left to the front first.
    fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.bytes.len() - self.end < READ_BYTES {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let wanted = self.end + READ_BYTES;
            if self.bytes.len() < wanted {
                self.bytes.resize(wanted.next_power_of_two(), 0);
            }
        }
        &mut self.bytes[self.end..]
    }
}

/// Serves one connection until it ends.
pub(super) async fn serve(cluster: Arc<Cluster>, me: NodeIdx, stream: TcpStream) {
    let stream = Arc::new(stream);
    let Some(id) = cluster.open(me, stream.clone()) else { return };
    let mut input = Input { bytes: Vec::new(), start: 0, end: 0 };
    poll_fn(|cx| poll(&cluster, me, id, &stream, &mut input, cx)).await;
    cluster.close(me, id);
}

/// Reads and answers until the socket has nothing more; ready when the connection is over.
fn poll(
    cluster: &Arc<Cluster>,
    me: NodeIdx,
    id: u64,
    stream: &TcpStream,
    input: &mut Input,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let Some(unsent) = cluster.write_answers(me, id, Some(cx.waker())) else { return Poll::Ready(()) };
        if unsent > UNSENT_BYTES_MAX {
            // Woken by the socket when it takes bytes again.
            return Poll::Pending;
        }
        let mut buffer = ReadBuf::new(input.room());
        match stream.poll_read_shared(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) => {}
        }
        let read = buffer.filled().len();
        if read == 0 {
            return Poll::Ready(());
        }
        input.end += read;
        if !cluster.requests(me, id, &input.bytes[..input.end], &mut input.start) {
            return Poll::Ready(());
        }
    }
}

impl Cluster {
    /// Takes a new connection in; `None` if the process is not serving.
    fn open(&self, me: NodeIdx, stream: Arc<TcpStream>) -> Option<u64> {
        self.with_process(me, |process| {
            process.connections += 1;
            process.clients.insert(process.connections, Client::new(stream));
            process.connections
        })
    }

    /// Forgets a connection that ended.
    fn close(&self, me: NodeIdx, id: u64) {
        let gone = self.with_process(me, |process| process.disconnected(self, id));
        drop(gone);
    }

    /// Handles the whole frames of `bytes` from `start` on and moves `start` behind them; `false` if the process is
    /// gone.
    fn requests(&self, me: NodeIdx, id: u64, bytes: &[u8], start: &mut usize) -> bool {
        self.turn(me, |process, now_us| {
            while let Some(client) = process.clients.get_mut(&id) {
                if client.closing {
                    // Whatever else it sends means nothing any more.
                    *start = bytes.len();
                    return;
                }
                let view = super::process::view(&process.node);
                let written = client.out.len();
                let (taken, outcome) = process.front.next(&view, &mut client.front, &bytes[*start..], &mut client.out);
                *start += taken;
                if client.out.len() > written && !client.dirty {
                    client.dirty = true;
                    process.dirty.push(id);
                }
                match outcome {
                    Outcome::Incomplete => return,
                    Outcome::Answered => {}
                    Outcome::Submit(submission) => process.submit(self, id, submission, now_us),
                    Outcome::Close => client.closing = true,
                }
            }
        })
    }

    /// Gives a connection's answers to its socket, as much as it takes. Returns how many bytes it did not take; `None`
    /// if the connection is over.
    pub(super) fn write_answers(&self, me: NodeIdx, id: u64, waker: Option<&Waker>) -> Option<usize> {
        let mut old = None;
        let taken = self.with_process(me, |process| {
            let client = process.clients.get_mut(&id)?;
            if let Some(waker) = waker
                && !client.waker.as_ref().is_some_and(|w| w.will_wake(waker))
            {
                old = client.waker.replace(waker.clone());
            }
            client.dirty = false;
            if client.out.is_empty() {
                return Some(None);
            }
            let waker = client.waker.clone().unwrap_or_else(|| Waker::noop().clone());
            Some(Some((client.stream.clone(), std::mem::take(&mut client.out), waker)))
        });
        drop(old);
        // Outside the lock: a tap on this connection may look at the cluster or kill its machines.
        let (stream, mut out, waker) = match taken?? {
            Some(work) => work,
            None => return self.unsent(me, id),
        };
        let mut cx = Context::from_waker(&waker);
        let mut written = 0;
        while written < out.len() {
            match stream.poll_write_shared(&mut cx, &out[written..]) {
                Poll::Ready(Ok(n)) if n > 0 => written += n,
                Poll::Ready(_) => return None,
                Poll::Pending => break,
            }
        }
        out.drain(..written);
        self.with_process(me, |process| {
            if let Some(client) = process.clients.get_mut(&id) {
                // What a tap may have added meanwhile comes after what was left over.
                out.append(&mut client.out);
                client.out = out;
            }
        })?;
        self.unsent(me, id)
    }

    /// Bytes not yet taken by the socket; `None` when the connection is over.
    fn unsent(&self, me: NodeIdx, id: u64) -> Option<usize> {
        self.with_process(me, |process| {
            let client = process.clients.get(&id)?;
            (!client.closing || !client.out.is_empty()).then_some(client.out.len())
        })?
    }
}
