//! Asking the matching engine: one question at a time over a REQ socket, which is thrown away whenever an answer does
//! not come, because a REQ socket whose reply was lost accepts neither another question nor another answer. How long
//! to wait, how much to ask for and how long to pause is decided here too.

use std::time::Duration;

use futures::future::BoxFuture;
use settlement_events::{ReplayReply, ReplayRequest};
use tokio::time::{Instant, timeout};
use zeromq::{ReqSocket, Socket, SocketOptions, SocketRecv, SocketSend, ZmqMessage};

use super::FeedConfig;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplayFailure {
    TimedOut,
    /// Not connected, or broken off.
    Transport,
    /// Something answered that is not a reply.
    Unreadable,
}

/// A question and what came of it.
pub(super) struct Asked {
    pub request: ReplayRequest,
    pub reply: Result<ReplayReply, ReplayFailure>,
    socket: Option<ReqSocket>,
    elapsed: Duration,
}

/// The replay side of the feed: its socket while none is asking, and its patience.
pub(super) struct Replayer {
    endpoint: String,
    connect_timeout: Duration,
    socket: Option<ReqSocket>,
    patience: Patience,
}

impl Replayer {
    pub(super) fn new(config: &FeedConfig) -> Self {
        Self {
            endpoint: config.replay_addr.clone(),
            connect_timeout: Duration::from_millis(config.connect_timeout_ms),
            socket: None,
            patience: Patience::new(config),
        }
    }

    /// How many events to ask for now.
    pub(super) fn chunk(&self) -> u64 {
        self.patience.chunk
    }

    /// How long to pause before the next question.
    pub(super) fn pause(&self) -> Duration {
        self.patience.pause
    }

    /// Puts a question. The future owns the socket: dropped, it takes the wedged socket with it.
    pub(super) fn ask(&mut self, request: ReplayRequest) -> BoxFuture<'static, Asked> {
        let (endpoint, connect_timeout) = (self.endpoint.clone(), self.connect_timeout);
        let (limit, mut socket) = (self.patience.timeout, self.socket.take());
        Box::pin(async move {
            if socket.is_none() {
                socket = connect(&endpoint, connect_timeout).await;
            }
            let begun = Instant::now();
            let reply = match &mut socket {
                Some(socket) => timeout(limit, exchange(socket, &request))
                    .await
                    .unwrap_or(Err(ReplayFailure::TimedOut)),
                None => Err(ReplayFailure::Transport),
            };
            let socket = socket.filter(|_| reply.is_ok());
            Asked {
                request,
                reply,
                socket,
                elapsed: begun.elapsed(),
            }
        })
    }

    /// Takes the socket back and learns from what happened. `progress`: whether the answer brought anything; `None` for
    /// one that was not meant to.
    pub(super) fn learn(&mut self, asked: &mut Asked, progress: Option<bool>) {
        self.socket = asked.socket.take();
        match asked.reply {
            Ok(_) => self.patience.answered(asked.elapsed, progress),
            Err(failure) => self.patience.failed(failure),
        }
    }
}

/// Connecting has a limit of its own, which does not grow: an engine that is away is not one that is slow.
async fn connect(endpoint: &str, connect_timeout: Duration) -> Option<ReqSocket> {
    let mut options = SocketOptions::default();
    options.connect_timeout(connect_timeout);
    let mut socket = ReqSocket::with_options(options);
    timeout(connect_timeout, socket.connect(endpoint)).await.ok()?.ok()?;
    Some(socket)
}

async fn exchange(socket: &mut ReqSocket, request: &ReplayRequest) -> Result<ReplayReply, ReplayFailure> {
    socket
        .send(ZmqMessage::from(request.encode()))
        .await
        .map_err(|_| ReplayFailure::Transport)?;
    let reply = socket.recv().await.map_err(|_| ReplayFailure::Transport)?;
    let frame = reply.get(0).ok_or(ReplayFailure::Unreadable)?;
    ReplayReply::decode(frame).map_err(|_| ReplayFailure::Unreadable)
}

/// How long to wait, how much to ask for, how long to pause: pure, so that it can be tested without sockets.
#[derive(Clone, Debug)]
struct Patience {
    timeout_min: Duration,
    timeout_max: Duration,
    timeout: Duration,
    chunk_max: u64,
    chunk: u64,
    pause_min: Duration,
    pause_max: Duration,
    pause: Duration,
}

impl Patience {
    fn new(config: &FeedConfig) -> Self {
        let timeout_min = Duration::from_millis(config.replay_timeout_ms);
        let chunk_max = config.replay_chunk.max(1);
        Self {
            timeout_min,
            timeout_max: Duration::from_millis(config.replay_timeout_max_ms).max(timeout_min),
            timeout: timeout_min,
            chunk_max,
            chunk: chunk_max,
            pause_min: Duration::from_millis(config.backoff_min_ms),
            pause_max: Duration::from_millis(config.backoff_max_ms),
            pause: Duration::ZERO,
        }
    }

    /// An answer came: wait about twice as long as it took from now on, ask for more.
    fn answered(&mut self, elapsed: Duration, progress: Option<bool>) {
        self.timeout = (elapsed * 2).clamp(self.timeout_min, self.timeout_max);
        match progress {
            Some(true) => {
                self.chunk = (self.chunk * 2).min(self.chunk_max);
                self.pause = Duration::ZERO;
            }
            Some(false) => self.pause_longer(),
            None => {}
        }
    }

    /// None came: whoever is merely slow needs more time, or less to do.
    fn failed(&mut self, failure: ReplayFailure) {
        if failure == ReplayFailure::TimedOut {
            self.timeout = (self.timeout * 2).min(self.timeout_max);
            self.chunk = (self.chunk / 2).max(1);
        }
        self.pause_longer();
    }

    fn pause_longer(&mut self) {
        self.pause = (self.pause * 2).clamp(self.pause_min, self.pause_max);
    }
}

#[cfg(test)]
mod tests {
    use settlement_events::{Epoch, OutputSequence};

    use super::*;

    fn patience() -> Patience {
        Patience::new(&FeedConfig::new("tcp://a:1", "tcp://a:2", Epoch(1), OutputSequence(1)))
    }

    #[test]
    fn a_slow_engine_gets_more_time_and_less_to_do_within_bounds() {
        let mut patience = patience();
        for _ in 0..20 {
            patience.failed(ReplayFailure::TimedOut);
        }
        assert_eq!(patience.timeout, Duration::from_secs(15));
        assert_eq!(patience.chunk, 1);
        assert_eq!(patience.pause, Duration::from_secs(1));

        patience.answered(Duration::from_secs(3), Some(true));
        assert_eq!(
            (patience.timeout, patience.chunk, patience.pause),
            (Duration::from_secs(6), 2, Duration::ZERO)
        );
        for _ in 0..20 {
            patience.answered(Duration::from_millis(1), Some(true));
        }
        assert_eq!((patience.timeout, patience.chunk), (Duration::from_millis(500), 512));
    }

    #[test]
    fn a_broken_connection_and_an_empty_answer_only_pause() {
        let mut patience = patience();
        patience.failed(ReplayFailure::Transport);
        assert_eq!((patience.timeout, patience.chunk), (Duration::from_millis(500), 512));
        assert_eq!(patience.pause, Duration::from_millis(10));
        patience.answered(Duration::from_millis(1), Some(false));
        assert_eq!(patience.pause, Duration::from_millis(20));
        patience.answered(Duration::from_millis(1), None);
        assert_eq!(
            patience.pause,
            Duration::from_millis(20),
            "an answered Head does not speed up refused replays"
        );
    }
}
