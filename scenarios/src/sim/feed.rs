//! What faults on the feed must know of it: which event a message holds, how a replay reply is made shorter, and where in
//! the engine's commands a contradiction goes.
use crate::setup::Preview;
use engine::contradiction::{Contradiction, Falsehood};
use faults::sim::feed::FeedCodec;
use faults::{Action, Plan, When};
use settlement_events::{Envelope, FeedMessage, ReplayReply};

/// The feed's own encoding.
pub struct Codec;

impl FeedCodec for Codec {
    fn sequence(&self, payload: &[u8]) -> Option<u64> {
        match FeedMessage::decode(&payload.to_vec().into()).ok()? {
            FeedMessage::Event(envelope) => Some(envelope.header().ok()?.output_sequence.0),
            FeedMessage::Heartbeat(_) => None,
        }
    }

    fn shorten_reply(&self, payload: &[u8], max_entries: usize) -> Option<Vec<u8>> {
        match ReplayReply::decode(payload).ok()? {
            ReplayReply::Events {
                start_seq, mut entries, ..
            } if entries.len() > max_entries => {
                entries.truncate(max_entries);
                Some(
                    ReplayReply::Events {
                        start_seq,
                        entries,
                        end_of_log: false,
                    }
                    .encode()
                    .to_vec(),
                )
            }
            _ => None,
        }
    }

    fn forge(&self, payload: &[u8], break_chain: bool) -> Option<Vec<u8>> {
        let Ok(FeedMessage::Event(envelope)) = FeedMessage::decode(&payload.to_vec().into()) else {
            return None;
        };
        let mut event = envelope.open().ok()?;
        event.event_time_ms.0 += 1;
        if break_chain {
            event.prev_digest.0[0] ^= 1;
        }
        Some(FeedMessage::Event(Envelope::seal(&event)).encode().to_vec())
    }
}

/// The plan's self-contradicting events, as the engine takes them: before which accepted command, and how they lie.
pub fn contradictions(plan: &Plan, preview: &Preview) -> Vec<Contradiction> {
    let mut list: Vec<Contradiction> = plan
        .faults
        .iter()
        .filter_map(|fault| match (&fault.action, fault.when) {
            (Action::PublishRefused { kind }, When::Published { output_sequence }) => {
                let before_command = *preview
                    .commands_before
                    .get(output_sequence.saturating_sub(1) as usize)?;
                let falsehood = Falsehood::ALL[*kind as usize % Falsehood::ALL.len()];
                Some(Contradiction {
                    before_command,
                    falsehood,
                })
            }
            _ => None,
        })
        .collect();
    list.sort();
    list
}
