//! The person who is paged when an event is refused: looks at the dead letter and, some time later, has it skipped with
//! a recorded reason. Without this person the watermarks stay before a refused event for ever, as they should.
use crate::client::Client;
use crate::evidence::Decision;
use crate::rows::Tables;
use scylla::statement::Consistency;
use sim_world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the dead letters are looked at. A person, not a program.
const LOOKS_EVERY: Duration = Duration::from_secs(3);

/// What the person decided, by sequence.
pub type Decisions = Arc<Mutex<BTreeMap<u64, Decision>>>;

/// Skips every dead letter that has no recorded skip, until it is aborted. Looks at the record each time: what was
/// acknowledged can be lost again with the power.
pub async fn run(client: Client, config: settlement::Config, decisions: Decisions) {
    let world = World::current();
    loop {
        tokio::time::sleep(LOOKS_EVERY).await;
        let mut tables = Tables::default();
        for table in ["dead_letters", "skips"] {
            if client.table(table, 0, Consistency::Quorum, &mut tables).await.is_err() {
                tables = Tables::default();
                break;
            }
        }
        let skipped: BTreeSet<i64> = tables.skips.iter().map(|skip| skip.output_sequence).collect();
        for letter in tables
            .dead_letters
            .iter()
            .filter(|letter| !skipped.contains(&letter.output_sequence))
        {
            let Ok(sequence) = u64::try_from(letter.output_sequence) else {
                continue;
            };
            let decision = Decision {
                at_ms: world.now_ns() / 1_000_000,
                reason: format!("simulated operator: {}", letter.code),
            };
            let reason = decision.reason.clone();
            note(&decisions, sequence, decision);
            // One that fails is tried again at the next look.
            let _tried = settlement::skip(&config, settlement_events::OutputSequence(sequence), &reason).await;
        }
    }
}

/// The first decision about an event stands.
fn note(decisions: &Decisions, sequence: u64, decision: Decision) {
    let mut noted = decisions.lock().unwrap_or_else(PoisonError::into_inner);
    noted.entry(sequence).or_insert(decision);
}
