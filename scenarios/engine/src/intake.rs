//! The intake: a ZeroMQ REP socket that takes one command at a time as JSON and answers what became of it, after the log
//! has fsynced it. Authentication and sessions are a gateway's, not this socket's: bind it where only the gateway
//! reaches it.

use serde::{Deserialize, Serialize};
use settlement_events::{Body, Envelope, OrderId, OutputSequence};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, sleep};
use zeromq::{RepSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use crate::command::Command;
use crate::serve::EngineError;

/// A pause after an error of the socket, so that a peer that breaks off at once again and again costs little.
const ERROR_PAUSE_MS: u64 = 10;

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntakeReply {
    /// It is in the log, with these events.
    Accepted {
        /// The first event it caused.
        first_seq: OutputSequence,
        /// The last event it caused.
        last_seq: OutputSequence,
        /// The order it placed, if it placed one.
        order: Option<OrderId>,
    },
    /// The exchange declined it; nothing changed.
    Rejected {
        /// Why.
        reason: String,
    },
    /// It is not a command.
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
}

impl IntakeReply {
    /// The reply to a command that caused these events, the last of which is `last_seq`.
    pub(crate) fn accepted(entries: &[Envelope], last_seq: OutputSequence) -> Self {
        let first_seq = OutputSequence(last_seq.0 + 1 - entries.len() as u64);
        let order = entries
            .first()
            .and_then(|entry| match entry.decode_unverified().ok()?.body {
                Body::OrderPlaced { order, .. } => Some(order.order_id),
                _ => None,
            });
        Self::Accepted {
            first_seq,
            last_seq,
            order,
        }
    }
}

/// A command on its way to the engine's loop, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<IntakeReply>,
}

/// Takes commands until the program ends. A REP socket has one request open at a time, so one place in the queue is
/// enough.
pub(crate) struct IntakeServer {
    socket: RepSocket,
    submissions: mpsc::Sender<Submission>,
}

impl IntakeServer {
    /// Binds the socket.
    pub(crate) async fn bind(address: &str, submissions: mpsc::Sender<Submission>) -> Result<Self, EngineError> {
        let mut socket = RepSocket::new();
        socket
            .bind(address)
            .await
            .map_err(|error| EngineError::bind("the intake", address, &error))?;
        Ok(Self { socket, submissions })
    }

    /// One command after the other.
    pub(crate) async fn run(mut self) {
        loop {
            let served = match self.socket.recv().await {
                Ok(request) => self.serve(&request).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::debug!(target: "engine", %error, "intake request lost");
                sleep(Duration::from_millis(ERROR_PAUSE_MS)).await;
            }
        }
    }

    async fn serve(&mut self, frames: &ZmqMessage) -> Result<(), zeromq::ZmqError> {
        let text = frames.get(0).map_or(&[][..], |frame| frame.as_ref());
        let reply = match serde_json::from_slice(text) {
            Ok(command) => self.submit(command).await,
            Err(error) => IntakeReply::Invalid {
                reason: error.to_string(),
            },
        };
        let text = serde_json::to_vec(&reply).expect("plain data always has a JSON form");
        self.socket.send(text.into()).await
    }

    async fn submit(&self, command: Command) -> IntakeReply {
        let (reply, answer) = oneshot::channel();
        let sent = self.submissions.send(Submission { command, reply }).await.is_ok();
        let stopping = || IntakeReply::Rejected {
            reason: "the engine is stopping".to_owned(),
        };
        if sent {
            answer.await.unwrap_or_else(|_| stopping())
        } else {
            stopping()
        }
    }
}
