//! Publishing: a ZeroMQ PUB socket. Events reach this only after the log has fsynced them. PUB is lossy by nature: with no
//! subscriber, or a slow one, messages vanish, which is what heartbeats and replay are for.

use bytes::Bytes;
use settlement_events::{Envelope, FEED_TOPIC, FeedMessage, Heartbeat};
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

use crate::serve::EngineError;

/// The socket.
pub(crate) struct Publisher {
    socket: PubSocket,
}

impl Publisher {
    /// Binds the socket.
    pub(crate) async fn bind(address: &str) -> Result<Self, EngineError> {
        let mut socket = PubSocket::new();
        socket
            .bind(address)
            .await
            .map_err(|error| EngineError::bind("the feed", address, &error))?;
        Ok(Self { socket })
    }

    /// Publishes an event.
    pub(crate) async fn event(&mut self, envelope: Envelope) -> Result<(), EngineError> {
        self.send(FeedMessage::Event(envelope)).await
    }

    /// Publishes where the stream is.
    pub(crate) async fn heartbeat(&mut self, heartbeat: Heartbeat) -> Result<(), EngineError> {
        self.send(FeedMessage::Heartbeat(heartbeat)).await
    }

    async fn send(&mut self, message: FeedMessage) -> Result<(), EngineError> {
        let mut frames = ZmqMessage::from(Bytes::from_static(FEED_TOPIC));
        frames.push_back(message.encode());
        self.socket
            .send(frames)
            .await
            .map_err(|error| EngineError::socket("publishing", &error))
    }
}
