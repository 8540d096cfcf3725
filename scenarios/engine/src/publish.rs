//! Publishing: a ZeroMQ PUB socket, and before it the rules of a [`PublishControl`]. Events reach this only after the log
//! has fsynced them. PUB is lossy by nature: with no subscriber, or a slow one, messages vanish, which is what
//! heartbeats and replay are for.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use settlement_events::{Envelope, FEED_TOPIC, FeedMessage, Heartbeat, OutputSequence};
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

use crate::control::{PublishControl, PublishRule};
use crate::serve::EngineError;

/// Events held back by rules at a time; the oldest is published when there would be more.
const HELD_MAX: usize = 1_024;

/// The socket and what is held back.
pub(crate) struct Publisher {
    socket: PubSocket,
    shaper: Shaper,
}

impl Publisher {
    /// Binds the socket.
    pub(crate) async fn bind(address: &str, control: Arc<PublishControl>) -> Result<Self, EngineError> {
        let mut socket = PubSocket::new();
        socket
            .bind(address)
            .await
            .map_err(|error| EngineError::bind("the feed", address, &error))?;
        Ok(Self {
            socket,
            shaper: Shaper::new(control),
        })
    }

    /// Publishes an event, or whatever the rules make of it.
    pub(crate) async fn event(&mut self, sequence: OutputSequence, envelope: Envelope) -> Result<(), EngineError> {
        for envelope in self.shaper.event(sequence, envelope) {
            self.send(FeedMessage::Event(envelope)).await?;
        }
        Ok(())
    }

    /// Publishes what is held back, or drops it if a rule says so: nothing comes after it.
    pub(crate) async fn end(&mut self) -> Result<(), EngineError> {
        for envelope in self.shaper.end() {
            self.send(FeedMessage::Event(envelope)).await?;
        }
        Ok(())
    }

    /// Publishes where the stream is.
    pub(crate) async fn heartbeat(&mut self, heartbeat: Heartbeat) -> Result<(), EngineError> {
        self.send(FeedMessage::Heartbeat(heartbeat)).await
    }

    async fn send(&mut self, message: FeedMessage) -> Result<(), EngineError> {
        match message {
            FeedMessage::Event(_) => self.shaper.control.count_event(),
            FeedMessage::Heartbeat(_) => self.shaper.control.count_heartbeat(),
        }
        let mut frames = ZmqMessage::from(Bytes::from_static(FEED_TOPIC));
        frames.push_back(message.encode());
        self.socket
            .send(frames)
            .await
            .map_err(|error| EngineError::socket("publishing", &error))
    }
}

/// The rules, without the socket.
struct Shaper {
    control: Arc<PublishControl>,
    /// Events to publish when the stream gets to a sequence.
    held: Vec<(u64, Envelope)>,
    /// The last events, while it is not known whether more follow.
    tail: VecDeque<Envelope>,
}

impl Shaper {
    const fn new(control: Arc<PublishControl>) -> Self {
        Self {
            control,
            held: Vec::new(),
            tail: VecDeque::new(),
        }
    }

    /// What to publish when this event comes, in order.
    fn event(&mut self, sequence: OutputSequence, envelope: Envelope) -> Vec<Envelope> {
        let rules = self.control.rules();
        if rules.is_empty() && self.held.is_empty() && self.tail.is_empty() {
            return vec![envelope];
        }
        let mut out = Vec::new();
        self.apply(&rules, sequence.0, envelope, &mut out);
        self.release(sequence.0, &mut out);
        self.hold_tail(&rules, out)
    }

    fn apply(&mut self, rules: &[PublishRule], sequence: u64, envelope: Envelope, out: &mut Vec<Envelope>) {
        if rules
            .iter()
            .any(|rule| matches!(rule, PublishRule::Drop { .. }) && covers(rule, sequence))
        {
            self.control.count_dropped(1);
            return;
        }
        let mut of_rules = rules.iter().filter(|rule| covers(rule, sequence));
        let duplicate = of_rules.clone().find_map(|rule| match *rule {
            PublishRule::Duplicate { copies, later_by, .. } => Some((copies, later_by)),
            _ => None,
        });
        let delay = of_rules.find_map(|rule| match *rule {
            PublishRule::Delay { by, .. } => Some(by),
            _ => None,
        });
        if let Some((copies, later_by)) = duplicate {
            self.control.count_duplicated(u64::from(copies));
            for _ in 0..copies {
                self.held.push((sequence.saturating_add(later_by), envelope.clone()));
            }
        }
        match delay {
            Some(by) => {
                self.control.count_delayed();
                self.held.push((sequence.saturating_add(by), envelope));
            }
            None => out.push(envelope),
        }
    }

    /// Moves what is due, and what there is no room for, behind the event that came.
    fn release(&mut self, sequence: u64, out: &mut Vec<Envelope>) {
        let due = self.held.extract_if(.., |(due, _)| *due <= sequence);
        out.extend(due.map(|(_, envelope)| envelope));
        let too_many = self.held.len().saturating_sub(HELD_MAX);
        out.extend(self.held.drain(..too_many).map(|(_, envelope)| envelope));
    }

    fn hold_tail(&mut self, rules: &[PublishRule], out: Vec<Envelope>) -> Vec<Envelope> {
        let count = tail_of(rules);
        if count == 0 && self.tail.is_empty() {
            return out;
        }
        self.tail.extend(out);
        let surplus = self.tail.len().saturating_sub(count);
        self.tail.drain(..surplus).collect()
    }

    /// What to publish when nothing follows.
    fn end(&mut self) -> Vec<Envelope> {
        let count = tail_of(&self.control.rules());
        let mut out: Vec<Envelope> = self.tail.drain(..).collect();
        out.extend(self.held.drain(..).map(|(_, envelope)| envelope));
        let dropped = out.len().min(count);
        self.control.count_dropped(dropped as u64);
        out.truncate(out.len() - dropped);
        out
    }
}

fn covers(rule: &PublishRule, sequence: u64) -> bool {
    match *rule {
        PublishRule::Drop { from, to, every }
        | PublishRule::Delay { from, to, every, .. }
        | PublishRule::Duplicate { from, to, every, .. } => {
            (from.0..=to.0).contains(&sequence) && (sequence - from.0).is_multiple_of(every.max(1))
        }
        PublishRule::DropTail { .. } => false,
    }
}

fn tail_of(rules: &[PublishRule]) -> usize {
    let count = rules.iter().find_map(|rule| match rule {
        PublishRule::DropTail { count } => Some(*count),
        _ => None,
    });
    usize::try_from(count.unwrap_or(0)).unwrap_or(HELD_MAX).min(HELD_MAX)
}

#[cfg(test)]
mod tests {
    use settlement_events::Digest;

    use super::*;

    const ALL: OutputSequence = OutputSequence(u64::MAX);

    /// Publishes events 1 to `count` under these rules and says in which order they come out; `|` marks the end.
    fn published(count: u64, rules: Vec<PublishRule>) -> String {
        let control = Arc::new(PublishControl::default());
        control.set(rules);
        let mut shaper = Shaper::new(control);
        let envelope = |n: u64| Envelope {
            digest: Digest::ZERO,
            bytes: n.to_le_bytes().to_vec().into(),
        };
        let name = |envelope: &Envelope| envelope.bytes[0].to_string();
        let mut out: Vec<String> = Vec::new();
        for n in 1..=count {
            out.extend(shaper.event(OutputSequence(n), envelope(n)).iter().map(name));
        }
        out.push("|".to_owned());
        out.extend(shaper.end().iter().map(name));
        out.join(" ")
    }

    #[test]
    fn without_rules_everything_in_order() {
        assert_eq!(published(4, vec![]), "1 2 3 4 |");
    }

    #[test]
    fn a_range_is_dropped() {
        let rule = PublishRule::Drop {
            from: OutputSequence(2),
            to: OutputSequence(3),
            every: 1,
        };
        assert_eq!(published(5, vec![rule]), "1 4 5 |");
    }

    #[test]
    fn neighbours_are_swapped() {
        let rule = PublishRule::Delay {
            from: OutputSequence(1),
            to: ALL,
            every: 2,
            by: 1,
        };
        assert_eq!(published(5, vec![rule]), "2 1 4 3 | 5");
    }

    #[test]
    fn duplicates_come_at_once_or_later() {
        let rule = |later_by| PublishRule::Duplicate {
            from: OutputSequence(2),
            to: ALL,
            every: 3,
            copies: 1,
            later_by,
        };
        assert_eq!(published(6, vec![rule(0)]), "1 2 2 3 4 5 5 6 |");
        assert_eq!(published(6, vec![rule(2)]), "1 2 3 4 2 5 6 | 5");
    }

    #[test]
    fn the_tail_is_held_back_and_dropped_at_the_end() {
        assert_eq!(published(5, vec![PublishRule::DropTail { count: 2 }]), "1 2 3 |");
        let delay = PublishRule::Delay {
            from: OutputSequence(1),
            to: ALL,
            every: 2,
            by: 1,
        };
        assert_eq!(published(5, vec![PublishRule::DropTail { count: 2 }, delay]), "2 1 | 4");
    }

    #[test]
    fn rules_taken_away_release_what_is_held() {
        let control = Arc::new(PublishControl::default());
        control.set(vec![PublishRule::DropTail { count: 3 }]);
        let mut shaper = Shaper::new(control.clone());
        let envelope = |n: u8| Envelope {
            digest: Digest::ZERO,
            bytes: vec![n].into(),
        };
        assert!(shaper.event(OutputSequence(1), envelope(1)).is_empty());
        assert!(shaper.event(OutputSequence(2), envelope(2)).is_empty());
        control.clear();
        let out = shaper.event(OutputSequence(3), envelope(3));
        assert_eq!(out.iter().map(|e| e.bytes[0]).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(control.counts().dropped, 0);
    }

    #[test]
    fn no_more_is_held_than_the_bound() {
        let control = Arc::new(PublishControl::default());
        control.set(vec![PublishRule::Delay {
            from: OutputSequence(1),
            to: ALL,
            every: 1,
            by: u64::MAX,
        }]);
        let mut shaper = Shaper::new(control);
        let mut out = 0;
        for n in 1..=HELD_MAX as u64 + 10 {
            out += shaper
                .event(
                    OutputSequence(n),
                    Envelope {
                        digest: Digest::ZERO,
                        bytes: Bytes::new(),
                    },
                )
                .len();
        }
        assert_eq!((out, shaper.held.len()), (10, HELD_MAX));
    }
}
