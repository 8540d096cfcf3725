//! The person who is paged when an event is refused: looks at the dead letter, now and then starts settlement again first,
//! and some time later has the event skipped with a recorded reason. Without this person the watermarks stay before a
//! refused event for ever, as they should.
use crate::client::Client;
use crate::evidence::Decision;
use crate::rows::{BUCKET_SEQUENCES, DeadLetterRow, Tables};
use scylla::statement::Consistency;
use settlement_events::OutputSequence;
use sim_world::{Host, Stream, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the dead letters are looked at. A person, not a program.
const LOOKS_EVERY: Duration = Duration::from_secs(3);

/// How long this person thinks before starting settlement again: by then what came before the refused event is durable in
/// the scenario for it, and the WAL may have forgotten it.
const PONDERS: Duration = Duration::from_secs(6);
/// How long settlement is away when it is started again.
const AWAY: Duration = Duration::from_millis(500);

/// What the person decided, by sequence.
pub type Decisions = Arc<Mutex<BTreeMap<u64, Decision>>>;

/// What was told that was not so, in words.
pub type Complaints = Arc<Mutex<Vec<String>>>;

/// The person.
pub struct Operator {
    /// Where the dead letters are.
    pub config: settlement::Config,
    /// What was decided so far.
    pub decisions: Decisions,
    /// What settlement told this person that was not so.
    pub complaints: Complaints,
    /// Settlement's machine, where this person now and then tries whether starting it again helps. It never does.
    pub restarts: Option<Host>,
    /// What this person draws from.
    pub stream: Stream,
}

impl Operator {
    /// Skips every dead letter that has no recorded skip, until it is aborted. Looks at the record each time: what was
    /// acknowledged can be lost again with the power.
    pub async fn run(&mut self, client: Client) {
        let mut seen = BTreeSet::new();
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
            let waits = |letter: &&DeadLetterRow| !skipped.contains(&letter.output_sequence);
            let waiting: Vec<&DeadLetterRow> = tables.dead_letters.iter().filter(waits).collect();
            let known = seen.len();
            seen.extend(waiting.iter().map(|letter| letter.output_sequence));
            if seen.len() > known && self.starts_it_again().await {
                continue;
            }
            if self.restarts.is_some() {
                self.compare_with_status(&waiting).await;
            }
            for letter in waiting {
                self.skip(letter).await;
            }
        }
    }

    /// Starts settlement again, or does not. Whether it did.
    async fn starts_it_again(&mut self) -> bool {
        let Some(host) = self.restarts.as_ref().filter(|_| self.stream.below(2) == 0) else {
            return false;
        };
        tokio::time::sleep(PONDERS).await;
        host.kill();
        tokio::time::sleep(AWAY).await;
        host.restart();
        true
    }

    /// Where nothing strikes the database, `settlement status` lists every refused event that waits for this person.
    async fn compare_with_status(&self, waiting: &[&DeadLetterRow]) {
        let status = match settlement::status(&self.config).await {
            Ok(status) => status,
            Err(error) => return self.complain([format!("status says nothing: {error}")]),
        };
        // As far as it promises to look.
        let until = status.checkpoint.map_or(0, |at| at.seq.0) + BUCKET_SEQUENCES;
        let lists = |letter: &DeadLetterRow| {
            let mut refused = status.refused.iter();
            let sequence = u64::try_from(letter.output_sequence).ok();
            refused.any(|refused| Some(refused.sequence.0) == sequence && refused.skipped.is_none())
        };
        let is_near = |letter: &DeadLetterRow| u64::try_from(letter.output_sequence).is_ok_and(|at| at <= until);
        let hidden = waiting.iter().filter(|letter| is_near(letter) && !lists(letter));
        self.complain(hidden.map(|letter| format!("status does not list refused event {}", letter.output_sequence)));
    }

    fn complain(&self, what: impl IntoIterator<Item = String>) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.extend(what);
    }

    async fn skip(&self, letter: &DeadLetterRow) {
        let Ok(sequence) = u64::try_from(letter.output_sequence) else {
            return;
        };
        let decision = Decision {
            at_ms: World::current().now_ns() / 1_000_000,
            reason: format!("simulated operator: {}", letter.code),
        };
        let reason = decision.reason.clone();
        note(&self.decisions, sequence, decision);
        // One that fails is tried again at the next look.
        let _tried = settlement::skip(&self.config, OutputSequence(sequence), &reason).await;
    }
}

/// The first decision about an event stands.
fn note(decisions: &Decisions, sequence: u64, decision: Decision) {
    let mut noted = decisions.lock().unwrap_or_else(PoisonError::into_inner);
    noted.entry(sequence).or_insert(decision);
}
