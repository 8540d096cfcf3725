//! The person who is paged when an event is refused: looks at the dead letter and, some time later, has it skipped with
//! a recorded reason. Without this person the watermarks stay before a refused event for ever, as they should.
use super::client::Client;
use crate::rows::Tables;
use scylla::statement::Consistency;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often the dead letters are looked at. A person, not a program.
const LOOKS_EVERY: Duration = Duration::from_secs(3);

/// Skips every dead letter it finds, once, until it is aborted.
pub async fn run(client: Client, config: settlement::Config) {
    let mut done = BTreeSet::new();
    loop {
        tokio::time::sleep(LOOKS_EVERY).await;
        let mut tables = Tables::default();
        if client
            .table("dead_letters", 0, Consistency::Quorum, &mut tables)
            .await
            .is_err()
        {
            continue;
        }
        for letter in tables.dead_letters {
            let Ok(sequence) = u64::try_from(letter.output_sequence) else {
                continue;
            };
            if done.contains(&sequence) {
                continue;
            }
            let reason = format!("simulated operator: {}", letter.code);
            let skipped = settlement::skip(&config, settlement_events::OutputSequence(sequence), &reason).await;
            if skipped.is_ok() {
                done.insert(sequence);
            }
        }
    }
}
