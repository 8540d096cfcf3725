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
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;

/// Bytes of unread answers above which a connection's requests are not read: a client that does not read its answers
/// cannot make the node hold any number of them.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// Bytes read at a time, and free room kept for them.
const READ_BYTES: usize = 16 << 10;

/// A connection's socket, and what its task and those who answer share without the process's lock.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    /// The socket did not take everything: the connection's task writes on when it does again.
    blocked: AtomicBool,
    /// Nothing more is to be read, and the connection ends once everything is written.
    over: AtomicBool,
}

/// A connection as the node's process holds it.
#[derive(Debug)]
pub(super) struct Client {
    line: Arc<Line>,
    pub(super) front: Connection,
    /// Answers not yet given to the socket.
    pub(super) out: Vec<u8>,
    /// Whether answers were added since the last write.
    pub(super) dirty: bool,
    /// Wakes the connection's task.
    waker: Option<Waker>,
    closing: bool,
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
    let line = Arc::new(Line {
        stream,
        blocked: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    let Some(id) = cluster.open(me, line.clone()) else {
        return;
    };
    let mut input = Input {
        bytes: Vec::new(),
        start: 0,
        end: 0,
    };
    let mut registered = false;
    poll_fn(|cx| {
        // A task's waker stays the same one.
        if !std::mem::replace(&mut registered, true) {
            cluster.with_process(me, |p| {
                p.clients.get_mut(&id).map(|c| c.waker = Some(cx.waker().clone()))
            });
        }
        poll(&cluster, me, id, &line, &mut input, cx)
    })
    .await;
    cluster.close(me, id);
}

/// Reads and answers until the socket has nothing more; ready when the connection is over.
fn poll(
    cluster: &Arc<Cluster>,
    me: NodeIdx,
    id: u64,
    line: &Line,
    input: &mut Input,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        if line.blocked.load(Relaxed) {
            let unsent = cluster.write_answers(me, id);
            if unsent > UNSENT_BYTES_MAX {
                // Woken by the socket when it takes bytes again.
                return Poll::Pending;
            }
        }
        if line.over.load(Relaxed) {
            return Poll::Ready(());
        }
        let mut buffer = ReadBuf::new(input.room());
        match line.stream.poll_read_shared(cx, &mut buffer) {
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
    fn open(&self, me: NodeIdx, line: Arc<Line>) -> Option<u64> {
        self.with_process(me, |process| {
            process.connections += 1;
            let front = Connection::default();
            let client = Client {
                line,
                front,
                out: Vec::new(),
                dirty: false,
                waker: None,
                closing: false,
            };
            process.clients.insert(process.connections, client);
            process.connections
        })
    }

    /// Forgets a connection that ended.
    fn close(&self, me: NodeIdx, id: u64) {
        let mut gone = None;
        self.turn(me, |process, now_us| gone = process.disconnected(self, id, now_us));
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
                let mut view = super::process::view(&process.node);
                view.wall_us = process.node.wall_us(now_us);
                let written = client.out.len();
                let (taken, outcome) = process
                    .front
                    .next(&view, &mut client.front, &bytes[*start..], &mut client.out);
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

    /// Gives a connection's answers to its socket, as much as it takes. Returns how many bytes it did not take.
    pub(super) fn write_answers(&self, me: NodeIdx, id: u64) -> usize {
        let taken = self.with_process(me, |process| {
            let client = process.clients.get_mut(&id)?;
            client.dirty = false;
            let waker = client.waker.clone();
            Some((
                client.line.clone(),
                std::mem::take(&mut client.out),
                waker,
                client.closing,
            ))
        });
        let Some((line, mut out, waker, closing)) = taken.flatten() else {
            return 0;
        };
        // Outside the lock: a tap on this connection may look at the cluster or kill its machines.
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        let mut written = 0;
        let mut broken = false;
        while written < out.len() && !broken {
            match line.stream.poll_write_shared(&mut cx, &out[written..]) {
                Poll::Ready(Ok(n)) if n > 0 => written += n,
                Poll::Ready(_) => broken = true,
                Poll::Pending => break,
            }
        }
        out.drain(..written);
        let unsent = out.len();
        line.blocked.store(unsent > 0 && !broken, Relaxed);
        if broken || (closing && unsent == 0) {
            line.over.store(true, Relaxed);
            if let Some(waker) = &waker {
                waker.wake_by_ref();
            }
        }
        self.with_process(me, |process| {
            if let Some(client) = process.clients.get_mut(&id) {
                // What was added meanwhile comes after what was left over.
                out.append(&mut client.out);
                client.out = out;
            }
        });
        unsent
    }
}
