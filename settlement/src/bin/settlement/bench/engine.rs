//! The matching engine that `settlement bench` pretends to be: a ZeroMQ PUB socket for events and heartbeats, and a REP
//! socket for what the feed missed, on free ports of this machine. It publishes what it is given, no faster than
//! settlement takes it, and keeps no log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use settlement_events::{
    Digest, Envelope, Epoch, FEED_TOPIC, FeedMessage, Heartbeat, OutputSequence, ReplayRefusal, ReplayReply,
    ReplayRequest,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use zeromq::{PubSocket, RepSocket, Socket, SocketRecv, SocketSend, ZmqError, ZmqMessage};

/// Events kept for replay: more than settlement ever has not received, because publishing waits for it.
const KEPT_MAX: usize = 16_384;

/// Events of one reply; the feed asks for fewer.
const REPLY_EVENTS_MAX: usize = 512;

/// As the matching engine has it.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// After an error of the replay socket, so that a peer that breaks off again and again costs little.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// The end of the stream, for replay.
#[derive(Default)]
struct Tail {
    events: VecDeque<Envelope>,
    head: u64,
    head_digest: Digest,
}

/// The sockets.
pub struct Engine {
    publisher: PubSocket,
    tail: Arc<Mutex<Tail>>,
    heartbeat_at: Instant,
    replay: JoinHandle<()>,
    /// Where events are published.
    pub publish_addr: String,
    /// Where replay is served.
    pub replay_addr: String,
}

impl Engine {
    /// Binds both sockets.
    pub async fn bind() -> Result<Self, ZmqError> {
        let mut publisher = PubSocket::new();
        let publish_addr = publisher.bind("tcp://127.0.0.1:0").await?.to_string();
        let mut socket = RepSocket::new();
        let replay_addr = socket.bind("tcp://127.0.0.1:0").await?.to_string();
        let tail = Arc::new(Mutex::new(Tail::default()));
        Ok(Self {
            publisher,
            replay: tokio::spawn(serve_replay(socket, tail.clone())),
            tail,
            heartbeat_at: Instant::now(),
            publish_addr,
            replay_addr,
        })
    }

    /// Publishes an event.
    pub async fn publish(&mut self, envelope: Envelope) -> Result<(), ZmqError> {
        {
            let mut tail = lock(&self.tail);
            tail.head += 1;
            tail.head_digest = envelope.digest;
            if tail.events.len() == KEPT_MAX {
                tail.events.pop_front();
            }
            tail.events.push_back(envelope.clone());
        }
        self.send(&FeedMessage::Event(envelope)).await
    }

    /// Says where the stream is, when it is time to.
    pub async fn heartbeat(&mut self) -> Result<(), ZmqError> {
        let now = Instant::now();
        if now < self.heartbeat_at {
            return Ok(());
        }
        self.heartbeat_at = now + HEARTBEAT;
        let heartbeat = lock(&self.tail).heartbeat();
        self.send(&FeedMessage::Heartbeat(heartbeat)).await
    }

    async fn send(&mut self, message: &FeedMessage) -> Result<(), ZmqError> {
        let mut frames = ZmqMessage::from(Bytes::from_static(FEED_TOPIC));
        frames.push_back(message.encode());
        self.publisher.send(frames).await
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.replay.abort();
    }
}

/// For a moment. It is never left half changed.
fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tail {
    const fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            epoch: Epoch(1),
            head_sequence: OutputSequence(self.head),
            head_digest: self.head_digest,
        }
    }

    fn first(&self) -> u64 {
        self.head + 1 - self.events.len() as u64
    }

    fn answer(&self, request: &ReplayRequest) -> ReplayReply {
        let ReplayRequest::Range { start_seq, end_seq } = *request else {
            return ReplayReply::Head {
                heartbeat: self.heartbeat(),
                first_retained: OutputSequence(self.first()),
            };
        };
        if start_seq.0 == 0 || end_seq < start_seq || start_seq.0 > self.head {
            let reason = ReplayRefusal::Unknown;
            return ReplayReply::Refused { reason };
        }
        if start_seq.0 < self.first() {
            let first_retained = OutputSequence(self.first());
            let reason = ReplayRefusal::RetentionPassed { first_retained };
            return ReplayReply::Refused { reason };
        }
        let of = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let wanted = of(end_seq.0.min(self.head) - start_seq.0 + 1).min(REPLY_EVENTS_MAX);
        let events = self.events.iter().skip(of(start_seq.0 - self.first()));
        let entries: Vec<Envelope> = events.take(wanted).cloned().collect();
        ReplayReply::Events {
            start_seq,
            end_of_log: start_seq.0 + entries.len() as u64 > self.head,
            entries,
        }
    }
}

/// One request after the other. An error of the socket is a peer's: it ends that request only.
async fn serve_replay(mut socket: RepSocket, tail: Arc<Mutex<Tail>>) {
    loop {
        let served = match socket.recv().await {
            Ok(request) => {
                let bytes = request.get(0).cloned().unwrap_or_default();
                let reply = match ReplayRequest::decode(&bytes) {
                    Ok(request) => lock(&tail).answer(&request),
                    Err(_) => ReplayReply::Refused {
                        reason: ReplayRefusal::Unknown,
                    },
                };
                socket.send(reply.encode().into()).await
            }
            Err(error) => Err(error),
        };
        if served.is_err() {
            sleep(ERROR_PAUSE).await;
        }
    }
}
