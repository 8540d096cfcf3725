//! Ready -> verified -> one batch, a bounded number in flight -> acknowledged. Or refused: a dead letter, and the
//! watermarks stay before it until an operator has said to skip it (rules 5 and 7). Also the old duplicates that have to
//! be compared with the database (rule 4).

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use schema::keys;
use scylla::client::session::Session;
use settlement_events::{Digest, OutputSequence, Refusal, RefusalCode};
use tokio::time::{Instant, sleep};

use super::{Found, Pipeline, REFUSED_MAX, Side, Unreadable, Work, bytes_of};
use crate::config::Config;
use crate::dead_letters::{DeadLetter, DeadLetterError, DeadLetters};
use crate::designs::group::Group;
use crate::designs::row::Bigint;
use crate::designs::{Ended, How, Item, Settled, retry};
use crate::error::ServeError;
use crate::identity::Fork;
use crate::metrics::{Metrics, set, set_sequence};

impl Pipeline {
    /// Fills the places in flight.
    pub(super) fn fill(&mut self) {
        self.note_failures();
        while self.tasks.in_flight.len() < self.in_flight.limit() {
            let group = match self.apart.pop_front() {
                Some(item) => vec![item],
                None => self.next_group(),
            };
            if group.is_empty() {
                break;
            }
            self.tasks.in_flight.push(Box::pin(self.design.clone().settle(group)));
        }
        if !self.ready.is_empty() || !self.apart.is_empty() || self.carried.is_some() {
            self.in_flight.reached();
        }
    }

    /// Takes what is ready and shares a batch; none, when nothing is ready.
    fn next_group(&mut self) -> Vec<Item> {
        let mut group = Group::new(self.design.bounds());
        if let Some((item, bytes)) = self.carried.take() {
            group.add(item, bytes);
        }
        while !group.is_full()
            && let Some(work) = self.ready.pop_front()
        {
            let item = match work {
                Work::Settle(item) => item,
                Work::Unreadable(unreadable) => {
                    self.refuse_unreadable(unreadable);
                    continue;
                }
            };
            match self.verify(&item) {
                Ok(bytes) if group.has_room(bytes) => group.add(item, bytes),
                Ok(bytes) => {
                    self.carried = Some((item, bytes));
                    break;
                }
                Err(refusal) => {
                    let letter = DeadLetter::new(&refusal, item.digest, bytes_of(&item));
                    self.refuse(item.sequence, letter);
                }
            }
        }
        group.into_items()
    }

    /// Designs try again by themselves; that an attempt failed shows in what they count.
    fn note_failures(&mut self) {
        let failures = self.metrics.failed_attempts();
        if failures != self.failures_known {
            self.failures_known = failures;
            self.in_flight.failed(Instant::now());
        }
    }

    /// What was refused before stays refused with the same reason, also after a restart that forgot what it
    /// contradicted. What its rows weigh, bytes.
    fn verify(&mut self, item: &Item) -> Result<usize, Refusal> {
        if let Some(letter) = self.refused.get(&item.sequence)
            && letter.digest == item.digest
        {
            return Err(Refusal::new(RefusalCode::Contradiction, &letter.detail));
        }
        self.verifier.check(&item.event, &item.digest, &self.config.registry)?;
        if let Some((trade_id, earlier)) = self.verifier.reused_trade_id(&item.event) {
            self.metrics.trade_ids_reused.inc();
            tracing::error!(target: "settlement", %trade_id, event = %item.sequence, %earlier,
                "two trades have one id: both rows stand, each under its own sequence; find out which of them the matching \
                 engine meant");
        }
        self.design.weigh(item)
    }

    fn refuse_unreadable(&mut self, unreadable: Unreadable) {
        let Unreadable {
            sequence,
            envelope,
            error,
        } = unreadable;
        let letter = DeadLetter {
            code: "unreadable".to_owned(),
            detail: error.to_string(),
            digest: envelope.digest,
            event: envelope.bytes,
        };
        self.refuse(sequence, letter);
    }

    /// Writes the event down and asks whether it is skipped. Later events go on.
    fn refuse(&mut self, sequence: OutputSequence, letter: DeadLetter) {
        // A known one keeps the words that were written down.
        let is_new = !self.refused.contains_key(&sequence);
        let letter = self.refused.entry(sequence).or_insert(letter).clone();
        if is_new {
            self.metrics.refused.inc();
            tracing::error!(
                target: "settlement", seq = sequence.0, code = %letter.code, detail = %letter.detail, "refused"
            );
        }
        self.write_down(sequence, letter);
        self.measure_refused();
    }

    fn write_down(&mut self, sequence: OutputSequence, letter: DeadLetter) {
        let (store, config, metrics) = (self.dead_letters.clone(), self.config.clone(), self.metrics.clone());
        self.tasks.side.push(Box::pin(async move {
            let skipped = settle_refused(&store, &config, &metrics, sequence, &letter).await;
            Side::Refused { sequence, skipped }
        }));
    }

    fn measure_refused(&mut self) {
        set(&self.metrics.refused_pending, self.refused.len() as u64);
    }

    /// While events are refused, asks now and then whether an operator said to skip one.
    pub(super) fn begin_refused_poll(&mut self, now: Instant) -> Option<Instant> {
        let at = self.refused_poll_at?;
        if now < at {
            return Some(at);
        }
        self.refused_poll_at = None;
        // Only the first ones hold the watermarks back; the others are asked about when it is their turn.
        let pending: Vec<_> = self
            .refused
            .iter()
            .take(8)
            .map(|(sequence, letter)| (*sequence, letter.clone()))
            .collect();
        for (sequence, letter) in pending {
            if !self.acknowledged.contains(sequence) && self.handed.contains(sequence) {
                self.write_down(sequence, letter);
            }
        }
        None
    }

    /// A batch came to its end.
    pub(super) fn on_ended(&mut self, ended: Ended) {
        let group = match ended {
            Ended::Settled(group) => group,
            Ended::Apart(group) => return self.apart.extend(group),
        };
        let now = Instant::now();
        if let Some(first) = group.first() {
            self.in_flight.answered(now.duration_since(first.sent));
            self.metrics.batches_acknowledged.inc();
        }
        for settled in &group {
            self.on_settled(settled, now);
        }
    }

    fn on_settled(&mut self, settled: &Settled, now: Instant) {
        if let Some(observer) = &self.observer {
            observer(settled);
        }
        let metrics = &self.metrics;
        metrics.events_acknowledged.inc();
        metrics
            .settlement_seconds
            .observe(now.duration_since(settled.arrived).as_secs_f64());
        let (seq, attempt) = (settled.sequence.0, settled.attempts);
        match settled.how {
            How::GivenUp => tracing::warn!(target: "settlement", seq, "given up, next"),
            _ => tracing::debug!(target: "settlement", seq, attempt, "counted as settled"),
        }
        self.acknowledge(settled.sequence, settled.sent, now);
    }

    /// Takes the others that came to their end by now, without asking everything else in between.
    pub(super) fn on_ended_along(&mut self) {
        while let Some(Some(ended)) = self.tasks.in_flight.next().now_or_never() {
            self.on_ended(ended);
        }
    }

    /// Takes note of an acknowledgement of something that was sent at `sent`.
    fn acknowledge(&mut self, sequence: OutputSequence, sent: Instant, now: Instant) {
        if self.acknowledged.add(sequence) {
            set_sequence(&self.metrics.acknowledged, self.acknowledged.mark());
        }
        match &mut self.durability {
            Some(durability) if durability.counts(sent) => {
                if self.counted.add(sequence) {
                    durability.acknowledged(self.counted.mark(), now);
                }
            }
            // It was sent before some node became the process it is: it proves nothing and is sent again.
            Some(_) => {}
            None => {
                self.counted.add(sequence);
            }
        }
    }

    /// Compares an old duplicate with its row, off the hot path.
    pub(super) fn look_up(&mut self, item: Item) {
        self.metrics.duplicates.inc();
        if self.lookups >= self.config.limits.lookups_max {
            self.metrics.duplicates_unchecked.inc();
            return;
        }
        self.lookups += 1;
        self.metrics.duplicates_looked_up.inc();
        let (session, config) = (self.session.clone(), self.config.clone());
        let letters = self.dead_letters.clone();
        let has_identity = self.design.has_settled_events();
        self.tasks.side.push(Box::pin(async move {
            let mut found = Found::Unknown;
            if has_identity {
                found = settled_digest(&session, &config, item.sequence).await;
            }
            if let Found::Nothing = found {
                found = refused_digest(&letters, item.sequence, &item.digest).await;
            }
            Side::LookedUp {
                item: Box::new(item),
                found,
            }
        }));
    }

    pub(super) fn on_side(&mut self, side: Side) -> Result<(), ServeError> {
        match side {
            Side::Refused { sequence, skipped } => self.on_refused(sequence, skipped),
            Side::LookedUp { item, found } => self.on_looked_up(*item, found),
        }
    }

    fn on_refused(&mut self, sequence: OutputSequence, skipped: Option<Instant>) -> Result<(), ServeError> {
        let now = Instant::now();
        match skipped {
            Some(sent) => {
                if self.refused.remove(&sequence).is_some() {
                    self.metrics.skipped.inc();
                    tracing::warn!(target: "settlement", seq = sequence.0, "skipped by an operator");
                }
                self.acknowledge(sequence, sent, now);
            }
            None => {
                let poll = Duration::from_millis(self.config.retry.skip_poll_ms);
                self.refused_poll_at.get_or_insert(now + poll);
            }
        }
        self.measure_refused();
        let count = self.refused.len();
        if count > REFUSED_MAX {
            Err(ServeError::TooManyRefused { count, sequence })
        } else {
            Ok(())
        }
    }

    fn on_looked_up(&mut self, item: Item, found: Found) -> Result<(), ServeError> {
        self.lookups -= 1;
        match found {
            Found::Digest(ours) if ours == item.digest => Ok(()),
            // What is refused stays refused.
            Found::Refused => Ok(()),
            // It is durable, or it would be in the WAL: nothing is lost by dropping it, while settling a content that
            // may be a fork's would mix with the rows that are there.
            Found::Unknown => {
                self.metrics.duplicates_unchecked.inc();
                Ok(())
            }
            Found::Digest(ours) => {
                self.metrics.forks.inc();
                Err(Fork::Content {
                    sequence: item.sequence,
                    ours,
                    theirs: item.digest,
                }
                .into())
            }
            // No row: settle it. Its rows say what they say whenever they are written.
            Found::Nothing => {
                self.metrics.duplicates_settled.inc();
                tracing::warn!(target: "settlement", seq = item.sequence.0, "an old duplicate had no row, settled");
                self.ready.push_back(Work::Settle(item));
                Ok(())
            }
        }
    }
}

/// Writes a refused event down, however long that takes, and looks whether it is skipped. If so the decision is
/// written again under its own timestamp, so that it is as durable as anything else; since when that is.
async fn settle_refused(
    store: &DeadLetters,
    config: &Config,
    metrics: &Metrics,
    sequence: OutputSequence,
    letter: &DeadLetter,
) -> Option<Instant> {
    let sent = Instant::now();
    insist(config, sequence, || store.write(sequence, letter)).await;
    metrics.dead_letters.inc();
    let skip = insist(config, sequence, || store.read_skip(sequence)).await?;
    if skip.digest != letter.digest {
        tracing::error!(target: "settlement", seq = sequence.0, "the skip names another content and is not followed; `settlement skip` says what to do");
        return None;
    }
    insist(config, sequence, || store.write_skip(sequence, &skip)).await;
    Some(sent)
}

/// Tries until it works.
async fn insist<T, F: Future<Output = Result<T, DeadLetterError>>>(
    config: &Config,
    sequence: OutputSequence,
    mut attempt: impl FnMut() -> F,
) -> T {
    let mut attempts = 1;
    loop {
        let error = match attempt().await {
            Ok(done) => return done,
            Err(error) => error,
        };
        tracing::debug!(target: "settlement", seq = sequence.0, attempt = attempts, error = %error, "dead letter failed");
        sleep(retry::pause(&config.retry, attempts, sequence)).await;
        attempts = attempts.saturating_add(1);
    }
}

/// What `dead_letters` has for an event that is not settled.
async fn refused_digest(letters: &DeadLetters, sequence: OutputSequence, digest: &Digest) -> Found {
    match letters.read(sequence, sequence).await {
        Err(_) => Found::Unknown,
        Ok(letters) => match letters.get(&sequence) {
            None => Found::Nothing,
            Some(letter) if letter.digest == *digest => Found::Refused,
            Some(letter) => Found::Digest(letter.digest),
        },
    }
}

/// The digest that `settled_events` has for an event.
async fn settled_digest(session: &Arc<Session>, config: &Config, sequence: OutputSequence) -> Found {
    let keyspace = config.keyspace();
    let query = format!("SELECT digest FROM {keyspace}.settled_events WHERE bucket = ? AND output_sequence = ?");
    let key = (Bigint(keys::bucket(sequence)), Bigint::from(sequence));
    let Ok(result) = session.query_unpaged(query, key).await else {
        return Found::Unknown;
    };
    let Ok(rows) = result.into_rows_result() else {
        return Found::Unknown;
    };
    match rows.maybe_first_row::<(&[u8],)>() {
        Ok(Some((digest,))) => digest
            .try_into()
            .map_or(Found::Unknown, |digest| Found::Digest(Digest(digest))),
        Ok(None) => Found::Nothing,
        Err(_) => Found::Unknown,
    }
}
