//! Replay: the last events kept in memory, and a ZeroMQ REP socket that serves them. Only what the log has fsynced gets
//! here. What is older than the retention is refused, with the first sequence that is kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use settlement_events::{Envelope, Heartbeat, OutputSequence, ReplayRefusal, ReplayReply, ReplayRequest};
use tokio::time::{Duration, sleep};
use zeromq::{RepSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use crate::serve::EngineError;

/// A pause after an error of the socket, so that a peer that breaks off at once again and again costs little.
const ERROR_PAUSE_MS: u64 = 10;

/// The last durable events of the stream.
#[derive(Debug)]
pub(crate) struct LogMemory {
    entries: VecDeque<Envelope>,
    /// The sequence of the first entry; the one after the head if there are none.
    first: OutputSequence,
    head: Heartbeat,
    retention: usize,
}

impl LogMemory {
    /// An empty memory of at most so many events.
    pub(crate) const fn new(head: Heartbeat, retention: usize) -> Self {
        let first = OutputSequence(head.head_sequence.0 + 1);
        Self {
            entries: VecDeque::new(),
            first,
            head,
            retention,
        }
    }

    /// Adds durable events and forgets the oldest beyond the retention.
    pub(crate) fn extend(&mut self, entries: impl IntoIterator<Item = Envelope>, head: Heartbeat) {
        self.entries.extend(entries);
        let surplus = self.entries.len().saturating_sub(self.retention);
        self.entries.drain(..surplus);
        self.head = head;
        self.first = OutputSequence(head.head_sequence.0 + 1 - self.entries.len() as u64);
    }

    pub(crate) const fn head(&self) -> Heartbeat {
        self.head
    }

    /// The reply to a request, with at most so many entries.
    pub(crate) fn answer(&self, request: &ReplayRequest, entries_max: usize) -> ReplayReply {
        let ReplayRequest::Range { start_seq, end_seq } = *request else {
            return ReplayReply::Head {
                heartbeat: self.head,
                first_retained: self.first,
            };
        };
        let head = self.head.head_sequence;
        if start_seq.0 == 0 || end_seq < start_seq || start_seq > head {
            return ReplayReply::Refused {
                reason: ReplayRefusal::Unknown,
            };
        }
        if start_seq < self.first {
            let reason = ReplayRefusal::RetentionPassed {
                first_retained: self.first,
            };
            return ReplayReply::Refused { reason };
        }
        let skip = usize::try_from(start_seq.0 - self.first.0).unwrap_or(usize::MAX);
        let wanted = usize::try_from(end_seq.min(head).0 - start_seq.0 + 1).unwrap_or(usize::MAX);
        let entries: Vec<Envelope> = self
            .entries
            .iter()
            .skip(skip)
            .take(wanted.min(entries_max.max(1)))
            .cloned()
            .collect();
        let end_of_log = start_seq.0 + entries.len() as u64 == head.0 + 1;
        ReplayReply::Events {
            start_seq,
            entries,
            end_of_log,
        }
    }
}

/// The memory, shared between the program and its replay.
pub(crate) type SharedMemory = Arc<Mutex<LogMemory>>;

/// Locks it for a moment. A panic elsewhere ends the engine, and the memory is never left half changed.
pub(crate) fn memory(shared: &SharedMemory) -> std::sync::MutexGuard<'_, LogMemory> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves replay until the program ends.
pub(crate) struct ReplayServer {
    socket: RepSocket,
    shared: SharedMemory,
    entries_max: usize,
}

impl ReplayServer {
    /// Binds the socket.
    pub(crate) async fn bind(address: &str, shared: SharedMemory, entries_max: usize) -> Result<Self, EngineError> {
        let mut socket = RepSocket::new();
        socket
            .bind(address)
            .await
            .map_err(|error| EngineError::bind("replay", address, &error))?;
        Ok(Self {
            socket,
            shared,
            entries_max,
        })
    }

    /// One request after the other. An error of the socket is a peer's: it ends that request only.
    pub(crate) async fn run(mut self) {
        loop {
            let served = match self.socket.recv().await {
                Ok(request) => self.serve(&request).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::debug!(target: "engine", %error, "replay request lost");
                sleep(Duration::from_millis(ERROR_PAUSE_MS)).await;
            }
        }
    }

    async fn serve(&mut self, frames: &ZmqMessage) -> Result<(), zeromq::ZmqError> {
        let request = frames
            .get(0)
            .map_or_else(|| ReplayRequest::decode(&[]), |frame| ReplayRequest::decode(frame));
        let reply = match request {
            Ok(request) => {
                let reply = memory(&self.shared).answer(&request, self.entries_max);
                if let (ReplayReply::Events { entries, .. }, ReplayRequest::Range { start_seq, .. }) =
                    (&reply, &request)
                {
                    tracing::debug!(target: "engine", start = start_seq.0, events = entries.len(), "replayed");
                }
                reply
            }
            Err(error) => {
                tracing::warn!(target: "engine", %error, "replay request not understood");
                ReplayReply::Refused {
                    reason: ReplayRefusal::Unknown,
                }
            }
        };
        self.socket.send(reply.encode().into()).await
    }
}

#[cfg(test)]
mod tests {
    use settlement_events::{Digest, Epoch};

    use super::*;

    fn memory_of(head: u64, retention: usize) -> LogMemory {
        let heartbeat = |head| Heartbeat {
            epoch: Epoch(1),
            head_sequence: OutputSequence(head),
            head_digest: Digest::ZERO,
        };
        let mut memory = LogMemory::new(heartbeat(0), retention);
        for n in 1..=head {
            memory.extend(
                [Envelope {
                    digest: Digest::ZERO,
                    bytes: vec![n as u8].into(),
                }],
                heartbeat(n),
            );
        }
        memory
    }

    fn answer(memory: &LogMemory, start: u64, end: u64, entries_max: usize) -> String {
        let range = ReplayRequest::Range {
            start_seq: OutputSequence(start),
            end_seq: OutputSequence(end),
        };
        match memory.answer(&range, entries_max) {
            ReplayReply::Events {
                entries, end_of_log, ..
            } => {
                let entries: Vec<u8> = entries.iter().map(|entry| entry.bytes[0]).collect();
                format!("{entries:?}{}", if end_of_log { " end" } else { "" })
            }
            ReplayReply::Refused { reason } => format!("{reason:?}"),
            ReplayReply::Head { .. } => "head".to_owned(),
        }
    }

    #[test]
    fn ranges_are_served_whole_in_part_and_up_to_the_head() {
        let memory = memory_of(6, 100);
        assert_eq!(answer(&memory, 2, 4, 10), "[2, 3, 4]");
        assert_eq!(answer(&memory, 2, 4, 2), "[2, 3]");
        assert_eq!(answer(&memory, 5, 9, 10), "[5, 6] end");
        assert_eq!(answer(&memory, 6, 6, 1), "[6] end");
        assert_eq!(answer(&memory, 1, u64::MAX, 0), "[1]", "progress, whatever the limit");
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        let memory = memory_of(6, 100);
        for (start, end) in [(0, 3), (4, 3), (7, 9), (u64::MAX, u64::MAX)] {
            assert_eq!(answer(&memory, start, end, 10), "Unknown", "{start}..={end}");
        }
        assert_eq!(answer(&memory_of(0, 100), 1, 1, 10), "Unknown");
    }

    #[test]
    fn what_is_older_than_the_retention_is_refused() {
        let memory = memory_of(10, 4);
        assert_eq!(
            answer(&memory, 6, 8, 10),
            "RetentionPassed { first_retained: OutputSequence(7) }"
        );
        assert_eq!(answer(&memory, 7, 8, 10), "[7, 8]");
        let head = memory.answer(&ReplayRequest::Head, 1);
        assert!(
            matches!(
                head,
                ReplayReply::Head {
                    first_retained: OutputSequence(7),
                    ..
                }
            ),
            "{head:?}"
        );
    }
}
