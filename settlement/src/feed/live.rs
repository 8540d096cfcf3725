//! The SUB socket to the matching engine's PUB: one state machine, polled in place, that is always connecting,
//! connected or pausing before it connects again.
//!
//! The socket reconnects by itself when its connection closes. What it cannot notice is a publisher that vanished
//! without closing, because a subscriber never writes: after a time of silence the socket is thrown away and a new one
//! connected. Its own backoff (which ends at 30 s) is cut short the same way.

use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::BoxFuture;
use tokio::time::{Instant, Sleep, sleep_until};
use zeromq::{Socket, SocketEvent, SocketOptions, SocketRecv, SubSocket, ZmqMessage, ZmqResult};

use super::FeedConfig;

/// What the subscription reports.
pub(super) enum Live {
    Message(ZmqMessage),
    Connected,
    Disconnected {
        silent: bool,
    },
    /// It could not be connected; told once until it is.
    Unreachable {
        why: String,
    },
}

struct Subscription {
    socket: SubSocket,
    events: mpsc::Receiver<SocketEvent>,
}

enum State {
    Pausing(Pin<Box<Sleep>>),
    Connecting(BoxFuture<'static, ZmqResult<Subscription>>),
    Up {
        subscription: Box<Subscription>,
        heard_at: Instant,
        /// Looks only now and then whether anything was heard, rather than being set anew by every message.
        check: Pin<Box<Sleep>>,
    },
}

/// The subscription.
pub(super) struct LiveFeed {
    endpoint: String,
    topic: String,
    connect_timeout: Duration,
    silence: Duration,
    backoff_min: Duration,
    backoff_max: Duration,
    backoff: Duration,
    /// That it cannot be reached was told.
    told: bool,
    state: State,
}

impl LiveFeed {
    pub(super) fn new(config: &FeedConfig, topic: &str) -> Self {
        let connect_timeout = Duration::from_millis(config.connect_timeout_ms);
        let endpoint = config.publish_addr.clone();
        let connecting = Box::pin(connect(endpoint.clone(), topic.to_owned(), connect_timeout));
        let backoff_min = Duration::from_millis(config.backoff_min_ms);
        Self {
            endpoint,
            topic: topic.to_owned(),
            connect_timeout,
            silence: Duration::from_millis(config.silence_ms),
            backoff_min,
            backoff_max: Duration::from_millis(config.backoff_max_ms),
            backoff: backoff_min,
            told: false,
            state: State::Connecting(connecting),
        }
    }

    /// The next thing that happens. May be dropped and called again at any point.
    pub(super) async fn next(&mut self) -> Live {
        loop {
            match &mut self.state {
                State::Pausing(sleep) => {
                    sleep.as_mut().await;
                    self.begin_connect();
                }
                State::Connecting(connecting) => match connecting.await {
                    Ok(subscription) => {
                        self.connected(subscription);
                        return Live::Connected;
                    }
                    Err(error) => {
                        self.pause();
                        if !std::mem::replace(&mut self.told, true) {
                            return Live::Unreachable { why: error.to_string() };
                        }
                    }
                },
                State::Up { .. } => {
                    if let Some(live) = self.listen().await {
                        return live;
                    }
                }
            }
        }
    }

    /// One message without waiting.
    pub(super) fn try_message(&mut self) -> Option<ZmqMessage> {
        let State::Up {
            subscription, heard_at, ..
        } = &mut self.state
        else {
            return None;
        };
        let message = futures::FutureExt::now_or_never(subscription.socket.recv())?.ok()?;
        *heard_at = Instant::now();
        Some(message)
    }

    async fn listen(&mut self) -> Option<Live> {
        let State::Up {
            subscription,
            heard_at,
            check,
        } = &mut self.state
        else {
            return None;
        };
        // Biased: what was received before a disconnect comes first, and no generator decides.
        let silent = tokio::select! {
            biased;
            received = subscription.socket.recv() => match received {
                Ok(message) => {
                    *heard_at = Instant::now();
                    return Some(Live::Message(message));
                }
                Err(_) => false,
            },
            Some(event) = subscription.events.next() => match event {
                SocketEvent::Connected(..) => return Some(Live::Connected),
                // The socket is reconnecting by itself.
                SocketEvent::Disconnected(_) => return Some(Live::Disconnected { silent: false }),
                _ => return None,
            },
            () = check.as_mut() => {
                let silent_at = *heard_at + self.silence;
                if Instant::now() < silent_at {
                    check.as_mut().reset(silent_at);
                    return None;
                }
                true
            }
        };
        self.begin_connect();
        Some(Live::Disconnected { silent })
    }

    fn connected(&mut self, subscription: Subscription) {
        self.backoff = self.backoff_min;
        self.told = false;
        let heard_at = Instant::now();
        let check = Box::pin(sleep_until(heard_at + self.silence));
        self.state = State::Up {
            subscription: Box::new(subscription),
            heard_at,
            check,
        };
    }

    fn pause(&mut self) {
        self.state = State::Pausing(Box::pin(sleep_until(Instant::now() + self.backoff)));
        self.backoff = (self.backoff * 2).min(self.backoff_max);
    }

    fn begin_connect(&mut self) {
        let connecting = connect(self.endpoint.clone(), self.topic.clone(), self.connect_timeout);
        self.state = State::Connecting(Box::pin(connecting));
    }
}

async fn connect(endpoint: String, topic: String, connect_timeout: Duration) -> ZmqResult<Subscription> {
    let mut options = SocketOptions::default();
    options.connect_timeout(connect_timeout);
    let mut socket = SubSocket::with_options(options);
    // Before connecting, so that the subscription is the first thing the publisher hears.
    socket.subscribe(&topic).await?;
    socket.connect(&endpoint).await?;
    // After connecting: this connection is reported by returning.
    let events = socket.monitor();
    Ok(Subscription { socket, events })
}
