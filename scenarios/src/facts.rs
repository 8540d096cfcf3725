//! What the engine's log says happened, as the judge needs it: the facts for the oracle's books, and beside them what
//! rows carry besides money. Read from the engine's own log, never from anything that settlement wrote.
use crate::convert;
use crate::evidence::BySequence;
use oracle::{Books, Fact};
use settlement_events::{Body, Digest, Registry};
use std::collections::BTreeMap;

/// The engine's side of the evidence; the fields are those of [`crate::evidence::Evidence`].
#[derive(Clone, Debug)]
pub struct Facts {
    /// The facts, in order of sequence, refused events left out.
    pub facts: Vec<(u64, Fact)>,
    /// Digest of every event.
    pub digests: BySequence<Digest>,
    /// Kind of every event.
    pub kinds: BySequence<&'static str>,
    /// Time of every event, ms.
    pub times_ms: BySequence<u64>,
    /// The epoch of the stream.
    pub epoch: u32,
    /// Deposits and withdrawals: event id.
    pub event_ids: BySequence<u64>,
    /// Matches: match_seq, and whether the buyer's order rested.
    pub trade_meta: BySequence<(u64, bool)>,
    /// Refused events, with the reason that must be given.
    pub refused: BTreeMap<u64, String>,
    /// The books that follow.
    pub books: Books,
}

impl Facts {
    /// Reads the engine's log.
    ///
    /// # Errors
    /// A damaged log, and facts that contradict each other, in words.
    pub fn read(engine_log: &[u8], registry: &Registry) -> Result<Facts, String> {
        let logged = engine::log::read_facts(engine_log).map_err(|error| format!("the engine's log: {error}"))?;
        let mut read = Facts {
            facts: Vec::with_capacity(logged.len()),
            digests: BySequence::default(),
            kinds: BySequence::default(),
            times_ms: BySequence::default(),
            epoch: 0,
            event_ids: BySequence::default(),
            trade_meta: BySequence::default(),
            refused: BTreeMap::new(),
            books: Books::new(convert::market(registry)),
        };
        for fact in &logged {
            let event = &fact.event;
            let seq = event.output_sequence.0;
            read.digests.insert(seq, fact.digest);
            read.times_ms.insert(seq, event.event_time_ms.0);
            read.epoch = event.epoch.0;
            if let Some(code) = fact.contradictory {
                read.refused.insert(seq, code.to_string());
                continue;
            }
            read.kinds.insert(seq, event.kind().as_str());
            match &event.body {
                Body::Deposit { event_id, .. } | Body::Withdrawal { event_id, .. } => {
                    read.event_ids.insert(seq, event_id.0);
                }
                Body::Trade(trade) => {
                    read.trade_meta.insert(seq, (trade.match_seq.0, trade.buyer_is_maker));
                }
                _ => {}
            }
            if let Some(fact) = convert::fact(event) {
                read.books
                    .apply(seq, &fact)
                    .map_err(|error| format!("the engine's own facts contradict each other: {error}"))?;
                read.facts.push((seq, fact));
            }
        }
        Ok(read)
    }
}
