//! What faults on the feed must know of it: which event a message holds, how a replay reply is made shorter, and where in
//! the engine's commands a contradiction goes.
use crate::setup::Preview;
use engine::contradiction::{Contradiction, Falsehood};
use faults::sim::feed::FeedCodec;
use faults::{Action, Plan, When};
use settlement_events::{Envelope, FeedMessage, Heartbeat, OutputSequence, ReplayRefusal, ReplayReply};

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

    fn refuse_reply(&self, payload: &[u8]) -> Option<Vec<u8>> {
        match ReplayReply::decode(payload).ok()? {
            ReplayReply::Events { start_seq, entries, .. } if !entries.is_empty() => {
                let first_retained = OutputSequence(start_seq.0 + entries.len() as u64);
                let reason = ReplayRefusal::RetentionPassed { first_retained };
                Some(ReplayReply::Refused { reason }.encode().to_vec())
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

    fn forge_head(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let Ok(FeedMessage::Event(envelope)) = FeedMessage::decode(&payload.to_vec().into()) else {
            return None;
        };
        let header = envelope.header().ok()?;
        let mut head_digest = envelope.digest;
        head_digest.0[0] ^= 1;
        let heartbeat = Heartbeat {
            epoch: header.epoch,
            head_sequence: header.output_sequence,
            head_digest,
        };
        Some(FeedMessage::Heartbeat(heartbeat).encode().to_vec())
    }
}

/// The plan's contradicting events, as the engine takes them: before which accepted command, and how they lie.
pub fn contradictions(plan: &Plan, preview: &Preview) -> Vec<Contradiction> {
    let falsehoods = falsehoods(plan);
    let mut list: Vec<Contradiction> = plan
        .faults
        .iter()
        .filter_map(|fault| match (&fault.action, fault.when) {
            (Action::PublishRefused { kind }, When::Published { output_sequence }) => {
                let before_command = *preview
                    .commands_before
                    .get(output_sequence.saturating_sub(1) as usize)?;
                let falsehood = falsehoods[*kind as usize % falsehoods.len()];
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

/// What an event may say that is false. What contradicts only an earlier event must be refused by whoever has that one: not
/// past a gap, nor after a restart that forgot it. So it is published only where nothing else strikes. A restart after the
/// refusal, by the operator, changes nothing: it is written down.
fn falsehoods(plan: &Plan) -> &'static [Falsehood] {
    if is_only_refused(plan) {
        &Falsehood::ALL
    } else {
        &Falsehood::ALONE
    }
}

/// Whether nothing strikes but events that contradict themselves.
pub fn is_only_refused(plan: &Plan) -> bool {
    let is_refused = |action: &Action| matches!(action, Action::PublishRefused { .. });
    plan.faults.iter().all(|fault| is_refused(&fault.action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use faults::Class;
    use faults::plan::{Fault, Target};
    use std::collections::BTreeSet;

    fn kinds(more: Option<Action>) -> BTreeSet<Falsehood> {
        let preview = Preview {
            shape: faults::draw::Shape {
                events: 1,
                first_event_ms: 0,
                last_event_ms: 1,
                nodes: 3,
            },
            users: Vec::new(),
            commands_before: vec![0],
        };
        let refused = (0..20).map(|kind| Action::PublishRefused { kind });
        let faults = refused.chain(more).map(|action| Fault {
            id: 1,
            class: Class::RefusedEvent,
            when: When::Published { output_sequence: 1 },
            action,
        });
        let plan = Plan {
            faults: faults.collect(),
            ..Plan::empty()
        };
        let list = contradictions(&plan, &preview).into_iter();
        list.map(|contradiction| contradiction.falsehood).collect()
    }

    #[test]
    fn what_only_an_earlier_event_shows_is_published_where_that_one_is_surely_known() {
        assert_eq!(kinds(None), Falsehood::ALL.into());
        let kill = Action::Kill {
            target: Target::Settlement,
            restart_after_ms: 1,
        };
        assert_eq!(kinds(Some(kill)), Falsehood::ALONE.into());
    }
}
